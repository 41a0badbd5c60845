//! Where batches come from, and the randomness that goes with an example.

use std::fmt::Debug;

use engine::{Device, Result, Rng, Tensor};
use rand::Rng as _;

use super::Dataset;

/// N examples that a [`Loader`](super::Loader) can ask for by place: tensors in memory
/// ([`Dataset`]), pictures ([`Augmented`](super::augment::Augmented)), or something of your own.
///
/// A batch is a function of its places and of `draw` alone. Then it is the same whichever thread
/// prepares it, and whatever was asked for before.
///
/// # Example
/// ```
/// use alcyon_nn::data::{Batch, Draw, Examples, Loader};
/// use engine::{Result, Tensor};
/// /// n and whether it is odd.
/// #[derive(Debug, Clone)]
/// struct Numbers(usize);
/// impl Examples for Numbers {
///     fn len(&self) -> usize {
///         self.0
///     }
///     fn batch(&self, places: &[usize], _: Draw) -> Result<Batch> {
///         let numbers = places.iter().map(|&n| n as f32).collect();
///         let odd = places.iter().map(|&n| n as i64 % 2).collect();
///         Ok(Batch {
///             inputs: Tensor::from_vec(numbers, [places.len(), 1])?,
///             targets: Tensor::from_vec(odd, [places.len()])?,
///         })
///     }
/// }
/// let batch = Loader::new(&Numbers(5), 3)?.in_order().next().unwrap()?;
/// assert_eq!(batch.targets.to_vec::<i64>()?, [0, 1, 0]);
/// # Ok::<(), engine::Error>(())
/// ```
pub trait Examples: Debug + Send + Sync {
    /// N.
    fn len(&self) -> usize;

    /// Whether there is no example.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The examples at the given places, in that order; `draw` has the random numbers that they may
    /// depend on.
    ///
    /// # Errors
    /// The source's own: a file that has gone, a place that does not exist.
    fn batch(&self, places: &[usize], draw: Draw) -> Result<Batch>;
}

/// Some examples.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[B, ..]`
    pub inputs: Tensor,
    /// `[B]`, i64; tokens `[B, T]`, i64; mixed classes `[B, C]`, f32
    pub targets: Tensor,
}

impl Batch {
    /// B, the number of examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.targets.shape().first().copied().unwrap_or(0)
    }

    /// Whether there is no example.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same examples on a device.
    ///
    /// # Errors
    /// As [`Tensor::to_device`].
    pub fn to_device(&self, device: Device) -> Result<Self> {
        let [inputs, targets] = [&self.inputs, &self.targets].map(|t| t.to_device(device));
        Ok(Self { inputs: inputs?, targets: targets? })
    }
}

/// The random numbers of one epoch: a generator for each example, and one for the order.
///
/// # Example
/// ```
/// use alcyon_nn::data::Draw;
/// use rand::Rng as _;
/// let first = Draw::of_epoch(7, 0);
/// assert_eq!(first.example(3).next_u64(), Draw::of_epoch(7, 0).example(3).next_u64());
/// assert_ne!(first.example(3).next_u64(), first.example(4).next_u64());
/// assert_ne!(first.example(3).next_u64(), Draw::of_epoch(7, 1).example(3).next_u64());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw(u64);

impl Draw {
    /// Those of an epoch of a seed.
    #[must_use]
    pub fn of_epoch(seed: u64, epoch: u64) -> Self {
        Self::from_rng(&Rng::stream(seed, epoch))
    }

    /// Those that go with a generator's state, which is left as it is.
    #[must_use]
    pub fn from_rng(rng: &Rng) -> Self {
        Self(rng.clone().next_u64())
    }

    /// The generator of an example, the same in whatever batch it is.
    #[must_use]
    pub fn example(self, place: usize) -> Rng {
        Rng::stream(self.0, place as u64)
    }

    /// The generator of what concerns the epoch as a whole.
    #[must_use]
    pub fn whole(self) -> Rng {
        Rng::stream(self.0, u64::MAX)
    }
}

impl Examples for Dataset {
    fn len(&self) -> usize {
        self.len()
    }

    fn batch(&self, places: &[usize], _: Draw) -> Result<Batch> {
        let picked = self.select(places)?;
        Ok(Batch { inputs: picked.inputs, targets: picked.labels })
    }
}
