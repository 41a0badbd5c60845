//! The command line, and the help that explains the experiment.

use std::path::PathBuf;

use alcyon::prelude::*;
use clap::Parser;

use crate::entrants;
use crate::protocol::Protocol;
use crate::run::Budget;

/// Trains one network with several optimizers, from the same start on the same batches, and prints
/// what each reached and what each cost.
///
/// Without arguments: the small convolutional network with batch norm on the embedded handwritten
/// digits, every optimizer below but `adafisher-paper`, three seeds. Nothing is downloaded.
#[derive(Debug, Clone, Parser)]
#[command(name = "compare", after_long_help = crate::guide::GUIDE, max_term_width = 100)]
pub(crate) struct Cli {
    /// The network: `cnn` or `mlp`. MNIST and Fashion-MNIST have one network each, which is used
    /// whatever stands here (see PROTOCOLS below).
    #[arg(long, default_value = "cnn")]
    pub(crate) model: String,

    /// The data: `digits` (embedded), `mnist` or `fashion` (files in --data-dir).
    #[arg(long, default_value = "digits")]
    pub(crate) dataset: String,

    /// Where `mnist` and `fashion` are: a folder with the four `.gz` files, or with a folder of
    /// that name with them.
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub(crate) data_dir: PathBuf,

    /// Which optimizers, separated by commas: those below, or any other of the library.
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    pub(crate) optimizers: Vec<String>,

    /// How many seeds: 0, 1, … A seed fixes the starting weights and the order of the rows.
    #[arg(long, value_name = "K", default_value_t = 3)]
    pub(crate) seeds: u64,

    /// Passes over the training rows [default: the protocol's, or no limit with --seconds].
    #[arg(long, value_name = "E")]
    pub(crate) epochs: Option<usize>,

    /// Train for this long instead, or at most; evaluation is not counted. A falling rate then
    /// falls with the clock. (Steps to a given time vary with the machine and its other work.)
    #[arg(long, value_name = "T")]
    pub(crate) seconds: Option<f64>,

    /// Rows per step [default: the protocol's].
    #[arg(long, value_name = "B")]
    pub(crate) batch_size: Option<usize>,

    /// The learning rate of one optimizer, as in `--rate adam=0.001`. May be repeated.
    #[arg(long, value_name = "NAME=X", value_parser = name_and_rate)]
    pub(crate) rate: Vec<(String, f64)>,

    /// Instead of comparing: try nine rates, 1e-4 … 1, for each optimizer, judged on the last fifth
    /// of the *training* rows, which are then not trained on. The test rows are not touched.
    #[arg(long)]
    pub(crate) grid: bool,

    /// Where to compute: `cpu`, `cuda` or `cuda:N`. The CPU on every machine unless this says otherwise;
    /// an optimizer that has no steps on a GPU says so.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: Device,

    /// A few seconds: one seed, two epochs.
    #[arg(long)]
    pub(crate) quick: bool,

    /// Print what each optimizer does for each parameter, and the bytes it keeps.
    #[arg(long)]
    pub(crate) coverage: bool,

    /// Where the figures and `results.json` go; those of `--quick` to `quick` in it.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "target/alcyon/compare",
        default_value_if("quick", "true", "target/alcyon/compare/quick")
    )]
    pub(crate) out: PathBuf,
}

fn name_and_rate(text: &str) -> Result<(String, f64), String> {
    let (name, rate) = text.split_once('=').ok_or("expected NAME=X, as in adam=0.001")?;
    let rate: f64 = rate.parse().map_err(|_| format!("`{rate}` is not a number"))?;
    if !rate.is_finite() || rate <= 0.0 {
        return Err(format!("a rate must be positive, got {rate}"));
    }
    Ok((name.to_owned(), rate))
}

impl Cli {
    /// What the types cannot say.
    ///
    /// # Errors
    /// [`Error::Argument`] for a count of zero or a budget that is not positive.
    pub(crate) fn check(&self) -> Result<()> {
        let positive = |name, value: Option<usize>| match value {
            Some(0) => Err(argument(name, "at least 1", "0")),
            _ => Ok(()),
        };
        positive("--seeds", usize::try_from(self.seeds).ok())?;
        positive("--epochs", self.epochs)?;
        positive("--batch-size", self.batch_size)?;
        match self.seconds {
            Some(s) if !(s.is_finite() && s > 0.0) => {
                Err(argument("--seconds", "positive", &s.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// The optimizers asked for, each with its rate: `--rate`, else the protocol's, else the library's.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a name in `--optimizers` or `--rate` that is none.
    pub(crate) fn entries(&self, protocol: &Protocol) -> Result<Vec<(String, f64)>> {
        let asked: Vec<&str> = match &*self.optimizers {
            [] => entrants::DEFAULT.to_vec(),
            names => names.iter().map(|name| name.trim()).collect(),
        };
        for (name, _) in &self.rate {
            entrants::rate(name, protocol)?; // refuses a name that is none
        }
        let chosen = |name: &str| self.rate.iter().rfind(|(n, _)| n == name).map(|&(_, rate)| rate);
        let entry = |name: &str| {
            let usual = entrants::rate(name, protocol)?;
            Ok((name.to_owned(), chosen(name).unwrap_or(usual)))
        };
        asked.into_iter().map(entry).collect()
    }

    /// What each run may use.
    pub(crate) fn budget(&self, protocol: &Protocol) -> Budget {
        let customary = if self.quick { 2 } else { protocol.epochs };
        let epochs = self.epochs.or(self.seconds.is_none().then_some(customary));
        Budget { epochs, seconds: self.seconds }
    }

    /// How many seeds this run takes.
    pub(crate) const fn seed_count(&self) -> u64 {
        if self.quick { 1 } else { self.seeds }
    }
}

fn argument(name: &'static str, expected: &'static str, got: &str) -> Error {
    Error::Argument { op: "compare", name, expected, got: got.to_owned() }
}
