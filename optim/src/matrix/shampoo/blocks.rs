//! Cutting a tensor into blocks, and the preconditioner of one block.

use std::fmt;
use std::ops::Range;

use engine::{DType, Element, Error, FloatElement, Result, Shape, Tensor, for_float};
use kernels::gemm::{Matrix, gemm};
use kernels::second_moment::gram;
use kernels::transpose::transpose;
use kernels::{linalg, parallel};

use super::Statistics;
use crate::LongSides;
use crate::algebra::dense::correction;
use crate::algebra::dense::failed_in;
use crate::algebra::pattern::Pattern;
use crate::curvature::block::precondition::of_side;

/// So many failures in a row are borne with the previous roots.
const FAILURES_BORNE: u32 = 2;

/// How a parameter is cut: its axes, some of them merged, into pieces of at most a block. An axis that keeps
/// its diagonal is one piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    dims: Vec<usize>,
    sides: LongSides,
}

impl Cut {
    pub(super) fn new(shape: &Shape, sides: LongSides, merge: bool) -> Self {
        let block = sides.block.max(1);
        let mut dims: Vec<usize> = Vec::new();
        for &size in shape.iter() {
            match dims.last_mut() {
                Some(last) if merge && last.saturating_mul(size) <= block => *last *= size,
                _ => dims.push(size),
            }
        }
        // A scalar is a vector of one number.
        if dims.is_empty() {
            dims.push(1);
        }
        Self { dims, sides }
    }

    /// The longest piece of each axis.
    fn pieces(&self) -> Vec<usize> {
        let piece = |&dim: &usize| match self.sides.of(dim) {
            Pattern::Diagonal(n) => n.max(1),
            Pattern::Blocks(_) => self.sides.block.max(1),
        };
        self.dims.iter().map(piece).collect()
    }

    /// What is kept along each axis of a block.
    pub(super) fn patterns(&self, block: &[Range<usize>]) -> Vec<Pattern> {
        let side = |(range, &dim): (&Range<usize>, &usize)| match self.sides.of(dim) {
            Pattern::Diagonal(_) => Pattern::Diagonal(range.len()),
            Pattern::Blocks(_) => Pattern::whole(range.len()),
        };
        block.iter().zip(&self.dims).map(side).collect()
    }

    /// The blocks, in row-major order: a range along each axis.
    pub(super) fn ranges(&self) -> Vec<Vec<Range<usize>>> {
        let mut all = vec![Vec::new()];
        for (&size, piece) in self.dims.iter().zip(self.pieces()) {
            let pieces = (0..size).step_by(piece);
            let pieces: Vec<_> = pieces.map(|at| at..at.saturating_add(piece).min(size)).collect();
            let longer = |start: &Vec<Range<usize>>| -> Vec<Vec<Range<usize>>> {
                pieces
                    .iter()
                    .map(|p| [start.as_slice(), std::slice::from_ref(p)].concat())
                    .collect()
            };
            all = all.iter().flat_map(longer).collect();
        }
        all
    }

    pub(super) fn read<T: Copy>(&self, x: &[T], block: &[Range<usize>]) -> Vec<T> {
        let mut out = Vec::with_capacity(block.iter().map(Range::len).product());
        self.rows(block, |row| out.extend_from_slice(&x[row]));
        out
    }

    pub(super) fn write<T: Copy>(&self, part: &[T], block: &[Range<usize>], x: &mut [T]) {
        let mut at = 0;
        self.rows(block, |row| {
            let end = at + row.len();
            x[row].copy_from_slice(&part[at..end]);
            at = end;
        });
    }

    /// Visits a block row by row (along the last axis), as ranges of the whole tensor's memory.
    fn rows(&self, block: &[Range<usize>], mut visit: impl FnMut(Range<usize>)) {
        let Some((last, leading)) = block.split_last() else { return };
        let count: usize = leading.iter().map(Range::len).product();
        for row in 0..count {
            // The row's number, as coordinates inside the block, gives its place in the tensor.
            let (mut rest, mut start, mut stride) = (row, 0, self.dims[leading.len()]);
            for (range, &size) in leading.iter().zip(&self.dims).rev() {
                start += (range.start + rest % range.len()) * stride;
                rest /= range.len();
                stride *= size;
            }
            visit(start + last.start..start + last.end);
        }
    }
}

