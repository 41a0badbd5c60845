//! The best model so far, in a file of its own that says which one it is and proves itself.
//!
//! A run that goes on from a snapshot believes what the snapshot says about the best evaluation. The file may be of
//! a later one that the run went back before: that comes again. It may also be damaged or gone; then the next
//! evaluation is the best, and writes it anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use engine::{Error, Parameters, Result};
use nn::checkpoint::{self, Checkpoint};

use crate::disk::write_whole;
use crate::{Best, seal};

/// Keys of the header: score and step, and the checksum of the file with zeros in its place.
const BEST: &str = "train/best";
const PROOF: &str = "train/proof";
const ZEROS: &str = "00000000";

/// Where it is.
pub(crate) fn file(folder: &Path) -> PathBuf {
    folder.join("best.safetensors")
}

/// Writes it, whole.
pub(crate) fn save(folder: &Path, model: &dyn Parameters, best: &Best) -> Result<()> {
    let file = file(folder);
    let which = serde_json::to_string(best).map_err(|e| Error::io(&file, e.into()))?;
    let header = BTreeMap::from([(BEST.to_owned(), which), (PROOF.to_owned(), ZEROS.to_owned())]);
    let mut bytes = checkpoint::encoded(&file, model, &BTreeMap::new(), &header)?;
    let proof = seal::crc32(&bytes);
    let Some(at) = place_of_proof(&bytes) else {
        return Err(misfit(&file, "a header with a proof"));
    };
    bytes[at..at + ZEROS.len()].copy_from_slice(proof.as_bytes());
    write_whole(&file, &bytes)
}

/// Reads which one it is.
///
/// # Errors
/// [`Error::Io`] when it is not there, [`Error::File`] when it is not whole.
pub(crate) fn read(folder: &Path) -> Result<Best> {
    let file = file(folder);
    let mut bytes = fs::read(&file).map_err(|e| Error::io(&file, e))?;
    let which = Checkpoint::decoded(&file, &bytes)?.metadata.remove(BEST).unwrap_or_default();
    let Some(at) = place_of_proof(&bytes) else { return Err(misfit(&file, "no proof")) };
    let proof: Vec<u8> = bytes.splice(at..at + ZEROS.len(), ZEROS.bytes()).collect();
    if proof != seal::crc32(&bytes).as_bytes() {
        return Err(misfit(&file, "another one"));
    }
    serde_json::from_str(&which).map_err(|e| misfit(&file, &e.to_string()))
}

/// The checksum follows its key and `\":\"`, since the header holds JSON as a string.
fn place_of_proof(bytes: &[u8]) -> Option<usize> {
    let before = format!("{PROOF}\\\":\\\"");
    let at = bytes.windows(before.len()).position(|w| w == before.as_bytes())? + before.len();
    (at + ZEROS.len() <= bytes.len()).then_some(at)
}

fn misfit(file: &Path, got: &str) -> Error {
    Error::File {
        file: file.to_owned(),
        expected: "a checksum that is right".into(),
        got: got.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::Rng;

    #[test]
    fn every_bit_and_every_length_of_the_best_model_is_proved() {
        let dir = tempfile::tempdir().unwrap();
        let best = Best { score: 0.875, step: 12 };
        save(dir.path(), &nn::Linear::new(2, 1, &mut Rng::new(0)), &best).unwrap();
        assert_eq!(read(dir.path()).unwrap(), best);
        let path = file(dir.path());
        checkpoint::load(&path, &mut nn::Linear::new(2, 1, &mut Rng::new(1))).unwrap();
        let whole = fs::read(&path).unwrap();
        for bit in 0..8 * whole.len() {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &flipped).unwrap();
            assert!(read(dir.path()).is_err(), "bit {bit}");
        }
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(read(dir.path()).is_err(), "{length} bytes");
        }
    }
}
