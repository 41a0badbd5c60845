//! batch_norm_fixed: y = γ ∘ x̂ + β, x̂ = (x − μ) / √(σ² + ε), where μ and σ² are given numbers and
//! not the batch's.   dx = g ∘ γ / √(σ² + ε), dγ = Σ g ∘ x̂, dβ = Σ g.
//! Source: Ioffe & Szegedy 2015, algorithm 2.

use super::batch_norm::{all_but_channel, along_channel, check_channels};
use super::norm::check_epsilon;
use crate::op::halves::widened;
use crate::op::{Keeps, Op, Saved, Site, expect_dtype, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tape::{Layer, Norm};
use crate::tensor::{History, Tensor, Var};
use crate::{DType, Error, OpSpec, Result, Sample, Shape, for_float};

/// The moments are constants, so they are part of the op.
#[derive(Debug)]
struct BatchNormFixed {
    mean: Tensor,
    rstd: Tensor,
}

impl<H: History> Tensor<H> {
    /// Batch norm with given statistics, as in evaluation: an affine map of every channel.
    ///
    /// # Shape
    /// x: `[N, C, ..]` · scale, shift, mean, variance: `[C]` · result: `[N, C, ..]`; the statistics of
    /// 16-bit images may be f32
    ///
    /// # Errors
    /// [`Error::Shape`] when they do not fit, [`Error::DType`] when the statistics have another
    /// dtype than x, [`Error::Argument`] for a negative ε.
    ///
    /// # Source
    /// Ioffe & Szegedy 2015, algorithm 2, step 11.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{DType, Tensor};
    /// let x = Tensor::from_slice(&[1.0_f32, 7.0], [2, 1])?;
    /// let number = |v| Tensor::full([1], v, DType::F32);
    /// let y = x.batch_norm_fixed(&number(10.0), &number(1.0), &number(3.0), &number(4.0), 0.0)?;
    /// assert_eq!(y.to_vec::<f32>()?, [-9.0, 21.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn batch_norm_fixed(
        &self,
        scale: &Self,
        shift: &Self,
        mean: &Tensor,
        variance: &Tensor,
        eps: f64,
    ) -> Result<Self> {
        check_epsilon("batch_norm_fixed", eps)?;
        for moment in [mean, variance] {
            if moment.dtype() != self.dtype().computed_in() {
                expect_dtype("batch_norm_fixed", moment.dtype(), self.dtype())?;
            }
            if moment.device() != self.device() {
                let (left, right) = (self.device(), moment.device());
                return Err(Error::Device { op: "batch_norm_fixed", left, right });
            }
        }
        check_channels("batch_norm_fixed", self.shape(), &[mean.shape(), variance.shape()])?;
        let [mean, variance] = [widened(&mean.contiguous()?)?, widened(&variance.contiguous()?)?];
        let rstd = variance.shift(eps)?.sqrt()?.recip()?;
        H::apply(BatchNormFixed { mean, rstd }, &[self, scale, shift])
    }
}

impl Op for BatchNormFixed {
    fn name(&self) -> &'static str {
        "batch_norm_fixed"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        check_channels("batch_norm_fixed", inputs[0], &inputs[1..])
    }

    /// Saves the moments, for the layer record.
    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let (n, c, s) = Shape::new(inputs[0].shape())?.around(1);
        for_float!(inputs[0].dtype(), T => {
            let [x, scale, shift] = [0, 1, 2].map(|i| inputs[i].slice::<T>());
            let (mean, rstd) = (self.mean.as_slice()?, self.rstd.as_slice()?);
            let (scale, shift, out) = (Some(scale), Some(shift), out.slice_mut());
            kernels::norm::batch_norm_apply(x, n, c, s, mean, rstd, scale, shift, out);
        });
        Ok(vec![self.mean.clone(), self.rstd.clone()])
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, sizes) = (inputs[0].gpu(), Shape::new(inputs[0].shape())?.around(1));
        let [x, scale, shift] = [0, 1, 2].map(|i| inputs[i].slice());
        let (Some(mean), Some(rstd)) = (self.mean.cuda_slice(), self.rstd.cuda_slice()) else {
            return Err(Error::NoKernel { op: self.name(), device: out.device() });
        };
        let channels = [mean, rstd, scale, shift];
        kernels::cuda::norm::batch_apply(gpu, sizes, x, channels, &out.slice_mut())?;
        Ok(vec![self.mean.clone(), self.rstd.clone()])
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let (x, scale, g) = (&at.inputs[0], &at.inputs[1], at.grad);
        let aligned = along_channel(x.shape());
        let constant = |t: &Tensor| Ok::<_, Error>(Var::constant(&t.reshape(aligned)?));
        let (mean, rstd) = (constant(&self.mean)?, constant(&self.rstd)?);
        let shared = all_but_channel(x.rank());
        let d_x = at.want(0, || g.mul(&scale.reshape(aligned)?.mul(&rstd)?))?;
        let d_scale = at.want(1, || g.mul(&x.sub(&mean)?.mul(&rstd)?)?.sum(&shared))?;
        let d_shift = at.want(2, || g.sum(&shared))?;
        Ok(vec![d_x, d_scale, d_shift])
    }

    fn layer(&self) -> Option<Layer> {
        Some(Layer::ScaleShift(Norm::Batch))
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "batch_norm_fixed",
    samples: || {
        let sample = |x: Shape| {
            let parameter = || sample_input([x[1]]);
            let (mean, c) = (parameter(), x[1]);
            let inputs = vec![sample_input(x), parameter(), parameter()];
            Sample::new(inputs, move |x| {
                let variance = Tensor::from_fn([c], DType::F64, |i| 0.5 + i as f64);
                let cast = |t: &Tensor| t.to_dtype(x[0].dtype())?.to_device(x[0].device());
                x[0].batch_norm_fixed(&x[1], &x[2], &cast(&mean)?, &cast(&variance)?, 1e-2)
            })
        };
        vec![
            sample([4, 3].into()),
            sample([2, 3, 2, 2].into()),
            sample([1, 2].into()),
            sample([0, 2].into()),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_the_batchs_own_moments_it_is_batch_norm() {
        let (x, scale, shift) = (sample_input([3, 2, 4]), sample_input([2]), sample_input([2]));
        let (y, mean, variance) = x.batch_norm(&scale, &shift, 1e-3).unwrap();
        let fixed = x.batch_norm_fixed(&scale, &shift, &mean, &variance, 1e-3).unwrap();
        assert_eq!(y.to_f64_vec().unwrap(), fixed.to_f64_vec().unwrap());
    }

    #[test]
    fn moments_of_another_size_or_dtype_are_refused() {
        let (x, two) = (sample_input([3, 2]), Tensor::ones([2], DType::F64));
        let with = |moment: &Tensor| x.batch_norm_fixed(&two, &two, &two, moment, 0.1).unwrap_err();
        assert!(matches!(with(&Tensor::ones([3], DType::F64)), Error::Shape { .. }));
        assert!(matches!(with(&Tensor::ones([2], DType::F32)), Error::DType { .. }));
        assert!(matches!(with(&Tensor::meta([2], DType::F64)), Error::Device { .. }));
    }
}
