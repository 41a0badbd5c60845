//! `kernel/…`: slices in, slices out. The ladders, rung by rung (`kernel/softmax/lanes`), and one size
//! of each other kernel, chosen to be larger than a second-level cache.

mod quickly;

use alcyon::kernels::conv::{self, Conv2d, unfolded, winograd};
use alcyon::kernels::gemm::{self, Matrix};
use alcyon::kernels::step::{self, AdaFisher, Adam, Curvature};
use alcyon::kernels::unfold::Window;
use alcyon::kernels::{elementwise, linalg, norm, reduce, second_moment, softmax};
use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use quickly::quickly;

/// Rows and columns of the matrices that are normalised, reduced, squared.
const ROWS: usize = 4096;
const WIDTH: usize = 256;

/// Numbers in ±½ without a pattern that matters: multiples of the golden ratio.
fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i as f64 * 0.618_033_988_749_895).fract() - 0.5) as f32).collect()
}

fn products(c: &mut Criterion) {
    type Rung = for<'a, 'b> fn(f32, Matrix<'a, f32>, Matrix<'b, f32>, f32, &mut [f32]);
    // The slow rungs stop early: they would take most of the minutes.
    let rungs: [(&str, Rung, &[usize]); 5] = [
        ("reference", gemm::reference::gemm::<f32>, &[64, 128, 256]),
        ("blocked", gemm::blocked::gemm::<f32>, &[64, 128, 256]),
        ("packed", gemm::packed::gemm::<f32>, &[64, 128, 256, 512]),
        ("sequential", gemm::sequential::<f32>, &[64, 128, 256, 512]),
        ("library", gemm::gemm::<f32>, &[64, 128, 256, 512]),
    ];
    for (name, product, sizes) in rungs {
        let mut group = c.benchmark_group(format!("kernel/gemm/{name}"));
        for &n in sizes {
            let (a, b, mut out) = (numbers(n * n), numbers(n * n), vec![0.0; n * n]);
            group.throughput(Throughput::Elements(2 * (n * n * n) as u64)); // flops
            group.bench_function(BenchmarkId::from_parameter(n), |bench| {
                let (a, b) = (Matrix::new(&a, n, n), Matrix::new(&b, n, n));
                bench.iter(|| product(1.0, a, b, 0.0, &mut out));
            });
        }
    }
}

fn loops(c: &mut Criterion) {
    let (x, y) = (numbers(ROWS * WIDTH), numbers(ROWS * WIDTH));
    let mut out = vec![0.0; ROWS * WIDTH];
    let mut group = c.benchmark_group("kernel/elementwise");
    group.throughput(Throughput::Elements((ROWS * WIDTH) as u64));
    group.bench_function("add", |b| b.iter(|| elementwise::map2(&x, &y, &mut out, |x, y| x + y)));
    group.bench_function("exp", |b| b.iter(|| elementwise::map(&x, &mut out, f32::exp)));
    group.finish();

    let mut group = c.benchmark_group("kernel/reduce");
    group.throughput(Throughput::Elements((ROWS * WIDTH) as u64));
    group.bench_function("sum", |b| b.iter(|| reduce::sum(&x)));
    group.bench_function("rows", |b| {
        b.iter(|| reduce::sum_axis(&x, ROWS, WIDTH, 1, &mut out[..ROWS]));
    });
    group.bench_function("columns", |b| {
        b.iter(|| reduce::sum_axis(&x, 1, ROWS, WIDTH, &mut out[..WIDTH]));
    });
}

/// The rungs of one ladder, from the definition up to what is used.
fn ladder<'a>(
    c: &'a mut Criterion,
    name: &str,
    elements: usize,
    climb: impl FnOnce(&mut BenchmarkGroup<'a, WallTime>),
) {
    let mut group = c.benchmark_group(format!("kernel/{name}"));
    group.throughput(Throughput::Elements(elements as u64));
    climb(&mut group);
    group.finish();
}

