//! One layer record → sums of second moments. The only place in K-FAC that knows kinds of layers.
//!
//! | layer | inputs | outputs | kept |
//! |-------|--------|---------|------|
//! | dense | Σ a aᵀ over rows, `a` ends in 1 if there is a bias | Σ g gᵀ over rows | `[n, n]`, `[m, m]` |
//! | convolution | the same over patches, for each group | the same over positions, for each group | `[groups, n, n]`, `[groups, m, m]` |
//! | transposed convolution | the same over the input's pixels | the same over patches of the output's gradient | `[groups, n, n]`, `[groups, m, m]` |
//! | its bias | 1 for every pixel of the output | Σ g gᵀ over them | `[1, 1]`, `[m, m]` |
//! | lookup | counts of the indices: Σ a aᵀ of one-hot rows is diagonal | Σ g gᵀ | `[V]`, `[D, D]` |
//! | scale and shift | — | γ: Σ over examples (Σ over positions g x̂)²; β: of (Σ g)² | `[1 or 2, C]` |
//!
//! That is [`Kind::Block`], uncut. Cut factors keep the blocks of their [`Pattern`]; a convolution is cut
//! between channels. [`Kind::Diagonal`] keeps the diagonals. [`Kind::Full`] keeps, for any layer, Σ over
//! examples of vec(D) vec(D)ᵀ with D the example's gradient of weight and bias: `[P, P]`.
//!
//! The sums are formed by kernels that read each record once; only [`Share::Reduce`] writes rows down. Those
//! of a record on a device are formed, and stay, there.

mod there;

use std::ops::Range;

use engine::{
    Device, Error, Layer, LayerRecord, Norm, ParamId, Product, Result, Rows, Tensor, for_float,
    room,
};
use kernels::conv::Conv2d;
use kernels::second_moment;

use super::example_gradients::example_gradients;
use super::numbers::Numbers;
use crate::algebra::pattern::Pattern;
use crate::curvature::form::Kind;
use crate::curvature::form::{Form, Reduction, Share, form_and_groups};

/// The sums of one record.
#[derive(Debug, Clone)]
pub(crate) struct Moments {
    pub(crate) form: Form,
    pub(crate) groups: usize,
    pub(crate) bias: Option<ParamId>,
    pub(crate) inputs: Pattern,
    pub(crate) outputs: Pattern,
    /// Empty, from no rows, when inputs were not asked for.
    pub(crate) a: Numbers,
    pub(crate) rows: usize,
    pub(crate) g: Numbers,
}

impl Moments {
    /// Reduces a record. The inputs do not depend on whose labels the output gradients come from, so
    /// they are left out (`inputs` = false) in all sweeps of a batch but the first.
    pub(crate) fn of(record: &LayerRecord, reduction: Reduction, inputs: bool) -> Result<Self> {
        if reduction.kind == Kind::Full {
            return joint(record);
        }
        let Some((form, groups)) = form_and_groups(record) else {
            let got = format!("{:?}", record.layer);
            let (name, expected) = ("layer", "dense, convolution, lookup or scale and shift");
            return Err(Error::Argument { op: "kfac", name, expected, got });
        };
        let kept = reduction.patterns(record, form, groups);
        // Sums, and where they come from, are there at once.
        let numbers = kept.0.numbers().saturating_add(kept.1.numbers()).saturating_mul(groups);
        room::expect("kfac", numbers.saturating_mul(3 * size_of::<f64>()))?;
        let (a, rows, g) = if record.output_grad.device() == Device::Cpu {
            let (a, rows, g) = sums(record, reduction.share, inputs, &kept)?;
            (Numbers::Here(a), rows, Numbers::Here(g))
        } else {
            there::sums(record, reduction.share, inputs, &kept)?
        };
        let rows = if inputs { rows } else { 0 };
        let (inputs, outputs) = kept;
        Ok(Self { form, groups, bias: record.bias, inputs, outputs, a, rows, g })
    }
}

type Sums = (Vec<f64>, usize, Vec<f64>);

fn sums(
    record: &LayerRecord,
    share: Share,
    inputs: bool,
    kept: &(Pattern, Pattern),
) -> Result<Sums> {
    match (record.layer, share) {
        (Layer::Lookup, _) => lookup(record, inputs, &kept.1),
        (Layer::ScaleShift(norm), _) => {
            let squares = scale_shift(record, norm)?;
            let squares = squares.iter().map(Tensor::to_f64_vec).collect::<Result<Vec<_>>>()?;
            Ok((Vec::new(), 1, squares.concat()))
        }
        (_, Share::Reduce) => reduced(record, inputs, kept),
        (Layer::ConvTranspose2d(_) | Layer::Bias, Share::Expand) => of_rows(record, inputs, kept),
        (Layer::Conv2d(_), Share::Expand) => convolution(record, inputs, kept),
        (_, Share::Expand) => dense(record, inputs, kept),
    }
}

