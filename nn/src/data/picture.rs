//! One picture: u8 planes `[C, H, W]`, and how a JPEG or PNG becomes one.

mod decoder;
mod orientation;

use std::borrow::Cow;
use std::path::Path;

use engine::{Result, room};

use super::file::misfit;
use super::limits::{PICTURE, PICTURE_SIDE};
use decoder::{Decoder, Failed};
use orientation::Orientation;

/// u8 planes, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Picture<'a> {
    /// C, H, W
    pub(super) shape: [usize; 3],
    /// Row-major, C·H·W of them.
    pub(super) bytes: Cow<'a, [u8]>,
}

/// A JPEG or PNG as three planes, red, green, blue, turned as its EXIF orientation says; grey ones give
/// three equal planes, and transparency is dropped. What stands behind the end of the picture is not
/// looked at. `file` is named in errors.
///
/// # Errors
/// [`Error::File`](engine::Error::File) for bytes that are neither, that are cut off, or that announce a
/// picture larger than [`limits`](super::limits) allow.
pub(super) fn decode(bytes: &[u8], file: &Path) -> Result<Picture<'static>> {
    let broken = |failed: Failed| match failed {
        Failed::Broken(words) => misfit(file, "a whole JPEG or PNG", words),
        Failed::Error(error) => error,
    };
    let is_jpeg = bytes.starts_with(b"\xff\xd8\xff");
    let end = match () {
        () if is_jpeg => end_of_jpeg(bytes),
        () if bytes.starts_with(b"\x89PNG\r\n\x1a\n") => end_of_png(bytes),
        () => {
            let got = if bytes.is_empty() { "0 bytes" } else { "another format" };
            return Err(misfit(file, "a JPEG or PNG", got));
        }
    };
    let cut_off = |what: &str| {
        let got = format!("{} bytes without {what}: it is cut off", bytes.len());
        misfit(file, "a whole JPEG or PNG", got)
    };
    let Some(bytes) = end.and_then(|end| bytes.get(..end)) else {
        return Err(cut_off("its end marker"));
    };
    let decoder = if is_jpeg { Decoder::jpeg(bytes) } else { Decoder::png(bytes) };
    let decoder = decoder.map_err(broken)?;
    let size @ [height, width] = decoder.size();
    let (samples, of_sample) = decoder.sample();
    let pixels = height as u64 * width as u64;
    let of_pixel = cost(is_jpeg, (samples * of_sample) as u64);
    if height.max(width) > PICTURE_SIDE as usize || pixels.saturating_mul(of_pixel) > PICTURE {
        let most = PICTURE / of_pixel;
        let expected = format!("a picture of at most {most} pixels and sides of {PICTURE_SIDE}");
        return Err(misfit(file, expected, format!("{width} x {height}")));
    }
    if is_jpeg && (bytes.len() as u64) < pixels / MOST_OF_A_BYTE {
        return Err(cut_off(&format!("the data of {width} x {height} pixels")));
    }
    // Small next to a batch, but for the few that are not.
    room::expect("decode", (pixels * of_pixel) as usize)?;
    let orientation = Orientation::of(decoder.exif());
    let pixels = decoder.decode().map_err(broken)?;
    Ok(in_planes(&pixels, (size, samples), orientation))
}

/// Pixels that a byte of a JPEG can stand for: each block of 8 × 8 has a code of a bit at least.
const MOST_OF_A_BYTE: u64 = 8 * 64;

/// Bytes that decoding takes for each pixel, if the decoder gives `raw`: the pixel, beside it the three planes, or
/// what the decoder works in; and a progressive JPEG's coefficients, 2 for each of its samples.
fn cost(is_jpeg: bool, raw: u64) -> u64 {
    let coefficients = if is_jpeg { 2 * raw } else { 0 };
    coefficients + (2 * raw).max(raw + 3).max(6)
}

