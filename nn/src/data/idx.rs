//! IDX, the format of MNIST: `0 0 type rank`, a big-endian u32 for each axis, then the bytes.
//!
//! Source: Y. LeCun, C. Cortes & C. Burges, "The MNIST database". Only unsigned bytes (type 8) are
//! read. Whether the file is gzipped is seen from its first two bytes, not from its name.

use std::io::Read;
use std::path::{Path, PathBuf};

use engine::{Result, Shape, room};

use super::Images;
use super::file::{self, misfit, unreadable};
use super::limits::{EXPANSION, IDX};

/// An array of bytes, and where it came from.
#[derive(Debug, Clone)]
pub struct Idx {
    /// For errors.
    pub file: PathBuf,
    /// The sizes of its axes.
    pub shape: Shape,
    /// Row-major.
    pub bytes: Vec<u8>,
}

impl Idx {
    /// Reads a file, gzipped or not.
    ///
    /// # Errors
    /// [`Error::Io`](engine::Error::Io) when it cannot be read, else as [`Idx::parse`].
    pub fn read(file: &Path) -> Result<Self> {
        Self::parse(file::regular(file)?, file)
    }

    /// Reads a stream, gzipped or not; `file` is named in errors.
    ///
    /// Memory is bounded by what the stream holds, not by what its header says
    /// ([`limits`](super::limits)).
    ///
    /// # Errors
    /// [`Error::File`](engine::Error::File) when the header is not an IDX header of bytes, or does not agree with the
    /// number of bytes after it.
    ///
    /// # Example
    /// ```
    /// use alcyon_nn::data::idx::Idx;
    /// use std::path::Path;
    /// let bytes = [0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9];
    /// let labels = Idx::parse(&bytes[..], Path::new("labels"))?;
    /// assert_eq!((labels.shape, labels.bytes), ([3].into(), vec![7, 8, 9]));
    /// let short = Idx::parse(&bytes[..10], Path::new("labels")).unwrap_err();
    /// assert_eq!(short.to_string(), "labels: expected 3 bytes for [3], got 2 bytes");
    /// # Ok::<(), engine::Error>(())
    /// ```
    pub fn parse(stream: impl Read, file: &Path) -> Result<Self> {
        plain(file::gunzipped(stream, file, EXPANSION)?, file)
    }

    fn misfit<T>(&self, expected: impl Into<String>) -> Result<T> {
        Err(misfit(&self.file, expected, self.shape.to_string()))
    }
}

/// Images `[N, H, W]` and labels `[N]` as pictures of one channel.
///
/// # Errors
/// [`Error::File`](engine::Error::File) for arrays of other shapes, [`Error::Index`](engine::Error::Index) for a label not in `0..classes`.
pub fn images(name: &str, images: Idx, labels: &Idx, classes: usize) -> Result<Images> {
    let &[count, height, width] = &*images.shape else {
        return images.misfit("images [N, H, W]");
    };
    if labels.shape != Shape::from([count]) {
        return labels.misfit(format!("{count} labels, one for each image"));
    }
    let labels = room::collect("idx", labels.bytes.iter().map(|&b| i64::from(b)))?;
    let names: Vec<String> = (0..classes).map(|class| class.to_string()).collect();
    Images::new(name, [1, height, width], images.bytes, labels, &names)
}

fn plain(mut stream: impl Read, file: &Path) -> Result<Idx> {
    let mut head = [0; 4];
    let got = fill(&mut stream, &mut head, file)?;
    if got < 4 || head[..3] != [0, 0, 8] {
        let expected = "an IDX header of unsigned bytes, 0 0 8 rank";
        return Err(misfit(file, expected, format!("{:?}", &head[..got])));
    }
    let rank = usize::from(head[3]);
    let mut sizes = Vec::new();
    for axis in 0..rank {
        let mut size = [0; 4];
        if fill(&mut stream, &mut size, file)? < 4 {
            return Err(misfit(file, format!("{rank} sizes"), format!("{axis}")));
        }
        sizes.push(u32::from_be_bytes(size) as usize);
    }
    let shape = Shape::new(&sizes)
        .map_err(|_| misfit(file, "at most 6 axes that fit in memory", format!("{sizes:?}")))?;
    let count = shape.numel() as u64;
    if count > IDX {
        return Err(misfit(file, format!("at most {IDX} bytes"), format!("{shape}")));
    }
    // One byte more than announced is enough to see that there is too much.
    let mut bytes = Vec::new();
    stream.take(count + 1).read_to_end(&mut bytes).map_err(|e| unreadable(file, e))?;
    if bytes.len() as u64 != count {
        let got = if bytes.len() as u64 > count { "more".into() } else { bytes.len().to_string() };
        return Err(misfit(file, format!("{count} bytes for {shape}"), format!("{got} bytes")));
    }
    Ok(Idx { file: file.to_owned(), shape, bytes })
}

