//! Training on a CUDA device against the CPU. The device is the emulated one (`kernels/emulator`), which
//! says nothing about a GPU.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

mod curvature;
mod gradients;
mod graphs;
#[allow(dead_code, reason = "the battery asks with all of it")]
#[path = "../battery/hostile.rs"]
mod hostile;
#[allow(dead_code, reason = "the battery has more models than are needed here")]
#[path = "../battery/models.rs"]
mod models;
mod options;
mod verdicts;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alcyon::kernels::cuda::cache::Cache;
use alcyon::kernels::cuda::{CudaError, Gpu, library};
use alcyon::nn::{data, layer};
use alcyon::optim::curvature::{ConvGroups, NormFactor};
use alcyon::optim::{self, Batch, Damping, Fallback, Psgd, PsgdConfig};
use alcyon::prelude::*;
use alcyon::train::{
    Budget, Event, Every, Plan, Precision, Shuffled, Snapshots, Supervised, Trainer,
};

const GPU: Device = Device::Cuda(0);

/// The emulated device, or `None`, loudly, where there is no C++ compiler. One test at a time has it.
fn emulated() -> Option<(Arc<Gpu>, MutexGuard<'static, ()>)> {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = match alcyon_emulator::folder() {
        Ok(folder) => folder,
        Err(reason) => {
            let _ = writeln!(std::io::stderr(), "\n*** SKIPPED: no CUDA emulator: {reason} ***");
            return None;
        }
    };
    library::search_in(folder);
    let gpu = Gpu::open_with(0, Cache::new(None)).unwrap();
    assert_eq!(gpu.info().name, "emulated", "a real device must not take these tests' place");
    Some((gpu, guard))
}

/// A convolution, batch norm, a linear layer: all forms of factors but a table's.
fn network() -> layer::Sequential {
    let rng = &mut Rng::new(3);
    let window = Window { padding: (1, 1), stride: (2, 2), ..Window::new((3, 3)) };
    layer::Sequential::new()
        .then(layer::Conv2d::new(1, 4, window, rng))
        .then(layer::BatchNorm2d::new(4))
        .then(layer::Relu)
        .then(layer::Flatten)
        .then(layer::Linear::new(64, 10, rng))
}

/// Every parameter.
fn values(model: &dyn Parameters) -> Vec<f64> {
    model.parameters().into_iter().flat_map(|(_, p)| p.value().to_f64_vec().unwrap()).collect()
}

/// Every parameter and buffer.
fn numbers(model: &dyn Parameters) -> Vec<f64> {
    let buffers = model.buffers().into_iter().flat_map(|(_, b)| b.value().to_f64_vec().unwrap());
    values(model).into_iter().chain(buffers).collect()
}

/// Takes some steps on a device.
fn train(
    model: &mut layer::Sequential,
    optimizer: &mut dyn Optimizer,
    device: Device,
    steps: usize,
) -> Result<()> {
    let (train, _) = data::digits()?;
    model.to_device(device)?;
    for step in 0..steps {
        let batch = train.range(8 * step, 8)?;
        let dtype = model.parameters()[0].1.value().dtype();
        let inputs = batch.inputs.to_dtype(dtype)?.to_device(device)?;
        let labels = batch.labels.to_device(device)?;
        let loss = CrossEntropy::new(&labels);
        let forward =
            |model: &layer::Sequential, tape: &Tape| model.forward(&tape.input(inputs.clone()));
        optimizer.minimize(&mut Batch::new(model, forward, &loss).training(step as u64))?;
    }
    Ok(())
}

/// The same, on a network of its own.
fn trained(optimizer: &mut dyn Optimizer, device: Device, steps: usize) -> Vec<f64> {
    let mut model = network();
    train(&mut model, optimizer, device, steps).unwrap();
    numbers(&model)
}

fn assert_alike(name: &str, make: impl Fn() -> Box<dyn Optimizer>) {
    let [here, there] = [Device::Cpu, GPU].map(|device| trained(&mut *make(), device, 4));
    let start = trained(&mut *make(), Device::Cpu, 0);
    assert!(here.iter().zip(&start).any(|(a, b)| (a - b).abs() > 1e-3), "{name} did not move");
    for (i, (a, b)) in here.iter().zip(&there).enumerate() {
        assert!((a - b).abs() <= 2e-4 * a.abs().max(1.0), "{name}, number {i}: {a} and {b}");
    }
}

