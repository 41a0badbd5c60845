//! Byte-pair encodings, by the crate `tokenizers` (decision 0034).

use std::path::Path;

use engine::{Error, Result, room};
use serde_json::Value;
use tokenizers::AddedToken;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::super::file::misfit;
use super::lost::{first_lost, may_lose};
use super::unbearable::unbearable;

/// Bytes of a text that are encoded at once: a limit on memory, at the ends of lines.
const PIECE: usize = 1 << 14;

/// Bytes that the crate may take to encode a byte that is a token: id, text, place, masks and word of it are 96,
/// twice while vectors grow, and two tables of where each byte of the text was.
const OF_A_BYTE: usize = 256;

#[derive(Debug, Clone)]
pub(super) struct Bpe {
    pub(super) inner: tokenizers::Tokenizer,
    not_applied: Vec<&'static str>,
    /// Whether the ids of a text are those of its pieces.
    in_pieces: bool,
    may_lose: bool,
}

impl Bpe {
    /// From a folder with GPT-2's two files.
    pub(super) fn of_gpt2(folder: &Path) -> Result<Self> {
        super::gpt2::read(folder)
    }

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
        Ok(Self::of(bpe.inner))
    }

    /// A tokenizer of the crate, for texts of any length and not for batches of one.
    pub(super) fn of(mut inner: tokenizers::Tokenizer) -> Self {
        let truncates = inner.get_truncation().is_some();
        let certain = match inner.get_model() {
            ModelWrapper::BPE(model) if model.dropout.is_some() => {
                let mut certain = model.clone();
                certain.dropout = None;
                Some(certain)
            }
            _ => None,
        };
        let pads = inner.get_padding().is_some();
        let asked = [(truncates, "truncation"), (pads, "padding"), (certain.is_some(), "dropout")];
        let not_applied = asked.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect();
        // Without settings nothing can be wrong with them.
        let _ = inner.with_truncation(None);
        inner.with_padding(None);
        if let Some(certain) = certain {
            inner.with_model(certain);
        }
        let (in_pieces, may_lose) = (splits_at_lines(&inner), may_lose(&inner));
        Self { inner, not_applied, in_pieces, may_lose }
    }

    /// A `tokenizer.json` whose model is a byte-pair encoding. Its merges are checked here: the crate
    /// takes for granted that what they join is a token.
    pub(super) fn of_json(json: &Value, file: &Path) -> Result<Self> {
        let expected = "a tokenizer.json of a byte-pair encoding";
        let broken = |got: &str| misfit(file, expected, got);
        let model = &json["model"];
        let (Some(tokens), Some(merges)) = (model["vocab"].as_object(), model["merges"].as_array())
        else {
            return Err(broken("no `vocab` and `merges` in `model`"));
        };
        if model["type"].as_str().is_some_and(|kind| kind != "BPE") {
            return Err(broken("a model of another type"));
        }
        if let Some(part) = unbearable(json) {
            return Err(broken(part));
        }
        let prefix = model["continuing_subword_prefix"].as_str().unwrap_or_default();
        for merge in merges {
            let pair = match merge {
                Value::String(pair) => pair.split_once(' '),
                pair => pair[0].as_str().zip(pair[1].as_str()),
            };
            let joined = pair.and_then(|(left, right)| {
                let known = tokens.contains_key(left) && tokens.contains_key(right);
                // The prefix is cut off by its length, whatever is there.
                let tail = right.get(prefix.len()..).filter(|_| known)?;
                Some(format!("{left}{tail}"))
            });
            if !joined.is_some_and(|joined| tokens.contains_key(&joined)) {
                return Err(broken(&format!(
                    "a merge {merge} whose tokens are not all in `vocab`"
                )));
            }
        }
        // What was checked is what is read: a key that occurs twice is there once.
        let inner = tokenizers::Tokenizer::from_bytes(json.to_string())
            .map_err(|e| misfit(file, expected, e.to_string()))?;
        Self::of(inner).without_gaps(file)
    }

    /// That the numbers of the tokens are 0 .. V, so that V rows of an embedding serve them.
    pub(super) fn without_gaps(self, file: &Path) -> Result<Self> {
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

    /// Settings for batches and for training that the file has.
    pub(super) fn not_applied(&self) -> &[&'static str] {
        &self.not_applied
    }

    pub(super) fn vocabulary(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    pub(super) fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let unknown = |got: String| {
            let known = vec![format!("{} tokens", self.vocabulary())];
            Error::Unknown { what: "text", got, known }
        };
        let failed = |e: tokenizers::Error| unknown(e.to_string());
        let mut tokens = Vec::new();
        let mut encode = |piece: &str, start: usize| {
            room::expect("encode", piece.len().saturating_mul(OF_A_BYTE))?;
            let lost = if self.may_lose { first_lost(&self.inner, piece) } else { Ok(None) };
            if let Some((at, word)) = lost.map_err(failed)? {
                return Err(unknown(format!("{word}` at byte `{}", start + at)));
            }
            let encoded = self.inner.encode_fast(piece, false).map_err(failed)?;
            room::more("encode", &mut tokens, encoded.get_ids().len())?;
            tokens.extend(encoded.get_ids().iter().map(|&id| i64::from(id)));
            Ok(())
        };
        if self.in_pieces {
            let mut start = 0;
            for piece in pieces(text) {
                encode(piece, start)?;
                start += piece.len();
            }
        } else {
            encode(text, 0)?;
        }
        Ok(tokens)
    }

    pub(super) fn decode(&self, tokens: &[i64]) -> Result<String> {
        if tokens.is_empty() {
            return Ok(String::new()); // A decoder of the crate counts on a last one.
        }
        let ids = room::collect("decode", tokens.iter().map(|&token| token as u32))?;
        self.inner.decode(&ids, false).map_err(|e| Error::Unknown {
            what: "token",
            got: e.to_string(),
            known: vec![format!("{} tokens", self.vocabulary())],
        })
    }

    /// GPT-2's way with spaces: every byte has a letter, and words begin with theirs.
    pub(super) fn byte_level(model: BPE) -> Self {
        let mut inner = tokenizers::Tokenizer::new(model);
        let bytes = ByteLevel::new(false, true, true);
        inner.with_pre_tokenizer(Some(bytes));
        inner.with_decoder(Some(DecoderWrapper::ByteLevel(bytes)));
        Self::of(inner)
    }
}