fn rows(c: &mut Criterion) {
    let x = numbers(ROWS * WIDTH);
    let mut out = vec![0.0; ROWS * WIDTH];
    let (mut mean, mut rstd) = (vec![0.0; ROWS], vec![0.0; ROWS]);
    ladder(c, "softmax", x.len(), |group| {
        use softmax::ladder::{lanes, online, polynomial, reference, wide};
        type Rung = fn(&[f32], usize, &mut [f32]);
        let rungs: [(&str, Rung); 6] = [
            ("reference", reference),
            ("polynomial", polynomial),
            ("lanes", lanes),
            ("wide", wide),
            ("threads", softmax::softmax),
            ("online", online),
        ];
        for (name, rung) in rungs {
            group.bench_function(name, |b| b.iter(|| rung(&x, WIDTH, &mut out)));
        }
    });
    ladder(c, "layer_norm", x.len(), |group| {
        use norm::ladder::{fused, lanes, reference, wide};
        type Parameters<'a> = Option<&'a [f32]>;
        type Rung = for<'a> fn(
            &[f32],
            usize,
            f32,
            Parameters<'a>,
            Parameters<'a>,
            &mut [f32],
            &mut [f32],
            &mut [f32],
        );
        let rungs: [(&str, Rung); 5] = [
            ("reference", reference),
            ("lanes", lanes),
            ("fused", fused),
            ("wide", wide),
            ("threads", norm::layer_norm),
        ];
        let (scale, shift) = (numbers(WIDTH), numbers(WIDTH));
        for (name, rung) in rungs {
            let (scale, shift) = (Some(&scale[..]), Some(&shift[..]));
            group.bench_function(name, |b| {
                b.iter(|| rung(&x, WIDTH, 1e-5, scale, shift, &mut out, &mut mean, &mut rstd));
            });
        }
    });
    let labels: Vec<i64> = (0..ROWS).map(|r| (r % WIDTH) as i64).collect();
    ladder(c, "cross_entropy", x.len(), |group| {
        group.bench_function("threads", |b| {
            b.iter(|| softmax::cross_entropy(&x, &labels, WIDTH, &mut out));
        });
    });
    // The same numbers as 64 images of 64 channels and 256 pixels.
    let (n, channels, pixels) = (64, 64, 256);
    let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
    ladder(c, "batch_moments", x.len(), |group| {
        group.bench_function("threads", |b| {
            b.iter(|| norm::batch_moments(&x, n, channels, pixels, &mut mean, &mut variance));
        });
    });
}

/// 64 images of 28 × 28 after one halving, 16 channels to 32.
fn layer() -> Option<Conv2d> {
    let window = Window { padding: (1, 1), ..Window::new((3, 3)) };
    Conv2d::new(64, 1, 16, 32, (14, 14), window)
}

fn convolutions(c: &mut Criterion) {
    type Forward = fn(&Conv2d, &[f32], &[f32], Option<&[f32]>, &mut [f32]);
    type Backward = fn(&Conv2d, &[f32], &[f32], &mut [f32]);
    let Some(conv) = layer() else { return };
    let (x, w, g) = (numbers(64 * 16 * 196), numbers(32 * 144), numbers(64 * 32 * 196));
    let (mut y, mut dx, mut dw) = (g.clone(), x.clone(), w.clone());
    let flops = 2 * g.len() * conv.patch();
    ladder(c, "conv", flops, |group| {
        use conv::reference;
        let rungs: [(&str, Forward, [Backward; 2]); 3] = [
            (
                "reference",
                reference::forward,
                [reference::backward_input, reference::backward_weight],
            ),
            ("unfolded", unfolded::forward, [unfolded::backward_input, unfolded::backward_weight]),
            ("winograd", winograd::forward, [winograd::backward_input, winograd::backward_weight]),
        ];
        for (rung, forward, [backward_input, backward_weight]) in rungs {
            group.bench_function(BenchmarkId::new(rung, "output"), |b| {
                b.iter(|| forward(&conv, &x, &w, None, &mut y));
            });
            group.bench_function(BenchmarkId::new(rung, "input_gradient"), |b| {
                b.iter(|| backward_input(&conv, &g, &w, &mut dx));
            });
            group.bench_function(BenchmarkId::new(rung, "weight_gradient"), |b| {
                b.iter(|| backward_weight(&conv, &x, &g, &mut dw));
            });
        }
    });
}

/// What curvature reads from a layer: AdaFisher's diagonal and K-FAC's matrix.
fn moments(c: &mut Criterion) {
    use second_moment::ladder::{
        product_gram, reference_gram, reference_patch_squares, shifted_patch_squares,
        unfolded_patch_squares,
    };
    let Some(conv) = layer() else { return };
    let (x, d) = (numbers(64 * 16 * 196), conv.patch());
    let (mut squares, mut gram) = (vec![0.0; d], vec![0.0; d * d]);
    ladder(c, "patch_squares", conv.batch * conv.positions() * d, |group| {
        type Rung = fn(&Conv2d, &[f32], &mut [f32]);
        let rungs: [(&str, Rung); 4] = [
            ("reference", reference_patch_squares),
            ("unfolded", unfolded_patch_squares),
            ("shifted", shifted_patch_squares),
            ("added_first", second_moment::patch_squares),
        ];
        for (name, rung) in rungs {
            group.bench_function(name, |b| b.iter(|| rung(&conv, &x, &mut squares)));
        }
    });
    ladder(c, "patch_gram", conv.batch * conv.positions() * d * d, |group| {
        group.bench_function("threads", |b| {
            b.iter(|| second_moment::patch_gram(&conv, &x, false, &mut gram));
        });
    });
    let rows = numbers(ROWS * WIDTH);
    let (mut squares, mut gram) = (vec![0.0; WIDTH], vec![0.0; WIDTH * WIDTH]);
    ladder(c, "column_squares", rows.len(), |group| {
        group.bench_function("threads", |b| {
            b.iter(|| second_moment::column_squares(&rows, ROWS, WIDTH, &mut squares));
        });
    });
    ladder(c, "gram", rows.len() * WIDTH, |group| {
        type Rung = fn(&[f32], usize, usize, &mut [f32]);
        let rungs: [(&str, Rung); 3] = [
            ("reference", |x, rows, width, out| reference_gram(x, rows, width, false, out)),
            ("product", product_gram),
            ("half", second_moment::gram),
        ];
        for (name, rung) in rungs {
            group.bench_function(name, |b| b.iter(|| rung(&rows, ROWS, WIDTH, &mut gram)));
        }
    });
}