#[cfg(feature = "cuda")]
impl Cut {
    /// The dims, as a shape.
    pub(super) fn shape(&self) -> Result<Shape> {
        Shape::new(&self.dims)
    }

    /// A block of a tensor of that shape.
    pub(super) fn part(&self, x: &Tensor, block: &[Range<usize>]) -> Result<Tensor> {
        let cut = |x: Tensor, (axis, range): (usize, &Range<usize>)| {
            x.narrow(axis as isize, range.start, range.len())
        };
        block.iter().enumerate().try_fold(x.clone(), cut)
    }

    /// All blocks, in their order, put together: along the last axis first.
    pub(super) fn joined(&self, mut parts: Vec<Tensor>) -> Result<Tensor> {
        for ((axis, &size), piece) in self.dims.iter().enumerate().zip(self.pieces()).rev() {
            let pieces = size.div_ceil(piece).max(1);
            let join = |run: &[Tensor]| match run {
                [one] => Ok(one.clone()),
                run => Tensor::concat(&run.iter().collect::<Vec<_>>(), axis as isize),
            };
            parts = parts.chunks(pieces).map(join).collect::<Result<_>>()?;
        }
        Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |(&dim, piece): (&usize, usize)| match self.sides.of(dim) {
            Pattern::Diagonal(n) => Pattern::Diagonal(n).words(),
            Pattern::Blocks(_) => dim.min(piece).to_string(),
        };
        let sizes: Vec<String> = self.dims.iter().zip(self.pieces()).map(size).collect();
        let count = self.ranges().len();
        write!(f, "Kronecker, {}", sizes.join(" ⊗ "))?;
        if count > 1 { write!(f, ", in {count} blocks") } else { Ok(()) }
    }
}

/// The second moments of one block along each axis, in f64, and their inverse roots, rounded once to the
/// parameter's dtype.
///
/// # Why f64
/// Roots outlive the gradients they were made of. What a later gradient has along a direction that no
/// earlier one had is divided by a root of ε (10⁻¹²), and rounding to f32 would put 10⁻⁷ in its place.
#[derive(Debug, Clone)]
pub(super) struct Preconditioner {
    pub(super) axes: Vec<Axis>,
    pub(super) dtype: DType,
    pub(super) failures: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// All of L, or its diagonal.
    pub(super) side: Pattern,
    /// L without its ε: what rounding makes of a zero eigenvalue cannot hide ε then.
    pub(super) moment: Tensor,
    /// L^(−1/2k), after the first.
    pub(super) root: Option<Tensor>,
}

impl Preconditioner {
    pub(super) fn new(sides: Vec<Pattern>, dtype: DType) -> Self {
        let axis = |side: Pattern| {
            let moment = Tensor::zeros(side.shape(), DType::F64);
            Axis { side, moment, root: None }
        };
        Self { axes: sides.into_iter().map(axis).collect(), dtype, failures: 0 }
    }

    /// The longest axis.
    fn longest(&self) -> usize {
        self.axes.iter().map(|axis| axis.side.longest()).max().unwrap_or(0)
    }

    pub(super) fn has_roots(&self) -> bool {
        self.axes.iter().all(|axis| axis.root.is_some())
    }

