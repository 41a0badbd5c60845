//! adaptive_max_pool2d: y = the maximum of each of OH × OW cells.   dx = g, added where each
//! maximum was: as in `max_pool2d.rs`.

use kernels::pooling;

use super::adaptive_avg_pool2d::cells;
#[cfg(feature = "cuda")]
use super::max_pool2d::{max_pool, pool};
use super::max_pool2d::{planes, scatter};
use crate::op::{Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{DType, OpSpec, Result, Sample, Shape, for_float};

#[derive(Debug)]
struct AdaptiveMaxPool2d((usize, usize));

impl<H: History> Tensor<H> {
    /// The maximum of each of OH × OW cells that cover the image; cell i covers the rows
    /// ⌊i·H/OH⌋ .. ⌈(i+1)·H/OH⌉, as in PyTorch.
    ///
    /// # Shape
    /// x: `[.., H, W]` · result: `[.., OH, OW]`
    ///
    /// # Errors
    /// As [`Tensor::adaptive_avg_pool2d`].
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1.0_f32, 5.0, 3.0], [1, 3])?;
    /// assert_eq!(x.adaptive_max_pool2d((1, 1))?.item()?, 5.0);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn adaptive_max_pool2d(&self, size: (usize, usize)) -> Result<Self> {
        H::apply(AdaptiveMaxPool2d(size), &[self])
    }
}

impl Op for AdaptiveMaxPool2d {
    fn name(&self) -> &'static str {
        "adaptive_max_pool2d"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        cells("adaptive_max_pool2d", inputs[0], self.0)
    }

    /// Saves where each maximum was, as an index into its plane.
    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let (n, h, w) = planes(inputs[0].shape());
        let (oh, ow) = self.0;
        let mut places = CpuStorage::unspecified(DType::I64, out.len());
        for_float!(inputs[0].dtype(), T => {
            let (x, places) = (inputs[0].slice::<T>(), places.slice_mut());
            pooling::adaptive_max_pool(x, n, h, w, oh, ow, out.slice_mut(), places);
        });
        Ok(vec![Tensor::from_cpu(places, self.shape(&[&Shape::new(inputs[0].shape())?])?)])
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let shape = Shape::new(inputs[0].shape())?;
        let output = self.shape(&[&shape])?;
        max_pool(pool(&shape, &output, None), &inputs[0], output, out)
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        scatter(at)
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "adaptive_max_pool2d",
    samples: || {
        let sample = |x: Shape, size| {
            let call = move |x: &[Var]| x[0].adaptive_max_pool2d(size);
            Sample::new(vec![sample_input(x)], call)
        };
        vec![
            sample([2, 2, 4, 5].into(), (2, 3)),
            sample([2, 3].into(), (3, 1)),
            sample([1, 2, 2].into(), (3, 3)),
            sample([0, 2, 3, 3].into(), (1, 1)),
        ]
    },
};
