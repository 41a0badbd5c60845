//! Convolution as products of patches (im2col, Chellapilla, Puri & Simard 2006), by cuBLAS.
//!
//! With the patches X of an image as columns, each image and group is Y = W X, and its gradient
//! Wᵀ G, folded back: every pixel adds up what the patches have for it, in one order. The gradient of W is
//! Σ Gₙ Xₙᵀ over images, one product whose inner axis is images and positions, for which g changes order.
//!
//! Patches of as many images as fit in a workspace are laid out at a time. A pointwise window of
//! stride 1 needs none: the image is its columns.

use std::ops::Range;

use super::{image, lay_down};
use crate::conv::Conv2d;
use crate::cuda::cast;
use crate::cuda::device::Gpu;
use crate::cuda::error::Result;
use crate::cuda::gemm::{Matrices, Results, gemm, gemm_into};
use crate::cuda::launch::Grid;
use crate::cuda::memory::Buffer;
use crate::cuda::program::{Program, Text};
use crate::cuda::slice::{Scalar, Slice, SliceMut};
use crate::cuda::strided;

pub(in crate::cuda) const TEXT: Text =
    Text { name: "unfold", source: include_str!("../../../cuda/unfold.cu") };

/// [`conv::forward`](super::forward) by this rung, with patches of at most `workspace` bytes at a time, or
/// those of one image. No size is 0 (all functions here).
///
/// # Errors
/// As there (all functions here).
pub fn forward(
    gpu: &Gpu,
    conv: &Conv2d,
    workspace: usize,
    x: Slice<'_>,
    weight: Slice<'_>,
    bias: Option<Slice<'_>>,
    y: &SliceMut<'_>,
) -> Result<()> {
    super::check_whole(conv, (x, weight, y.read()), (bias, conv.out_channels))?;
    let beta = lay_down(gpu, (conv.batch, conv.out_channels, conv.positions()), bias, y)?;
    if conv.window.is_pointwise() {
        return outputs(gpu, conv, 0..conv.batch, x, weight, beta, y);
    }
    let mut patches = Patches::new(gpu, conv, workspace, x.scalar())?;
    for images in patches.turns() {
        let columns = patches.unfold(gpu, &images, x)?;
        outputs(gpu, conv, images, columns, weight, beta, y)?;
    }
    Ok(())
}

/// [`conv::backward_input`](super::backward_input) by this rung. Gradients of patches are in the type that is
/// added in: nothing is rounded twice.
///
/// # Errors
/// As [`forward`].
pub fn backward_input(
    gpu: &Gpu,
    conv: &Conv2d,
    workspace: usize,
    g: Slice<'_>,
    weight: Slice<'_>,
    bias: Option<Slice<'_>>,
    dx: &SliceMut<'_>,
) -> Result<()> {
    super::check_whole(conv, (dx.read(), weight, g), (bias, conv.in_channels))?;
    if conv.window.is_pointwise() {
        let beta = lay_down(gpu, (conv.batch, conv.in_channels, conv.pixels()), bias, dx)?;
        return gradients(gpu, conv, g, weight, beta, dx);
    }
    let program = Program::new(TEXT, dx.scalar());
    let mut patches = Patches::new(gpu, conv, workspace, dx.scalar().computed_in())?;
    for images in patches.turns() {
        let columns = patches.of(&images);
        let size = conv.out_channels * conv.positions();
        let g = g.part(images.start * size, images.len() * size);
        gradients(gpu, conv, g, weight, 0.0, &columns)?;
        let part = Conv2d { batch: images.len(), ..*conv };
        let pixels = part.batch * conv.in_channels * conv.pixels();
        let bias = bias.into();
        let arguments =
            [image(&part)?.into(), images.start.into(), (&columns).into(), bias, dx.into()];
        gpu.launch(&program, "fold", Grid::over(pixels), &arguments)?;
    }
    Ok(())
}

/// [`conv::backward_weight`](super::backward_weight) by this rung.
///
/// # Errors
/// As [`forward`].
pub fn backward_weight(
    gpu: &Gpu,
    conv: &Conv2d,
    workspace: usize,
    x: Slice<'_>,
    g: Slice<'_>,
    dw: &SliceMut<'_>,
) -> Result<()> {
    super::check_whole(conv, (x, dw.read(), g), (None, 0))?;
    let scalar = dw.scalar();
    let mut patches = Patches::new(gpu, conv, workspace, scalar)?;
    let turns: Vec<_> = patches.turns().collect();
    // Sums over several turns are rounded once, after the last.
    let in_turns = turns.len() > 1 && scalar != scalar.computed_in();
    let sums = if in_turns { dw.len() } else { 0 };
    let mut sums = gpu.memory().numbers(scalar.computed_in(), &[sums])?;
    let wide = in_turns.then(|| SliceMut::new(&mut sums, scalar.computed_in(), dw.len()));
    let into = wide.as_ref().unwrap_or(dw);
    let (outputs, patch, p) = (conv.out_channels / conv.groups, conv.patch(), conv.positions());
    let several = if patches.images > 1 { patches.images } else { 0 };
    let mut turned = gpu.memory().numbers(scalar, &[several, conv.out_channels, p])?;
    for images in turns {
        let (beta, m) = (if images.start == 0 { 0.0 } else { 1.0 }, images.len());
        let columns = patches.unfold_together(gpu, &images, x)?;
        let g = g.part(images.start * conv.out_channels * p, m * conv.out_channels * p);
        let g = together(gpu, (m, conv.out_channels, p), g, &mut turned)?;
        let g = Matrices::new(g, outputs, m * p);
        let columns = Matrices::new(columns, patch, m * p).t();
        gemm(gpu, conv.groups, 1.0, g, columns, beta, into)?;
    }
    wide.map_or(Ok(()), |sums| cast::cast(gpu, sums.read(), dw))
}

