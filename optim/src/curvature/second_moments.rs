//! One layer record → sums of second moments. The only place in K-FAC that knows kinds of layers.
//!
//! | layer | inputs | outputs | kept |
//! |-------|--------|---------|------|
//! | dense | Σ a aᵀ over rows, `a` ends in 1 if there is a bias | Σ g gᵀ over rows | `[n, n]`, `[m, m]` |
//! | convolution | the same over patches, for each group | the same over positions, for each group | `[groups, n, n]`, `[groups, m, m]` |
//! | transposed convolution | the same over the input's pixels | the same over patches of the output's gradient | `[groups, n, n]`, `[groups, m, m]` |
//! | lookup | counts of the indices: Σ a aᵀ of one-hot rows is diagonal | Σ g gᵀ | `[V]`, `[D, D]` |
//! | scale and shift | — | γ: Σ over examples (Σ over positions g x̂)²; β: of (Σ g)² | `[1 or 2, C]` |
//!
//! The sums are formed by kernels that read each record once; only [`Share::Reduce`] writes rows down.

use engine::{Error, Layer, LayerRecord, Norm, ParamId, Product, Result, Rows, Tensor, for_float};
use kernels::second_moment;

/// What becomes of the positions that share a weight. Eschenhagen et al. 2023, section 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Share {
    /// Every position is a row: A is the mean over examples and positions, G the mean over terms of
    /// the sum over positions.
    #[default]
    Expand,
    /// Positions are gathered first: A from the mean of `a` over the positions of an example, G
    /// from the sum of its `g`. Uses of one weight in several layers are still rows of their own.
    Reduce,
}

/// How a block's curvature is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// G ⊗ A for each group, both full. Convolutions are of this form too.
    Dense,
    /// A ⊗ G for each group, both full: of a weight whose first axis is the input's. Transposed
    /// convolutions are of this form.
    Transposed,
    /// A diagonal (the frequency of each index), G full.
    Lookup,
    /// The diagonal alone: the second moments of the per-example gradients of γ (and β).
    ScaleShift,
}

/// The sums of one record.
#[derive(Debug, Clone)]
pub(crate) struct Moments {
    pub(crate) form: Form,
    pub(crate) groups: usize,
    pub(crate) bias: Option<ParamId>,
    /// Empty, from no rows, when inputs were not asked for.
    pub(crate) a: Vec<f64>,
    pub(crate) rows: usize,
    pub(crate) g: Vec<f64>,
}

impl Moments {
    /// Reduces a record. The inputs do not depend on whose labels the output gradients come from, so
    /// they are left out (`inputs` = false) in all sweeps of a batch but the first.
    pub(crate) fn of(record: &LayerRecord, share: Share, inputs: bool) -> Result<Self> {
        let (form, groups) = match record.layer {
            Layer::Dense => (Form::Dense, 1),
            Layer::Conv2d(geometry) => (Form::Dense, geometry.groups),
            Layer::ConvTranspose2d(geometry) => (Form::Transposed, geometry.groups),
            Layer::Lookup => (Form::Lookup, 1),
            Layer::ScaleShift(_) => (Form::ScaleShift, if record.bias.is_some() { 2 } else { 1 }),
            other => {
                let got = format!("{other:?}");
                let (name, expected) = ("layer", "dense, convolution, lookup or scale and shift");
                return Err(Error::Argument { op: "kfac", name, expected, got });
            }
        };
        let (a, rows, g) = match (record.layer, share) {
            (Layer::Lookup, _) => lookup(record, inputs)?,
            (Layer::ScaleShift(norm), _) => (Vec::new(), 1, scale_shift(record, norm)?),
            (_, Share::Reduce) => reduced(record, inputs)?,
            (Layer::ConvTranspose2d(_), Share::Expand) => of_rows(record, inputs)?,
            (Layer::Conv2d(_), Share::Expand) => convolution(record, inputs)?,
            (_, Share::Expand) => dense(record, inputs)?,
        };
        let rows = if inputs { rows } else { 0 };
        Ok(Self { form, groups, bias: record.bias, a, rows, g })
    }
}

type Sums = (Vec<f64>, usize, Vec<f64>);

fn dense(record: &LayerRecord, inputs: bool) -> Result<Sums> {
    let ones = record.bias.is_some();
    let (x, rows) = as_rows(&record.input)?;
    let (g, _) = as_rows(&record.output_grad)?;
    let a = if inputs { gram(&x, ones)? } else { Vec::new() };
    Ok((a, rows, gram(&g, false)?))
}

fn lookup(record: &LayerRecord, inputs: bool) -> Result<Sums> {
    let mut counts = vec![0.0; if inputs { record.weight_shape[0] } else { 0 }];
    if inputs {
        for &index in record.input.contiguous()?.as_slice::<i64>()? {
            if let Some(count) = usize::try_from(index).ok().and_then(|i| counts.get_mut(i)) {
                *count += 1.0;
            }
        }
    }
    let (g, _) = as_rows(&record.output_grad)?;
    Ok((counts, record.input.numel(), gram(&g, false)?))
}

