//! Pictures in folders: `class/*.jpg`, ImageNet's `split/class/*.JPEG`, and Tiny ImageNet.
//!
//! Tiny ImageNet (Le & Yang 2015, Stanford CS231n): `train/CLASS/images/*.JPEG` for the classes that
//! `wnids.txt` lists, and `val/images/*.JPEG` with a line `FILE CLASS …` for each in
//! `val/val_annotations.txt`. Its test split has no labels and is not read.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use engine::Result;

use super::file::misfit;
use super::limits::LIST;
use super::text::without_mark;
use super::tree::{Place, Tree};
use super::{Images, Normalise, PassedOver};

/// Mean and deviation of ImageNet's pixels, as torchvision's models expect them.
const IMAGENET: ([f64; 3], [f64; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// Training and validation pictures of a folder or of a tar archive, which may be gzipped. An
/// archive is held in memory as it is; in both cases a picture is decoded when it is asked for
/// ([`Images::in_memory`] decodes all).
///
/// | there is | layout |
/// |---|---|
/// | `wnids.txt` | Tiny ImageNet |
/// | `train/` and `val/`, `valid/`, `validation/` or `test/` | a folder for each class in each |
///
/// All may stand in one more folder. Classes are numbered in the order of their names, those of
/// Tiny ImageNet in the order of `wnids.txt`. Pictures come out in the order of their paths.
///
/// What is hidden (`.x`, `__MACOSX`), no regular file, or no `.jpg`, `.jpeg` or `.png` is passed over;
/// [`Images::passed_over`] counts it, and [`Images::source`] says so.
///
/// # Errors
/// [`Error::File`](engine::Error::File) for a folder of another layout, for splits with different classes, for a class
/// without pictures, for a class that the lists do not name; [`Error::Io`](engine::Error::Io) when the system refuses.
pub fn open(root: &Path) -> Result<(Images, Images)> {
    let tree = Tree::open(root)?;
    let name = root.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.trim_end_matches(".tar");
    let (train, validation) = match tree.find("wnids.txt") {
        Some(list) => tiny(name, &tree, list)?,
        None => splits(name, &tree)?,
    };
    let passed_over = passed_over(&tree);
    let mut source = root.display().to_string();
    if !passed_over.is_empty() {
        source = format!("{source} (passed over: {passed_over})");
    }
    let finish = |images: Images| {
        let normalise = Normalise::rgb(IMAGENET.0, IMAGENET.1);
        images.read_from(&source, normalise).passing_over(passed_over.clone())
    };
    Ok((finish(train), finish(validation)))
}

/// What the tree has left out, and files that are no pictures, by their ending.
pub(super) fn passed_over(tree: &Tree) -> PassedOver {
    let mut passed_over = tree.passed_over.clone();
    let lists = ["wnids.txt", "words.txt", "val_annotations.txt"];
    for (path, _) in tree.files.iter().filter(|(path, _)| !is_picture(path)) {
        let name = path.rsplit('/').next().unwrap_or_default();
        match name.rsplit_once('.') {
            _ if lists.contains(&name) => {}
            Some((_, end)) => passed_over.add(&format!(".{}", end.to_ascii_lowercase())),
            None => passed_over.add("without an ending"),
        }
    }
    passed_over
}

/// All pictures of a tree, by the folder that each is in.
pub(super) fn classes_of(name: &str, tree: &Tree) -> Result<Images> {
    let pictures = tree.files.iter().filter(|(path, _)| is_picture(path));
    let of_class = pictures.filter_map(|(path, place)| {
        let mut parts = path.rsplit('/').skip(1);
        Some((parts.next()?, place))
    });
    by_class(name, &tree.root, &of_class.collect::<Vec<_>>())
}

/// That the classes found are the ones known, in the same order.
pub(super) fn same_classes<S: AsRef<str>>(found: &Images, known: &[S], file: &Path) -> Result<()> {
    let differs = |(a, b): (&String, &S)| a != b.as_ref();
    if found.classes.len() == known.len() && !found.classes.iter().zip(known).any(differs) {
        return Ok(());
    }
    let list =
        |names: &mut dyn Iterator<Item = &str>| names.take(12).collect::<Vec<_>>().join(", ");
    let expected = list(&mut known.iter().map(AsRef::as_ref));
    let got = list(&mut found.classes.iter().map(String::as_str));
    let expected = format!("the {} classes {expected}", known.len());
    Err(misfit(file, expected, format!("{} classes, {got}", found.classes.len())))
}

/// `train/class/…` and another split with the same classes.
fn splits(name: &str, tree: &Tree) -> Result<(Images, Images)> {
    let within = |split: &str| -> Vec<(&str, &Place)> {
        let pictures = tree.files.iter().filter(|(path, _)| is_picture(path));
        let of_split = pictures.filter_map(|(path, place)| {
            let parts: Vec<&str> = path.split('/').collect();
            let at = parts.iter().take(2).position(|part| *part == split)?;
            // At least a class and a file after it.
            (parts.len() >= at + 3).then(|| (parts[at + 1], place))
        });
        of_split.collect()
    };
    if let Some(empty) = empty_class(tree) {
        let got = "none (other kinds of files do not count)";
        return Err(misfit(&tree.root.join(empty), "a class with a .jpg, .jpeg or .png", got));
    }
    let train = within("train");
    let others = ["val", "valid", "validation", "test"].map(within);
    let other = others.into_iter().find(|found| !found.is_empty()).unwrap_or_default();
    if train.is_empty() || other.is_empty() {
        let expected = "train/CLASS/*.jpg and val/CLASS/*.jpg (or .jpeg, .png; test for val)";
        let got = match tree.files.first() {
            Some((path, _)) => format!("{} files, the first `{path}`", tree.files.len()),
            None => "no files".into(),
        };
        return Err(misfit(&tree.root, expected, got));
    }
    let train = by_class(name, &tree.root, &train)?;
    let other = by_class(name, &tree.root, &other)?;
    same_classes(&other, &train.classes, &tree.root)?;
    Ok((train, other))
}

/// A folder of a split in which there is no picture, however deep.
fn empty_class(tree: &Tree) -> Option<&String> {
    let splits = ["train", "val", "valid", "validation", "test"];
    let is_class = |path: &&String| {
        let parts: Vec<&str> = path.split('/').collect();
        (2..=3).contains(&parts.len()) && splits.contains(&parts[parts.len() - 2])
            // `train/train/x` has its class at the first of them.
            && !parts[..parts.len() - 2].iter().any(|part| splits.contains(part))
    };
    // One pass over the files: of a million pictures in a thousand classes too.
    let pictures = tree.files.iter().map(|(path, _)| path.as_str()).filter(|path| is_picture(path));
    let filled: HashSet<&str> = pictures
        .flat_map(|path| path.match_indices('/').take(3).map(move |(at, _)| &path[..at]))
        .collect();
    tree.folders.iter().filter(is_class).find(|class| !filled.contains(class.as_str()))
}

fn tiny(name: &str, tree: &Tree, list: &Place) -> Result<(Images, Images)> {
    let wnids = text(list)?;
    let classes: Vec<&str> = wnids.split_whitespace().collect();
    let number: HashMap<&str, i64> = classes.iter().copied().zip(0..).collect();
    let label = |class: &str, file: &Path| {
        number.get(class).copied().ok_or_else(|| {
            misfit(file, format!("one of the {} classes of wnids.txt", classes.len()), class)
        })
    };
    let annotations = tree.find("val/val_annotations.txt");
    let annotations = annotations
        .ok_or_else(|| misfit(&tree.root, "val/val_annotations.txt beside wnids.txt", "none"))?;
    let lines = text(annotations)?;
    let of_file = lines.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words.next().unwrap_or_default()))
    });
    let of_file: HashMap<&str, &str> = of_file.collect();

    let (mut train, mut validation) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for (path, place) in tree.files.iter().filter(|(path, _)| is_picture(path)) {
        let parts: Vec<&str> = path.rsplit('/').collect();
        match parts[..] {
            [_, "images", class, "train", ..] => {
                train.0.push(place.clone());
                train.1.push(label(class, place.file())?);
            }
            [file, "images", "val", ..] => {
                let class = of_file.get(file).ok_or_else(|| {
                    misfit(annotations.file(), format!("a line for `{file}`"), "none")
                })?;
                validation.0.push(place.clone());
                validation.1.push(label(class, annotations.file())?);
            }
            _ => {}
        }
    }
    if train.1.is_empty() || validation.1.is_empty() {
        let expected = "train/CLASS/images/*.JPEG and val/images/*.JPEG";
        let got = format!("{} and {} pictures", train.1.len(), validation.1.len());
        return Err(misfit(&tree.root, expected, got));
    }
    let images = |(files, labels)| Images::encoded(name, files, labels, &classes);
    Ok((images(train)?, images(validation)?))
}

