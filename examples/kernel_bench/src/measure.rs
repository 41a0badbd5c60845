//! Time: the median over samples of as many runs as fill a millisecond or two, after one to warm up.
//! On the CPU by the clock on the wall, on a GPU by events in the stream.

use std::sync::Arc;
use std::time::Instant;

use alcyon::kernels::cuda::Gpu;
use alcyon::prelude::*;

use crate::case::{At, Case, Rung};
use crate::ceilings::Ceilings;
use crate::cli::Precision;
use crate::outcome::Outcome;
use crate::registry::Kernel;

/// How long to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Samples, an odd number.
    pub(crate) samples: usize,
    /// Seconds that a sample is to take, at least.
    pub(crate) seconds: f64,
    /// Edge of the square product, and numbers of the copy, from which ceilings are taken.
    pub(crate) square: usize,
    pub(crate) copied: usize,
}

impl Effort {
    pub(crate) const USUAL: Self =
        Self { samples: 9, seconds: 5e-3, square: 1024, copied: 1 << 25 };
    pub(crate) const QUICK: Self = Self { samples: 3, seconds: 2e-4, square: 256, copied: 1 << 22 };
}

/// What kernels run on.
#[derive(Debug, Clone)]
pub(crate) enum Machine {
    Cpu,
    Gpu(Arc<Gpu>),
}

impl Machine {
    /// # Errors
    /// [`Error::NoDevice`] with the reason; [`Error::Argument`] for a device without numbers.
    pub(crate) fn open(device: Device) -> Result<Self> {
        match device {
            Device::Cpu => Ok(Self::Cpu),
            Device::Cuda(_) => {
                device.open()?;
                let one = Tensor::zeros([1], DType::F32).to_device(device)?;
                one.gpu().map(|gpu| Self::Gpu(Arc::clone(gpu))).ok_or(no_kernels(device))
            }
            other => Err(no_kernels(other)),
        }
    }

    pub(crate) fn gpu(&self) -> Option<&Arc<Gpu>> {
        match self {
            Self::Cpu => None,
            Self::Gpu(gpu) => Some(gpu),
        }
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Cpu => {
                let threads = std::thread::available_parallelism().map_or(1, usize::from);
                format!("CPU, {threads} threads")
            }
            Self::Gpu(gpu) => gpu.info().name.clone(),
        }
    }

    /// In a line or two.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Gpu(gpu) if gpu.info().name == "emulated" => {
                "Device: emulated. These are the times of an emulator on the CPU: they say nothing about any GPU."
                    .into()
            }
            _ => format!("Device: {}.", self.name()),
        }
    }

    /// Seconds of so many runs.
    pub(crate) fn time(&self, runs: usize, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
        match self {
            Self::Cpu => {
                let start = Instant::now();
                for _ in 0..runs {
                    run()?;
                }
                Ok(start.elapsed().as_secs_f64())
            }
            Self::Gpu(gpu) => {
                let mut failed = None;
                let seconds = gpu.timed(|| {
                    for _ in 0..runs {
                        if let Err(error) = run() {
                            failed = Some(error);
                            break;
                        }
                    }
                    Ok(())
                })?;
                failed.map_or(Ok(seconds), Err)
            }
        }
    }

    /// The median seconds of one run, and the runs of a sample.
    pub(crate) fn median(
        &self,
        effort: Effort,
        mut run: impl FnMut() -> Result<()>,
    ) -> Result<(f64, usize)> {
        let once = self.time(1, &mut run)?.max(1e-9);
        let runs = ((effort.seconds / once).ceil() as usize).clamp(1, 10_000);
        let mut samples = Vec::new();
        for _ in 0..effort.samples {
            samples.push(self.time(runs, &mut run)? / runs as f64);
        }
        samples.sort_by(f64::total_cmp);
        Ok((samples[samples.len() / 2], runs))
    }
}

fn no_kernels(device: Device) -> Error {
    Error::NoKernel { op: "kernel_bench", device }
}

/// Every rung of a kernel: on the CPU all of its ladder, compared with the first; on a GPU the one that is
/// there, compared with what the CPU uses.
pub(crate) fn all_rungs(
    kernel: &Kernel,
    shape: &[usize],
    dtype: Precision,
    machine: &Machine,
    ceilings: &Ceilings,
    effort: Effort,
) -> Result<Vec<Outcome>> {
    let Case { flops, bytes, mut rungs } = kernel.case(dtype, &At { shape, gpu: machine.gpu() })?;
    let judge = match machine {
        Machine::Cpu => 0,
        Machine::Gpu(_) => rungs.iter().rposition(|rung| !rung.on_gpu).unwrap_or(0),
    };
    let expected = first_run(&mut rungs[judge])?;
    let mut outcomes = Vec::new();
    for (at, rung) in rungs.iter_mut().enumerate() {
        if rung.on_gpu != machine.gpu().is_some() {
            continue;
        }
        let difference = if at == judge { 0.0 } else { difference(&expected, &first_run(rung)?) };
        let launches = machine.gpu().map(|gpu| gpu.launches());
        (rung.run)()?;
        let launches = machine.gpu().zip(launches).map(|(gpu, before)| gpu.launches() - before);
        let (seconds, runs) = machine.median(effort, &mut rung.run)?;
        let share = ceilings.share(flops, bytes, seconds);
        outcomes.push(Outcome {
            kernel: kernel.name,
            rung: rung.name,
            shape: shape.to_vec(),
            seconds,
            runs,
            flops,
            bytes,
            share,
            difference,
            launches,
        });
    }
    Ok(outcomes)
}

/// What a rung computes before it has run for long: rungs that change numbers in place go on from there.
pub(crate) fn first_run(rung: &mut Rung) -> Result<Vec<f64>> {
    (rung.run)()?;
    (rung.read)()
}

/// The greatest difference, relative to the larger of 1 and the number. What is not a number is
/// infinitely far.
pub(crate) fn difference(expected: &[f64], got: &[f64]) -> f64 {
    if expected.len() != got.len() {
        return f64::INFINITY;
    }
    let each = expected.iter().zip(got).map(|(a, b)| (a - b).abs() / a.abs().max(1.0));
    each.fold(0.0, |most, d| if d.is_nan() { f64::INFINITY } else { most.max(d) })
}
