//! A text as numbers, one for each character, and windows of it as batches.

use std::fs;
use std::path::Path;

use alcyon::nn::data::Batch;
use alcyon::prelude::*;
use alcyon::train::{Batches, Stream};

use crate::options::argument;

/// The first six chapters of Jane Austen's "Persuasion" (1818), in the public domain.
const PERSUASION: &str = include_str!("persuasion.txt");

pub(crate) struct Corpus {
    pub(crate) name: String,
    characters: Vec<char>,
    tokens: Vec<i64>,
}

impl Corpus {
    /// A file in UTF-8, or the text in the program.
    pub(crate) fn open(file: Option<&Path>) -> Result<Self> {
        let Some(file) = file else { return Ok(Self::new("persuasion", PERSUASION)) };
        let text = fs::read(file).map_err(|e| Error::io(file, e))?;
        let text = String::from_utf8(text).map_err(|e| Error::File {
            file: file.to_owned(),
            expected: "text in UTF-8".into(),
            got: e.to_string(),
        })?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let corpus = Self::new(&name, &text);
        match corpus.tokens.len() {
            0..1000 => Err(argument("--text", "at least 1000 characters", &text.len().to_string())),
            _ => Ok(corpus),
        }
    }

    fn new(name: &str, text: &str) -> Self {
        let mut characters: Vec<char> = text.chars().collect();
        characters.sort_unstable();
        characters.dedup();
        let token = |c| characters.binary_search(&c).unwrap_or_default() as i64;
        let tokens = text.chars().map(token).collect();
        Self { name: name.to_owned(), characters, tokens }
    }

    /// Different characters.
    pub(crate) fn vocabulary(&self) -> usize {
        self.characters.len()
    }

    fn split(&self) -> (&[i64], &[i64]) {
        self.tokens.split_at(self.tokens.len() * 9 / 10)
    }

    /// The first nine tenths.
    pub(crate) fn train(&self) -> &[i64] {
        self.split().0
    }

    /// The last tenth.
    pub(crate) fn held_out(&self) -> &[i64] {
        self.split().1
    }
}

/// Batches of windows: T tokens, and the token after each of them.
pub(crate) struct Windows<'a> {
    tokens: &'a [i64],
    context: usize,
    batch_size: usize,
    /// Of the places where windows begin; `None` takes them from the beginning on.
    seed: Option<u64>,
}

impl<'a> Windows<'a> {
    /// As many windows an epoch as the text is long, each beginning anywhere.
    pub(crate) fn new(tokens: &'a [i64], context: usize, batch: usize, seed: u64) -> Result<Self> {
        Ok(Self { seed: Some(seed), ..Self::in_order(tokens, context, batch)? })
    }

    /// One window after the other, each token predicted once.
    pub(crate) fn in_order(tokens: &'a [i64], context: usize, batch_size: usize) -> Result<Self> {
        if context == 0 || context >= tokens.len() {
            let got = format!("{context} of {} characters", tokens.len());
            return Err(argument(
                "--context",
                "at least 1, and less than a tenth of the text",
                &got,
            ));
        }
        if batch_size == 0 {
            return Err(argument("--batch-size", "at least 1", "0"));
        }
        Ok(Self { tokens, context, batch_size, seed: None })
    }

    fn windows(&self) -> usize {
        (self.tokens.len() - 1) / self.context
    }

    fn batch(&self, epoch: u64, number: usize) -> Result<Batch> {
        let first = number * self.batch_size;
        let count = self.batch_size.min(self.windows() - first);
        let last = self.tokens.len() - 1 - self.context;
        let places: Vec<usize> = match self.seed {
            None => (first..first + count).map(|window| window * self.context).collect(),
            Some(seed) => {
                let stream = epoch.wrapping_mul(1 << 32).wrapping_add(number as u64);
                let rng = &mut Rng::stream(seed, stream);
                let shares = Tensor::uniform([count], 0.0, 1.0, DType::F64, rng).to_vec::<f64>()?;
                shares.iter().map(|share| (share * (last + 1) as f64) as usize).collect()
            }
        };
        let part = |shift: usize| {
            let window = |&at: &usize| &self.tokens[at + shift..at + shift + self.context];
            let tokens = places.iter().flat_map(window).copied().collect();
            Tensor::from_vec(tokens, [count, self.context])
        };
        Ok(Batch { inputs: part(0)?, targets: part(1)? })
    }
}

impl Batches for Windows<'_> {
    fn count(&self) -> usize {
        self.windows().div_ceil(self.batch_size)
    }

    fn epoch(&self, epoch: u64, from: usize) -> Stream<'_> {
        Box::new((from..self.count()).map(move |number| self.batch(epoch, number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_in_order_predict_every_token_once_and_random_ones_resume() {
        let tokens: Vec<i64> = (0..50).collect();
        let windows = Windows::in_order(&tokens, 4, 5).unwrap();
        let mut seen = Vec::new();
        for batch in windows.epoch(0, 0) {
            let batch = batch.unwrap();
            let (x, y): (Vec<i64>, Vec<i64>) =
                (batch.inputs.to_vec().unwrap(), batch.targets.to_vec().unwrap());
            assert!(x.iter().zip(&y).all(|(x, y)| x + 1 == *y));
            seen.extend(y);
        }
        assert_eq!(seen, (1..49).collect::<Vec<i64>>());
        let random = Windows::new(&tokens, 4, 5, 3).unwrap();
        let all: Vec<Vec<i64>> =
            random.epoch(2, 0).map(|b| b.unwrap().inputs.to_vec().unwrap()).collect();
        let rest: Vec<Vec<i64>> =
            random.epoch(2, 1).map(|b| b.unwrap().inputs.to_vec().unwrap()).collect();
        assert_eq!(all[1..], rest[..]);
        assert_ne!(all[0], all[1]);
    }
}
