//! rms_norm: y = γ ∘ x̂, x̂ = x / √(mean(x²) + ε) over the last axis.   Gradients: `norm.rs`.
//! Source: Zhang & Sennrich 2019.

#[cfg(feature = "cuda")]
use kernels::cuda::norm as cuda;
use kernels::rms_norm as kernel;

use super::norm;
use crate::op::{Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tape::{Layer, Norm};
use crate::tensor::{History, Taped, Tensor, Var};
use crate::{Error, FloatElement, OpSpec, Result, Sample, Shape, for_float};

#[derive(Debug)]
struct RmsNorm {
    eps: f64,
}

impl<H: History> Tensor<H> {
    /// Each row (along the last axis) divided by the root of its mean square, then scaled feature by
    /// feature. Layer norm without the mean and the shift.
    ///
    /// # Shape
    /// x: `[.., D]` · scale: `[D]` · result: `[.., D]`
    ///
    /// # Errors
    /// [`Error::Shape`] when the scale does not fit or D is 0; [`Error::Argument`] for a negative ε.
    ///
    /// # Source
    /// Zhang & Sennrich 2019, eq. 4; ε inside the root, as everywhere.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[4.0_f32, -4.0], [1, 2])?; // mean square 16
    /// let scale = Tensor::from_slice(&[5.0_f32, 10.0], [2])?;
    /// assert_eq!(x.rms_norm(Some(&scale), 0.0)?.to_vec::<f32>()?, [5.0, -10.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn rms_norm(&self, scale: Option<&Self>, eps: f64) -> Result<Self> {
        norm::check_epsilon("rms_norm", eps)?;
        norm::apply(RmsNorm { eps }, self, scale, None)
    }
}

impl Op for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let width = inputs[0].last().copied().unwrap_or(0);
        if width == 0 || inputs[1..].iter().any(|s| ***s != [width]) {
            return Err(Error::shape("rms_norm", "x [.., D] with D > 0, scale [D]", inputs));
        }
        Ok(*inputs[0])
    }

    /// Saves what was subtracted from every row, 0, and the reciprocal of its root mean square.
    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let shape = Shape::new(inputs[0].shape())?;
        let (rows, width, _) = shape.around(shape.rank() - 1);
        let dtype = inputs[0].dtype();
        let mut rstd = CpuStorage::unspecified(dtype, rows);
        for_float!(dtype, T => kernel::rms_norm(
            inputs[0].slice::<T>(),
            width,
            <T as kernels::Float>::of(self.eps),
            inputs.get(1).map(CpuView::slice),
            out.slice_mut(),
            rstd.slice_mut(),
        ));
        let leading = shape.without(shape.rank() - 1);
        Ok(vec![Tensor::zeros(leading, dtype), Tensor::from_cpu(rstd, leading)])
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, shape) = (inputs[0].gpu(), Shape::new(inputs[0].shape())?);
        let (rows, width, _) = shape.around(shape.rank() - 1);
        let (dtype, leading) = (inputs[0].dtype(), shape.without(shape.rank() - 1));
        let mut rstd = CudaStorage::unspecified(gpu, dtype, rows)?;
        let (x, scale) = (inputs[0].slice(), inputs.get(1).map(CudaView::slice));
        cuda::rms_norm(gpu, width, self.eps, x, scale, &out.slice_mut(), &rstd.slice_mut())?;
        let mean = Tensor::full_on(out.device(), leading, 0.0, dtype)?;
        Ok(vec![mean, Tensor::from_cuda(rstd, leading)])
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let x = &at.inputs[0];
        let [_, rstd] = at.saved else { return Ok(Vec::new()) };
        if at.is_recorded() {
            let shared: Vec<isize> = (0..x.rank() as isize - 1).collect();
            let composition = norm::Composition {
                eps: self.eps,
                centred: false,
                view: *x.shape(),
                over: &[-1],
                shared: &shared,
                aligned: [x.shape()[x.rank() - 1]].into(),
            };
            return composition.gradients(at);
        }
        let rstd = Var::constant(rstd);
        let mut inputs = vec![x, at.grad, &rstd];
        inputs.extend(at.inputs.get(1));
        let (d_x, d_scale) = Taped::apply_saving(Backward, &inputs)?;
        let all = std::iter::once(d_x).chain(d_scale.iter().map(Var::constant));
        Ok(all.map(Some).collect())
    }

    fn layer(&self) -> Option<Layer> {
        Some(Layer::ScaleShift(Norm::Rms))
    }
}

