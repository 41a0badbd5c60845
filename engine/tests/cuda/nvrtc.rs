//! NVIDIA's own compiler over every kernel text that the ops use. It needs no GPU and no driver:
//! `pip install nvidia-cuda-nvrtc` and the package's folder in `ALCYON_CUDA_LIBRARIES`.
//!
//! Which texts there are is found by running all ops on the emulated device. The emulator stands where
//! the compiler would, so the compiler runs in a process of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use alcyon_engine::ops::OPS;
use alcyon_engine::{DType, Device, Tape, Tensor, Var, Window};
use kernels::conv::Conv2d;
use kernels::cuda::compile::{compile, is_available, version};
use kernels::cuda::conv::{direct, unfolded};
use kernels::cuda::verdict::{self, Verdict};
use kernels::cuda::{
    Gpu, Scalar, Slice, SliceMut, cast, cholesky, inner, patches, rule, running, second_moment,
    step,
};

use kernels::step::{AdaFisher, Adam, Sgd};

use crate::{emulated, loudly};

/// The folder of texts, for the process with the compiler.
const TEXTS: &str = "ALCYON_KERNEL_TEXTS";

/// Ampere and Hopper.
const ARCHITECTURES: [(i32, i32); 2] = [(8, 0), (9, 0)];

#[test]
fn the_device_compiler_takes_every_text_without_spills_and_finds_every_kernel() {
    let Some((gpu, _guard)) = emulated() else { return };
    [DType::F16, DType::BF16].into_iter().for_each(run_all_ops);
    for scalar in [Scalar::F16, Scalar::BF16, Scalar::F32, Scalar::F64] {
        run_all_convolutions(&gpu, scalar);
    }
    for dtype in [DType::F32, DType::F64] {
        run_all_ops(dtype);
        run_all_steps(&gpu, dtype);
        run_all_squares(&gpu, dtype);
        run_all_sums(&gpu, dtype);
    }
    run_all_casts(&gpu);
    let mut programs: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for (program, kernel) in gpu.programs() {
        programs.entry((program.name(), program.source())).or_default().push(kernel);
    }
    assert!(programs.len() > 2 * 30, "only {} programs have been seen", programs.len());
    let folder = tempfile::tempdir().unwrap();
    for (i, ((name, source), kernels)) in programs.iter().enumerate() {
        let text = format!("{name}\n{}\n{source}", kernels.join(" "));
        fs::write(folder.path().join(format!("{i:03}.txt")), text).unwrap();
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "nvrtc::compiles_the_texts_in_a_folder", "--ignored", "--nocapture"])
        .env(TEXTS, folder.path())
        .output()
        .unwrap();
    let (out, log) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}{log}");
    // What it says about itself: how many programs, or why none.
    log.lines().filter_map(|line| line.strip_prefix("*** ")?.strip_suffix(" ***")).for_each(loudly);
}

/// Forward and both sweeps of every sample, for the kernels that they use.
fn run_all_ops(dtype: DType) {
    let place = |t: &Tensor| {
        let t = if t.dtype().is_float() { t.to_dtype(dtype).unwrap() } else { t.clone() };
        t.to_device(Device::Cuda(0)).unwrap()
    };
    for sample in OPS.iter().flat_map(|spec| (spec.samples)()) {
        let tape = Tape::training(0);
        let x: Vec<Var> = sample.inputs.iter().map(|t| tape.watch(place(t))).collect();
        let Ok(loss) = (sample.call)(&x).and_then(|y| y.mul(&y)?.sum_all()) else { continue };
        let Ok(first) = tape.backward_recorded(&loss) else { continue };
        let slopes = x.iter().filter_map(|x| first.of_var(x)).map(|g| g.mul(g)?.sum_all());
        for slope in slopes.flatten().filter(|slope| slope.is_recorded() && sample.twice) {
            let _ = tape.backward(&slope); // Only what it launches matters here.
        }
    }
}

/// One number of each type to each type.
fn run_all_casts(gpu: &Gpu) {
    let all = [Scalar::F16, Scalar::BF16, Scalar::F32, Scalar::F64, Scalar::I64];
    for (from, to) in all.into_iter().flat_map(|from| all.map(|to| (from, to))) {
        let (x, mut y) = (gpu.write(&[0.0_f64]).unwrap(), gpu.write(&[0.0_f64]).unwrap());
        cast::cast(gpu, Slice::new(&x, from, 0, 1), &SliceMut::new(&mut y, to, 1)).unwrap();
    }
}

/// Convolutions of one number by the rungs that are kernels, whatever else there is.
fn run_all_convolutions(gpu: &Gpu, scalar: Scalar) {
    let [a, b] = [(); 2].map(|()| gpu.write(&[0.0_f64; 9]).unwrap());
    let mut out = gpu.write(&[0.0_f64]).unwrap();
    let conv = Conv2d::new(1, 1, 1, 1, (1, 1), Window { padding: (1, 1), ..Window::new((3, 3)) });
    let conv = conv.unwrap();
    let (a, b) = (Slice::new(&a, scalar, 0, 1), Slice::new(&b, scalar, 0, 9));
    let y = SliceMut::new(&mut out, scalar, 1);
    direct::forward(gpu, &conv, a, b, None, &y).unwrap();
    direct::backward_input(gpu, &conv, a, b, None, &y).unwrap();
    unfolded::forward(gpu, &conv, 0, a, b, None, &y).unwrap();
    unfolded::backward_input(gpu, &conv, 0, a, b, None, &y).unwrap();
    let mut out = gpu.write(&[0.0_f64; 9]).unwrap();
    direct::backward_weight(gpu, &conv, a, a, &SliceMut::new(&mut out, scalar, 9)).unwrap();
}

