//! One layer record → sums. The only place in AdaFisher that knows kinds of layers.

use engine::{DType, Device, Layer, LayerRecord, Norm, ParamId, Result, Tensor, for_float};
use kernels::conv::Conv2d;
#[cfg(feature = "cuda")]
use kernels::cuda::{CudaError, Gpu, Slice, SliceMut, second_moment as cuda};
use kernels::second_moment::{channel_squares, column_squares, patch_squares};

use super::{ConvGroups, ConvScale, Diagonal, DiagonalRule, Form, NormFactor, NormInput};

/// Sums over the records of one weight.
#[derive(Debug)]
pub(super) struct Sums {
    pub(super) form: Form,
    biases: Vec<ParamId>,
    dtype: DType,
    /// Σ of squares; for `Switch` plain sums per channel (or position).
    pub(super) h: Vec<f64>,
    /// The number of ones that a bias saw, in each H.
    ones: f64,
    /// What `h` and `ones` are divided by.
    h_scale: f64,
    /// Σ of squares; for `Switch` plain sums.
    pub(super) s: Vec<f64>,
    /// R, the rows of `s`; for `Switch` M, the examples.
    rows: f64,
    /// For `Switch`: T, the positions over which one entry of `h` is summed.
    extent: f64,
    /// The entries of one group's H, where the groups of a convolution share theirs.
    shared: Option<usize>,
}

/// h and s as they were made, and where.
pub(super) type Raw = [Tensor; 2];

impl Sums {
    /// Reduces a record; `None` if it has no rows. What comes beside is for [`Sums::filled`].
    pub(super) fn of(record: &LayerRecord, rule: DiagonalRule) -> Result<Option<(Self, Raw)>> {
        if record.output_grad.numel() == 0 {
            return Ok(None);
        }
        let mut sums = Self {
            form: Form::Outer { groups: 1 },
            biases: record.bias.into_iter().collect(),
            dtype: record.output_grad.dtype(),
            h: Vec::new(),
            ones: 0.0,
            h_scale: 0.0,
            s: Vec::new(),
            rows: 0.0,
            extent: 1.0,
            shared: None,
        };
        let raw = match record.layer {
            Layer::Conv2d(_) => sums.convolution(record, rule)?,
            Layer::Lookup => sums.table(record)?,
            Layer::ScaleShift(norm) => match rule.norm_factor {
                NormFactor::Thesis | NormFactor::Identity => {
                    sums.channels(record, norm, rule.norm_input)?
                }
                NormFactor::Paper => sums.switch(record, norm, false)?,
                NormFactor::Official => sums.switch(record, norm, true)?,
            },
            _ => sums.dense(record)?,
        };
        Ok(Some((sums, raw)))
    }

    /// With the numbers of h and s.
    pub(super) fn filled(self, [h, s]: [Vec<f64>; 2]) -> Self {
        let h = match self.shared {
            Some(n) => (0..n).map(|d| h.iter().skip(d).step_by(n).sum()).collect(),
            None => h,
        };
        Self { h, s, ..self }
    }

    fn dense(&mut self, record: &LayerRecord) -> Result<Raw> {
        self.rows = rows_of(&record.output_grad);
        self.h_scale = self.rows;
        self.ones = if record.bias.is_some() { self.rows } else { 0.0 };
        Ok([last_axis_squares(&record.input)?, last_axis_squares(&record.output_grad)?])
    }

    fn convolution(&mut self, record: &LayerRecord, rule: DiagonalRule) -> Result<Raw> {
        let (x, g) = (record.input.contiguous()?, record.output_grad.contiguous()?);
        let conv = record.convolution()?;
        let (m, groups, (_, ow)) = (conv.batch, conv.groups, conv.output);
        let patch = conv.patch();
        self.rows = (m * conv.positions()) as f64;
        let shared = rule.conv_groups == ConvGroups::Shared;
        self.shared = shared.then_some(patch);
        self.form = Form::Outer { groups: if shared { 1 } else { groups } };
        let ones = self.rows * if shared { groups as f64 } else { 1.0 };
        self.ones = if record.bias.is_some() { ones } else { 0.0 };
        self.h_scale = match rule.conv_scale {
            ConvScale::Positions => ones,
            ConvScale::Official => self.rows * patch as f64,
            ConvScale::Spring2024 => (m * ow * patch) as f64,
        };
        Ok([patch_squares_of(&conv, &x)?, channel_squares_of(&g)?])
    }