/// Both gradients in one kernel: the output is d_x; dγ is saved. Inputs x, g, rstd, and γ if there is
/// one.
#[derive(Debug)]
struct Backward;

impl Op for Backward {
    fn name(&self) -> &'static str {
        "rms_norm"
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
        let [x, g, rstd] = [0, 1, 2].map(|i| inputs[i].slice());
        let scale = inputs.get(3).map(CudaView::slice);
        cuda::rms_norm_input(gpu, width, [x, g, rstd], scale, &out.slice_mut())?;
        if scale.is_none() {
            return Ok(Saved::new());
        }
        let dtype = inputs[0].dtype();
        let mean = CudaStorage::filled(gpu, dtype, rstd.len(), 0.0.into())?;
        let parameter = || CudaStorage::unspecified(gpu, dtype, width);
        let (mut d_scale, mut d_shift) = (parameter()?, parameter()?);
        let gradients = [&d_scale.slice_mut(), &d_shift.slice_mut()];
        cuda::layer_norm_parameters(gpu, width, [x, g, mean.slice(), rstd], gradients)?;
        Ok(vec![Tensor::from_cuda(d_scale, [width].into())])
    }
}

fn gradients<T: FloatElement>(inputs: &[CpuView<'_>], d_x: &mut [T]) -> Result<Saved> {
    let width = inputs[0].shape().last().copied().unwrap_or(0);
    let [x, g, rstd] = [0, 1, 2].map(|i| inputs[i].slice::<T>());
    let scale = inputs.get(3).map(CpuView::slice::<T>);
    let mut d_scale = scale.map(|_| CpuStorage::unspecified(T::DTYPE, width));
    let for_scale = d_scale.as_mut().map(CpuStorage::slice_mut);
    kernel::rms_norm_backward(x, g, width, rstd, scale, d_x, for_scale);
    Ok(d_scale.into_iter().map(|d| Tensor::from_cpu(d, [width].into())).collect())
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "rms_norm",
    samples: || {
        let sample = |x: Shape, scaled: bool| {
            let width = x.last().copied().unwrap_or(0);
            let mut inputs = vec![sample_input(x)];
            inputs.extend(scaled.then(|| sample_input([width])));
            Sample::new(inputs, |x| x[0].rms_norm(x.get(1), 1e-2))
        };
        vec![
            sample([3, 4].into(), true),
            sample([2, 3, 5].into(), true),
            sample([2, 3].into(), false),
            sample([4].into(), true),
            sample([0, 3].into(), true),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn it_is_layer_norm_of_rows_whose_mean_is_zero() {
        let x = sample_input([3, 6]);
        let x = Tensor::concat(&[&x, &x.neg().unwrap()], 1).unwrap();
        let rms = x.rms_norm(None, 1e-3).unwrap().to_f64_vec().unwrap();
        let layer = x.layer_norm(None, None, 1e-3).unwrap().to_f64_vec().unwrap();
        assert!(rms.iter().zip(layer).all(|(a, b)| (a - b).abs() < 1e-14));
    }

    #[test]
    fn what_does_not_fit_is_a_typed_error() {
        let x = Tensor::zeros([2, 3], DType::F32);
        let wrong = [
            x.rms_norm(Some(&x), 0.1),
            x.rms_norm(Some(&Tensor::zeros([2], DType::F32)), 0.1),
            Tensor::zeros((), DType::F32).rms_norm(None, 0.1),
            Tensor::zeros([2, 0], DType::F32).rms_norm(None, 0.1),
        ];
        for got in wrong {
            assert!(matches!(got, Err(Error::Shape { op: "rms_norm", .. })), "{got:?}");
        }
        let eps = x.rms_norm(None, -1.0);
        assert!(matches!(eps, Err(Error::Argument { op: "rms_norm", name: "eps", .. })));
    }
}
