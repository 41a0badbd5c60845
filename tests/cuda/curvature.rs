//! K-FAC on the (emulated) device against the CPU, factors, inverses and directions.

use alcyon::kernels::cuda::{CudaError, Gpu};
use alcyon::nn::layer::{
    BatchNorm2d, Conv1d, Conv2d, ConvTranspose2d, Embedding, Flatten, LayerNorm, Linear, Relu,
    Sequential,
};
use alcyon::optim::Batch;
use alcyon::optim::curvature::{DampingRule, KroneckerFactors, Share};
use alcyon::optim::{Lamb, LambConfig, LongSides, Muon, MuonConfig};
use alcyon::prelude::*;

use crate::{GPU, emulated, values};

/// Rounding of f64 over a few steps, in which a product may be added up in another order.
const CLOSE: f64 = 1e-9;

/// Pictures for convolutions, or indices for a table, with labels.
type Data = (Tensor, Tensor);

fn pictures(seed: u64) -> Data {
    let rng = &mut Rng::new(seed);
    let x = Tensor::normal([6, 2, 5, 4], 0.0, 1.0, DType::F64, rng);
    (x, Tensor::random_indices([6], 3, rng).unwrap())
}

fn sentences(seed: u64) -> Data {
    let rng = &mut Rng::new(seed);
    let x = Tensor::random_indices([4, 3], 5, rng).unwrap();
    (x, Tensor::random_indices([12], 3, rng).unwrap())
}

/// Groups, a transposed convolution, a norm of channels, a dense layer.
fn images() -> Sequential {
    let rng = &mut Rng::new(1);
    let window = Window { padding: (1, 1), ..Window::new((3, 3)) };
    let model = Sequential::new()
        .then(Conv2d::new(2, 4, window, rng))
        .then(BatchNorm2d::new(4))
        .then(Relu)
        .then(Conv2d::grouped(4, 6, Geometry { window, groups: 2 }, rng))
        .then(ConvTranspose2d::new(6, 2, Window::new((2, 2)), rng))
        .then(Flatten)
        .then(Linear::new(2 * 6 * 5, 3, rng));
    in_f64(model)
}

/// A table, a norm of features, a dense layer over positions.
fn tokens() -> Sequential {
    let rng = &mut Rng::new(2);
    let model = Sequential::new()
        .then(Embedding::new(5, 4, rng))
        .then(LayerNorm::new(4))
        .then(Linear::new(4, 3, rng));
    in_f64(model)
}

fn in_f64(mut model: Sequential) -> Sequential {
    for (_, parameter) in model.parameters_mut() {
        *parameter.value_mut() = parameter.value().to_dtype(DType::F64).unwrap();
    }
    for (_, buffer) in model.buffers_mut().into_iter().filter(|(_, b)| b.value().dtype().is_float())
    {
        *buffer.value_mut() = buffer.value().to_dtype(DType::F64).unwrap();
    }
    model
}

/// One step on a device.
fn step(
    model: &mut Sequential,
    optimizer: &mut dyn Optimizer,
    (x, labels): &Data,
    device: Device,
) -> Result<()> {
    model.to_device(device)?;
    let x = x.to_device(device)?;
    // A label for each row of classes, the examples on the first axis.
    let outputs = model.predict(&x)?;
    let rows = outputs.shape().split_last().map_or(&[][..], |(_, rows)| rows);
    let labels = labels.reshape(Shape::new(rows)?)?.to_device(device)?;
    let loss = CrossEntropy::new(&labels);
    let forward = |model: &Sequential, tape: &Tape| model.forward(&tape.input(x.clone()));
    optimizer.minimize(&mut Batch::new(model, forward, &loss).training(1))?;
    Ok(())
}

fn trained(
    model: fn() -> Sequential,
    data: fn(u64) -> Data,
    optimizer: &mut dyn Optimizer,
    device: Device,
) -> Vec<f64> {
    let mut model = model();
    (0..4).for_each(|seed| step(&mut model, optimizer, &data(seed), device).unwrap());
    values(&model)
}

fn assert_close(name: &str, here: &[f64], there: &[f64]) {
    assert_eq!(here.len(), there.len(), "{name}");
    for (i, (a, b)) in here.iter().zip(there).enumerate() {
        assert!((a - b).abs() <= CLOSE * a.abs().max(1.0), "{name}, number {i}: {a} and {b}");
    }
}

/// Averages and inverses are made at different steps.
fn config() -> KfacConfig {
    KfacConfig { rate: 0.05, inverse_every: 2, ..KfacConfig::default() }
}

