//! Sizes that nobody should give, whose products wrap to the lengths that come with them: every kernel refuses
//! them in its own name, in a release build as in this one, and nothing is read or written.

use std::panic::{AssertUnwindSafe, catch_unwind};

use alcyon_kernels::attention::{Attention, attention, attention_backward};
use alcyon_kernels::conv::{self, Conv2d};
use alcyon_kernels::gemm::{self, Matrix};
use alcyon_kernels::group_norm::{Groups, group_norm};
use alcyon_kernels::interpolate::{Sampling, interpolate, interpolate_backward};
use alcyon_kernels::linalg::{LinalgError, cholesky, cholesky_solve, orthonormal};
use alcyon_kernels::step::{AdaFisher, Curvature, adafisher};
use alcyon_kernels::unfold::{Window, fold_acc, unfold};
use alcyon_kernels::{
    along, elementwise, index, norm, pooling, reduce, rms_norm, second_moment, softmax, sort,
    transpose,
};

/// HALF · HALF wraps to 0.
const HALF: usize = 1 << (usize::BITS / 2);
/// 2 · WRAP wraps to 2.
const WRAP: usize = (1 << (usize::BITS - 1)) + 1;

/// 3 · THIRD wraps to 2, and is not too large by itself.
const THIRD: usize = usize::MAX / 3 + 1;

/// Asserts that a call panics in the kernel's name, and not because the compiler has checked a product.
#[track_caller]
fn refused<R>(kernel: &str, call: impl FnOnce() -> R) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(call)) else {
        unreachable!("{kernel}: accepted");
    };
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    assert!(text.contains(kernel) && !text.contains("overflow"), "{kernel}: {text:?}");
}

const NONE: [f64; 0] = [];

#[test]
fn products_of_matrices_that_memory_cannot_have_are_refused() {
    let one = [1.0];
    for (m, n) in [(HALF, HALF), (3, THIRD), (THIRD, 3)] {
        let tall = Matrix::strided(&one, m, 1, 0, 0);
        let wide = Matrix::strided(&one, 1, n, 0, 0);
        let mut c = [f64::NAN; 2];
        let c = &mut c[..m.wrapping_mul(n)];
        refused("gemm", || gemm::gemm(1.0, tall, wide, 0.0, c));
        refused("gemm", || gemm::sequential(1.0, tall, wide, 0.0, c));
        refused("gemm", || gemm::blocked::gemm(1.0, tall, wide, 0.0, c));
        refused("gemm", || gemm::packed::gemm(1.0, tall, wide, 0.0, c));
        refused("gemm", || gemm::reference::gemm(1.0, tall, wide, 0.0, c));
        assert!(c.iter().all(|c| c.is_nan()), "written to");
    }
    refused("gemm", || {
        gemm::batch(&mut [0.0; 2], 2, 1, |_| {
            (Matrix::strided(&one, 3, 1, 0, 0), Matrix::strided(&one, 1, THIRD, 0, 0))
        });
    });
    refused("Matrix", || Matrix::strided(&one, 2, 2, usize::MAX, 1));
    refused("Matrix", || Matrix::strided(&one, HALF + 1, 1, HALF, 1));
    refused("Matrix", || Matrix::new(&one, WRAP, 2));
    refused("Matrix", || Matrix::strided(&one, 1, 2, 0, 0).columns(1, 3));
}

#[test]
fn a_stride_that_no_step_is_made_by_may_be_anything() {
    let (x, huge) = ([3.0, 4.0], usize::MAX);
    for row in [Matrix::strided(&x, 1, 2, huge, 1), Matrix::strided(&x, 2, 1, 1, huge).t()] {
        let column = Matrix::strided(&x, 2, 1, 1, huge);
        let (mut dot, mut outer) = ([0.0], [0.0; 4]);
        gemm::gemm(1.0, row, column, 0.0, &mut dot);
        gemm::gemm(1.0, column, row, 0.0, &mut outer);
        assert_eq!((dot, outer), ([25.0], [9.0, 12.0, 12.0, 16.0]));
        assert_eq!(row.columns(2, 2).cols(), 0);
    }
}

