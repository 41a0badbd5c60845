//! Where batches come from: a function of the epoch and of the place in it, so that a resumed run sees
//! what an uninterrupted one would have seen.

use engine::Result;
use nn::data::{Batch, Loader};

/// The batches of an epoch.
pub type Stream<'a> = Box<dyn Iterator<Item = Result<Batch>> + 'a>;

/// Batches, epoch after epoch.
pub trait Batches {
    /// Batches in each epoch.
    fn count(&self) -> usize;

    /// The batches of epoch number `epoch` (the first is 0), from number `from` on. What comes depends on
    /// the two arguments alone, not on what was asked before: that is what makes a run resumable.
    fn epoch(&self, epoch: u64, from: usize) -> Stream<'_>;
}

/// A loader's batches, in an order and with changes that are drawn anew for each epoch.
///
/// # Example
/// ```
/// use alcyon_train::{Batches, Shuffled};
/// use nn::data::{self, Loader};
/// let batches = Shuffled::new(Loader::new(&data::iris()?.0, 50)?, 7);
/// assert_eq!(batches.count(), 3);
/// let third = batches.epoch(4, 2).next().unwrap()?;
/// let again = batches.epoch(4, 0).nth(2).unwrap()?;
/// assert_eq!(third.targets.to_vec::<i64>()?, again.targets.to_vec::<i64>()?);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Shuffled {
    loader: Loader,
    seed: u64,
}

impl Shuffled {
    /// Epoch e is [`Loader::epoch_at`] of this seed and e.
    #[must_use]
    pub const fn new(loader: Loader, seed: u64) -> Self {
        Self { loader, seed }
    }
}

impl Batches for Shuffled {
    fn count(&self) -> usize {
        self.loader.batches()
    }

    fn epoch(&self, epoch: u64, from: usize) -> Stream<'_> {
        Box::new(self.loader.epoch_at(self.seed, epoch).after(from))
    }
}

/// A loader in its own order, the same in every epoch: what evaluation reads.
impl Batches for Loader {
    fn count(&self) -> usize {
        self.batches()
    }

    fn epoch(&self, _epoch: u64, from: usize) -> Stream<'_> {
        Box::new(self.in_order().after(from))
    }
}
