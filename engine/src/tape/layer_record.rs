//! What a layer saw and what came back to it: the data of all curvature.

use crate::storage::CpuStorage;
use crate::tensor::Tensor;
use crate::{Error, ParamId, Result, Shape};
use kernels::conv::Conv2d;
use kernels::unfold::Window;

/// The kind of a layer: what its weight gradient is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layer {
    /// y = x Wᵀ + b over the last axis.
    Dense,
    /// 2-D cross-correlation; of a line too, as an image one pixel high.
    Conv2d(Geometry),
    /// The adjoint of one. Its bias adds up over *result* pixels, which belong to several rows: it is a
    /// record of its own, of the next kind.
    ConvTranspose2d(Geometry),
    /// y = x + b for every position of an image, b a number for each channel: what a transposed
    /// convolution adds. A layer of weight b whose only input is the constant 1.
    Bias,
    /// Row `i` of a table for index `i`.
    Lookup,
    /// y = γ ∘ x̂ + β, where x̂ is the normalised input.
    ScaleShift(Norm),
}

/// How a convolution slides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Kernel size, stride, padding, dilation.
    pub window: Window,
    /// Channels are split into this many independent convolutions.
    pub groups: usize,
}

impl Geometry {
    /// The sizes of this convolution of images `[N, C, H, W]` to `outputs` channels, as kernels want
    /// them. None if the window does not fit, or those are no images.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{Geometry, Window};
    /// let geometry = Geometry { window: Window::new((3, 3)), groups: 1 };
    /// assert_eq!(geometry.sizes(&[8, 1, 28, 28], 16).map(|conv| conv.output), Some((26, 26)));
    /// assert_eq!(geometry.sizes(&[8, 1, 2, 28], 16), None);
    /// ```
    #[must_use]
    pub fn sizes(&self, images: &[usize], outputs: usize) -> Option<Conv2d> {
        let &[n, c, h, w] = images else { return None };
        Conv2d::new(n, self.groups, c, outputs, (h, w), self.window)
    }
}

impl Layer {
    /// The name of its op.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{Layer, Norm};
    /// assert_eq!(Layer::Dense.name(), "linear");
    /// assert_eq!(Layer::ScaleShift(Norm::Rms).name(), "rms_norm");
    /// ```
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dense => "linear",
            Self::Conv2d(_) => "conv2d",
            Self::ConvTranspose2d(_) | Self::Bias => "conv_transpose2d",
            Self::Lookup => "embedding",
            Self::ScaleShift(norm) => norm.name(),
        }
    }
}

/// What a normalising layer normalises over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// Axis 1 is the channel; all other axes are averaged over.
    Batch,
    /// The last axis is averaged over, and is the feature.
    Layer,
    /// As `Layer`, but nothing is subtracted: the mean is 0, the deviation the root mean square.
    Rms,
    /// Axis 1 is the channel; an example's channels in groups, each averaged with its positions.
    Group {
        /// How many groups there are.
        groups: usize,
    },
}

impl Norm {
    /// The name of its op.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch_norm",
            Self::Layer => "layer_norm",
            Self::Rms => "rms_norm",
            Self::Group { .. } => "group_norm",
        }
    }

    /// The axis that γ runs along, in an input of this many axes.
    #[must_use]
    pub const fn channel(self, rank: usize) -> usize {
        match self {
            Self::Batch | Self::Group { .. } => 1,
            Self::Layer | Self::Rms => rank.saturating_sub(1),
        }
    }
}

/// One use of one weight: what the layer saw, and the gradient that came back to its output. 16-bit numbers
/// are widened: whatever is made of a record is f32 or f64.
#[derive(Debug, Clone)]
pub struct LayerRecord {
    /// The layer's kind.
    pub layer: Layer,
    /// The weight's identity.
    pub weight: ParamId,
    /// The weight's shape.
    pub weight_shape: crate::Shape,
    /// The bias's identity, if there is one.
    pub bias: Option<ParamId>,
    /// Dense `[.., in]`, convolutions `[N, C, H, W]`, Lookup indices, ScaleShift: the *raw* input. Bias: a
    /// tensor `[N, 1]` without numbers, on [`Device::Meta`](crate::Device::Meta).
    pub input: Tensor,
    /// For ScaleShift: the mean and the reciprocal deviation that normalised the input.
    pub moments: Option<(Tensor, Tensor)>,
    /// ∂L/∂output, of the output's shape; it carries the 1/N of the mean loss.
    pub output_grad: Tensor,
    /// Whether no other layer lies between its output and where the sweep began: a model's readout, or one of
    /// several.
    pub is_last: bool,
}