#[test]
fn sgd_and_adam_train_as_on_the_cpu() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let momentum = SgdConfig { rate: 0.1, momentum: 0.9, nesterov: true, ..SgdConfig::default() };
    assert_alike("sgd", || Box::new(Sgd::new(momentum).unwrap()));
    let adam = AdamConfig { rate: 0.01, epsilon: 1e-3, amsgrad: true, ..AdamConfig::adamw() };
    assert_alike("adamw", || Box::new(Adam::new(adam).unwrap()));
}

#[test]
fn adafisher_trains_as_on_the_cpu_with_every_preset() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let relative = Damping::LayerRelative(0.1);
    let presets = [
        ("thesis", AdaFisherConfig { rate: 1e-3, ..AdaFisherConfig::thesis() }),
        (
            "relative",
            AdaFisherConfig { damping: relative, rate: 1e-2, ..AdaFisherConfig::thesis() },
        ),
        ("official", AdaFisherConfig::official()),
        ("paper", AdaFisherConfig { norm_factor: NormFactor::Paper, ..AdaFisherConfig::thesis() }),
    ];
    for (name, config) in presets {
        assert_alike(name, || Box::new(AdaFisher::new(config).unwrap()));
    }
}

#[test]
fn adafisher_has_the_cpus_steps_for_factors_of_groups_and_where_adam_takes_over() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let adam = Fallback::Adam { ratio: 20.0, beta2: 0.99, epsilon: 1e-4 };
    let (conv_groups, rate) = (ConvGroups::PerGroup, 1e-3);
    let config = AdaFisherConfig { fallback: adam, conv_groups, rate, ..AdaFisherConfig::thesis() };
    let run = |device| {
        let rng = &mut Rng::new(5);
        let window = Window { padding: (1, 1), ..Window::new((3, 3)) };
        // Factors of each of two groups; and a transposed convolution, for which AdaFisher has no rule.
        let mut model = layer::Sequential::new()
            .then(layer::Conv2d::new(1, 4, window, rng))
            .then(layer::Conv2d::grouped(4, 6, Geometry { window, groups: 2 }, rng))
            .then(layer::ConvTranspose2d::new(6, 2, window, rng))
            .then(layer::Flatten)
            .then(layer::Linear::new(128, 10, rng));
        let mut optimizer = AdaFisher::new(config).unwrap();
        train(&mut model, &mut optimizer, device, 3).unwrap();
        (numbers(&model), optimizer.coverage(&model).to_string())
    };
    let ([here, there], words) = {
        let ((here, words), (there, same)) = (run(Device::Cpu), run(GPU));
        assert_eq!(words, same);
        ([here, there], words)
    };
    assert!(words.contains("per group") && words.contains("Adam (fallback)"), "{words}");
    for (i, (a, b)) in here.iter().zip(&there).enumerate() {
        assert!((a - b).abs() <= 2e-4 * a.abs().max(1.0), "number {i}: {a} and {b}");
    }
}

/// In f64, and with no gradient that is zero but for rounding: some rules make a whole step of its sign.
fn plain_network() -> layer::Sequential {
    let rng = &mut Rng::new(4);
    let window = Window { padding: (1, 1), stride: (2, 2), ..Window::new((3, 3)) };
    let mut model = layer::Sequential::new()
        .then(layer::Conv2d::new(1, 4, window, rng))
        .then(layer::Relu)
        .then(layer::Flatten)
        .then(layer::Linear::new(64, 10, rng));
    for (_, parameter) in model.parameters_mut() {
        *parameter.value_mut() = parameter.value().to_dtype(DType::F64).unwrap();
    }
    model
}

