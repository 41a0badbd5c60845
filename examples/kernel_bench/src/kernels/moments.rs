//! What curvature reads from a layer: AdaFisher's diagonals and K-FAC's matrices.

use alcyon::kernels::conv::Conv2d;
use alcyon::kernels::second_moment::{self, ladder};
use alcyon::kernels::{Float, cuda};
use alcyon::prelude::*;

use super::convolution::layer;
use crate::case::{At, Case, There, numbers};

pub(crate) fn column_squares<T: Float>(at: &At<'_>) -> Result<Case> {
    let &[rows, width] = at.shape else { return Ok(Case::new::<T>(0, 0)) };
    let n = rows * width;
    let x = numbers::<T>(n, 0);
    let there = There::new(at, &x)?;
    let same = x.clone();
    let reference = move |y: &mut [T]| {
        for (j, y) in y.iter_mut().enumerate() {
            *y = (0..rows).map(|r| same[r * width + j] * same[r * width + j]).sum();
        }
    };
    Case::new::<T>(2 * n, n + width)
        .cpu("reference", width, reference)
        .cpu("threads", width, move |y| second_moment::column_squares(&x, rows, width, y))
        .cuda::<T>(at, width, move |gpu, y| {
            cuda::second_moment::column_squares(gpu, there.slice(), y)
        })
}

pub(crate) fn patch_squares<T: Float>(at: &At<'_>) -> Result<Case> {
    let conv = layer(at)?;
    let x = images::<T>(&conv);
    let there = There::new(at, &x)?;
    let (d, n) = (conv.patch(), x.len());
    let mut case = Case::new::<T>(2 * conv.batch * conv.positions() * d, n + d);
    type Rung<T> = fn(&Conv2d, &[T], &mut [T]);
    let rungs: [(&str, Rung<T>); 4] = [
        ("reference", ladder::reference_patch_squares),
        ("unfolded", ladder::unfolded_patch_squares),
        ("shifted", ladder::shifted_patch_squares),
        ("added_first", second_moment::patch_squares),
    ];
    for (name, rung) in rungs {
        let x = x.clone();
        case = case.cpu(name, d, move |y| rung(&conv, &x, y));
    }
    case.cuda::<T>(at, d, move |gpu, y| {
        cuda::second_moment::patch_squares(gpu, &conv, there.slice(), y)
    })
}

pub(crate) fn gram<T: Float>(at: &At<'_>) -> Result<Case> {
    let &[rows, width] = at.shape else { return Ok(Case::new::<T>(0, 0)) };
    let x = numbers::<T>(rows * width, 0);
    let there = There::new(at, &x)?;
    let n = width * width;
    // A symmetric matrix: half of it, and the diagonal.
    let mut case = Case::new::<T>(rows * width * (width + 1), rows * width + n);
    type Rung<T> = fn(&[T], usize, usize, &mut [T]);
    let rungs: [(&str, Rung<T>); 3] = [
        ("reference", |x, rows, width, y| ladder::reference_gram(x, rows, width, false, y)),
        ("product", ladder::product_gram),
        ("half", second_moment::gram),
    ];
    for (name, rung) in rungs {
        let x = x.clone();
        case = case.cpu(name, n, move |y| rung(&x, rows, width, y));
    }
    case.cuda::<T>(at, n, move |gpu, y| {
        let x = cuda::gemm::Matrices::new(there.slice(), rows, width);
        cuda::gemm::gemm(gpu, 1, 1.0, x.t(), x, 0.0, y)
    })
}

pub(crate) fn patch_gram<T: Float>(at: &At<'_>) -> Result<Case> {
    let conv = layer(at)?;
    let x = images::<T>(&conv);
    let (d, n) = (conv.patch(), x.len());
    let same = x.clone();
    let flops = conv.batch * conv.positions() * d * (d + 1);
    Ok(Case::new::<T>(flops, n + d * d)
        .cpu("reference", d * d, move |y| {
            ladder::reference_patch_gram(&conv, &same, false, y);
        })
        .cpu("threads", d * d, move |y| second_moment::patch_gram(&conv, &x, false, y)))
}

fn images<T: Float>(conv: &Conv2d) -> Vec<T> {
    numbers(conv.batch * conv.in_channels * conv.input.0 * conv.input.1, 0)
}
