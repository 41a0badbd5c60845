//! The stock of snapshots in a folder: which are whole, what is damaged, and what is left of dead processes.

use std::path::{Path, PathBuf};

use engine::{Error, Result};

use crate::disk::{files, is_damage, is_leftover};
use crate::snapshot::Manifest;

/// All files of a folder of snapshots, sorted out. Nothing is changed.
#[derive(Debug, Default)]
pub(crate) struct Stock {
    /// Those whose manifest and parts have their checksums, oldest first.
    pub(crate) whole: Vec<Manifest>,
    /// Files that have not, and the parts that went with them.
    pub(crate) damaged: Vec<(PathBuf, Error)>,
    /// Files that were found damaged before and kept.
    pub(crate) kept: Vec<PathBuf>,
    /// Files of snapshots that another version wrote.
    pub(crate) foreign: Vec<(PathBuf, Error)>,
    /// Parts that no manifest names, with their steps.
    orphans: Vec<(PathBuf, u64)>,
    /// Temporary files.
    leftovers: Vec<PathBuf>,
}

impl Stock {
    /// Reads all of them.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder is there and it, or a file in it, cannot be read by this process.
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        let (mut stock, mut parts) = (Self::default(), Vec::new());
        for file in files(folder)? {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if is_leftover(&file) {
                stock.leftovers.push(file);
            } else if name.contains(".damaged") {
                stock.kept.push(file);
            } else if let Some(step) = between(name, "step-", ".json").and_then(|s| s.parse().ok())
            {
                stock.sort_manifest(folder, file, step)?;
            } else if let Some(inner) = between(name, "step-", ".safetensors") {
                match (inner.split_once('-'), inner.parse::<u64>()) {
                    (Some((step, _)), _) => {
                        parts.extend(step.parse().ok().map(|step| (file, step)));
                    }
                    (None, Ok(_)) => {
                        let found = "1".into();
                        let error =
                            Error::Format { file: file.clone(), found, known: crate::seal::FORMAT };
                        stock.foreign.push((file, error));
                    }
                    (None, Err(_)) => {}
                }
            }
        }
        stock.whole.sort_by_key(|manifest| manifest.step);
        let named: Vec<PathBuf> =
            stock.whole.iter().flat_map(|manifest| manifest.paths(folder)).collect();
        parts.retain(|(file, _)| !named.contains(file));
        stock.orphans = parts;
        Ok(stock)
    }

    fn sort_manifest(&mut self, folder: &Path, file: PathBuf, step: u64) -> Result<()> {
        let proved = Manifest::read(&file).and_then(|manifest| {
            manifest.prove(folder)?;
            Ok(manifest)
        });
        match proved {
            Ok(manifest) if manifest.step == step => self.whole.push(manifest),
            Ok(manifest) => {
                let (expected, got) =
                    (format!("the manifest of step {step}"), manifest.step.to_string());
                self.damaged.push((file.clone(), Error::File { file, expected, got }));
            }
            Err(error @ Error::Format { .. }) => self.foreign.push((file, error)),
            Err(error) if is_damage(&error) => self.damaged.push((file, error)),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Why a run cannot go on from what another version saved: a later one, or one before manifests where
    /// nothing is newer.
    pub(crate) fn of_another_version(&self) -> Option<Error> {
        let later = |file: &Path| file.extension().is_some_and(|end| end == "json");
        let mut foreign = self.foreign.iter().rev();
        let found = foreign.find(|(file, _)| later(file) || self.whole.is_empty());
        found.map(|(_, error)| error.clone())
    }

    /// Takes one out that has turned out not to be readable.
    pub(crate) fn withdraw(&mut self, folder: &Path, manifest: &Manifest, error: Error) {
        self.whole.retain(|whole| whole != manifest);
        self.damaged.push((Manifest::path(folder, manifest.step), error));
        self.orphans.extend(manifest.paths(folder).into_iter().map(|path| (path, manifest.step)));
    }

    /// What is to be set aside, and what can go: parts of a snapshot that was never finished, never announced, or
    /// half removed. `saved` is the last step that was announced.
    pub(crate) fn sorted_out(&self, saved: Option<u64>) -> (Vec<(PathBuf, Error)>, Vec<PathBuf>) {
        let (mut aside, mut gone) = (self.damaged.clone(), self.leftovers.clone());
        let oldest = self.whole.first().map_or(0, |manifest| manifest.step);
        for (file, step) in &self.orphans {
            let damaged = Self::steps(&self.damaged).any(|of| of == *step);
            let whole = self.whole.iter().any(|manifest| manifest.step == *step);
            let lost = !whole && *step > oldest && saved.is_some_and(|saved| *step <= saved);
            if damaged || lost {
                let (expected, got) = ("a snapshot that is whole".into(), "a part of none".into());
                aside.push((file.clone(), Error::File { file: file.clone(), expected, got }));
            } else {
                gone.push(file.clone());
            }
        }
        (aside, gone)
    }

    fn steps(damaged: &[(PathBuf, Error)]) -> impl Iterator<Item = u64> {
        damaged.iter().filter_map(|(file, _)| {
            between(file.file_name()?.to_str()?, "step-", ".json")?.parse().ok()
        })
    }
}

fn between<'a>(name: &'a str, before: &str, after: &str) -> Option<&'a str> {
    name.strip_prefix(before)?.strip_suffix(after)
}
