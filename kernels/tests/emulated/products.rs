//! The matrix product against three loops.

use alcyon_kernels::cuda::gemm::{Matrices, gemm};
use alcyon_kernels::cuda::{Scalar, Slice, SliceMut};

use crate::{device, read};

/// Numbers that are exact in f32, sums of a few dozen products included.
fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7 + seed * 5) % 11) as f32 - 5.0).collect()
}

#[test]
fn every_combination_of_transposes_sizes_and_batches_is_the_product() {
    let Some((gpu, _guard)) = device() else { return };
    for (m, k, n) in [(1, 1, 1), (2, 3, 4), (5, 1, 3), (1, 4, 1), (3, 0, 2), (7, 5, 1)] {
        for batch in [1, 3] {
            let (a, b) = (numbers(batch * m * k, 1), numbers(batch * k * n, 2));
            let (on_a, on_b) = (gpu.write(&a).unwrap(), gpu.write(&b).unwrap());
            for (flip_a, flip_b) in [(false, false), (true, false), (false, true), (true, true)] {
                let of = |buffer, rows, columns, flip: bool| {
                    let data = Slice::new(buffer, Scalar::F32, 0, batch * rows * columns);
                    if flip {
                        Matrices::new(data, columns, rows).t()
                    } else {
                        Matrices::new(data, rows, columns)
                    }
                };
                // A flipped operand holds the transpose, row by row.
                let at = |x: &[f32], flip, base: usize, (rows, columns), r, c| {
                    let _: usize = rows;
                    x[base + if flip { c * rows + r } else { r * columns + c }]
                };
                let mut want = vec![0.0; batch * m * n];
                for (i, c) in want.iter_mut().enumerate() {
                    let (p, row, column) = (i / (m * n), i / n % m, i % n);
                    *c = (0..k)
                        .map(|l| {
                            at(&a, flip_a, p * m * k, (m, k), row, l)
                                * at(&b, flip_b, p * k * n, (k, n), l, column)
                        })
                        .sum::<f32>()
                        * 2.0;
                }
                let mut c = gpu.memory().allocate(batch * m * n * 4).unwrap();
                let out = SliceMut::new(&mut c, Scalar::F32, batch * m * n);
                let (left, right) = (of(&on_a, m, k, flip_a), of(&on_b, k, n, flip_b));
                gemm(&gpu, batch, 2.0, left, right, 0.0, &out).unwrap();
                assert_eq!(
                    read::<f32>(&gpu, &c, batch * m * n),
                    want,
                    "{m}×{k}×{n} {flip_a} {flip_b}"
                );
            }
        }
    }
}

#[test]
fn beta_keeps_what_was_there() {
    let Some((gpu, _guard)) = device() else { return };
    let (a, b) = (gpu.write(&[1.0_f32, 2.0]).unwrap(), gpu.write(&[3.0_f32, 4.0]).unwrap());
    let mut c = gpu.write(&[10.0_f32]).unwrap();
    let row = Matrices::new(Slice::new(&a, Scalar::F32, 0, 2), 1, 2);
    let column = Matrices::new(Slice::new(&b, Scalar::F32, 0, 2), 2, 1);
    gemm(&gpu, 1, 1.0, row, column, 0.5, &SliceMut::new(&mut c, Scalar::F32, 1)).unwrap();
    assert_eq!(read::<f32>(&gpu, &c, 1), [16.0]);
}
