//! The data sets by name.

use std::path::{Path, PathBuf};

use engine::{Error, Result};

use super::idx::{self, Idx, Pixels};
use super::{Dataset, digits, iris};

/// The names that [`open`] knows.
pub const NAMES: [&str; 4] = ["digits", "mnist", "fashion", "iris"];

/// Mean and deviation of all training pixels, as everybody uses them.
const MNIST: Pixels = Pixels { scale: 255.0, mean: 0.1307, deviation: 0.3081 };
const FASHION: Pixels = Pixels { scale: 255.0, mean: 0.2860, deviation: 0.3530 };

/// Training and test set of a name.
///
/// | name | inputs | where from |
/// |---|---|---|
/// | `digits` | `[N, 1, 8, 8]` in 0 ..= 1 | in the program |
/// | `iris` | `[N, 4]`, standardised | in the program |
/// | `mnist` | `[N, 1, 28, 28]`, (x/255 − 0.1307) / 0.3081 | the four IDX files in `data_dir/mnist` or `data_dir` |
/// | `fashion` | `[N, 1, 28, 28]`, (x/255 − 0.2860) / 0.3530 | the same in `data_dir/fashion` or `data_dir` |
///
/// Files may end in `.gz` or not.
///
/// # Errors
/// [`Error::Unknown`] for another name, [`Error::Argument`] when a folder is needed and none given,
/// [`Error::File`] when a file is missing or is not what it should be.
///
/// # Example
/// ```
/// let (train, test) = alcyon_nn::data::open("iris", None)?;
/// assert_eq!((train.len(), test.len(), train.classes), (120, 30, 3));
/// # Ok::<(), engine::Error>(())
/// ```
pub fn open(name: &str, data_dir: Option<&Path>) -> Result<(Dataset, Dataset)> {
    match name {
        "digits" => digits(),
        "iris" => iris(),
        "mnist" => mnist_like(name, data_dir, MNIST),
        "fashion" => mnist_like(name, data_dir, FASHION),
        _ => Err(Error::Unknown {
            what: "data set",
            got: name.to_owned(),
            known: NAMES.map(str::to_owned).to_vec(),
        }),
    }
}

fn mnist_like(name: &str, dir: Option<&Path>, pixels: Pixels) -> Result<(Dataset, Dataset)> {
    let dir = dir.ok_or_else(|| Error::Argument {
        op: "open",
        name: "data_dir",
        expected: "a folder with the four IDX files of the data set",
        got: "none".into(),
    })?;
    let part = |prefix: &str| {
        let images = Idx::read(&find(dir, name, &format!("{prefix}-images-idx3-ubyte"))?)?;
        let labels = Idx::read(&find(dir, name, &format!("{prefix}-labels-idx1-ubyte"))?)?;
        idx::dataset(name, &images, &labels, 10, pixels)
    };
    Ok((part("train")?, part("t10k")?))
}

/// A file of a data set: in a folder of the set's name or beside it, gzipped or not.
fn find(dir: &Path, name: &str, file: &str) -> Result<PathBuf> {
    let folders = [dir.join(name), dir.to_owned()];
    let places = folders.iter().flat_map(|f| [f.join(format!("{file}.gz")), f.join(file)]);
    places.into_iter().find(|place| place.is_file()).ok_or_else(|| Error::File {
        file: dir.to_owned(),
        expected: format!("{file}[.gz] there or in {name}/"),
        got: "no such file".into(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use engine::Shape;

    use super::*;

    fn idx(sizes: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        sizes.iter().for_each(|s| bytes.extend(s.to_be_bytes()));
        bytes.extend(data);
        bytes
    }

    #[test]
    fn every_name_that_needs_no_folder_opens_and_others_are_listed() {
        for name in ["digits", "iris"] {
            assert_eq!(
                open(name, None).unwrap().0.inputs.shape()[0],
                open(name, None).unwrap().0.len()
            );
        }
        let error = open("cifar", None).unwrap_err().to_string();
        assert_eq!(error, "unknown data set `cifar`; known: digits, mnist, fashion, iris");
        let error = open("mnist", None).unwrap_err();
        assert!(matches!(error, Error::Argument { name: "data_dir", .. }));
    }

    #[test]
    fn idx_files_are_found_in_the_folder_of_the_name_or_beside_it_and_normalised() {
        let dir = tempfile::tempdir().unwrap();
        let missing = open("fashion", Some(dir.path())).unwrap_err().to_string();
        assert!(missing.contains("train-images-idx3-ubyte[.gz] there or in fashion/"), "{missing}");

        fs::create_dir(dir.path().join("fashion")).unwrap();
        let put = |place: &str, bytes: Vec<u8>| fs::write(dir.path().join(place), bytes).unwrap();
        put("fashion/train-images-idx3-ubyte", idx(&[1, 1, 2], &[0, 255]));
        put("fashion/train-labels-idx1-ubyte", idx(&[1], &[9]));
        put("t10k-images-idx3-ubyte", idx(&[2, 1, 2], &[51, 51, 51, 51]));
        put("t10k-labels-idx1-ubyte", idx(&[2], &[0, 1]));
        let (train, test) = open("fashion", Some(dir.path())).unwrap();
        assert_eq!((train.len(), test.len()), (1, 2));
        assert_eq!(*test.inputs.shape(), Shape::from([2, 1, 1, 2]));
        let got = train.inputs.to_vec::<f32>().unwrap();
        let expected = [-0.2860_f32 / 0.3530, (1.0 - 0.2860) / 0.3530];
        assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}");
    }
}
