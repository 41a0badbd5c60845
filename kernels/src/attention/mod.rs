//! Scaled dot-product attention: O = softmax(s Q Kᵀ) V, for a batch of heads. Vaswani et al. 2017, eq. 1.
//!
//! | rung        | changes                                                                       |
//! |-------------|-------------------------------------------------------------------------------|
//! | [`mod@reference`] | three loops, the definition                                             |
//! | blocks      | [`BLOCK`] queries at a time: products are matrix products, scores stay in cache |
//!
//! The T × S matrix of scores is never written down: a block of it lives in a buffer of its thread.
//! Of each row only ℓ = ln Σⱼ exp(s qᵢ·kⱼ) is kept, from which the backward pass computes the
//! probabilities again, P = exp(s Q Kᵀ − ℓ). (Dao et al. 2022 keep the same number, and also block the
//! keys; here a block holds whole rows, which needs no rescaling.) Infinite scores are weighted as in
//! [`softmax`](crate::softmax): a query all of whose scores are −∞ gets 0, and gradients of 0. With
//! D = rowsum(g ∘ O):
//!
//! dV = Pᵀ g,   dS = s P ∘ (g Vᵀ − D),   dQ = dS K,   dK = dSᵀ Q.

pub mod reference;

use crate::float::Float;
use crate::gemm::{self, Matrix};
use crate::parallel;
use crate::pool::Buffer;
use crate::reduce::{dot_lanes, sum_lanes};
use crate::sizes::elements;
use crate::softmax::{infinite_row, largest};
use crate::vector::vectorized;

/// Queries that are worked on together: a block of scores of 512 keys fills a quarter of an L2 cache.
pub const BLOCK: usize = 64;

/// The sizes of attention: `heads` independent problems.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Problems: the batch times the heads of one example.
    pub heads: usize,
    /// T, the queries of each; at least 1, as the next three.
    pub queries: usize,
    /// S, the keys of each.
    pub keys: usize,
    /// d, the width of queries and keys.
    pub width: usize,
    /// e, the width of values.
    pub values: usize,
    /// Whether query i sees only the keys 0 ..= i + S − T. Then T ≤ S.
    pub causal: bool,
    /// s, what scores are multiplied with.
    pub scale: f64,
}

/// O = softmax(s Q Kᵀ) V; writes ℓ of every query too.
///
/// # Shape
/// q: \[heads, T, d\] · k: \[heads, S, d\] · v: \[heads, S, e\] · out: \[heads, T, e\] ·
/// log_sums: \[heads, T\]
///
/// # Example
/// ```
/// use alcyon_kernels::attention::{Attention, attention};
/// let sizes = Attention {
///     heads: 1, queries: 1, keys: 2, width: 1, values: 1, causal: false, scale: 1.0,
/// };
/// let (mut out, mut log_sum) = ([0.0], [0.0]);
/// // Scores 0 and ln 3: weights 1/4 and 3/4.
/// attention(&sizes, &[1.0], &[0.0, 3.0_f64.ln()], &[4.0, 8.0], &mut out, &mut log_sum);
/// assert!((out[0] - 7.0).abs() < 1e-14 && (log_sum[0] - 4.0_f64.ln()).abs() < 1e-15);
/// ```
pub fn attention<T: Float>(
    sizes: &Attention,
    q: &[T],
    k: &[T],
    v: &[T],
    out: &mut [T],
    log_sums: &mut [T],
) {
    sizes.check("attention", [q, k, v].map(<[T]>::len), (out.len(), log_sums.len()));
    let Attention { queries, values, .. } = *sizes;
    let heads = out.chunks_mut(queries * values).zip(log_sums.chunks_mut(queries));
    let work: Vec<_> = heads
        .enumerate()
        .flat_map(|(head, (out, log_sums))| {
            let blocks = out.chunks_mut(BLOCK * values).zip(log_sums.chunks_mut(BLOCK));
            blocks.enumerate().map(move |(i, (out, sums))| (head, i * BLOCK, out, sums))
        })
        .collect();
    parallel::items(work, sizes.work_of_a_block(), |_, (head, first, out, log_sums)| {
        let (_, k, v) = sizes.head(head, (q, k, v));
        let (rows, seen) = (log_sums.len(), sizes.seen(first + log_sums.len() - 1));
        let mut scores = Buffer::<T>::unspecified(rows * seen);
        gemm::sequential(
            T::of(sizes.scale),
            sizes.block(q, head, first, rows, sizes.width),
            Matrix::new(k, seen, sizes.width).t(),
            T::ZERO,
            &mut scores,
        );
        vectorized(|| probabilities(sizes, first, seen, &mut scores, log_sums));
        let p = Matrix::new(&scores, rows, seen);
        gemm::sequential(T::ONE, p, Matrix::new(v, seen, values), T::ZERO, out);
    });
}

