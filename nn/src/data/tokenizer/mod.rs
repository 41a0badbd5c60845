//! Texts as numbers: characters, bytes, words, or byte-pair encodings (the feature `bpe`).

#[cfg(feature = "bpe")]
mod bpe;
#[cfg(feature = "bpe")]
mod gpt2;
mod list;
#[cfg(feature = "bpe")]
mod lost;
#[cfg(feature = "bpe")]
mod unbearable;
#[cfg(any(test, not(feature = "bpe")))]
mod without;

use std::path::Path;

use engine::{Error, Result, room};

#[cfg(feature = "bpe")]
use self::bpe::Bpe;
use self::list::List;
#[cfg(not(feature = "bpe"))]
use self::without::Bpe;
use super::file::{self, misfit};
use super::limits::TOKENIZER;
use super::text::without_mark;
use crate::checkpoint::write_whole;

/// A vocabulary, and how a text is cut into its tokens `0 .. V`.
///
/// # Example
/// ```
/// use alcyon_nn::data::Tokenizer;
/// let words = Tokenizer::words("the cat\nthe dog\n", 3);
/// let tokens = words.encode("the bird\n")?;
/// assert_eq!(words.decode(&tokens)?, "the <unk> <eos>");
/// let bytes = Tokenizer::bytes();
/// assert_eq!((bytes.vocabulary(), bytes.encode("Aé")?), (256, vec![65, 0xc3, 0xa9]));
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Tokenizer {
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Bytes,
    Characters(List),
    Words(List),
    Pairs(Box<Bpe>),
}

/// GPT-2's vocabulary and its merges.
const GPT2: [&str; 2] = ["vocab.json", "merges.txt"];

/// Ends a line of words.
pub const END_OF_LINE: &str = "<eos>";

/// Stands for a word that is not in the vocabulary.
pub const UNKNOWN: &str = "<unk>";

impl Tokenizer {
    /// The 256 bytes of UTF-8.
    #[must_use]
    pub const fn bytes() -> Self {
        Self { kind: Kind::Bytes }
    }

    /// The characters that occur in a text, in the order of their code points (Karpathy 2015,
    /// char-rnn). Others are refused, so give it all parts of a corpus.
    #[must_use]
    pub fn characters(text: &str) -> Self {
        let mut characters: Vec<char> = text.chars().collect();
        characters.sort_unstable();
        characters.dedup();
        let list = List::new(characters.into_iter().map(String::from).collect());
        Self { kind: Kind::Characters(list) }
    }

    /// The most frequent words of a text, at most `limit` tokens with `<unk>` and `<eos>`: between
    /// white space, and one `<eos>` for each line, as Penn Treebank (Mikolov et al. 2010) and
    /// WikiText (Merity et al. 2016) are read. Those of equal frequency come in their own order.
    #[must_use]
    pub fn words(text: &str, limit: usize) -> Self {
        Self { kind: Kind::Words(List::of_words(text, limit)) }
    }

    /// A byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019) learned from a
    /// text: 256 bytes, then merges until there are `vocabulary` tokens or no pair occurs twice.
    ///
    /// # Errors
    /// [`Error::Argument`] for fewer than 257 tokens, and for any in a program that was built without the feature `bpe`.
    pub fn train_bpe(text: &str, vocabulary: usize) -> Result<Self> {
        Bpe::train(text, vocabulary).map(Self::of_pairs)
    }

    /// A tokenizer from a file that [`Tokenizer::save`] wrote, from a `tokenizer.json`, or from a
    /// folder with one of these or with GPT-2's `vocab.json` and `merges.txt`, to which `added_tokens.json`
    /// may add. With the two files, tokens that no text becomes (no letter of a byte, and made by no merge) are
    /// special, as `<|endoftext|>` and `<mask>`: they are found in a text before it is cut into words.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be read, [`Error::File`] when it is none of them, or a byte-pair encoding in a
    /// program that was built without the feature `bpe`.
    pub fn open(path: &Path) -> Result<Self> {
        let json = path.join("tokenizer.json");
        if json.is_file() {
            return Self::open(&json);
        }
        if GPT2.iter().all(|file| path.join(file).is_file()) {
            return Bpe::of_gpt2(path).map(Self::of_pairs);
        }
        if path.is_dir() {
            let expected = "tokenizer.json, or vocab.json and merges.txt";
            return Err(misfit(path, expected, "a folder without them"));
        }
        Self::parse(&file::read(path, TOKENIZER)?, path)
    }

