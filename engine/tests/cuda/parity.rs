//! The numbers of both devices: outputs, gradients, and products with second derivatives.

use std::process::Command;

use alcyon_engine::ops::OPS;
use alcyon_engine::{DType, Device, Error, Result, Rng, Sample, Tape, Tensor, Var, Window};

use crate::emulated;

/// How far two devices may be apart, relative to the larger of 1 and the number: they add in other
/// orders and their exponentials differ in the last bits. In 16 bits, numbers that differ so little are
/// rounded alike or to neighbours: one unit in the last place for each record and its rule.
fn tolerance(dtype: DType, records: usize) -> f64 {
    let units = 2.0 * records as f64;
    match dtype {
        DType::F16 => units * 2_f64.powi(-10),
        DType::BF16 => units * 2_f64.powi(-7),
        DType::F32 => 2e-5,
        _ => 1e-12,
    }
}

/// What a sample gives on a device: outputs; gradients of ⟨c, y⟩ for a fixed random c; and, where it
/// has them, the products of its second derivatives with fixed random directions. And how many records
/// there are but for inputs.
fn results(sample: &Sample, dtype: DType, device: Device) -> Result<(Vec<Vec<f64>>, usize)> {
    let cast = |t: &Tensor| if t.dtype().is_float() { t.to_dtype(dtype) } else { Ok(t.clone()) };
    let place = |t: Tensor| t.to_device(device);
    let mut rng = Rng::new(7);
    let mut like = |v: &Var| {
        let random = Tensor::uniform(v.shape(), -1.0, 1.0, DType::F64, &mut rng);
        place(random.to_dtype(v.dtype())?).map(|t| Var::constant(&t))
    };
    let tape = Tape::training(0);
    let x: Vec<Var> =
        sample.inputs.iter().map(|t| Ok(tape.watch(place(cast(t)?)?))).collect::<Result<_>>()?;
    let inputs = tape.len();
    let y = (sample.call)(&x)?;
    let records = tape.len() - inputs;
    assert_eq!(y.device(), device);
    let loss = y.mul(&like(&y)?)?.sum_all()?;
    let gradients = tape.backward(&loss)?;
    let mut all = vec![y.to_f64_vec()?];
    for g in x.iter().filter_map(|x| gradients.of_var(x)) {
        assert_eq!(g.device(), device);
        all.push(g.to_f64_vec()?);
    }
    if sample.twice {
        let first = tape.backward_recorded(&loss)?;
        let mut slope = tape.input(Tensor::full_on(device, (), 0.0, dtype)?);
        for g in x.iter().filter_map(|x| first.of_var(x)) {
            slope = slope.add(&g.mul(&like(g)?)?.sum_all()?)?;
        }
        if slope.is_recorded() {
            let second = tape.backward(&slope)?;
            for g in x.iter().filter_map(|x| second.of_var(x)) {
                all.push(g.to_f64_vec()?);
            }
        }
    }
    Ok((all, records))
}

fn compare(dtype: DType, is_meant: impl Fn(&str) -> bool) {
    let Some((_gpu, _guard)) = emulated() else { return };
    let mut missing = Vec::new();
    for spec in OPS.iter().filter(|spec| is_meant(spec.name)) {
        for (i, sample) in (spec.samples)().iter().enumerate() {
            let (here, records) = results(sample, dtype, Device::Cpu).unwrap();
            let (there, _) = match results(sample, dtype, Device::Cuda(0)) {
                Err(Error::NoKernel { op, .. }) => {
                    missing.push(op);
                    continue;
                }
                other => other.unwrap_or_else(|e| panic!("{} sample {i}: {e}", spec.name)),
            };
            assert_eq!(here.len(), there.len(), "{} sample {i}", spec.name);
            for (part, (here, there)) in here.iter().zip(&there).enumerate() {
                assert_eq!(here.len(), there.len(), "{} sample {i} part {part}", spec.name);
                let tolerance = tolerance(dtype, records);
                for (k, (a, b)) in here.iter().zip(there).enumerate() {
                    let near = (a - b).abs() <= tolerance * a.abs().max(1.0);
                    assert!(
                        near || a == b || a.is_nan() && b.is_nan(),
                        "{} {dtype} sample {i} part {part} entry {k}: cpu {a}, emulated {b}",
                        spec.name
                    );
                }
            }
        }
    }
    assert!(missing.is_empty(), "without a CUDA part: {missing:?}");
}

