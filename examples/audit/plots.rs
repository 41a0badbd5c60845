//! The figures, each as SVG and PNG.

use std::fs;
use std::path::{Path, PathBuf};

use alcyon::optim::curvature::audit::Audit;
use alcyon::prelude::*;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use crate::heat::Heat;
use crate::panels::{Panels, discs, spectra};

pub(crate) const FONT: &str = "sans-serif";

/// A drawing surface.
pub(crate) type Canvas<B> = DrawingArea<B, Shift>;

/// One figure.
enum Figure {
    Heat(Heat),
    Panels(Panels),
}

/// Draws all figures into a folder that exists; returns their paths.
///
/// # Errors
/// [`Error::Io`] when a file cannot be written or drawn.
pub(crate) fn draw(report: &Audit, folder: &Path) -> Result<Vec<PathBuf>> {
    let font = epaint_default_fonts::UBUNTU_LIGHT;
    let failed = |what: &str| Error::io(folder, std::io::Error::other(what.to_owned()));
    register_font(FONT, FontStyle::Normal, font).map_err(|_| failed("the font is not readable"))?;
    let shape = "distance from the exact block, its scale forgiven (0 is exact)";
    let aligned = "cosine with the exact step, at the block's trace and damping (1 is exact)";
    let figures = [
        ("errors", Figure::Heat(Heat::new(report, shape, |line| line.distance.shape, false))),
        ("aligned", Figure::Heat(Heat::new(report, aligned, |line| line.aligned, true))),
        ("spectra", Figure::Panels(spectra(report))),
        ("discs", Figure::Panels(discs(report))),
    ];
    let mut paths = Vec::new();
    for (name, figure) in figures {
        let (svg, png) = (folder.join(format!("{name}.svg")), folder.join(format!("{name}.png")));
        let mut text = String::new();
        let area = SVGBackend::with_string(&mut text, figure.size()).into_drawing_area();
        figure.render(&area).map_err(|e| failed(&e))?;
        drop(area);
        fs::write(&svg, text).map_err(|e| Error::io(&svg, e))?;
        let area = BitMapBackend::new(&png, figure.size()).into_drawing_area();
        figure.render(&area).map_err(|e| failed(&e))?;
        drop(area);
        paths.extend([svg, png]);
    }
    Ok(paths)
}

impl Figure {
    fn size(&self) -> (u32, u32) {
        match self {
            Self::Heat(heat) => heat.size(),
            Self::Panels(panels) => panels.size(),
        }
    }

    fn render<B: DrawingBackend>(&self, canvas: &Canvas<B>) -> Result<(), String> {
        let drawn = canvas.fill(&WHITE).and_then(|()| match self {
            Self::Heat(heat) => heat.render(canvas),
            Self::Panels(panels) => panels.render(canvas),
        });
        drawn.and_then(|()| canvas.present()).map_err(|e| e.to_string())
    }
}
