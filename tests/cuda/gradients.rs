//! Optimizers that see gradients alone, given the same ones on the CPU and on the (emulated) device: on the
//! device itself, and by way of main memory.

use alcyon::optim::{self, Graft, LongSides, OnHost, SPlus, SPlusConfig, Statistics};
use alcyon::prelude::*;

use crate::{GPU, emulated, plain_network, train, values};

#[derive(Debug)]
struct Shapes {
    vector: Parameter,
    matrix: Parameter,
    kernel: Parameter,
    scalar: Parameter,
}

parameters!(Shapes { vector, matrix, kernel, scalar });

impl Shapes {
    fn new(dtype: DType, device: Device) -> Self {
        let rng = &mut Rng::new(1);
        let mut one = |shape: Shape| {
            Parameter::new(Tensor::normal(shape, 0.0, 1.0, dtype, rng).to_device(device).unwrap())
        };
        let (vector, matrix) = (one([5].into()), one([3, 4].into()));
        Self { vector, matrix, kernel: one([2, 3, 2, 2].into()), scalar: one(().into()) }
    }

    /// Gradients that see every direction, each differently: no eigenvalue is there twice.
    fn gradients(&self, step: u64) -> Gradients {
        let (rng, mut grads) = (&mut Rng::new(100 + step), Gradients::default());
        for (_, parameter) in self.parameters() {
            let value = parameter.value();
            let grad = Tensor::normal(*value.shape(), 0.0, 1.0, value.dtype(), rng);
            grads.set(parameter, grad.to_device(value.device()).unwrap());
        }
        grads
    }
}

/// The rules that are operations on tensors there, or one formula.
const THERE: [&str; 11] = [
    "nadam",
    "adafactor",
    "lamb",
    "lars",
    "schedule-free",
    "muon",
    "soap",
    "eshampoo",
    "splus",
    "sophia",
    "shampoo",
];

/// With an ε that rounding does not reach: second moments that few gradients have filled are divided by its root.
fn shampoo() -> ShampooConfig {
    let statistics = Statistics::Ema { beta2: 0.99, bias_correction: true, epsilon: 1e-3 };
    ShampooConfig { statistics, ..ShampooConfig::default() }
}

/// An optimizer by name, at its defaults but for what two devices cannot agree about.
fn build(name: &str) -> Box<dyn Optimizer> {
    match name {
        // The kernel is a matrix of 2 × 12 to it, and the longer side's eigenvectors may be any.
        "splus" => Box::new(
            SPlus::new(SPlusConfig {
                sides: LongSides::diagonal_beyond(4),
                ..SPlusConfig::default()
            })
            .unwrap(),
        ),
        "shampoo" => Box::new(Shampoo::new(shampoo()).unwrap()),
        name => optim::build(name, None).unwrap(),
    }
}

fn after(optimizer: &mut dyn Optimizer, dtype: DType, device: Device, steps: u64) -> Vec<f64> {
    let mut model = Shapes::new(dtype, device);
    for step in 0..steps {
        let grads = model.gradients(step);
        optimizer.set_rate(0.01 / (step + 1) as f64);
        optimizer.step(&mut model, &grads).unwrap();
    }
    assert!(model.parameters().iter().all(|(_, p)| p.value().device() == device));
    values(&model)
}

#[test]
fn rules_of_tensors_have_the_cpus_steps_for_every_shape_and_read_nothing_back() {
    let Some((gpu, _guard)) = emulated() else { return };
    for (dtype, close) in [(DType::F64, 1e-10), (DType::F32, 2e-4)] {
        for name in THERE {
            let run = |device| after(&mut *build(name), dtype, device, 7);
            let (here, reads) = (run(Device::Cpu), gpu.reads());
            let there = run(GPU);
            // The test's own: four parameters. Eigenvectors are found in main memory, at some steps.
            let renews = matches!(name, "soap" | "eshampoo" | "splus" | "shampoo");
            assert!(renews || gpu.reads() == reads + 4, "{name}: {} reads", gpu.reads() - reads);
            for (i, (a, b)) in here.iter().zip(&there).enumerate() {
                assert!(
                    (a - b).abs() <= close * a.abs().max(1.0),
                    "{name}, number {i}: {a} and {b}"
                );
            }
        }
    }
}

