//! What factors and directions are made of, against plain loops.

use alcyon_kernels::conv::Conv2d;
use alcyon_kernels::cuda::cholesky::inverse_factor;
use alcyon_kernels::cuda::inner::inner;
use alcyon_kernels::cuda::newton_schulz::newton_schulz;
use alcyon_kernels::cuda::patches::patches;
use alcyon_kernels::cuda::{Scalar, Slice, SliceMut, running};
use alcyon_kernels::unfold::Window;

use crate::{device, read};

fn numbers(n: usize, seed: usize) -> Vec<f64> {
    (0..n).map(|i| ((i * 37 + seed * 11) % 101) as f64 / 50.0 - 1.0).collect()
}

#[test]
fn the_inner_product_of_several_arrays_is_one_number_in_f64() {
    let Some((gpu, _guard)) = device() else { return };
    // The second is more than a piece.
    let arrays = [3, 10_000, 0, 1].map(|n| (numbers(n, n), numbers(n, 7)));
    let there =
        arrays.each_ref().map(|(a, b)| (gpu.write(a).unwrap(), gpu.write(b).unwrap(), a.len()));
    let pairs = there
        .each_ref()
        .map(|(a, b, n)| (Slice::new(a, Scalar::F64, 0, *n), Slice::new(b, Scalar::F64, 0, *n)));
    let mut sum = gpu.write(&[f64::NAN]).unwrap();
    inner(&gpu, &pairs, &SliceMut::new(&mut sum, Scalar::F64, 1)).unwrap();
    let want: f64 = arrays.iter().flat_map(|(a, b)| a.iter().zip(b)).map(|(a, b)| a * b).sum();
    let got = read::<f64>(&gpu, &sum, 1)[0];
    assert!((got - want).abs() < 1e-10 * want.abs().max(1.0), "{got} and {want}");
    inner(&gpu, &[], &SliceMut::new(&mut sum, Scalar::F64, 1)).unwrap();
    assert_eq!(read::<f64>(&gpu, &sum, 1), [0.0], "of nothing");
}

#[test]
fn sums_that_are_not_finite_are_noticed_and_change_no_average() {
    let Some((gpu, _guard)) = device() else { return };
    let finite = numbers(1000, 1);
    for (bad, at) in [(f64::NAN, 0), (f64::INFINITY, 999), (f64::NEG_INFINITY, 500), (1e300, 3)] {
        let mut sums = finite.clone();
        sums[at] = bad;
        let on_sums = gpu.write(&sums).unwrap();
        let on_finite = gpu.write(&finite).unwrap();
        let of = |buffer| Slice::new(buffer, Scalar::F64, 0, 1000);
        let mut flag = gpu.write(&[0_i64]).unwrap();
        let flag_there = SliceMut::new(&mut flag, Scalar::I64, 1);
        for sums in [&on_sums, &on_finite] {
            running::look(&gpu, of(sums), &flag_there).unwrap();
        }
        let mut factor = gpu.write(&[2.0_f64; 1000]).unwrap();
        let there = SliceMut::new(&mut factor, Scalar::F64, 1000);
        running::average(&gpu, of(&on_sums), flag_there.read(), (4.0, 5.0), &there).unwrap();
        let after = read::<f64>(&gpu, &factor, 1000);
        assert_eq!(read::<i64>(&gpu, &flag, 1), [i64::from(!bad.is_finite())]);
        if bad.is_finite() {
            let close = |(f, x): (&f64, &f64)| {
                let want = 2.0 + (x / 4.0 - 2.0) / 5.0;
                (f - want).abs() <= 1e-14 * want.abs()
            };
            assert!(after.iter().zip(&sums).all(close));
        } else {
            assert_eq!(after, [2.0; 1000]);
        }
    }
}

