//! A figure is drawn once and written twice: as SVG, for pages, and as PNG, for everything else. The font is inside.
//!
//! The PNG is written by `png`: the drawing library's own way is a library of all kinds of pictures, which takes
//! longer to build than the drawing.

use std::fs::{self, File};
use std::io::{Error, Result};
use std::path::{Path, PathBuf};

pub use plotters;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

/// The one font there is.
pub const FONT: &str = "sans-serif";

/// A drawing surface.
pub type Canvas<B> = DrawingArea<B, Shift>;

/// Whether something has been drawn.
pub type Drawn<B> = std::result::Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// What can be drawn on any surface.
pub trait Figure {
    /// Pixels, across and down.
    fn size(&self) -> (u32, u32);

    /// Draws it all, background included, and presents the canvas.
    ///
    /// # Errors
    /// What the drawing library says.
    fn render<B: DrawingBackend>(&self, canvas: &Canvas<B>) -> Drawn<B>;
}

/// Writes `name.svg` and `name.png` into a folder that exists; returns their paths.
///
/// # Errors
/// When a file cannot be written or drawn.
pub fn write(figure: &impl Figure, folder: &Path, name: &str) -> Result<[PathBuf; 2]> {
    let failed = |what: String| Error::other(format!("{name}: {what}"));
    let font = epaint_default_fonts::UBUNTU_LIGHT;
    register_font(FONT, FontStyle::Normal, font).map_err(|_| failed("no font".to_owned()))?;
    let size @ (width, height) = figure.size();

    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
    figure.render(&area).map_err(|e| failed(e.to_string()))?;
    drop(area);
    let svg = folder.join(format!("{name}.svg"));
    fs::write(&svg, text)?;

    let mut pixels = vec![0; 3 * width as usize * height as usize];
    let area = BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area();
    figure.render(&area).map_err(|e| failed(e.to_string()))?;
    drop(area);
    let png = folder.join(format!("{name}.png"));
    let mut encoder = png::Encoder::new(File::create(&png)?, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok([svg, png])
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Square;

    impl Figure for Square {
        fn size(&self) -> (u32, u32) {
            (40, 30)
        }

        fn render<B: DrawingBackend>(&self, canvas: &Canvas<B>) -> Drawn<B> {
            canvas.fill(&WHITE)?;
            canvas.draw(&Rectangle::new([(10, 5), (19, 14)], RED.filled()))?;
            canvas.draw(&Text::new("a", (25, 10), (FONT, 12)))?;
            canvas.present()
        }
    }

    #[test]
    fn both_files_show_what_is_drawn() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("figures-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let [svg, png] = write(&Square, &folder, "square")?;
        let svg = fs::read_to_string(svg)?;
        assert!(svg.starts_with("<svg") && svg.contains("#FF0000") && svg.contains("<text"));
        let mut reader =
            png::Decoder::new(std::io::BufReader::new(File::open(png)?)).read_info()?;
        let mut pixels = vec![0; 3 * 40 * 30];
        reader.next_frame(&mut pixels)?;
        let at = |x: usize, y: usize| &pixels[3 * (y * 40 + x)..][..3];
        assert_eq!((at(12, 8), at(2, 2)), (&[255, 0, 0][..], &[255; 3][..]));
        fs::remove_dir_all(folder)
    }
}