    fn table(&mut self, record: &LayerRecord) -> Result<Raw> {
        self.form = Form::Table;
        self.rows = rows_of(&record.output_grad);
        self.h_scale = self.rows;
        let counts = frequencies(&record.input, record.weight_shape[0])?;
        Ok([counts, last_axis_squares(&record.output_grad)?])
    }

    fn channels(&mut self, record: &LayerRecord, norm: Norm, input: NormInput) -> Result<Raw> {
        let x = match input {
            NormInput::Raw => record.input.clone(),
            NormInput::Normalized => record.normalized()?,
        };
        let squares = match norm {
            Norm::Batch | Norm::Group { .. } => channel_squares_of,
            Norm::Layer | Norm::Rms => last_axis_squares,
        };
        self.form = Form::Hadamard;
        let raw = [squares(&x.contiguous()?)?, squares(&record.output_grad.contiguous()?)?];
        self.rows = (x.numel() / raw[1].numel().max(1)) as f64;
        self.h_scale = self.rows;
        Ok(raw)
    }

    /// The two-entry rules. What is summed, and T: batch norm and group norm sum each channel, T =
    /// positions. Layer norm and RMS norm: the paper sums each position, T = features; the program
    /// sums each entry of axis 1, T = the sizes of the axes after it.
    fn switch(&mut self, record: &LayerRecord, norm: Norm, official: bool) -> Result<Raw> {
        let (x, g) = (&record.input, &record.output_grad);
        let c = record.weight_shape.numel();
        let m = if x.rank() > 1 { x.shape()[0] } else { 1 };
        let x = match (norm, official) {
            (Norm::Batch | Norm::Group { .. }, _) => x.reshape([m, c, x.numel() / (m * c)])?,
            (Norm::Layer | Norm::Rms, false) => x.reshape([m, x.numel() / (m * c), c])?,
            (Norm::Layer | Norm::Rms, true) => {
                let kept = if x.rank() > 1 { x.shape()[1] } else { c };
                x.reshape([m, kept, x.numel() / (m * kept)])?
            }
        };
        self.form = Form::Switch;
        let by_channel = match norm {
            Norm::Batch | Norm::Group { .. } => {
                g.reshape([m, c, g.numel() / (m * c)])?.sum(&[0, 2])?
            }
            Norm::Layer | Norm::Rms => g.reshape([g.numel() / c, c])?.sum(&[0])?,
        };
        self.rows = m as f64;
        self.extent = x.shape()[2] as f64;
        Ok([x.sum(&[0, 2])?, by_channel])
    }

    pub(super) fn fits(&self, other: &Self) -> bool {
        let sizes = |x: &Self| (x.form, x.h.len(), x.s.len(), x.extent.to_bits());
        sizes(self) == sizes(other)
    }

    pub(super) fn add(&mut self, other: Self) {
        self.h.iter_mut().zip(other.h).for_each(|(a, b)| *a += b);
        self.s.iter_mut().zip(other.s).for_each(|(a, b)| *a += b);
        self.ones += other.ones;
        self.h_scale += other.h_scale;
        self.rows += other.rows;
        for bias in other.biases {
            if !self.biases.contains(&bias) {
                self.biases.push(bias);
            }
        }
    }

    /// All that adds up over rows.
    pub(super) fn numbers_mut(&mut self) -> impl Iterator<Item = &mut f64> {
        let counts = [&mut self.ones, &mut self.h_scale, &mut self.rows];
        self.h.iter_mut().chain(&mut self.s).chain(counts)
    }

    /// From s of a mean over `terms` to d of each term.
    pub(super) fn per_term(&mut self, terms: f64) {
        let factor = if self.form == Form::Switch { terms } else { terms * terms };
        self.s.iter_mut().for_each(|s| *s *= factor);
    }

