//! The images: read, cut to the rows asked for, changed at random, and batched.

use alcyon::nn::data::augment::{Cutout, HorizontalFlip, PadCrop};
use alcyon::nn::data::{self, Images as Pictures, PassedOver};
use alcyon::prelude::*;
use alcyon::train::Shuffled;

use crate::cli::{Augmentation, Cli};
use crate::training::options::argument;

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
    /// What lies beside the images and is none.
    pub(crate) passed_over: PassedOver,
}

impl Images {
    pub(crate) fn open(cli: &Cli) -> Result<Self> {
        let batch_size = cli.options.batch_size.unwrap_or(BATCH);
        let (train, held_out) = data::open_images(&cli.dataset, Some(&cli.data_dir))?;
        let passed_over = train.passed_over().clone();
        let (train, held_out) = (few(&train, cli.train_rows)?, few(&held_out, cli.test_rows)?);
        let (rows, classes) = ((train.len(), held_out.len()), train.classes.len());
        let device = cli.options.device;
        let train = changed(&train, cli.augment, batch_size)?.prefetch(1).on(device);
        let held_out = Loader::new(&held_out.augmented(), 2 * batch_size)?.prefetch(1).on(device);
        let first = held_out.in_order().next().transpose()?;
        let shape = match first.as_ref().map(|batch| &**batch.inputs.shape()) {
            Some(&[_, c, h, w]) => [c, h, w],
            _ => return Err(argument("--dataset", "a set of images", &cli.dataset)),
        };
        let train = Shuffled::new(train, cli.options.seed);
        Ok(Self { train, held_out, shape, classes, rows, batch_size, passed_over })
    }
}

/// Batches of pictures that are another time moved, mirrored or cut.
fn changed(pictures: &Pictures, how: Augmentation, batch_size: usize) -> Result<Loader> {
    let plain = pictures.augmented();
    let moved = || pictures.augmented().then(PadCrop { padding: 4 }).then(HorizontalFlip);
    let changed = match how {
        Augmentation::None => plain,
        Augmentation::Crop => plain.then(PadCrop { padding: 4 }),
        Augmentation::CropFlip => moved(),
        Augmentation::Cutout => moved().then(Cutout { side: 16 }),
    };
    Loader::new(&changed, batch_size)
}

/// So many pictures, of all classes in turn.
fn few(pictures: &Pictures, rows: Option<usize>) -> Result<Pictures> {
    match rows {
        Some(rows) if rows < pictures.len() => pictures.interleaved().range(0, rows),
        _ => Ok(pictures.clone()),
    }
}
