//! Text files that prove themselves: JSON whose last field is the CRC-32 of all that stands before it.
//!
//! So whatever bit of such a file is another one is noticed (decision 0048). A number, `format`, says which
//! version of this library can read the rest; it is looked at when the file has proved whole.

use std::path::Path;

use engine::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The format of run records, snapshots and best models that this version writes.
pub(crate) const FORMAT: u32 = 2;

/// What stands before the checksum.
const PROOF: &str = "\"proof\":\"";
/// And after it.
const END: &str = "\"}\n";

/// A file's checksum as it is written.
pub(crate) fn crc32(bytes: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(bytes))
}

/// An object as the text of a file, with its format and its proof.
pub(crate) fn closed<T: Serialize>(file: &Path, object: &T) -> Result<Vec<u8>> {
    let text = serde_json::to_string_pretty(object).map_err(|e| Error::io(file, e.into()))?;
    let fields = text.strip_prefix('{').and_then(|t| t.strip_suffix("\n}")).unwrap_or_default();
    let body = format!("{{\n  \"format\": {FORMAT},{fields},\n  ");
    Ok(format!("{body}{PROOF}{}{END}", crc32(body.as_bytes())).into_bytes())
}

/// The object in a file.
///
/// # Errors
/// [`Error::File`] when a byte of it is not what was written, [`Error::Format`] when another version wrote it.
pub(crate) fn open<T: DeserializeOwned>(file: &Path, bytes: &[u8]) -> Result<T> {
    let damaged = |got: String| Error::File {
        file: file.to_owned(),
        expected: "a file whose checksum is right".into(),
        got,
    };
    let text = std::str::from_utf8(bytes).map_err(|e| damaged(e.to_string()))?;
    let version = |found: String| Error::Format { file: file.to_owned(), found, known: FORMAT };
    let Some((body, proof)) = text.rsplit_once(PROOF) else {
        // Before format 2 there were no proofs.
        return match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(old)) if !old.contains_key("format") => Err(version("1".into())),
            _ => Err(damaged("one without an end".into())),
        };
    };
    if proof.strip_suffix(END) != Some(&crc32(body.as_bytes())) {
        return Err(damaged(format!(
            "one that says {}",
            proof.trim_end().trim_end_matches(['"', '}'])
        )));
    }
    let value: Value = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
    match value.get("format").and_then(Value::as_u64) {
        Some(format) if format == u64::from(FORMAT) => {
            serde_json::from_value(value).map_err(|e| damaged(e.to_string()))
        }
        other => Err(version(other.map_or_else(|| "none".into(), |n| n.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_and_every_length_of_a_closed_file_is_proved() {
        let (file, object) = (Path::new("a.json"), vec![("rate".to_owned(), 0.1)]);
        let object = std::collections::BTreeMap::from([("settings", object)]);
        let bytes = closed(file, &object).unwrap();
        let read: Value = open(file, &bytes).unwrap();
        assert_eq!(read["settings"][0][1], 0.1);
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let opened = open::<Value>(file, &flipped);
            assert!(matches!(opened, Err(Error::File { .. })), "bit {bit}: {opened:?}");
        }
        for length in 0..bytes.len() {
            let opened = open::<Value>(file, &bytes[..length]);
            assert!(matches!(opened, Err(Error::File { .. })), "{length} bytes: {opened:?}");
        }
    }

    #[test]
    fn another_version_is_named_and_not_taken_for_damage() {
        let file = Path::new("run.json");
        let opened = open::<Value>(file, b"{ \"name\": \"adam\", \"settings\": [] }");
        assert!(matches!(opened, Err(Error::Format { known: FORMAT, .. })), "{opened:?}");
        let body = "{ \"format\": 3, ";
        let later = format!("{body}{PROOF}{}{END}", crc32(body.as_bytes()));
        let opened = open::<Value>(file, later.as_bytes());
        assert!(matches!(&opened, Err(Error::Format { found, .. }) if found == "3"), "{opened:?}");
    }
}