    /// Writes the tokenizer: byte-pair encodings as `tokenizer.json`, others as JSON of our own.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses.
    pub fn save(&self, file: &Path) -> Result<()> {
        let list = |kind: &str, list: &List| {
            serde_json::json!({ "alcyon": kind, "tokens": list.tokens }).to_string()
        };
        let text = match &self.kind {
            Kind::Bytes => serde_json::json!({ "alcyon": "bytes" }).to_string(),
            Kind::Characters(tokens) => list("characters", tokens),
            Kind::Words(tokens) => list("words", tokens),
            Kind::Pairs(pairs) => pairs.to_json(file)?,
        };
        write_whole(file, text.as_bytes())
    }

    /// What a `tokenizer.json` asks for and a corpus does not want, and is not applied: `truncation` and
    /// `padding` are settings for batches, and with `dropout`, which is for training, a text would have
    /// other tokens each time. Empty for all other tokenizers.
    #[must_use]
    pub fn not_applied(&self) -> &[&'static str] {
        match &self.kind {
            Kind::Pairs(pairs) => pairs.not_applied(),
            Kind::Bytes | Kind::Characters(_) | Kind::Words(_) => &[],
        }
    }

    /// V, the number of tokens.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        match &self.kind {
            Kind::Bytes => 256,
            Kind::Characters(list) | Kind::Words(list) => list.tokens.len(),
            Kind::Pairs(pairs) => pairs.vocabulary(),
        }
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// [`Error::Unknown`], with its place, for text that is not in the vocabulary, if there is no token for
    /// what is unknown.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        match &self.kind {
            Kind::Bytes => room::collect("encode", text.bytes().map(i64::from)),
            Kind::Characters(list) => list.encode_characters(text),
            Kind::Words(list) => list.encode_words(text),
            Kind::Pairs(pairs) => pairs.encode(text),
        }
    }

    /// A text of the tokens; words are joined by spaces, bytes that are no text become `�`.
    ///
    /// # Errors
    /// [`Error::Index`] for a token that is not in the vocabulary.
    pub fn decode(&self, tokens: &[i64]) -> Result<String> {
        let bound = self.vocabulary();
        let fits = |token: i64| usize::try_from(token).is_ok_and(|token| token < bound);
        if let Some(at) = tokens.iter().position(|&token| !fits(token)) {
            return Err(Error::Index { op: "decode", index: tokens[at], at, bound });
        }
        match &self.kind {
            Kind::Bytes => {
                let bytes = room::collect("decode", tokens.iter().map(|&token| token as u8))?;
                // What is no text becomes three bytes.
                String::from_utf8(bytes).or_else(|e| {
                    room::expect("decode", 3 * e.as_bytes().len())?;
                    Ok(String::from_utf8_lossy(e.as_bytes()).into_owned())
                })
            }
            Kind::Characters(list) => Ok(list.pick(tokens)?.concat()),
            Kind::Words(list) => Ok(list.pick(tokens)?.join(" ")),
            Kind::Pairs(pairs) => pairs.decode(tokens),
        }
    }

    fn of_pairs(pairs: Bpe) -> Self {
        Self { kind: Kind::Pairs(Box::new(pairs)) }
    }

    fn parse(bytes: &[u8], file: &Path) -> Result<Self> {
        let expected = "a tokenizer in JSON";
        let json: serde_json::Value = serde_json::from_slice(without_mark(bytes))
            .map_err(|e| misfit(file, expected, e.to_string()))?;
        let Some(kind) = json.get("alcyon") else {
            return Bpe::of_json(&json, file).map(Self::of_pairs);
        };
        let tokens = || {
            let list = json.get("tokens").and_then(serde_json::Value::as_array);
            let texts = list.map(|list| list.iter().map(|t| t.as_str().map(str::to_owned)));
            let tokens: Option<Vec<String>> = texts.and_then(Iterator::collect);
            let list = tokens.and_then(List::unique);
            list.ok_or_else(|| misfit(file, "`tokens`, a list of different texts", "another"))
        };
        let kind = match kind.as_str() {
            Some("bytes") => Kind::Bytes,
            Some("characters") => Kind::Characters(tokens()?),
            Some("words") => Kind::Words(tokens()?.with_unknown(file)?),
            _ => return Err(misfit(file, "bytes, characters or words", kind.to_string())),
        };
        Ok(Self { kind })
    }
}

#[cfg(test)]
#[cfg(feature = "bpe")]
mod tests;
