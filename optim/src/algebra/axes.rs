//! A tensor seen along one of its axes: second moments of an axis, and products with a matrix.
//!
//! A row-major tensor of dims d₁ … dₖ is, for axis i, a stack of d₁ ⋯ dᵢ₋₁ matrices of dᵢ rows and
//! dᵢ₊₁ ⋯ dₖ columns. Kolda & Bader 2009, "Tensor Decompositions and Applications", section 2.5.

use engine::{Error, Result, Tensor};
use kernels::pool::Buffer;
use kernels::{elementwise, parallel};

use super::pattern::Pattern;

/// Memory of the pool for so many numbers: what they are is not specified.
pub(crate) fn scratch(numbers: usize) -> Result<Buffer<f64>> {
    Buffer::try_unspecified(numbers).map_err(Error::no_memory("step"))
}

/// The same numbers in memory of the pool.
pub(crate) fn copy(x: &[f64]) -> Result<Buffer<f64>> {
    let mut out = scratch(x.len())?;
    elementwise::map(x, &mut out, |x| x);
    Ok(out)
}

/// Rows of an axis, columns behind it.
fn slab(dims: &[usize], axis: usize) -> (usize, usize) {
    (dims[axis], dims[axis + 1..].iter().product())
}

/// out ← keep · out + gain · X₍ᵢ₎ X₍ᵢ₎ᵀ, as far as the side's pattern keeps it.
///
/// # Shape
/// x: the dims · out: what is kept of `[dᵢ, dᵢ]`
pub(crate) fn gram(
    x: &[f64],
    dims: &[usize],
    (axis, side): (usize, &Pattern),
    (keep, gain): (f64, f64),
    out: &mut [f64],
) {
    let (rows, columns) = slab(dims, axis);
    if columns == 1 {
        // The last axis: all stacks are the rows of one matrix.
        return side.gram(x, x.len() / rows.max(1), (keep, gain), out);
    }
    let mut keep = keep;
    for x in x.chunks_exact((rows * columns).max(1)) {
        side.row_gram(x, columns, (keep, gain), out);
        keep = 1.0;
    }
}

/// X ×ᵢ M, or with Mᵀ if `transposed`.
///
/// # Shape
/// x, result: the dims · matrix: what is kept of `[dᵢ, dᵢ]`
pub(crate) fn times(
    x: &[f64],
    dims: &[usize],
    (axis, side): (usize, &Pattern),
    matrix: &[f64],
    transposed: bool,
) -> Result<Buffer<f64>> {
    let (rows, columns) = slab(dims, axis);
    let mut out = scratch(x.len())?;
    if columns == 1 {
        side.right_into(matrix, x, x.len() / rows.max(1), !transposed, &mut out);
        return Ok(out);
    }
    let size = (rows * columns).max(1);
    for (x, out) in x.chunks_exact(size).zip(out.chunks_exact_mut(size)) {
        side.left_into(matrix, x, columns, transposed, out);
    }
    Ok(out)
}

/// Each entry of X times the factor of its place along an axis.
pub(crate) fn scale(x: &mut [f64], dims: &[usize], axis: usize, factors: &[f64]) {
    let (rows, columns) = slab(dims, axis);
    let (n, inner) = (rows.max(1), columns.max(1));
    if inner == 1 {
        return parallel::rows(x, n, n, |_, row| {
            row.iter_mut().zip(factors).for_each(|(x, factor)| *x *= factor);
        });
    }
    parallel::rows(x, inner, inner, |i, row| {
        let factor = factors[i % n];
        row.iter_mut().for_each(|x| *x *= factor);
    });
}

/// The axis in front, all others behind it: X₍ᵢ₎ `[dᵢ, …]`, wherever X is.
fn unfolded(x: &Tensor, axis: usize) -> Result<Tensor> {
    let dim = x.shape()[axis];
    let front = x.transpose(0, axis as isize)?;
    front.reshape([dim, x.numel().checked_div(dim).unwrap_or(0)])
}

/// [`gram`] as operations on tensors, of X alone: X₍ᵢ₎ X₍ᵢ₎ᵀ in the shape of what is kept ([`Pattern::shape`]).
pub(crate) fn gram_of(x: &Tensor, (axis, side): (usize, &Pattern)) -> Result<Tensor> {
    let x = unfolded(x, axis)?;
    let square = |x: &Tensor| x.matmul(&x.transpose(0, 1)?);
    match side {
        Pattern::Diagonal(_) => x.square()?.sum(&[1]),
        Pattern::Blocks(sizes) if sizes.len() == 1 => square(&x),
        Pattern::Blocks(_) => {
            let part = |range: std::ops::Range<usize>| {
                let block = square(&x.narrow(0, range.start, range.len())?)?;
                block.reshape([block.numel()])
            };
            let parts = side.ranges().into_iter().map(part).collect::<Result<Vec<_>>>()?;
            Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)
        }
    }
}

