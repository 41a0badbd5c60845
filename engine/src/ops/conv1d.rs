//! conv1d: y = x ⋆ W + b along a line.   A convolution of images one pixel high: the maps of
//! `conv2d.rs`, and the same layer record.

use kernels::conv;

use super::max_pool2d::counted;
use super::conv2d::{check_geometry, input_gradient, sizes, weight_gradient};
use crate::op::{Halves, Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tape::{Geometry, Layer};
use crate::tensor::{History, Tensor, Var};
use crate::{Error, OpSpec, Result, Sample, Shape, Window, for_float};

#[derive(Debug)]
struct Conv1d(Geometry);

impl<H: History> Tensor<H> {
    /// One-dimensional convolution (cross-correlation). The window is that of an image one pixel high:
    /// its second coordinates are the line's, its first ones trivial, `Window::new((1, K))`.
    ///
    /// `y[n, o, p] = b[o] + Σ over (c, k) of W[o, c, k] · x[n, c, p·stride + k·dilation − padding]`
    ///
    /// # Shape
    /// x: `[N, C, L]` · weight: `[O, C/groups, K]` · bias: `[O]` · result: `[N, O, OL]`
    ///
    /// # Errors
    /// [`Error::Argument`] for a kernel, stride, dilation or number of groups of 0, or a window with a
    /// height; [`Error::Shape`] when the tensors do not fit it.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{Geometry, Tensor, Window};
    /// let x = Tensor::from_slice(&[1.0_f32, 2.0, 4.0], [1, 1, 3])?;
    /// let difference = Tensor::from_slice(&[-1.0_f32, 1.0], [1, 1, 2])?;
    /// let geometry = Geometry { window: Window::new((1, 2)), groups: 1 };
    /// assert_eq!(x.conv1d(&difference, None, geometry)?.to_vec::<f32>()?, [1.0, 2.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn conv1d(&self, weight: &Self, bias: Option<&Self>, geometry: Geometry) -> Result<Self> {
        match bias {
            Some(bias) => H::apply(Conv1d(geometry), &[self, weight, bias]),
            None => H::apply(Conv1d(geometry), &[self, weight]),
        }
    }
}