#[test]
fn every_optimizer_trains_as_on_the_cpu_or_refuses_by_name_before_anything_has_changed() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let mut there = Vec::new();
    for name in optim::known() {
        let [mut here, mut moved] = [plain_network(), plain_network()];
        let (start, mut optimizer) = (values(&here), optim::build(name, None).unwrap());
        match train(&mut moved, &mut *optimizer, GPU, 3) {
            Ok(()) => {
                train(&mut here, &mut *optim::build(name, None).unwrap(), Device::Cpu, 3).unwrap();
                let (here, moved) = (values(&here), values(&moved));
                assert_ne!(here, start, "{name} did not move");
                // Of a batch that sees few directions, the eigenvectors for the others may be any, and these take
                // whole steps along them: `cuda/gradients.rs` compares where all are seen.
                let any = matches!(name, "soap" | "eshampoo" | "splus" | "shampoo");
                for (a, b) in here.iter().zip(&moved) {
                    assert!((a - b).abs() <= if any { 0.1 } else { 1e-9 }, "{name}: {a} and {b}");
                }
                assert!(optimizer.runs_on(GPU), "{name}");
                there.push(name);
            }
            Err(Error::NoKernel { op, device: GPU }) => {
                assert_eq!(op, optimizer.name(), "{name}");
                assert_eq!(values(&moved), start, "{name}");
                assert!(!optimizer.runs_on(GPU), "{name}");
            }
            Err(other) => panic!("{name}: {other}"),
        }
    }
    let expected = [
        "sgd",
        "adagrad",
        "rmsprop",
        "adam",
        "adamw",
        "radam",
        "nadam",
        "adabelief",
        "adabound",
        "adafactor",
        "lamb",
        "lars",
        "lion",
        "schedule-free",
        "schedule-free-sgd",
        "adahessian",
        "sophia",
        "sophia-h",
        "adafisher",
        "adafisherw",
        "adafisher-paper",
        "adafisher-official",
        "adafisher-root",
        "adafisher-spring2024",
        "kfac",
        "muon",
        "soap",
        "eshampoo",
        "splus",
        "lbfgs",
        "sam",
        "asam",
        "shampoo",
    ];
    assert_eq!(there, expected);
}

#[test]
fn a_step_of_adam_reads_nothing_back_and_is_one_launch_after_two_for_its_verdict() {
    let Some((gpu, _guard)) = emulated() else { return };
    let mut weight = Parameter::new(Tensor::ones([3, 4], DType::F32).to_device(GPU).unwrap());
    let mut grads = Gradients::default();
    grads.set(&weight, Tensor::ones([3, 4], DType::F32).to_device(GPU).unwrap());
    let mut adam = Adam::new(AdamConfig::default()).unwrap();
    adam.step(&mut weight, &grads).unwrap(); // Brings the moments there.
    let (reads, launches) = (gpu.reads(), gpu.launches());
    adam.step(&mut weight, &grads).unwrap();
    assert_eq!((gpu.reads(), gpu.launches()), (reads, launches + 3));
}

#[test]
fn a_training_step_waits_for_the_loss_alone_and_a_look_at_factors_once_more() {
    let Some((gpu, _guard)) = emulated() else { return };
    let reads = |config: AdaFisherConfig| {
        let (mut model, mut adafisher) = (network(), AdaFisher::new(config).unwrap());
        train(&mut model, &mut adafisher, GPU, 2).unwrap();
        let reads = gpu.reads();
        train(&mut model, &mut adafisher, GPU, 3).unwrap();
        gpu.reads() - reads
    };
    // Batch norm's counter has been moved to the device, and is read to be counted on the host again.
    let thesis = AdaFisherConfig { rate: 1e-3, ..AdaFisherConfig::thesis() };
    assert_eq!(reads(AdaFisherConfig { every: 100, ..thesis }), 1 + 3);
    assert_eq!(reads(thesis), 1 + 3 * 2);
    // Its factors are scaled to the gradient: read, too, all at once.
    assert_eq!(reads(AdaFisherConfig::root()), 1 + 3 * 3);
}

#[test]
fn clipping_reads_one_number() {
    let Some((gpu, _guard)) = emulated() else { return };
    let mut norms = Vec::new();
    for scale in [1.0, 1e30] {
        let mut weight = Parameter::new(Tensor::ones([2], DType::F32).to_device(GPU).unwrap());
        let mut grads = Gradients::default();
        let grad = Tensor::from_slice(&[3.0_f32, 4.0], [2]).unwrap().scale(scale).unwrap();
        grads.set(&weight, grad.to_device(GPU).unwrap());
        let reads = gpu.reads();
        norms.push(grads.clip_norm(1.0).unwrap());
        assert_eq!(gpu.reads() - reads, if scale == 1.0 { 1 } else { 2 });
        Sgd::new(SgdConfig { rate: 1.0, ..SgdConfig::default() })
            .unwrap()
            .step(&mut weight, &grads)
            .unwrap();
        let left = weight.value().to_f64_vec().unwrap();
        assert!((left[0] - 0.4).abs() < 1e-6 && (left[1] - 0.2).abs() < 1e-6, "{left:?}");
    }
    assert_eq!(norms[0], 5.0);
    assert!((norms[1] / 5e30 - 1.0).abs() < 1e-6);
}

