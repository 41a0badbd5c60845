//! CIFAR-10 and CIFAR-100 in the forms in which people have them.
//!
//! Source: A. Krizhevsky 2009, "Learning multiple layers of features from tiny images", and the
//! page of the data sets for the two formats, `binary` and `python`.

mod binary;
mod pickle;
mod python;

use std::fs;
use std::path::{Path, PathBuf};

use engine::{Error, Result, room};

use super::file::misfit;
use super::image_folder;
use super::limits;
use super::tree::Tree;
use super::{Images, Normalise};

/// C, H, W of every picture.
const SHAPE: [usize; 3] = [3, 32, 32];

/// Bytes of a picture.
const SIZE: usize = 3 * 32 * 32;

/// Which of the two sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cifar {
    Ten,
    Hundred,
}

impl Cifar {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ten => "cifar10",
            Self::Hundred => "cifar100",
        }
    }

    const fn classes(self) -> &'static [&'static str] {
        match self {
            Self::Ten => &TEN,
            Self::Hundred => &HUNDRED,
        }
    }

    /// Mean and deviation of each channel of the 50,000 training pictures.
    fn normalise(self) -> Normalise {
        match self {
            Self::Ten => Normalise::rgb([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
            Self::Hundred => Normalise::rgb([0.5071, 0.4865, 0.4409], [0.2673, 0.2564, 0.2762]),
        }
    }

    /// Stems of the training files, and of the test file.
    const fn files(self) -> (&'static [&'static str], &'static str) {
        match self {
            Self::Ten => {
                const TRAIN: [&str; 5] = [
                    "data_batch_1",
                    "data_batch_2",
                    "data_batch_3",
                    "data_batch_4",
                    "data_batch_5",
                ];
                (&TRAIN, "test_batch")
            }
            Self::Hundred => (&["train"], "test"),
        }
    }

    const fn folders(self) -> [&'static str; 2] {
        match self {
            Self::Ten => ["cifar-10-batches-bin", "cifar-10-batches-py"],
            Self::Hundred => ["cifar-100-binary", "cifar-100-python"],
        }
    }

    const fn archives(self) -> [&'static str; 2] {
        match self {
            Self::Ten => ["cifar-10-binary", "cifar-10-python"],
            Self::Hundred => ["cifar-100-binary", "cifar-100-python"],
        }
    }

    /// A number per label and the bytes of the pictures, as a set.
    fn images(self, (labels, bytes): (Vec<i64>, Vec<u8>), from: &Path) -> Result<Images> {
        let images = Images::new(self.name(), SHAPE, bytes, labels, self.classes())?;
        Ok(images.read_from(from.display().to_string(), self.normalise()))
    }
}

/// Training and test set from what is in `dir/NAME` or else in `dir`. In each of the two the forms
/// are looked for in this order, and the first that is there is taken:
///
/// 1. the binary format: unpacked (`*.bin`, `*.bin.gz`), or as `cifar-10-binary.tar[.gz]`;
/// 2. the Python format, unpacked or as `cifar-10-python.tar[.gz]`;
/// 3. pictures, `split/class/*.jpg` or `.png`, in archives `*train*.tar[.gz]` and
///    `*test*.tar[.gz]`, or in folders `train` and `test`;
/// 4. a part: one `data_batch_1*.bin[.gz]`, its last fifth for testing.
///
/// [`Images::source`] says which it was.
pub(super) fn open(set: Cifar, dir: &Path) -> Result<(Images, Images)> {
    let own = dir.join(set.name());
    for base in [own.as_path(), dir].into_iter().filter(|base| base.is_dir()) {
        for form in [binary_form, python_form, picture_form, part_form] {
            if let Some(pair) = form(set, base)? {
                return Ok(pair);
            }
        }
    }
    let [binary, python] = set.archives();
    let expected = format!("{binary}.tar.gz, {python}.tar.gz or another form of it there");
    Err(misfit(dir, expected, format!("none there or in {}/", set.name())))
}

type Pair = Option<(Images, Images)>;

fn binary_form(set: Cifar, base: &Path) -> Result<Pair> {
    whole(set, base, 0, &|stem| vec![format!("{stem}.bin"), format!("{stem}.bin.gz")], &|place| {
        binary::parse(&place.plain(limits::CIFAR)?, set == Cifar::Hundred, place.file())
    })
}

fn python_form(set: Cifar, base: &Path) -> Result<Pair> {
    whole(set, base, 1, &|stem| vec![stem.to_owned()], &|place| {
        python::parse(&place.plain(limits::CIFAR)?, set == Cifar::Hundred, place.file())
    })
}