    /// L_i ← L_i + G₍ᵢ₎ G₍ᵢ₎ᵀ, or its moving average.
    ///
    /// The tensor is turned axis by axis: as a matrix of its first axis against all others it is
    /// transposed, which makes G₍ᵢ₎ᵀ of it and brings the next axis to the front.
    pub(super) fn add(&mut self, gradient: Vec<f64>, statistics: Statistics) -> Result<()> {
        let (keep, gain) = match statistics {
            Statistics::Sum { .. } => (1.0, 1.0),
            Statistics::Ema { beta2, .. } => (beta2, 1.0 - beta2),
        };
        let (mut x, mut turned) = (gradient, Vec::new());
        for Axis { side, moment, .. } in &mut self.axes {
            let dim = side.size();
            let rest = x.len().checked_div(dim).unwrap_or(0);
            turned.resize(x.len(), 0.0);
            transpose(&x, (dim, rest), rest, &mut turned);
            let moment = moment.make_mut::<f64>()?;
            if let Pattern::Diagonal(_) = side {
                side.row_gram(&x, rest, (keep, gain), moment);
            } else {
                let mut new = vec![0.0; dim * dim];
                gram(&turned, rest, dim, &mut new);
                moment.iter_mut().zip(new).for_each(|(old, new)| *old = keep * *old + gain * new);
            }
            std::mem::swap(&mut x, &mut turned);
        }
        Ok(())
    }

    /// The roots of all axes, or none of them: a failure leaves the previous ones in use.
    pub(super) fn renew(
        &mut self,
        statistics: Statistics,
        exponent: Option<f64>,
        t: u64,
    ) -> Result<()> {
        let exponent = exponent.unwrap_or(-0.5 / self.axes.len() as f64);
        let (scale, ridge) = match statistics {
            Statistics::Sum { epsilon } => (1.0, epsilon),
            Statistics::Ema { beta2, bias_correction: true, epsilon } => {
                (correction(beta2, t), epsilon)
            }
            Statistics::Ema { epsilon, .. } => (1.0, epsilon),
        };
        let root = |axis: &Axis| -> Result<Tensor> {
            let mut moment = axis.moment.to_f64_vec()?;
            moment.iter_mut().for_each(|x| *x /= scale);
            let root = match axis.side {
                Pattern::Diagonal(_) => {
                    Ok(moment.iter().map(|x| (x + ridge).powf(exponent)).collect())
                }
                Pattern::Blocks(_) => linalg::power(&moment, axis.side.size(), exponent, ridge),
            };
            let root = root.map_err(|error| failed_in("shampoo", &error))?;
            let root = Tensor::from_vec(root, axis.side.shape())?;
            let rounded = root.to_dtype(self.dtype)?;
            // A root can be too large for a float.
            if rounded.sum_all()?.item()?.is_finite() {
                rounded.to_device(axis.moment.device())
            } else {
                let reason = "a root is not finite".into();
                Err(Error::Linalg { routine: "shampoo", reason })
            }
        };
        let named = |(at, axis)| of_side(&format!("axis {at}"), root(axis));
        match self.axes.iter().enumerate().map(named).collect::<Result<Vec<_>>>() {
            Ok(roots) => {
                self.failures = 0;
                self.axes.iter_mut().zip(roots).for_each(|(axis, root)| axis.root = Some(root));
                Ok(())
            }
            Err(_) if self.has_roots() && self.failures < FAILURES_BORNE => {
                self.failures += 1;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// M ×₁ root₁ ×₂ … ×ₖ rootₖ, turned axis by axis as in [`Preconditioner::add`]: after all of them
    /// the first axis is in front again.
    pub(super) fn apply<T: FloatElement>(&self, moment: Vec<T>) -> Result<Vec<T>> {
        let mut x = moment;
        for Axis { side, root, .. } in &self.axes {
            let Some(root) = root else { continue };
            let (dim, root) = (side.size(), root.as_slice::<T>()?);
            let rest = x.len().checked_div(dim).unwrap_or(0);
            let mut out = vec![T::default(); x.len()];
            if let Pattern::Diagonal(_) = side {
                for (row, root) in x.chunks_exact_mut(rest.max(1)).zip(root) {
                    row.iter_mut().for_each(|x| *x *= *root);
                }
                transpose(&x, (dim, rest), rest, &mut out);
            } else {
                let (x, root) = (Matrix::new(&x, dim, rest), Matrix::new(root, dim, dim));
                gemm(T::from_f64(1.0), x.t(), root, T::default(), &mut out);
            }
            x = out;
        }
        Ok(x)
    }

    pub(super) fn bytes(&self) -> usize {
        let root = |axis: &Axis| axis.root.as_ref().map_or(0, Tensor::bytes);
        self.axes.iter().map(|axis| axis.moment.bytes() + root(axis)).sum()
    }
}

/// A block with its part of a gradient.
pub(super) struct Part<'a> {
    pub(super) block: &'a mut Preconditioner,
    pub(super) cut: &'a Cut,
    pub(super) range: Vec<Range<usize>>,
    pub(super) gradient: &'a Tensor,
}

/// [`Preconditioner::add`] for all of them, shared out among the threads.
pub(super) fn add_all(parts: Vec<Part<'_>>, statistics: Statistics) -> Result<()> {
    let numbers = |part: &Part<'_>| part.range.iter().map(Range::len).product::<usize>();
    let work = parts.iter().map(|p| numbers(p) * p.block.longest()).sum::<usize>();
    let cost = work / parts.len().max(1);
    let add = |Part { block, cut, range, gradient }: Part<'_>| {
        let numbers = for_float!(gradient.dtype(), T => {
            let part = cut.read(gradient.as_slice::<T>()?, &range);
            part.into_iter().map(Element::to_f64).collect()
        });
        block.add(numbers, statistics)
    };
    parallel::map(parts, cost, add).into_iter().collect()
}

/// [`Preconditioner::apply`] for the blocks of one parameter, shared out among the threads.
pub(super) fn apply_all<'a, T: FloatElement>(
    blocks: impl Iterator<Item = (&'a Preconditioner, &'a Vec<Range<usize>>)>,
    cut: &Cut,
    moment: &[T],
) -> Result<Vec<Vec<T>>> {
    let blocks: Vec<_> = blocks.collect();
    let work = blocks.iter().map(|(block, _)| block.longest()).max().unwrap_or(0) * moment.len();
    let cost = work / blocks.len().max(1);
    let parts = parallel::map(blocks, cost, |(b, range)| b.apply(cut.read(moment, range)));
    parts.into_iter().collect()
}

