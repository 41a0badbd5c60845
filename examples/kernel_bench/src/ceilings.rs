//! What the machine can do at most, measured in the same run: how fast it copies, how fast it multiplies
//! matrices, and what it costs to ask it for anything at all.

use alcyon::kernels::gemm::{self, Matrix};
use alcyon::kernels::{Float, cuda, elementwise, parallel};
use alcyon::prelude::*;
use serde::Serialize;

use crate::case::{At, There, numbers};
use crate::cli::Precision;
use crate::measure::{Effort, Machine};

/// How fast a copy of one size is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Level {
    /// Bytes of both arrays.
    pub(crate) bytes: f64,
    /// Bytes a second, read and written.
    pub(crate) bytes_per_second: f64,
}

/// The roof.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ceilings {
    /// Copies from the smallest, which a cache holds, to the largest. On a GPU the largest alone.
    pub(crate) levels: Vec<Level>,
    /// Operations a second of the best matrix product.
    pub(crate) flops_per_second: f64,
    /// Seconds: a launch on a GPU; on a CPU, waking all threads and waiting for them.
    pub(crate) overhead_seconds: f64,
}

impl Ceilings {
    pub(crate) fn measure(machine: &Machine, dtype: Precision, effort: Effort) -> Result<Self> {
        match dtype {
            Precision::F32 => measure::<f32>(machine, effort),
            Precision::F64 => measure::<f64>(machine, effort),
        }
    }

    /// Bytes a second that are within reach of a kernel that moves so many bytes: those of the fastest
    /// copy that moves as many or more. So a kernel whose numbers a cache holds is judged by that cache.
    pub(crate) fn bandwidth(&self, bytes: f64) -> f64 {
        let large_enough = self.levels.iter().filter(|level| level.bytes >= bytes);
        let fastest = large_enough.map(|level| level.bytes_per_second).reduce(f64::max);
        fastest.unwrap_or_else(|| self.memory())
    }

    /// Bytes a second of the largest copy.
    pub(crate) fn memory(&self) -> f64 {
        self.levels.last().map_or(f64::NAN, |level| level.bytes_per_second)
    }

    /// Operations a second that are within reach at so many operations a byte, of so many bytes: Williams
    /// et al. 2009.
    pub(crate) fn roof(&self, intensity: f64, bytes: f64) -> f64 {
        self.flops_per_second.min(self.bandwidth(bytes) * intensity)
    }

    /// Which share of what is within reach a run of so many seconds has reached.
    pub(crate) fn share(&self, flops: f64, bytes: f64, seconds: f64) -> f64 {
        if flops == 0.0 {
            return bytes / seconds / self.bandwidth(bytes);
        }
        flops / seconds / self.roof(flops / bytes, bytes)
    }

    pub(crate) fn describe(&self, machine: &Machine) -> String {
        let overhead = match machine {
            Machine::Cpu => "to wake the threads and wait for them",
            Machine::Gpu(_) => "a launch",
        };
        let cache = match self.levels.len() {
            0 | 1 => String::new(),
            _ => format!(" ({:.1} in the fastest cache)", self.bandwidth(0.0) / 1e9),
        };
        format!(
            "Ceilings, measured now:\n  copy {:.1} GB/s{cache}\n  matrix product {:.1} GFLOP/s\n  {:.1} µs {overhead}",
            self.memory() / 1e9,
            self.flops_per_second / 1e9,
            self.overhead_seconds * 1e6,
        )
    }
}