#[test]
fn kfac_trains_every_kind_of_layer_as_on_the_cpu_under_every_rule() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let cases = [
        ("as it comes", config()),
        ("without a clip", KfacConfig { kl_clip: None, rate: 1e-3, ..config() }),
        ("in eigenvectors", KfacConfig { damping_rule: DampingRule::Exact, ..config() }),
        ("in blocks", KfacConfig { sides: LongSides::blocks(9), ..config() }),
        ("reduced", KfacConfig { share: Share::Reduce, ..config() }),
        ("in a small budget", KfacConfig { budget: Some(1 << 12), ..config() }),
        ("in a large budget", KfacConfig { budget: Some(1 << 20), ..config() }),
        ("exact", KfacConfig { fisher: Fisher::Exact, weight_decay: 0.1, ..config() }),
        ("empirical", KfacConfig { fisher: Fisher::Empirical, factor_every: 2, ..config() }),
    ];
    for (name, config) in cases {
        for (model, data) in [(images as fn() -> _, pictures as fn(u64) -> _), (tokens, sentences)]
        {
            let run = |device| {
                let mut optimizer = Kfac::new(config.clone()).unwrap();
                trained(model, data, &mut optimizer, device)
            };
            let (here, there) = (run(Device::Cpu), run(GPU));
            assert!(here.iter().zip(values(&model())).any(|(a, b)| (a - b).abs() > 1e-4), "{name}");
            assert_close(name, &here, &there);
        }
    }
}

#[test]
fn between_inversions_kfac_reads_nothing_back() {
    let Some((gpu, _guard)) = emulated() else { return };
    let mut model = images();
    let mut optimizer = Kfac::new(KfacConfig { inverse_every: 3, ..config() }).unwrap();
    let mut reads = |optimizer: &mut dyn Optimizer, seed| {
        let before = gpu.reads();
        step(&mut model, optimizer, &pictures(seed), GPU).unwrap();
        gpu.reads() - before
    };
    // The loss, mostly.
    let mut sgd = Sgd::new(SgdConfig::default()).unwrap();
    let plain = (0..2).map(|seed| reads(&mut sgd, seed)).last().unwrap();
    // Whether the batches were finite, and whether all factors could be inverted.
    let inversion = 2;
    for seed in 0..7 {
        let more = if seed % 3 == 0 { inversion } else { 0 };
        assert_eq!(reads(&mut optimizer, seed), plain + more, "step {seed}");
    }
}

#[test]
fn a_state_saved_on_one_device_goes_on_on_the_other() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let run = |devices: [Device; 4]| {
        let (mut model, mut optimizer) = (images(), Kfac::new(config()).unwrap());
        for (seed, device) in devices.into_iter().enumerate() {
            let state = optimizer.state(&model).unwrap();
            optimizer = Kfac::new(config()).unwrap();
            optimizer.load_state(&model, &state).unwrap();
            optimizer.set_rate(0.05 / (seed + 1) as f64);
            step(&mut model, &mut optimizer, &pictures(seed as u64), device).unwrap();
        }
        values(&model)
    };
    let here = run([Device::Cpu; 4]);
    for devices in [[GPU; 4], [GPU, Device::Cpu, GPU, GPU], [Device::Cpu, GPU, Device::Cpu, GPU]] {
        assert_close("resumed", &here, &run(devices));
    }
}

#[test]
fn resuming_on_the_device_equals_not_stopping_bit_for_bit() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let run = |stops: bool| {
        let (mut model, mut optimizer) = (images(), Kfac::new(config()).unwrap());
        for seed in 0..4 {
            if stops && seed == 3 {
                let state = optimizer.state(&model).unwrap();
                optimizer = Kfac::new(config()).unwrap();
                optimizer.load_state(&model, &state).unwrap();
            }
            step(&mut model, &mut optimizer, &pictures(seed), GPU).unwrap();
        }
        values(&model)
    };
    assert_eq!(run(false), run(true));
}

#[test]
fn a_batch_that_is_not_finite_is_left_out_of_the_averages_there_too() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let run = |device| {
        let weight = Parameter::new(Tensor::ones([2, 3], DType::F64).to_device(device).unwrap());
        let mut factors = KroneckerFactors::new(Fisher::Empirical, Share::Expand);
        for batch in [1.0, f64::INFINITY, 3.0, f64::NAN] {
            let x = Tensor::from_fn([4, 3], DType::F64, |i| i as f64).scale(batch).unwrap();
            let tape = Tape::new();
            let x = tape.input(x.to_device(device).unwrap());
            let y = x.linear(&tape.bind(&weight), None).unwrap().sum_all().unwrap();
            tape.backward_observed(&y.scale(0.25).unwrap(), &mut factors).unwrap();
            factors.finish(4).unwrap();
            factors.fold().unwrap();
        }
        factors.fetch().unwrap();
        let block = factors.of(&weight).unwrap();
        (factors.skipped(), [block.a.clone(), block.g.clone()].concat())
    };
    let ((here, averages), (there, same)) = (run(Device::Cpu), run(GPU));
    assert_eq!((here, there), (2, 2));
    assert!(same.iter().all(|x| x.is_finite()) && averages.len() == same.len());
}