/// Where a PNG ends: behind its chunk IEND. A chunk is a length, a name, so many bytes, and a checksum.
fn end_of_png(bytes: &[u8]) -> Option<usize> {
    let mut at = 8;
    loop {
        let head = bytes.get(at..)?.first_chunk::<8>()?;
        let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        at = at.checked_add(12)?.checked_add(usize::try_from(size).ok()?)?;
        if &head[4..] == b"IEND" {
            return (at <= bytes.len()).then_some(at);
        }
    }
}

/// Where a JPEG ends: behind the first marker FF D9 after a scan. Segments have a length; the data of a
/// scan go on to the next FF that neither 00 (it was data) nor D0 to D7 (a restart) follows.
fn end_of_jpeg(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    let mut scans = 0;
    loop {
        let marker = match bytes.get(at..)? {
            [0xff, 0xff, ..] => {
                at += 1; // a fill byte
                continue;
            }
            [0xff, marker, ..] => *marker,
            _ => return None,
        };
        at += 2;
        match marker {
            0xd9 => return (scans > 0).then_some(at),
            0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let &length = bytes.get(at..)?.first_chunk::<2>()?;
        at = at.checked_add(usize::from(u16::from_be_bytes(length)).max(2))?;
        if marker == 0xda {
            scans += 1;
            let data = bytes.get(at..)?;
            let is_marker = |w: &[u8]| w[0] == 0xff && !matches!(w[1], 0 | 0xd0..=0xd7 | 0xff);
            at += data.windows(2).position(is_marker)?;
        }
    }
}

/// Red, green and blue of upright pixels `[H, W, samples]`; one sample, or two, are grey (and transparency).
fn in_planes(
    pixels: &[u8],
    (size, samples): ([usize; 2], usize),
    orientation: Orientation,
) -> Picture<'static> {
    let [height, width] = orientation.upright(size);
    let mut bytes = Vec::with_capacity(3 * height * width);
    for colour in 0..3 {
        let sample = if samples < 3 { 0 } else { colour };
        if orientation == Orientation::default() {
            bytes.extend(pixels.iter().skip(sample).step_by(samples));
            continue;
        }
        for y in 0..height {
            let row = (0..width).map(|x| orientation.source(size, [y, x]));
            bytes.extend(row.map(|at| pixels[at * samples + sample]));
        }
    }
    Picture { shape: [3, height, width], bytes: bytes.into() }
}

#[cfg(test)]
pub(super) mod tests {
    use engine::Error;
    use jpeg_encoder::Encoder;
    use png::{BitDepth, ColorType};

    use super::*;

    /// An `H`×`W` picture whose red is the row, green the column and blue 7.
    fn pixels(height: u32, width: u32) -> Vec<u8> {
        (0..height * width).flat_map(|i| [(i / width) as u8, (i % width) as u8, 7]).collect()
    }

    pub(in super::super) fn png(height: u32, width: u32) -> Vec<u8> {
        encoded([width, height], (ColorType::Rgb, BitDepth::Eight), &pixels(height, width))
    }

    /// A PNG of rows of samples.
    fn encoded([width, height]: [u32; 2], kind: (ColorType, BitDepth), data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(kind.0);
        encoder.set_depth(kind.1);
        if kind.0 == ColorType::Indexed {
            encoder.set_palette(&[0, 0, 0, 10, 20, 30, 200, 100, 50][..]);
        }
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(data).unwrap();
        writer.finish().unwrap();
        bytes
    }

    pub(in super::super) fn jpeg(height: u32, width: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let encoder = Encoder::new(&mut bytes, 95);
        let data = pixels(height, width);
        encoder.encode(&data, width as u16, height as u16, jpeg_encoder::ColorType::Rgb).unwrap();
        bytes
    }