/// Whether no token, and nothing that is done to a text before it is cut into words, goes on from one line
/// to the next: GPT-2's words end at a single line break. A prefix for the text (a space, Metaspace,
/// Prepend) would come at the start of every piece; other ways with words are not known to end there.
fn splits_at_lines(inner: &tokenizers::Tokenizer) -> bool {
    let by_words = matches!(inner.get_pre_tokenizer(), Some(PreTokenizerWrapper::ByteLevel(words))
        if words.use_regex && !words.add_prefix_space);
    let mut added = inner.get_added_tokens_decoder().into_values();
    let within_a_line = |token: AddedToken| {
        !(token.lstrip || token.rstrip || token.content.contains(char::is_whitespace))
    };
    by_words && inner.get_normalizer().is_none() && added.all(within_a_line)
}

/// A text in pieces that end after a single line break between two ASCII characters that are no white
/// space, where no token of GPT-2's words goes on.
pub(super) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let far = rest.as_bytes().get(PIECE..).unwrap_or_default();
        let ends = |w: &[u8]| w[1] == b'\n' && [w[0], w[2]].iter().all(u8::is_ascii_graphic);
        let end = far.windows(3).position(ends);
        let (piece, tail) = rest.split_at(end.map_or(rest.len(), |end| PIECE + end + 2));
        rest = tail;
        Some(piece)
    })
}
