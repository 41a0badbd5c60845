//! Products: of matrices, of queries with keys.

use alcyon::kernels::attention::{self, Attention};
use alcyon::kernels::gemm::{self, Matrix};
use alcyon::kernels::{Float, cuda};
use alcyon::prelude::*;

use crate::case::{At, Case, There, numbers};

pub(crate) fn gemm<T: Float>(at: &At<'_>) -> Result<Case> {
    let &[m, k, n] = at.shape else { return Ok(Case::new::<T>(0, 0)) };
    let (a, b) = (numbers::<T>(m * k, 0), numbers::<T>(k * n, 1));
    let there = [There::new(at, &a)?, There::new(at, &b)?];
    let mut case = Case::new::<T>(2 * m * k * n, m * k + k * n + m * n);
    type Rung<T> = for<'a, 'b> fn(T, Matrix<'a, T>, Matrix<'b, T>, T, &mut [T]);
    let rungs: [(&str, Rung<T>); 5] = [
        ("reference", gemm::reference::gemm),
        ("blocked", gemm::blocked::gemm),
        ("packed", gemm::packed::gemm),
        ("sequential", gemm::sequential),
        ("library", gemm::gemm),
    ];
    for (name, rung) in rungs {
        let (a, b) = (a.clone(), b.clone());
        case = case.cpu(name, m * n, move |c| {
            rung(T::ONE, Matrix::new(&a, m, k), Matrix::new(&b, k, n), T::ZERO, c);
        });
    }
    case.cuda::<T>(at, m * n, move |gpu, c| {
        let a = cuda::gemm::Matrices::new(there[0].slice(), m, k);
        let b = cuda::gemm::Matrices::new(there[1].slice(), k, n);
        cuda::gemm::gemm(gpu, 1, 1.0, a, b, 0.0, c)
    })
}

pub(crate) fn attention<T: Float>(at: &At<'_>) -> Result<Case> {
    let &[heads, tokens, width] = at.shape else { return Ok(Case::new::<T>(0, 0)) };
    let scale = 1.0 / (width as f64).sqrt();
    let (queries, keys, values, causal) = (tokens, tokens, width, true);
    let sizes = Attention { heads, queries, keys, width, values, causal, scale };
    let n = heads * tokens * width;
    let [q, k, v] = [0, 1, 2].map(|seed| numbers::<T>(n, seed));
    let there = [There::new(at, &q)?, There::new(at, &k)?, There::new(at, &v)?];
    let mut log_sums_there = There::<T>::room(at, heads * tokens)?;
    let same = [q.clone(), k.clone(), v.clone()];
    let mut log_sums = vec![T::ZERO; heads * tokens];
    // A causal mask leaves half of the pairs; each costs two products and an exponential.
    let pairs = heads * tokens * (tokens + 1) / 2;
    Case::new::<T>(pairs * (4 * width + 4), 4 * n)
        .cpu("reference", n, move |out| {
            let [q, k, v] = &same;
            attention::reference::attention(&sizes, q, k, v, out);
        })
        .cpu("blocks", n, move |out| {
            attention::attention(&sizes, &q, &k, &v, out, &mut log_sums);
        })
        .cuda::<T>(at, n, move |gpu, out| {
            let inputs = [there[0].slice(), there[1].slice(), there[2].slice()];
            cuda::attention::forward(gpu, &sizes, inputs, out, &log_sums_there.slice_mut())
        })
}
