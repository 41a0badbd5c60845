//! Pictures changed at random, so that an epoch never shows the same twice.
//!
//! | | |
//! |---|---|
//! | [`PadCrop`] | moved by a few pixels |
//! | [`RandomResizedCrop`], [`CenterCrop`] | a part, brought to one size |
//! | [`HorizontalFlip`] | mirrored, one in two |
//! | [`Cutout`] | a square of zeros |
//! | [`Augmented::mixup`] | two pictures and their classes, averaged |
//!
//! Each only says what is to be [seen](View); the picture's bytes are read, resampled and
//! normalised once, at the end. What an example gets depends on the seed, the epoch and its place
//! in the data set, and on nothing else.

mod cutout;
mod flip;
mod pad_crop;
mod resized_crop;
mod view;

pub use cutout::Cutout;
pub use flip::HorizontalFlip;
pub use pad_crop::PadCrop;
pub use resized_crop::{CenterCrop, RandomResizedCrop};
pub use view::View;

use std::fmt::Debug;
use std::sync::Arc;

use engine::{DType, Error, Result, Rng, Shape, Tensor, room};
use rand_distr::{Beta, Distribution, StandardUniform};

use super::picture::Picture;
use super::{Batch, Draw, Examples, Images};

/// One way of changing what is seen of a picture.
///
/// # Example
/// ```
/// use alcyon_nn::data::augment::{Augment, View};
/// use engine::Rng;
/// /// Only the upper half.
/// #[derive(Debug)]
/// struct Upper;
/// impl Augment for Upper {
///     fn change(&self, view: &mut View, _: &mut Rng) {
///         let [height, width] = view.size();
///         let half = [height as f64 / 2.0, width as f64];
///         view.crop([0.0, 0.0], half, [height / 2, width]);
///     }
/// }
/// let mut view = View::whole([8, 6]);
/// Upper.change(&mut view, &mut Rng::new(0));
/// assert_eq!(view.size(), [4, 6]);
/// ```
pub trait Augment: Debug + Send + Sync {
    /// Changes the view, with random numbers that belong to the example.
    fn change(&self, view: &mut View, rng: &mut Rng);
}

/// [`Images`] for a [`Loader`](super::Loader): changed at random, normalised, in f32.
///
/// # Shape
/// inputs `[B, C, H, W]` · targets `[B]` (i64), with mixup `[B, classes]` (f32, rows that sum to 1)
///
/// # Example
/// ```
/// use alcyon_nn::data::augment::{Cutout, HorizontalFlip, PadCrop};
/// use alcyon_nn::data::{Images, Loader};
/// let images = Images::new("toy", [3, 8, 8], vec![9; 5 * 192], vec![0, 1, 0, 1, 0], &["a", "b"])?;
/// let train = images
///     .augmented()
///     .then(PadCrop { padding: 2 })
///     .then(HorizontalFlip)
///     .then(Cutout { side: 4 });
/// let batch = Loader::new(&train, 2)?.epoch_at(0, 0).next().unwrap()?;
/// assert_eq!(*batch.inputs.shape(), [2, 3, 8, 8][..]);
/// let mixed = Loader::new(&train.mixup(0.2)?, 2)?.epoch_at(0, 0).next().unwrap()?;
/// assert_eq!(*mixed.targets.shape(), [2, 2][..]);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Augmented {
    images: Images,
    changes: Vec<Arc<dyn Augment>>,
    mixup: Option<Beta<f64>>,
}

impl Images {
    /// These pictures as they are, normalised: batches for a loader, and the start of a chain of
    /// [`Augmented::then`].
    #[must_use]
    pub fn augmented(&self) -> Augmented {
        Augmented { images: self.clone(), changes: Vec::new(), mixup: None }
    }
}

impl Augmented {
    /// One more change, after the others.
    #[must_use]
    pub fn then(mut self, change: impl Augment + 'static) -> Self {
        self.changes.push(Arc::new(change));
        self
    }

    /// Mixup (Zhang et al. 2018, arXiv 1710.09412): λ x + (1 − λ) x′ with λ ∼ Beta(α, α), for
    /// the pictures and for their classes, where x′ is any other example, changed in its own way.
    /// The authors' program draws one λ for a batch and x′ from the batch; here each example has
    /// its own, so that batches do not matter.
    ///
    /// # Errors
    /// [`Error::Argument`] unless α is positive and finite.
    pub fn mixup(self, alpha: f64) -> Result<Self> {
        let refused = |_| Error::Argument {
            op: "mixup",
            name: "alpha",
            expected: "a positive number",
            got: alpha.to_string(),
        };
        let weight = Beta::new(alpha, alpha).map_err(refused)?;
        Ok(Self { mixup: Some(weight), ..self })
    }

