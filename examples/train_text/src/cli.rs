//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::training::options::Options;

/// Trains a language model on a text and can be killed at any moment: the same
/// command goes on from the last snapshot, bit for bit.
///
/// Without arguments: a small GPT-2 on the first chapters of Jane Austen's "Persuasion", which are in
/// the program, with AdamW.
#[derive(Debug, Clone, Parser)]
#[command(name = "train_text", after_long_help = GUIDE, max_term_width = 100)]
#[command(allow_negative_numbers = true)]
pub(crate) struct Cli {
    /// The model: `gpt2`, `gpt` (its norms come last, and it learns later) or `lstm`.
    #[arg(long, default_value = "gpt2")]
    pub(crate) model: String,

    /// The text: `tinyshakespeare`, `wikitext2-small`, `austen` (files in --data-dir), or a file of
    /// yours in UTF-8 [default: the one in the program]
    #[arg(long, value_name = "NAME")]
    pub(crate) text: Option<String>,

    /// Where the files are: this folder, or `text` in it.
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub(crate) data_dir: PathBuf,

    /// What the text is cut into.
    #[arg(long, value_enum, default_value_t = Units::Characters)]
    pub(crate) units: Units,

    /// How many different words, or pieces of byte-pair encoding, there are at most.
    #[arg(long, value_name = "V", default_value_t = 4096)]
    pub(crate) vocabulary: usize,

    /// The width of a token.
    #[arg(long, default_value_t = 64)]
    pub(crate) width: usize,

    /// Blocks, or layers of an LSTM.
    #[arg(long, default_value_t = 2)]
    pub(crate) layers: usize,

    /// Heads of each attention.
    #[arg(long, default_value_t = 4)]
    pub(crate) heads: usize,

    /// Characters, words or pieces that the model sees at once.
    #[arg(long, default_value_t = 64)]
    pub(crate) context: usize,

    /// The probability of dropout.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) dropout: f64,

    /// A few seconds, from the beginning: eighty steps.
    #[arg(long)]
    pub(crate) quick: bool,

    #[command(flatten)]
    pub(crate) options: Options,
}

/// What a text is cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Units {
    /// Its characters.
    Characters,
    /// The most frequent words; others are one unknown word.
    Words,
    /// Pieces of byte-pair encoding, learned from the training part.
    Bpe,
}

impl Units {
    /// In the plural.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Characters => "characters",
            Self::Words => "words",
            Self::Bpe => "pieces",
        }
    }
}

/// The optimizer when none is asked for.
pub(crate) const USUAL: &str = "adamw";

impl Cli {
    /// What `--quick` means.
    pub(crate) fn quickened(mut self) -> Self {
        if self.quick {
            self.options.fresh = true;
            self.options.steps = self.options.steps.or(Some(80));
        }
        let name = self.options.optimizer.as_deref().unwrap_or(USUAL);
        // Models as small as the default one learn at other rates than the optimizers' own.
        let rate = match (name, self.model.as_str()) {
            ("adam" | "adamw", "gpt") => Some(0.001),
            ("adam" | "adamw", _) => Some(0.003),
            ("adafisher" | "adafisherw", "gpt") => Some(0.01),
            _ => None,
        };
        self.options.rate = self.options.rate.or(rate);
        self
    }
}

const GUIDE: &str = "\
WHAT TO EXPECT
  Perplexity is the number of equally likely units that would be as surprising. Guessing evenly
  among all of them is the number of different ones; counting which character follows which comes to
  about 11 in English. Figures of different units cannot be compared. A model that is not below that has learned nothing about words. The
  report has both as lines to cross.

WHAT IS WRITTEN (to --out)
  report.html            Curves by step and by time, tables, pictures of the curvature factors. One
                         file; open it while the run goes on, it is new after each evaluation.
  metrics.jsonl, .csv    A row for each step, and one for each evaluation.
  best.safetensors       The best model so far.
  snapshots/             Everything that the run needs to go on.
  run.json               Settings, history, coverage. They belong to the folder: another rate or context
                         is refused there (--fresh starts over, another --out begins beside).

EXAMPLES
  cargo run --release -p train_text
  cargo run --release -p train_text -- --model gpt --optimizer adafisherw --epochs 16
  cargo run --release -p train_text -- --model lstm --width 128 --minutes 5
  cargo run --release -p train_text -- --text austen --data-dir ~/data --units bpe \\
      --context 128 --minutes 30
";
