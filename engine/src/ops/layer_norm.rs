//! layer_norm: y = γ ∘ x̂ + β, x̂ = (x − μ) / √(σ² + ε) over the last axis.   Gradients: `norm.rs`.
//! Source: Ba, Kiros & Hinton 2016.

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
struct LayerNorm {
    eps: f64,
}

impl<H: History> Tensor<H> {
    /// Each row (along the last axis) moved to mean 0 and scaled to variance 1, then scaled and
    /// shifted feature by feature. The variance is divided by D, not by D − 1.
    ///
    /// # Shape
    /// x: `[.., D]` · scale, shift: `[D]` · result: `[.., D]`
    ///
    /// # Errors
    /// [`Error::Shape`] when scale or shift do not fit or D is 0; [`Error::Argument`] for a shift
    /// without a scale or a negative ε.
    ///
    /// # Source
    /// Ba, Kiros & Hinton 2016, eq. 4.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1.0_f32, 5.0], [1, 2])?; // mean 3, deviation 2
    /// let scale = Tensor::from_slice(&[10.0_f32, 10.0], [2])?;
    /// assert_eq!(x.layer_norm(Some(&scale), None, 0.0)?.to_vec::<f32>()?, [-10.0, 10.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn layer_norm(
        &self,
        scale: Option<&Self>,
        shift: Option<&Self>,
        eps: f64,
    ) -> Result<Self> {
        norm::check_epsilon("layer_norm", eps)?;
        norm::apply(LayerNorm { eps }, self, scale, shift)
    }
}

impl Op for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let width = inputs[0].last().copied().unwrap_or(0);
        if width == 0 || inputs[1..].iter().any(|s| ***s != [width]) {
            let expected = "x [.., D] with D > 0, scale [D], shift [D]";
            return Err(Error::shape("layer_norm", expected, inputs));
        }
        Ok(*inputs[0])
    }

    /// Saves the mean and the reciprocal deviation of every row.
    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let shape = Shape::new(inputs[0].shape())?;
        let (rows, width, _) = shape.around(shape.rank() - 1);
        let dtype = inputs[0].dtype();
        let [mut mean, mut rstd] = [(); 2].map(|()| CpuStorage::unspecified(dtype, rows));
        for_float!(dtype, T => kernel::layer_norm(
            inputs[0].slice::<T>(),
            width,
            <T as kernels::Float>::of(self.eps),
            inputs.get(1).map(CpuView::slice),
            inputs.get(2).map(CpuView::slice),
            out.slice_mut(),
            mean.slice_mut(),
            rstd.slice_mut(),
        ));
        let leading = shape.without(shape.rank() - 1);
        Ok([mean, rstd].map(|moment| Tensor::from_cpu(moment, leading)).into())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, shape) = (inputs[0].gpu(), Shape::new(inputs[0].shape())?);
        let (rows, width, _) = shape.around(shape.rank() - 1);
        let moment = || CudaStorage::unspecified(gpu, inputs[0].dtype(), rows);
        let (mut mean, mut rstd) = (moment()?, moment()?);
        let parameters = [1, 2].map(|i| inputs.get(i).map(CudaView::slice));
        let (x, y) = (inputs[0].slice(), out.slice_mut());
        let moments = [&mean.slice_mut(), &rstd.slice_mut()];
        cuda::layer_norm(gpu, width, self.eps, x, parameters, &y, moments)?;
        let leading = shape.without(shape.rank() - 1);
        Ok([mean, rstd].map(|moment| Tensor::from_cuda(moment, leading)).into())
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let x = &at.inputs[0];
        let [mean, rstd] = at.saved else { return Ok(Vec::new()) };
        if at.is_recorded() {
            let shared: Vec<isize> = (0..x.rank() as isize - 1).collect();
            let width = [x.shape()[x.rank() - 1]];
            let composition = norm::Composition {
                eps: self.eps,
                centred: true,
                view: *x.shape(),
                over: &[-1],
                shared: &shared,
                aligned: width.into(),
            };
            return composition.gradients(at);
        }
        let (mean, rstd) = (Var::constant(mean), Var::constant(rstd));
        let mut inputs = vec![x, at.grad, &mean, &rstd];
        inputs.extend(at.inputs.get(1));
        let (d_x, parameters) = Taped::apply_saving(Backward, &inputs)?;
        let all = std::iter::once(d_x).chain(parameters.iter().map(Var::constant));
        Ok(all.take(at.inputs.len()).map(Some).collect())
    }

    fn layer(&self) -> Option<Layer> {
        Some(Layer::ScaleShift(Norm::Layer))
    }
}

