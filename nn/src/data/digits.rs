//! The embedded default: 1,797 handwritten digits, 8×8.
//!
//! Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits (UCI), CC BY 4.0; see
//! `nn/data/README.md`.

use std::path::Path;

use engine::Result;

use super::idx::{self, Idx};
use super::{Dataset, Images, Normalise};

/// Rows are grouped by writer; the writers of the first 1,437 train, the others test.
const TRAIN: usize = 1437;

/// The handwritten digits of UCI: 1,437 training and 360 test images `[N, 1, 8, 8]` with pixels
/// 0, 1/16, …, 1. No writer's image occurs on both sides, so this test is harder than a random
/// split.
///
/// # Errors
/// None: the bytes are part of the program, and a test reads them.
pub fn digits() -> Result<(Dataset, Dataset)> {
    images()?.dataset()?.split(TRAIN)
}

/// The same as pictures.
pub(super) fn split_images() -> Result<(Images, Images)> {
    let all = images()?;
    Ok((all.range(0, TRAIN)?, all.range(TRAIN, all.len() - TRAIN)?))
}

fn images() -> Result<Images> {
    let read = |bytes: &[u8], name: &str| Idx::parse(bytes, Path::new(name));
    let images = include_bytes!("../../data/digits-images-idx3-ubyte.gz");
    let labels = include_bytes!("../../data/digits-labels-idx1-ubyte.gz");
    let images = read(images, "digits-images-idx3-ubyte.gz")?;
    let labels = read(labels, "digits-labels-idx1-ubyte.gz")?;
    let sixteenths = Normalise { mean: vec![0.0], deviation: vec![16.0 / 255.0] };
    Ok(idx::images("digits", images, &labels, 10)?.from_source("the program", sixteenths))
}

#[cfg(test)]
mod tests {
    use engine::Shape;

    use super::*;

    #[test]
    fn there_are_1797_digits_with_the_published_class_counts_and_pixels_of_a_sixteenth() {
        let (train, test) = digits().unwrap();
        assert_eq!(*train.inputs.shape(), Shape::from([1437, 1, 8, 8]));
        assert_eq!(*test.inputs.shape(), Shape::from([360, 1, 8, 8]));
        let mut counts = [0; 10];
        for labels in [&train.labels, &test.labels] {
            labels.to_vec::<i64>().unwrap().into_iter().for_each(|l| counts[l as usize] += 1);
        }
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        let sixteenths = |x: &f32| (0.0..=1.0).contains(x) && (x * 16.0).fract() == 0.0;
        assert!(train.inputs.to_vec::<f32>().unwrap().iter().all(sixteenths));
    }
}
