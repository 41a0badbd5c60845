//! Where NVIDIA's libraries are.
//!
//! The system's loader knows the folders of a toolkit or a driver. It does not know those of
//! NVIDIA's Python wheels, which carry everything that is needed. So the folders in one environment
//! variable are searched first, and what is found there is loaded by its full path; a later search
//! by name is answered by the library that is loaded under that name already.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, TryLockError};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

/// The environment variable: folders, separated as in `PATH`. A folder `nvidia` of Python wheels
/// stands for all `lib` folders in it.
pub const FOLDERS: &str = "ALCYON_CUDA_LIBRARIES";

/// What is looked for, each after the ones it needs itself.
const STEMS: [&str; 7] = [
    "libcuda",
    "libnvJitLink",
    "libnvrtc-builtins",
    "libnvrtc",
    "libcublasLt",
    "libcublas",
    "libcudnn",
];

#[derive(Debug)]
struct Search {
    /// Folders named by the program.
    named: Vec<PathBuf>,
    /// Files that were tried: loaded or not.
    tried: Option<Vec<PathBuf>>,
}

static SEARCH: Mutex<Search> = Mutex::new(Search { named: Vec::new(), tried: None });

/// Names a folder to be searched before those of [`FOLDERS`]. To be called before anything else of
/// this module's parent, since libraries are loaded once: returns whether it came in time.
pub fn search_in(folder: impl Into<PathBuf>) -> bool {
    let mut search = match SEARCH.try_lock() {
        Ok(search) => search,
        Err(TryLockError::Poisoned(search)) => search.into_inner(),
        // Somebody is loading libraries already, perhaps one that never comes back.
        Err(TryLockError::WouldBlock) => return false,
    };
    search.named.push(folder.into());
    search.tried.is_none()
}

/// Loads what the named folders hold; at the first call only. Returns the files tried.
pub fn preload() -> Vec<PathBuf> {
    let mut search = SEARCH.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(tried) = &search.tried {
        return tried.clone();
    }
    let mut tried = Vec::new();
    let folders = folders(&search.named, std::env::var_os(FOLDERS));
    for stem in STEMS {
        for file in folders.iter().flat_map(|folder| versions(folder, stem)) {
            tried.push(file.clone());
            // SAFETY: runs the initialisers of a library of NVIDIA's (or of the emulator of it),
            // which have no preconditions. It is never unloaded.
            if let Ok(library) = unsafe { Library::open(Some(&file), RTLD_NOW | RTLD_LOCAL) } {
                std::mem::forget(library);
                break;
            }
        }
    }
    search.tried = Some(tried.clone());
    tried
}

/// The folders to search: as named, and below each the `*/lib` of Python wheels.
fn folders(named: &[PathBuf], variable: Option<OsString>) -> Vec<PathBuf> {
    let variable = variable.unwrap_or_default();
    let all = named.iter().cloned().chain(std::env::split_paths(&variable));
    let mut found = Vec::new();
    for folder in all.filter(|folder| !folder.as_os_str().is_empty()) {
        let mut wheels: Vec<PathBuf> = entries(&folder).map(|entry| entry.join("lib")).collect();
        wheels.retain(|wheel| wheel.is_dir());
        wheels.sort();
        found.push(folder);
        found.append(&mut wheels);
    }
    found
}

/// The files of a folder that are versions of one library, the shortest name first.
fn versions(folder: &Path, stem: &str) -> Vec<PathBuf> {
    let prefix = format!("{stem}.so");
    let is_version = |file: &PathBuf| {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
        name.and_then(|name| {
            name.strip_prefix(&prefix).map(|rest| rest.is_empty() || rest.starts_with('.'))
        })
        .unwrap_or(false)
    };
    let mut files: Vec<PathBuf> = entries(folder).filter(is_version).collect();
    files.sort();
    files
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wheels_are_found_below_their_folder_and_versions_by_their_stem() {
        let root = std::env::temp_dir().join(format!("alcyon-libraries-{}", std::process::id()));
        let wheel = root.join("cu13").join("lib");
        std::fs::create_dir_all(&wheel).unwrap();
        for name in ["libnvrtc.so.13", "libnvrtc-builtins.so.13.0", "libnvrtc.txt"] {
            std::fs::write(wheel.join(name), "").unwrap();
        }
        let folders = folders(&[], Some(root.clone().into_os_string()));
        assert_eq!(folders, [root.clone(), wheel.clone()]);
        assert_eq!(versions(&wheel, "libnvrtc"), [wheel.join("libnvrtc.so.13")]);
        assert!(versions(&wheel, "libcublas").is_empty());
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn no_folder_at_all_is_no_search_of_the_working_directory() {
        assert!(folders(&[], Some(OsString::new())).is_empty());
        assert!(folders(&[], None).is_empty());
    }
}