/// [`times`] as operations on tensors.
pub(crate) fn times_of(
    x: &Tensor,
    (axis, side): (usize, &Pattern),
    matrix: &Tensor,
    transposed: bool,
) -> Result<Tensor> {
    let front = *x.transpose(0, axis as isize)?.shape();
    let x = unfolded(x, axis)?;
    let product = |matrix: &Tensor, x: &Tensor| match transposed {
        true => matrix.transpose(0, 1)?.matmul(x),
        false => matrix.matmul(x),
    };
    let whole = match side {
        Pattern::Diagonal(n) => x.mul(&matrix.reshape([*n, 1])?)?,
        Pattern::Blocks(sizes) if sizes.len() == 1 => product(matrix, &x)?,
        Pattern::Blocks(_) => {
            let (mut parts, mut at) = (Vec::new(), 0);
            for range in side.ranges() {
                let n = range.len();
                let block = matrix.narrow(0, at, n * n)?.reshape([n, n])?;
                parts.push(product(&block, &x.narrow(0, range.start, n)?)?);
                at += n * n;
            }
            Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)?
        }
    };
    whole.reshape(front)?.transpose(0, axis as isize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One entry of X ×ᵢ M by the definition, for dims (2, 3, 2).
    #[test]
    fn a_product_along_an_axis_is_the_sum_over_that_axis() {
        let dims = [2, 3, 2];
        let x: Vec<f64> = (0..12).map(|i| f64::from(i) * 0.5 - 2.0).collect();
        let m: Vec<f64> = (0..9).map(|i| f64::from(i * i) - 3.0).collect();
        let side = Pattern::whole(3);
        let [y, z] = [false, true].map(|t| times(&x, &dims, (1, &side), &m, t).unwrap());
        for (i, j, k) in (0..12).map(|n| (n / 6, n / 2 % 3, n % 2)) {
            let sum = |entry: &dyn Fn(usize) -> f64| -> f64 {
                (0..3).map(|l| entry(l) * x[i * 6 + l * 2 + k]).sum()
            };
            assert!((y[i * 6 + j * 2 + k] - sum(&|l| m[j * 3 + l])).abs() < 1e-12);
            assert!((z[i * 6 + j * 2 + k] - sum(&|l| m[l * 3 + j])).abs() < 1e-12);
        }
    }

    #[test]
    fn operations_on_tensors_are_those_on_slices_whatever_is_kept() {
        let dims = [2, 3, 4];
        let x: Vec<f64> = (0..24).map(|i| f64::from(i * i % 17) - 5.0).collect();
        let tensor = Tensor::from_slice(&x, dims).unwrap();
        for (axis, n) in dims.into_iter().enumerate() {
            for side in [Pattern::whole(n), Pattern::cut(n, 1, Some(2)), Pattern::Diagonal(n)] {
                let kept = side.numbers();
                let m: Vec<f64> = (0..kept).map(|i| (i * i % 7) as f64 - 3.0).collect();
                let matrix = Tensor::from_slice(&m, side.shape()).unwrap();
                for flip in [false, true] {
                    let product = times_of(&tensor, (axis, &side), &matrix, flip).unwrap();
                    let here = times(&x, &dims, (axis, &side), &m, flip).unwrap();
                    assert_eq!(product.to_f64_vec().unwrap(), *here, "{axis}: {side}");
                }
                let mut moment = vec![1.0; kept];
                gram(&x, &dims, (axis, &side), (0.0, 1.0), &mut moment);
                let there = gram_of(&tensor, (axis, &side)).unwrap();
                assert_eq!(there.shape(), &side.shape());
                assert_eq!(there.to_f64_vec().unwrap(), moment, "{axis}: {side}");
            }
        }
    }

    #[test]
    fn second_moments_of_all_axes_have_the_trace_of_the_square() {
        let dims = [2, 3, 2];
        let x: Vec<f64> = (0..12).map(|i| f64::from(i % 5) - 1.5).collect();
        let square: f64 = x.iter().map(|x| x * x).sum();
        for (axis, &dim) in dims.iter().enumerate() {
            let side = Pattern::whole(dim);
            let mut out = vec![1.0; dim * dim];
            gram(&x, &dims, (axis, &side), (0.0, 2.0), &mut out);
            assert!((side.trace(&out) - 2.0 * square).abs() < 1e-12);
            let mut entry = 0.0;
            let (rows, columns) = slab(&dims, axis);
            for stack in x.chunks_exact(rows * columns) {
                entry += (0..columns).map(|c| stack[c] * stack[columns + c]).sum::<f64>();
            }
            assert!((out[1] - 2.0 * entry).abs() < 1e-12);
        }
    }
}
