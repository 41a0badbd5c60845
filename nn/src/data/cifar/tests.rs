use std::path::Path;

use super::*;

/// Pictures whose red is the label, green the place in the file, and blue 7.
fn picture(label: u8, place: usize) -> Vec<u8> {
    [vec![label; 1024], vec![place as u8; 1024], vec![7; 1024]].concat()
}

fn binary_file(labels: &[u8]) -> Vec<u8> {
    let record = |(place, &label): (usize, &u8)| [vec![label], picture(label, place)].concat();
    labels.iter().enumerate().flat_map(record).collect()
}

/// What Python 2's cPickle writes with protocol 2, as in the published archive.
fn python_file(labels: &[u8], key: &str) -> Vec<u8> {
    let text = |s: &str| [vec![b'U', s.len() as u8], s.as_bytes().to_vec()].concat();
    let count = labels.len() as u8;
    let pixels: Vec<u8> = labels.iter().enumerate().flat_map(|(i, &l)| picture(l, i)).collect();
    [
        b"\x80\x02}q\x01(".to_vec(),
        [text("batch_label"), b"q\x02".to_vec(), text("training batch 1 of 5")].concat(),
        [b"q\x03".to_vec(), text(key), b"q\x04]q\x05(".to_vec()].concat(),
        labels.iter().flat_map(|&label| [b'K', label]).collect(),
        [b"e".to_vec(), text("data"), b"q\x06".to_vec()].concat(),
        b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\0\x85q\x09".to_vec(),
        [text("b"), b"q\x0a\x87q\x0bRq\x0c(K\x01K".to_vec(), vec![count]].concat(),
        b"M\0\x0c\x86q\x0dcnumpy\ndtype\nq\x0e".to_vec(),
        [text("u1"), b"q\x0fK\0K\x01\x87q\x10Rq\x11(K\x03".to_vec(), text("|")].concat(),
        b"q\x12NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tq\x13b\x89T".to_vec(),
        [(pixels.len() as u32).to_le_bytes().to_vec(), pixels, b"q\x14tq\x15bu.".to_vec()].concat(),
    ]
    .concat()
}

fn write(dir: &Path, name: &str, bytes: &[u8]) {
    let file = dir.join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, bytes).unwrap();
}

fn pack(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gz);
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// The six files of CIFAR-10, a record each but for the first, which has two.
fn ten(file: impl Fn(&[u8]) -> Vec<u8>, end: &str) -> Vec<(String, Vec<u8>)> {
    let (train, test) = Cifar::Ten.files();
    let labels: [&[u8]; 5] = [&[6, 9], &[1], &[2], &[3], &[4]];
    let names = train.iter().zip(labels);
    let mut files: Vec<_> = names.map(|(n, l)| (format!("in/{n}{end}"), file(l))).collect();
    files.push((format!("in/{test}{end}"), file(&[5])));
    files
}

fn check(dir: &Path, source: &str) {
    let (train, test) = open(Cifar::Ten, dir).unwrap();
    assert_eq!((train.labels(), test.labels()), (&[6, 9, 1, 2, 3, 4][..], &[5][..]));
    let second = train.picture(1).unwrap();
    assert_eq!((second.shape, &second.bytes[..]), (SHAPE, &picture(9, 1)[..]));
    assert!(train.source.contains(source), "{} has no {source}", train.source);
    assert_eq!((train.classes[9].as_str(), train.classes.len()), ("truck", 10));
}

#[test]
fn every_form_gives_the_same_pictures_and_an_earlier_form_is_preferred() {
    let dir = tempfile::tempdir().unwrap();
    let python = |labels: &[u8]| python_file(labels, "labels");
    write(dir.path(), "cifar-10-python.tar.gz", &pack(&ten(python, "")));
    check(dir.path(), "cifar-10-python.tar.gz");
    for (name, bytes) in ten(python, "") {
        write(dir.path(), &name.replace("in", "cifar10/cifar-10-batches-py"), &bytes);
    }
    check(dir.path(), "cifar-10-batches-py");
    write(dir.path(), "cifar10/cifar-10-binary.tar.gz", &pack(&ten(binary_file, ".bin")));
    check(dir.path(), "cifar-10-binary.tar.gz");
    for (name, bytes) in ten(binary_file, ".bin") {
        write(dir.path(), &name.replace("in/", "cifar10/"), &bytes);
    }
    check(dir.path(), "cifar10");
}

#[test]
fn cifar_100_has_two_labels_a_record_and_the_fine_one_counts() {
    let dir = tempfile::tempdir().unwrap();
    let file = |label| [vec![3, label], picture(label, 0)].concat();
    write(dir.path(), "cifar-100-binary/train.bin", &file(99));
    write(dir.path(), "cifar-100-binary/test.bin", &file(90));
    let (train, test) = open(Cifar::Hundred, dir.path()).unwrap();
    assert_eq!((train.labels(), test.labels()), (&[99][..], &[90][..]));
    assert_eq!(train.classes[90], "train");
    assert!(HUNDRED.is_sorted() && TEN.is_sorted());
    let python = python_file(&[99], "fine_labels");
    let read = python::parse(&python, true, Path::new("train")).unwrap();
    assert_eq!(read, (vec![99], picture(99, 0)));
}

