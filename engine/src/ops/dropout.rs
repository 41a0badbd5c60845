//! dropout: y = m ∘ x / (1 − p) with mᵢ = 0 with probability p, else 1.   dx = m ∘ g / (1 − p).
//! Srivastava et al. 2014.

use crate::op::{Keeps, Op, Saved, Site, sample_input};
use crate::rng;
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{Tensor, Var};
use crate::{Error, FloatElement, OpSpec, Result, Sample, Shape, for_float};

/// The mask is a function of seed, stream and position alone: the same for any number of threads.
#[derive(Debug)]
struct Dropout {
    p: f64,
    seed: u64,
    stream: u64,
}

impl Tensor {
    /// The tensor itself: without a tape there is no training.
    ///
    /// # Errors
    /// [`Error::Argument`] when p is not in [0, 1).
    pub fn dropout(&self, p: f64) -> Result<Self> {
        check(p)?;
        Ok(self.clone())
    }
}

impl Var {
    /// On a tape in training mode, each element is set to 0 with probability `p` and else divided
    /// by 1 − p, so that its mean stays. On any other tape nothing changes. Every call draws a new
    /// mask from the tape's seed.
    ///
    /// # Errors
    /// [`Error::Argument`] when p is not in [0, 1).
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{DType, Tape, Tensor};
    /// let (training, inference) = (Tape::training(7), Tape::off());
    /// let x = Tensor::ones([4], DType::F32);
    /// let y = training.input(x.clone()).dropout(0.5)?.to_vec::<f32>()?;
    /// assert!(y.iter().all(|&y| y == 0.0 || y == 2.0));
    /// assert_eq!(inference.input(x).dropout(0.5)?.to_vec::<f32>()?, [1.0; 4]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn dropout(&self, p: f64) -> Result<Self> {
        check(p)?;
        match self.tape()?.draw() {
            Some((seed, stream)) if p > 0.0 => Self::apply_op(Dropout { p, seed, stream }, &[self]),
            _ => Ok(self.clone()),
        }
    }
}

fn check(p: f64) -> Result<()> {
    if (0.0..1.0).contains(&p) {
        return Ok(());
    }
    Err(Error::Argument { op: "dropout", name: "p", expected: "in [0, 1)", got: p.to_string() })
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(*inputs[0])
    }

    /// Saves the mask, divided by 1 − p.
    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let shape = Shape::new(inputs[0].shape())?;
        let mut mask = CpuStorage::unspecified(inputs[0].dtype(), shape.numel());
        for_float!(inputs[0].dtype(), T => {
            self.draw(mask.slice_mut::<T>());
            let (x, mask) = (inputs[0].slice::<T>(), mask.slice::<T>());
            kernels::elementwise::map2(x, mask, out.slice_mut::<T>(), |x, m| x * m);
        });
        Ok(vec![Tensor::from_cpu(mask, shape)])
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, shape) = (inputs[0].gpu(), Shape::new(inputs[0].shape())?);
        let mut mask = CudaStorage::unspecified(gpu, inputs[0].dtype(), shape.numel())?;
        let (x, y, from) = (inputs[0].slice(), out.slice_mut(), [self.seed, self.stream]);
        kernels::cuda::dropout::dropout(gpu, self.p, from, x, &y, &mask.slice_mut())?;
        Ok(vec![Tensor::from_cuda(mask, shape)])
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let d_x = at.saved.first().map(|mask| at.grad.mul(&Var::constant(mask))).transpose()?;
        Ok(vec![d_x])
    }
}

impl Dropout {
    /// Four numbers come out of one block of the generator.
    fn draw<T: FloatElement>(&self, mask: &mut [T]) {
        let kept = T::of(1.0 / (1.0 - self.p));
        kernels::parallel::pieces(mask, 4, |start, piece| {
            for (block, four) in (start as u64 / 4..).zip(piece.chunks_mut(4)) {
                let uniform = rng::uniform_block(self.seed, self.stream, block);
                for (m, u) in four.iter_mut().zip(uniform) {
                    *m = if f64::from(u) < self.p { T::ZERO } else { kept };
                }
            }
        });
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "dropout",
    samples: || {
        vec![
            Sample::new(vec![sample_input([3, 4])], |x| x[0].dropout(0.5)),
            Sample::new(vec![sample_input([5])], |x| x[0].dropout(0.25)?.mul(&x[0])?.dropout(0.25)),
            Sample::new(vec![sample_input([2])], |x| x[0].dropout(0.0)),
            Sample::new(vec![sample_input([0, 2])], |x| x[0].dropout(0.5)),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Tape};

    fn drop_ones(tape: &Tape, n: usize, p: f64) -> Vec<f64> {
        tape.input(Tensor::ones([n], DType::F64)).dropout(p).unwrap().to_vec::<f64>().unwrap()
    }

    #[test]
    fn about_p_of_the_elements_are_dropped_and_the_mean_stays() {
        let (n, p) = (100_000, 0.3);
        let y = drop_ones(&Tape::training(1), n, p);
        // Five standard deviations of the mean of n draws.
        let tolerance = 5.0 * (p * (1.0 - p) / n as f64).sqrt();
        let dropped = y.iter().filter(|&&y| y == 0.0).count() as f64 / n as f64;
        assert!((dropped - p).abs() < tolerance, "{dropped}");
        let mean = y.iter().sum::<f64>() / n as f64;
        assert!((mean - 1.0).abs() < tolerance / (1.0 - p), "{mean}");
    }

    #[test]
    fn the_mask_is_that_of_uniform_at_new_at_each_call_and_the_same_for_the_same_seed() {
        let tape = Tape::training(3);
        let (first, second) = (drop_ones(&tape, 37, 0.5), drop_ones(&tape, 37, 0.5));
        assert_ne!(first, second);
        assert_eq!(first, drop_ones(&Tape::training(3), 37, 0.5));
        for (i, y) in first.iter().enumerate() {
            assert_eq!(*y == 0.0, rng::uniform_at(3, 0, i as u64) < 0.5);
        }
    }

    #[test]
    fn evaluation_and_plain_tensors_are_left_alone_and_p_must_be_a_probability_below_one() {
        assert_eq!(drop_ones(&Tape::new(), 9, 0.9), [1.0; 9]);
        let x = Tensor::ones([2], DType::F32);
        assert_eq!(x.dropout(0.9).unwrap().to_vec::<f32>().unwrap(), [1.0; 2]);
        for p in [1.0, -0.1, f64::NAN] {
            assert!(matches!(x.dropout(p), Err(Error::Argument { op: "dropout", .. })));
        }
    }
}
