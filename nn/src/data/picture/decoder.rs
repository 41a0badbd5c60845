//! The two decoders behind one face: headers first, then samples.

use std::io::Cursor;

use engine::{Result, room};
use png::{BitDepth, Transformations};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::super::limits::PICTURE;

/// A picture whose headers have been read.
pub(super) enum Decoder<'a> {
    Jpeg(Box<JpegDecoder<ZCursor<&'a [u8]>>>),
    Png(Box<png::Reader<Cursor<&'a [u8]>>>),
}

/// Why there is no picture: the decoder's words, or an error of ours.
pub(super) enum Failed {
    Broken(String),
    Error(engine::Error),
}

impl From<engine::Error> for Failed {
    fn from(error: engine::Error) -> Self {
        Self::Error(error)
    }
}

impl From<png::DecodingError> for Failed {
    fn from(error: png::DecodingError) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<zune_jpeg::errors::DecodeErrors> for Failed {
    fn from(error: zune_jpeg::errors::DecodeErrors) -> Self {
        Self::Broken(format!("{error:?}"))
    }
}

impl<'a> Decoder<'a> {
    pub(super) fn jpeg(bytes: &'a [u8]) -> Result<Self, Failed> {
        // Sides are judged by who asks for them, not by the library.
        let options = DecoderOptions::default()
            .set_strict_mode(false)
            .set_max_width(usize::MAX)
            .set_max_height(usize::MAX);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        decoder.decode_headers()?;
        let asked = match decoder.input_colorspace() {
            Some(as_it_is @ (ColorSpace::Luma | ColorSpace::LumaA | ColorSpace::RGBA)) => as_it_is,
            _ => ColorSpace::RGB,
        };
        decoder.set_options(decoder.options().jpeg_set_out_colorspace(asked));
        Ok(Self::Jpeg(Box::new(decoder)))
    }

    pub(super) fn png(bytes: &'a [u8]) -> Result<Self, Failed> {
        let limits = png::Limits { bytes: PICTURE as usize };
        let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
        decoder.set_ignore_text_chunk(true);
        decoder.set_ignore_iccp_chunk(true);
        // Palettes become colours, and 1, 2 and 4 bits become 8.
        decoder.set_transformations(Transformations::EXPAND);
        Ok(Self::Png(Box::new(decoder.read_info()?)))
    }

    /// Height and width.
    pub(super) fn size(&self) -> [usize; 2] {
        match self {
            Self::Jpeg(decoder) => decoder.dimensions().map_or([0; 2], |(w, h)| [h, w]),
            Self::Png(reader) => [reader.info().height as usize, reader.info().width as usize],
        }
    }

    /// Samples of a pixel, and their bytes.
    pub(super) fn sample(&self) -> (usize, usize) {
        match self {
            Self::Jpeg(decoder) => {
                (decoder.options().jpeg_get_out_colorspace().num_components(), 1)
            }
            Self::Png(reader) => {
                let (colour, depth) = reader.output_color_type();
                (colour.samples(), if depth == BitDepth::Sixteen { 2 } else { 1 })
            }
        }
    }

    /// EXIF data: a TIFF file without pictures.
    pub(super) fn exif(&self) -> Option<&[u8]> {
        match self {
            Self::Jpeg(decoder) => decoder.exif().map(Vec::as_slice),
            Self::Png(reader) => reader.info().exif_metadata.as_deref(),
        }
    }

    /// `[H, W, samples]`, each of 8 bits.
    pub(super) fn decode(self) -> Result<Vec<u8>, Failed> {
        let [height, width] = self.size();
        let (samples, bytes) = self.sample();
        let mut all = room::zeros("decode", height * width * samples * bytes)?;
        match self {
            Self::Jpeg(mut decoder) => decoder.decode_into(&mut all)?,
            Self::Png(mut reader) => {
                reader.next_frame(&mut all)?;
            }
        }
        if bytes == 2 {
            // The nearest of 8 bits, in place.
            for i in 0..all.len() / 2 {
                let wide = u32::from(u16::from_be_bytes([all[2 * i], all[2 * i + 1]]));
                all[i] = ((wide + 128) / 257) as u8;
            }
            all.truncate(height * width * samples);
        }
        Ok(all)
    }
}