/// Renews blocks, shared out among the threads; the answers are in their order.
pub(super) fn renew_all(
    blocks: Vec<&mut Preconditioner>,
    statistics: Statistics,
    exponent: Option<f64>,
    t: u64,
) -> Vec<Result<()>> {
    let cube = |block: &&mut Preconditioner| -> usize {
        block.axes.iter().map(|axis| axis.side.longest().pow(3)).sum()
    };
    let work = blocks.iter().map(cube).sum::<usize>() / blocks.len().max(1);
    parallel::map(blocks, work, |block| block.renew(statistics, exponent, t))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_a_tensor_once_and_put_it_together_again() {
        for (shape, block, count) in
            [([5, 4, 3], Some(2), 3 * 2 * 2), ([5, 4, 3], None, 1), ([2, 7, 1], Some(3), 3)]
        {
            let cut = Cut::new(
                &Shape::from(shape),
                block.map_or(LongSides::whole(), LongSides::blocks),
                false,
            );
            let x: Vec<f64> = (0..shape.iter().product()).map(|i: usize| i as f64).collect();
            let mut back = vec![f64::NAN; x.len()];
            assert_eq!(cut.ranges().len(), count);
            for range in cut.ranges() {
                cut.write(&cut.read(&x, &range), &range, &mut back);
            }
            assert_eq!(back, x);
        }
    }

    #[test]
    fn axes_are_merged_as_long_as_they_fit_into_a_block() {
        let dims =
            |block| Cut::new(&Shape::from([8, 2, 3, 3]), LongSides::blocks(block), true).dims;
        assert_eq!(dims(18), [16, 9]);
        assert_eq!(dims(1024), [144]);
        assert_eq!(dims(8), [8, 6, 3]);
    }

    #[test]
    fn a_scalar_is_a_vector_of_one_number() {
        let cut = Cut::new(&Shape::from(()), LongSides::whole(), false);
        assert_eq!(cut.read(&[3.0], &cut.ranges()[0]), [3.0]);
    }
}