/// The sums of squares of one number.
fn run_all_squares(gpu: &Gpu, dtype: DType) {
    let scalar = if dtype == DType::F32 { Scalar::F32 } else { Scalar::F64 };
    let (x, mut y) = (gpu.write(&[1.0_f64]).unwrap(), gpu.write(&[1.0_f64]).unwrap());
    let (x, y) = (Slice::new(&x, scalar, 0, 1), SliceMut::new(&mut y, scalar, 1));
    let conv = Conv2d::new(1, 1, 1, 1, (1, 1), Window::new((1, 1))).unwrap();
    second_moment::column_squares(gpu, x, &y).unwrap();
    second_moment::channel_squares(gpu, (1, 1, 1), x, &y).unwrap();
    second_moment::patch_squares(gpu, &conv, x, &y).unwrap();
}

/// Rows, averages and inner products of one number, as factors and directions need them.
fn run_all_sums(gpu: &Gpu, dtype: DType) {
    let scalar = if dtype == DType::F32 { Scalar::F32 } else { Scalar::F64 };
    let (x, mut y) = (gpu.write(&[1.0_f64]).unwrap(), gpu.write(&[1.0_f64]).unwrap());
    let mut flag = gpu.write(&[0_i64]).unwrap();
    let (x, y) = (Slice::new(&x, scalar, 0, 1), SliceMut::new(&mut y, scalar, 1));
    let conv = Conv2d::new(1, 1, 1, 1, (1, 1), Window::new((1, 1))).unwrap();
    patches::patches(gpu, &conv, x, &y).unwrap();
    let flag = SliceMut::new(&mut flag, Scalar::I64, 1);
    running::look(gpu, x, &flag).unwrap();
    running::average(gpu, x, flag.read(), (1.0, 1.0), &y).unwrap();
    let mut sum = gpu.write(&[0.0_f64]).unwrap();
    inner::inner(gpu, &[(x, x)], &SliceMut::new(&mut sum, Scalar::F64, 1)).unwrap();
    cholesky::inverse_factor(gpu, 1, &y).unwrap();
}

/// One update of one number by every rule.
fn run_all_steps(gpu: &Gpu, dtype: DType) {
    let scalar = if dtype == DType::F32 { Scalar::F32 } else { Scalar::F64 };
    let mut buffers = [(); 4].map(|()| gpu.write(&[1.0_f64]).unwrap());
    let grad = gpu.write(&[1.0_f64]).unwrap();
    let [theta, m, v, w] = buffers.each_mut().map(|buffer| SliceMut::new(buffer, scalar, 1));
    let moving = |state| {
        [step::Moving {
            theta: &theta,
            grad: Slice::new(&grad, scalar, 0, 1),
            state,
            step: 1,
            verdict: None,
        }]
    };
    let sgd = Sgd {
        rate: 0.1,
        momentum: 0.0,
        dampening: 0.0,
        nesterov: false,
        weight_decay: 0.0,
        first: true,
    };
    step::sgd(gpu, &moving(vec![]), &sgd).unwrap();
    let adam = Adam {
        rate: 0.1,
        beta1: 0.9,
        beta2: 0.9,
        epsilon: 1e-8,
        weight_decay: 0.0,
        decoupled: false,
        step: 1,
    };
    step::adam(gpu, &moving(vec![&m, &v]), &adam).unwrap();
    let adafisher = AdaFisher {
        rate: 0.1,
        beta: 0.9,
        damping: 1e-3,
        coupled_decay: 0.0,
        decoupled_decay: 0.0,
        step: 1,
        root: false,
    };
    step::adafisher(gpu, &moving(vec![&m]), &[step::Curvature::Constant(1.0)], &adafisher).unwrap();
    for each in &rule::ALL {
        let state = vec![&m, &v, &w][..each.kept].to_vec();
        rule::step(gpu, &moving(state), each, [0.5; 6], |_| (0.1, 1.0)).unwrap();
    }
    let scale = Slice::new(&grad, scalar, 0, 1);
    let verdict = Verdict::of(gpu, &[scale], 1.0).unwrap();
    verdict::settle(gpu, &verdict, "adam", scale, &w).unwrap();
    rule::step_scaled(gpu, &moving(vec![&m]), &rule::DESCENT, [0.5; 3], scale).unwrap();
}

#[test]
#[ignore = "run by the test above, in a process without the emulator"]
fn compiles_the_texts_in_a_folder() {
    let folder = env::var_os(TEXTS).expect("a folder of texts");
    if !is_available() {
        loudly(
            "SKIPPED: no NVRTC here: pip install nvidia-cuda-nvrtc, and name its folder in ALCYON_CUDA_LIBRARIES",
        );
        return;
    }
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        check(&entry.unwrap().path());
        count += 1;
    }
    let version = version().unwrap();
    loudly(&format!("NVRTC {version:?} took {count} programs for {ARCHITECTURES:?}"));
}

fn check(file: &Path) {
    let text = fs::read_to_string(file).unwrap();
    let mut parts = text.splitn(3, '\n');
    let (name, kernels, source) =
        (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    for architecture in ARCHITECTURES {
        let compiled = compile(name, source, architecture, true).unwrap_or_else(|e| panic!("{e}"));
        for kernel in kernels.split(' ') {
            let entry = format!("Compiling entry function '{kernel}'");
            assert!(compiled.log.contains(&entry), "{name}: {kernel}\n{}", compiled.log);
        }
        let spills = compiled.log.lines().filter(|line| line.contains("bytes spill"));
        for line in spills {
            assert!(line.contains(" 0 bytes spill stores, 0 bytes spill loads"), "{name}: {line}");
        }
        assert!(compiled.code.starts_with(b"\x7fELF"), "{name}: no cubin");
    }
}