#[test]
fn patches_are_what_stands_under_the_window() {
    let Some((gpu, _guard)) = device() else { return };
    let windows = [
        Window::new((1, 1)),
        Window { padding: (1, 2), stride: (2, 1), ..Window::new((3, 2)) },
        Window { dilation: (2, 1), ..Window::new((2, 3)) },
    ];
    let (n, c, h, w) = (2, 4, 5, 6);
    let x = numbers(n * c * h * w, 3);
    let on_x = gpu.write(&x).unwrap();
    for (window, groups) in windows.into_iter().flat_map(|window| [(window, 1), (window, 2)]) {
        let conv = Conv2d::new(n, groups, c, 2, (h, w), window).unwrap();
        let (columns, (kh, kw)) = (n * conv.positions(), window.kernel);
        let len = columns * c * kh * kw;
        let mut y = gpu.memory().allocate(len * 8).unwrap();
        let from = Slice::new(&on_x, Scalar::F64, 0, x.len());
        patches(&gpu, &conv, from, &SliceMut::new(&mut y, Scalar::F64, len)).unwrap();
        let entry = |at: usize| {
            let (d, column) = (at / columns, at % columns);
            let (image, place) = (column / conv.positions(), column % conv.positions());
            let (p, q) = (place / conv.output.1, place % conv.output.1);
            let (channel, a, b) = (d / (kh * kw), d / kw % kh, d % kw);
            let i = (p * window.stride.0 + a * window.dilation.0).wrapping_sub(window.padding.0);
            let j = (q * window.stride.1 + b * window.dilation.1).wrapping_sub(window.padding.1);
            if i < h && j < w { x[((image * c + channel) * h + i) * w + j] } else { 0.0 }
        };
        assert_eq!(read::<f64>(&gpu, &y, len), (0..len).map(entry).collect::<Vec<_>>());
    }
}

#[test]
fn a_matrix_becomes_one_with_orthonormal_rows_or_columns() {
    let Some((gpu, _guard)) = device() else { return };
    for (rows, columns) in [(3, 5), (5, 3), (4, 4), (1, 6), (0, 3)] {
        let x = numbers(rows * columns, 5);
        let length = x.iter().map(|x| x * x).sum::<f64>().sqrt().max(1.0);
        let unit: Vec<f64> = x.iter().map(|x| x / length).collect();
        let mut there = gpu.write(&unit).unwrap();
        let slice = SliceMut::new(&mut there, Scalar::F64, unit.len());
        // Coefficients with which the iteration converges.
        newton_schulz(&gpu, &slice, (rows, columns), [3.0, -3.2, 1.2], 60).unwrap();
        let x = read::<f64>(&gpu, &there, unit.len());
        let n = rows.min(columns);
        let at = |i: usize, k: usize| {
            if rows <= columns { x[i * columns + k] } else { x[k * columns + i] }
        };
        for (i, j) in (0..n * n).map(|ij| (ij / n, ij % n)) {
            let product: f64 = (0..rows.max(columns)).map(|k| at(i, k) * at(j, k)).sum();
            let want = if i == j { 1.0 } else { 0.0 };
            assert!((product - want).abs() < 1e-9, "{rows} × {columns}: {product} at {i}, {j}");
        }
    }
}

#[test]
fn a_small_positive_matrix_becomes_the_inverse_of_its_cholesky_factor_and_another_nan() {
    let Some((gpu, _guard)) = device() else { return };
    for n in [1, 2, 7, 64] {
        // B Bᵀ + I, and the same with a negative number on its diagonal.
        let b = numbers(n * n, n);
        let product =
            |at: usize| (0..n).map(|k| b[at / n * n + k] * b[at % n * n + k]).sum::<f64>();
        let one = |at: usize| if at.is_multiple_of(n + 1) { 1.0 } else { 0.0 };
        let a: Vec<f64> = (0..n * n).map(|at| product(at) + one(at)).collect();
        let mut indefinite = a.clone();
        indefinite[n * n - 1] = -0.5;
        let mut there = gpu.write(&[a.clone(), indefinite].concat()).unwrap();
        inverse_factor(&gpu, n, &SliceMut::new(&mut there, Scalar::F64, 2 * n * n)).unwrap();
        let both = read::<f64>(&gpu, &there, 2 * n * n);
        let (t, failed) = both.split_at(n * n);
        assert!(failed.iter().any(|x| x.is_nan()), "{n}");
        assert!((0..n * n).all(|at| at % n <= at / n || t[at] == 0.0), "{n}: above the diagonal");
        // T A Tᵀ = I
        let ta = |i: usize, j: usize| (0..n).map(|k| t[i * n + k] * a[k * n + j]).sum::<f64>();
        for (i, j) in (0..n * n).map(|at| (at / n, at % n)) {
            let entry: f64 = (0..n).map(|k| ta(i, k) * t[j * n + k]).sum();
            assert!((entry - one(i * n + j)).abs() < 1e-10, "{n}: {entry} at {i}, {j}");
        }
    }
}
