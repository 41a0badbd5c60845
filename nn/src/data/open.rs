//! The data sets by name.

use std::path::{Path, PathBuf};

use engine::{Error, Result};

use super::cifar::{self, Cifar};
use super::digits::{self, digits};
use super::idx::{self, Idx};
use super::{Dataset, Images, Normalise, image_folder, iris};

/// The names that [`open`] knows.
pub const NAMES: [&str; 6] = ["digits", "mnist", "fashion", "iris", "cifar10", "cifar100"];

/// Mean and deviation of all training pixels, as everybody uses them.
const MNIST: (f64, f64) = (0.1307, 0.3081);
const FASHION: (f64, f64) = (0.2860, 0.3530);

/// Training and test set of a name.
///
/// | name | inputs | where from |
/// |---|---|---|
/// | `digits` | `[N, 1, 8, 8]` in 0 ..= 1 | in the program |
/// | `iris` | `[N, 4]`, standardised | in the program |
/// | `mnist` | `[N, 1, 28, 28]`, (x/255 − 0.1307) / 0.3081 | the four IDX files in `data_dir/mnist` or `data_dir` |
/// | `fashion` | `[N, 1, 28, 28]`, (x/255 − 0.2860) / 0.3530 | the same in `data_dir/fashion` or `data_dir` |
/// | others | `[N, 3, H, W]`, normalised by channel | as [`open_images`] |
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
        _ => {
            let (train, test) = open_images(name, data_dir)?;
            Ok((train.dataset()?, test.dataset()?))
        }
    }
}

/// Training and test pictures of a name, as bytes; [`Images::source`] says what they were read from.
///
/// | name | pictures | files in `data_dir/NAME` or `data_dir`, the first that is there |
/// |---|---|---|
/// | `digits` | `[1, 8, 8]` | none: in the program |
/// | `mnist`, `fashion` | `[1, 28, 28]` | the four IDX files |
/// | `cifar10` | `[3, 32, 32]` | `*_batch*.bin`; `cifar-10-binary.tar.gz`; `cifar-10-batches-py/`; `cifar-10-python.tar.gz`; archives `*train*.tar.gz`, `*test*.tar.gz` or folders `train/`, `test/` of `class/*.jpg` (or `.png`); a part, `data_batch_1*.bin`, its last fifth for testing |
/// | `cifar100` | `[3, 32, 32]`, fine labels | the same, `cifar-100-binary`, `cifar-100-python` |
/// | a path | as they are, decoded when asked for | [`image_folder`]'s layouts, in a folder or a tar archive |
///
/// # Errors
/// As [`open`]; `iris` has no pictures and is unknown here.
///
/// # Example
/// ```
/// let (train, _) = alcyon_nn::data::open_images("digits", None)?;
/// assert_eq!((train.len(), train.classes.len()), (1437, 10));
/// # Ok::<(), engine::Error>(())
/// ```
pub fn open_images(name: &str, data_dir: Option<&Path>) -> Result<(Images, Images)> {
    let folder = |expected: &'static str| {
        data_dir.ok_or(Error::Argument {
            op: "open",
            name: "data_dir",
            expected,
            got: "none".into(),
        })
    };
    let idx = "a folder with the four IDX files of the data set";
    let cifar = "a folder with the files of the data set";
    match name {
        "digits" => digits::split_images(),
        "mnist" => mnist_like(name, folder(idx)?, MNIST),
        "fashion" => mnist_like(name, folder(idx)?, FASHION),
        "cifar10" => cifar::open(Cifar::Ten, folder(cifar)?),
        "cifar100" => cifar::open(Cifar::Hundred, folder(cifar)?),
        path if Path::new(path).exists() => image_folder::open(Path::new(path)),
        _ => Err(Error::Unknown {
            what: "data set",
            got: name.to_owned(),
            known: NAMES.into_iter().filter(|&known| known != name).map(str::to_owned).collect(),
        }),
    }
}

fn mnist_like(name: &str, dir: &Path, (mean, deviation): (f64, f64)) -> Result<(Images, Images)> {
    let part = |prefix: &str| {
        let images = Idx::read(&find(dir, name, &format!("{prefix}-images-idx3-ubyte"))?)?;
        let labels = Idx::read(&find(dir, name, &format!("{prefix}-labels-idx1-ubyte"))?)?;
        let source = images.file.display().to_string();
        let images = idx::images(name, images, &labels, 10)?;
        let normalise = Normalise { mean: vec![mean], deviation: vec![deviation] };
        Ok::<_, Error>(images.from_source(source, normalise))
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
        assert_eq!(
            error,
            "unknown data set `cifar`; known: digits, mnist, fashion, iris, cifar10, cifar100"
        );
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