fn measure<T: Float>(machine: &Machine, effort: Effort) -> Result<Ceilings> {
    let (n, m) = (effort.copied, effort.square);
    let (x, a, b) = (numbers::<T>(n, 0), numbers::<T>(m * m, 1), numbers::<T>(m * m, 2));
    let Machine::Gpu(gpu) = machine else {
        let (mut y, mut c) = (x.clone(), a.clone());
        let copies = copied(n).map(|n| {
            let (copy, _) = machine.median(effort, || {
                elementwise::map(&x[..n], &mut y[..n], |x| x);
                Ok(())
            })?;
            Ok(level::<T>(n, copy))
        });
        let levels = copies.collect::<Result<_>>()?;
        let (product, _) = machine.median(effort, || {
            let (a, b) = (Matrix::new(&a, m, m), Matrix::new(&b, m, m));
            gemm::gemm(T::ONE, a, b, T::ZERO, &mut c);
            Ok(())
        })?;
        let mut nothing = vec![0_u8; 2 * parallel::GRAIN];
        let (overhead, _) = machine.median(effort, || {
            parallel::pieces(&mut nothing, 1, |_, piece| piece[0] = 1);
            Ok(())
        })?;
        return Ok(roof(levels, (m, product), overhead));
    };
    let at = At { shape: &[], gpu: Some(gpu) };
    let [x, a, b] = [&x, &a, &b].map(|v| There::new(&at, v));
    let (x, a, b) = (x?, a?, b?);
    let (mut y, mut c) = (There::<T>::room(&at, n)?, There::<T>::room(&at, m * m)?);
    let (copy, _) = machine
        .median(effort, || Ok(cuda::strided::copy(gpu, &[n], &[1], x.slice(), &y.slice_mut())?))?;
    let (product, _) = machine.median(effort, || {
        let [a, b] = [&a, &b].map(|v| cuda::gemm::Matrices::new(v.slice(), m, m));
        Ok(cuda::gemm::gemm(gpu, 1, 1.0, a, b, 0.0, &c.slice_mut())?)
    })?;
    let mut one = There::<T>::room(&at, 1)?;
    let (overhead, _) =
        machine.median(effort, || Ok(cuda::strided::fill(gpu, 0.0, &one.slice_mut())?))?;
    Ok(roof(vec![level::<T>(n, copy)], (m, product), overhead))
}

/// Numbers of the copies on the CPU, four times as many each time, up to `most`.
fn copied(most: usize) -> impl Iterator<Item = usize> {
    const FIRST: usize = 1 << 11;
    let sizes = std::iter::successors(Some(FIRST), |n| Some(4 * n));
    sizes.take_while(move |&n| n < most).chain([most])
}

fn level<T>(n: usize, seconds: f64) -> Level {
    let bytes = (2 * n * size_of::<T>()) as f64;
    Level { bytes, bytes_per_second: bytes / seconds }
}

fn roof(levels: Vec<Level>, (m, product): (usize, f64), overhead: f64) -> Ceilings {
    Ceilings {
        levels,
        flops_per_second: 2.0 * (m as f64).powi(3) / product,
        overhead_seconds: overhead,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(bytes: f64, bytes_per_second: f64) -> Level {
        Level { bytes, bytes_per_second }
    }

    #[test]
    fn the_roof_rises_with_intensity_up_to_the_product_and_a_copy_is_judged_by_its_bytes() {
        let levels = vec![level(100.0, 10.0)];
        let c = Ceilings { levels, flops_per_second: 40.0, overhead_seconds: 0.0 };
        assert_eq!([1.0, 4.0, 100.0].map(|i| c.roof(i, 200.0)), [10.0, 40.0, 40.0]);
        assert_eq!(c.share(20.0, 20.0, 4.0), 0.5);
        assert_eq!(c.share(0.0, 20.0, 4.0), 0.5);
    }

    #[test]
    fn numbers_in_a_cache_are_judged_by_the_fastest_cache_that_holds_them() {
        let levels = vec![level(1.0, 20.0), level(10.0, 50.0), level(100.0, 30.0), level(1e3, 5.0)];
        let c = Ceilings { levels, flops_per_second: 1e9, overhead_seconds: 0.0 };
        let bandwidths = [0.5, 10.0, 11.0, 100.0, 101.0, 1e6].map(|bytes| c.bandwidth(bytes));
        assert_eq!(bandwidths, [50.0, 50.0, 30.0, 30.0, 5.0, 5.0]);
        assert_eq!(c.memory(), 5.0);
        assert_eq!(copied(1 << 14).collect::<Vec<_>>(), [1 << 11, 1 << 13, 1 << 14]);
    }
}