fn convolution(record: &LayerRecord, inputs: bool) -> Result<Sums> {
    let (conv, ones) = (record.convolution()?, record.bias.is_some());
    let (groups, positions) = (conv.groups, conv.positions());
    let n = conv.patch() + usize::from(ones);
    let x = record.input.contiguous()?;
    let a = for_float!(x.dtype(), T => {
        let mut a = vec![T::default(); if inputs { groups * n * n } else { 0 }];
        if inputs {
            second_moment::patch_gram(&conv, x.as_slice::<T>()?, ones, &mut a);
        }
        widened(a)
    });
    let channels = conv.out_channels / groups;
    let mut g = Vec::with_capacity(groups * channels * channels);
    for group in 0..groups {
        let part = record.output_grad.narrow(1, group * channels, channels)?.contiguous()?;
        for_float!(part.dtype(), T => {
            let mut sum = vec![T::default(); channels * channels];
            let part = part.as_slice::<T>()?;
            second_moment::channel_gram(part, conv.batch, channels, positions, &mut sum);
            g.extend(widened(sum));
        });
    }
    Ok((a, conv.batch * positions, g))
}

/// The second moments of rows that are written down.
fn of_rows(record: &LayerRecord, inputs: bool) -> Result<Sums> {
    let (mut a_sum, mut g_sum, mut count) = (Vec::new(), Vec::new(), 0);
    for Rows { a, g, .. } in record.rows()? {
        count = a.shape()[0];
        if inputs {
            a_sum.extend(gram(&a, false)?);
        }
        g_sum.extend(gram(&g, false)?);
    }
    Ok((a_sum, count, g_sum))
}

/// The mean of `a` and the sum of `g` over the positions of each example, then their second moments.
fn reduced(record: &LayerRecord, inputs: bool) -> Result<Sums> {
    let (mut a_sum, mut g_sum, mut examples) = (Vec::new(), Vec::new(), 0);
    for Rows { a, g, product, examples: n } in record.rows()? {
        let dense = matches!(product, Product::Outer | Product::Transposed);
        debug_assert!(dense, "only dense layers and convolutions come here");
        examples = n;
        let positions = a.shape()[0].checked_div(n).unwrap_or(0);
        let gathered = |t: &Tensor| t.reshape([n, positions, t.shape()[1]])?.sum(&[1]);
        if inputs {
            let mean = gathered(&a)?.scale(1.0 / positions.max(1) as f64)?;
            a_sum.extend(gram(&mean, false)?);
        }
        g_sum.extend(gram(&gathered(&g)?, false)?);
    }
    Ok((a_sum, examples, g_sum))
}

/// Σ over examples of the squares of the per-example gradients of γ, then of β.
fn scale_shift(record: &LayerRecord, norm: Norm) -> Result<Vec<f64>> {
    let g = &record.output_grad;
    let channel = norm.channel(g.rank());
    let (n, c) = (g.shape()[0], g.shape()[channel]);
    // A lone row (a norm of one vector) is one example.
    let n = if channel == 0 { 1 } else { n };
    let positions: Vec<isize> =
        (1..g.rank()).filter(|&axis| axis != channel).map(|axis| axis as isize).collect();
    let squares = |per_position: &Tensor| -> Result<Vec<f64>> {
        let per_example = per_position.sum(&positions)?.reshape([n, c])?;
        per_example.mul(&per_example)?.sum(&[0])?.to_f64_vec()
    };
    let mut out = squares(&g.mul(&record.normalized()?)?)?;
    if record.bias.is_some() {
        out.extend(squares(g)?);
    }
    Ok(out)
}

/// All leading axes flattened, and how many rows that makes.
fn as_rows(x: &Tensor) -> Result<(Tensor, usize)> {
    let width = x.shape().last().copied().unwrap_or(1);
    let rows = x.numel().checked_div(width).unwrap_or(0);
    Ok((x.reshape([rows, width])?, rows))
}

/// xᵀx, with a column of ones appended to x if asked.
fn gram(x: &Tensor, ones: bool) -> Result<Vec<f64>> {
    let (rows, width) = (x.shape()[0], x.shape()[1]);
    let n = width + usize::from(ones);
    let x = x.contiguous()?;
    Ok(for_float!(x.dtype(), T => {
        let mut out = vec![T::default(); n * n];
        let x = x.as_slice::<T>()?;
        if ones {
            second_moment::gram_with_ones(x, rows, width, &mut out);
        } else {
            second_moment::gram(x, rows, width, &mut out);
        }
        widened(out)
    }))
}

fn widened<T: engine::Element>(values: Vec<T>) -> Vec<f64> {
    values.into_iter().map(engine::Element::to_f64).collect()
}
