//! The images of the classes that are learned.

use std::ops::Range;
use std::path::Path;

use alcyon::nn::data::{self, Dataset};
use alcyon::prelude::*;

pub(crate) struct Images {
    pub(crate) train: Dataset,
    pub(crate) held_out: Dataset,
    /// Channels, height, width.
    pub(crate) shape: [usize; 3],
    pub(crate) classes: usize,
}

impl Images {
    /// All of a set.
    pub(crate) fn of_set(name: &str, folder: &Path) -> Result<Self> {
        let (train, held_out) = data::open(name, Some(folder))?;
        Self::new(train, held_out, name)
    }

    /// Some of the digits, as classes from 0 on; at most so many of each to train on.
    pub(crate) fn of_digits(digits: Range<i64>, of_each: Option<usize>) -> Result<Self> {
        let (train, held_out) = data::digits()?;
        let train = some(&train, &digits, of_each.unwrap_or(usize::MAX))?;
        Self::new(train, some(&held_out, &digits, usize::MAX)?, "digits")
    }

    fn new(train: Dataset, held_out: Dataset, name: &str) -> Result<Self> {
        let &[_, c, h, w] = &**train.inputs.shape() else {
            return Err(Error::Argument {
                op: "finetune",
                name: "--dataset",
                expected: "a set of images",
                got: name.to_owned(),
            });
        };
        Ok(Self { shape: [c, h, w], classes: train.classes, train, held_out })
    }
}

/// The rows of some classes, the first few of each.
fn some(data: &Dataset, classes: &Range<i64>, of_each: usize) -> Result<Dataset> {
    let labels = data.labels.to_vec::<i64>()?;
    let mut taken = vec![0; data.classes];
    let mut wanted = |label: i64| {
        let count = &mut taken[label as usize];
        *count += 1;
        classes.contains(&label) && *count <= of_each
    };
    let places: Vec<usize> = (0..labels.len()).filter(|&at| wanted(labels[at])).collect();
    let rows = data.select(&places)?;
    let moved = places.iter().map(|&at| labels[at] - classes.start).collect();
    let labels = Tensor::from_vec(moved, [places.len()])?;
    Dataset::new(&data.name, &rows.inputs, &labels, (classes.end - classes.start) as usize)
}
