//! GPT-2's files: `vocab.json`, tokens with their numbers; `merges.txt`, merges in the order of their
//! making; and what transformers writes beside them, `added_tokens.json`.
//!
//! The files do not say which tokens are special (`<|endoftext|>`, RoBERTa's `<s>` and `<mask>`). But text can
//! only become letters of bytes and what merges make of them: every other token is there to be written as it is.

use std::collections::HashSet;
use std::path::Path;

use engine::Result;
use serde_json::Value;
use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::super::file::{self, misfit};
use super::super::limits::TOKENIZER;
use super::super::text::{read_text, without_mark};
use super::GPT2;
use super::bpe::Bpe;

/// Reads them from a folder.
pub(super) fn read(folder: &Path) -> Result<Bpe> {
    let [vocabulary, merges] = GPT2.map(|file| folder.join(file));
    let tokens = numbered(&vocabulary)?;
    let mut pairs = Vec::new();
    for (at, line) in read_text(&merges)?.lines().enumerate() {
        if line.starts_with("#version") || line.is_empty() {
            continue;
        }
        let pair = line.split_once(' ').filter(|(_, right)| !right.contains(' '));
        let (left, right) = pair.ok_or_else(|| {
            misfit(&merges, format!("two tokens in line {}", at + 1), format!("`{line}`"))
        })?;
        for token in [left, right, format!("{left}{right}").as_str()] {
            if !tokens.contains_key(token) {
                let expected = format!("tokens of vocab.json in line {}", at + 1);
                return Err(misfit(&merges, expected, format!("`{token}`")));
            }
        }
        pairs.push((left.to_owned(), right.to_owned()));
    }
    let special = special(&tokens, &pairs);
    let built = BPE::builder().vocab_and_merges(tokens, pairs).build();
    let built =
        built.map_err(|e| misfit(&vocabulary, "an object of tokens and numbers", e.to_string()))?;
    let mut inner = Bpe::byte_level(built).inner;
    let special: Vec<_> = special.into_iter().map(|token| AddedToken::from(token, true)).collect();
    inner
        .add_special_tokens(special)
        .map_err(|e| misfit(&vocabulary, "special tokens", e.to_string()))?;
    add(&mut inner, &folder.join("added_tokens.json"))?;
    Bpe::of(inner).without_gaps(&vocabulary)
}

/// The tokens that no text becomes: no letter of a byte, and what no merge makes.
fn special(tokens: &Vocab, merges: &[(String, String)]) -> Vec<String> {
    let letters = ByteLevel::alphabet();
    let made: HashSet<String> =
        merges.iter().map(|(left, right)| format!("{left}{right}")).collect();
    let is_letter = |token: &str| {
        let mut characters = token.chars();
        characters.next().is_some_and(|c| letters.contains(&c)) && characters.next().is_none()
    };
    let all = tokens.keys().filter(|token| !is_letter(token) && !made.contains(*token));
    let mut special: Vec<String> = all.cloned().collect();
    special.sort_unstable();
    special
}

/// Tokens that were added later, which go on where `vocab.json` ends.
fn add(inner: &mut tokenizers::Tokenizer, file: &Path) -> Result<()> {
    if !file.exists() {
        return Ok(());
    }
    let mut added: Vec<(String, u32)> = numbered(file)?.into_iter().collect();
    added.sort_unstable_by_key(|(_, number)| *number);
    for (token, number) in added {
        let added = inner.add_tokens([AddedToken::from(token.clone(), false)]);
        added.map_err(|e| misfit(file, "tokens to add", e.to_string()))?;
        let got = inner.token_to_id(&token);
        if got != Some(number) {
            let expected = format!("`{token}` under the next free number, {got:?}");
            return Err(misfit(file, expected, number.to_string()));
        }
    }
    Ok(())
}

/// A JSON object of tokens and their numbers.
fn numbered(file: &Path) -> Result<Vocab> {
    let broken = |got: String| misfit(file, "an object of tokens and numbers", got);
    let bytes = file::read(file, TOKENIZER)?;
    let json: Value =
        serde_json::from_slice(without_mark(&bytes)).map_err(|e| broken(e.to_string()))?;
    let entries = json.as_object().ok_or_else(|| broken("other JSON".into()))?;
    let number = |(token, number): (&String, &Value)| {
        let number = number.as_u64().and_then(|n| u32::try_from(n).ok());
        let number = number.ok_or_else(|| broken(format!("`{token}` without a number")))?;
        Ok((token.clone(), number))
    };
    entries.iter().map(number).collect()
}
