//! What the machine can do at most, measured in the same run: how fast it copies, how fast it multiplies
//! matrices, and what it costs to ask it for anything at all.

use alcyon::kernels::gemm::{self, Matrix};
use alcyon::kernels::{Float, cuda, elementwise, parallel};
use alcyon::prelude::*;
use serde::Serialize;

use crate::case::{At, There, numbers};
use crate::cli::Precision;
use crate::measure::{Effort, Machine};

/// The roof.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Ceilings {
    /// Bytes a second, read and written, of a copy that no cache holds.
    pub(crate) bytes_per_second: f64,
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

    /// Operations a second that are within reach at so many operations a byte: Williams et al. 2009.
    pub(crate) fn roof(&self, intensity: f64) -> f64 {
        self.flops_per_second.min(self.bytes_per_second * intensity)
    }

    /// Which share of what is within reach a run of so many seconds has reached.
    pub(crate) fn share(&self, flops: f64, bytes: f64, seconds: f64) -> f64 {
        if flops == 0.0 {
            return bytes / seconds / self.bytes_per_second;
        }
        flops / seconds / self.roof(flops / bytes)
    }

    pub(crate) fn describe(&self, machine: &Machine) -> String {
        let overhead = match machine {
            Machine::Cpu => "to wake the threads and wait for them",
            Machine::Gpu(_) => "a launch",
        };
        format!(
            "Ceilings, measured now: copy {:.1} GB/s, matrix product {:.1} GFLOP/s; {:.1} µs {overhead}.",
            self.bytes_per_second / 1e9,
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
        let (copy, _) = machine.median(effort, || {
            elementwise::map(&x, &mut y, |x| x);
            Ok(())
        })?;
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
        return Ok(roof::<T>((n, copy), (m, product), overhead));
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
    Ok(roof::<T>((n, copy), (m, product), overhead))
}

fn roof<T>((n, copy): (usize, f64), (m, product): (usize, f64), overhead: f64) -> Ceilings {
    Ceilings {
        bytes_per_second: (2 * n * size_of::<T>()) as f64 / copy,
        flops_per_second: 2.0 * (m as f64).powi(3) / product,
        overhead_seconds: overhead,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roof_rises_with_intensity_up_to_the_product_and_a_copy_is_judged_by_its_bytes() {
        let c = Ceilings { bytes_per_second: 10.0, flops_per_second: 40.0, overhead_seconds: 0.0 };
        assert_eq!([1.0, 4.0, 100.0].map(|intensity| c.roof(intensity)), [10.0, 40.0, 40.0]);
        assert_eq!(c.share(20.0, 20.0, 4.0), 0.5);
        assert_eq!(c.share(0.0, 20.0, 4.0), 0.5);
    }
}