/// Reads until the buffer is full or the stream ends; the number of bytes read.
fn fill(stream: &mut impl Read, buffer: &mut [u8], file: &Path) -> Result<usize> {
    let mut read = Vec::new();
    let limit = buffer.len() as u64;
    stream.by_ref().take(limit).read_to_end(&mut read).map_err(|e| unreadable(file, e))?;
    buffer[..read.len()].copy_from_slice(&read);
    Ok(read.len())
}

#[cfg(test)]
mod tests {
    use engine::Error;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn parse(bytes: &[u8]) -> Result<Idx> {
        Idx::parse(bytes, Path::new("test"))
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn encode(sizes: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        sizes.iter().for_each(|s| bytes.extend(s.to_be_bytes()));
        bytes.extend(data);
        bytes
    }

    #[test]
    fn gzipped_and_raw_files_read_the_same() {
        let raw = encode(&[2, 1, 3], &[1, 2, 3, 4, 5, 6]);
        for bytes in [raw.clone(), gzip(&raw)] {
            let idx = parse(&bytes).unwrap();
            assert_eq!((idx.shape, idx.bytes), (Shape::from([2, 1, 3]), vec![1, 2, 3, 4, 5, 6]));
        }
    }

    #[test]
    fn images_and_labels_become_pictures_of_one_channel() {
        let pixels = || parse(&encode(&[2, 1, 2], &[0, 255, 255, 0])).unwrap();
        let labels = |n: u32, l: &[u8]| parse(&encode(&[n], l)).unwrap();
        let data = images("t", pixels(), &labels(2, &[1, 0]), 2).unwrap().dataset().unwrap();
        assert_eq!(*data.inputs.shape(), Shape::from([2, 1, 1, 2]));
        assert_eq!(data.inputs.to_vec::<f32>().unwrap(), [0.0, 1.0, 1.0, 0.0]);
        let fewer = images("t", pixels(), &labels(1, &[1]), 2).unwrap_err();
        assert_eq!(fewer.to_string(), "test: expected 2 labels, one for each image, got [1]");
        let swapped = images("t", labels(2, &[1, 0]), &pixels(), 2);
        assert!(matches!(swapped, Err(Error::File { .. })));
        let ninth = images("t", pixels(), &labels(2, &[9, 0]), 2);
        assert!(matches!(ninth, Err(Error::Index { index: 9, at: 0, bound: 2, .. })));
    }

    #[test]
    fn a_header_that_promises_gigabytes_allocates_none() {
        let huge = encode(&[60_000, 10_000], &[]);
        assert_eq!(
            parse(&huge).unwrap_err().to_string(),
            "test: expected 600000000 bytes for [60000, 10000], got 0 bytes"
        );
        for sizes in
            [&[u32::MAX; 2][..], &[u32::MAX; 6], &[0, u32::MAX, u32::MAX, u32::MAX], &[1; 7]]
        {
            assert!(matches!(parse(&encode(sizes, &[])), Err(Error::File { .. })), "{sizes:?}");
        }
    }

    #[test]
    fn a_small_gzip_of_many_zeros_is_cut_off_where_the_header_ends() {
        let mut bomb = encode(&[3], &[]);
        bomb.resize(50_000_000, 0);
        let error = parse(&gzip(&bomb)).unwrap_err();
        assert_eq!(error.to_string(), "test: expected 3 bytes for [3], got more bytes");
    }

    #[test]
    fn every_truncation_of_a_file_is_an_error_and_never_a_panic() {
        let raw = encode(&[4, 2], &[9; 8]);
        for bytes in [raw.clone(), gzip(&raw)] {
            for end in 0..bytes.len() {
                assert!(matches!(parse(&bytes[..end]), Err(Error::File { .. })), "{end}");
            }
        }
    }

    #[test]
    fn a_missing_file_and_another_format_are_told_apart() {
        assert!(matches!(Idx::read(Path::new("/nowhere/x.gz")), Err(Error::Io { .. })));
        let floats = [0, 0, 0x0d, 1, 0, 0, 0, 1, 0, 0, 0, 0];
        let error = parse(&floats).unwrap_err().to_string();
        assert_eq!(
            error,
            "test: expected an IDX header of unsigned bytes, 0 0 8 rank, got [0, 0, 13, 1]"
        );
    }
}
