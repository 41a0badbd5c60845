//! One picture: u8 planes `[C, H, W]`, and how a JPEG or PNG becomes one.

use std::borrow::Cow;
use std::io::Cursor;
use std::path::Path;

use engine::Result;
use image::{ImageFormat, ImageReader, Limits};

use super::file::misfit;

/// No side of a picture is longer.
const MAX_SIDE: u32 = 16_384;

/// What decoding one picture may allocate; a header that announces more is refused.
const MAX_BYTES: u64 = 256 << 20;

/// u8 planes, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Picture<'a> {
    /// C, H, W
    pub(super) shape: [usize; 3],
    /// Row-major, C·H·W of them.
    pub(super) bytes: Cow<'a, [u8]>,
}

/// A JPEG or PNG as three planes, red, green, blue; grey ones give three equal planes, and
/// transparency is dropped. `file` is named in errors.
///
/// # Errors
/// [`Error::File`](engine::Error::File) for bytes that are neither, or that are cut off.
pub(super) fn decode(bytes: &[u8], file: &Path) -> Result<Picture<'static>> {
    let broken = |e: image::ImageError| misfit(file, "a whole JPEG or PNG", e.to_string());
    let format = image::guess_format(bytes).ok();
    let Some(format @ (ImageFormat::Jpeg | ImageFormat::Png)) = format else {
        let got = if bytes.is_empty() { "0 bytes" } else { "another format" };
        return Err(misfit(file, "a JPEG or PNG", got));
    };
    if !ends(bytes, format) {
        let got = format!("{} bytes without its end marker: it is cut off", bytes.len());
        return Err(misfit(file, "a whole JPEG or PNG", got));
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let pixels = reader.decode().map_err(broken)?.into_rgb8();
    let (width, height) = (pixels.width() as usize, pixels.height() as usize);
    Ok(Picture { shape: [3, height, width], bytes: planes(pixels.as_raw(), 3).into() })
}

/// Whether the end marker is there; decoders fill what is missing with grey. A PNG's is the chunk
/// IEND. A JPEG's, FF D9, stands after its last start of scan, FF DA: in the data of a scan neither
/// can occur.
fn ends(bytes: &[u8], format: ImageFormat) -> bool {
    if format == ImageFormat::Png {
        return bytes.windows(8).rev().any(|chunk| chunk == b"IEND\xae\x42\x60\x82");
    }
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xff, marker]);
    last(0xd9) > last(0xda)
}

/// `[H·W, C]` as `[C, H·W]`.
fn planes(pixels: &[u8], channels: usize) -> Vec<u8> {
    (0..channels).flat_map(|c| pixels.iter().skip(c).step_by(channels).copied()).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use engine::Error;
    use image::{ImageEncoder, codecs::jpeg::JpegEncoder, codecs::png::PngEncoder};
    use proptest::prelude::*;

    use super::*;

    /// An `H`×`W` picture whose red is the row, green the column and blue 7.
    fn pixels(height: u32, width: u32) -> Vec<u8> {
        (0..height * width).flat_map(|i| [(i / width) as u8, (i % width) as u8, 7]).collect()
    }

    pub(in super::super) fn png(height: u32, width: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let colour = image::ExtendedColorType::Rgb8;
        let encoder = PngEncoder::new(&mut bytes);
        encoder.write_image(&pixels(height, width), width, height, colour).unwrap();
        bytes
    }

    pub(in super::super) fn jpeg(height: u32, width: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let colour = image::ExtendedColorType::Rgb8;
        let encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
        encoder.write_image(&pixels(height, width), width, height, colour).unwrap();
        bytes
    }

    fn message(bytes: &[u8]) -> String {
        decode(bytes, Path::new("x.jpg")).unwrap_err().to_string()
    }

    #[test]
    fn a_png_is_read_exactly_and_a_jpeg_nearly_as_planes() {
        let read = decode(&png(4, 3), Path::new("x")).unwrap();
        assert_eq!(read.shape, [3, 4, 3]);
        assert_eq!(read.bytes[..12], [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
        assert_eq!(read.bytes[12..24], [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]);
        assert_eq!(read.bytes[24..], [7; 12]);
        let lossy = decode(&jpeg(4, 3), Path::new("x")).unwrap();
        let near = |(a, b): (&u8, &u8)| a.abs_diff(*b) <= 8;
        assert!(read.bytes.iter().zip(lossy.bytes.iter()).all(near));
    }

    #[test]
    fn every_truncation_is_a_typed_error() {
        for whole in [png(9, 9), jpeg(9, 9)] {
            for end in 0..whole.len() {
                let got = decode(&whole[..end], Path::new("x"));
                assert!(matches!(got, Err(Error::File { .. })), "{end} of {}", whole.len());
            }
        }
        assert_eq!(message(&[]), "x.jpg: expected a JPEG or PNG, got 0 bytes");
        assert_eq!(message(b"GIF89a...."), "x.jpg: expected a JPEG or PNG, got another format");
        let cut = &jpeg(9, 9)[..300];
        assert!(message(cut).ends_with("got 300 bytes without its end marker: it is cut off"));
    }

    #[test]
    fn a_header_that_claims_three_gigabytes_is_refused() {
        // Height and width stand after FF C0, two bytes of length and one of precision.
        let mut claim = jpeg(9, 9);
        let at = claim.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        // 32,000 × 32,000 has too long sides, 16,000 × 16,000 too many pixels.
        for side in [32_000_u16, 16_000] {
            let side = side.to_be_bytes();
            claim[at + 5..at + 9].copy_from_slice(&[side, side].concat());
            assert!(message(&claim).starts_with("x.jpg: expected a whole JPEG or PNG"));
        }
    }

    proptest! {
        #[test]
        fn mutated_pictures_never_panic(
            as_png in any::<bool>(),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut bytes = if as_png { png(9, 7) } else { jpeg(9, 7) };
            for (at, with) in changes {
                let at = at.index(bytes.len());
                bytes[at] = with;
            }
            if let Ok(read) = decode(&bytes, Path::new("x")) {
                prop_assert_eq!(read.bytes.len(), read.shape.iter().product::<usize>());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            as_png in any::<bool>(),
        ) {
            let head = if as_png { &png(3, 3)[..8] } else { &[0xff, 0xd8, 0xff][..] };
            let _ = decode(&bytes, Path::new("x"));
            let _ = decode(&[head, &bytes, &[0xff, 0xd9]].concat(), Path::new("x"));
        }
    }
}