/// How the weight gradient follows from rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// `gᵀ a`: `[out, in (+1)]`, the bias gradient in the last column.
    Outer,
    /// `aᵀ g`: `[in, out]`, of a weight whose first axis is the input's.
    Transposed,
    /// `Σ g ∘ a`: `[C]`; the bias gradient is `Σ g`.
    Hadamard,
    /// `a` holds indices: row `v` of the gradient is the sum of `g` over the rows with `a = v`.
    Lookup {
        /// The number of rows of the table.
        vocabulary: usize,
    },
}

/// A record as rows: R terms whose product *is* the weight gradient.
#[derive(Debug, Clone)]
pub struct Rows {
    /// `[R, in]`, with a column of ones at the end if the layer has a bias (`[R, in + 1]`);
    /// `[R, C]` for Hadamard; indices `[R]` for Lookup.
    pub a: Tensor,
    /// `[R, out]`.
    pub g: Tensor,
    /// How they combine.
    pub product: Product,
    /// The examples that the rows belong to, in order: R = examples · positions.
    pub examples: usize,
}

/// Receives each layer's record while a tape is swept backward. Whoever records on that tape meanwhile, or sweeps
/// it again, ends the sweep with [`Error::TapeSwept`].
pub trait LayerObserver {
    /// One use of one layer. Reduce it here; nothing is kept for you.
    ///
    /// # Errors
    /// The observer's own; they end the sweep.
    fn observe(&mut self, record: &LayerRecord) -> Result<()>;

    /// A parameter was used by an op that is not a layer (a penalty term, a tied transpose): a
    /// curvature that ignores this use is wrong for it.
    ///
    /// # Errors
    /// The observer's own; they end the sweep.
    fn unlayered(&mut self, _param: ParamId, _op: &'static str) -> Result<()> {
        Ok(())
    }
}

/// Keeps every record: for teaching and tests.
impl LayerObserver for Vec<LayerRecord> {
    fn observe(&mut self, record: &LayerRecord) -> Result<()> {
        self.push(record.clone());
        Ok(())
    }
}

impl LayerRecord {
    /// The record as rows, one [`Rows`] per group (one for everything but grouped convolutions).
    ///
    /// # Shape
    /// Dense: R = all leading axes. Conv2d: R = N · OH · OW, `a` in the order (channel in the
    /// group, kernel row, kernel column) of a row-major weight. ConvTranspose2d: R = N · H · W, the
    /// pixels of the input; `a` its channels, `g` the patch of the output's gradient that the pixel's
    /// products were added to, in that order. Bias: R = N · OH · OW, `a` = 1. ScaleShift: R = all positions
    /// that share γ, `a` = x̂.
    ///
    /// # Errors
    /// [`Error::NoKernel`] on a device without the kernels.
    pub fn rows(&self) -> Result<Vec<Rows>> {
        let examples = self.examples();
        let one = |a, g, product| Ok(vec![Rows { a, g, product, examples }]);
        match self.layer {
            Layer::Dense => {
                let a = as_rows(&self.input)?;
                let a = if self.bias.is_some() { with_ones(&a)? } else { a };
                one(a, as_rows(&self.output_grad)?, Product::Outer)
            }
            Layer::Conv2d(geometry) => {
                let pairs = patches_and_pixels(&geometry, &self.input, &self.output_grad)?;
                let rows = |(patches, pixels)| {
                    let a = if self.bias.is_some() { with_ones(&patches)? } else { patches };
                    Ok(Rows { a, g: pixels, product: Product::Outer, examples })
                };
                pairs.into_iter().map(rows).collect()
            }
            Layer::ConvTranspose2d(geometry) => {
                let pairs = patches_and_pixels(&geometry, &self.output_grad, &self.input)?;
                let product = Product::Transposed;
                let rows = |(patches, pixels)| Rows { a: pixels, g: patches, product, examples };
                Ok(pairs.into_iter().map(rows).collect())
            }
            Layer::Lookup => {
                let n = self.input.numel();
                let indices = self.input.reshape([n])?;
                let product = Product::Lookup { vocabulary: self.weight_shape[0] };
                one(indices, as_rows(&self.output_grad)?, product)
            }
            Layer::Bias => {
                let g = channel_last(&self.output_grad, 1)?;
                let ones = Tensor::full_on(g.device(), [g.shape()[0], 1], 1.0, g.dtype())?;
                one(ones, g, Product::Outer)
            }
            Layer::ScaleShift(norm) => {
                let channel = norm.channel(self.output_grad.rank());
                let a = channel_last(&self.normalized()?, channel)?;
                one(a, channel_last(&self.output_grad, channel)?, Product::Hadamard)
            }
        }
    }