/// Pictures with the names of their classes; classes are numbered by name.
fn by_class(name: &str, root: &Path, pictures: &[(&str, &Place)]) -> Result<Images> {
    let mut classes: Vec<&str> = pictures.iter().map(|(class, _)| *class).collect();
    classes.sort_unstable();
    classes.dedup();
    if classes.is_empty() {
        return Err(misfit(root, "CLASS/*.jpg, .jpeg or .png", "no pictures in folders"));
    }
    let label = |class: &str| classes.binary_search(&class).unwrap_or_default() as i64;
    let labels = pictures.iter().map(|(class, _)| label(class)).collect();
    let files = pictures.iter().map(|(_, place)| (*place).clone()).collect();
    Images::encoded(name, files, labels, &classes)
}

fn is_picture(path: &str) -> bool {
    let end = path.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    ["jpg", "jpeg", "png"].contains(&end.as_str())
}

fn text(place: &Place) -> Result<String> {
    let bytes = place.plain(LIST)?;
    let text = std::str::from_utf8(without_mark(&bytes));
    text.map(str::to_owned).map_err(|e| misfit(place.file(), "UTF-8 text", e.to_string()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use engine::Error;

    use super::*;
    use crate::data::Loader;
    use crate::data::augment::CenterCrop;
    use crate::data::picture::tests::{jpeg, png};

    fn write(dir: &Path, name: &str, bytes: &[u8]) {
        let file = dir.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }

    fn message(dir: &Path) -> String {
        open(dir).unwrap_err().to_string()
    }

    fn pack(dir: &Path, to: &Path) {
        let mut tar = tar::Builder::new(fs::File::create(to).unwrap());
        tar.append_dir_all("inside", dir).unwrap();
        tar.finish().unwrap();
    }

    #[test]
    fn a_folder_and_its_archive_give_the_same_pictures_of_any_size() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "set/train/dog/b.JPEG", &jpeg(6, 8));
        write(dir.path(), "set/train/cat/a.png", &png(9, 5));
        write(dir.path(), "set/train/cat/notes.txt", b"not a picture");
        write(dir.path(), "set/val/dog/c.jpg", &jpeg(4, 4));
        write(dir.path(), "set/val/cat/d.png", &png(7, 7));
        let archive = dir.path().join("set.tar");
        pack(&dir.path().join("set"), &archive);
        for root in [dir.path().join("set"), archive] {
            let (train, validation) = open(&root).unwrap();
            assert_eq!((train.labels(), validation.labels()), (&[0, 1][..], &[0, 1][..]));
            assert_eq!(train.classes.join(" "), "cat dog");
            assert_eq!(train.name, "set");
            // Of different shapes: not one tensor, but batches after a crop to one size.
            assert!(matches!(train.dataset(), Err(Error::Shape { .. })));
            let uncropped = Loader::new(&train.augmented(), 2).unwrap().in_order().next().unwrap();
            assert!(matches!(uncropped, Err(Error::Shape { op: "augmented", .. })));
            let cropped = train.augmented().then(CenterCrop { size: 4, shorter: 5 });
            let batch = Loader::new(&cropped, 2).unwrap().in_order().next().unwrap().unwrap();
            assert_eq!(*batch.inputs.shape(), [2, 3, 4, 4][..]);
        }
    }

    #[test]
    fn a_class_without_pictures_is_an_error_and_what_is_passed_over_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("pets");
        for split in ["train", "val"] {
            for class in ["a", "b"] {
                write(&root, &format!("{split}/{class}/1.png"), &png(4, 4));
                write(&root, &format!("{split}/{class}/._1.png"), b"resources");
            }
        }
        write(&root, "train/.ipynb_checkpoints/1.png", &png(4, 4));
        write(&root, "__MACOSX/train/c/1.png", b"resources");
        write(&root, "train/a/2.webp", b"RIFF");
        write(&root, "train/a/3.BMP", b"BM");
        let archive = dir.path().join("pets.tar");
        pack(&root, &archive);
        for place in [&root, &archive] {
            let (train, _) = open(place).unwrap();
            assert_eq!((train.len(), train.classes.join(" ")), (2, "a b".into()), "{train:?}");
            let passed_over = train.passed_over();
            assert_eq!((passed_over.count(".webp"), passed_over.count(".bmp")), (1, 1));
            // Two hidden folders, whatever is in them, and four files.
            assert_eq!(passed_over.count("hidden"), 6, "{passed_over}");
            assert!(train.source.contains("(passed over: 1 .bmp, 1 .webp, "), "{}", train.source);
        }
        write(&root, "train/empty/x.gif", b"GIF");
        write(&root, "val/empty/x.png", &png(4, 4));
        pack(&root, &archive);
        for place in [&root, &archive] {
            let message = message(place);
            assert!(message.contains("train/empty: expected a class with a .jpg"), "{message}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_folder_and_its_archive_pass_over_the_same_and_count_it_the_same() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("pets");
        for split in ["train", "val"] {
            write(&root, &format!("{split}/a/1.png"), &png(4, 4));
            for file in [".DS_Store", "._1.png", ".thumbnails/1.png", ".thumbnails/x/2.png"] {
                write(&root, &format!("{split}/a/{file}"), b"hidden");
            }
            write(&root, &format!("{split}/a/2.png/3.gif"), b"a folder that is called a picture");
        }
        write(&root, "train/a/b/c/d/deep.png", &png(4, 4));
        write(&root, "train/a/b/c/d/e/too/deep.png", &png(4, 4));
        write(&root, "train/a/b/c/d/e/deep.gif", b"GIF");
        for name in [&b"\xff.png"[..], b"\xfe/1.png", b"\xfe/2.png"] {
            let file = root.join("train/a").join(OsStr::from_bytes(name));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, png(4, 4)).unwrap();
        }
        write(&root, "train/a/two\nlines.png", &png(4, 4));
        let archive = dir.path().join("pets.tar");
        pack(&root, &archive);
        // The archive has one folder more, `inside`: so has this.
        let around = dir.path().join("around");
        fs::create_dir(&around).unwrap();
        fs::rename(&root, around.join("inside")).unwrap();
        let [folder, archive] = [&around, &archive].map(|place| open(place).unwrap().0);
        let counted = folder.passed_over().to_string();
        let expected = "2 .gif, 6 hidden, 1 too deep a folder, 2 with a name that is not UTF-8";
        assert_eq!(counted, expected);
        assert_eq!(archive.passed_over().to_string(), counted);
        assert_eq!((folder.len(), archive.len()), (3, 3));
    }

    #[test]
    #[cfg(unix)]
    fn links_in_a_circle_and_devices_among_the_pictures_end() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        for split in ["train", "val"] {
            write(dir.path(), &format!("{split}/a/1.png"), &png(4, 4));
        }
        symlink(dir.path(), dir.path().join("train/a/again")).unwrap();
        symlink("/dev/zero", dir.path().join("train/a/zero.png")).unwrap();
        symlink("nowhere", dir.path().join("train/a/gone.png")).unwrap();
        let (train, _) = open(dir.path()).unwrap();
        assert_eq!(train.len(), 1);
        assert_eq!(train.passed_over().count("no regular file"), 2);
        assert_eq!(train.passed_over().count("a second way to a folder"), 1);
    }

    #[test]
    fn tiny_imagenet_is_labelled_by_its_lists() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "wnids.txt", "\u{feff}n02\r\nn01\r\n".as_bytes());
        write(dir.path(), "train/n01/images/n01_0.JPEG", &jpeg(8, 8));
        write(dir.path(), "train/n02/images/n02_0.JPEG", &jpeg(8, 8));
        write(dir.path(), "val/images/val_0.JPEG", &jpeg(8, 8));
        write(dir.path(), "test/images/test_0.JPEG", &jpeg(8, 8));
        write(dir.path(), "val/val_annotations.txt", b"val_0.JPEG\tn01\t0\t0\t62\t62\n");
        let (train, validation) = open(dir.path()).unwrap();
        assert_eq!((train.labels(), validation.labels()), (&[1, 0][..], &[1][..]));
        assert_eq!(train.in_memory().unwrap().dataset().unwrap().len(), 2);

        write(dir.path(), "val/images/val_1.JPEG", &jpeg(8, 8));
        assert!(message(dir.path()).ends_with("expected a line for `val_1.JPEG`, got none"));
        write(dir.path(), "val/val_annotations.txt", b"val_0.JPEG n01\nval_1.JPEG n09\n");
        assert!(message(dir.path()).ends_with("one of the 2 classes of wnids.txt, got n09"));
        write(dir.path(), "val/val_annotations.txt", b"\xff\xfe");
        assert!(message(dir.path()).contains("val_annotations.txt: expected UTF-8 text"));
        fs::remove_file(dir.path().join("val/val_annotations.txt")).unwrap();
        assert!(message(dir.path()).contains("val/val_annotations.txt beside wnids.txt"));
    }

    #[test]
    fn wrong_layouts_and_different_classes_are_said() {
        let dir = tempfile::tempdir().unwrap();
        assert!(message(dir.path()).contains("expected train/CLASS/*.jpg and val/CLASS/*.jpg"));
        write(dir.path(), "train/0.jpg", &jpeg(4, 4));
        assert!(message(dir.path()).ends_with("got 1 files, the first `train/0.jpg`"));
        write(dir.path(), "train/cat/0.jpg", &jpeg(4, 4));
        write(dir.path(), "val/dog/0.jpg", &jpeg(4, 4));
        assert!(message(dir.path()).ends_with("expected the 1 classes cat, got 1 classes, dog"));
        assert!(matches!(open(&dir.path().join("nowhere")), Err(Error::Io { .. })));
        assert!(matches!(open(&dir.path().join("train/0.jpg")), Err(Error::File { .. })));
    }

    #[test]
    fn a_broken_picture_is_an_error_of_its_batch_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "train/cat/0.jpg", &jpeg(4, 4));
        write(dir.path(), "train/cat/1.jpg", &jpeg(4, 4)[..200]);
        write(dir.path(), "train/cat/2.jpg", b"");
        write(dir.path(), "val/cat/0.jpg", &jpeg(4, 4));
        let (train, _) = open(dir.path()).unwrap();
        let batches = Loader::new(&train.augmented(), 1).unwrap().prefetch(2).in_order();
        let got: Vec<String> =
            batches.map(|b| b.map_or_else(|e| e.to_string(), |_| "fine".into())).collect();
        assert_eq!(got[0], "fine");
        assert!(got[1].contains("1.jpg: expected a whole JPEG"), "{}", got[1]);
        assert!(got[2].contains("2.jpg: expected a JPEG or PNG, got 0 bytes"), "{}", got[2]);
        assert!(train.in_memory().is_err());
    }
}
