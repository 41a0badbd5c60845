//! One run: the training loop, with a clock on each phase.

use std::time::Instant;

use alcyon::nn::data::{Batch, Dataset, Loader};
use alcyon::nn::layer::Sequential;
use alcyon::nn::loss::CrossEntropy;
use alcyon::nn::{Module, metric};
use alcyon::optim;
use alcyon::prelude::*;

use crate::outcome::{Cost, Ending, Epoch, Run, Step};
use crate::progress::Progress;
use crate::protocol::{Protocol, Task};

/// Streams of a seed: what each is drawn for.
const WEIGHTS: u64 = 0;
const ORDER: u64 = 1;

/// Rows evaluated at once.
const EVALUATED: usize = 1000;

/// What all runs of a comparison share.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) protocol: &'a Protocol,
    pub(crate) task: &'a Task,
    pub(crate) epochs: usize,
    pub(crate) batch_size: usize,
    /// The budget of training time.
    pub(crate) seconds: Option<f64>,
    pub(crate) progress: &'a Progress,
}

/// Who runs: a name, a rate, a seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    pub(crate) rate: f64,
    pub(crate) seed: u64,
}
