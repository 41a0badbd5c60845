//! Layer and RMS norm over rows and batch norm over channels, with their gradients. Formulas: `norm.rs` of
//! the engine's ops.

use super::device::Gpu;
use super::error::Result;
use super::launch::Grid;
use super::operand::length;
use super::program::{Program, Text};
use super::reduce;
use super::slice::{Slice, SliceMut};

const TEXT: Text = Text { name: "norm", source: include_str!("../../cuda/norm.cu") };

/// Rows whose parameter gradients one thread adds up.
const CHUNK: usize = 64;

/// y = γ ∘ (x − μ) / √(σ² + ε) + β along rows; writes μ and 1/√(σ² + ε) of every row.
///
/// # Shape
/// x, y: \[R, width\] · scale, shift: \[width\] · mean, rstd: \[R\]
///
/// # Errors
/// What the driver or the compiler refuses (all functions here).
pub fn layer_norm(
    gpu: &Gpu,
    width: usize,
    eps: f64,
    x: Slice<'_>,
    [scale, shift]: [Option<Slice<'_>>; 2],
    y: &SliceMut<'_>,
    [mean, rstd]: [&SliceMut<'_>; 2],
) -> Result<()> {
    let rows = mean.len();
    let parameters = [scale, shift].map(|s| s.map_or(width, |s| s.len()));
    let expected = [
        ([rows, width], &[x.len(), y.len()][..]),
        ([rows, 1], &[rstd.len()]),
        ([1, width], &parameters),
    ];
    check("layer norm", expected)?;
    if rows == 0 {
        return Ok(());
    }
    let arguments = [
        rows.into(),
        width.into(),
        eps.into(),
        x.into(),
        scale.into(),
        shift.into(),
        y.into(),
        mean.into(),
        rstd.into(),
    ];
    gpu.launch(&Program::new(TEXT, y.scalar()), "layer_norm", grid(rows, y), &arguments)
}

/// dx of [`layer_norm`] from its input, the output's gradient and the moments.
///
/// # Errors
/// As [`layer_norm`].
pub fn layer_norm_input(
    gpu: &Gpu,
    width: usize,
    [x, g, mean, rstd]: [Slice<'_>; 4],
    scale: Option<Slice<'_>>,
    dx: &SliceMut<'_>,
) -> Result<()> {
    let rows = mean.len();
    let whole = [x.len(), g.len(), dx.len()];
    let scales = [scale.map_or(width, |s| s.len())];
    check(
        "layer norm backward",
        [([rows, width], &whole[..]), ([rows, 1], &[rstd.len()]), ([1, width], &scales)],
    )?;
    if rows == 0 {
        return Ok(());
    }
    let arguments = [
        rows.into(),
        width.into(),
        x.into(),
        g.into(),
        mean.into(),
        rstd.into(),
        scale.into(),
        dx.into(),
    ];
    gpu.launch(&Program::new(TEXT, dx.scalar()), "layer_norm_input", grid(rows, dx), &arguments)
}

/// dγ = Σ g ∘ x̂ and dβ = Σ g over all rows.
///
/// # Errors
/// As [`layer_norm`].
pub fn layer_norm_parameters(
    gpu: &Gpu,
    width: usize,
    [x, g, mean, rstd]: [Slice<'_>; 4],
    [d_scale, d_shift]: [&SliceMut<'_>; 2],
) -> Result<()> {
    let rows = mean.len();
    let (whole, outputs) = ([x.len(), g.len()], [d_scale.len(), d_shift.len()]);
    let expected =
        [([rows, width], &whole[..]), ([rows, 1], &[rstd.len()]), ([1, width], &outputs)];
    check("layer norm parameters", expected)?;
    let (pieces, scalar) = (rows.div_ceil(CHUNK), d_scale.scalar());
    let length = pieces * width;
    let memory = || gpu.memory().numbers(scalar, &[pieces, width]);
    let (mut a, mut b) = (memory()?, memory()?);
    let (a, b) = (SliceMut::new(&mut a, scalar, length), SliceMut::new(&mut b, scalar, length));
    if length > 0 {
        let arguments = [
            rows.into(),
            width.into(),
            CHUNK.into(),
            x.into(),
            g.into(),
            mean.into(),
            rstd.into(),
            (&a).into(),
            (&b).into(),
        ];
        let program = Program::new(TEXT, scalar);
        gpu.launch(&program, "layer_norm_parameters", Grid::over(length), &arguments)?;
    }
    reduce::sum(gpu, a.read(), (1, pieces, width), 1.0, d_scale)?;
    reduce::sum(gpu, b.read(), (1, pieces, width), 1.0, d_shift)
}

/// y = γ ∘ x / √(mean x² + ε) along rows; writes 1/√(mean x² + ε) of every row.
///
/// # Shape
/// x, y: \[R, width\] · scale: \[width\] · rstd: \[R\]
///
/// # Errors
/// As [`layer_norm`].
pub fn rms_norm(
    gpu: &Gpu,
    width: usize,
    eps: f64,
    x: Slice<'_>,
    scale: Option<Slice<'_>>,
    y: &SliceMut<'_>,
    rstd: &SliceMut<'_>,
) -> Result<()> {
    let rows = rstd.len();
    let scales = [scale.map_or(width, |s| s.len())];
    check("rms norm", [([rows, width], &[x.len(), y.len()][..]), ([1, width], &scales)])?;
    if rows == 0 {
        return Ok(());
    }
    let arguments =
        [rows.into(), width.into(), eps.into(), x.into(), scale.into(), y.into(), rstd.into()];
    gpu.launch(&Program::new(TEXT, y.scalar()), "rms_norm", grid(rows, y), &arguments)
}

/// dx of [`rms_norm`] from its input, the output's gradient and what it wrote. Its dγ is that of
/// [`layer_norm_parameters`] with means of 0.
///
/// # Errors
/// As [`layer_norm`].
pub fn rms_norm_input(
    gpu: &Gpu,
    width: usize,
    [x, g, rstd]: [Slice<'_>; 3],
    scale: Option<Slice<'_>>,
    dx: &SliceMut<'_>,
) -> Result<()> {
    let rows = rstd.len();
    let (whole, scales) = ([x.len(), g.len(), dx.len()], [scale.map_or(width, |s| s.len())]);
    check("rms norm backward", [([rows, width], &whole[..]), ([1, width], &scales)])?;
    if rows == 0 {
        return Ok(());
    }
    let arguments =
        [rows.into(), width.into(), x.into(), g.into(), rstd.into(), scale.into(), dx.into()];
    gpu.launch(&Program::new(TEXT, dx.scalar()), "rms_norm_input", grid(rows, dx), &arguments)
}

/// Sizes of a batch seen by batch norm: \[n, c, s\].
pub type Channels = (usize, usize, usize);

/// Mean, 1/√(σ² + ε) and variance σ² of every channel.
///
/// # Errors
/// As [`layer_norm`].
pub fn batch_moments(
    gpu: &Gpu,
    (n, c, s): Channels,
    eps: f64,
    x: Slice<'_>,
    [mean, rstd, variance]: [&SliceMut<'_>; 3],
) -> Result<()> {
    let moments = [mean.len(), rstd.len(), variance.len()];
    check("batch norm moments", [([n, c, s], &[x.len()][..]), ([1, c, 1], &moments)])?;
    if c == 0 {
        return Ok(());
    }
    let arguments = [
        n.into(),
        c.into(),
        s.into(),
        eps.into(),
        x.into(),
        mean.into(),
        rstd.into(),
        variance.into(),
    ];
    gpu.launch(&Program::new(TEXT, mean.scalar()), "batch_moments", grid(c, mean), &arguments)
}

/// y = γ ∘ (x − μ) · rstd + β over channels.
///
/// # Errors
/// As [`layer_norm`].
pub fn batch_apply(
    gpu: &Gpu,
    (n, c, s): Channels,
    x: Slice<'_>,
    [mean, rstd, scale, shift]: [Slice<'_>; 4],
    y: &SliceMut<'_>,
) -> Result<()> {
    let channels = [mean, rstd, scale, shift].map(|of| of.len());
    check("batch norm", [([n, c, s], &[x.len(), y.len()][..]), ([1, c, 1], &channels)])?;
    if y.is_empty() {
        return Ok(());
    }
    let arguments = [
        y.len().into(),
        c.into(),
        s.into(),
        x.into(),
        mean.into(),
        rstd.into(),
        scale.into(),
        shift.into(),
        y.into(),
    ];
    gpu.launch(&Program::new(TEXT, y.scalar()), "batch_apply", Grid::over(y.len()), &arguments)
}

/// dx, dγ and dβ of batch norm with the batch's own moments.
///
/// # Errors
/// As [`layer_norm`].
pub fn batch_backward(
    gpu: &Gpu,
    (n, c, s): Channels,
    [x, g]: [Slice<'_>; 2],
    [mean, rstd, scale]: [Slice<'_>; 3],
    dx: &SliceMut<'_>,
    [d_scale, d_shift]: [&SliceMut<'_>; 2],
) -> Result<()> {
    let channels = [mean.len(), rstd.len(), scale.len(), d_scale.len(), d_shift.len()];
    let whole = [x.len(), g.len(), dx.len()];
    check("batch norm backward", [([n, c, s], &whole[..]), ([1, c, 1], &channels)])?;
    if dx.is_empty() {
        return Ok(());
    }
    let program = Program::new(TEXT, dx.scalar());
    let arguments = [
        n.into(),
        c.into(),
        s.into(),
        x.into(),
        g.into(),
        mean.into(),
        rstd.into(),
        d_scale.into(),
        d_shift.into(),
    ];
    gpu.launch(&program, "batch_parameters", grid(c, dx), &arguments)?;
    let arguments = [
        dx.len().into(),
        c.into(),
        s.into(),
        x.into(),
        g.into(),
        mean.into(),
        rstd.into(),
        scale.into(),
        d_scale.read().into(),
        d_shift.read().into(),
        dx.into(),
    ];
    gpu.launch(&program, "batch_input", Grid::over(dx.len()), &arguments)
}

fn grid(blocks: usize, y: &SliceMut<'_>) -> Grid {
    Grid::blocks(blocks).sharing(y.scalar().bytes())
}

/// Asks that the arrays of each list have the sizes that stand before it.
fn check<const N: usize, const D: usize>(
    kernel: &'static str,
    expected: [([usize; D], &[usize]); N],
) -> Result<()> {
    expected.into_iter().try_for_each(|(sizes, lengths)| {
        lengths.iter().try_for_each(|&got| length(kernel, "an operand", got, &sizes))
    })
}
