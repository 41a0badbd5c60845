//! batch_norm: y = γ ∘ x̂ + β, x̂ = (x − μ) / √(σ² + ε) over all axes but the channel, axis 1.
//! Gradients: `norm.rs`.   Source: Ioffe & Szegedy 2015.

#[cfg(feature = "cuda")]
use kernels::cuda::norm as cuda;
use kernels::norm as kernel;

use super::norm;
use crate::op::{Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tape::{Layer, Norm};
use crate::tensor::{History, Taped, Tensor, Var};
use crate::{Error, FloatElement, OpSpec, Result, Sample, Shape, for_float};

#[derive(Debug)]
struct BatchNorm {
    eps: f64,
}

impl<H: History> Tensor<H> {
    /// Batch norm with the batch's own statistics, as in training: each channel moved to mean 0
    /// and scaled to variance 1, then scaled and shifted. Also returns the channels' means and
    /// biased variances (divided by the count), for running averages.
    ///
    /// # Shape
    /// x: `[N, C, ..]` · scale, shift, mean, variance: `[C]` · result: `[N, C, ..]`
    ///
    /// # Errors
    /// [`Error::Shape`] when scale or shift do not fit, or a channel has fewer than two values:
    /// its variance would say nothing. [`Error::Argument`] for a negative ε.
    ///
    /// # Source
    /// Ioffe & Szegedy 2015, algorithm 1.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{DType, Tensor};
    /// let x = Tensor::from_slice(&[1.0_f32, 5.0], [2, 1])?; // one channel
    /// let (scale, shift) = (Tensor::ones([1], DType::F32), Tensor::zeros([1], DType::F32));
    /// let (y, mean, variance) = x.batch_norm(&scale, &shift, 0.0)?;
    /// assert_eq!(y.to_vec::<f32>()?, [-1.0, 1.0]);
    /// assert_eq!((mean.item()?, variance.item()?), (3.0, 4.0));
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn batch_norm(
        &self,
        scale: &Self,
        shift: &Self,
        eps: f64,
    ) -> Result<(Self, Tensor, Tensor)> {
        norm::check_epsilon("batch_norm", eps)?;
        let (y, saved) = H::apply_saving(BatchNorm { eps }, &[self, scale, shift])?;
        // Only a device without numbers saves nothing.
        let moment = |i: usize| {
            saved.get(i).cloned().unwrap_or_else(|| Tensor::meta(scale.shape(), self.dtype()))
        };
        Ok((y, moment(0), moment(2)))
    }
}

impl Op for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let x = check_channels("batch_norm", inputs[0], &inputs[1..])?;
        let (n, _, s) = x.around(1);
        if n * s < 2 {
            let expected = "at least two values in every channel";
            return Err(Error::shape("batch_norm", expected, inputs));
        }
        Ok(x)
    }

    /// Saves each channel's mean, reciprocal deviation and variance.
    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        for_float!(inputs[0].dtype(), T => forward::<T>(inputs, self.eps, out.slice_mut()))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, sizes) = (inputs[0].gpu(), Shape::new(inputs[0].shape())?.around(1));
        let moment = || CudaStorage::unspecified(gpu, inputs[0].dtype(), sizes.1);
        let (mut mean, mut rstd, mut variance) = (moment()?, moment()?, moment()?);
        let [x, scale, shift] = [0, 1, 2].map(|i| inputs[i].slice());
        let moments = [&mean.slice_mut(), &rstd.slice_mut(), &variance.slice_mut()];
        cuda::batch_moments(gpu, sizes, self.eps, x, moments)?;
        let channels = [mean.slice(), rstd.slice(), scale, shift];
        cuda::batch_apply(gpu, sizes, x, channels, &out.slice_mut())?;
        let moments = [mean, rstd, variance];
        Ok(moments.map(|moment| Tensor::from_cuda(moment, [sizes.1].into())).into())
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let x = &at.inputs[0];
        let [mean, rstd, _] = at.saved else { return Ok(Vec::new()) };
        if at.is_recorded() {
            let axes = all_but_channel(x.rank());
            let composition = norm::Composition {
                eps: self.eps,
                centred: true,
                view: *x.shape(),
                over: &axes,
                shared: &axes,
                aligned: along_channel(x.shape()),
            };
            return composition.gradients(at);
        }
        let (mean, rstd) = (Var::constant(mean), Var::constant(rstd));
        let inputs = [x, at.grad, &mean, &rstd, &at.inputs[1]];
        let (d_x, parameters) = Taped::apply_saving(Backward, &inputs)?;
        let all = std::iter::once(d_x).chain(parameters.iter().map(Var::constant));
        Ok(all.map(Some).collect())
    }

    fn layer(&self) -> Option<Layer> {
        Some(Layer::ScaleShift(Norm::Batch))
    }
}