/// Updates of a weight \[4096, 256\].
fn updates(c: &mut Criterion) {
    use step::ladder::{
        one_pass_adafisher, one_pass_adam, reference_adam, wide_adafisher, wide_adam,
    };
    let (mut theta, grad) = (numbers(ROWS * WIDTH), numbers(ROWS * WIDTH));
    let (mut m, mut v) = (vec![0.0; theta.len()], vec![0.0; theta.len()]);
    // The rates are so small that no number grows however long it is measured.
    let rate = 1e-8;
    ladder(c, "adam", theta.len(), |group| {
        type Rung = fn(&mut [f32], &[f32], &mut [f32], &mut [f32], &Adam);
        let (beta1, beta2, epsilon, weight_decay) = (0.9, 0.999, 1e-8, 0.0);
        let rule = Adam { rate, beta1, beta2, epsilon, weight_decay, decoupled: true, step: 9 };
        let rungs: [(&str, Rung); 4] = [
            ("reference", reference_adam),
            ("one_pass", one_pass_adam),
            ("wide", wide_adam),
            ("threads", |theta, g, m, v, rule| step::adam(theta, g, m, v, None, rule)),
        ];
        for (name, rung) in rungs {
            group.bench_function(name, |b| {
                b.iter(|| rung(&mut theta, &grad, &mut m, &mut v, &rule));
            });
        }
    });
    let (s, h) = (vec![0.3; ROWS], vec![0.7; WIDTH]);
    ladder(c, "adafisher", theta.len(), |group| {
        type Rung = fn(&mut [f32], &[f32], &mut [f32], (&[f32], &[f32]), &AdaFisher);
        let rule = AdaFisher {
            rate,
            beta: 0.9,
            damping: 1e-3,
            coupled_decay: 0.0,
            decoupled_decay: 0.0,
            step: 9,
            root: false,
        };
        let rungs: [(&str, Rung); 4] = [
            ("reference", |theta, g, m, (s, h), rule| {
                step::reference_adafisher(theta, g, m, Curvature::Outer { s, h }, rule);
            }),
            ("one_pass", one_pass_adafisher),
            ("wide", wide_adafisher),
            ("threads", |theta, g, m, (s, h), rule| {
                step::adafisher(theta, g, m, Curvature::Outer { s, h }, rule);
            }),
        ];
        for (name, rung) in rungs {
            group.bench_function(name, |b| {
                b.iter(|| rung(&mut theta, &grad, &mut m, (&s, &h), &rule));
            });
        }
    });
}

/// Of a second moment, in f64 and on one thread.
fn factorisations(c: &mut Criterion) {
    type Routine = fn(&[f64], usize) -> Result<Vec<f64>, linalg::LinalgError>;
    let routines: [(&str, Routine); 4] = [
        ("cholesky", linalg::cholesky),
        ("inverse", linalg::cholesky_inverse),
        ("orthonormal", linalg::orthonormal),
        ("eigenvectors", |a, n| linalg::symmetric_eigen(a, n).map(|eigen| eigen.vectors)),
    ];
    for n in [16, 64, 256, 785] {
        let x: Vec<f64> = numbers(n * n).into_iter().map(f64::from).collect();
        let mut moment = vec![0.0; n * n];
        second_moment::gram(&x, n, n, &mut moment);
        (0..n).for_each(|i| moment[i * n + i] += 0.1 * n as f64);
        let mut group = c.benchmark_group("kernel/linalg");
        for (name, routine) in routines {
            group.bench_function(BenchmarkId::new(name, n), |b| b.iter(|| routine(&moment, n)));
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = quickly(20, 1.0);
    targets = products, loops, rows, convolutions, moments, updates, factorisations
}
criterion_main!(benches);
