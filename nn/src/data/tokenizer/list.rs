//! A vocabulary that is a list of texts.

use std::collections::HashMap;
use std::path::Path;

use engine::{Error, Result, room};

use super::super::file::misfit;
use super::{END_OF_LINE, UNKNOWN};

/// Texts, and the place of each.
#[derive(Debug, Clone)]
pub(super) struct List {
    pub(super) tokens: Vec<String>,
    places: HashMap<String, i64>,
}

impl List {
    pub(super) fn new(tokens: Vec<String>) -> Self {
        let places = tokens.iter().cloned().zip(0..).collect();
        Self { tokens, places }
    }

    /// None if two are the same.
    pub(super) fn unique(tokens: Vec<String>) -> Option<Self> {
        let list = Self::new(tokens);
        (list.places.len() == list.tokens.len()).then_some(list)
    }

    /// `<unk>`, `<eos>`, and the most frequent words.
    pub(super) fn of_words(text: &str, limit: usize) -> Self {
        let mut counts = HashMap::<&str, usize>::new();
        text.split_whitespace().for_each(|word| *counts.entry(word).or_default() += 1);
        let special = [UNKNOWN, END_OF_LINE];
        let mut words: Vec<_> = counts.into_iter().filter(|(w, _)| !special.contains(w)).collect();
        words.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        let words = words.into_iter().map(|(word, _)| word).take(limit.saturating_sub(2));
        Self::new(special.into_iter().chain(words).map(str::to_owned).collect())
    }

    /// A list of words from a file must begin as one that was made here.
    pub(super) fn with_unknown(self, file: &Path) -> Result<Self> {
        if self.tokens.get(..2) == Some(&[UNKNOWN.to_owned(), END_OF_LINE.to_owned()]) {
            return Ok(self);
        }
        Err(misfit(file, format!("words that begin with {UNKNOWN} and {END_OF_LINE}"), "others"))
    }

    pub(super) fn encode_characters(&self, text: &str) -> Result<Vec<i64>> {
        let mut buffer = [0; 4];
        let mut token = |c: char| {
            let place = self.places.get(&*c.encode_utf8(&mut buffer)).copied();
            place.ok_or_else(|| Error::Unknown {
                what: "character",
                got: c.escape_default().to_string(),
                known: vec![format!("{} characters", self.tokens.len())],
            })
        };
        let mut tokens = room::empty("encode", text.chars().count())?;
        for c in text.chars() {
            tokens.push(token(c)?);
        }
        Ok(tokens)
    }

    pub(super) fn encode_words(&self, text: &str) -> Result<Vec<i64>> {
        let token = |word: &str| self.places.get(word).copied().unwrap_or(0);
        room::collect(
            "encode",
            text.lines().flat_map(|line| line.split_whitespace().map(token).chain([1])),
        )
    }

    /// The texts of tokens that are known to be in range.
    pub(super) fn pick(&self, tokens: &[i64]) -> Result<Vec<&str>> {
        room::collect("decode", tokens.iter().map(|&token| self.tokens[token as usize].as_str()))
    }
}