fn dense(record: &LayerRecord, inputs: bool, (a, g): &(Pattern, Pattern)) -> Result<Sums> {
    let ones = record.bias.is_some();
    let (x, rows) = as_rows(&record.input)?;
    let (d, _) = as_rows(&record.output_grad)?;
    let a = if inputs { gram(&x, a, ones)? } else { Vec::new() };
    Ok((a, rows, gram(&d, g, false)?))
}

fn lookup(record: &LayerRecord, inputs: bool, outputs: &Pattern) -> Result<Sums> {
    let mut counts = vec![0.0; if inputs { record.weight_shape[0] } else { 0 }];
    if inputs {
        for &index in record.input.contiguous()?.as_slice::<i64>()? {
            if let Some(count) = usize::try_from(index).ok().and_then(|i| counts.get_mut(i)) {
                *count += 1.0;
            }
        }
    }
    let (g, _) = as_rows(&record.output_grad)?;
    Ok((counts, record.input.numel(), gram(&g, outputs, false)?))
}

fn convolution(record: &LayerRecord, inputs: bool, (a, g): &(Pattern, Pattern)) -> Result<Sums> {
    let (conv, ones) = (record.convolution()?, record.bias.is_some());
    let positions = conv.batch * conv.positions();
    let a = if inputs { patch_gram(&conv, &record.input, a, ones)? } else { Vec::new() };
    let channels = conv.out_channels / conv.groups;
    let mut sums = Vec::with_capacity(conv.groups * g.numbers());
    for group in 0..conv.groups {
        // Of a diagonal, all channels at once.
        let ranges = match g {
            Pattern::Diagonal(n) => Pattern::whole(*n).ranges(),
            Pattern::Blocks(_) => g.ranges(),
        };
        for range in ranges {
            let start = group * channels + range.start;
            let part = record.output_grad.narrow(1, start, range.len())?.contiguous()?;
            sums.extend(channel_gram(
                &conv,
                &part,
                range.len(),
                matches!(g, Pattern::Diagonal(_)),
            )?);
        }
    }
    Ok((a, positions, sums))
}

/// The second moments of channels, `[N, c, OH, OW]`, or the diagonal of them.
fn channel_gram(conv: &Conv2d, g: &Tensor, c: usize, diagonal: bool) -> Result<Vec<f64>> {
    let (n, positions) = (conv.batch, conv.positions());
    Ok(for_float!(g.dtype(), T => {
        let mut sum = vec![T::default(); if diagonal { c } else { c * c }];
        let g = g.as_slice::<T>()?;
        if diagonal {
            second_moment::channel_squares(g, n, c, positions, &mut sum);
        } else {
            second_moment::channel_gram(g, n, c, positions, &mut sum);
        }
        widened(sum)
    }))
}

/// The second moments of patches, group by group. A block of them is that of a convolution which sees
/// the block's channels alone.
fn patch_gram(conv: &Conv2d, x: &Tensor, kept: &Pattern, ones: bool) -> Result<Vec<f64>> {
    let rows = (conv.batch * conv.positions()) as f64;
    if let Pattern::Diagonal(_) = kept {
        let x = x.contiguous()?;
        let squares = for_float!(x.dtype(), T => {
            let mut squares = vec![T::default(); conv.groups * conv.patch()];
            second_moment::patch_squares(conv, x.as_slice::<T>()?, &mut squares);
            widened(squares)
        });
        let of_one = ones.then_some(rows);
        let groups = squares.chunks(conv.patch().max(1));
        return Ok(groups.flat_map(|group| group.iter().copied().chain(of_one)).collect());
    }
    let of = |conv: &Conv2d, x: &Tensor, ones: bool| -> Result<Vec<f64>> {
        let n = conv.patch() + usize::from(ones);
        Ok(for_float!(x.dtype(), T => {
            let mut sum = vec![T::default(); conv.groups * n * n];
            second_moment::patch_gram(conv, x.as_slice::<T>()?, ones, &mut sum);
            widened(sum)
        }))
    };
    let ranges = kept.ranges();
    if let [_] = ranges.as_slice() {
        return of(conv, &x.contiguous()?, ones);
    }
    let taps = conv.window.kernel.0 * conv.window.kernel.1;
    let channels = conv.in_channels / conv.groups;
    let mut sums = Vec::with_capacity(conv.groups * kept.numbers());
    for group in 0..conv.groups {
        for Range { start, end } in &ranges {
            let ones = ones && *end > channels * taps;
            let (start, in_channels) = (start / taps, (end - start - usize::from(ones)) / taps);
            let part = x.narrow(1, group * channels + start, in_channels)?.contiguous()?;
            let conv = Conv2d { groups: 1, in_channels, out_channels: 1, ..*conv };
            sums.extend(of(&conv, &part, ones)?);
        }
    }
    Ok(sums)
}

/// The second moments of rows that are written down.
fn of_rows(
    record: &LayerRecord,
    inputs: bool,
    (kept, outputs): &(Pattern, Pattern),
) -> Result<Sums> {
    let (mut a_sum, mut g_sum, mut count) = (Vec::new(), Vec::new(), 0);
    for Rows { a, g, .. } in record.rows()? {
        count = a.shape()[0];
        if inputs {
            a_sum.extend(gram(&a, kept, false)?);
        }
        g_sum.extend(gram(&g, outputs, false)?);
    }
    Ok((a_sum, count, g_sum))
}