#[test]
fn views_that_leave_their_memory_by_wrapping_are_refused() {
    let x = [1.0, 2.0];
    let copy = |shape: &[usize], strides: &[usize], offset, out: &mut [f64]| {
        elementwise::copy_strided(&x, shape, strides, offset, out);
    };
    refused("copy_strided", || copy(&[HALF, HALF], &[0, 0], 0, &mut []));
    refused("copy_strided", || copy(&[2], &[1], usize::MAX, &mut [0.0; 2]));
    refused("copy_strided", || copy(&[3], &[1 << (usize::BITS - 1)], 0, &mut [0.0; 3]));
    refused("copy_strided", || copy(&[2, 2], &[usize::MAX, 1], 0, &mut [0.0; 4]));
    copy(&[0, 2], &[usize::MAX, usize::MAX], 1, &mut []);
    refused("map2_strided", || {
        let out = &mut [0.0; 2];
        elementwise::map2_strided(&[2], &x, &[1], 0, &x, &[usize::MAX], 1, out, |a, b| a + b);
    });
    refused("transpose", || transpose::transpose(&x, (HALF, HALF), HALF, &mut []));
    refused("transpose", || transpose::transpose(&x, (2, 1), usize::MAX, &mut [0.0; 2]));
    refused("transpose", || transpose::reference(&x, (3, 1), 1 << 63, &mut [0.0; 3]));
}

#[test]
fn axes_whose_product_wraps_are_refused() {
    let (places, two) = (&mut [0_i64; 0][..], &[0.0; 2]);
    refused("sum_axis", || reduce::sum_axis(&NONE, HALF, 1, HALF, &mut []));
    refused("sum_axis", || reduce::sum_axis(two, 1, 2, WRAP, &mut [0.0; 2]));
    refused("square_sum_axis", || reduce::square_sum_axis(&NONE, HALF, 0, HALF, &mut []));
    refused("max_axis", || reduce::max_axis(&NONE, HALF, 1, HALF, &mut [], places));
    refused("gather", || index::gather_axis(&NONE, HALF, 1, HALF, &[0], 1, &mut []));
    refused("gather", || index::gather_rows(two, WRAP, &[0, 0], &mut [0.0; 2]));
    refused("scatter_add", || index::scatter_add_axis(&NONE, HALF, 1, HALF, &[0], 1, &mut []));
    refused("scatter_add", || index::scatter_add_rows(two, WRAP, &[0, 0], &mut [0.0; 2]));
    refused("take", || along::take(&NONE, HALF, 1, HALF, &[], 1, &mut []));
    refused("add", || along::add(&NONE, HALF, 1, HALF, &[], 1, &mut []));
    refused("argsort", || sort::argsort(&NONE, HALF, 1, HALF, false, places));
    refused("gram", || second_moment::gram(&NONE, HALF, HALF, &mut []));
    refused("channel_gram", || second_moment::channel_gram(&NONE, 0, HALF, 1, &mut []));
    refused("channel_squares", || second_moment::channel_squares(&NONE, HALF, 0, HALF, &mut []));
    let rule = AdaFisher {
        rate: 1.0,
        beta: 0.5,
        damping: 1.0,
        coupled_decay: 0.0,
        decoupled_decay: 0.0,
        step: 1,
        root: false,
    };
    let outer = Curvature::Outer { s: two, h: two };
    refused("adafisher", || adafisher(&mut [0.0; 2], two, &mut [0.0; 2], outer, &rule));
    for got in
        [cholesky(&NONE, HALF), cholesky_solve(&NONE, 0, two, WRAP), orthonormal(&NONE, HALF)]
    {
        assert!(matches!(got, Err(LinalgError::Length { .. })), "{got:?}");
    }
}

#[test]
fn norms_and_rows_whose_product_wraps_are_refused() {
    let (two, wrapped) = (&[1.0; 2][..], &mut [0.0; 2][..]);
    refused("layer_norm", || {
        norm::layer_norm(two, WRAP, 0.0, None, None, wrapped, &mut [0.0; 2], &mut [0.0; 2]);
    });
    refused("layer_norm_backward", || {
        norm::layer_norm_backward(two, two, WRAP, two, two, None, wrapped, None, None);
    });
    refused("normalized_rows", || norm::normalized_rows(two, WRAP, two, two, wrapped));
    refused("rms_norm", || rms_norm::rms_norm(two, WRAP, 0.0, None, wrapped, &mut [0.0; 2]));
    refused("rms_norm_backward", || {
        rms_norm::rms_norm_backward(two, two, WRAP, two, None, wrapped, None);
    });
    let moments = [&mut [0.0; 2][..], &mut [0.0; 2], &mut [0.0; 2]];
    refused("batch_norm", || norm::batch_norm(two, 1, 2, WRAP, 0.0, two, two, wrapped, moments));
    refused("batch_moments", || {
        norm::batch_moments(two, WRAP, 2, 1, &mut [0.0; 2], &mut [0.0; 2]);
    });
    refused("batch_norm_apply", || {
        norm::batch_norm_apply(two, 1, 2, WRAP, two, two, None, None, wrapped);
    });
    refused("group_norm", || {
        let sizes = Groups { n: 1, c: 2, s: WRAP, groups: 1 };
        group_norm(&sizes, two, 0.0, None, None, wrapped, &mut [0.0], &mut [0.0]);
    });
    refused("cross_entropy", || softmax::cross_entropy(two, &[0, 0], WRAP, wrapped));
    for width in [0, 3] {
        refused("softmax", || softmax::softmax(two, width, wrapped));
        refused("log_softmax", || softmax::log_softmax(two, width, wrapped));
        refused("softmax_backward", || softmax::softmax_backward(two, two, width, wrapped));
    }
}

