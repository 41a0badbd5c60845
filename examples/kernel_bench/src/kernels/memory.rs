//! Kernels that move numbers.

use alcyon::kernels::cuda::elementwise::Formulas;
use alcyon::kernels::cuda::pairs::{self, Formula};
use alcyon::kernels::{Float, cuda, elementwise, index, transpose as transposed};
use alcyon::prelude::*;

use crate::case::{At, Case, There, numbers};

pub(crate) fn copy<T: Float>(at: &At<'_>) -> Result<Case> {
    let n = at.shape[0];
    let (x, there) = (numbers::<T>(n, 0), There::new(at, &numbers::<T>(n, 0))?);
    let y = x.clone();
    Case::new::<T>(0, 2 * n)
        .cpu("reference", n, move |out| out.copy_from_slice(&y))
        .cpu("threads", n, move |y| elementwise::map(&x, y, |x| x))
        .cuda::<T>(at, n, move |gpu, y| cuda::strided::copy(gpu, &[n], &[1], there.slice(), y))
}

pub(crate) fn add<T: Float>(at: &At<'_>) -> Result<Case> {
    let n = at.shape[0];
    let (a, b) = (numbers::<T>(n, 0), numbers::<T>(n, 1));
    let there = [There::new(at, &a)?, There::new(at, &b)?];
    let (c, d) = (a.clone(), b.clone());
    let reference = move |y: &mut [T]| {
        for ((y, a), b) in y.iter_mut().zip(&c).zip(&d) {
            *y = *a + *b;
        }
    };
    Case::new::<T>(n, 3 * n)
        .cpu("reference", n, reference)
        .cpu("threads", n, move |y| elementwise::map2(&a, &b, y, |a, b| a + b))
        .cuda::<T>(at, n, move |gpu, y| {
            let [a, b] = [there[0].slice(), there[1].slice()];
            pairs::alike(gpu, Formula("add", "a + b"), a, b, y)
        })
}

pub(crate) fn exp<T: Float>(at: &At<'_>) -> Result<Case> {
    let n = at.shape[0];
    let x = numbers::<T>(n, 0);
    let there = There::new(at, &x)?;
    let same = x.clone();
    let reference = move |y: &mut [T]| {
        for (y, x) in y.iter_mut().zip(&same) {
            *y = T::of(x.to_f64().exp());
        }
    };
    let formulas = Formulas { name: "exp", formulas: ["exp(x)", "y", "y"], constants: [0.0; 2] };
    Case::new::<T>(n, 2 * n)
        .cpu("reference", n, reference)
        .cpu("threads", n, move |y| elementwise::map(&x, y, T::exp))
        .cuda::<T>(at, n, move |gpu, y| {
            cuda::elementwise::forward(gpu, &formulas, there.slice(), y)
        })
}

pub(crate) fn transpose<T: Float>(at: &At<'_>) -> Result<Case> {
    let &[rows, width] = at.shape else { return Ok(Case::new::<T>(0, 0)) };
    let n = rows * width;
    let x = numbers::<T>(n, 0);
    let there = There::new(at, &x)?;
    let same = x.clone();
    Case::new::<T>(0, 2 * n)
        .cpu("reference", n, move |y| transposed::reference(&same, (rows, width), width, y))
        .cpu("tiles", n, move |y| transposed::transpose(&x, (rows, width), width, y))
        .cuda::<T>(at, n, move |gpu, y| {
            cuda::strided::copy(gpu, &[width, rows], &[1, width], there.slice(), y)
        })
}

pub(crate) fn gather<T: Float>(at: &At<'_>) -> Result<Case> {
    let &[rows, width] = at.shape else { return Ok(Case::new::<T>(0, 0)) };
    // As many rows as the table has, in an order that no cache expects.
    let places: Vec<i64> = (0..rows).map(|i| (i * 7919 % rows) as i64).collect();
    let table = numbers::<T>(rows * width, 0);
    let there = There::new(at, &table)?;
    let index_there = at.gpu.map(|gpu| gpu.write(&places)).transpose()?;
    let (same, order, n) = (table.clone(), places.clone(), rows * width);
    let reference = move |y: &mut [T]| {
        for (y, &place) in y.chunks_exact_mut(width).zip(&order) {
            y.copy_from_slice(&same[place as usize * width..][..width]);
        }
    };
    Case::new::<T>(0, 2 * n)
        .cpu("reference", n, reference)
        .cpu("threads", n, move |y| index::gather_rows(&table, width, &places, y))
        .cuda::<T>(at, n, move |gpu, y| {
            let Some(index) = &index_there else { return Ok(()) };
            let index = cuda::Slice::new(index, cuda::Scalar::I64, 0, rows);
            cuda::index::gather(gpu, there.slice(), (1, rows, width), index, y)
        })
}