    /// A grey PNG of nothing but zeros.
    fn grey(side: u32) -> Vec<u8> {
        let zeros = vec![0; (side * side) as usize];
        encoded([side; 2], (ColorType::Grayscale, BitDepth::Eight), &zeros)
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
    fn every_kind_of_png_is_its_colours_in_eight_bits() {
        let read = |kind, data: &[u8]| {
            let picture = decode(&encoded([2, 1], kind, data), Path::new("x")).unwrap();
            picture.bytes.into_owned()
        };
        // Red of both pixels, green of both, blue of both.
        let grey = |a: u8, b: u8| [a, b].repeat(3);
        let (eight, sixteen) = (BitDepth::Eight, BitDepth::Sixteen);
        assert_eq!(read((ColorType::Grayscale, BitDepth::One), &[0b0100_0000]), grey(0, 255));
        assert_eq!(read((ColorType::Grayscale, BitDepth::Two), &[0b0110_0000]), grey(85, 170));
        assert_eq!(read((ColorType::Grayscale, BitDepth::Four), &[0x3c]), grey(0x33, 0xcc));
        assert_eq!(read((ColorType::GrayscaleAlpha, eight), &[9, 0, 8, 255]), grey(9, 8));
        assert_eq!(read((ColorType::Rgba, eight), &[1, 2, 3, 0, 4, 5, 6, 9]), [1, 4, 2, 5, 3, 6]);
        assert_eq!(read((ColorType::Indexed, eight), &[1, 2]), [10, 200, 20, 100, 30, 50]);
        // The nearest: 0x0180 / 257 is 1.494, 0x0181 / 257 is 1.498, 0x0182 / 257 is 1.502.
        assert_eq!(read((ColorType::Grayscale, sixteen), &[1, 0x81, 1, 0x82]), grey(1, 2));
        let wide = [255, 255, 0, 0, 0, 127, 0, 0, 0, 129, 255, 0];
        assert_eq!(read((ColorType::Rgb, sixteen), &wide), [255, 0, 0, 1, 0, 254]);
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
            let message = message(&claim);
            assert!(message.starts_with("x.jpg: expected a"), "{message}");
            assert!(message.contains("22369621 pixels and sides of 16384"), "{message}");
        }
    }

    #[test]
    fn a_jpeg_with_a_large_size_and_no_data_is_cut_off() {
        let mut claim = jpeg(9, 9);
        let at = claim.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        let side = 4_000_u16.to_be_bytes();
        claim[at + 5..at + 9].copy_from_slice(&[side, side].concat());
        let message = message(&claim);
        assert!(message.ends_with("the data of 4000 x 4000 pixels: it is cut off"), "{message}");
    }

    #[test]
    fn bytes_behind_the_end_are_not_looked_at() {
        for whole in [png(9, 9), jpeg(9, 9)] {
            let expected = decode(&whole, Path::new("x")).unwrap().bytes;
            for tail in [&[0xff, 0xda, 1, 2][..], &[0xff, 0xd8, 0xff, 0xd9], b"IEND", &[0; 40]] {
                let longer = [&whole, tail].concat();
                assert_eq!(decode(&longer, Path::new("x")).unwrap().bytes, expected);
            }
        }
    }

    #[test]
    fn a_picture_is_turned_as_its_orientation_says() {
        // EXIF: big-endian TIFF, one entry: tag 0x112 (orientation), type short, one of them, 6.
        let exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let plain = jpeg(16, 32);
        let length = (exif.len() as u16 + 2).to_be_bytes();
        let turned = [&plain[..2], &[0xff, 0xe1], &length, exif, &plain[2..]].concat();
        let (plain, turned) = (decode(&plain, Path::new("x")), decode(&turned, Path::new("x")));
        let (plain, turned) = (plain.unwrap(), turned.unwrap());
        assert_eq!((plain.shape, turned.shape), ([3, 16, 32], [3, 32, 16]));
        // 6 is a quarter to the right: the first column, from below, is the first row.
        for i in 0..16 {
            assert_eq!(turned.bytes[i], plain.bytes[(15 - i) * 32]);
        }
    }

    #[test]
    fn a_small_file_of_many_pixels_is_refused_before_they_are_there() {
        let message = message(&grey(7_500));
        assert!(message.contains("expected a picture of at most 44739242 pixels"), "{message}");
        assert_eq!(decode(&grey(300), Path::new("x")).unwrap().shape, [3, 300, 300]);
    }
}