    /// The diagonals, for s of the mean over `terms`.
    pub(super) fn finish(self, terms: f64, rule: DiagonalRule) -> Diagonal {
        let Self { form, biases, dtype, h, ones, h_scale, s, rows, extent, shared: _ } = self;
        let (h, s) = if form == Form::Switch {
            let official = rule.norm_factor == NormFactor::Official;
            let scale = rows * if official { extent * extent } else { extent };
            let scale_entry = h.iter().map(|x| (x / scale).powi(2)).sum();
            let shift_entry = h.len() as f64 / if official { rows * rows } else { 1.0 };
            let s = s.iter().map(|x| (x / terms).powi(2) / rows).collect();
            (vec![scale_entry, shift_entry], s)
        } else {
            let groups = if let Form::Outer { groups } = form { groups } else { 1 };
            let bias = (ones > 0.0).then_some(ones / h_scale);
            let mut all = Vec::with_capacity(h.len() + groups);
            for group in h.chunks((h.len() / groups).max(1)) {
                all.extend(group.iter().map(|x| x / h_scale).chain(bias));
            }
            (all, s.iter().map(|x| x / (rows * terms * terms)).collect())
        };
        Diagonal { form, biases, dtype, h, s }
    }
}

/// Numbers whose sum is Σ x² over all axes.
pub(crate) fn partial_squares(x: &Tensor) -> Result<Tensor> {
    let rows = x.shape().first().copied().unwrap_or(1).max(1);
    last_axis_squares(&x.reshape([rows, x.numel() / rows])?)
}

/// How often each of `n` indices occurs.
fn frequencies(indices: &Tensor, n: usize) -> Result<Tensor> {
    if indices.device() != Device::Cpu {
        let ones = Tensor::full_on(indices.device(), [indices.numel()], 1.0, DType::F32)?;
        return ones.scatter_add(0, &indices.reshape([indices.numel()])?, n);
    }
    let mut counts = vec![0.0; n];
    for index in indices.to_vec::<i64>()? {
        if let Some(count) = usize::try_from(index).ok().and_then(|i| counts.get_mut(i)) {
            *count += 1.0;
        }
    }
    Tensor::from_vec(counts, [n])
}

/// All axes but the last.
fn rows_of(x: &Tensor) -> f64 {
    let width = x.shape().last().copied().unwrap_or(1);
    (x.numel() / width.max(1)) as f64
}

/// Σ x² over all axes but the last.
fn last_axis_squares(x: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    let width = x.shape().last().copied().unwrap_or(1);
    #[cfg(feature = "cuda")]
    if x.gpu().is_some() {
        return on_cuda(&x, width, cuda::column_squares);
    }
    for_float!(x.dtype(), T => {
        let mut squares = vec![T::default(); width];
        column_squares(x.as_slice::<T>()?, x.numel() / width.max(1), width, &mut squares);
        let len = squares.len();
        Tensor::from_vec(squares, [len])
    })
}

/// Σ x² over all axes but axis 1; `x` is contiguous.
fn channel_squares_of(x: &Tensor) -> Result<Tensor> {
    let (n, c) = (x.shape()[0], x.shape()[1]);
    let positions = x.numel() / (n * c).max(1);
    #[cfg(feature = "cuda")]
    if x.gpu().is_some() {
        return on_cuda(x, c, |gpu, x, y| cuda::channel_squares(gpu, (n, c, positions), x, y));
    }
    for_float!(x.dtype(), T => {
        let mut squares = vec![T::default(); c];
        channel_squares(x.as_slice::<T>()?, n, c, positions, &mut squares);
        let len = squares.len();
        Tensor::from_vec(squares, [len])
    })
}

/// Σ over images and positions of the squares of patches; `x` is contiguous.
fn patch_squares_of(conv: &Conv2d, x: &Tensor) -> Result<Tensor> {
    let entries = conv.groups * conv.patch();
    #[cfg(feature = "cuda")]
    if x.gpu().is_some() {
        return on_cuda(x, entries, |gpu, x, y| cuda::patch_squares(gpu, conv, x, y));
    }
    for_float!(x.dtype(), T => {
        let mut squares = vec![T::default(); entries];
        patch_squares(conv, x.as_slice::<T>()?, &mut squares);
        let len = squares.len();
        Tensor::from_vec(squares, [len])
    })
}

/// `len` sums of squares made on a device, which stay there.
#[cfg(feature = "cuda")]
fn on_cuda(
    x: &Tensor,
    len: usize,
    sums: impl FnOnce(&Gpu, Slice<'_>, &SliceMut<'_>) -> std::result::Result<(), CudaError>,
) -> Result<Tensor> {
    let mut squares = Tensor::full_on(x.device(), [len], 0.0, x.dtype())?;
    if let (Some(gpu), Some(x)) = (x.gpu(), x.cuda_slice()) {
        sums(gpu, x, &squares.make_cuda_mut()?)?;
    }
    Ok(squares)
}