#[test]
fn what_has_no_kernel_is_refused_before_anything_has_changed() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let refused = |optimizer: &mut dyn Optimizer| {
        let mut weight = Parameter::new(Tensor::ones([2], DType::F32).to_device(GPU).unwrap());
        let mut grads = Gradients::default();
        grads.set(&weight, Tensor::ones([2], DType::F32).to_device(GPU).unwrap());
        let answer = optimizer.step(&mut weight, &grads);
        assert!(matches!(answer, Err(Error::NoKernel { device: GPU, .. })), "{answer:?}");
        assert_eq!(weight.value().to_vec::<f32>().unwrap(), [1.0; 2]);
    };
    refused(&mut Psgd::new(PsgdConfig::default()).unwrap());
    let mut weight = Parameter::new(Tensor::ones([2], DType::F32).to_device(GPU).unwrap());
    let mut grads = Gradients::default();
    grads.set(&weight, Tensor::ones([2], DType::F32));
    let answer = Sgd::new(SgdConfig::default()).unwrap().step(&mut weight, &grads);
    assert!(matches!(answer, Err(Error::Device { op: "sgd", .. })), "{answer:?}");
}

#[test]
fn when_memory_runs_out_in_a_step_nothing_has_moved_and_the_step_can_be_taken_later() {
    let Some((gpu, _guard)) = emulated() else { return };
    let of = |value| Tensor::full([1 << 20], value, DType::F32);
    let after = |device| {
        let mut weight = Parameter::new(of(1.0).to_device(device).unwrap());
        let mut grads = Gradients::default();
        grads.set(&weight, of(0.5).to_device(device).unwrap());
        let mut adam = Adam::new(AdamConfig { rate: 0.25, ..AdamConfig::default() }).unwrap();
        if device == GPU {
            gpu.memory().release().unwrap();
            let spare = gpu.info().memory - gpu.memory().statistics().live;
            // Less than two moments of 4 MiB are left.
            let ballast = gpu.memory().allocate(spare - (6 << 20)).unwrap();
            for _ in 0..2 {
                let answer = adam.step(&mut weight, &grads);
                assert!(
                    matches!(
                        &answer,
                        Err(Error::Cuda { source: CudaError::OutOfMemory { .. }, .. })
                    ),
                    "{answer:?}"
                );
                assert_eq!(weight.value().to_vec::<f32>().unwrap(), vec![1.0; 1 << 20]);
            }
            drop(ballast);
            gpu.memory().release().unwrap();
        }
        adam.step(&mut weight, &grads).unwrap();
        assert_eq!(adam.state(&weight).unwrap().numbers["/steps"], "1");
        weight.value().to_f64_vec().unwrap()
    };
    let (here, there) = (after(Device::Cpu), after(GPU));
    assert!(here.iter().zip(&there).all(|(a, b)| (a - b).abs() < 1e-6));
}

/// Names a folder to a process of this program: where it keeps its snapshots.
const RUN: &str = "ALCYON_TEST_RUN";

/// A process that trains in a folder, or goes on there; what it says.
fn train_in(folder: &Path, variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "trains_in_a_folder", "--ignored", "--nocapture"]);
    let output = command.env(RUN, folder).envs(variables.iter().copied()).output().unwrap();
    let text =
        [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned()).concat();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    text
}

/// What follows a word in what a process said.
fn said<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.split_once(word)).map(|(_, rest)| rest.trim())
}

