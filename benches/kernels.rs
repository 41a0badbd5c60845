//! `kernel/…`: slices in, slices out. The rungs of the matrix product, and one size of each other
//! kernel, chosen to be larger than a second-level cache.

mod quickly;

use alcyon::kernels::conv::{self, Conv2d};
use alcyon::kernels::gemm::{self, Matrix};
use alcyon::kernels::unfold::Window;
use alcyon::kernels::{elementwise, norm, reduce, second_moment, softmax};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
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
    let rungs: [(&str, Rung, &[usize]); 4] = [
        ("reference", gemm::reference::gemm::<f32>, &[64, 128]),
        ("blocked", gemm::blocked::gemm::<f32>, &[64, 128, 256]),
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

fn normalisations(c: &mut Criterion) {
    let x = numbers(ROWS * WIDTH);
    let mut out = vec![0.0; ROWS * WIDTH];
    let labels: Vec<i64> = (0..ROWS).map(|r| (r % WIDTH) as i64).collect();
    let mut group = c.benchmark_group("kernel/softmax");
    group.throughput(Throughput::Elements((ROWS * WIDTH) as u64));
    group.bench_function("softmax", |b| b.iter(|| softmax::softmax(&x, WIDTH, &mut out)));
    group.bench_function("cross_entropy", |b| {
        b.iter(|| softmax::cross_entropy(&x, &labels, WIDTH, &mut out));
    });
    group.finish();

    let mut group = c.benchmark_group("kernel/norm");
    group.throughput(Throughput::Elements((ROWS * WIDTH) as u64));
    group.bench_function("layer_norm", |b| {
        let (mut mean, mut rstd) = (vec![0.0; ROWS], vec![0.0; ROWS]);
        b.iter(|| {
            norm::layer_norm(&x, WIDTH, 1e-5, None, None, &mut out, &mut mean, &mut rstd);
        });
    });
    // The same numbers as 64 images of 64 channels and 256 pixels.
    let (n, channels, pixels) = (64, 64, 256);
    let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
    group.bench_function("batch_moments", |b| {
        b.iter(|| norm::batch_moments(&x, n, channels, pixels, &mut mean, &mut variance));
    });
}

fn convolutions(c: &mut Criterion) {
    let window = Window { padding: (1, 1), ..Window::new((3, 3)) };
    let Some(conv) = Conv2d::new(64, 1, 16, 32, (14, 14), window) else { return };
    let (x, w, g) = (numbers(64 * 16 * 196), numbers(32 * 144), numbers(64 * 32 * 196));
    let (mut y, mut dx, mut dw) = (g.clone(), x.clone(), w.clone());
    let mut group = c.benchmark_group("kernel/conv");
    group.throughput(Throughput::Elements(2 * (64 * 32 * 196 * 144) as u64)); // flops
    group.bench_function("forward", |b| b.iter(|| conv::forward(&conv, &x, &w, None, &mut y)));
    group.bench_function("backward_input", |b| {
        b.iter(|| conv::backward_input(&conv, &g, &w, &mut dx));
    });
    group.bench_function("backward_weight", |b| {
        b.iter(|| conv::backward_weight(&conv, &x, &g, &mut dw));
    });
    group.finish();

    // What curvature reads from the same layer: AdaFisher's diagonal and K-FAC's matrix.
    let mut group = c.benchmark_group("kernel/second_moment");
    let d = conv.patch();
    let (mut squares, mut gram) = (vec![0.0; d], vec![0.0; d * d]);
    group.bench_function("patch_squares", |b| {
        b.iter(|| second_moment::patch_squares(&conv, &x, &mut squares));
    });
    group.bench_function("patch_gram", |b| {
        b.iter(|| second_moment::patch_gram(&conv, &x, false, &mut gram));
    });
    let rows = numbers(ROWS * WIDTH);
    let (mut squares, mut gram) = (vec![0.0; WIDTH], vec![0.0; WIDTH * WIDTH]);
    group.bench_function("column_squares", |b| {
        b.iter(|| second_moment::column_squares(&rows, ROWS, WIDTH, &mut squares));
    });
    group.bench_function("gram", |b| {
        b.iter(|| second_moment::gram(&rows, ROWS, WIDTH, &mut gram));
    });
}

criterion_group! {
    name = benches;
    config = quickly(20, 1.0);
    targets = products, loops, normalisations, convolutions
}
criterion_main!(benches);