/// The gradients of [`attention()`] (formulas above), from its output and ℓ.
///
/// # Shape
/// out, g: \[heads, T, e\] · log_sums: \[heads, T\] · dq, dk, dv: as q, k, v
///
/// # Example
/// ```
/// use alcyon_kernels::attention::{Attention, attention_backward};
/// // One key: its weight is 1 whatever the score, so only the value gets a gradient.
/// let sizes = Attention {
///     heads: 1, queries: 1, keys: 1, width: 1, values: 1, causal: true, scale: 1.0,
/// };
/// let (mut dq, mut dk, mut dv) = ([9.0], [9.0], [9.0]);
/// let inputs = (&[2.0][..], &[3.0][..], &[5.0][..]);
/// attention_backward(&sizes, inputs, &[5.0], &[6.0], &[7.0], (&mut dq, &mut dk, &mut dv));
/// assert_eq!((dq, dk, dv), ([0.0], [0.0], [7.0]));
/// ```
pub fn attention_backward<T: Float>(
    sizes: &Attention,
    (q, k, v): (&[T], &[T], &[T]),
    out: &[T],
    log_sums: &[T],
    g: &[T],
    (dq, dk, dv): (&mut [T], &mut [T], &mut [T]),
) {
    let lengths = [q, k, v].map(<[T]>::len);
    sizes.check("attention_backward", lengths, (out.len(), log_sums.len()));
    let lengths = [dq.len(), dk.len(), dv.len()];
    sizes.check("attention_backward", lengths, (g.len(), log_sums.len()));
    let Attention { queries, keys, width, values, .. } = *sizes;
    let work: Vec<_> = (dq.chunks_mut(queries * width))
        .zip(dk.chunks_mut(keys * width).zip(dv.chunks_mut(keys * values)))
        .collect();
    let blocks = queries.div_ceil(BLOCK);
    parallel::items(work, 2 * blocks * sizes.work_of_a_block(), |head, (dq, (dk, dv))| {
        let (_, k, v) = sizes.head(head, (q, k, v));
        // Keys gather from all blocks, one after another.
        dk.fill(T::ZERO);
        dv.fill(T::ZERO);
        for first in (0..queries).step_by(BLOCK) {
            let rows = BLOCK.min(queries - first);
            let seen = sizes.seen(first + rows - 1);
            let of = |x, width| sizes.block(x, head, first, rows, width);
            let (q, g_block) = (of(q, width), of(g, values));
            let (k, v) = (Matrix::new(k, seen, width), Matrix::new(v, seen, values));
            let mut p = Buffer::<T>::unspecified(rows * seen);
            let mut ds = Buffer::<T>::unspecified(rows * seen);
            gemm::sequential(T::of(sizes.scale), q, k.t(), T::ZERO, &mut p);
            gemm::sequential(T::ONE, g_block, v.t(), T::ZERO, &mut ds);
            let at = head * queries + first..head * queries + first + rows;
            let wide = at.start * values..at.end * values;
            let rows_of = (&out[wide.clone()], &g[wide], &log_sums[at]);
            vectorized(|| score_gradients(sizes, first, seen, rows_of, &mut p, &mut ds));
            let (p, ds) = (Matrix::new(&p, rows, seen), Matrix::new(&ds, rows, seen));
            let scale = T::of(sizes.scale);
            let dq = &mut dq[first * width..(first + rows) * width];
            gemm::sequential(scale, ds, k, T::ZERO, dq);
            gemm::sequential(scale, ds.t(), q, T::ONE, &mut dk[..seen * width]);
            gemm::sequential(T::ONE, p.t(), g_block, T::ONE, &mut dv[..seen * values]);
        }
    });
}