    /// For a normalising layer: x̂ = (x − mean) / deviation, of the input's shape.
    ///
    /// # Errors
    /// [`Error::Shape`] for other layers.
    pub fn normalized(&self) -> Result<Tensor> {
        let (Some((mean, rstd)), Layer::ScaleShift(norm)) = (&self.moments, self.layer) else {
            return Err(Error::shape("normalized", "a normalising layer", &[self.input.shape()]));
        };
        let shape = self.input.shape();
        let mut view = *shape;
        let aligned = match norm {
            Norm::Batch => {
                let mut dims = vec![1; shape.rank()];
                dims[1] = shape[1];
                crate::Shape::new(&dims)?
            }
            Norm::Layer | Norm::Rms => shape.with(shape.rank() - 1, 1),
            Norm::Group { groups } => {
                let rows = shape[0] * groups;
                view = [rows, shape.numel().checked_div(rows).unwrap_or(0)].into();
                [rows, 1].into()
            }
        };
        let x = self.input.reshape(view)?;
        x.sub(&mean.reshape(aligned)?)?.mul(&rstd.reshape(aligned)?)?.reshape(shape)
    }

    /// The sizes of a convolution.
    ///
    /// # Errors
    /// [`Error::Shape`] when the layer is another one.
    pub fn convolution(&self) -> Result<Conv2d> {
        let sizes = match self.layer {
            Layer::Conv2d(geometry) => geometry.sizes(self.input.shape(), self.weight_shape[0]),
            _ => None,
        };
        let expected = "the images of a convolution, [N, C, H, W]";
        sizes.ok_or_else(|| Error::shape("convolution", expected, &[self.input.shape()]))
    }

    /// N: the first axis, unless the input is a single example without one.
    #[must_use]
    pub fn examples(&self) -> usize {
        let own_axes = usize::from(self.layer != Layer::Lookup);
        if self.input.rank() > own_axes { self.input.shape()[0] } else { 1 }
    }
}

