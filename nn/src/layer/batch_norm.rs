//! y = γ (x − μ) / √(σ² + ε) + β, per channel.

use engine::{Buffer, DType, Parameter, Result, Tape, Tensor, Var, parameters};

use crate::Module;

/// Batch normalisation of images.
///
/// On a training tape μ and σ² (divided by the count) are the batch's, and new running statistics
/// are staged on the tape: running ← (1 − momentum) · running + momentum · batch, where the batch's
/// variance is divided by the count less one. `model.commit(tape.staged())` applies them. On any
/// other tape the running statistics are used.
///
/// # Shape
/// parameters and statistics: `[C]` · x: `[N, C, H, W]` (or any `[N, C, ..]`) · result: as x
///
/// # Errors
/// [`Error::Shape`](engine::Error::Shape) from `forward` when channels differ, or a training batch has fewer than two
/// values a channel.
///
/// # Source
/// Ioffe & Szegedy 2015, algorithms 1 and 2; averaging, momentum and the two variances as PyTorch.
///
/// # Example
/// ```
/// use alcyon_nn::{BatchNorm2d, Module};
/// use engine::{Parameters, Tape, Tensor};
/// let mut norm = BatchNorm2d::new(1);
/// let tape = Tape::training(0);
/// norm.forward(&tape.input(Tensor::from_slice(&[1.0_f32, 3.0], [2, 1, 1, 1])?))?;
/// norm.commit(tape.staged())?;
/// // The batch's mean is 2 and its unbiased variance 2.
/// assert!((norm.running_mean.value().item()? - 0.1 * 2.0).abs() < 1e-6);
/// assert!((norm.running_var.value().item()? - (0.9 + 0.1 * 2.0)).abs() < 1e-6);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct BatchNorm2d {
    /// γ, `[C]`
    pub weight: Parameter,
    /// β, `[C]`
    pub bias: Parameter,
    /// The running mean, `[C]`
    pub running_mean: Buffer,
    /// The running variance, `[C]`
    pub running_var: Buffer,
    /// The number of batches averaged so far. Kept, like PyTorch does, for whoever reads the file.
    pub num_batches_tracked: Buffer,
    /// The weight of the new batch in the running statistics; 0.1 at first.
    pub momentum: f64,
    /// ε, added to the variance; 1e-5 at first.
    pub eps: f64,
}
parameters!(BatchNorm2d { weight, bias, running_mean, running_var, num_batches_tracked });

impl BatchNorm2d {
    /// γ = 1, β = 0, running mean 0 and variance 1.
    #[must_use]
    pub fn new(channels: usize) -> Self {
        let fill = |value: f64| Tensor::full([channels], value, DType::F32);
        Self {
            weight: Parameter::new(fill(1.0)),
            bias: Parameter::new(fill(0.0)),
            running_mean: Buffer::new(fill(0.0)),
            running_var: Buffer::new(fill(1.0)),
            num_batches_tracked: Buffer::new(Tensor::scalar(0.0, DType::I64)),
            momentum: 0.1,
            eps: 1e-5,
        }
    }

    /// Proposes new running statistics to the tape.
    fn stage(&self, tape: &Tape, count: usize, mean: &Tensor, biased: &Tensor) -> Result<()> {
        let unbiased = biased.scale(count as f64 / (count as f64 - 1.0))?;
        for (buffer, batch) in [(&self.running_mean, mean), (&self.running_var, &unbiased)] {
            let kept = tape.latest(buffer).scale(1.0 - self.momentum)?;
            let new = batch.scale(self.momentum)?.to_dtype(kept.dtype())?;
            tape.stage(buffer, kept.add(&new)?);
        }
        let batches = tape.latest(&self.num_batches_tracked).to_vec::<i64>()?;
        let next: Vec<i64> = batches.into_iter().map(|n| n + 1).collect();
        tape.stage(&self.num_batches_tracked, Tensor::from_vec(next, ())?);
        Ok(())
    }
}

