//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::training::options::Options;

/// Trains a network on images, writes down everything it does, and can be killed at any moment: the
/// same command goes on from the last snapshot, bit for bit.
///
/// Without arguments: a small convolutional network on the embedded handwritten digits, with AdaFisher's
/// preset `root`. Nothing is downloaded.
#[derive(Debug, Clone, Parser)]
#[command(name = "train_image", after_long_help = GUIDE, max_term_width = 100)]
#[command(allow_negative_numbers = true)]
pub(crate) struct Cli {
    /// The network; a wrong name lists all of them.
    #[arg(long, default_value = "cnn")]
    pub(crate) model: String,

    /// The images: `digits` (embedded), `mnist`, `fashion`, `cifar10`, `cifar100` (files in --data-dir),
    /// or the path of a folder with a folder of pictures for each class.
    #[arg(long, default_value = "digits")]
    pub(crate) dataset: String,

    /// Where the files are: this folder, or one of the set's name in it.
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub(crate) data_dir: PathBuf,

    /// How the images to train on change from epoch to epoch.
    #[arg(long, value_enum, default_value_t = Augmentation::None)]
    pub(crate) augment: Augmentation,

    /// Use only so many of the images to train on.
    #[arg(long, value_name = "N")]
    pub(crate) train_rows: Option<usize>,

    /// Use only so many of the images held out.
    #[arg(long, value_name = "N")]
    pub(crate) test_rows: Option<usize>,

    /// A few seconds, from the beginning: two epochs.
    #[arg(long)]
    pub(crate) quick: bool,

    #[command(flatten)]
    pub(crate) options: Options,
}

/// Random changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Augmentation {
    /// None.
    None,
    /// Moved by at most 4 pixels.
    Crop,
    /// And mirrored half of the time: the usual for CIFAR.
    CropFlip,
    /// And with a square of 16 pixels cut out (DeVries & Taylor 2017).
    Cutout,
}

impl Cli {
    /// What `--quick` means.
    pub(crate) fn quickened(mut self) -> Self {
        if self.quick {
            self.options.fresh = true;
            self.options.epochs = self.options.epochs.or(Some(2));
        }
        self
    }
}

const GUIDE: &str = "\
WHAT IS WRITTEN (to --out)
  report.html            Curves by step and by time, tables, pictures of the curvature factors. One
                         file; open it while the run goes on, it is new after each evaluation.
  metrics.jsonl, .csv    A row for each step, and one for each evaluation.
  best.safetensors       The best model so far: `Checkpoint` reads it, and so does PyTorch.
  snapshots/             Everything: weights, running statistics, the optimizer's state, the place in
                         the data. The same command goes on from the newest that is whole.
  run.json               Settings, history, coverage. They belong to the folder: another rate or batch
                         size is refused there (--fresh starts over, another --out begins beside).

HOW TO END A RUN
  Ctrl-C, or SIGTERM or SIGHUP, ends it after the step it is in, with a snapshot; the same command
  goes on. A second signal ends it at once: what came after the last snapshot is done again.

HOW TO READ A RUN
  Accuracy is over the images held out, with the average of the weights if there is one. Time is
  time spent reading batches and taking steps. Compare optimizers at equal --minutes, each at a rate
  of its own: a rate that suits one says nothing about another.

EXAMPLES
  cargo run --release -p train_image
  cargo run --release -p train_image -- --model resnet18 --dataset cifar10 \\
      --data-dir ~/data --augment crop-flip --optimizer adafisher-root --minutes 10
  cargo run --release -p train_image -- --optimizer kfac --out runs/kfac
  cargo run --release -p train_image -- --optimizer adam --beside runs/kfac
";
