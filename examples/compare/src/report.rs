//! `results.json`: everything that was measured, for people who draw their own figures.

use std::fs;
use std::path::{Path, PathBuf};

use alcyon::prelude::*;
use serde::Serialize;

use crate::outcome::{Run, Summary};

/// The whole file.
#[derive(Debug, Serialize)]
pub(crate) struct Report<'a> {
    /// Network, data, budget, schedule, in words.
    pub(crate) protocol: String,
    pub(crate) epochs: Option<usize>,
    pub(crate) seconds: Option<f64>,
    pub(crate) batch_size: usize,
    pub(crate) train_rows: usize,
    pub(crate) test_rows: usize,
    pub(crate) device: String,
    /// What the operating system lets this program use.
    pub(crate) cores: usize,
    /// The closing sentence.
    pub(crate) verdict: &'a str,
    pub(crate) summary: &'a [Summary],
    pub(crate) runs: &'a [Run],
}

impl Report<'_> {
    /// Writes `results.json` into a folder that exists.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join("results.json");
        let failed = |e: std::io::Error| Error::io(&path, e);
        let text = serde_json::to_string(self).map_err(|e| failed(e.into()))?;
        fs::write(&path, text).map_err(failed)?;
        Ok(path)
    }
}
