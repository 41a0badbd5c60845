//! Bytes of files that nobody has to trust: gunzipped on the way, and never more of them than the
//! file can honestly hold.

use std::fs::File;
use std::io::{BufReader, Cursor, Error as IoError, ErrorKind, Read};
use std::path::Path;

use engine::{Error, Result};
use flate2::bufread::MultiGzDecoder;

/// A gzip stream may give this many times the bytes of its file. Deflate can reach 1,032; texts
/// and pictures stay below 20.
const EXPANSION: u64 = 100;

/// What any gzip stream may give, however small its file.
const ALLOWANCE: u64 = 64 << 20;

/// A file, gunzipped if its first two bytes say so.
pub(super) fn open(file: &Path) -> Result<Box<dyn Read>> {
    let opened = File::open(file).map_err(|e| Error::io(file, e))?;
    let size = opened.metadata().map_err(|e| Error::io(file, e))?.len();
    stream(opened, size, file)
}

/// A stream of `size` bytes, gunzipped if its first two bytes say so; `file` is named in errors.
pub(super) fn stream(bytes: impl Read + 'static, size: u64, file: &Path) -> Result<Box<dyn Read>> {
    let mut bytes = BufReader::new(bytes);
    let mut start = Vec::new();
    // Two bytes are read and put back in front.
    bytes.by_ref().take(2).read_to_end(&mut start).map_err(|e| unreadable(file, e))?;
    let gzipped = start == [0x1f, 0x8b];
    let whole = BufReader::new(Cursor::new(start).chain(bytes));
    let left = size.saturating_mul(EXPANSION).saturating_add(ALLOWANCE);
    Ok(if gzipped {
        Box::new(Guarded { inner: MultiGzDecoder::new(whole), left })
    } else {
        Box::new(whole)
    })
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

/// A stream that ends in an error when it gives more than it may.
struct Guarded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            let message = format!("a stream that grows to more than {EXPANSION} times its file");
            IoError::new(ErrorKind::InvalidData, message)
        })?;
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
        let size = bomb.len() as u64;
        let mut bytes = stream(Cursor::new(bomb), size, Path::new("bomb.gz")).unwrap();
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
}
