//! The command line.

use std::path::PathBuf;

use alcyon::optim::audit::AuditConfig;
use alcyon::prelude::*;
use clap::{Parser, ValueEnum};

/// Trains a small convolutional network with batch norm on the embedded handwritten digits for a few
/// epochs, then forms every layer's Fisher block exactly and prints how far AdaFisher, K-FAC, EKFAC
/// and Shampoo are from it.
#[derive(Debug, Clone, Parser)]
#[command(name = "audit", after_long_help = crate::guide::GUIDE, max_term_width = 100)]
pub(crate) struct Cli {
    /// Whose labels the exact block is of (AdaFisher always takes the true ones).
    #[arg(long, value_enum, default_value_t = Labels::Exact)]
    pub(crate) fisher: Labels,

    /// λ, added to the exact block and to every approximation that is in its units.
    #[arg(long, value_name = "X", default_value_t = 1e-3)]
    pub(crate) damping: f64,

    /// The longest side of K-FAC's factors in the row where they are cut into blocks.
    #[arg(long, value_name = "B", default_value_t = 32)]
    pub(crate) block: usize,

    /// Examples in the audited batch [default: 128].
    #[arg(long, value_name = "N")]
    pub(crate) examples: Option<usize>,

    /// Epochs of training with Adam before; 0 audits the starting weights [default: 5].
    #[arg(long, value_name = "E")]
    pub(crate) epochs: Option<usize>,

    /// Of the weights, the order of the rows, drawn labels and the noise in the factors' figures.
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) seed: u64,

    /// A few seconds: one epoch, 24 examples.
    #[arg(long)]
    pub(crate) quick: bool,

    /// Where the figures and `audit.json` go; those of `--quick` to `quick` in it.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "target/alcyon/audit",
        default_value_if("quick", "true", "target/alcyon/audit/quick")
    )]
    pub(crate) out: PathBuf,
}

/// Whose labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Labels {
    /// The expectation over the model's own labels: the Fisher matrix, here also the Gauss–Newton
    /// matrix.
    Exact,
    /// Ten labels drawn from the model for each example.
    Sampled,
    /// The true labels.
    Empirical,
}

impl Cli {
    pub(crate) fn examples(&self) -> usize {
        self.examples.unwrap_or(if self.quick { 24 } else { 128 })
    }

    pub(crate) fn epochs(&self) -> usize {
        self.epochs.unwrap_or(if self.quick { 1 } else { 5 })
    }

    /// What to audit against.
    ///
    /// # Errors
    /// [`Error::Argument`] for no examples, or a λ that is not positive.
    pub(crate) fn config(&self) -> Result<AuditConfig> {
        let refused = |name, expected, got| Error::Argument { op: "audit", name, expected, got };
        if self.examples() == 0 {
            return Err(refused("--examples", "at least 1", "0".to_owned()));
        }
        if !(self.damping.is_finite() && self.damping > 0.0) {
            return Err(refused("--damping", "positive", self.damping.to_string()));
        }
        let fisher = match self.fisher {
            Labels::Exact => Fisher::Exact,
            Labels::Sampled => Fisher::Sampled { draws: 10 },
            Labels::Empirical => Fisher::Empirical,
        };
        if self.block == 0 {
            return Err(refused("--block", "at least 1", "0".to_owned()));
        }
        Ok(AuditConfig { fisher, damping: self.damping, block: self.block, seed: self.seed })
    }

    /// What is about to be printed, in a few lines.
    pub(crate) fn describe(&self, rows: usize, accuracy: f64) -> String {
        let labels = match self.fisher {
            Labels::Exact => "the exact Fisher block",
            Labels::Sampled => "the Fisher block of ten drawn labels an example",
            Labels::Empirical => "the empirical Fisher block",
        };
        format!(
            "8x8 digits, CNN with batch norm, epochs of Adam: {}; {:.1} % of the test rows right.\n\
             Against {labels} of {rows} training rows, λ = {}. `--help` explains the columns.",
            self.epochs(),
            100.0 * accuracy,
            self.damping,
        )
    }
}
