//! The images: read, cut to the rows asked for, and batched.

use alcyon::nn::data::{self, Dataset};
use alcyon::prelude::*;
use alcyon::train::Shuffled;

use crate::cli::Cli;
use crate::options::argument;

/// Rows of a batch when nothing else is asked for.
const BATCH: usize = 64;

pub(crate) struct Images {
    pub(crate) train: Shuffled,
    pub(crate) held_out: Loader,
    /// Channels, height, width.
    pub(crate) shape: [usize; 3],
    pub(crate) classes: usize,
    /// To train on, and held out.
    pub(crate) rows: (usize, usize),
    pub(crate) batch_size: usize,
}

impl Images {
    pub(crate) fn open(cli: &Cli) -> Result<Self> {
        let (train, held_out) = data::open(&cli.dataset, Some(&cli.data_dir))?;
        let train = first(train, cli.train_rows)?;
        let held_out = first(held_out, cli.test_rows)?;
        let &[_, c, h, w] = &**train.inputs.shape() else {
            return Err(argument("--dataset", "a set of images", &cli.dataset));
        };
        let batch_size = cli.options.batch_size.unwrap_or(BATCH);
        Ok(Self {
            shape: [c, h, w],
            classes: train.classes,
            rows: (train.len(), held_out.len()),
            train: Shuffled::new(Loader::new(&train, batch_size)?, cli.options.seed),
            held_out: Loader::new(&held_out, 2 * batch_size)?,
            batch_size,
        })
    }
}

/// The first rows of a set, if only so many are wanted.
fn first(data: Dataset, rows: Option<usize>) -> Result<Dataset> {
    match rows {
        Some(rows) if rows < data.len() => data.range(0, rows),
        _ => Ok(data),
    }
}
