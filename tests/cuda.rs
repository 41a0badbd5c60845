//! Training on a CUDA device against the CPU. The device is the emulated one (`kernels/emulator`), which
//! says nothing about a GPU.
#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alcyon::kernels::cuda::cache::Cache;
use alcyon::kernels::cuda::{Gpu, library};
use alcyon::nn::{data, layer};
use alcyon::optim::adafisher::{Damping, Fallback, NormFactor};
use alcyon::optim::{Lion, LionConfig, backward};
use alcyon::prelude::*;

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

/// Every parameter and buffer after some steps on a device.
fn trained(optimizer: &mut dyn Optimizer, device: Device, steps: usize) -> Vec<f64> {
    let (train, _) = data::digits().unwrap();
    let mut model = network();
    model.to_device(device).unwrap();
    for step in 0..steps {
        let batch = train.range(8 * step, 8).unwrap();
        let there = |t: &Tensor| t.to_device(device).unwrap();
        let tape = Tape::training(step as u64);
        let outputs = model.forward(&tape.input(there(&batch.inputs))).unwrap();
        let loss = CrossEntropy::new(&there(&batch.labels));
        let pass = backward(&tape, &outputs, &loss, optimizer).unwrap();
        model.commit(tape.staged()).unwrap();
        optimizer.step(&mut model, &pass.gradients).unwrap();
    }
    let parameters = model.parameters().into_iter().map(|(_, p)| p.value().to_f64_vec().unwrap());
    let buffers = model.buffers().into_iter().map(|(_, b)| b.value().to_f64_vec().unwrap());
    parameters.chain(buffers).flatten().collect()
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
fn a_step_of_adam_reads_nothing_back_and_is_one_launch() {
    let Some((gpu, _guard)) = emulated() else { return };
    let mut weight = Parameter::new(Tensor::ones([3, 4], DType::F32).to_device(GPU).unwrap());
    let mut grads = Gradients::default();
    grads.set(&weight, Tensor::ones([3, 4], DType::F32).to_device(GPU).unwrap());
    let mut adam = Adam::new(AdamConfig::default()).unwrap();
    adam.step(&mut weight, &grads).unwrap(); // Brings the moments there.
    let (reads, launches) = (gpu.reads(), gpu.launches());
    adam.step(&mut weight, &grads).unwrap();
    assert_eq!((gpu.reads(), gpu.launches()), (reads, launches + 1));
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
    refused(&mut Lion::new(LionConfig::default()).unwrap());
    let adam = Fallback::Adam { ratio: 1.0, beta2: 0.999, epsilon: 1e-8 };
    let config = AdaFisherConfig { fallback: adam, ..AdaFisherConfig::thesis() };
    refused(&mut AdaFisher::new(config).unwrap());
    let mut weight = Parameter::new(Tensor::ones([2], DType::F32).to_device(GPU).unwrap());
    let mut grads = Gradients::default();
    grads.set(&weight, Tensor::ones([2], DType::F32));
    let answer = Sgd::new(SgdConfig::default()).unwrap().step(&mut weight, &grads);
    assert!(matches!(answer, Err(Error::Device { op: "sgd", .. })), "{answer:?}");
}
