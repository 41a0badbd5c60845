//! Group norm and its gradients. Formulas: the module of this name for the CPU.

use super::device::Gpu;
use super::error::{CudaError, Result};
use super::launch::Grid;
use super::operand::length;
use super::program::{Program, Text};
use super::reduce;
use super::slice::{Slice, SliceMut};
use crate::group_norm::Groups;

const TEXT: Text = Text { name: "group_norm", source: include_str!("../../cuda/group_norm.cu") };

/// y = γ ∘ (x − μ) / √(σ² + ε) + β; writes μ and 1/√(σ² + ε) of every group.
///
/// # Shape
/// x, y: \[n, c, s\] · scale, shift: \[c\] · mean, rstd: \[n, groups\]
///
/// # Errors
/// What the driver or the compiler refuses (all functions here).
pub fn forward(
    gpu: &Gpu,
    sizes: &Groups,
    eps: f64,
    x: Slice<'_>,
    [scale, shift]: [Option<Slice<'_>>; 2],
    y: &SliceMut<'_>,
    [mean, rstd]: [&SliceMut<'_>; 2],
) -> Result<()> {
    let Groups { n, c, s, groups } = *sizes;
    let channels = [scale, shift].map(|of| of.map_or(c, |of| of.len()));
    check(sizes, &[x.len(), y.len()], &[mean.len(), rstd.len()], &channels)?;
    if y.is_empty() {
        return Ok(());
    }
    let arguments = [
        (n * groups).into(),
        groups.into(),
        c.into(),
        s.into(),
        eps.into(),
        x.into(),
        scale.into(),
        shift.into(),
        y.into(),
        mean.into(),
        rstd.into(),
    ];
    gpu.launch(&Program::new(TEXT, y.scalar()), "group_norm", grid(n * groups, y), &arguments)
}

/// dx, dγ and dβ from the input, the output's gradient and what [`forward`] wrote.
///
/// # Shape
/// x, g, dx: \[n, c, s\] · mean, rstd: \[n, groups\] · scale, dγ, dβ: \[c\]
///
/// # Errors
/// As [`forward`].
pub fn backward(
    gpu: &Gpu,
    sizes: &Groups,
    [x, g, mean, rstd]: [Slice<'_>; 4],
    scale: Option<Slice<'_>>,
    dx: &SliceMut<'_>,
    [d_scale, d_shift]: [&SliceMut<'_>; 2],
) -> Result<()> {
    let Groups { n, c, s, groups } = *sizes;
    let channels = [scale.map_or(c, |scale| scale.len()), d_scale.len(), d_shift.len()];
    check(sizes, &[x.len(), g.len(), dx.len()], &[mean.len(), rstd.len()], &channels)?;
    let (scalar, program) = (dx.scalar(), Program::new(TEXT, dx.scalar()));
    let mut along = gpu.memory().numbers(scalar, &[n, c])?;
    let mut total = gpu.memory().numbers(scalar, &[n, c])?;
    let along = SliceMut::new(&mut along, scalar, n * c);
    let total = SliceMut::new(&mut total, scalar, n * c);
    if !dx.is_empty() {
        let arguments = [
            (n * c).into(),
            (c / groups).into(),
            s.into(),
            x.into(),
            g.into(),
            mean.into(),
            rstd.into(),
            (&along).into(),
            (&total).into(),
        ];
        gpu.launch(&program, "group_sums", grid(n * c, dx), &arguments)?;
        let arguments = [
            (n * groups).into(),
            groups.into(),
            c.into(),
            s.into(),
            x.into(),
            g.into(),
            mean.into(),
            rstd.into(),
            scale.into(),
            along.read().into(),
            total.read().into(),
            dx.into(),
        ];
        gpu.launch(&program, "group_input", grid(n * groups, dx), &arguments)?;
    }
    reduce::sum(gpu, along.read(), (1, n, c), 1.0, d_scale)?;
    reduce::sum(gpu, total.read(), (1, n, c), 1.0, d_shift)
}

fn grid(blocks: usize, y: &SliceMut<'_>) -> Grid {
    Grid::blocks(blocks).sharing(y.scalar().bytes())
}

fn check(sizes: &Groups, whole: &[usize], moments: &[usize], channels: &[usize]) -> Result<()> {
    let Groups { n, c, s, groups } = *sizes;
    if groups == 0 || !c.is_multiple_of(groups) {
        let (what, sizes, expected) = ("channels, groups", vec![c, groups], "groups of equal size");
        return Err(CudaError::Sizes { what, sizes, expected });
    }
    let ask = |operand, sizes: &[usize], got: &[usize]| {
        got.iter().try_for_each(|&got| length("group norm", operand, got, sizes))
    };
    ask("the input and what is like it", &[n, c, s], whole)?;
    ask("moments", &[n, groups], moments)?;
    ask("a scale or shift", &[c], channels)
}
