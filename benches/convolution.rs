//! `conv/…`: the convolutions of a ResNet-18 for 32 × 32 images (batch 32) and of a small CNN for
//! 28 × 28 ones (batch 64), each with its two gradients: by the rung that is chosen, and by patches.

mod quickly;

use alcyon::kernels::conv::{self, Conv2d, unfolded};
use alcyon::kernels::unfold::Window;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quickly::quickly;

/// Batch, channels in and out, side of the image, side of the kernel, stride.
const LAYERS: [(usize, usize, usize, usize, usize, usize); 13] = [
    (64, 1, 16, 28, 3, 1),
    (64, 16, 32, 14, 3, 1),
    (32, 3, 64, 32, 3, 1),
    (32, 64, 64, 32, 3, 1),
    (32, 64, 128, 32, 3, 2),
    (32, 64, 128, 32, 1, 2),
    (32, 128, 128, 16, 3, 1),
    (32, 128, 256, 16, 3, 2),
    (32, 128, 256, 16, 1, 2),
    (32, 256, 256, 8, 3, 1),
    (32, 256, 512, 8, 3, 2),
    (32, 256, 512, 8, 1, 2),
    (32, 512, 512, 4, 3, 1),
];

/// Numbers in ±½ without a pattern that matters: multiples of the golden ratio.
fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i as f64 * 0.618_033_988_749_895).fract() - 0.5) as f32).collect()
}

fn convolutions(c: &mut Criterion) {
    for (batch, inputs, outputs, side, kernel, stride) in LAYERS {
        let padding = (kernel / 2, kernel / 2);
        let window = Window { padding, stride: (stride, stride), ..Window::new((kernel, kernel)) };
        let Some(conv) = Conv2d::new(batch, 1, inputs, outputs, (side, side), window) else {
            continue;
        };
        let name = format!("{batch}x{inputs}x{side}x{side}-{outputs},{kernel}x{kernel}/{stride}");
        let (x, w) = (numbers(batch * inputs * side * side), numbers(outputs * conv.patch()));
        let g = numbers(batch * outputs * conv.positions());
        let (mut y, mut dx, mut dw) = (g.clone(), x.clone(), w.clone());
        let flops = 2 * g.len() * conv.patch();

        let mut group = c.benchmark_group("conv/output");
        group.throughput(Throughput::Elements(flops as u64));
        for (rung, forward) in
            [("planned", conv::forward::<f32> as Forward), ("unfolded", unfolded::forward)]
        {
            group.bench_function(BenchmarkId::new(rung, &name), |b| {
                b.iter(|| forward(&conv, &x, &w, None, &mut y));
            });
        }
        group.finish();
        let gradients: [(&str, Backward, Backward); 2] = [
            ("planned", conv::backward_input, conv::backward_weight),
            ("unfolded", unfolded::backward_input, unfolded::backward_weight),
        ];
        for (rung, backward_input, backward_weight) in gradients {
            let mut group = c.benchmark_group("conv/input_gradient");
            group.throughput(Throughput::Elements(flops as u64));
            group.bench_function(BenchmarkId::new(rung, &name), |b| {
                b.iter(|| backward_input(&conv, &g, &w, &mut dx));
            });
            group.finish();
            let mut group = c.benchmark_group("conv/weight_gradient");
            group.throughput(Throughput::Elements(flops as u64));
            group.bench_function(BenchmarkId::new(rung, &name), |b| {
                b.iter(|| backward_weight(&conv, &x, &g, &mut dw));
            });
            group.finish();
        }
    }
}

type Forward = fn(&Conv2d, &[f32], &[f32], Option<&[f32]>, &mut [f32]);
type Backward = fn(&Conv2d, &[f32], &[f32], &mut [f32]);

criterion_group! {
    name = benches;
    config = quickly(10, 0.8);
    targets = convolutions
}
criterion_main!(benches);
