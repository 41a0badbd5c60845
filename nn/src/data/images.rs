//! Pictures with labels, kept as bytes until a batch wants numbers.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use engine::{Error, Result, Tensor, room};
use rayon::prelude::*;

use super::Dataset;
use super::PassedOver;
use super::limits::PICTURE_FILE;
use super::normalise::Normalise;
use super::picture::{self, Picture};
use super::tree::Place;

/// N pictures and their classes: u8 pixels in memory, or files that are decoded when they are
/// asked for. Cloning, [`Images::select`] and [`Images::range`] share the pixels.
///
/// # Example
/// ```
/// use alcyon_nn::data::Images;
/// let pixels = vec![0, 255, 255, 0, 9, 9, 9, 9];
/// let images = Images::new("toy", [1, 2, 2], pixels, vec![0, 1], &["cat", "dog"])?;
/// assert_eq!(images.len(), 2);
/// let data = images.range(0, 1)?.dataset()?; // x / 255
/// assert_eq!(data.inputs.to_vec::<f32>()?, [0.0, 1.0, 1.0, 0.0]);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Clone)]
pub struct Images {
    /// What they are called in tables.
    pub name: String,
    /// The names of the classes; a label is a place in this list.
    pub classes: Arc<[String]>,
    /// What they were read from, in words.
    pub source: String,
    /// What turns a byte into a number.
    pub normalise: Normalise,
    store: Arc<Store>,
    /// Where each example's picture is in the store.
    places: Vec<usize>,
    labels: Vec<i64>,
    passed_over: Arc<PassedOver>,
}

enum Store {
    /// Pictures of one shape, one after the other.
    Pixels { shape: [usize; 3], bytes: Vec<u8> },
    /// A JPEG or PNG each.
    Encoded(Vec<Place>),
}

impl Images {
    /// Pictures of one shape `[C, H, W]`, their bytes one after the other, as b / 255.
    ///
    /// # Errors
    /// [`Error::Argument`] when there are not C·H·W bytes for each label, [`Error::Index`] for a
    /// label that is no class.
    pub fn new(
        name: &str,
        shape: [usize; 3],
        bytes: Vec<u8>,
        labels: Vec<i64>,
        classes: &[impl AsRef<str>],
    ) -> Result<Self> {
        let each = shape.iter().try_fold(1_usize, |size, &axis| size.checked_mul(axis));
        if each.and_then(|each| each.checked_mul(labels.len())) != Some(bytes.len()) {
            return Err(Error::Argument {
                op: "images",
                name: "bytes",
                expected: "N·C·H·W, N the number of labels",
                got: format!("{} for {} of {shape:?}", bytes.len(), labels.len()),
            });
        }
        Self::over(name, Store::Pixels { shape, bytes }, labels, classes)
    }

    /// Pictures that are decoded when they are asked for.
    pub(super) fn encoded(
        name: &str,
        files: Vec<Place>,
        labels: Vec<i64>,
        classes: &[impl AsRef<str>],
    ) -> Result<Self> {
        Self::over(name, Store::Encoded(files), labels, classes)
    }

    fn over(
        name: &str,
        store: Store,
        labels: Vec<i64>,
        classes: &[impl AsRef<str>],
    ) -> Result<Self> {
        let bound = classes.len();
        for (at, &index) in labels.iter().enumerate() {
            if usize::try_from(index).map_or(true, |class| class >= bound) {
                return Err(Error::Index { op: "images", index, at, bound });
            }
        }
        Ok(Self {
            name: name.to_owned(),
            classes: classes.iter().map(|class| class.as_ref().to_owned()).collect(),
            source: "memory".into(),
            normalise: Normalise::none(),
            store: Arc::new(store),
            places: room::collect("images", 0..labels.len())?,
            labels,
            passed_over: Arc::default(),
        })
    }

    /// The same pictures, beside which this was passed over.
    pub(super) fn passing_over(self, passed_over: PassedOver) -> Self {
        Self { passed_over: passed_over.into(), ..self }
    }

    /// What lay beside the pictures and was passed over when they were looked for.
    #[must_use]
    pub fn passed_over(&self) -> &PassedOver {
        &self.passed_over
    }

    /// The same pictures, read from there, with these figures.
    pub(super) fn read_from(self, source: impl Into<String>, normalise: Normalise) -> Self {
        Self { source: source.into(), normalise, ..self }
    }

    /// N.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no picture.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The class of each picture.
    #[must_use]
    pub fn labels(&self) -> &[i64] {
        &self.labels
    }

    /// The pictures at the given places, in that order.
    ///
    /// # Errors
    /// [`Error::Index`] for a place that does not exist.
    pub fn select(&self, places: &[usize]) -> Result<Self> {
        let bound = self.len();
        if let Some(at) = places.iter().position(|&place| place >= bound) {
            return Err(Error::Index { op: "images", index: places[at] as i64, at, bound });
        }
        Ok(Self {
            places: room::collect("images", places.iter().map(|&place| self.places[place]))?,
            labels: room::collect("images", places.iter().map(|&place| self.labels[place]))?,
            ..self.sharing()
        })
    }

