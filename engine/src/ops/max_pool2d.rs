//! max_pool2d: y = the maximum under each window.   dx = g, added where each maximum was.
//!
//! Where the maxima are does not change when x moves a little. So the gradient is a fixed linear
//! map of g, `Scatter`, and its adjoint, `Pick`, is the gradient of that.

use kernels::pooling;

use crate::op::{Keeps, Op, Saved, Site, same_float, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{DType, Error, FloatElement, OpSpec, Result, Sample, Shape, Window, for_float};

#[derive(Debug)]
struct MaxPool2d(Window);

impl<H: History> Tensor<H> {
    /// The maximum under each window; padding is never a maximum. Of equal maxima the first in
    /// row-major order counts, and a NaN counts more than any number. A dilated window may miss a
    /// small image altogether: its maximum is −∞.
    ///
    /// # Shape
    /// x: `[.., H, W]` · result: `[.., OH, OW]`
    ///
    /// # Errors
    /// [`Error::Argument`] for a kernel, stride or dilation of 0 or padding of more than half the
    /// kernel; [`Error::Shape`] when the window does not fit.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{Tensor, Window};
    /// let x = Tensor::from_slice(&[1.0_f32, 4.0, 2.0, 3.0], [1, 4])?;
    /// let window = Window { stride: (1, 2), ..Window::new((1, 2)) };
    /// assert_eq!(x.max_pool2d(window)?.to_vec::<f32>()?, [4.0, 3.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn max_pool2d(&self, window: Window) -> Result<Self> {
        H::apply(MaxPool2d(window), &[self])
    }
}

impl Op for MaxPool2d {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        check_window("max_pool2d", &self.0)?;
        let output = pooled("max_pool2d", inputs[0], |image| self.0.output(image))?;
        let (_, oh, ow) = planes(&output);
        counted("max_pool2d", &self.0, (1, (oh, ow)), output)
    }

    /// Saves where each maximum was, as an index into its plane.
    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let (n, h, w) = planes(inputs[0].shape());
        let mut places = CpuStorage::unspecified(DType::I64, out.len());
        for_float!(inputs[0].dtype(), T => {
            let (x, places) = (inputs[0].slice::<T>(), places.slice_mut());
            pooling::max_pool(x, n, h, w, &self.0, out.slice_mut(), places);
        });
        Ok(vec![Tensor::from_cpu(places, self.shape(&[&Shape::new(inputs[0].shape())?])?)])
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let shape = Shape::new(inputs[0].shape())?;
        let output = self.shape(&[&shape])?;
        max_pool(pool(&shape, &output, Some(self.0)), &inputs[0], output, out)
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        scatter(at)
    }
}

/// The gradient of a pooled maximum whose places were saved.
pub(super) fn scatter(at: &Site<'_>) -> Result<Vec<Option<Var>>> {
    let [places] = at.saved else { return Ok(Vec::new()) };
    let op = Scatter { image: *at.inputs[0].shape() };
    Ok(vec![Some(Var::apply_op(op, &[at.grad, &Var::constant(places)])?)])
}

/// Every number added into the plane at its place. Inputs g, places.
#[derive(Debug)]
struct Scatter {
    image: Shape,
}