/// Y = W X + β Y for some images; X: \[images, groups, D, P\].
fn outputs(
    gpu: &Gpu,
    conv: &Conv2d,
    images: Range<usize>,
    columns: Slice<'_>,
    weight: Slice<'_>,
    beta: f64,
    y: &SliceMut<'_>,
) -> Result<()> {
    let (outputs, d, p) = (conv.out_channels / conv.groups, conv.patch(), conv.positions());
    for k in 0..conv.groups {
        let weight = Matrices::new(weight.part(k * outputs * d, outputs * d), outputs, d);
        let columns = columns.part(k * d * p, columns.len() - k * d * p);
        let columns = Matrices { batch: conv.groups * d * p, ..Matrices::new(columns, d, p) };
        let start = (images.start * conv.groups + k) * outputs * p;
        let y = Results { data: y, start, batch: conv.out_channels * p };
        gemm_into(gpu, images.len(), 1.0, Matrices { batch: 0, ..weight }, columns, beta, y)?;
    }
    Ok(())
}

/// X = Wᵀ G + β X for some images; g: \[images, O, P\] · X: \[images, groups, D, P\].
fn gradients(
    gpu: &Gpu,
    conv: &Conv2d,
    g: Slice<'_>,
    weight: Slice<'_>,
    beta: f64,
    columns: &SliceMut<'_>,
) -> Result<()> {
    let (outputs, d, p) = (conv.out_channels / conv.groups, conv.patch(), conv.positions());
    let images = g.len() / (conv.out_channels * p);
    for k in 0..conv.groups {
        let weight = Matrices::new(weight.part(k * outputs * d, outputs * d), outputs, d);
        let g = g.part(k * outputs * p, g.len() - k * outputs * p);
        let g = Matrices { batch: conv.out_channels * p, ..Matrices::new(g, outputs, p) };
        let (start, batch) = (k * d * p, conv.groups * d * p);
        let columns = Results { data: columns, start, batch };
        gemm_into(gpu, images, 1.0, Matrices { batch: 0, ..weight.t() }, g, beta, columns)?;
    }
    Ok(())
}

/// \[images, channels, pixels\] as \[channels, images, pixels\], which of one image it is already.
fn together<'a>(
    gpu: &Gpu,
    (images, channels, pixels): (usize, usize, usize),
    x: Slice<'a>,
    room: &'a mut Buffer,
) -> Result<Slice<'a>> {
    if images == 1 {
        return Ok(x);
    }
    let sizes = [channels, images, pixels];
    strided::copy(
        gpu,
        &sizes,
        &[pixels, channels * pixels, 1],
        x,
        &SliceMut::new(room, x.scalar(), x.len()),
    )?;
    Ok(Slice::new(room, x.scalar(), 0, x.len()))
}

/// Room for the patches of so many images at a time.
struct Patches<'a> {
    conv: &'a Conv2d,
    scalar: Scalar,
    images: usize,
    room: Buffer,
}

impl<'a> Patches<'a> {
    fn new(gpu: &Gpu, conv: &'a Conv2d, workspace: usize, scalar: Scalar) -> Result<Self> {
        let numbers = conv.groups * conv.patch() * conv.positions();
        let images = (workspace / scalar.bytes() / numbers).clamp(1, conv.batch);
        let room = gpu.memory().numbers(scalar, &[images, numbers])?;
        Ok(Self { conv, scalar, images, room })
    }

    /// The images of each turn.
    fn turns(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (images, batch) = (self.images, self.conv.batch);
        (0..batch).step_by(images).map(move |first| first..batch.min(first + images))
    }

    /// What the images' patches are to be written to.
    fn of(&mut self, images: &Range<usize>) -> SliceMut<'_> {
        let size = self.conv.groups * self.conv.patch() * self.conv.positions();
        SliceMut::new(&mut self.room, self.scalar, images.len() * size)
    }

    /// Their patches one image after another: \[images, groups, D, P\].
    fn unfold(&mut self, gpu: &Gpu, images: &Range<usize>, x: Slice<'_>) -> Result<Slice<'_>> {
        let p = self.conv.positions();
        self.write(gpu, images, x, [self.conv.groups * self.conv.patch() * p, p])
    }

    /// Their patches side by side: \[groups, D, images · P\].
    fn unfold_together<'b>(
        &'b mut self,
        gpu: &Gpu,
        images: &Range<usize>,
        x: Slice<'b>,
    ) -> Result<Slice<'b>> {
        let p = self.conv.positions();
        if self.conv.window.is_pointwise() {
            let size = self.conv.in_channels * p;
            let x = x.part(images.start * size, images.len() * size);
            return together(gpu, (images.len(), self.conv.in_channels, p), x, &mut self.room);
        }
        self.write(gpu, images, x, [p, images.len() * p])
    }

    fn write(
        &mut self,
        gpu: &Gpu,
        images: &Range<usize>,
        x: Slice<'_>,
        [step, row]: [usize; 2],
    ) -> Result<Slice<'_>> {
        let part = Conv2d { batch: images.len(), ..*self.conv };
        let size = part.in_channels * part.pixels();
        let x = x.part(images.start * size, images.len() * size);
        let columns = self.of(images);
        let arguments =
            [image(&part)?.into(), step.into(), row.into(), x.into(), (&columns).into()];
        let grid = Grid::over(part.batch * part.in_channels * part.positions());
        gpu.launch(&Program::new(TEXT, x.scalar()), "unfold", grid, &arguments)?;
        let len = columns.len();
        Ok(Slice::new(&self.room, self.scalar, 0, len))
    }
}