/// For each group of a convolution that takes `image` to images of the size of `pixels`: the patches
/// under its window, and what stands in `pixels` at its positions.
///
/// # Shape
/// `[N · positions, C/groups · KH · KW]` and `[N · positions, O/groups]`
fn patches_and_pixels(
    geometry: &Geometry,
    image: &Tensor,
    pixels: &Tensor,
) -> Result<Vec<(Tensor, Tensor)>> {
    let sizes = match **pixels.shape() {
        [_, out, _, _] => geometry.sizes(image.shape(), out),
        _ => None,
    };
    let Some(conv) = sizes else {
        return Err(Error::shape("rows", "[N, C, H, W]", &[image.shape(), pixels.shape()]));
    };
    let (n, groups, width, positions) = (conv.batch, conv.groups, conv.patch(), conv.positions());
    let pixels = pixels.reshape([n, groups, conv.out_channels / groups, positions])?;
    let pair = |(k, patches): (usize, Tensor)| {
        let pixels = pixels.narrow(1, k, 1)?.permute(&[0, 3, 1, 2])?;
        Ok((patches, pixels.reshape([n * positions, conv.out_channels / groups])?))
    };
    let image = image.contiguous()?;
    #[cfg(feature = "cuda")]
    if image.gpu().is_some() {
        let columns = patches_there(&conv, &image)?;
        let rows = |k: usize| columns.narrow(0, k * width, width)?.transpose(0, 1);
        return (0..groups).map(|k| pair((k, rows(k)?))).collect();
    }
    let (c, (h, w)) = (conv.in_channels, conv.input);
    let shape = Shape::new(&[n, groups, width, positions])?;
    let mut columns = CpuStorage::of_op("rows", image.dtype(), shape.numel())?;
    crate::for_float!(image.dtype(), T => {
        let images = image.as_slice::<T>()?.chunks_exact((c * h * w).max(1));
        let tiles = columns.slice_mut::<T>().chunks_exact_mut((groups * width * positions).max(1));
        for (image, tile) in images.zip(tiles) {
            kernels::unfold::unfold(image, c, h, w, &geometry.window, tile);
        }
    });
    let columns = Tensor::from_cpu(columns, shape);
    let rows =
        |k: usize| columns.narrow(1, k, 1)?.permute(&[0, 3, 1, 2])?.reshape([n * positions, width]);
    (0..groups).map(|k| pair((k, rows(k)?))).collect()
}

/// The patches of all groups as columns, on the images' device.
#[cfg(feature = "cuda")]
fn patches_there(conv: &Conv2d, image: &Tensor) -> Result<Tensor> {
    let shape = [conv.groups * conv.patch(), conv.batch * conv.positions()];
    let (Some(gpu), Some(x)) = (image.gpu(), image.cuda_slice()) else {
        return Err(Error::NoKernel { op: "rows", device: image.device() });
    };
    let mut out =
        crate::storage::CudaStorage::unspecified(gpu, image.dtype(), shape[0] * shape[1])?;
    kernels::cuda::patches::patches(gpu, conv, x, &out.slice_mut())?;
    Ok(Tensor::from_cuda(out, shape.into()))
}

impl Rows {
    /// The gradient that the rows say the weight (and bias) has: the identity that every layer op
    /// is tested for.
    ///
    /// # Shape
    /// Outer `[out, in (+1)]`; Transposed `[in, out]`; Hadamard `[2, C]` (γ, then β); Lookup `[vocabulary, out]`.
    ///
    /// # Errors
    /// [`Error::NoKernel`] on a device without the kernels.
    pub fn gradient(&self) -> Result<Tensor> {
        match self.product {
            Product::Outer => self.g.permute(&[1, 0])?.matmul(&self.a),
            Product::Transposed => self.a.permute(&[1, 0])?.matmul(&self.g),
            Product::Hadamard => {
                let scale = self.g.mul(&self.a)?.sum(&[0])?;
                let shift = self.g.sum(&[0])?;
                let c = scale.numel();
                Tensor::concat(&[&scale.reshape([1, c])?, &shift.reshape([1, c])?], 0)
            }
            Product::Lookup { vocabulary } => self.g.scatter_add(0, &self.a, vocabulary),
        }
    }
}

/// All leading axes flattened: `[R, width]`.
fn as_rows(x: &Tensor) -> Result<Tensor> {
    let (rows, width) = match &**x.shape() {
        [leading @ .., width] => (leading.iter().product(), *width),
        [] => (1, 1),
    };
    x.reshape([rows, width])
}

/// The channel axis moved to the end, all others flattened: `[R, C]`.
fn channel_last(x: &Tensor, channel: usize) -> Result<Tensor> {
    if channel + 1 == x.rank() {
        return as_rows(x);
    }
    let channel = channel as isize;
    let order: Vec<isize> =
        (0..x.rank() as isize).filter(|&a| a != channel).chain(std::iter::once(channel)).collect();
    as_rows(&x.permute(&order)?)
}

fn with_ones(a: &Tensor) -> Result<Tensor> {
    let ones = Tensor::full_on(a.device(), [a.shape()[0], 1], 1.0, a.dtype())?;
    Tensor::concat(&[a, &ones], 1)
}