fn forward<T: FloatElement>(inputs: &[CpuView<'_>], eps: f64, out: &mut [T]) -> Result<Saved> {
    let (n, c, s) = Shape::new(inputs[0].shape())?.around(1);
    let [x, scale, shift] = [0, 1, 2].map(|i| inputs[i].slice::<T>());
    let mut moments = [(); 3].map(|()| CpuStorage::unspecified(T::DTYPE, c));
    let [mean, rstd, variance] = moments.each_mut().map(CpuStorage::slice_mut::<T>);
    kernel::batch_norm(x, n, c, s, T::of(eps), scale, shift, out, [mean, rstd, variance]);
    Ok(moments.map(|moment| Tensor::from_cpu(moment, [c].into())).into())
}

/// All gradients in one kernel: the output is d_x; dγ and dβ are saved. Inputs x, g, mean, rstd, γ.
#[derive(Debug)]
struct Backward;

impl Op for Backward {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(*inputs[0])
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let (n, c, s) = Shape::new(inputs[0].shape())?.around(1);
        let dtype = inputs[0].dtype();
        let [mut d_scale, mut d_shift] = [(); 2].map(|()| CpuStorage::unspecified(dtype, c));
        for_float!(dtype, T => {
            let [x, g, mean, rstd, scale] = [0, 1, 2, 3, 4].map(|i| inputs[i].slice::<T>());
            let (d_x, scale) = (out.slice_mut(), Some(scale));
            let (d_scale, d_shift) = (d_scale.slice_mut(), d_shift.slice_mut());
            kernel::batch_norm_backward(x, g, n, c, s, mean, rstd, scale, d_x, d_scale, d_shift);
        });
        Ok([d_scale, d_shift].map(|d| Tensor::from_cpu(d, [c].into())).into())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, sizes) = (inputs[0].gpu(), Shape::new(inputs[0].shape())?.around(1));
        let parameter = || CudaStorage::unspecified(gpu, inputs[0].dtype(), sizes.1);
        let (mut d_scale, mut d_shift) = (parameter()?, parameter()?);
        let [x, g, mean, rstd, scale] = [0, 1, 2, 3, 4].map(|i| inputs[i].slice());
        let gradients = [&d_scale.slice_mut(), &d_shift.slice_mut()];
        let (d_x, channels) = (out.slice_mut(), [mean, rstd, scale]);
        cuda::batch_backward(gpu, sizes, [x, g], channels, &d_x, gradients)?;
        Ok([d_scale, d_shift].map(|d| Tensor::from_cuda(d, [sizes.1].into())).into())
    }
}

/// x has a channel axis, and everything else one number per channel.
pub(super) fn check_channels(op: &'static str, x: &Shape, others: &[&Shape]) -> Result<Shape> {
    if x.rank() < 2 || others.iter().any(|s| ***s != [x[1]]) {
        let all: Vec<&Shape> = std::iter::once(x).chain(others.iter().copied()).collect();
        return Err(Error::shape(op, "x [N, C, ..], and [C] for all others", &all));
    }
    Ok(*x)
}

pub(super) fn all_but_channel(rank: usize) -> Vec<isize> {
    (0..rank as isize).filter(|&axis| axis != 1).collect()
}

/// `[1, C, 1, ..]`: what a vector over channels is reshaped to.
pub(super) fn along_channel(x: &Shape) -> Shape {
    (0..x.rank()).filter(|&axis| axis != 1).fold(*x, |shape, axis| shape.with(axis, 1))
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "batch_norm",
    samples: || {
        let sample = |x: Shape| {
            let parameter = || sample_input([x[1]]);
            let inputs = vec![sample_input(x), parameter(), parameter()];
            Sample::new(inputs, |x| Ok(x[0].batch_norm(&x[1], &x[2], 1e-2)?.0))
        };
        vec![
            sample([4, 3].into()),
            sample([2, 3, 2, 2].into()),
            sample([3, 1, 2].into()),
            sample([1, 2, 3].into()),
            sample([2, 0, 3].into()),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn the_moments_are_those_of_the_channels() {
        let x = sample_input([3, 2, 4]).shift(5.0).unwrap();
        let (ones, zeros) = (Tensor::ones([2], DType::F64), Tensor::zeros([2], DType::F64));
        let (_, mean, variance) = x.batch_norm(&ones, &zeros, 1e-5).unwrap();
        let close = |a: &Tensor, b: &Tensor| {
            let (a, b) = (a.to_f64_vec().unwrap(), b.to_f64_vec().unwrap());
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-13));
        };
        close(&mean, &x.mean(&[0, 2]).unwrap());
        close(&variance, &x.variance(&[0, 2]).unwrap());
    }

    #[test]
    fn what_does_not_fit_is_a_typed_error() {
        let zeros = |shape: &[usize]| Tensor::zeros(Shape::new(shape).unwrap(), DType::F32);
        let (three, two) = (zeros(&[3]), zeros(&[2]));
        let error = |x: &[usize], scale, shift| zeros(x).batch_norm(scale, shift, 0.1).unwrap_err();
        assert!(matches!(error(&[4, 3], &three, &two), Error::Shape { .. }));
        assert!(matches!(error(&[3], &three, &three), Error::Shape { .. }));
        assert!(matches!(error(&[1, 3], &three, &three), Error::Shape { .. }));
        assert!(matches!(error(&[0, 3, 2], &three, &three), Error::Shape { .. }));
        let eps = zeros(&[4, 3]).batch_norm(&three, &three, -0.1);
        assert!(matches!(eps, Err(Error::Argument { name: "eps", .. })));
    }

    #[test]
    fn a_dry_run_has_shapes_and_no_numbers() {
        let meta = |shape: &[usize]| Tensor::meta(Shape::new(shape).unwrap(), DType::F32);
        let (y, mean, variance) = meta(&[4, 3]).batch_norm(&meta(&[3]), &meta(&[3]), 0.1).unwrap();
        assert_eq!((*y.shape(), *mean.shape()), ([4, 3].into(), [3].into()));
        assert!(matches!(variance.to_f64_vec(), Err(Error::NoKernel { .. })));
    }
}
