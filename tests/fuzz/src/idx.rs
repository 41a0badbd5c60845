//! IDX files, gzipped or not.

use std::io::Write;
use std::path::Path;

use alcyon::nn::data::idx::{self, Idx};
use flate2::{Compression, write::GzEncoder};

use super::{accepted, read_again};

/// An array has as many bytes as its shape says; written again, gzipped or not, it is read equal; and pictures with
/// labels are refused or have both.
pub fn idx(bytes: &[u8]) -> bool {
    let file = Path::new("pictures.idx");
    let Some(array) = accepted(Idx::parse(bytes, file), file) else { return false };
    assert_eq!(array.shape.numel(), array.bytes.len());
    let plain = written(&array);
    for written in [gzipped(&plain), plain] {
        let again = read_again(Idx::parse(&written[..], file));
        assert_eq!((again.shape, &again.bytes), (array.shape, &array.bytes));
    }
    let count = array.shape.first().map_or(0, |&n| n.min(array.bytes.len()));
    let labels = Idx { shape: [count].into(), bytes: vec![9; count], ..array.clone() };
    if let Ok(images) = idx::images("x", array.clone(), &labels, 10) {
        assert_eq!((images.len(), array.shape.rank()), (array.shape[0], 3));
    }
    let _ = idx::images("x", labels, &array, 3);
    true
}

fn written(array: &Idx) -> Vec<u8> {
    let sizes = array.shape.iter().flat_map(|&size| (size as u32).to_be_bytes());
    let head = [0, 0, 8, array.shape.rank() as u8].into_iter().chain(sizes);
    head.chain(array.bytes.iter().copied()).collect()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
