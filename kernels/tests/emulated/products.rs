//! The matrix product against three loops.

use alcyon_kernels::cuda::affine::affine;
use alcyon_kernels::cuda::gemm::{Matrices, gemm};
use alcyon_kernels::cuda::{Gpu, Scalar, Slice, SliceMut};

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
fn tf32_rounds_operands_to_ten_bits_of_mantissa_when_it_is_switched_on_and_only_then() {
    let Some((gpu, _guard)) = device() else { return };
    // 1 + 2⁻¹⁰ is a TF32, 1 + 2⁻¹² is not; f32 holds both.
    let (fine, finer) = (1.0 + 2_f32.powi(-10), 1.0 + 2_f32.powi(-12));
    let (x, one) = (gpu.write(&[fine, finer]).unwrap(), gpu.write(&[1.0_f32]).unwrap());
    let product = || {
        let x = Matrices::new(Slice::new(&x, Scalar::F32, 0, 2), 2, 1);
        let one = Matrices::new(Slice::new(&one, Scalar::F32, 0, 1), 1, 1);
        let mut y = gpu.memory().allocate(8).unwrap();
        gemm(&gpu, 1, 1.0, x, one, 0.0, &SliceMut::new(&mut y, Scalar::F32, 2)).unwrap();
        read::<f32>(&gpu, &y, 2)
    };
    assert!(!gpu.allows_tf32(), "it is off unless somebody asks");
    assert_eq!(product(), [fine, finer]);
    gpu.allow_tf32(true);
    let rounded = product();
    gpu.allow_tf32(false);
    assert_eq!(rounded, [fine, 1.0]);
    assert_eq!(product(), [fine, finer]);
}

/// x Wᵀ + b of the numbers above, in every place of the buffers.
pub(crate) fn check_affine(gpu: &Gpu) {
    for [rows, size, width] in [[3, 4, 2], [2, 1, 5], [1, 3, 2], [4, 0, 3], [0, 2, 2], [5, 7, 6]] {
        for start in [0, 1] {
            let of = |n: usize, seed| numbers(start + n, seed);
            let (x, w, b) = (of(rows * size, 1), of(width * size, 2), of(width, 3));
            let [on_x, on_w, on_b] = [&x, &w, &b].map(|values| gpu.write(values).unwrap());
            let part = |buffer, n| Slice::new(buffer, Scalar::F32, start, n);
            let mut y = gpu.memory().allocate(rows * width * 4).unwrap();
            let out = SliceMut::new(&mut y, Scalar::F32, rows * width);
            let (on_x, on_w) = (part(&on_x, rows * size), part(&on_w, width * size));
            affine(gpu, [rows, size, width], on_x, on_w, part(&on_b, width), &out).unwrap();
            let want: Vec<f32> = (0..rows * width)
                .map(|i| {
                    let (row, column) = (i / width, i % width);
                    let term = |k| x[start + row * size + k] * w[start + column * size + k];
                    (0..size).map(term).sum::<f32>() + b[start + column]
                })
                .collect();
            assert_eq!(read::<f32>(gpu, &y, rows * width), want, "{rows} {size} {width}");
        }
    }
}

#[test]
fn an_affine_map_is_the_product_plus_the_bias_and_each_shape_is_planned_once() {
    let Some((gpu, _guard)) = device() else { return };
    let before = gpu.plans().unwrap();
    check_affine(&gpu);
    // One row has no plan, which is known, too; no size and no rows are not asked about.
    assert_eq!(gpu.plans().unwrap() - before, 4);
    check_affine(&gpu);
    assert_eq!(gpu.plans().unwrap() - before, 4, "a plan is looked for once");
    gpu.allow_tf32(true);
    check_affine(&gpu);
    gpu.allow_tf32(false);
    assert_eq!(gpu.plans().unwrap() - before, 8, "with TF32 it is another plan");
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
