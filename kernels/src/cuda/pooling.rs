//! Max and average pooling over planes \[planes, H, W\], with windows or with as many cells as wanted.

use super::device::Gpu;
use super::error::{CudaError, Result};
use super::launch::{Arg, Grid, Image};
use super::operand::{length, lengths, rows};
use super::program::{Program, Text};
use super::slice::{Slice, SliceMut};
use crate::sizes;
use crate::unfold::Window;

const TEXT: Text = Text { name: "pooling", source: include_str!("../../cuda/pooling.cu") };

/// Planes, their size, and how they are pooled.
#[derive(Debug, Clone, Copy)]
pub struct Pool {
    /// How many planes.
    pub planes: usize,
    /// (H, W)
    pub input: (usize, usize),
    /// (OH, OW)
    pub output: (usize, usize),
    /// The window; `None` for OH × OW cells that cover the plane.
    pub window: Option<Window>,
}

impl Pool {
    fn image(&self) -> Result<Image> {
        let window = self.window.unwrap_or(Window::new((1, 1)));
        Image::new((self.planes, 1, 1, 1), self.input, &window, self.output)
    }

    fn check(&self, x: usize, y: usize) -> Result<()> {
        let Self { planes, input, output, window } = *self;
        length("pooling", "planes", x, &[planes, input.0, input.1])?;
        length("pooling", "outputs", y, &[planes, output.0, output.1])?;
        if let Some(window) = window {
            let (taps, positions) = (window.kernel, window.output(input).unwrap_or_default());
            // So counts of taps do not wrap, and each position is one of the window.
            let counted = sizes::product(&[output.0, output.1, taps.0, taps.1]).is_some();
            if positions != output || !counted {
                let sizes = vec![input.0, input.1, output.0, output.1, taps.0, taps.1];
                let (what, expected) = ("image, outputs, taps", "the window's own outputs");
                return Err(CudaError::Sizes { what, sizes, expected });
            }
        } else if y > 0 && x == 0 {
            length("pooling", "cells of no image", y, &[0])?;
        }
        Ok(())
    }
}

/// y = the largest of each window or cell, and where in its plane it is (−1 if nowhere).
///
/// # Errors
/// What the driver or the compiler refuses (all functions here).
pub fn max(
    gpu: &Gpu,
    pool: &Pool,
    x: Slice<'_>,
    y: &SliceMut<'_>,
    places: &SliceMut<'_>,
) -> Result<()> {
    pool.check(x.len(), y.len())?;
    length("pooling", "places", places.len(), &[y.len()])?;
    if y.is_empty() {
        return Ok(());
    }
    let kernel = if pool.window.is_some() { "max_pool" } else { "adaptive_max" };
    let arguments = [pool.image()?.into(), x.into(), y.into(), places.into()];
    gpu.launch(&Program::new(TEXT, y.scalar()), kernel, Grid::over(y.len()), &arguments)
}

/// dx = g, added in each plane at the places of its outputs.
///
/// # Errors
/// As [`max`].
pub fn scatter(
    gpu: &Gpu,
    (planes, pixels, outputs): (usize, usize, usize),
    g: Slice<'_>,
    places: Slice<'_>,
    dx: &SliceMut<'_>,
) -> Result<()> {
    let all = [("g", g.len()), ("places", places.len())];
    lengths("pooling scatter", &[planes, outputs], all)?;
    length("pooling scatter", "dx", dx.len(), &[planes, pixels])?;
    if dx.is_empty() {
        return Ok(());
    }
    let arguments =
        [planes.into(), pixels.into(), outputs.into(), g.into(), places.into(), dx.into()];
    gpu.launch(&Program::new(TEXT, dx.scalar()), "scatter", Grid::over(planes), &arguments)
}

/// y = x at the places, plane by plane; 0 where there is no place.
///
/// # Errors
/// As [`max`].
pub fn pick(
    gpu: &Gpu,
    (pixels, outputs): (usize, usize),
    x: Slice<'_>,
    places: Slice<'_>,
    y: &SliceMut<'_>,
) -> Result<()> {
    length("pooling pick", "places", places.len(), &[y.len()])?;
    if y.is_empty() {
        return Ok(());
    }
    let planes = rows("pooling pick", "y", y.len(), outputs)?;
    length("pooling pick", "x", x.len(), &[planes, pixels])?;
    let arguments =
        [y.len().into(), pixels.into(), outputs.into(), x.into(), places.into(), y.into()];
    gpu.launch(&Program::new(TEXT, y.scalar()), "pick", Grid::over(y.len()), &arguments)
}

/// y = the average of each window (over all its taps, or those inside the plane) or cell.
///
/// # Errors
/// As [`max`].
pub fn avg(gpu: &Gpu, pool: &Pool, all_taps: bool, x: Slice<'_>, y: &SliceMut<'_>) -> Result<()> {
    pool.check(x.len(), y.len())?;
    averaged(gpu, pool, all_taps, ["avg_pool", "adaptive_avg"], x, y)
}

/// dx of [`avg`]: every pixel gets its share of each window or cell that it is in.
///
/// # Errors
/// As [`max`].
pub fn avg_backward(
    gpu: &Gpu,
    pool: &Pool,
    all_taps: bool,
    g: Slice<'_>,
    dx: &SliceMut<'_>,
) -> Result<()> {
    pool.check(dx.len(), g.len())?;
    averaged(gpu, pool, all_taps, ["avg_pool_backward", "adaptive_avg_backward"], g, dx)
}

fn averaged(
    gpu: &Gpu,
    pool: &Pool,
    all_taps: bool,
    [windows, cells]: [&'static str; 2],
    from: Slice<'_>,
    to: &SliceMut<'_>,
) -> Result<()> {
    if to.is_empty() {
        return Ok(());
    }
    let (program, grid) = (Program::new(TEXT, to.scalar()), Grid::over(to.len()));
    let image: Arg = pool.image()?.into();
    if pool.window.is_none() {
        return gpu.launch(&program, cells, grid, &[image, from.into(), to.into()]);
    }
    gpu.launch(
        &program,
        windows,
        grid,
        &[image, i32::from(all_taps).into(), from.into(), to.into()],
    )
}