#[test]
fn every_sample_of_every_op_gives_the_numbers_of_the_cpu_in_f64() {
    compare(DType::F64, |_| true);
}

#[test]
fn every_sample_of_every_op_gives_the_numbers_of_the_cpu_in_f32() {
    compare(DType::F32, |_| true);
}

#[test]
fn every_sample_of_every_op_gives_the_numbers_of_the_cpu_in_f16() {
    compare(DType::F16, |_| true);
}

#[test]
fn every_sample_of_every_op_gives_the_numbers_of_the_cpu_in_bf16() {
    compare(DType::BF16, |_| true);
}

#[test]
fn it_does_so_in_whatever_order_the_threads_of_a_block_run() {
    if alcyon_emulator::folder().is_err() {
        return; // The others have said so.
    }
    for order in ["reverse", "shuffled"] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["every_sample_of_every_op", "--test-threads=1"])
            .env("ALCYON_EMULATOR_ORDER", order)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("4 passed"), "{order}:\n{text}");
    }
}

#[test]
fn convolutions_do_so_without_cudnn() {
    let Some((gpu, guard)) = emulated() else { return };
    if gpu.info().name != "emulated" {
        return;
    }
    assert!(gpu.cudnn().is_ok(), "the others have it");
    drop(guard);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "parity::all_convolutions", "--ignored"])
        .env("ALCYON_EMULATOR_CUDNN", "-91000")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "a process of the test above"]
fn all_convolutions() {
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        compare(dtype, |op| op.starts_with("conv"));
    }
    let Some((gpu, _guard)) = emulated() else { return };
    assert!(gpu.cudnn().is_err());
}

/// The largest or the average of each window, and the gradient of their squares.
fn pooled(image: &Tensor, window: Window, all_taps: Option<bool>) -> Result<Vec<f64>> {
    let tape = Tape::new();
    let x = tape.watch(image.clone());
    let y = match all_taps {
        None => x.max_pool2d(window)?,
        Some(all) => x.avg_pool2d(window, all)?,
    };
    let slopes = tape.backward(&y.mul(&y)?.sum_all()?)?;
    let slope = slopes.of_var(&x).unwrap().to_f64_vec()?;
    Ok([y.to_f64_vec()?, slope].concat())
}

#[test]
fn a_window_of_many_more_taps_than_an_image_has_pixels_is_pooled_as_on_the_cpu() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let image = Tensor::from_fn([2, 5, 6], DType::F64, |i| (i * 7 % 60) as f64 / 8.0 - 3.0);
    let there = image.to_device(Device::Cuda(0)).unwrap();
    for (width, stride, dilation) in
        [(4, 1, 1), (5, 2, 1), (3, 1, 2), (2, 3, 4), (1 << 40, 1, 1), (1 << 40, 3, 1)]
    {
        let window = Window {
            kernel: (3, width),
            stride: (1, stride),
            padding: (1, width / 2),
            dilation: (1, dilation),
        };
        for all_taps in [None, Some(true), Some(false)] {
            let here = pooled(&image, window, all_taps).unwrap();
            let there = pooled(&there, window, all_taps).unwrap();
            assert_eq!(here.len(), there.len());
            for (here, there) in here.iter().zip(&there) {
                assert!((here - there).abs() <= 1e-12 * here.abs(), "{window:?}: {here}, {there}");
            }
        }
    }
}
