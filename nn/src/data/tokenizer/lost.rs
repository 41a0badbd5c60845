//! What a byte-pair encoding would lose: without a token for what is unknown, the crate passes over
//! characters that are no tokens without a word.

use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::tokenizer::{Model, OffsetReferential, OffsetType, PreTokenizer};

/// The model, if there is text for which it has neither tokens nor one for what is unknown.
fn incomplete(inner: &tokenizers::Tokenizer) -> Option<&BPE> {
    let ModelWrapper::BPE(model) = inner.get_model() else { return None };
    let by_bytes = matches!(inner.get_pre_tokenizer(), Some(PreTokenizerWrapper::ByteLevel(_)));
    let has = |token: &str| model.token_to_id(token).is_some();
    // A prefix or suffix makes another token of a letter.
    let bare = model.continuing_subword_prefix.is_none() && model.end_of_word_suffix.is_none();
    let letters = || ByteLevel::alphabet().into_iter().all(|letter| has(&letter.to_string()));
    let whole = model.unk_token.is_some()
        || (model.byte_fallback && (0..=255).all(|byte| has(&of_byte(byte))))
        || (by_bytes && bare && letters());
    (!whole).then_some(model)
}

/// Whether some text would be lost.
pub(super) fn may_lose(inner: &tokenizers::Tokenizer) -> bool {
    incomplete(inner).is_some()
}

/// The first word of a text that has a character without a token, and its place in bytes.
pub(super) fn first_lost<'a>(
    inner: &tokenizers::Tokenizer,
    text: &'a str,
) -> tokenizers::Result<Option<(usize, &'a str)>> {
    let Some(model) = incomplete(inner) else { return Ok(None) };
    let added = inner.get_added_vocabulary();
    let mut words = added.extract_and_normalize(inner.get_normalizer(), text);
    if let Some(cut) = inner.get_pre_tokenizer() {
        cut.pre_tokenize(&mut words)?;
    }
    let splits = words.get_splits(OffsetReferential::Original, OffsetType::Byte);
    let mut lost =
        splits.into_iter().filter(|(word, _, tokens)| tokens.is_none() && lacks(model, word));
    Ok(lost.next().map(|(_, (start, end), _)| (start, text.get(start..end).unwrap_or_default())))
}

/// Whether a character of a word is no token. The first has no prefix, the last a suffix.
fn lacks(model: &BPE, word: &str) -> bool {
    let has = |token: &str| model.token_to_id(token).is_some();
    if model.ignore_merges && has(word) {
        return false;
    }
    let prefix = model.continuing_subword_prefix.as_deref().unwrap_or_default();
    let suffix = model.end_of_word_suffix.as_deref().unwrap_or_default();
    word.char_indices().any(|(at, c)| {
        let prefix = if at > 0 { prefix } else { "" };
        let suffix = if at + c.len_utf8() == word.len() { suffix } else { "" };
        let token = format!("{prefix}{c}{suffix}");
        let by_bytes = model.byte_fallback && token.bytes().all(|byte| has(&of_byte(byte)));
        !by_bytes && !has(&token)
    })
}

/// The token of a byte that stands for itself.
fn of_byte(byte: u8) -> String {
    format!("<{byte:#04X}>")
}
