//! The lock on a run's folder: two processes that write one record would make two halves of none.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use engine::{Error, Result};

use crate::clock;

/// Held until it is dropped. The operating system holds it for the process, so that one which was killed
/// leaves no lock behind; the file stays, and says who had it last.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Takes it, or says who has it.
    ///
    /// # Errors
    /// [`Error::InUse`], naming the holder; [`Error::Io`] where files cannot be locked.
    pub(crate) fn take(folder: &Path) -> Result<Self> {
        let path = folder.join("run.lock");
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(|e| Error::io(&path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Windows does not let others read what is locked.
                let known = file.read_to_string(&mut holder).is_ok() && !holder.is_empty();
                let holder =
                    if known { holder.trim().to_owned() } else { "another process".into() };
                Err(Error::InUse { folder: folder.to_owned(), holder })
            }
            Err(TryLockError::Error(e)) => Err(Error::io(&path, e)),
        }
    }

    /// Writes down who holds it, for those who come.
    pub(crate) fn sign(&mut self) -> std::io::Result<()> {
        let (process, since) = (std::process::id(), clock::utc_now());
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(format!("process {process} on {} since {since}\n", host()).as_bytes())
    }
}

/// The machine's name, where it is easily had.
fn host() -> String {
    let named = |key: &str| std::env::var(key).ok();
    let written = || std::fs::read_to_string("/etc/hostname").ok();
    let name = named("COMPUTERNAME").or_else(written).or_else(|| named("HOSTNAME"));
    let name = name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| "this machine".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_has_the_folder_and_gets_it_when_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Lock::take(dir.path()).unwrap();
        first.sign().unwrap();
        let refused = Lock::take(dir.path()).unwrap_err();
        assert!(refused.asked_wrongly());
        let text = refused.to_string();
        let own = format!("process {} on ", std::process::id());
        assert!(text.contains(&own) && text.contains("--out"), "{text}");
        drop(first);
        Lock::take(dir.path()).unwrap();
    }
}