impl Op for Scatter {
    fn name(&self) -> &'static str {
        "max_pool2d_scatter"
    }

    fn shape(&self, _inputs: &[&Shape]) -> Result<Shape> {
        Ok(self.image)
    }

    fn dtype(&self, inputs: &[DType]) -> Result<DType> {
        same_float(self.name(), &inputs[..1])
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let (n, h, w) = planes(&self.image);
        let (_, oh, ow) = planes(inputs[0].shape());
        for_float!(inputs[0].dtype(), T => {
            let (g, places) = (inputs[0].slice::<T>(), inputs[1].slice());
            pooling::max_pool_backward(g, places, n, h * w, oh * ow, out.slice_mut());
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (n, h, w) = planes(&self.image);
        let (_, oh, ow) = planes(inputs[0].shape());
        let (sizes, d_x) = ((n, h * w, oh * ow), out.slice_mut());
        let (g, places) = (inputs[0].slice(), inputs[1].slice());
        kernels::cuda::pooling::scatter(inputs[0].gpu(), sizes, g, places, &d_x)?;
        Ok(Saved::new())
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        Ok(vec![at.want(0, || Var::apply_op(Pick, &[at.grad, &at.inputs[1]]))?, None])
    }
}

/// The number at every place of the plane. Inputs x, places.
#[derive(Debug)]
struct Pick;

impl Op for Pick {
    fn name(&self) -> &'static str {
        "max_pool2d_pick"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(*inputs[1])
    }

    fn dtype(&self, inputs: &[DType]) -> Result<DType> {
        same_float(self.name(), &inputs[..1])
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let (_, h, w) = planes(inputs[0].shape());
        let (_, oh, ow) = planes(inputs[1].shape());
        for_float!(inputs[0].dtype(), T => {
            pick::<T>(inputs[0].slice(), h * w, inputs[1].slice(), oh * ow, out.slice_mut());
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (_, h, w) = planes(inputs[0].shape());
        let (_, oh, ow) = planes(inputs[1].shape());
        let (x, places) = (inputs[0].slice(), inputs[1].slice());
        kernels::cuda::pooling::pick(inputs[0].gpu(), (h * w, oh * ow), x, places, &out.slice_mut())?;
        Ok(Saved::new())
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let op = Scatter { image: *at.inputs[0].shape() };
        Ok(vec![at.want(0, || Var::apply_op(op, &[at.grad, &at.inputs[1]]))?, None])
    }
}

/// out\[plane, i\] = x\[plane, places\[plane, i\]\], and 0 where a window saw nothing (place −1).
fn pick<T: FloatElement>(x: &[T], pixels: usize, places: &[i64], outputs: usize, out: &mut [T]) {
    for (i, (out, &place)) in out.iter_mut().zip(places).enumerate() {
        *out = match usize::try_from(place) {
            Ok(place) => x[i / outputs * pixels + place],
            Err(_) => T::ZERO,
        };
    }
}

/// How planes of one shape are pooled to another: by a window, or into cells.
#[cfg(feature = "cuda")]
pub(super) fn pool(
    x: &Shape,
    y: &Shape,
    window: Option<Window>,
) -> kernels::cuda::pooling::Pool {
    let ((n, h, w), (_, oh, ow)) = (planes(x), planes(y));
    kernels::cuda::pooling::Pool { planes: n, input: (h, w), output: (oh, ow), window }
}

/// The maxima, and saves where in its plane each one is.
#[cfg(feature = "cuda")]
pub(super) fn max_pool(
    pool: kernels::cuda::pooling::Pool,
    x: &CudaView<'_>,
    output: Shape,
    out: &mut CudaStorage,
) -> Result<Saved> {
    let mut places = CudaStorage::unspecified(x.gpu(), DType::I64, out.len())?;
    let (y, at) = (out.slice_mut(), places.slice_mut());
    kernels::cuda::pooling::max(x.gpu(), &pool, x.slice(), &y, &at)?;
    Ok(vec![Tensor::from_cuda(places, output)])
}

/// The number of planes, their height and their width.
pub(super) fn planes(shape: &[usize]) -> (usize, usize, usize) {
    match shape {
        [leading @ .., h, w] => (leading.iter().product(), *h, *w),
        _ => (0, 0, 0),
    }
}

/// The shape of pooled planes, given the rule for one plane's size.
pub(super) fn pooled(
    op: &'static str,
    x: &Shape,
    size: impl Fn((usize, usize)) -> Option<(usize, usize)>,
) -> Result<Shape> {
    let output = match **x {
        [.., h, w] if h > 0 && w > 0 => size((h, w)),
        _ => None,
    };
    let Some((oh, ow)) = output else {
        return Err(Error::shape(op, "[.., H, W], not empty, that the window fits on", &[x]));
    };
    let leading = &x[..x.rank() - 2];
    Shape::new(&[leading, &[oh, ow]].concat())
}

/// An op's output, unless the window's taps at all of its places, in so many channels, are more than a number counts.
///
/// # Errors
/// [`Error::Argument`], for an output that no tensor can be, too.
pub(super) fn counted(
    op: &'static str,
    window: &Window,
    (channels, places): (usize, (usize, usize)),
    output: Shape,
) -> Result<Shape> {
    let output = output.checked(op)?;
    if window.taps(channels, places).is_some() {
        return Ok(output);
    }
    let expected = "a window whose taps at all places of an image are below 2^63";
    let got = format!("{window:?} at {} × {} places, {channels} channels", places.0, places.1);
    Err(Error::Argument { op, name: "window", expected, got })
}

/// The options of a window that no image can make right.
pub(super) fn check_window(op: &'static str, window: &Window) -> Result<()> {
    let Window { kernel, stride, padding, dilation } = *window;
    let wrong = |name, expected, pair: (usize, usize)| {
        Err(Error::Argument { op, name, expected, got: format!("{pair:?}") })
    };
    let zero = |pair: (usize, usize)| pair.0 == 0 || pair.1 == 0;
    match [("kernel", kernel), ("stride", stride), ("dilation", dilation)]
        .into_iter()
        .find(|&(_, pair)| zero(pair))
    {
        Some((name, pair)) => wrong(name, "at least 1", pair),
        None if padding.0 > kernel.0 / 2 || padding.1 > kernel.1 / 2 => {
            wrong("padding", "at most half the kernel", padding)
        }
        None => Ok(()),
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "max_pool2d",
    samples: || {
        let sample = |x: Shape, window: Window| {
            Sample::new(vec![sample_input(x)], move |x| x[0].max_pool2d(window))
        };
        let odd = Window { kernel: (3, 2), stride: (2, 1), padding: (1, 1), dilation: (1, 2) };
        vec![
            sample([2, 2, 4, 4].into(), Window { stride: (2, 2), ..Window::new((2, 2)) }),
            sample([2, 1, 5, 4].into(), odd),
            sample([3, 4].into(), Window::new((2, 2))),
            sample([0, 2, 3, 3].into(), Window::new((2, 2))),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tape;

    #[test]
    fn windows_that_no_image_fits_and_images_that_a_window_does_not_fit_are_typed_errors() {
        let x = Tensor::zeros([1, 1, 3, 3], DType::F32);
        let two = Window::new((2, 2));
        for (window, option) in [
            (Window { kernel: (0, 2), ..two }, "kernel"),
            (Window { stride: (1, 0), ..two }, "stride"),
            (Window { dilation: (0, 1), ..two }, "dilation"),
            (Window { padding: (2, 0), ..two }, "padding"),
        ] {
            for result in [x.max_pool2d(window), x.avg_pool2d(window, true)] {
                assert!(matches!(result, Err(Error::Argument { name, .. }) if name == option));
            }
        }
        let row = Tensor::zeros([3], DType::F32);
        let empty = Tensor::zeros([1, 0, 3], DType::F32);
        let padded = Window { padding: (1, 1), ..two };
        for (x, window) in [(&x, Window::new((4, 1))), (&row, two), (&empty, padded)] {
            for result in [x.max_pool2d(window), x.avg_pool2d(window, true)] {
                assert!(matches!(result, Err(Error::Shape { .. })));
            }
        }
    }

    #[test]
    fn the_first_of_equal_maxima_gets_the_whole_gradient() {
        let tape = Tape::new();
        let x = tape.watch(Tensor::ones([1, 3], DType::F64));
        let loss = x.max_pool2d(Window::new((1, 2))).unwrap().sum_all().unwrap();
        let grads = tape.backward(&loss).unwrap();
        assert_eq!(grads.of_var(&x).unwrap().to_vec::<f64>().unwrap(), [1.0, 1.0, 0.0]);
    }

    #[test]
    fn a_window_that_misses_the_image_gives_minus_infinity_and_no_gradient() {
        let window = Window { dilation: (1, 3), padding: (0, 1), ..Window::new((1, 2)) };
        let tape = Tape::new();
        let x = tape.watch(Tensor::ones([1, 2], DType::F64));
        let y = x.max_pool2d(window).unwrap();
        assert_eq!(y.to_vec::<f64>().unwrap(), [f64::NEG_INFINITY]);
        let grads = tape.backward(&y.sum_all().unwrap()).unwrap();
        assert_eq!(grads.of_var(&x).unwrap().to_vec::<f64>().unwrap(), [0.0, 0.0]);
    }
}