#[test]
fn products_in_sixteen_bits_train_as_on_the_cpu() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let run = |precision: Precision, device: Device| {
        let (train, test) = data::digits().unwrap();
        let few = |data: &data::Dataset| data.range(0, 64).unwrap();
        let batches = Shuffled::new(Loader::new(&few(&train), 16).unwrap().on(device), 7);
        let held_out = Loader::new(&few(&test), 32).unwrap().on(device);
        let (mut model, task) = (network(), Supervised::classification());
        model.to_device(device).unwrap();
        let config = AdaFisherConfig { rate: 1e-3, ..AdaFisherConfig::thesis() };
        let mut optimizer = AdaFisher::new(config).unwrap();
        let plan = Plan { precision, budget: Budget::epochs(2), ..Plan::default() };
        let trainer = Trainer::new(&mut model, &mut optimizer, &task, plan).unwrap();
        trainer.run(&batches, &held_out).unwrap().last.unwrap().loss
    };
    let wide = run(Precision::F32, Device::Cpu);
    let [here, there] = [Device::Cpu, GPU].map(|device| run(Precision::BF16, device));
    // A unit in the last place of bf16 is 1/128: of a loss of about 2, after eight steps of it.
    assert!((here - there).abs() < 2.0 / 128.0, "cpu {here}, emulated {there}");
    assert!((here - wide).abs() < 8.0 * 2.0 / 128.0 && here != wide, "bf16 {here}, f32 {wide}");
}

#[test]
fn a_run_on_the_device_resumes_bit_for_bit_also_when_the_device_was_lost() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let whole = train_in(folders[0].path(), &[]);
    let launches: usize = said(&whole, "launches").unwrap().parse().unwrap();
    let most = (launches * 2 / 3).to_string();
    let lost = train_in(folders[1].path(), &[("ALCYON_EMULATOR_LAUNCHES", &most)]);
    assert_eq!(said(&lost, "trained "), None, "{lost}");
    assert!(
        said(&lost, "lost").is_some_and(|reason| reason.contains("the device is lost")),
        "{lost}"
    );
    let resumed = train_in(folders[1].path(), &[]);
    assert!(said(&resumed, "resumed after").is_some_and(|step| step != "0"), "{resumed}");
    assert_eq!(said(&resumed, "trained "), said(&whole, "trained "), "{resumed}");
    assert!(said(&whole, "trained ").is_some());
}

#[test]
#[ignore = "a process of the test above"]
fn trains_in_a_folder() {
    let folder = PathBuf::from(std::env::var_os(RUN).unwrap());
    library::search_in(alcyon_emulator::folder().unwrap());
    let gpu = Gpu::open_with(0, Cache::new(None)).unwrap();
    let (train, test) = data::digits().unwrap();
    let few = |data: &data::Dataset| data.range(0, 64).unwrap();
    let batches = Shuffled::new(Loader::new(&few(&train), 16).unwrap().prefetch(1).on(GPU), 7);
    let held_out = Loader::new(&few(&test), 32).unwrap().on(GPU);
    let mut model = network();
    model.to_device(GPU).unwrap();
    let config = AdaFisherConfig { rate: 1e-3, ..AdaFisherConfig::thesis() };
    let mut optimizer = AdaFisher::new(config).unwrap();
    let plan = Plan {
        budget: Budget::epochs(3),
        average: Some(0.5),
        evaluate: Every::Epochs(1),
        ..Plan::default()
    };
    let snapshots = Snapshots { steps: Some(2), seconds: None, ..Snapshots::new(&folder) };
    let mut tell = |event: &Event<'_>| {
        if let Event::Started { place, .. } = event {
            println!("resumed after {}", place.step);
        }
        Ok(())
    };
    let outcome = Trainer::new(&mut model, &mut optimizer, &Supervised::classification(), plan)
        .unwrap()
        .snapshots(snapshots)
        .observe(&mut tell)
        .run(&batches, &held_out);
    match outcome {
        Ok(outcome) => {
            let bits = numbers(&model).into_iter().map(f64::to_bits);
            let sum = bits.fold(0_u64, |sum, bits| sum.rotate_left(5) ^ bits);
            let last = outcome.last.unwrap();
            println!("launches {}", gpu.launches());
            println!("trained {} {sum:016x} {} {}", outcome.place.step, last.loss, last.score);
            assert!(model.parameters().iter().all(|(_, p)| p.value().device() == GPU));
        }
        Err(error) => {
            println!("lost {error}");
            let lost = |error: Error| {
                let Error::Cuda { source: CudaError::Lost { .. }, .. } = error else {
                    panic!("{error}")
                };
            };
            lost(error);
            lost(model.parameters()[0].1.value().to_f64_vec().unwrap_err());
            lost(Tensor::zeros([1 << 20], DType::F32).to_device(GPU).unwrap_err());
        }
    }
}
