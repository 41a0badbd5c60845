//! conv_transpose2d: y = the adjoint of u ↦ u ⋆ W, at x, + b.   The trilinear form of `conv2d.rs` with
//! x in the place of its output: d_x = g ⋆ W, dW the correlation of g and x. db = Σ g.

use kernels::conv;

use super::max_pool2d::counted;
use super::conv2d::{check_geometry, sizes, weight_gradient};
use crate::op::{Halves, Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tape::{Geometry, Layer};
use crate::tensor::{History, Tensor, Var};
use crate::{Error, FloatElement, OpSpec, Result, Sample, Shape, Window, for_float};

#[derive(Debug, Clone, Copy)]
struct ConvTranspose2d {
    geometry: Geometry,
    /// Rows and columns that no position of the window begins: strides round down.
    output_padding: (usize, usize),
}

impl<H: History> Tensor<H> {
    /// Transposed two-dimensional convolution: every pixel of x, times the kernel, is added to a patch
    /// of the result. It is the gradient of [`Tensor::conv2d`] with respect to its input, and takes the
    /// weight of that convolution, from O channels to C.
    ///
    /// # Shape
    /// x: `[N, C, H, W]` · weight: `[C, O/groups, KH, KW]` · bias: `[O]` · result: `[N, O, OH, OW]` with
    /// OH = (H − 1)·stride − 2·padding + dilation·(KH − 1) + 1 + output_padding
    ///
    /// # Errors
    /// [`Error::Argument`] for a kernel, stride, dilation or number of groups of 0, or an output padding
    /// that a convolution with this window would not round away; [`Error::Shape`] when the tensors do
    /// not fit.
    ///
    /// # Source
    /// Zeiler et al. 2010; the convention is PyTorch's.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{Geometry, Tensor, Window};
    /// let x = Tensor::from_slice(&[1.0_f32, 10.0], [1, 1, 1, 2])?;
    /// let w = Tensor::from_slice(&[1.0_f32, 2.0], [1, 1, 1, 2])?;
    /// let geometry = Geometry { window: Window::new((1, 2)), groups: 1 };
    /// let y = x.conv_transpose2d(&w, None, geometry, (0, 0))?;
    /// assert_eq!(y.to_vec::<f32>()?, [1.0, 12.0, 20.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn conv_transpose2d(
        &self,
        weight: &Self,
        bias: Option<&Self>,
        geometry: Geometry,
        output_padding: (usize, usize),
    ) -> Result<Self> {
        let op = ConvTranspose2d { geometry, output_padding };
        match bias {
            Some(bias) => H::apply(op, &[self, weight, bias]),
            None => H::apply(op, &[self, weight]),
        }
    }
}

impl Op for ConvTranspose2d {
    fn name(&self) -> &'static str {
        "conv_transpose2d"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        check_geometry("conv_transpose2d", &self.geometry)?;
        let Geometry { window, groups } = self.geometry;
        let wrong = || Error::shape("conv_transpose2d", self.expected(), inputs);
        let (&[n, c, h, w], &[from, per_group, kh, kw]) = (&**inputs[0], &**inputs[1]) else {
            return Err(wrong());
        };
        let o = per_group.checked_mul(groups).ok_or_else(wrong)?;
        let fits = (kh, kw) == window.kernel
            && c == from
            && c.is_multiple_of(groups)
            && h * w > 0
            && inputs.get(2).is_none_or(|b| ***b == [o]);
        if !fits {
            return Err(wrong());
        }
        let image = self.image((h, w)).ok_or_else(wrong)?;
        if window.output(image) != Some((h, w)) {
            let (name, expected) = ("output_padding", "less than the stride");
            let got = format!("{:?}", self.output_padding);
            return Err(Error::Argument { op: "conv_transpose2d", name, expected, got });
        }
        let output = Shape::new(&[n, o, image.0, image.1])?;
        counted("conv_transpose2d", &window, (o, (h, w)), output)
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        for_float!(inputs[0].dtype(), T => self.forward::<T>(inputs, out.slice_mut()))?;
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (x, w) = (inputs[0].shape(), inputs[1].shape());
        let channels = w[1] * self.geometry.groups;
        let Some((height, width)) = self.image((x[2], x[3])) else { return Ok(Saved::new()) };
        let sizes = sizes(&self.geometry, &[x[0], channels, height, width], x[1])?;
        let (gpu, y) = (inputs[0].gpu(), out.slice_mut());
        let (x, w) = (inputs[0].slice(), inputs[1].slice());
        let bias = inputs.get(2).map(CudaView::slice);
        kernels::cuda::conv::backward_input(gpu, &sizes, x, w, bias, &y)?;
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
        let d_x = at.want(0, || at.grad.conv2d(w, None, self.geometry))?;
        let d_w = at.want(1, || weight_gradient(self.geometry, at.grad, x))?;
        let mut all = vec![d_x, d_w];
        if at.inputs.len() > 2 {
            all.push(at.want(2, || at.grad.sum(&[0, 2, 3]))?);
        }
        Ok(all)
    }

    fn layer(&self) -> Option<Layer> {
        Some(Layer::ConvTranspose2d(self.geometry))
    }
}

