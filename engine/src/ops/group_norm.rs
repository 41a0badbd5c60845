//! group_norm: y = γ ∘ x̂ + β, x̂ = (x − μ) / √(σ² + ε) over the channels of a group and all positions
//! of one example.   Gradients: `norm.rs`.   Source: Wu & He 2018.

#[cfg(feature = "cuda")]
use kernels::cuda::group_norm as cuda;
use kernels::group_norm::{Groups, group_norm, group_norm_backward};

use super::batch_norm::{all_but_channel, along_channel, check_channels};
use super::norm;
use crate::op::{Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tape::{Layer, Norm};
use crate::tensor::{History, Taped, Tensor, Var};
use crate::{Error, FloatElement, OpSpec, Result, Sample, Shape, for_float};

#[derive(Debug)]
struct GroupNorm {
    groups: usize,
    eps: f64,
}

impl<H: History> Tensor<H> {
    /// The channels of each example in `groups` groups of neighbours, each group moved to mean 0 and
    /// scaled to variance 1 over its channels and positions, then scaled and shifted channel by
    /// channel. No example sees another. One group is layer norm over a whole example, C groups are
    /// instance norm.
    ///
    /// # Shape
    /// x: `[N, C, ..]` · scale, shift: `[C]` · result: `[N, C, ..]`
    ///
    /// # Errors
    /// [`Error::Argument`] when C is not a multiple of the groups, for a shift without a scale, or a
    /// negative ε; [`Error::Shape`] when scale or shift do not fit or a group has no numbers.
    ///
    /// # Source
    /// Wu & He 2018, eq. 7.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1.0_f32, 5.0, 7.0, 9.0], [1, 4])?;
    /// assert_eq!(x.group_norm(2, None, None, 0.0)?.to_vec::<f32>()?, [-1.0, 1.0, -1.0, 1.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn group_norm(
        &self,
        groups: usize,
        scale: Option<&Self>,
        shift: Option<&Self>,
        eps: f64,
    ) -> Result<Self> {
        norm::check_epsilon("group_norm", eps)?;
        let channels = self.shape().get(1).copied().unwrap_or(0);
        if groups == 0 || !channels.is_multiple_of(groups) {
            let expected = "at least 1 and a divisor of the channels";
            let got = format!("{groups} for {channels} channels");
            return Err(Error::Argument { op: "group_norm", name: "groups", expected, got });
        }
        norm::apply(GroupNorm { groups, eps }, self, scale, shift)
    }
}

impl Op for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let x = check_channels("group_norm", inputs[0], &inputs[1..])?;
        if x[1..].contains(&0) {
            return Err(Error::shape("group_norm", "at least one value in a group", inputs));
        }
        Ok(x)
    }

    /// Saves the mean and the reciprocal deviation of every group.
    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let sizes = self.sizes(inputs[0].shape())?;
        let dtype = inputs[0].dtype();
        let rows = sizes.n * sizes.groups;
        let [mut mean, mut rstd] = [(); 2].map(|()| CpuStorage::unspecified(dtype, rows));
        for_float!(dtype, T => group_norm(
            &sizes,
            inputs[0].slice::<T>(),
            <T as kernels::Float>::of(self.eps),
            inputs.get(1).map(CpuView::slice),
            inputs.get(2).map(CpuView::slice),
            out.slice_mut(),
            mean.slice_mut(),
            rstd.slice_mut(),
        ));
        Ok([mean, rstd].map(|m| Tensor::from_cpu(m, [sizes.n, sizes.groups].into())).into())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, sizes) = (inputs[0].gpu(), self.sizes(inputs[0].shape())?);
        let moment = || CudaStorage::unspecified(gpu, inputs[0].dtype(), sizes.n * sizes.groups);
        let (mut mean, mut rstd) = (moment()?, moment()?);
        let parameters = [1, 2].map(|i| inputs.get(i).map(CudaView::slice));
        let (x, y) = (inputs[0].slice(), out.slice_mut());
        let moments = [&mean.slice_mut(), &rstd.slice_mut()];
        cuda::forward(gpu, &sizes, self.eps, x, parameters, &y, moments)?;
        Ok([mean, rstd].map(|m| Tensor::from_cuda(m, [sizes.n, sizes.groups].into())).into())
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let x = &at.inputs[0];
        let [mean, rstd] = at.saved else { return Ok(Vec::new()) };
        if at.is_recorded() {
            let rows = x.shape()[0] * self.groups;
            let shared = all_but_channel(x.rank());
            let composition = norm::Composition {
                eps: self.eps,
                centred: true,
                view: [rows, x.numel().checked_div(rows).unwrap_or(0)].into(),
                over: &[-1],
                shared: &shared,
                aligned: along_channel(x.shape()),
            };
            return composition.gradients(at);
        }
        let (mean, rstd) = (Var::constant(mean), Var::constant(rstd));
        let mut inputs = vec![x, at.grad, &mean, &rstd];
        inputs.extend(at.inputs.get(1));
        let (d_x, parameters) = Taped::apply_saving(Backward(self.groups), &inputs)?;
        let all = std::iter::once(d_x).chain(parameters.iter().map(Var::constant));
        Ok(all.take(at.inputs.len()).map(Some).collect())
    }

    fn layer(&self) -> Option<Layer> {
        Some(Layer::ScaleShift(Norm::Group { groups: self.groups }))
    }
}