    /// The same pixels in none of the places.
    fn sharing(&self) -> Self {
        Self {
            name: self.name.clone(),
            classes: Arc::clone(&self.classes),
            source: self.source.clone(),
            normalise: self.normalise.clone(),
            store: Arc::clone(&self.store),
            places: Vec::new(),
            labels: Vec::new(),
            passed_over: Arc::clone(&self.passed_over),
        }
    }

    /// The pictures `start .. start + count`.
    ///
    /// # Errors
    /// [`Error::Index`] when there are fewer.
    pub fn range(&self, start: usize, count: usize) -> Result<Self> {
        let end = start.saturating_add(count);
        if end > self.len() {
            let (index, at, bound) = (end as i64 - 1, count.saturating_sub(1), self.len());
            return Err(Error::Index { op: "images", index, at, bound });
        }
        self.select(&room::collect("images", start..end)?)
    }

    /// The classes take turns: the first picture of each, the second of each, and so on. A data
    /// set that is sorted by class can then be cut anywhere.
    #[must_use]
    pub fn interleaved(&self) -> Self {
        let mut seen = vec![0_usize; self.classes.len()];
        let mut order: Vec<(usize, i64, usize)> = Vec::with_capacity(self.len());
        for (place, &label) in self.labels.iter().enumerate() {
            let turn = &mut seen[label as usize];
            order.push((*turn, label, place));
            *turn += 1;
        }
        order.sort_unstable();
        Self {
            places: order.iter().map(|&(.., place)| self.places[place]).collect(),
            labels: order.iter().map(|&(_, label, _)| label).collect(),
            ..self.clone()
        }
    }

    /// All pictures decoded, on all threads, and kept in memory: N·C·H·W bytes.
    ///
    /// # Errors
    /// [`Error::File`] for a picture that cannot be decoded, [`Error::Shape`] when two have
    /// different shapes.
    pub fn in_memory(&self) -> Result<Self> {
        if let Store::Pixels { .. } = *self.store {
            return Ok(self.clone());
        }
        let Some(first) = (0..self.len()).next() else { return Ok(self.clone()) };
        let shape = self.picture(first)?.shape;
        let size: usize = shape.iter().product();
        let mut bytes = room::zeros("images", size.saturating_mul(self.len()))?;
        bytes.par_chunks_mut(size.max(1)).enumerate().try_for_each(|(i, out)| {
            let picture = self.picture(i)?;
            picture.must_be(shape)?;
            out.copy_from_slice(&picture.bytes);
            Ok::<(), Error>(())
        })?;
        Ok(Self {
            store: Arc::new(Store::Pixels { shape, bytes }),
            places: room::collect("images", 0..self.len())?,
            labels: room::collect("images", self.labels.iter().copied())?,
            ..self.sharing()
        })
    }

    /// Inputs `[N, C, H, W]` in f32, normalised, and labels `[N]`.
    ///
    /// # Errors
    /// As [`Images::in_memory`]; [`Error::Argument`] when `normalise` does not fit the channels.
    pub fn dataset(&self) -> Result<Dataset> {
        let none = [self.normalise.mean.len(), 1, 1];
        let shape = if self.is_empty() { none } else { self.picture(0)?.shape };
        let [channels, height, width] = shape;
        let lines = self.normalise.lines(channels)?;
        let size = shape.iter().product::<usize>();
        let mut numbers: Vec<f32> = room::zeros("images", size.saturating_mul(self.len()))?;
        let size = size.max(1);
        numbers.par_chunks_mut(size).enumerate().try_for_each(|(i, out)| {
            let picture = self.picture(i)?;
            picture.must_be(shape)?;
            let plane = (height * width).max(1);
            let planes = out.chunks_mut(plane).zip(picture.bytes.chunks(plane));
            for ((out, bytes), [slope, offset]) in planes.zip(&lines) {
                let numbers = out.iter_mut().zip(bytes);
                numbers.for_each(|(x, &b)| *x = slope.mul_add(f32::from(b), *offset));
            }
            Ok::<(), Error>(())
        })?;
        let inputs = Tensor::from_vec(numbers, [self.len(), channels, height, width])?;
        let labels = Tensor::from_slice(&self.labels, [self.len()])?;
        Dataset::new(&self.name, &inputs, &labels, self.classes.len())
    }

