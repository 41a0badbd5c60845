//! conv2d: y = x ⋆ W + b.   One trilinear form ⟨x ⋆ W, g⟩, and so three maps that are each other's
//! gradients: the output from x and W, d_x from g and W, dW from x and g. Hence derivatives of any
//! order without further rules. db = Σ g over examples and positions.

use kernels::conv;

use super::max_pool2d::counted;
use crate::op::{Halves, Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tape::{Geometry, Layer};
use crate::tensor::{History, Tensor, Var};
use crate::{Error, OpSpec, Result, Sample, Shape, Window, for_float};

#[derive(Debug)]
struct Conv2d(Geometry);

impl<H: History> Tensor<H> {
    /// Two-dimensional convolution (cross-correlation, as in every framework): one record on the
    /// tape, so that its weight, input and output gradient can be seen together.
    ///
    /// `y[n, o, p] = b[o] + Σ over (c, i, j) of W[o, c, i, j] · x[n, c, p·stride + (i, j)·dilation − padding]`
    ///
    /// # Shape
    /// x: `[N, C, H, W]` · weight: `[O, C/groups, KH, KW]` · bias: `[O]` · result: `[N, O, OH, OW]`
    ///
    /// # Gradient
    /// dx: the transposed convolution of g · dW: the correlation of x and g · db = Σ g
    ///
    /// # Errors
    /// [`Error::Argument`] for a kernel, stride, dilation or number of groups of 0;
    /// [`Error::Shape`] when the tensors do not fit it, the channels are not multiples of the
    /// groups, or the kernel is larger than the padded image.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{Geometry, Tensor, Window};
    /// let x = Tensor::from_slice(&[1.0_f32, 2.0, 4.0], [1, 1, 1, 3])?;
    /// let difference = Tensor::from_slice(&[-1.0_f32, 1.0], [1, 1, 1, 2])?;
    /// let geometry = Geometry { window: Window::new((1, 2)), groups: 1 };
    /// let y = x.conv2d(&difference, None, geometry)?;
    /// assert_eq!(y.to_vec::<f32>()?, [1.0, 2.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn conv2d(&self, weight: &Self, bias: Option<&Self>, geometry: Geometry) -> Result<Self> {
        match bias {
            Some(bias) => H::apply(Conv2d(geometry), &[self, weight, bias]),
            None => H::apply(Conv2d(geometry), &[self, weight]),
        }
    }
}

impl Op for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        check_geometry("conv2d", &self.0)?;
        let expected = || self.expected();
        let (Ok([n, c, h, w]), Ok([o, per_group, kh, kw])) = (four(inputs[0]), four(inputs[1]))
        else {
            return Err(Error::shape("conv2d", expected(), inputs));
        };
        let Geometry { window, groups } = self.0;
        let output = window.output((h, w));
        let fits = (kh, kw) == window.kernel
            && Some(c) == per_group.checked_mul(groups)
            && o.is_multiple_of(groups)
            && inputs.get(2).is_none_or(|b| ***b == [o]);
        match output {
            Some((oh, ow)) if fits => {
                counted("conv2d", &window, (c, (oh, ow)), Shape::new(&[n, o, oh, ow])?)
            }
            _ => Err(Error::shape("conv2d", expected(), inputs)),
        }
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let sizes = sizes(&self.0, inputs[0].shape(), inputs[1].shape()[0])?;
        for_float!(inputs[0].dtype(), T => {
            let bias = inputs.get(2).map(CpuView::slice::<T>);
            conv::forward::<T>(&sizes, inputs[0].slice(), inputs[1].slice(), bias, out.slice_mut());
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let sizes = sizes(&self.0, inputs[0].shape(), inputs[1].shape()[0])?;
        let (x, w) = (inputs[0].slice(), inputs[1].slice());
        let bias = inputs.get(2).map(CudaView::slice);
        kernels::cuda::conv::forward(inputs[0].gpu(), &sizes, x, w, bias, &out.slice_mut())?;
        Ok(Saved::new())
    }

    fn halves(&self) -> Halves {
        Halves::InCudaAndRule
    }

    fn is_product(&self) -> bool {
        true
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let (x, w) = (&at.inputs[0], &at.inputs[1]);
        let d_x = at.want(0, || input_gradient(self.0, x.shape(), at.grad, w))?;
        let d_w = at.want(1, || weight_gradient(self.0, x, at.grad))?;
        let mut all = vec![d_x, d_w];
        if at.inputs.len() > 2 {
            all.push(at.want(2, || at.grad.sum(&[0, 2, 3]))?);
        }
        Ok(all)
    }

    fn layer(&self) -> Option<Layer> {
        Some(Layer::Conv2d(self.0))
    }
}

