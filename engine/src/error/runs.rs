//! Sentences about the folder of a run: why it is refused, and the ways out.

use std::path::{Path, PathBuf};

/// What to do about a folder that is refused.
pub(super) const WAYS_OUT: &str = "start over (`--fresh`), or use another folder (`--out`)";

pub(super) fn settings(
    folder: &Path,
    differences: &[(String, String, String)],
    stretched: bool,
) -> String {
    let difference =
        |(name, was, asked): &(String, String, String)| format!("{name}: {was} → {asked}");
    let list = differences.iter().map(difference).collect::<Vec<_>>().join("; ");
    let folder = folder.display();
    if stretched {
        return format!(
            "{folder}: the schedule is stretched over the budget ({list}): go on with `--extend`, and the rates of the steps that are left change; {WAYS_OUT}"
        );
    }
    format!(
        "{folder}: the run in it has other settings ({list}): go on with those it has, {WAYS_OUT}"
    )
}

pub(super) fn lost(folder: &Path, files: &[(PathBuf, String)]) -> String {
    let name = |file: &Path| file.strip_prefix(folder).unwrap_or(file).display().to_string();
    let list = files.iter().map(|(file, wrong)| format!("{}: {wrong}", name(file)));
    let list = list.collect::<Vec<_>>().join("; ");
    format!("{}: nothing that the run saved is whole ({list}): {WAYS_OUT}", folder.display())
}
