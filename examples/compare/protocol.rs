//! The experiments: network, data, budget, schedule and rates, each fixed before it is run.

use std::path::Path;

use alcyon::nn::data::{self, Dataset};
use alcyon::nn::layer::{BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d, Relu, Sequential};
use alcyon::optim::Schedule;
use alcyon::prelude::*;

/// One experiment.
#[derive(Debug)]
pub(crate) struct Protocol {
    /// What it is called in titles.
    pub(crate) title: &'static str,
    pub(crate) network: Network,
    /// As `nn::data::open` knows it.
    pub(crate) dataset: &'static str,
    /// How many of the first training and test rows are used; all when there are fewer.
    pub(crate) rows: (usize, usize),
    pub(crate) epochs: usize,
    pub(crate) batch_size: usize,
    pub(crate) annealing: Annealing,
    /// AdaFisher by the thesis refreshes its factors every so many steps.
    pub(crate) refresh: u64,
    pub(crate) rates: Rates,
}

/// A default rate for every optimizer.
type Rates = &'static [(&'static str, f64)];

/// How the rate changes from step to step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Annealing {
    Constant,
    /// Half a cosine, from the rate at the first step to 0 after the last.
    Cosine,
}

/// The layers. All start as PyTorch's do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// 64-128-10, ReLU.
    Mlp,
    /// conv 3x3 1-16, BN, ReLU, pool 2; conv 3x3 16-32, BN, ReLU, pool 2; linear 128-10.
    DigitsCnn,
    /// conv 3x3 1-8, ReLU, pool 2; conv 3x3 8-16, ReLU, pool 2; linear 784-10.
    MnistCnn,
    /// conv 3x3 stride 2 1-16, BN, ReLU; conv 3x3 stride 2 16-32, BN, ReLU; linear 1568-10.
    FashionCnn,
}
