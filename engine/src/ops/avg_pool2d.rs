//! avg_pool2d: y = the average under each window.   Linear, so dx is the adjoint: every pixel under
//! a window gets its share of that window's g. Map and adjoint are each other's gradients.

use kernels::pooling;

#[cfg(feature = "cuda")]
use super::max_pool2d::pool;
use super::max_pool2d::{check_window, counted, planes, pooled};
use crate::op::{Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{OpSpec, Result, Sample, Shape, Window, for_float};

#[derive(Debug, Clone, Copy)]
struct AvgPool2d {
    window: Window,
    count_include_pad: bool,
}

impl<H: History> Tensor<H> {
    /// The average under each window. Padding counts as zeros if `count_include_pad` (PyTorch's
    /// default), and not at all otherwise.
    ///
    /// # Shape
    /// x: `[.., H, W]` · result: `[.., OH, OW]`
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) for a kernel, stride or dilation of 0 or padding
    /// of more than half the kernel; [`Error::Shape`](crate::Error::Shape) when the window does not
    /// fit.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{Tensor, Window};
    /// let x = Tensor::from_slice(&[2.0_f32, 6.0], [1, 2])?;
    /// let window = Window { padding: (0, 1), ..Window::new((1, 2)) };
    /// assert_eq!(x.avg_pool2d(window, true)?.to_vec::<f32>()?, [1.0, 4.0, 3.0]);
    /// assert_eq!(x.avg_pool2d(window, false)?.to_vec::<f32>()?, [2.0, 4.0, 6.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn avg_pool2d(&self, window: Window, count_include_pad: bool) -> Result<Self> {
        H::apply(AvgPool2d { window, count_include_pad }, &[self])
    }
}

impl Op for AvgPool2d {
    fn name(&self) -> &'static str {
        "avg_pool2d"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        check_window("avg_pool2d", &self.window)?;
        let output = pooled("avg_pool2d", inputs[0], |image| self.window.output(image))?;
        let (_, oh, ow) = planes(&output);
        counted("avg_pool2d", &self.window, (1, (oh, ow)), output)
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let (n, h, w) = planes(inputs[0].shape());
        for_float!(inputs[0].dtype(), T => {
            let x = inputs[0].slice::<T>();
            pooling::avg_pool(x, n, h, w, &self.window, self.count_include_pad, out.slice_mut());
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let shape = Shape::new(inputs[0].shape())?;
        let pool = pool(&shape, &self.shape(&[&shape])?, Some(self.window));
        let (x, all) = (inputs[0].slice(), self.count_include_pad);
        kernels::cuda::pooling::avg(inputs[0].gpu(), &pool, all, x, &out.slice_mut())?;
        Ok(Saved::new())
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let adjoint = Adjoint { pool: *self, image: *at.inputs[0].shape() };
        Ok(vec![Some(Var::apply_op(adjoint, &[at.grad])?)])
    }
}

#[derive(Debug)]
struct Adjoint {
    pool: AvgPool2d,
    image: Shape,
}

impl Op for Adjoint {
    fn name(&self) -> &'static str {
        "avg_pool2d_adjoint"
    }

    fn shape(&self, _inputs: &[&Shape]) -> Result<Shape> {
        Ok(self.image)
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let (n, h, w) = planes(&self.image);
        let AvgPool2d { window, count_include_pad } = self.pool;
        for_float!(inputs[0].dtype(), T => {
            let g = inputs[0].slice::<T>();
            pooling::avg_pool_backward(g, n, h, w, &window, count_include_pad, out.slice_mut());
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let pooled = Shape::new(inputs[0].shape())?;
        let pool = pool(&self.image, &pooled, Some(self.pool.window));
        let (g, all) = (inputs[0].slice(), self.pool.count_include_pad);
        kernels::cuda::pooling::avg_backward(inputs[0].gpu(), &pool, all, g, &out.slice_mut())?;
        Ok(Saved::new())
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        Ok(vec![Some(Var::apply_op(self.pool, &[at.grad])?)])
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "avg_pool2d",
    samples: || {
        let sample = |x: Shape, window: Window, count_include_pad| {
            let call = move |x: &[Var]| x[0].avg_pool2d(window, count_include_pad);
            Sample::new(vec![sample_input(x)], call)
        };
        let odd = Window { kernel: (3, 2), stride: (2, 1), padding: (1, 1), dilation: (1, 2) };
        vec![
            sample([2, 2, 4, 4].into(), Window { stride: (2, 2), ..Window::new((2, 2)) }, true),
            sample([2, 1, 5, 4].into(), odd, true),
            sample([2, 1, 5, 4].into(), odd, false),
            sample([3, 3].into(), Window::new((1, 2)), false),
            sample([0, 2, 3, 3].into(), Window::new((2, 2)), true),
        ]
    },
};
