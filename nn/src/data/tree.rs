//! A folder or a tar archive, seen as a list of files with relative paths: what reads data sets
//! need not know in which of the two they came.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use engine::{Error, Result, room};

use super::PassedOver;
use super::file::{self, misfit, unreadable};
use super::limits::{ARCHIVE_ENTRY, ARCHIVE_EXPANSION, EXPANSION};

/// Folders within folders.
const DEPTH: usize = 6;

/// What is passed over at a folder below these.
const TOO_DEEP: &str = "too deep a folder";

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

    /// The bytes as they are, at most `limit` of them on disk.
    pub(super) fn bytes(&self, limit: u64) -> Result<Cow<'_, [u8]>> {
        match self {
            Self::Disk(file) => file::take(file::regular(file)?, limit, file).map(Cow::Owned),
            Self::Memory(_, bytes) => Ok(Cow::Borrowed(bytes)),
        }
    }

    /// The bytes, at most `limit` of them, gunzipped if they are gzipped.
    pub(super) fn plain(&self, limit: u64) -> Result<Vec<u8>> {
        match self {
            Self::Disk(file) => file::read(file, limit),
            Self::Memory(name, bytes) => {
                file::take(file::gunzipped(&bytes[..], name, EXPANSION)?, limit, name)
            }
        }
    }
}

/// Files by relative path, `a/b/c.jpg`, sorted.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// The folder or archive.
    pub(super) root: PathBuf,
    pub(super) files: Vec<(String, Place)>,
    /// The folders by relative path, also those without files.
    pub(super) folders: BTreeSet<String>,
    /// What is there and is not in `files`.
    pub(super) passed_over: PassedOver,
}

impl Tree {
    /// A folder, or a tar archive that may be gzipped.
    pub(super) fn open(root: &Path) -> Result<Self> {
        if root.is_dir() { Self::folder(root, DEPTH) } else { Self::archive(root) }
    }

    /// The files of a folder and of at most `depth` levels of folders in it. A folder that is reached in
    /// two ways, by a link, is there once.
    pub(super) fn folder(root: &Path, depth: usize) -> Result<Self> {
        let mut tree = Self { root: root.to_owned(), ..Self::default() };
        tree.walk(root, "", depth, &mut HashSet::new())?;
        tree.files.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(tree)
    }

    fn walk(
        &mut self,
        folder: &Path,
        prefix: &str,
        depth: usize,
        seen: &mut HashSet<PathBuf>,
    ) -> Result<()> {
        let io = |e| Error::io(folder, e);
        if !seen.insert(fs::canonicalize(folder).map_err(io)?) {
            self.passed_over.add("a second way to a folder");
            return Ok(());
        }
        let mut entries =
            fs::read_dir(folder).map_err(io)?.collect::<Result<Vec<_>, _>>().map_err(io)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for path in entries.iter().map(fs::DirEntry::path) {
            let name = match wanted(path.file_name().unwrap_or_default()) {
                Ok(name) => format!("{prefix}{name}"),
                Err(kind) => {
                    self.passed_over.add(kind);
                    continue;
                }
            };
            // A link to nothing has no kind.
            match fs::metadata(&path).map(|entry| entry.file_type()) {
                Ok(kind) if kind.is_dir() && depth > 0 => {
                    self.folders.insert(name.clone());
                    self.walk(&path, &format!("{name}/"), depth - 1, seen)?;
                }
                Ok(kind) if kind.is_dir() => self.passed_over.add(TOO_DEEP),
                Ok(kind) if kind.is_file() => self.files.push((name, Place::Disk(path))),
                _ => self.passed_over.add("no regular file"),
            }
        }
        Ok(())
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
        let mut tree = Self { root: root.to_owned(), ..Self::default() };
        let stream = file::gunzipped(file::regular(root)?, root, ARCHIVE_EXPANSION)?;
        let mut archive = tar::Archive::new(stream);
        // What a folder's walk would turn back at, however much is behind it in the archive.
        let mut turned_back = HashSet::new();
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let kind = entry.header().entry_type();
            let path = entry.path().map_err(broken)?.into_owned();
            let parts = relative(&path).ok_or_else(|| {
                misfit(root, "paths that stay inside the archive", format!("`{}`", path.display()))
            })?;
            let name = match joined(&parts, kind.is_dir()) {
                Ok(name) => name,
                Err((kind, reached)) => {
                    if turned_back.insert(reached) {
                        tree.passed_over.add(kind);
                    }
                    continue;
                }
            };
            if kind.is_dir() {
                tree.folders.extend((!name.is_empty()).then_some(name));
            } else if !kind.is_file() || name.is_empty() {
                tree.passed_over.add("no regular file");
            } else {
                let shown = root.join(&name);
                let size = entry.size();
                let bytes = file::take(&mut entry, ARCHIVE_ENTRY, &shown)?;
                if bytes.len() as u64 != size {
                    let got = format!("{} bytes: the archive ends early", bytes.len());
                    return Err(misfit(&shown, format!("{size} bytes"), got));
                }
                // Shared bytes are a copy.
                room::expect("open", bytes.len())?;
                tree.files.push((name, Place::Memory(shown, bytes.into())));
            }
        }
        if tree.files.is_empty() {
            return Err(misfit(root, "a tar archive with files", "none in it"));
        }
        let parents = |(path, _): &(String, Place)| {
            path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect::<Vec<_>>()
        };
        tree.folders.extend(tree.files.iter().flat_map(parents));
        tree.files.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(tree)
    }

    /// The file whose path is `name` or ends in `/name`.
    pub(super) fn find(&self, name: &str) -> Option<&Place> {
        let is = |path: &str| {
            path.strip_suffix(name).is_some_and(|head| head.is_empty() || head.ends_with('/'))
        };
        self.files.iter().find(|(path, _)| is(path)).map(|(_, place)| place)
    }
}

/// The parts of a path inside an archive; none if it is absolute or climbs.
fn relative(path: &Path) -> Option<Vec<&OsStr>> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts)
}

/// The parts as `a/b/c`; else the kind of the first one at which a walk turns back, and the path up to it.
fn joined(parts: &[&OsStr], is_folder: bool) -> Result<String, (&'static str, PathBuf)> {
    let mut names = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let reached = || parts[..=at].iter().collect::<PathBuf>();
        names.push(wanted(part).map_err(|kind| (kind, reached()))?);
        if at >= DEPTH && (is_folder || at + 1 < parts.len()) {
            return Err((TOO_DEEP, reached()));
        }
    }
    Ok(names.join("/"))
}

/// A file's or a folder's name, if it is one of those that are looked at; else the kind of what is passed over.
fn wanted(name: &OsStr) -> Result<&str, &'static str> {
    let name = name.to_str().ok_or("with a name that is not UTF-8")?;
    if is_hidden(name) { Err("hidden") } else { Ok(name) }
}

/// What systems and programs leave behind: `.DS_Store`, `._x.jpg`, `.ipynb_checkpoints`, `__MACOSX`.
fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || name == "__MACOSX"
}
