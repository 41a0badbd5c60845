//! `op/…`: tensors in, tensors out, with everything the engine does around a kernel: checks,
//! memory, a record on the tape.

mod quickly;

use alcyon::engine::ops::attention::AttentionMask;
use alcyon::prelude::*;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quickly::quickly;

const MILLION: usize = 1 << 20;

fn normal(shape: impl Into<Shape>) -> Tensor {
    Tensor::normal(shape, 0.0, 1.0, DType::F32, &mut Rng::new(0))
}

/// Sizes at which the kernel is everything.
fn large(c: &mut Criterion) {
    let (x, y) = (normal([MILLION]), normal([MILLION]));
    let mut group = c.benchmark_group("op/million");
    group.throughput(Throughput::Elements(MILLION as u64));
    group.bench_function("add", |b| b.iter(|| x.add(&y)));
    group.bench_function("relu", |b| b.iter(|| x.relu()));
    group.bench_function("sum", |b| b.iter(|| x.sum_all()));
    let (rows, column) = (normal([1024, 1024]), normal([1024, 1]));
    group.bench_function("add_broadcast", |b| b.iter(|| rows.add(&column)));
    let flipped = rows.transpose(0, 1).and_then(|t| t.contiguous());
    assert!(flipped.is_ok(), "a matrix has a transpose");
    group.bench_function("transpose", |b| {
        b.iter(|| rows.transpose(0, 1).and_then(|t| t.contiguous()));
    });
    group.finish();

    let mut group = c.benchmark_group("op/matmul");
    for n in [64, 256] {
        let (a, b) = (normal([n, n]), normal([n, n]));
        group.throughput(Throughput::Elements(2 * (n * n * n) as u64)); // flops
        group.bench_function(n.to_string(), |bench| bench.iter(|| a.matmul(&b)));
    }
}

/// Attention as one op, and as the ops it replaces: eight heads of 256 tokens, width 64.
fn attention(c: &mut Criterion) {
    const SCALE: f64 = 0.125;
    let [q, k, v] = [(); 3].map(|()| normal([8, 256, 64]));
    let fused = |q: &Var, k: &Var, v: &Var| q.attention(k, v, AttentionMask::None, SCALE);
    let composed = |q: &Var, k: &Var, v: &Var| {
        q.matmul(&k.transpose(-1, -2)?)?.scale(SCALE)?.softmax(-1)?.matmul(v)
    };
    let mut group = c.benchmark_group("op/attention");
    type Op<'a> = &'a dyn Fn(&Var, &Var, &Var) -> Result<Var>;
    for (name, op) in [("fused", &fused as Op<'_>), ("composed", &composed)] {
        group.bench_function(format!("{name}_forward"), |b| {
            let tape = Tape::off();
            let [q, k, v] = [&q, &k, &v].map(|x| tape.input(x.clone()));
            b.iter(|| op(&q, &k, &v));
        });
        group.bench_function(format!("{name}_and_swept"), |b| {
            b.iter(|| {
                let tape = Tape::new();
                let [q, k, v] = [&q, &k, &v].map(|x| tape.watch(x.clone()));
                tape.backward(&op(&q, &k, &v)?.sum_all()?)
            });
        });
    }
}

/// Sizes at which the kernel is nothing: the price of an op.
fn tiny(c: &mut Criterion) {
    const CHAIN: usize = 100;
    let x = normal([4]);
    let mut group = c.benchmark_group("op/overhead");
    group.throughput(Throughput::Elements(CHAIN as u64)); // ops
    group.bench_function("plain", |b| {
        b.iter(|| (0..CHAIN).try_fold(x.clone(), |x, _| x.relu()));
    });
    group.bench_function("recorded", |b| {
        b.iter(|| {
            let tape = Tape::new();
            (0..CHAIN).try_fold(tape.watch(x.clone()), |x, _| x.relu())
        });
    });
    group.bench_function("recorded_and_swept", |b| {
        b.iter(|| {
            let tape = Tape::new();
            let y = (0..CHAIN).try_fold(tape.watch(x.clone()), |x, _| x.relu())?;
            tape.backward(&y.sum_all()?)
        });
    });
}

criterion_group! {
    name = benches;
    config = quickly(20, 1.0);
    targets = large, attention, tiny
}
criterion_main!(benches);
