//! CIFAR-10 as records and as Python's pickles.

use alcyon::nn::data::{Images, open_images};

use super::accepted;
use super::scratch::Scratch;

thread_local!(static SCRATCH: Scratch = Scratch::new());

/// The other files of the set are the same one.
const TRAIN: [&str; 4] = ["data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"];

/// Bytes of a picture.
const SIZE: usize = 3 * 32 * 32;

/// Records are cut as they are announced, and none is lost.
pub fn binary(bytes: &[u8]) -> bool {
    let Some((train, test)) = opened("binary", "cifar-10-batches-bin", ".bin", bytes) else {
        return false;
    };
    // What is gzipped has as many as it says.
    if bytes.len().is_multiple_of(SIZE + 1) {
        let labels: Vec<i64> = bytes.chunks(SIZE + 1).map(|record| i64::from(record[0])).collect();
        assert_eq!(test.labels(), labels);
    }
    sizes(&train, &test);
    true
}

/// A pickle that is accepted says the same as records with its labels and pixels.
pub fn pickle(bytes: &[u8]) -> bool {
    let Some((train, test)) = opened("python", "cifar-10-batches-py", "", bytes) else {
        return false;
    };
    sizes(&train, &test);
    let pixels = test.dataset().unwrap().inputs.to_vec::<f32>().unwrap();
    assert_eq!(pixels.len(), test.len() * SIZE);
    true
}

fn sizes(train: &Images, test: &Images) {
    assert_eq!(train.len(), 5 * test.len());
    assert!(!test.is_empty() && test.labels().iter().all(|label| (0..10).contains(label)));
}

fn opened(dir: &str, folder: &str, end: &str, bytes: &[u8]) -> Option<(Images, Images)> {
    SCRATCH.with(|scratch| {
        let name = |stem: &str| format!("{dir}/{folder}/{stem}{end}");
        let first = name("data_batch_1");
        scratch.write(&first, bytes);
        let others = TRAIN.map(name);
        scratch.link(&first, &others.each_ref().map(String::as_str));
        scratch.link(&first, &[&name("test_batch")]);
        let dir = scratch.path().join(dir);
        accepted(open_images("cifar10", Some(&dir)), &dir)
    })
}
