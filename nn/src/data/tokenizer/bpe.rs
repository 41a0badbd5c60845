//! Byte-pair encodings, by the crate `tokenizers` (decision 0034).

use std::path::Path;

use engine::{Error, Result};
use serde_json::Value;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::super::file::{self, misfit};
use super::super::text::read_text;
use super::MAX_BYTES;

/// Bytes of a text that are encoded at once: a limit on memory, at the ends of lines.
const PIECE: usize = 1 << 16;

#[derive(Debug, Clone)]
pub(super) struct Bpe {
    pub(super) inner: tokenizers::Tokenizer,
}

impl Bpe {
    pub(super) fn train(text: &str, vocabulary: usize) -> Result<Self> {
        if vocabulary <= 256 {
            return Err(Error::Argument {
                op: "train_bpe",
                name: "vocabulary",
                expected: "more than the 256 bytes",
                got: vocabulary.to_string(),
            });
        }
        let mut bpe = Self::byte_level(BPE::default());
        let trainer = BpeTrainerBuilder::new()
            .show_progress(false)
            .vocab_size(vocabulary)
            .min_frequency(2)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        bpe.inner
            .train(&mut TrainerWrapper::from(trainer), pieces(text))
            .map_err(|e| misfit(Path::new("text"), "a text to learn pairs from", e.to_string()))?;
        Ok(bpe)
    }

    /// GPT-2's two files: tokens with their numbers, and merges in the order of their making.
    pub(super) fn of_gpt2(vocabulary: &Path, merges: &Path) -> Result<Self> {
        let broken = |got: String| misfit(vocabulary, "an object of tokens and numbers", got);
        let bytes = file::read(vocabulary, MAX_BYTES)?;
        let json: Value = serde_json::from_slice(&bytes).map_err(|e| broken(e.to_string()))?;
        let entries = json.as_object().ok_or_else(|| broken("other JSON".into()))?;
        let mut tokens = Vocab::default();
        for (token, number) in entries {
            let number = number.as_u64().and_then(|n| u32::try_from(n).ok());
            let number = number.ok_or_else(|| broken(format!("`{token}` without a number")))?;
            tokens.insert(token.clone(), number);
        }
        let lines = read_text(merges)?;
        let mut pairs = Vec::new();
        for (at, line) in lines.lines().enumerate() {
            if line.starts_with("#version") || line.is_empty() {
                continue;
            }
            let pair = line.split_once(' ').filter(|(_, right)| !right.contains(' '));
            let (left, right) = pair.ok_or_else(|| {
                misfit(merges, format!("two tokens in line {}", at + 1), format!("`{line}`"))
            })?;
            for token in [left, right, format!("{left}{right}").as_str()] {
                if !tokens.contains_key(token) {
                    let expected = format!("tokens of vocab.json in line {}", at + 1);
                    return Err(misfit(merges, expected, format!("`{token}`")));
                }
            }
            pairs.push((left.to_owned(), right.to_owned()));
        }
        let built = BPE::builder().vocab_and_merges(tokens, pairs).build();
        Self::byte_level(built.map_err(|e| broken(e.to_string()))?).without_gaps(vocabulary)
    }

    pub(super) fn of_json(bytes: &[u8], file: &Path) -> Result<Self> {
        let inner = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|e| misfit(file, "a tokenizer.json", e.to_string()))?;
        Self { inner }.without_gaps(file)
    }

    /// That the numbers of the tokens are 0 .. V, so that V rows of an embedding serve them.
    fn without_gaps(self, file: &Path) -> Result<Self> {
        let mut numbers: Vec<u32> = self.inner.get_vocab(true).into_values().collect();
        numbers.sort_unstable();
        if !numbers.is_empty() && numbers.iter().zip(0..).all(|(&number, place)| number == place) {
            return Ok(self);
        }
        let got = format!("{} tokens, the last {:?}", numbers.len(), numbers.last());
        Err(misfit(file, "tokens numbered from 0 without gaps", got))
    }

    pub(super) fn to_json(&self, file: &Path) -> Result<String> {
        let text = self.inner.to_string(false);
        text.map_err(|e| misfit(file, "a tokenizer that can be written", e.to_string()))
    }

    pub(super) fn vocabulary(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    pub(super) fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let mut tokens = Vec::new();
        for piece in pieces(text) {
            let encoded = self.inner.encode_fast(piece, false).map_err(|e| Error::Unknown {
                what: "text",
                got: e.to_string(),
                known: vec![format!("{} tokens", self.vocabulary())],
            })?;
            tokens.extend(encoded.get_ids().iter().map(|&id| i64::from(id)));
        }
        Ok(tokens)
    }

    pub(super) fn decode(&self, tokens: &[i64]) -> Result<String> {
        let ids: Vec<u32> = tokens.iter().map(|&token| token as u32).collect();
        self.inner.decode(&ids, false).map_err(|e| Error::Unknown {
            what: "token",
            got: e.to_string(),
            known: vec![format!("{} tokens", self.vocabulary())],
        })
    }

    /// GPT-2's way with spaces: every byte has a letter, and words begin with theirs.
    fn byte_level(model: BPE) -> Self {
        let mut inner = tokenizers::Tokenizer::new(model);
        let bytes = ByteLevel::new(false, true, true);
        inner.with_pre_tokenizer(Some(bytes));
        inner.with_decoder(Some(DecoderWrapper::ByteLevel(bytes)));
        Self { inner }
    }
}

/// A text in pieces that end after a single line break, where no token of words goes on.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let far = rest.as_bytes().get(PIECE..).unwrap_or_default();
        let ends = |w: &[u8]| w[1] == b'\n' && ![w[0], w[2]].iter().any(u8::is_ascii_whitespace);
        let end = far.windows(3).position(ends);
        let (piece, tail) = rest.split_at(end.map_or(rest.len(), |end| PIECE + end + 2));
        rest = tail;
        Some(piece)
    })
}