    /// A picture and what is seen of it.
    fn seen(&self, place: usize, rng: &mut Rng) -> Result<Seen<'_>> {
        let picture = self.images.picture(place)?;
        let [channels, height, width] = picture.shape;
        let mut view = View::whole([height, width]);
        self.changes.iter().for_each(|change| change.change(&mut view, rng));
        let [height, width] = view.size();
        let lines = self.images.normalise.lines(channels)?;
        Ok(Seen { picture, view, lines, shape: Shape::from([channels, height, width]) })
    }
}

/// One example before its numbers are computed.
struct Seen<'a> {
    picture: Picture<'a>,
    view: View,
    lines: Vec<[f32; 2]>,
    /// `[C, H, W]` of the numbers.
    shape: Shape,
}

impl Seen<'_> {
    fn render(&self, out: &mut [f32]) -> Result<()> {
        self.view.render(&self.picture, &self.lines, out)
    }
}

impl Examples for Augmented {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn batch(&self, places: &[usize], draw: Draw) -> Result<Batch> {
        let bound = self.images.len();
        if let Some(at) = places.iter().position(|&place| place >= bound) {
            return Err(Error::Index { op: "augmented", index: places[at] as i64, at, bound });
        }
        let (classes, labels) = (self.images.classes.len(), self.images.labels());
        let zeros = |shape: &[usize]| Tensor::zeros(Shape::new(shape)?, DType::F32).made();
        let mut inputs = zeros(&[places.len(), 0, 0, 0])?;
        let mut mixed = zeros(&[if self.mixup.is_some() { places.len() } else { 0 }, classes])?;
        let (mut first, mut other) = (None, Vec::new());
        for (i, &place) in places.iter().enumerate() {
            let mut rng = draw.example(place);
            let seen = self.seen(place, &mut rng)?;
            let shape = *first.get_or_insert(seen.shape);
            same(shape, seen.shape)?;
            if i == 0 {
                inputs = zeros(&[&[places.len()], &*shape].concat())?;
            }
            let numbers = &mut inputs.make_mut::<f32>()?[i * shape.numel()..][..shape.numel()];
            seen.render(numbers)?;
            if let Some(weight) = &self.mixup {
                let (share, partner) = (weight.sample(&mut rng), below(&mut rng, bound));
                let seen = self.seen(partner, &mut rng)?;
                same(shape, seen.shape)?;
                if other.len() != shape.numel() {
                    other = room::zeros("augmented", shape.numel())?;
                }
                seen.render(&mut other)?;
                mix(numbers, &other, share as f32);
                let row = &mut mixed.make_mut::<f32>()?[i * classes..][..classes];
                row[labels[place] as usize] += share as f32;
                row[labels[partner] as usize] += 1.0 - share as f32;
            }
        }
        let targets = if self.mixup.is_some() {
            mixed
        } else {
            let labels = room::collect("augmented", places.iter().map(|&place| labels[place]))?;
            Tensor::from_vec(labels, [places.len()])?
        };
        Ok(Batch { inputs, targets })
    }
}

/// λ x + (1 − λ) x′
fn mix(numbers: &mut [f32], other: &[f32], share: f32) {
    numbers.iter_mut().zip(other).for_each(|(x, y)| *x = share * *x + (1.0 - share) * y);
}

fn same(one: Shape, other: Shape) -> Result<()> {
    if one == other {
        return Ok(());
    }
    let expected = "pictures of one shape in a batch (end with a crop to one size)";
    Err(Error::shape("augmented", expected, &[&one, &other]))
}

/// A uniform number in [0, 1).
fn uniform(rng: &mut Rng) -> f64 {
    StandardUniform.sample(rng)
}

/// A uniform number of 0 .. bound; 0 for a bound of 0.
pub(super) fn below(rng: &mut Rng, bound: usize) -> usize {
    ((uniform(rng) * bound as f64) as usize).min(bound.saturating_sub(1))
}

#[cfg(test)]
mod tests;