    /// Mean and deviation of each channel over all pixels, for [`Images::normalise`].
    ///
    /// # Errors
    /// [`Error::File`] for a picture that cannot be decoded.
    pub fn moments(&self) -> Result<Normalise> {
        // Sums of bytes and of their squares are exact: 2⁶⁴ / 255² is more pixels than there are.
        let sums = |i: usize| -> Result<Vec<[u64; 3]>> {
            let picture = self.picture(i)?;
            let plane = (picture.shape[1] * picture.shape[2]).max(1);
            let sum = |plane: &[u8]| {
                plane.iter().fold([0, 0, 0], |[n, sum, squares], &b| {
                    let b = u64::from(b);
                    [n + 1, sum + b, squares + b * b]
                })
            };
            Ok(picture.bytes.chunks(plane).map(sum).collect())
        };
        let add = |a: Vec<[u64; 3]>, b: Vec<[u64; 3]>| -> Result<Vec<[u64; 3]>> {
            let (mut long, short) = if a.len() < b.len() { (b, a) } else { (a, b) };
            for (to, from) in long.iter_mut().zip(short) {
                *to = [to[0] + from[0], to[1] + from[1], to[2] + from[2]];
            }
            Ok(long)
        };
        let total = (0..self.len()).into_par_iter().map(sums).try_reduce(Vec::new, add)?;
        let moments = total.iter().map(|&[n, sum, squares]| {
            let (n, sum, squares) = (n as f64, sum as f64, squares as f64);
            let variance = (squares / n - (sum / n).powi(2)).max(0.0);
            let deviation = if variance > 0.0 { variance.sqrt() / 255.0 } else { 1.0 };
            (sum / n / 255.0, deviation)
        });
        let (mean, deviation): (Vec<_>, Vec<_>) = moments.unzip();
        Ok(if mean.is_empty() { Normalise::none() } else { Normalise { mean, deviation } })
    }

    /// One picture.
    pub(super) fn picture(&self, example: usize) -> Result<Picture<'_>> {
        let place = self.places[example];
        match &*self.store {
            Store::Pixels { shape, bytes } => {
                let size = shape.iter().product::<usize>();
                let bytes = Cow::Borrowed(&bytes[place * size..][..size]);
                Ok(Picture { shape: *shape, bytes })
            }
            Store::Encoded(files) => {
                picture::decode(&files[place].bytes(PICTURE_FILE)?, files[place].file())
            }
        }
    }
}

impl Picture<'_> {
    fn must_be(&self, shape: [usize; 3]) -> Result<()> {
        if self.shape == shape {
            return Ok(());
        }
        let got = [engine::Shape::from(shape), engine::Shape::from(self.shape)];
        let expected = "pictures of one shape (crop or resize them to one)";
        Err(Error::shape("images", expected, &[&got[0], &got[1]]))
    }
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Images")
            .field("name", &self.name)
            .field("source", &self.source)
            .field("len", &self.len())
            .field("classes", &self.classes.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toy() -> Images {
        let bytes = (0..24).collect();
        Images::new("toy", [1, 2, 2], bytes, vec![0, 0, 0, 1, 1, 2], &["a", "b", "c"]).unwrap()
    }

    #[test]
    fn the_classes_take_turns_and_pictures_stay_with_their_labels() {
        let mixed = toy().interleaved();
        assert_eq!(mixed.labels(), [0, 1, 2, 0, 1, 0]);
        let first = |i| mixed.picture(i).unwrap().bytes[0];
        assert_eq!((0..6).map(first).collect::<Vec<_>>(), [0, 12, 20, 4, 16, 8]);
        let part = mixed.range(1, 2).unwrap();
        assert_eq!((part.labels(), part.picture(0).unwrap().bytes[0]), (&[1, 2][..], 12));
    }

    #[test]
    fn moments_make_the_data_set_mean_zero_and_deviation_one() {
        let mut images = toy();
        images.normalise = images.moments().unwrap();
        let numbers = images.dataset().unwrap().inputs.to_vec::<f32>().unwrap();
        let mean = numbers.iter().sum::<f32>() / 24.0;
        let square = numbers.iter().map(|x| x * x).sum::<f32>() / 24.0;
        assert!(mean.abs() < 1e-5 && (square - 1.0).abs() < 1e-5, "{mean} {square}");
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let make = |shape, bytes: usize, label| {
            Images::new("t", shape, vec![0; bytes], vec![label], &["one"])
        };
        assert!(make([1, 2, 2], 4, 0).is_ok());
        assert!(matches!(make([1, 2, 2], 3, 0), Err(Error::Argument { .. })));
        assert!(matches!(make([usize::MAX, 2, 2], 4, 0), Err(Error::Argument { .. })));
        assert!(matches!(make([1, 2, 2], 4, 1), Err(Error::Index { index: 1, bound: 1, .. })));
        assert!(matches!(toy().range(5, 2), Err(Error::Index { index: 6, .. })));
        let three = Images { normalise: Normalise::rgb([0.5; 3], [0.5; 3]), ..toy() };
        assert!(matches!(three.dataset(), Err(Error::Argument { op: "normalise", .. })));
    }

    #[test]
    fn no_pictures_are_an_empty_data_set() {
        let none = toy().range(0, 0).unwrap();
        assert!(none.in_memory().unwrap().is_empty());
        assert_eq!(none.dataset().unwrap().len(), 0);
        assert_eq!(none.moments().unwrap(), Normalise::none());
    }
}
