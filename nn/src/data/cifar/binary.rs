//! The binary format: records of a label (CIFAR-100: a coarse one, then the fine one) and 3,072
//! bytes, the red, green and blue planes.

use std::path::Path;

use engine::{Result, room};

use super::super::file::misfit;
use super::SIZE;

/// Labels and pixels of all records; `file` is named in errors.
pub(super) fn parse(bytes: &[u8], hundred: bool, file: &Path) -> Result<(Vec<i64>, Vec<u8>)> {
    let (labels_each, classes) = if hundred { (2, 100) } else { (1, 10) };
    let record = labels_each + SIZE;
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        let expected = format!("records of {record} bytes, at least one");
        return Err(misfit(file, expected, format!("{} bytes", bytes.len())));
    }
    let mut labels = room::empty("cifar", bytes.len() / record)?;
    let mut pixels = room::empty("cifar", bytes.len() / record * SIZE)?;
    for (at, record) in bytes.chunks_exact(record).enumerate() {
        let (head, picture) = record.split_at(labels_each);
        let label = head[labels_each - 1];
        if label >= classes {
            let expected = format!("labels below {classes}");
            return Err(misfit(file, expected, format!("{label} in record {at}")));
        }
        labels.push(i64::from(label));
        pixels.extend_from_slice(picture);
    }
    Ok((labels, pixels))
}
