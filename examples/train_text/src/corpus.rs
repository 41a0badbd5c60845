//! A text as tokens: two parts, and batches of windows of them.

use alcyon::nn::data::{self, TokenWindows, Tokenizer};
use alcyon::prelude::*;
use alcyon::train::Shuffled;

use crate::cli::{Cli, Units};

/// The first six chapters of Jane Austen's "Persuasion" (1818), in the public domain.
const PERSUASION: &str = include_str!("../persuasion.txt");

pub(crate) struct Corpus {
    pub(crate) name: String,
    pub(crate) tokenizer: Tokenizer,
    /// To learn from.
    pub(crate) train: Vec<i64>,
    /// To be judged on.
    pub(crate) held_out: Vec<i64>,
}

impl Corpus {
    /// The text asked for, or the one in the program: its last tenth is held out.
    pub(crate) fn open(cli: &Cli) -> Result<Self> {
        let (name, train, held_out) = match &cli.text {
            None => {
                let lines: Vec<&str> = PERSUASION.split_inclusive('\n').collect();
                let (train, held_out) = lines.split_at(lines.len() * 9 / 10);
                ("persuasion".to_owned(), train.concat(), held_out.concat())
            }
            Some(text) => {
                let corpus = data::open_text(text, Some(&cli.data_dir))?;
                let name = corpus.name.rsplit(['/', '\\']).next().unwrap_or(text).to_owned();
                (name, corpus.train, corpus.validation)
            }
        };
        let tokenizer = match cli.units {
            Units::Characters => Tokenizer::characters(&format!("{train}{held_out}")),
            Units::Words => Tokenizer::words(&train, cli.vocabulary),
            Units::Bpe => Tokenizer::train_bpe(&train, cli.vocabulary)?,
        };
        let (train, held_out) = (tokenizer.encode(&train)?, tokenizer.encode(&held_out)?);
        Ok(Self { name, tokenizer, train, held_out })
    }

    /// Windows anywhere in the text, as many an epoch as would cover it; and all of the part held out, in order.
    pub(crate) fn batches(&self, cli: &Cli, size: usize) -> Result<(Shuffled, Loader)> {
        let train = TokenWindows::random(&self.train, cli.context)?;
        let held_out = TokenWindows::streams(&self.held_out, 1, cli.context)?;
        let device = cli.options.device;
        let train = Loader::new(&train, size)?.prefetch(1).on(device);
        let held_out = Loader::new(&held_out, 4 * size)?.on(device);
        Ok((Shuffled::new(train, cli.options.seed), held_out))
    }

    /// The perplexity of counting pairs: what a model has to be below.
    pub(crate) fn bigram(&self) -> Result<f64> {
        data::bigram_perplexity(&self.train, &self.held_out, self.tokenizer.vocabulary())
    }
}
