//! The figures, each as SVG and PNG.

use std::path::{Path, PathBuf};

use alcyon::optim::audit::Audit;
use alcyon::prelude::*;
use figures::plotters::prelude::*;
use figures::{Canvas, Drawn};

use crate::heat::Heat;
use crate::panels::{Panels, discs, spectra};

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
        let written = figures::write(&figure, folder, name);
        paths.extend(written.map_err(|e| Error::io(folder, e))?);
    }
    Ok(paths)
}

impl figures::Figure for Figure {
    fn size(&self) -> (u32, u32) {
        match self {
            Self::Heat(heat) => heat.size(),
            Self::Panels(panels) => panels.size(),
        }
    }

    fn render<B: DrawingBackend>(&self, canvas: &Canvas<B>) -> Drawn<B> {
        canvas.fill(&WHITE)?;
        match self {
            Self::Heat(heat) => heat.render(canvas)?,
            Self::Panels(panels) => panels.render(canvas)?,
        }
        canvas.present()
    }
}