impl ConvTranspose2d {
    /// The size of the result; `None` if the padding leaves nothing of it.
    fn image(&self, (h, w): (usize, usize)) -> Option<(usize, usize)> {
        let Window { kernel, stride, padding, dilation } = self.geometry.window;
        let along =
            |n: usize, kernel: usize, stride: usize, padding: usize, dilation: usize, more| {
                let span =
                    (n - 1).checked_mul(stride)?.checked_add(dilation.checked_mul(kernel - 1)?)?;
                let whole = span.checked_add(1)?.checked_add(more)?;
                whole.checked_sub(padding.checked_mul(2)?).filter(|&n| n > 0)
            };
        let (more_h, more_w) = self.output_padding;
        let height = along(h, kernel.0, stride.0, padding.0, dilation.0, more_h)?;
        Some((height, along(w, kernel.1, stride.1, padding.1, dilation.1, more_w)?))
    }

    fn expected(&self) -> String {
        let Geometry { window: Window { kernel, .. }, groups } = self.geometry;
        format!(
            "x [N, C, H, W] with pixels, weight [C, O/{groups}, {}, {}], bias [O], C a multiple of \
             {groups}, and a result that the padding leaves something of",
            kernel.0, kernel.1
        )
    }

    fn forward<T: FloatElement>(&self, inputs: &[CpuView<'_>], out: &mut [T]) -> Result<()> {
        let (x, w) = (inputs[0].shape(), inputs[1].shape());
        let channels = w[1] * self.geometry.groups;
        let Some((height, width)) = self.image((x[2], x[3])) else {
            return Ok(());
        };
        let sizes = sizes(&self.geometry, &[x[0], channels, height, width], x[1])?;
        conv::backward_input::<T>(&sizes, inputs[0].slice(), inputs[1].slice(), out);
        if let Some(bias) = inputs.get(2).map(CpuView::slice::<T>) {
            let pixels = height * width;
            kernels::parallel::rows(out, pixels, pixels, |plane, out| {
                let bias = bias[plane % channels];
                out.iter_mut().for_each(|y| *y += bias);
            });
        }
        Ok(())
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "conv_transpose2d",
    samples: || {
        let sample = |x: [usize; 4], w: [usize; 4], bias: bool, window: Window, groups, more| {
            let mut inputs = vec![sample_input(x), sample_input(w)];
            inputs.extend(bias.then(|| sample_input([w[1] * groups])));
            let geometry = Geometry { window, groups };
            Sample::new(inputs, move |x| x[0].conv_transpose2d(&x[1], x.get(2), geometry, more))
        };
        let plain = Window::new;
        let strided = Window { stride: (2, 3), padding: (1, 0), ..plain((3, 2)) };
        let dilated = Window { stride: (2, 1), padding: (1, 1), dilation: (1, 2), ..plain((2, 2)) };
        vec![
            sample([2, 3, 2, 3], [3, 2, 2, 2], true, plain((2, 2)), 1, (0, 0)),
            sample([1, 2, 3, 2], [2, 1, 3, 2], true, strided, 1, (1, 2)),
            sample([2, 4, 2, 3], [4, 1, 2, 2], false, dilated, 2, (1, 0)),
            sample([1, 2, 2, 2], [2, 1, 3, 3], true, plain((3, 3)), 2, (0, 0)),
            sample([0, 2, 2, 2], [2, 3, 2, 2], true, plain((2, 2)), 1, (0, 0)),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    /// ⟨u ⋆ W, x⟩ = ⟨u, x ⋆ᵀ W⟩ for every u.
    #[test]
    fn it_is_the_adjoint_of_conv2d() {
        let window = Window { stride: (2, 2), padding: (1, 0), ..Window::new((3, 2)) };
        let geometry = Geometry { window, groups: 2 };
        let (u, w, x) =
            (sample_input([2, 6, 6, 5]), sample_input([4, 3, 3, 2]), sample_input([2, 4, 3, 2]));
        let there = u.conv2d(&w, None, geometry).unwrap();
        let back = x.conv_transpose2d(&w, None, geometry, (1, 1)).unwrap();
        assert_eq!((there.shape(), back.shape()), (x.shape(), u.shape()));
        let dot = |a: &Tensor, b: &Tensor| a.mul(b).unwrap().sum_all().unwrap().item().unwrap();
        assert!((dot(&there, &x) - dot(&u, &back)).abs() < 1e-11);
    }

    #[test]
    fn what_does_not_fit_is_a_typed_error() {
        let zeros = |shape: &[usize]| Tensor::zeros(Shape::new(shape).unwrap(), DType::F32);
        let geometry = |window| Geometry { window, groups: 2 };
        let window = Window::new((2, 2));
        let (x, w) = (zeros(&[1, 4, 3, 3]), zeros(&[4, 1, 2, 2]));
        let shape = |x: &Tensor, w: &Tensor, bias: Option<&Tensor>, window| {
            let got = x.conv_transpose2d(w, bias, geometry(window), (0, 0));
            assert!(matches!(got, Err(Error::Shape { op: "conv_transpose2d", .. })), "{got:?}");
        };
        shape(&x, &zeros(&[3, 1, 2, 2]), None, window);
        shape(&x, &zeros(&[4, 1, 2, 3]), None, window);
        shape(&x, &w, Some(&zeros(&[4])), window); // O = 2
        shape(&zeros(&[1, 3, 3, 3]), &zeros(&[3, 1, 2, 2]), None, window); // C is odd
        shape(&zeros(&[1, 4, 0, 3]), &w, None, window);
        shape(&x, &w, None, Window { padding: (2, 2), ..window }); // nothing is left
        let more = x.conv_transpose2d(&w, None, geometry(window), (1, 0));
        assert!(matches!(more, Err(Error::Argument { name: "output_padding", .. })));
        let none = x.conv_transpose2d(&w, None, Geometry { groups: 0, window }, (0, 0));
        assert!(matches!(
            none,
            Err(Error::Argument { op: "conv_transpose2d", name: "groups", .. })
        ));
    }
}
