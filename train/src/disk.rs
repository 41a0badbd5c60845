//! What a run's folder asks of the disk: that a file is the old or the new one, that a folder which was made is
//! there after a power cut, and that nothing damaged is thrown away.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use engine::{Error, Result};

pub(crate) use nn::checkpoint::write_whole;

/// Makes a folder and those above it, each written down in its parent.
pub(crate) fn make_folder(folder: &Path) -> Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(Path::new(""));
    make_folder(parent)?;
    match fs::create_dir(folder) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(Error::io(folder, e)),
        _ => sync_folder(parent),
    }
}

/// Waits until the names in a folder are on the disk. Windows writes them with the files.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(|e| Error::io(folder, e))?;
    }
    Ok(())
}

/// Waits until what was added to a file is on the disk, if the file is there.
pub(crate) fn sync(file: &Path) -> Result<()> {
    match File::options().append(true).open(file) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        open => open.and_then(|f| f.sync_all()).map_err(|e| Error::io(file, e)),
    }
}

/// A name beside a file's that nobody has: `step-3.json.damaged`, `step-3.json.damaged-2`, …
pub(crate) fn beside(file: &Path) -> PathBuf {
    let name = |n: u32| {
        let mut name = file.as_os_str().to_owned();
        name.push(if n == 1 { ".damaged".to_owned() } else { format!(".damaged-{n}") });
        PathBuf::from(name)
    };
    (1..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(1))
}

/// Keeps a damaged file under another name.
pub(crate) fn set_aside(file: &Path) -> Result<PathBuf> {
    let kept = beside(file);
    fs::rename(file, &kept).map_err(|e| Error::io(file, e))?;
    sync_folder(kept.parent().unwrap_or(Path::new("")))?;
    Ok(kept)
}

/// Whether an error says something about a file, and not about the process that reads it: without memory, file
/// descriptors or permission a whole file cannot be read, and is none the worse for it.
pub(crate) fn is_damage(error: &Error) -> bool {
    match error {
        Error::OutOfMemory { .. } => false,
        Error::Io { source, .. } => {
            let of_process = [ErrorKind::OutOfMemory, ErrorKind::PermissionDenied];
            let descriptors = cfg!(unix) && [Some(23), Some(24)].contains(&source.raw_os_error());
            !of_process.contains(&source.kind()) && !descriptors
        }
        _ => true,
    }
}

/// Removes a file, if it is there.
pub(crate) fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(file, e)),
        _ => Ok(()),
    }
}

/// The files in a folder, by name; none of a folder that is not there.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|e| Error::io(folder, e))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a file is what [`write_whole`] leaves behind when its process is killed. (With the run's lock in
/// hand, no process that lives is writing it.)
pub(crate) fn is_leftover(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let letters = name.strip_prefix(".tmp").unwrap_or_default();
    letters.len() == 6 && letters.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_never_takes_the_place_of_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a/b/metrics.jsonl");
        make_folder(file.parent().unwrap()).unwrap();
        for n in 0..3 {
            fs::write(&file, [n]).unwrap();
            assert_eq!(fs::read(set_aside(&file).unwrap()).unwrap(), [n]);
        }
        assert_eq!(files(&dir.path().join("a/b")).unwrap().len(), 3);
        assert!(files(&dir.path().join("c")).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_this_process_cannot_read_is_not_taken_for_a_damaged_one() {
        let io = |kind| Error::io("step-3.json", std::io::Error::from(kind));
        // ENFILE and EMFILE.
        let descriptors = [23, 24].map(|n| Error::io("a", std::io::Error::from_raw_os_error(n)));
        let process = [io(ErrorKind::OutOfMemory), io(ErrorKind::PermissionDenied)];
        let memory = [Error::OutOfMemory { op: "checkpoint", bytes: 7 }];
        let others = process.iter().chain(&memory);
        assert!(!others.chain(descriptors.iter().filter(|_| cfg!(unix))).any(is_damage));
        let wrong = Error::File { file: "a".into(), expected: "b".into(), got: "c".into() };
        assert!([io(ErrorKind::NotFound), io(ErrorKind::Other), wrong].iter().all(is_damage));
    }

    #[test]
    fn only_what_a_killed_process_leaves_is_taken_for_it() {
        assert!(is_leftover(Path::new("runs/.tmpaB3x9Q")));
        for other in [".tmp", ".tmp-notes", "tmpaB3x9Q", ".tmpaB3x9Q.txt", "run.json"] {
            assert!(!is_leftover(Path::new(other)), "{other}");
        }
    }
}