/// A block of scores, row by row, turned into weights; writes ℓ of each row.
#[inline(always)]
fn probabilities<T: Float>(
    sizes: &Attention,
    first: usize,
    seen: usize,
    scores: &mut [T],
    log_sums: &mut [T],
) {
    for (i, (row, log_sum)) in scores.chunks_exact_mut(seen).zip(log_sums).enumerate() {
        let (row, hidden) = row.split_at_mut(sizes.seen(first + i));
        let max = largest(row);
        hidden.fill(T::ZERO);
        if !max.is_finite() {
            let scores = row.to_vec();
            infinite_row(&scores, max, row);
            *log_sum = if row[0].is_nan() { row[0] } else { max };
            continue;
        }
        row.iter_mut().for_each(|x| *x = (*x - max).exp());
        let sum = sum_lanes(row);
        let scale = T::ONE / sum;
        row.iter_mut().for_each(|x| *x *= scale);
        *log_sum = max + sum.ln();
    }
}

/// A block of scores in `p` and of g Vᵀ in `ds`, turned into P and P ∘ (g Vᵀ − D).
#[inline(always)]
fn score_gradients<T: Float>(
    sizes: &Attention,
    first: usize,
    seen: usize,
    (out, g, log_sums): (&[T], &[T], &[T]),
    p: &mut [T],
    ds: &mut [T],
) {
    let of_rows = out.chunks_exact(sizes.values).zip(g.chunks_exact(sizes.values)).zip(log_sums);
    let rows = p.chunks_exact_mut(seen).zip(ds.chunks_exact_mut(seen)).zip(of_rows);
    for (i, ((p, ds), ((out, g), &log_sum))) in rows.enumerate() {
        let (visible, mean) = (sizes.seen(first + i), dot_lanes(out, g));
        p[visible..].fill(T::ZERO);
        ds[visible..].fill(T::ZERO);
        for (p, ds) in p[..visible].iter_mut().zip(&mut ds[..visible]) {
            *p = (*p - log_sum).exp();
            *ds = *p * (*ds - mean);
        }
    }
}

impl Attention {
    /// How many keys query `i` sees: the first so many.
    const fn seen(&self, i: usize) -> usize {
        if self.causal { i + 1 + self.keys - self.queries } else { self.keys }
    }

    /// One head's part of queries, keys and values.
    fn head<'a, T>(&self, head: usize, all: (&'a [T], &'a [T], &'a [T])) -> Inputs<'a, T> {
        let part = |x: &'a [T], n: usize| &x[head * n..(head + 1) * n];
        let (q, k) = (self.queries * self.width, self.keys * self.width);
        (part(all.0, q), part(all.1, k), part(all.2, self.keys * self.values))
    }

    /// `rows` rows of one head, of an array with a row for every query.
    fn block<'a, T: Copy>(
        &self,
        x: &'a [T],
        head: usize,
        first: usize,
        rows: usize,
        width: usize,
    ) -> Matrix<'a, T> {
        let start = (head * self.queries + first) * width;
        Matrix::new(&x[start..start + rows * width], rows, width)
    }

    /// What a block of queries costs, in elements touched.
    const fn work_of_a_block(&self) -> usize {
        let rows = if self.queries < BLOCK { self.queries } else { BLOCK };
        rows * self.keys * (8 + (self.width + self.values) / 4)
    }

    /// Asserts the lengths of queries, keys and values, and of outputs and ℓ.
    pub(crate) fn check(&self, kernel: &str, inputs: [usize; 3], outputs: (usize, usize)) {
        let Self { heads, queries, keys, width, values, causal, .. } = *self;
        let empty = [queries, keys, width, values].contains(&0);
        assert!(!empty, "{kernel}: a head without queries, keys or width");
        assert!(!causal || queries <= keys, "{kernel}: {queries} causal queries of {keys} keys");
        let of = |rows, columns| elements(kernel, [heads, rows, columns]);
        let want = [of(queries, width), of(keys, width), of(keys, values)];
        assert_eq!(inputs, want, "{kernel}: lengths of queries, keys, values");
        let want = (of(queries, values), of(queries, 1));
        assert_eq!(outputs, want, "{kernel}: lengths of outputs");
    }
}

type Inputs<'a, T> = (&'a [T], &'a [T], &'a [T]);

#[cfg(test)]
mod tests;
