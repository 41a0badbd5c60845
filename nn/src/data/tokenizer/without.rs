//! A program that was built without the feature `bpe`: there is no byte-pair encoding, and each way to one says so.

use std::path::Path;

use engine::{Error, Result};
use serde_json::Value;

use super::super::file::misfit;

const EXPECTED: &str =
    "a tokenizer of bytes, characters or words (byte-pair encodings are the feature `bpe`)";

/// None.
#[derive(Debug, Clone)]
#[cfg_attr(
    test,
    allow(dead_code, reason = "tests have the feature; what it lacks has a test here")
)]
pub(super) enum Bpe {}

#[cfg_attr(test, allow(dead_code, reason = "as above"))]
impl Bpe {
    pub(super) fn train(_: &str, vocabulary: usize) -> Result<Self> {
        Err(Error::Argument {
            op: "train_bpe",
            name: "vocabulary",
            expected: "in a program with the feature `bpe`",
            got: vocabulary.to_string(),
        })
    }

    pub(super) fn of_json(_: &Value, file: &Path) -> Result<Self> {
        Err(misfit(file, EXPECTED, "another"))
    }

    pub(super) fn of_gpt2(folder: &Path) -> Result<Self> {
        Err(misfit(folder, EXPECTED, "GPT-2's"))
    }

    pub(super) const fn to_json(&self, _: &Path) -> Result<String> {
        match *self {}
    }

    pub(super) const fn not_applied(&self) -> &[&'static str] {
        match *self {}
    }

    pub(super) const fn vocabulary(&self) -> usize {
        match *self {}
    }

    pub(super) const fn encode(&self, _: &str) -> Result<Vec<i64>> {
        match *self {}
    }

    pub(super) const fn decode(&self, _: &[i64]) -> Result<String> {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_a_byte_pair_encoding_names_the_feature_that_it_needs() {
        let said = |error: Error| error.to_string();
        assert!(said(Bpe::train("abab", 300).unwrap_err()).contains("the feature `bpe`"));
        let file = Path::new("x/tokenizer.json");
        let json = said(Bpe::of_json(&Value::Null, file).unwrap_err());
        assert!(json.starts_with("x/tokenizer.json: ") && json.contains("the feature `bpe`"));
        let folder = said(Bpe::of_gpt2(Path::new("gpt2")).unwrap_err());
        assert!(folder.starts_with("gpt2: ") && folder.contains("the feature `bpe`"));
    }
}