impl Conv2d {
    fn expected(&self) -> String {
        let Geometry { window: Window { kernel, stride, padding, dilation }, groups } = self.0;
        format!(
            "x [N, C, H, W], weight [O, C/{groups}, {}, {}], bias [O], C and O multiples of \
             {groups}, and an image that the kernel fits on (stride {stride:?}, padding \
             {padding:?}, dilation {dilation:?})",
            kernel.0, kernel.1
        )
    }
}

/// d_x = the adjoint of x ↦ x ⋆ W. Inputs g, W.
#[derive(Debug)]
struct InputGradient {
    geometry: Geometry,
    /// (C, H, W): strides round down, so g does not tell the size of the image.
    image: [usize; 3],
}

pub(super) fn input_gradient(geometry: Geometry, x: &Shape, g: &Var, w: &Var) -> Result<Var> {
    let [_, c, height, width] = four(x)?;
    Var::apply_op(InputGradient { geometry, image: [c, height, width] }, &[g, w])
}

impl Op for InputGradient {
    fn name(&self) -> &'static str {
        "conv2d_input_gradient"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [c, h, w] = self.image;
        Shape::new(&[inputs[0][0], c, h, w])
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let [c, h, w] = self.image;
        let sizes = sizes(&self.geometry, &[inputs[0].shape()[0], c, h, w], inputs[1].shape()[0])?;
        for_float!(inputs[0].dtype(), T => {
            conv::backward_input::<T>(&sizes, inputs[0].slice(), inputs[1].slice(), out.slice_mut());
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let [c, h, w] = self.image;
        let sizes = sizes(&self.geometry, &[inputs[0].shape()[0], c, h, w], inputs[1].shape()[0])?;
        let (g, w) = (inputs[0].slice(), inputs[1].slice());
        kernels::cuda::conv::backward_input(inputs[0].gpu(), &sizes, g, w, None, &out.slice_mut())?;
        Ok(Saved::new())
    }

    fn halves(&self) -> Halves {
        Halves::InCudaAndRule
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let [g, w] = at.inputs else { return Ok(Vec::new()) };
        let d_g = at.want(0, || at.grad.conv2d(w, None, self.geometry))?;
        let d_w = at.want(1, || weight_gradient(self.geometry, at.grad, g))?;
        Ok(vec![d_g, d_w])
    }
}

/// dW = the adjoint of W ↦ x ⋆ W. Inputs x, g.
#[derive(Debug)]
struct WeightGradient(Geometry);

pub(super) fn weight_gradient(geometry: Geometry, x: &Var, g: &Var) -> Result<Var> {
    Var::apply_op(WeightGradient(geometry), &[x, g])
}

impl Op for WeightGradient {
    fn name(&self) -> &'static str {
        "conv2d_weight_gradient"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let (kh, kw) = self.0.window.kernel;
        Shape::new(&[inputs[1][1], inputs[0][1] / self.0.groups, kh, kw])
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let sizes = sizes(&self.0, inputs[0].shape(), inputs[1].shape()[1])?;
        for_float!(inputs[0].dtype(), T => {
            conv::backward_weight::<T>(&sizes, inputs[0].slice(), inputs[1].slice(), out.slice_mut());
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let sizes = sizes(&self.0, inputs[0].shape(), inputs[1].shape()[1])?;
        let (x, g) = (inputs[0].slice(), inputs[1].slice());
        kernels::cuda::conv::backward_weight(inputs[0].gpu(), &sizes, x, g, &out.slice_mut())?;
        Ok(Saved::new())
    }

    fn halves(&self) -> Halves {
        Halves::InCudaAndRule
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let [x, g] = at.inputs else { return Ok(Vec::new()) };
        let d_x = at.want(0, || input_gradient(self.0, x.shape(), g, at.grad))?;
        let d_g = at.want(1, || x.conv2d(at.grad, None, self.0))?;
        Ok(vec![d_x, d_g])
    }
}

fn four(dims: &[usize]) -> Result<[usize; 4]> {
    let shape = || Shape::new(dims).map(|s| Error::shape("conv2d", "four axes", &[&s]));
    dims.try_into().or_else(|_| Err(shape()?))
}

/// The kernel's view of a convolution of images `x` to `outputs` channels.
pub(super) fn sizes(geometry: &Geometry, x: &[usize], outputs: usize) -> Result<conv::Conv2d> {
    geometry
        .sizes(x, outputs)
        .ok_or_else(|| Error::shape("conv2d", "a kernel that fits on the image", &[]))
}

/// Nothing that a window is divided by or made of is 0.
pub(super) fn check_geometry(op: &'static str, geometry: &Geometry) -> Result<()> {
    let wrong = |name, got: String| Err(Error::Argument { op, name, expected: "at least 1", got });
    let window = &geometry.window;
    let pairs =
        [("kernel", window.kernel), ("stride", window.stride), ("dilation", window.dilation)];
    match pairs.into_iter().find(|(_, pair)| pair.0 == 0 || pair.1 == 0) {
        Some((name, pair)) => wrong(name, format!("{pair:?}")),
        None if geometry.groups == 0 => wrong("groups", "0".into()),
        None => Ok(()),
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "conv2d",
    samples: || {
        let geometry = |kernel, stride, padding, dilation, groups| Geometry {
            window: Window { kernel, stride, padding, dilation },
            groups,
        };
        let sample = |x: [usize; 4], w: [usize; 4], bias: bool, geometry: Geometry| {
            let mut inputs = vec![sample_input(x), sample_input(w)];
            inputs.extend(bias.then(|| sample_input([w[0]])));
            Sample::new(inputs, move |x| x[0].conv2d(&x[1], x.get(2), geometry))
        };
        let one = (1, 1);
        vec![
            sample([2, 2, 4, 3], [3, 2, 3, 2], true, geometry((3, 2), one, (1, 0), one, 1)),
            sample([1, 1, 5, 6], [2, 1, 2, 3], false, geometry((2, 3), (2, 2), (1, 1), (2, 1), 1)),
            sample([2, 4, 3, 3], [2, 2, 2, 2], true, geometry((2, 2), one, (0, 0), one, 2)),
            sample([1, 3, 4, 4], [3, 1, 3, 3], true, geometry((3, 3), (2, 1), (1, 1), one, 3)),
            sample([2, 3, 2, 2], [2, 3, 1, 1], true, geometry(one, one, (0, 0), one, 1)),
            sample([2, 4, 2, 3], [4, 2, 1, 1], false, geometry(one, one, (0, 0), one, 2)),
            sample([0, 2, 3, 3], [2, 2, 2, 2], true, geometry((2, 2), one, (0, 0), one, 1)),
            sample([2, 0, 3, 3], [2, 0, 2, 2], true, geometry((2, 2), one, (0, 0), one, 1)),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Tape};

    fn geometry(window: Window, groups: usize) -> Geometry {
        Geometry { window, groups }
    }

    #[test]
    fn what_does_not_fit_is_a_typed_error() {
        let zeros = |shape: [usize; 4]| Tensor::zeros(shape, DType::F32);
        let (x, w) = (zeros([1, 4, 5, 5]), zeros([2, 2, 3, 3]));
        let window = Window::new((3, 3));
        let shape = |x: &Tensor, w: &Tensor, g| {
            assert!(matches!(x.conv2d(w, None, g), Err(Error::Shape { op: "conv2d", .. })));
        };
        shape(&x, &w, geometry(window, 1)); // C is not C/groups · groups
        shape(&x, &zeros([3, 2, 3, 3]), geometry(window, 2)); // O is no multiple of the groups
        shape(&x, &w, geometry(Window::new((2, 3)), 2)); // the weight is 3 × 3
        shape(&zeros([1, 4, 2, 5]), &w, geometry(window, 2)); // the kernel is too large
        shape(&x.reshape([4, 5, 5]).unwrap(), &w, geometry(window, 2));
        let bias = Tensor::zeros([3], DType::F32);
        assert!(matches!(x.conv2d(&w, Some(&bias), geometry(window, 2)), Err(Error::Shape { .. })));

        let zero = |window, groups, option: &str| match x.conv2d(&w, None, geometry(window, groups))
        {
            Err(Error::Argument { name, .. }) => assert_eq!(name, option),
            other => panic!("{other:?}"),
        };
        zero(window, 0, "groups");
        zero(Window { stride: (1, 0), ..window }, 2, "stride");
        zero(Window { dilation: (0, 1), ..window }, 2, "dilation");
        zero(Window { kernel: (0, 3), ..window }, 2, "kernel");
    }

    #[test]
    fn a_pointwise_convolution_is_a_linear_map_of_channels() {
        let (x, w, b) = (sample_input([2, 3, 2, 4]), sample_input([5, 3, 1, 1]), sample_input([5]));
        let y = x.conv2d(&w, Some(&b), geometry(Window::new((1, 1)), 1)).unwrap();
        let last = x.permute(&[0, 2, 3, 1]).unwrap();
        let linear = last.linear(&w.reshape([5, 3]).unwrap(), Some(&b)).unwrap();
        let (y, linear) = (y, linear.permute(&[0, 3, 1, 2]).unwrap());
        for (a, b) in y.to_f64_vec().unwrap().iter().zip(linear.to_f64_vec().unwrap()) {
            assert!((a - b).abs() < 1e-13);
        }
    }

    /// x ⋆ W is linear in each: so ∂/∂x of ⟨∂L/∂W, v⟩, with L = ⟨x ⋆ W, g⟩, is ∂L/∂x at W = v.
    #[test]
    fn the_mixed_second_derivative_is_the_input_gradient_with_the_direction_for_a_weight() {
        let geometry =
            geometry(Window { stride: (2, 1), padding: (1, 1), ..Window::new((3, 2)) }, 2);
        let (x, w) = (sample_input([2, 4, 5, 3]), sample_input([2, 2, 3, 2]));
        let v = sample_input([2, 2, 3, 2]).scale(-0.7).unwrap();
        let tape = Tape::new();
        let [x, w, v] = [x, w, v].map(|t| tape.watch(t));
        let total = |w: &Var| {
            let y = x.conv2d(w, None, geometry).unwrap();
            y.mul(&Var::constant(&sample_input(y.shape()))).unwrap().sum_all().unwrap()
        };
        let first = tape.backward_recorded(&total(&w)).unwrap();
        let slope = first.of_var(&w).unwrap().mul(&v).unwrap().sum_all().unwrap();
        let mixed = tape.backward(&slope).unwrap();
        let direct = tape.backward(&total(&v)).unwrap();
        let of = |grads: &crate::Gradients| grads.of_var(&x).unwrap().to_f64_vec().unwrap();
        for (a, b) in of(&mixed).iter().zip(of(&direct)) {
            assert!((a - b).abs() < 1e-12);
        }
    }
}