impl Module for BatchNorm2d {
    fn forward(&self, x: &Var) -> Result<Var> {
        let tape = x.tape()?;
        let (scale, shift) = (tape.bind(&self.weight), tape.bind(&self.bias));
        if !tape.is_training() {
            let (mean, variance) = (self.running_mean.value(), self.running_var.value());
            return x.batch_norm_fixed(&scale, &shift, mean, variance, self.eps);
        }
        let (y, mean, variance) = x.batch_norm(&scale, &shift, self.eps)?;
        let count = x.numel().checked_div(mean.numel()).unwrap_or(0);
        self.stage(&tape, count, &mean, &variance)?;
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use engine::{Error, Parameters, Rng};

    use super::*;

    fn images(seed: u64) -> Tensor {
        Tensor::normal([4, 3, 2, 2], 2.0, 3.0, DType::F32, &mut Rng::new(seed))
    }

    fn close(a: &Tensor, b: &Tensor) -> bool {
        let (a, b) = (a.to_f64_vec().unwrap(), b.to_f64_vec().unwrap());
        a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5 * b.abs().max(1.0))
    }

    #[test]
    fn training_moves_every_channel_to_mean_zero_and_variance_one() {
        let tape = Tape::training(0);
        let y = BatchNorm2d::new(3).forward(&tape.input(images(0))).unwrap().value();
        assert!(close(&y.mean(&[0, 2, 3]).unwrap(), &Tensor::zeros([3], DType::F32)));
        assert!(close(&y.variance(&[0, 2, 3]).unwrap(), &Tensor::ones([3], DType::F32)));
    }

    #[test]
    fn two_passes_on_one_tape_are_averaged_in_order_and_committed_once() {
        let mut norm = BatchNorm2d::new(3);
        let tape = Tape::training(0);
        let y = norm.forward(&tape.input(images(0))).unwrap();
        norm.forward(&tape.input(images(1))).unwrap();
        // Sweeping twice does not count the batch twice.
        for _ in 0..2 {
            tape.backward(&y.sum_all().unwrap()).unwrap();
        }
        assert!(close(norm.running_mean.value(), &Tensor::zeros([3], DType::F32)));
        norm.commit(tape.staged()).unwrap();
        norm.commit(tape.staged()).unwrap();

        let (mut mean, mut variance) = ([0.0; 3], [1.0; 3]);
        for seed in [0, 1] {
            let m = images(seed).mean(&[0, 2, 3]).unwrap().to_f64_vec().unwrap();
            let v = images(seed).variance(&[0, 2, 3]).unwrap().to_f64_vec().unwrap();
            for c in 0..3 {
                mean[c] = 0.9 * mean[c] + 0.1 * m[c];
                variance[c] = 0.9 * variance[c] + 0.1 * v[c] * 16.0 / 15.0;
            }
        }
        assert!(close(norm.running_mean.value(), &Tensor::from_slice(&mean, [3]).unwrap()));
        assert!(close(norm.running_var.value(), &Tensor::from_slice(&variance, [3]).unwrap()));
        assert_eq!(norm.num_batches_tracked.value().to_vec::<i64>().unwrap(), [2]);
    }

    #[test]
    fn evaluation_uses_the_running_statistics_and_stages_nothing() {
        let mut norm = BatchNorm2d::new(1);
        norm.eps = 0.0;
        *norm.running_mean.value_mut() = Tensor::full([1], 3.0, DType::F32);
        *norm.running_var.value_mut() = Tensor::full([1], 4.0, DType::F32);
        let tape = Tape::new();
        let x = Tensor::from_slice(&[5.0_f32], [1, 1, 1, 1]).unwrap();
        assert!((norm.forward(&tape.input(x)).unwrap().item().unwrap() - 1.0).abs() < 1e-6);
        norm.commit(tape.staged()).unwrap();
        assert!((norm.running_mean.value().item().unwrap() - 3.0).abs() < 1e-6);
    }

    #[test]
    fn one_value_a_channel_is_refused_in_training() {
        let tape = Tape::training(0);
        let x = tape.input(Tensor::ones([1, 3, 1, 1], DType::F32));
        let refused = BatchNorm2d::new(3).forward(&x);
        assert!(matches!(refused, Err(Error::Shape { op: "batch_norm", .. })));
    }
}