#[test]
fn pictures_by_class_take_turns_and_other_classes_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let png = crate::data::picture::tests::png(32, 32);
    for split in ["train", "test"] {
        for (class, name) in TEN.iter().flat_map(|class| [(class, "0.png"), (class, "1.png")]) {
            write(dir.path(), &format!("cifar10/{split}/{class}/{name}"), &png);
        }
    }
    let (train, _) = open(Cifar::Ten, dir.path()).unwrap();
    assert_eq!(train.labels()[..11], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]);
    assert!(train.source.ends_with("(recompressed pictures)"), "{}", train.source);
    write(dir.path(), "cifar10/train/cat/2.webp", b"RIFF");
    let (train, _) = open(Cifar::Ten, dir.path()).unwrap();
    assert_eq!((train.len(), train.passed_over().count(".webp")), (20, 1));
    assert!(train.source.ends_with("(passed over: 1 .webp)"), "{}", train.source);
    write(dir.path(), "cifar10/test/lorry/0.png", &png);
    let error = open(Cifar::Ten, dir.path()).unwrap_err().to_string();
    assert!(error.contains("expected the 10 classes airplane, automobile"), "{error}");
    assert!(error.contains("got 11 classes"), "{error}");
}

#[test]
fn a_part_of_a_batch_is_split_four_to_one() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "data_batch_1-first6.bin", &binary_file(&[0, 1, 2, 3, 4, 5]));
    let (train, test) = open(Cifar::Ten, dir.path()).unwrap();
    assert_eq!((train.labels(), test.labels()), (&[0, 1, 2, 3][..], &[4, 5][..]));
    assert!(train.source.contains("a part"), "{}", train.source);
}

#[test]
fn faults_name_the_file_and_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    let message = || open(Cifar::Ten, dir.path()).unwrap_err().to_string();
    assert!(message().contains("cifar-10-binary.tar.gz, cifar-10-python.tar.gz"), "{}", message());
    write(dir.path(), "data_batch_1-first2.bin", &[]);
    assert!(message().ends_with("expected records of 3073 bytes, at least one, got 0 bytes"));
    write(dir.path(), "data_batch_1-first2.bin", &binary_file(&[0, 10]));
    assert!(message().ends_with("expected labels below 10, got 10 in record 1"));
    write(dir.path(), "cifar-10-python.tar.gz", &pack(&[("x".into(), vec![1])]));
    assert!(message().contains("expected the files data_batch_1, data_batch_2"), "{}", message());
    let whole = python_file(&[1, 2], "labels");
    let said = |bytes: &[u8]| python::parse(bytes, false, Path::new("p")).unwrap_err().to_string();
    assert!(said(&whole[..4000]).starts_with("p: expected a pickle of a CIFAR batch, got"));
    let other = python_file(&[1, 2], "fine_labels");
    assert!(said(&other).starts_with("p: expected `labels`, a list of numbers, got"));
    let wrong = [python_file(&[1], "labels")].concat();
    let more = wrong.windows(2).position(|w| w == [b'(', b'K']).unwrap();
    let mut wrong = wrong;
    wrong.splice(more + 1..more + 1, [b'K', 3]);
    assert!(said(&wrong).contains("`data` of 2 rows of 3072"), "{}", said(&wrong));
}

#[test]
fn an_archive_that_climbs_out_or_ends_early_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cifar-10-python.tar");
    let gz = pack(&[("ok/data_batch_1".into(), vec![1; 600])]);
    let plain = crate::data::file::take(
        crate::data::file::gunzipped(&gz[..], &file, 20).unwrap(),
        1 << 20,
        &file,
    )
    .unwrap();
    let message = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        Tree::open(&file).unwrap_err().to_string()
    };
    let renamed = |name: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(600);
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_cksum();
        [header.as_bytes().to_vec(), plain[512..].to_vec()].concat()
    };
    for name in [&b"../../etc/passwd"[..], b"/etc/passwd", b"a/../../b"] {
        let said = message(&renamed(name));
        assert!(said.contains("expected paths that stay inside the archive"), "{said}");
    }
    assert!(message(&plain[..800]).contains("expected 600 bytes, got 288 bytes"));
    assert!(message(b"").contains("a tar archive with files"));
    assert!(message(&[7; 1024]).contains("expected a tar archive, gzipped or not"));
    let mut claim = plain.clone();
    let mut header = tar::Header::new_gnu();
    header.set_path("big").unwrap();
    header.set_size(3 << 30);
    header.set_cksum();
    claim.splice(..512, header.as_bytes().iter().copied());
    assert!(message(&claim).contains("expected 3221225472 bytes"), "{}", message(&claim));
}

#[test]
fn the_real_files_give_the_published_counts() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/cifar10");
    if !dir.is_dir() {
        eprintln!("skipped: {} is not there", dir.display());
        return;
    }
    // The exact part: 4,000 records of the first batch.
    let (train, test) = part_form(Cifar::Ten, &dir).unwrap().unwrap();
    assert_eq!((train.len(), test.len()), (3200, 800));
    assert_eq!(train.labels()[..10], [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]);
    let mut counts = [0; 10];
    for images in [&train, &test] {
        images.labels().iter().for_each(|&label| counts[label as usize] += 1);
    }
    assert_eq!(counts, [396, 366, 420, 384, 422, 393, 414, 385, 407, 413]);
    // The recompressed test archive, where the moments of the test set are near the train set's.
    let tree = Tree::open(&dir.join("cifar10-test-jpegq75.tar.gz")).unwrap();
    let images = image_folder::classes_of("cifar10", &tree).unwrap().interleaved();
    assert_eq!((images.len(), images.classes.len()), (10_000, 10));
    let some = images.range(0, 500).unwrap().in_memory().unwrap().moments().unwrap();
    let expected = Cifar::Ten.normalise();
    for (got, expected) in some.mean.iter().zip(&expected.mean) {
        assert!((got - expected).abs() < 0.03, "{got} for {expected}");
    }
}