/// All gradients in one kernel: the output is d_x; dγ and dβ are saved. Inputs x, g, mean, rstd,
/// and γ if there is one.
#[derive(Debug)]
struct Backward;

impl Op for Backward {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(*inputs[0])
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        for_float!(inputs[0].dtype(), T => gradients::<T>(inputs, out.slice_mut()))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, width) = (inputs[0].gpu(), inputs[0].shape().last().copied().unwrap_or(0));
        let all = [0, 1, 2, 3].map(|i| inputs[i].slice());
        let scale = inputs.get(4).map(CudaView::slice);
        cuda::layer_norm_input(gpu, width, all, scale, &out.slice_mut())?;
        if scale.is_none() {
            return Ok(Saved::new());
        }
        let parameter = || CudaStorage::unspecified(gpu, inputs[0].dtype(), width);
        let (mut d_scale, mut d_shift) = (parameter()?, parameter()?);
        let gradients = [&d_scale.slice_mut(), &d_shift.slice_mut()];
        cuda::layer_norm_parameters(gpu, width, all, gradients)?;
        Ok([d_scale, d_shift].map(|d| Tensor::from_cuda(d, [width].into())).into())
    }
}

fn gradients<T: FloatElement>(inputs: &[CpuView<'_>], d_x: &mut [T]) -> Result<Saved> {
    let width = inputs[0].shape().last().copied().unwrap_or(0);
    let [x, g, mean, rstd] = [0, 1, 2, 3].map(|i| inputs[i].slice::<T>());
    let scale = inputs.get(4).map(CpuView::slice::<T>);
    let [mut d_scale, mut d_shift] = [(); 2].map(|()| CpuStorage::unspecified(T::DTYPE, width));
    let (for_scale, for_shift) = match scale {
        Some(_) => (Some(d_scale.slice_mut()), Some(d_shift.slice_mut())),
        None => (None, None),
    };
    kernel::layer_norm_backward(x, g, width, mean, rstd, scale, d_x, for_scale, for_shift);
    let saved = scale.map(|_| [d_scale, d_shift].map(|d| Tensor::from_cpu(d, [width].into())));
    Ok(saved.into_iter().flatten().collect())
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "layer_norm",
    samples: || {
        let sample = |x: Shape, parameters: usize| {
            let width = x.last().copied().unwrap_or(0);
            let mut inputs = vec![sample_input(x)];
            inputs.extend((0..parameters).map(|_| sample_input([width])));
            Sample::new(inputs, |x| x[0].layer_norm(x.get(1), x.get(2), 1e-2))
        };
        vec![
            sample([3, 4].into(), 2),
            sample([2, 3, 5].into(), 2),
            sample([2, 3].into(), 1),
            sample([4].into(), 0),
            sample([0, 3].into(), 2),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn a_row_has_mean_zero_and_variance_one_unless_it_is_constant() {
        let x = sample_input([3, 50]).shift(1e3).unwrap();
        let y = x.layer_norm(None, None, 0.0).unwrap();
        for mean in y.mean(&[-1]).unwrap().to_f64_vec().unwrap() {
            assert!(mean.abs() < 1e-10);
        }
        for variance in y.variance(&[-1]).unwrap().to_f64_vec().unwrap() {
            assert!((variance - 1.0).abs() < 1e-10);
        }
        let constant = Tensor::full([1, 4], 7.0, DType::F32);
        let y = constant.layer_norm(None, None, 1e-5).unwrap();
        assert_eq!(y.to_vec::<f32>().unwrap(), [0.0; 4]);
    }

    #[test]
    fn what_does_not_fit_is_a_typed_error() {
        let x = Tensor::zeros([2, 3], DType::F32);
        let three = Tensor::ones([3], DType::F32);
        let shape = |x: &Tensor, scale| x.layer_norm(Some(scale), None, 0.1).unwrap_err();
        assert!(matches!(shape(&x, &x), Error::Shape { .. }));
        assert!(matches!(shape(&Tensor::zeros((), DType::F32), &three), Error::Shape { .. }));
        let argument = |shift, eps| x.layer_norm(None, shift, eps).unwrap_err();
        assert!(matches!(argument(Some(&three), 0.1), Error::Argument { name: "shift", .. }));
        for eps in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(argument(None, eps), Error::Argument { name: "eps", .. }));
        }
    }
}
