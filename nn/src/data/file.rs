//! Bytes of files that nobody has to trust: regular files only, gunzipped on the way, and never more of
//! them than the file can honestly hold ([`limits`](super::limits)).

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{BufReader, Cursor, Error as IoError, ErrorKind, Read};
use std::path::Path;
use std::rc::Rc;

use engine::{Error, Result};
use flate2::bufread::MultiGzDecoder;

use super::limits::{ALLOWANCE, EXPANSION};

/// A regular file: opening a pipe would wait for a writer, and a device may never end.
///
/// # Errors
/// [`Error::Io`] when the file cannot be opened, [`Error::File`] when it is something else.
pub(crate) fn regular(file: &Path) -> Result<File> {
    let io = |e| Error::io(file, e);
    let kind = fs::metadata(file).map_err(io)?.file_type();
    if !kind.is_file() {
        let got = if kind.is_dir() { "a folder" } else { "a pipe, a device or a socket" };
        return Err(misfit(file, "a regular file", got));
    }
    File::open(file).map_err(io)
}

/// A file, gunzipped if its first two bytes say so.
pub(super) fn open(file: &Path) -> Result<Box<dyn Read>> {
    gunzipped(regular(file)?, file, EXPANSION)
}

/// A stream, gunzipped if its first two bytes say so; it may give `expansion` times what has been read
/// of it. `file` is named in errors.
pub(super) fn gunzipped<'a>(
    bytes: impl Read + 'a,
    file: &Path,
    expansion: u64,
) -> Result<Box<dyn Read + 'a>> {
    let mut bytes = BufReader::new(bytes);
    let mut start = Vec::new();
    // Two bytes are read and put back in front.
    bytes.by_ref().take(2).read_to_end(&mut start).map_err(|e| unreadable(file, e))?;
    let gzipped = start == [0x1f, 0x8b];
    let whole = Cursor::new(start).chain(bytes);
    if !gzipped {
        return Ok(Box::new(BufReader::new(whole)));
    }
    let taken = Rc::new(Cell::new(0));
    let counted = BufReader::new(Counted { inner: whole, taken: Rc::clone(&taken) });
    Ok(Box::new(Guarded { inner: MultiGzDecoder::new(counted), taken, given: 0, expansion }))
}

/// The whole of a file of at most `limit` bytes, gunzipped if need be.
pub(super) fn read(file: &Path, limit: u64) -> Result<Vec<u8>> {
    take(open(file)?, limit, file)
}

/// The rest of a stream, if it has at most `limit` bytes.
pub(super) fn take(stream: impl Read, limit: u64, file: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|e| unreadable(file, e))?;
    if bytes.len() as u64 > limit {
        return Err(misfit(file, format!("at most {limit} bytes"), "more"));
    }
    Ok(bytes)
}

/// A stream that counts what is taken from it.
struct Counted<R> {
    inner: R,
    taken: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.taken.set(self.taken.get() + count as u64);
        Ok(count)
    }
}

/// A stream that ends in an error when it gives more than it may.
struct Guarded<R> {
    inner: R,
    /// Bytes of the gzip stream so far.
    taken: Rc<Cell<u64>>,
    given: u64,
    expansion: u64,
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.given += count as u64;
        let most = self.taken.get().saturating_mul(self.expansion).saturating_add(ALLOWANCE);
        if self.given > most {
            let times = self.expansion;
            let message = format!("a stream that grows to more than {times} times its file");
            return Err(IoError::new(ErrorKind::InvalidData, message));
        }
        Ok(count)
    }
}

/// A stream that breaks: the fault of its contents, or of the system.
pub(super) fn unreadable(file: &Path, error: IoError) -> Error {
    match error.kind() {
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof => {
            misfit(file, "a whole gzip stream", error.to_string())
        }
        _ => Error::io(file, error),
    }
}

/// A file that is not what it should be.
pub(super) fn misfit(file: &Path, expected: impl Into<String>, got: impl Into<String>) -> Error {
    Error::File { file: file.to_owned(), expected: expected.into(), got: got.into() }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn a_small_gzip_that_grows_without_end_is_cut_off() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        for _ in 0..80 {
            encoder.write_all(&[0; 1 << 20]).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        assert!(bomb.len() < 100_000);
        let mut bytes = gunzipped(&bomb[..], Path::new("bomb.gz"), EXPANSION).unwrap();
        let error = std::io::copy(&mut bytes, &mut std::io::sink()).unwrap_err();
        let error = unreadable(Path::new("bomb.gz"), error).to_string();
        assert!(
            error.starts_with("bomb.gz: expected a whole gzip stream, got a stream"),
            "{error}"
        );
    }

    #[test]
    fn a_limit_is_a_limit_and_an_empty_file_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, b"").unwrap();
        assert_eq!(read(&file, 10).unwrap(), b"");
        std::fs::write(&file, b"0123456789").unwrap();
        assert_eq!(read(&file, 10).unwrap(), b"0123456789");
        assert!(matches!(read(&file, 9), Err(Error::File { .. })));
        assert!(matches!(read(&dir.path().join("none"), 9), Err(Error::Io { .. })));
    }

    #[test]
    #[cfg(unix)]
    fn what_is_no_regular_file_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("zero");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (file, got) in [(dir.path(), "a folder"), (&link, "a pipe"), (&socket, "a pipe")] {
            let message = regular(file).unwrap_err().to_string();
            assert!(message.contains(&format!("expected a regular file, got {got}")), "{message}");
        }
    }
}