/// Takes all memory but `spare` bytes away.
fn crowded(gpu: &Gpu, spare: usize) -> alcyon::kernels::cuda::memory::Buffer {
    gpu.memory().release().unwrap();
    let free = gpu.info().memory - gpu.memory().statistics().live;
    gpu.memory().allocate(free - spare).unwrap()
}

#[test]
fn when_memory_runs_out_nothing_has_moved() {
    let Some((gpu, _guard)) = emulated() else { return };
    let rng = &mut Rng::new(1);
    let shape = [64, 1 << 14]; // of 8 MiB
    let value = Tensor::normal(shape, 0.0, 1.0, DType::F64, rng).to_device(GPU).unwrap();
    let start = value.to_vec::<f64>().unwrap();
    let mut weight = Parameter::new(value);
    let mut grads = Gradients::default();
    let gradient = Tensor::normal(shape, 0.0, 1.0, DType::F64, rng).to_device(GPU).unwrap();
    grads.set(&weight, gradient);
    let optimizers: [Box<dyn Optimizer>; 3] = [
        Box::new(Muon::new(MuonConfig::default()).unwrap()),
        Box::new(Lamb::new(LambConfig::default()).unwrap()),
        Box::new(Kfac::new(config()).unwrap()),
    ];
    for mut optimizer in optimizers {
        let name = optimizer.name();
        let ballast = crowded(&gpu, 6 << 20);
        let answer = optimizer.step(&mut weight, &grads);
        let out = matches!(&answer, Err(Error::Cuda { source: CudaError::OutOfMemory { .. }, .. }));
        assert!(out, "{name}: {answer:?}");
        drop(ballast);
        gpu.memory().release().unwrap();
        assert_eq!(weight.value().to_vec::<f64>().unwrap(), start, "{name}");
        optimizer.step(&mut weight, &grads).unwrap();
        let moved = weight.value().to_vec::<f64>().unwrap();
        assert!(moved != start && moved.iter().all(|x| x.is_finite()), "{name}");
        *weight.value_mut() = Tensor::from_slice(&start, shape).unwrap().to_device(GPU).unwrap();
    }
}

#[test]
fn a_convolved_line_has_the_factors_of_the_cpu() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let line = || {
        let rng = &mut Rng::new(3);
        let line = Conv1d::new(2, 3, Window::new((1, 3)), rng);
        in_f64(Sequential::new().then(line).then(Flatten).then(Linear::new(3 * 18, 3, rng)))
    };
    let data = |seed| {
        let (x, labels) = pictures(seed);
        (x.reshape([6, 2, 20]).unwrap(), labels)
    };
    let run = |device| {
        let mut model = line();
        let mut optimizer = Kfac::new(config()).unwrap();
        (0..3).for_each(|seed| step(&mut model, &mut optimizer, &data(seed), device).unwrap());
        values(&model)
    };
    assert_close("line", &run(Device::Cpu), &run(GPU));
}

/// Halves of halves, of lengths that are no multiple of a kernel's.
#[test]
fn long_factors_are_inverted_as_on_the_cpu() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let wide = || {
        let rng = &mut Rng::new(5);
        in_f64(
            Sequential::new()
                .then(Flatten)
                .then(Linear::new(40, 150, rng))
                .then(Relu)
                .then(Linear::new(150, 3, rng)),
        )
    };
    for rule in [DampingRule::Pi, DampingRule::Plain] {
        let config = KfacConfig { damping_rule: rule, damping: 1e-2, ..config() };
        let run = |device| {
            let mut optimizer = Kfac::new(config.clone()).unwrap();
            trained(wide, pictures, &mut optimizer, device)
        };
        assert_close("long", &run(Device::Cpu), &run(GPU));
    }
}

#[test]
fn a_layer_that_cannot_be_inverted_says_so_and_the_model_is_as_before() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let (mut model, data) = (images(), pictures(1));
    model.to_device(GPU).unwrap();
    let start = values(&model);
    // f32 cannot hold the inverse of what is damped with so little; f64 could.
    for (_, parameter) in model.parameters_mut() {
        *parameter.value_mut() = parameter.value().to_dtype(DType::F32).unwrap();
    }
    for (_, buffer) in model.buffers_mut().into_iter().filter(|(_, b)| b.value().dtype().is_float())
    {
        *buffer.value_mut() = buffer.value().to_dtype(DType::F32).unwrap();
    }
    let data = (data.0.to_dtype(DType::F32).unwrap(), data.1);
    let mut optimizer = Kfac::new(KfacConfig { damping: 1e-90, ..config() }).unwrap();
    let answer = step(&mut model, &mut optimizer, &data, GPU);
    let Err(Error::InLayer { path, source }) = answer else { panic!("{answer:?}") };
    assert!(matches!(*source, Error::Linalg { .. }) && path == "6.weight", "{path}: {source}");
    let rounded = start.iter().zip(values(&model)).all(|(a, b)| (a - b).abs() <= 1e-6 * a.abs());
    assert!(rounded, "nothing has moved");
}