impl GroupNorm {
    fn sizes(&self, x: &[usize]) -> Result<Groups> {
        sizes(x, self.groups)
    }
}

fn sizes(x: &[usize], groups: usize) -> Result<Groups> {
    let (n, c, s) = Shape::new(x)?.around(1);
    Ok(Groups { n, c, s, groups })
}

/// All gradients in one kernel: the output is d_x; dγ and dβ are saved. Inputs x, g, mean, rstd, and γ
/// if there is one.
#[derive(Debug)]
struct Backward(usize);

impl Op for Backward {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(*inputs[0])
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let sizes = sizes(inputs[0].shape(), self.0)?;
        for_float!(inputs[0].dtype(), T => Ok(gradients::<T>(&sizes, inputs, out.slice_mut())))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (gpu, sizes) = (inputs[0].gpu(), sizes(inputs[0].shape(), self.0)?);
        let parameter = || CudaStorage::unspecified(gpu, inputs[0].dtype(), sizes.c);
        let (mut d_scale, mut d_shift) = (parameter()?, parameter()?);
        let all = [0, 1, 2, 3].map(|i| inputs[i].slice());
        let scale = inputs.get(4).map(CudaView::slice);
        let gradients = [&d_scale.slice_mut(), &d_shift.slice_mut()];
        cuda::backward(gpu, &sizes, all, scale, &out.slice_mut(), gradients)?;
        Ok([d_scale, d_shift].map(|d| Tensor::from_cuda(d, [sizes.c].into())).into())
    }
}

fn gradients<T: FloatElement>(sizes: &Groups, inputs: &[CpuView<'_>], d_x: &mut [T]) -> Saved {
    let [x, g, mean, rstd] = [0, 1, 2, 3].map(|i| inputs[i].slice::<T>());
    let scale = inputs.get(4).map(CpuView::slice::<T>);
    let [mut d_scale, mut d_shift] = [(); 2].map(|()| CpuStorage::unspecified(T::DTYPE, sizes.c));
    let (for_scale, for_shift) = (d_scale.slice_mut(), d_shift.slice_mut());
    group_norm_backward(sizes, x, g, mean, rstd, scale, d_x, for_scale, for_shift);
    [d_scale, d_shift].map(|d| Tensor::from_cpu(d, [sizes.c].into())).into()
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "group_norm",
    samples: || {
        let sample = |x: Shape, groups: usize, parameters: usize| {
            let mut inputs = vec![sample_input(x)];
            inputs.extend((0..parameters).map(|_| sample_input([x[1]])));
            Sample::new(inputs, move |x| x[0].group_norm(groups, x.get(1), x.get(2), 1e-2))
        };
        vec![
            sample([2, 4, 2, 2].into(), 2, 2),
            sample([3, 6].into(), 3, 2),
            sample([1, 3, 4].into(), 1, 1),
            sample([2, 2, 3].into(), 2, 0),
            sample([0, 4, 2].into(), 2, 2),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn one_group_is_layer_norm_of_whole_examples() {
        let x = sample_input([3, 4, 2, 2]);
        let groups = x.group_norm(1, None, None, 1e-3).unwrap().to_f64_vec().unwrap();
        let rows = x.reshape([3, 16]).unwrap().layer_norm(None, None, 1e-3).unwrap();
        for (a, b) in groups.iter().zip(rows.to_f64_vec().unwrap()) {
            assert!((a - b).abs() < 1e-14);
        }
    }

    #[test]
    fn an_example_does_not_see_another() {
        let x = sample_input([3, 4, 5]);
        let all = x.group_norm(2, None, None, 1e-3).unwrap().narrow(0, 1, 1).unwrap();
        let alone = x.narrow(0, 1, 1).unwrap().group_norm(2, None, None, 1e-3).unwrap();
        assert_eq!(all.to_vec::<f64>().unwrap(), alone.to_vec::<f64>().unwrap());
    }

    #[test]
    fn what_does_not_fit_is_a_typed_error() {
        let zeros = |shape: &[usize]| Tensor::zeros(Shape::new(shape).unwrap(), DType::F32);
        let (x, four) = (zeros(&[2, 4, 3]), zeros(&[4]));
        let shapes = [
            x.group_norm(2, Some(&zeros(&[3])), None, 0.1),
            x.group_norm(2, Some(&four), Some(&zeros(&[2])), 0.1),
            zeros(&[2, 4, 0]).group_norm(2, None, None, 0.1),
        ];
        for got in shapes {
            assert!(matches!(got, Err(Error::Shape { op: "group_norm", .. })), "{got:?}");
        }
        let arguments = [
            ("groups", x.group_norm(0, None, None, 0.1)),
            ("groups", x.group_norm(3, None, None, 0.1)),
            ("shift", x.group_norm(2, None, Some(&four), 0.1)),
            ("eps", x.group_norm(2, None, None, f64::NAN)),
        ];
        for (option, got) in arguments {
            let found = matches!(&got, Err(Error::Argument { op: "group_norm", name, .. }) if *name == option);
            assert!(found, "{option}: {got:?}");
        }
    }
}
