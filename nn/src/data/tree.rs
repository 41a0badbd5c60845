//! A folder or a tar archive, seen as a list of files with relative paths: what reads data sets
//! need not know in which of the two they came.

use std::borrow::Cow;
use std::fs;
use std::io::Cursor;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use engine::{Error, Result};

use super::file::{self, misfit, unreadable};

/// Folders within folders.
const DEPTH: usize = 6;

/// The largest file inside an archive that is kept.
const MAX_ENTRY: u64 = 512 << 20;

/// Where a file's bytes are.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// On disk.
    Disk(PathBuf),
    /// From an archive: the name to say in errors, and the bytes.
    Memory(PathBuf, Arc<[u8]>),
}

impl Place {
    /// The name to say in errors.
    pub(super) fn file(&self) -> &Path {
        match self {
            Self::Disk(file) | Self::Memory(file, _) => file,
        }
    }

    /// The bytes as they are.
    pub(super) fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        match self {
            Self::Disk(file) => fs::read(file).map(Cow::Owned).map_err(|e| Error::io(file, e)),
            Self::Memory(_, bytes) => Ok(Cow::Borrowed(bytes)),
        }
    }

    /// The bytes, at most `limit` of them, gunzipped if they are gzipped.
    pub(super) fn plain(&self, limit: u64) -> Result<Vec<u8>> {
        match self {
            Self::Disk(file) => file::read(file, limit),
            Self::Memory(name, bytes) => {
                let size = bytes.len() as u64;
                file::take(file::stream(Cursor::new(bytes.clone()), size, name)?, limit, name)
            }
        }
    }
}

/// Files by relative path, `a/b/c.jpg`, sorted.
#[derive(Debug)]
pub(super) struct Tree {
    /// The folder or archive.
    pub(super) root: PathBuf,
    pub(super) files: Vec<(String, Place)>,
}

impl Tree {
    /// A folder, or a tar archive that may be gzipped.
    pub(super) fn open(root: &Path) -> Result<Self> {
        if root.is_dir() { Self::folder(root, DEPTH) } else { Self::archive(root) }
    }

    /// The files of a folder and of at most `depth` levels of folders in it.
    pub(super) fn folder(root: &Path, depth: usize) -> Result<Self> {
        let mut files = Vec::new();
        walk(root, "", depth, &mut files)?;
        files.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Self { root: root.to_owned(), files })
    }

    /// The files of a tar archive, gzipped or not, held in memory as they are.
    pub(super) fn archive(root: &Path) -> Result<Self> {
        let broken = |e: std::io::Error| match unreadable(root, e) {
            Error::File { got, .. } => misfit(root, "a tar archive, gzipped or not", got),
            Error::Io { source, .. } if source.raw_os_error().is_none() => {
                misfit(root, "a tar archive, gzipped or not", source.to_string())
            }
            other => other,
        };
        let mut archive = tar::Archive::new(file::open(root)?);
        let mut files = Vec::new();
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path = entry.path().map_err(broken)?.into_owned();
            let name = relative(&path).ok_or_else(|| {
                misfit(root, "paths that stay inside the archive", format!("`{}`", path.display()))
            })?;
            let shown = root.join(&name);
            let size = entry.size();
            let bytes = file::take(&mut entry, MAX_ENTRY, &shown)?;
            if bytes.len() as u64 != size {
                let got = format!("{} bytes: the archive ends early", bytes.len());
                return Err(misfit(&shown, format!("{size} bytes"), got));
            }
            files.push((name, Place::Memory(shown, bytes.into())));
        }
        if files.is_empty() {
            return Err(misfit(root, "a tar archive with files", "none in it"));
        }
        files.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Self { root: root.to_owned(), files })
    }

    /// The file whose path is `name` or ends in `/name`.
    pub(super) fn find(&self, name: &str) -> Option<&Place> {
        let is = |path: &str| {
            path.strip_suffix(name).is_some_and(|head| head.is_empty() || head.ends_with('/'))
        };
        self.files.iter().find(|(path, _)| is(path)).map(|(_, place)| place)
    }
}

/// A path inside an archive as `a/b/c`; none if it is absolute, climbs, or is not text.
fn relative(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// Hidden files and names that are not text are passed over.
fn walk(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<(String, Place)>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|name| !name.starts_with('.')) else { continue };
        if !path.is_dir() {
            files.push((format!("{prefix}{name}"), Place::Disk(path)));
        } else if depth > 0 {
            walk(&path, &format!("{prefix}{name}/"), depth - 1, files)?;
        }
    }
    Ok(())
}
