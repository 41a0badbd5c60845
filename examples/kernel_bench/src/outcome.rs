//! What was found out about a rung, and the file with all of it.

use std::fs;
use std::path::{Path, PathBuf};

use alcyon::prelude::*;
use serde::Serialize;

use crate::ceilings::Ceilings;
use crate::measure::Machine;

/// One rung at one shape.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    pub(crate) kernel: &'static str,
    pub(crate) rung: &'static str,
    pub(crate) shape: Vec<usize>,
    /// The median of one run.
    pub(crate) seconds: f64,
    /// Runs of a sample.
    pub(crate) runs: usize,
    pub(crate) flops: f64,
    pub(crate) bytes: f64,
    /// Of what is within reach of as many bytes.
    pub(crate) share: f64,
    /// From the reference, relative to the larger of 1 and the number.
    pub(crate) difference: f64,
    /// On a GPU.
    pub(crate) launches: Option<u64>,
}

impl Outcome {
    pub(crate) fn flops_per_second(&self) -> f64 {
        self.flops / self.seconds
    }

    pub(crate) fn bytes_per_second(&self) -> f64 {
        self.bytes / self.seconds
    }

    /// Operations a byte.
    pub(crate) fn intensity(&self) -> f64 {
        self.flops / self.bytes
    }
}

/// `results.json`.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) dtype: &'static str,
    pub(crate) ceilings: &'a Ceilings,
    pub(crate) outcomes: &'a [Outcome],
}

impl Report<'_> {
    /// Writes it into a folder that exists.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join("results.json");
        let failed = |e: std::io::Error| Error::io(&path, e);
        let all = serde_json::json!({
            "device": self.machine.name(),
            "dtype": self.dtype,
            "ceilings": self.ceilings,
            "kernels": self.outcomes,
        });
        let text = serde_json::to_string_pretty(&all).map_err(|e| failed(e.into()))?;
        fs::write(&path, text).map_err(failed)?;
        Ok(path)
    }
}