#[test]
fn heads_whose_product_wraps_are_refused() {
    let sizes = Attention {
        heads: WRAP,
        queries: 2,
        keys: 2,
        width: 1,
        values: 1,
        causal: false,
        scale: 1.0,
    };
    let two = &[1.0; 2][..];
    refused("attention", || attention(&sizes, two, two, two, &mut [0.0; 2], &mut [0.0; 2]));
    refused("attention_backward", || {
        let (mut q, mut k, mut v) = ([0.0; 2], [0.0; 2], [0.0; 2]);
        attention_backward(&sizes, (two, two, two), two, two, two, (&mut q, &mut k, &mut v));
    });
}

#[test]
fn windows_and_images_whose_product_wraps_are_refused() {
    let plain = Window::new((1, 1));
    let (one, two) = (&[1.0][..], &[1.0; 2][..]);
    refused("unfold", || unfold(&NONE, 1, HALF, HALF, &plain, &mut []));
    refused("fold_acc", || fold_acc(&NONE, 1, HALF, HALF, &plain, &mut []));
    // Taps beyond count, though image and output are small.
    let far = Window { kernel: (HALF, HALF), stride: (HALF, HALF), padding: (HALF, HALF), ..plain };
    assert_eq!(far.output((1, 1)), Some((2, 2)));
    refused("unfold", || unfold(one, 1, 1, 1, &far, &mut []));
    refused("max_pool", || pooling::max_pool(one, 1, 1, 1, &far, &mut [0.0; 4], &mut [0; 4]));
    refused("avg_pool", || pooling::avg_pool(one, 1, 1, 1, &far, true, &mut [0.0; 4]));
    refused("avg_pool", || pooling::avg_pool(two, WRAP, 1, 2, &plain, true, &mut [0.0; 2]));
    refused("avg_pool_backward", || {
        pooling::avg_pool_backward(two, WRAP, 1, 2, &plain, true, &mut [0.0; 2]);
    });
    refused("max_pool_backward", || {
        pooling::max_pool_backward(two, &[0; 2], 2, WRAP, 1, &mut [0.0; 2]);
    });
    refused("adaptive_avg_pool", || {
        pooling::adaptive_avg_pool(two, WRAP, 1, 2, 1, 2, &mut [0.0; 2]);
    });
    refused("adaptive_max_pool", || {
        pooling::adaptive_max_pool(two, WRAP, 1, 2, 1, 2, &mut [0.0; 2], &mut [0; 2]);
    });
    let taps = Sampling::Linear.taps(1, 1);
    refused("interpolate", || interpolate(&NONE, (HALF, HALF), &taps, &taps, &mut [0.0; 2]));
    refused("interpolate_backward", || {
        interpolate_backward(two, &taps, &taps, (HALF, HALF), &mut []);
    });
    refused("Sampling::taps", || Sampling::Linear.taps::<f64>(0, 1));
    let conv = Conv2d::new(WRAP, 1, 2, 2, (1, 1), plain).unwrap();
    let w = [0.0; 4];
    refused("conv", || conv::forward(&conv, two, &w, None, &mut [0.0; 2]));
    refused("conv", || conv::backward_input(&conv, two, &w, &mut [0.0; 2]));
    refused("conv", || conv::backward_weight(&conv, two, two, &mut [0.0; 4]));
    refused("conv", || conv::reference::forward(&conv, two, &w, None, &mut [0.0; 2]));
    let conv = Conv2d::new(1, 1, 1, 1, (1, 1), far).unwrap();
    refused("conv", || conv::forward(&conv, one, &NONE, None, &mut [0.0; 4]));
    refused("patch_squares", || second_moment::patch_squares(&conv, one, &mut []));
    refused("patch_gram", || second_moment::patch_gram(&conv, one, false, &mut []));
}

#[test]
fn a_padded_image_whose_places_no_signed_number_counts_has_no_output() {
    let quarter = 1 << (usize::BITS - 2);
    let window = Window { padding: (quarter, 0), stride: (quarter, 1), ..Window::new((1, 1)) };
    assert_eq!(window.output((1, 1)), None);
    assert_eq!(Window { padding: (usize::MAX, 0), ..window }.output((1, 1)), None);
    assert_eq!(Window { padding: (0, 0), ..window }.output((1, 1)), Some((1, 1)));
}
