//! The Python format: a pickled dictionary of `data`, a NumPy array `[N, 3072]` of bytes, and
//! `labels` (CIFAR-100: `fine_labels`), a list of N numbers.

use std::path::Path;

use engine::{Result, room};

use super::super::file::misfit;
use super::SIZE;
use super::pickle::Pickle;

/// Labels and pixels; `file` is named in errors.
pub(super) fn parse(bytes: &[u8], hundred: bool, file: &Path) -> Result<(Vec<i64>, Vec<u8>)> {
    let (key, classes) = if hundred { ("fine_labels", 100) } else { ("labels", 10) };
    let pickle =
        Pickle::parse(bytes).map_err(|said| misfit(file, "a pickle of a CIFAR batch", said))?;
    let missing = |what: String| misfit(file, what, "a pickle without it");
    let labels = pickle.get(key).and_then(|node| pickle.ints(node));
    let labels = labels.ok_or_else(|| missing(format!("`{key}`, a list of numbers")))?;
    let data = pickle.get("data").and_then(|node| pickle.array(node));
    let (shape, pixels) = data.ok_or_else(|| missing("`data`, an array of bytes".into()))?;
    let count = labels.len();
    if count == 0 {
        return Err(misfit(file, format!("`{key}` of at least one record"), "none"));
    }
    if shape != [count as i64, SIZE as i64] || pixels.len() != count * SIZE {
        let expected = format!("`data` of {count} rows of {SIZE}, one for each label");
        return Err(misfit(file, expected, format!("{shape:?} in {} bytes", pixels.len())));
    }
    if let Some(at) = labels.iter().position(|label| !(0..classes).contains(label)) {
        let expected = format!("labels below {classes}");
        return Err(misfit(file, expected, format!("{} in record {at}", labels[at])));
    }
    Ok((labels, room::collect("cifar", pixels.iter().copied())?))
}