type Read<'a> = &'a dyn Fn(&super::tree::Place) -> Result<(Vec<i64>, Vec<u8>)>;

/// A set of which all files are there: in a folder of the usual name, beside it, or in an archive.
fn whole(
    set: Cifar,
    base: &Path,
    form: usize,
    names: &dyn Fn(&str) -> Vec<String>,
    read: Read<'_>,
) -> Result<Pair> {
    let (train, test) = set.files();
    let archives = ["tar", "tar.gz", "tgz"].map(|end| {
        let name = format!("{}.{end}", set.archives()[form]);
        base.join(name)
    });
    let folders = [base.join(set.folders()[form]), base.to_owned()];
    let folders = folders.iter().filter(|folder| folder.is_dir()).map(|f| Tree::folder(f, 0));
    let archives = archives.iter().filter(|file| file.is_file()).map(|file| Tree::open(file));
    for tree in folders.chain(archives) {
        let tree = tree?;
        let find = |stem: &str| names(stem).iter().find_map(|name| tree.find(name));
        let found = train.iter().map(|stem| find(stem)).collect::<Option<Vec<_>>>();
        let (Some(train), Some(test)) = (found, find(test)) else {
            if tree.root.is_dir() {
                continue;
            }
            let expected = format!("the files {} and {test}", train.join(", "));
            return Err(misfit(&tree.root, expected, "an archive without them"));
        };
        let (mut labels, mut bytes) = (Vec::new(), Vec::new());
        for place in train {
            let (more_labels, more_bytes) = read(place)?;
            room::more("cifar", &mut labels, more_labels.len())?;
            room::more("cifar", &mut bytes, more_bytes.len())?;
            labels.extend(more_labels);
            bytes.extend(more_bytes);
        }
        let train = set.images((labels, bytes), &tree.root)?;
        return Ok(Some((train, set.images(read(test)?, &tree.root)?)));
    }
    Ok(None)
}

/// Recompressed copies: archives or folders of pictures by class.
fn picture_form(set: Cifar, base: &Path) -> Result<Pair> {
    let mut archives = Vec::new();
    for entry in fs::read_dir(base).map_err(|e| Error::io(base, e))? {
        archives.push(entry.map_err(|e| Error::io(base, e))?.path());
    }
    archives.sort();
    let mut splits = Vec::new();
    for split in ["train", "test"] {
        let is = |file: &&PathBuf| {
            let name = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            let packed = [".tar", ".tar.gz", ".tgz"].iter().any(|end| name.ends_with(end));
            packed && name.contains(split) && !name.contains("binary") && !name.contains("python")
        };
        let found = archives.iter().find(is).cloned().unwrap_or_else(|| base.join(split));
        let by_class = found.is_file() || set.classes().iter().any(|c| found.join(c).is_dir());
        if !by_class {
            return Ok(None);
        }
        splits.push(found);
    }
    let open = |found: &Path| {
        let tree = Tree::open(found)?;
        let images = image_folder::classes_of(set.name(), &tree)?;
        image_folder::same_classes(&images, set.classes(), found)?;
        let images = images.interleaved().in_memory()?;
        let passed_over = image_folder::passed_over(&tree);
        let mut source = format!("{} (recompressed pictures)", found.display());
        if !passed_over.is_empty() {
            source = format!("{source} (passed over: {passed_over})");
        }
        Ok::<_, Error>(images.read_from(source, set.normalise()).passing_over(passed_over))
    };
    Ok(Some((open(&splits[0])?, open(&splits[1])?)))
}

/// A single batch of the binary format: its last fifth is for testing.
fn part_form(set: Cifar, base: &Path) -> Result<Pair> {
    let stem = set.files().0[0];
    let tree = Tree::folder(base, 0)?;
    let is = |name: &str| {
        name.starts_with(stem) && (name.ends_with(".bin") || name.ends_with(".bin.gz"))
    };
    let Some((_, place)) = tree.files.iter().find(|(name, _)| is(name)) else { return Ok(None) };
    let read = binary::parse(&place.plain(limits::CIFAR)?, set == Cifar::Hundred, place.file())?;
    let source = format!("{} (a part: its first four fifths and the rest)", place.file().display());
    let all = set.images(read, place.file())?.read_from(source, set.normalise());
    let train = all.len() / 5 * 4;
    Ok(Some((all.range(0, train)?, all.range(train, all.len() - train)?)))
}

const TEN: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// The fine labels.
#[rustfmt::skip]
const HUNDRED: [&str; 100] = [
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup",
    "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house",
    "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man",
    "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange", "orchid",
    "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy",
    "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal",
    "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar",
    "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
];

#[cfg(test)]
mod tests;