impl Op for Conv1d {
    fn name(&self) -> &'static str {
        "conv1d"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let Geometry { window, groups } = self.0;
        check_geometry("conv1d", &self.0)?;
        let flat = Window { kernel: (1, window.kernel.1), ..window };
        if (window.stride.0, window.padding.0, window.dilation.0) != (1, 0, 1) || flat != window {
            let got = format!("{window:?}");
            let expected = "flat: kernel, stride and dilation 1 in height, no padding";
            return Err(Error::Argument { op: "conv1d", name: "window", expected, got });
        }
        let wrong = || {
            let k = window.kernel.1;
            let expected = format!(
                "x [N, C, L], weight [O, C/{groups}, {k}], bias [O], C and O multiples of {groups}, and \
                 a line that the kernel fits on"
            );
            Error::shape("conv1d", expected, inputs)
        };
        let (&[n, c, length], &[o, per_group, k]) = (&**inputs[0], &**inputs[1]) else {
            return Err(wrong());
        };
        let fits = k == window.kernel.1
            && Some(c) == per_group.checked_mul(groups)
            && o.is_multiple_of(groups)
            && inputs.get(2).is_none_or(|b| ***b == [o]);
        match window.output((1, length)) {
            Some((1, out)) if fits => {
                counted("conv1d", &window, (c, (1, out)), Shape::new(&[n, o, out])?)
            }
            _ => Err(wrong()),
        }
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let images = raised(inputs[0].shape())?;
        let sizes = sizes(&self.0, &images, inputs[1].shape()[0])?;
        for_float!(inputs[0].dtype(), T => {
            let bias = inputs.get(2).map(CpuView::slice::<T>);
            conv::forward::<T>(&sizes, inputs[0].slice(), inputs[1].slice(), bias, out.slice_mut());
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let images = raised(inputs[0].shape())?;
        let sizes = sizes(&self.0, &images, inputs[1].shape()[0])?;
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
        let image = |v: &Var| v.reshape(raised(v.shape())?);
        let (x, w) = (&at.inputs[0], &at.inputs[1]);
        let g = image(at.grad)?;
        let d_x = at.want(0, || {
            input_gradient(self.0, &raised(x.shape())?, &g, &image(w)?)?.reshape(x.shape())
        })?;
        let d_w = at.want(1, || weight_gradient(self.0, &image(x)?, &g)?.reshape(w.shape()))?;
        let mut all = vec![d_x, d_w];
        if at.inputs.len() > 2 {
            all.push(at.want(2, || at.grad.sum(&[0, 2]))?);
        }
        Ok(all)
    }

    fn layer(&self) -> Option<Layer> {
        Some(Layer::Conv2d(self.0))
    }
}

/// `[a, b, L]` as `[a, b, 1, L]`.
fn raised(line: &[usize]) -> Result<Shape> {
    match line {
        [a, b, length] => Shape::new(&[*a, *b, 1, *length]),
        _ => Err(Error::shape("conv1d", "three axes", &[])),
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "conv1d",
    samples: || {
        let sample = |x: [usize; 3], w: [usize; 3], bias: bool, window: Window, groups| {
            let mut inputs = vec![sample_input(x), sample_input(w)];
            inputs.extend(bias.then(|| sample_input([w[0]])));
            let geometry = Geometry { window, groups };
            Sample::new(inputs, move |x| x[0].conv1d(&x[1], x.get(2), geometry))
        };
        let window = |kernel, stride, padding, dilation| Window {
            kernel: (1, kernel),
            stride: (1, stride),
            padding: (0, padding),
            dilation: (1, dilation),
        };
        vec![
            sample([2, 2, 5], [3, 2, 3], true, window(3, 1, 1, 1), 1),
            sample([1, 4, 7], [2, 2, 2], false, window(2, 2, 1, 2), 2),
            sample([2, 3, 4], [3, 1, 3], true, window(3, 1, 0, 1), 3),
            sample([0, 1, 3], [2, 1, 1], true, window(1, 1, 0, 1), 1),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn it_is_conv2d_of_images_one_pixel_high() {
        let window = Window { padding: (0, 2), stride: (1, 2), ..Window::new((1, 3)) };
        let geometry = Geometry { window, groups: 2 };
        let (x, w, b) = (sample_input([2, 4, 7]), sample_input([6, 2, 3]), sample_input([6]));
        let y = x.conv1d(&w, Some(&b), geometry).unwrap();
        let (x, w) = (x.reshape([2, 4, 1, 7]).unwrap(), w.reshape([6, 2, 1, 3]).unwrap());
        let image = x.conv2d(&w, Some(&b), geometry).unwrap();
        assert_eq!(y.to_vec::<f64>().unwrap(), image.to_vec::<f64>().unwrap());
    }

    #[test]
    fn what_does_not_fit_is_a_typed_error() {
        let zeros = |shape: &[usize]| Tensor::zeros(Shape::new(shape).unwrap(), DType::F32);
        let geometry = |window| Geometry { window, groups: 1 };
        let flat = Window::new((1, 3));
        let shape = |x: &[usize], w: &[usize]| {
            let got = zeros(x).conv1d(&zeros(w), None, geometry(flat));
            assert!(matches!(got, Err(Error::Shape { op: "conv1d", .. })), "{got:?}");
        };
        shape(&[1, 2, 5], &[4, 3, 3]);
        shape(&[1, 2, 5], &[4, 2, 2]);
        shape(&[1, 2, 2], &[4, 2, 3]);
        shape(&[1, 2, 1, 5], &[4, 2, 1, 3]);
        for window in [Window::new((3, 1)), Window { padding: (1, 0), ..flat }] {
            let got = zeros(&[1, 2, 5]).conv1d(&zeros(&[4, 2, 3]), None, geometry(window));
            assert!(matches!(got, Err(Error::Argument { op: "conv1d", name: "window", .. })));
        }
        let still = geometry(Window { stride: (1, 0), ..flat });
        let got = zeros(&[1, 2, 5]).conv1d(&zeros(&[4, 2, 3]), None, still);
        assert!(matches!(got, Err(Error::Argument { op: "conv1d", name: "stride", .. })));
    }
}