/// The second moments of the examples' gradients, all numbers of weight and bias together. Uses of one
/// weight in several layers are rows of their own, as everywhere here.
fn joint(record: &LayerRecord) -> Result<Moments> {
    let (root, examples) = example_gradients(record)?;
    let size = root.len().checked_div(examples).unwrap_or(0);
    let (form, outputs) =
        (Form::Joint { biases: size - record.weight_shape.numel() }, Pattern::whole(size));
    let mut g = vec![0.0; size * size];
    second_moment::gram(&root, examples, size, &mut g);
    let (inputs, a, g) = (Pattern::Diagonal(0), Numbers::default(), Numbers::Here(g));
    Ok(Moments { form, groups: 1, bias: record.bias, inputs, outputs, a, rows: 1, g })
}

/// The second moments of what is [`gathered`].
fn reduced(
    record: &LayerRecord,
    inputs: bool,
    (kept, outputs): &(Pattern, Pattern),
) -> Result<Sums> {
    let (mut a_sum, mut g_sum, mut examples) = (Vec::new(), Vec::new(), 0);
    for rows in record.rows()? {
        examples = rows.examples;
        let (mean, sum) = gathered(&rows)?;
        if inputs {
            a_sum.extend(gram(&mean, kept, false)?);
        }
        g_sum.extend(gram(&sum, outputs, false)?);
    }
    Ok((a_sum, examples, g_sum))
}

/// The mean of `a` and the sum of `g` over the positions of each example.
fn gathered(rows: &Rows) -> Result<(Tensor, Tensor)> {
    let Rows { a, g, product, examples } = rows;
    let dense = matches!(product, Product::Outer | Product::Transposed);
    debug_assert!(dense, "only dense layers and convolutions come here");
    let positions = a.shape()[0].checked_div(*examples).unwrap_or(0);
    let gathered = |t: &Tensor| t.reshape([*examples, positions, t.shape()[1]])?.sum(&[1]);
    Ok((gathered(a)?.scale(1.0 / positions.max(1) as f64)?, gathered(g)?))
}

/// Σ over examples of the squares of the per-example gradients of γ, then of β.
fn scale_shift(record: &LayerRecord, norm: Norm) -> Result<Vec<Tensor>> {
    let g = &record.output_grad;
    let channel = norm.channel(g.rank());
    let (n, c) = (g.shape()[0], g.shape()[channel]);
    // A lone row (a norm of one vector) is one example.
    let n = if channel == 0 { 1 } else { n };
    let positions: Vec<isize> =
        (1..g.rank()).filter(|&axis| axis != channel).map(|axis| axis as isize).collect();
    let squares = |per_position: &Tensor| -> Result<Tensor> {
        let per_example = per_position.sum(&positions)?.reshape([n, c])?;
        per_example.mul(&per_example)?.sum(&[0])
    };
    let mut out = vec![squares(&g.mul(&record.normalized()?)?)?];
    if record.bias.is_some() {
        out.push(squares(g)?);
    }
    Ok(out)
}

/// All leading axes flattened, and how many rows that makes.
fn as_rows(x: &Tensor) -> Result<(Tensor, usize)> {
    let width = x.shape().last().copied().unwrap_or(1);
    let rows = x.numel().checked_div(width).unwrap_or(0);
    Ok((x.reshape([rows, width])?, rows))
}

/// What is kept of xᵀx, with a column of ones appended to x if asked.
fn gram(x: &Tensor, kept: &Pattern, ones: bool) -> Result<Vec<f64>> {
    let (rows, width) = (x.shape()[0], x.shape()[1]);
    let ranges = match kept {
        Pattern::Diagonal(_) => {
            let x = x.contiguous()?;
            let mut squares = for_float!(x.dtype(), T => {
                let mut squares = vec![T::default(); width];
                second_moment::column_squares(x.as_slice::<T>()?, rows, width, &mut squares);
                widened(squares)
            });
            squares.extend(ones.then_some(rows as f64));
            return Ok(squares);
        }
        Pattern::Blocks(_) => kept.ranges(),
    };
    let mut sums = Vec::with_capacity(kept.numbers());
    for Range { start, end } in ranges {
        let (ones, n) = (ones && end > width, end - start);
        let x = x.narrow(1, start, n - usize::from(ones))?.contiguous()?;
        for_float!(x.dtype(), T => {
            let mut out = vec![T::default(); n * n];
            let (x, width) = (x.as_slice::<T>()?, x.shape()[1]);
            if ones {
                second_moment::gram_with_ones(x, rows, width, &mut out);
            } else {
                second_moment::gram(x, rows, width, &mut out);
            }
            sums.extend(widened(out));
        });
    }
    Ok(sums)
}

fn widened<T: engine::Element>(values: Vec<T>) -> Vec<f64> {
    values.into_iter().map(engine::Element::to_f64).collect()
}