#[test]
fn what_rules_of_tensors_keep_goes_from_device_to_device() {
    let Some((_gpu, _guard)) = emulated() else { return };
    for name in THERE {
        let run = |devices: [Device; 4]| {
            let mut optimizer = build(name);
            let mut model = Shapes::new(DType::F64, Device::Cpu);
            for (step, device) in devices.into_iter().enumerate() {
                let state = optimizer.state(&model).unwrap();
                optimizer = build(name);
                optimizer.load_state(&model, &state).unwrap();
                model.to_device(device).unwrap();
                let grads = model.gradients(step as u64);
                optimizer.step(&mut model, &grads).unwrap();
            }
            let average = |(_, parameter): (String, &Parameter)| {
                let average = optimizer.average(parameter).unwrap();
                average.map(|average| average.to_f64_vec().unwrap()).unwrap_or_default()
            };
            let averages: Vec<f64> = model.parameters().into_iter().flat_map(average).collect();
            [values(&model), averages].concat()
        };
        let here = run([Device::Cpu; 4]);
        for devices in [[GPU; 4], [GPU, Device::Cpu, GPU, Device::Cpu]] {
            for (a, b) in here.iter().zip(&run(devices)) {
                assert!((a - b).abs() <= 1e-10 * a.abs().max(1.0), "{name}: {a} and {b}");
            }
        }
    }
}

#[test]
fn on_the_host_every_optimizer_that_steps_from_gradients_has_the_cpus_bits() {
    let Some((gpu, _guard)) = emulated() else { return };
    // What divides by an estimate needs one.
    let fits = |name: &&str| *name != "adahessian" && !build(name).needs_problem();
    for name in optim::known().into_iter().filter(fits) {
        let mut there = OnHost::new(build(name));
        let reads = gpu.reads();
        let moved = after(&mut there, DType::F64, GPU, 4);
        // Each step's gradients and parameters, and the test's own.
        assert_eq!(gpu.reads() - reads, 4 * (4 + 4) + 4, "{name}");
        let here = after(&mut *build(name), DType::F64, Device::Cpu, 4);
        assert_eq!(here, moved, "{name}");
        let words = there.coverage(&Shapes::new(DType::F64, GPU)).to_string();
        assert_eq!(words.matches("on the host").count(), 4, "{name}: {words}");
    }
}

#[test]
fn on_the_host_layers_on_the_device_are_seen() {
    let Some((_gpu, _guard)) = emulated() else { return };
    for name in ["adafisher-band", "foof", "skfac", "eva", "mkor", "singd", "ikfac", "tnt", "kfac"]
    {
        let [mut here, mut moved] = [plain_network(), plain_network()];
        train(&mut moved, &mut OnHost::new(build(name)), GPU, 3).unwrap();
        train(&mut here, &mut *build(name), Device::Cpu, 3).unwrap();
        assert!(moved.parameters().iter().all(|(_, p)| p.value().device() == GPU), "{name}");
        for (a, b) in values(&here).iter().zip(&values(&moved)) {
            assert!((a - b).abs() <= 1e-9, "{name}: {a} and {b}");
        }
    }
}

#[test]
fn shampoo_cut_merged_summed_and_grafted_has_the_cpus_steps() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let base = ShampooConfig { root_every: 2, ..shampoo() };
    let statistics = Statistics::Sum { epsilon: 1e-3 };
    let paper = ShampooConfig { weight_decay: 0.1, statistics, ..ShampooConfig::paper() };
    let cases = [
        ("cut", ShampooConfig { sides: LongSides::blocks(2), ..base.clone() }),
        ("merged", ShampooConfig { sides: LongSides::blocks(6), merge: true, ..base.clone() }),
        ("grafted on SGD", ShampooConfig { graft: Graft::Sgd, ..base }),
        ("the paper's", paper),
    ];
    for (name, config) in cases {
        let run = |device| after(&mut Shampoo::new(config.clone()).unwrap(), DType::F64, device, 5);
        for (a, b) in run(Device::Cpu).iter().zip(&run(GPU)) {
            assert!((a - b).abs() <= 1e-9 * a.abs().max(1.0), "{name}: {a} and {b}");
        }
    }
}
