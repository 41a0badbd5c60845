//! adaptive_avg_pool2d: y = the average of each of OH × OW cells.   Linear, so dx is the adjoint:
//! every pixel of a cell gets an equal share of its g. Map and adjoint are each other's gradients.

use kernels::pooling;

#[cfg(feature = "cuda")]
use super::max_pool2d::pool;
use super::max_pool2d::{planes, pooled};
use crate::op::{Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{Error, OpSpec, Result, Sample, Shape, for_float};

#[derive(Debug, Clone, Copy)]
struct AdaptiveAvgPool2d((usize, usize));

impl<H: History> Tensor<H> {
    /// The average of each of OH × OW cells that cover the image; cell i covers the rows
    /// ⌊i·H/OH⌋ .. ⌈(i+1)·H/OH⌉, as in PyTorch.
    ///
    /// # Shape
    /// x: `[.., H, W]` · result: `[.., OH, OW]`
    ///
    /// # Errors
    /// [`Error::Argument`] for no cells, [`Error::Shape`] for an image without pixels.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1.0_f32, 3.0, 5.0], [1, 3])?;
    /// // Three pixels in two cells: the middle one is in both.
    /// assert_eq!(x.adaptive_avg_pool2d((1, 2))?.to_vec::<f32>()?, [2.0, 4.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn adaptive_avg_pool2d(&self, size: (usize, usize)) -> Result<Self> {
        H::apply(AdaptiveAvgPool2d(size), &[self])
    }
}

impl Op for AdaptiveAvgPool2d {
    fn name(&self) -> &'static str {
        "adaptive_avg_pool2d"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        cells("adaptive_avg_pool2d", inputs[0], self.0)
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let ((n, h, w), (oh, ow)) = (planes(inputs[0].shape()), self.0);
        for_float!(inputs[0].dtype(), T => {
            pooling::adaptive_avg_pool(inputs[0].slice::<T>(), n, h, w, oh, ow, out.slice_mut());
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let shape = Shape::new(inputs[0].shape())?;
        let pool = pool(&shape, &self.shape(&[&shape])?, None);
        let x = inputs[0].slice();
        kernels::cuda::pooling::avg(inputs[0].gpu(), &pool, true, x, &out.slice_mut())?;
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
    pool: AdaptiveAvgPool2d,
    image: Shape,
}

impl Op for Adjoint {
    fn name(&self) -> &'static str {
        "adaptive_avg_pool2d_adjoint"
    }

    fn shape(&self, _inputs: &[&Shape]) -> Result<Shape> {
        Ok(self.image)
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let ((n, h, w), (oh, ow)) = (planes(&self.image), self.pool.0);
        for_float!(inputs[0].dtype(), T => {
            let g = inputs[0].slice::<T>();
            pooling::adaptive_avg_pool_backward(g, n, h, w, oh, ow, out.slice_mut());
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let pool = pool(&self.image, &Shape::new(inputs[0].shape())?, None);
        let g = inputs[0].slice();
        kernels::cuda::pooling::avg_backward(inputs[0].gpu(), &pool, true, g, &out.slice_mut())?;
        Ok(Saved::new())
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        Ok(vec![Some(Var::apply_op(self.pool, &[at.grad])?)])
    }
}

/// The shape of images pooled into cells.
pub(super) fn cells(op: &'static str, x: &Shape, size: (usize, usize)) -> Result<Shape> {
    if size.0 == 0 || size.1 == 0 {
        let got = format!("{size:?}");
        return Err(Error::Argument { op, name: "size", expected: "at least 1", got });
    }
    // A cell begins at ⌊i·H/OH⌋ and ends at ⌈(i + 1)·H/OH⌉: these products have to be numbers.
    let counted = |cells: usize, pixels: usize| {
        isize::try_from(cells.checked_add(1)?.checked_mul(pixels)?).ok()
    };
    pooled(op, x, |(h, w)| counted(size.0, h).and(counted(size.1, w)).map(|_| size))
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "adaptive_avg_pool2d",
    samples: || {
        let sample = |x: Shape, size| {
            let call = move |x: &[Var]| x[0].adaptive_avg_pool2d(size);
            Sample::new(vec![sample_input(x)], call)
        };
        vec![
            sample([2, 2, 4, 5].into(), (2, 3)),
            sample([2, 3].into(), (3, 1)),
            sample([1, 2, 2].into(), (1, 1)),
            sample([0, 2, 3, 3].into(), (1, 1)),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn one_cell_is_the_mean_and_as_many_cells_as_pixels_are_the_image() {
        let x = sample_input([2, 3, 4]);
        let mean = x.adaptive_avg_pool2d((1, 1)).unwrap().to_f64_vec().unwrap();
        for (a, b) in mean.iter().zip(x.mean(&[1, 2]).unwrap().to_f64_vec().unwrap()) {
            assert!((a - b).abs() < 1e-14);
        }
        let same = x.adaptive_avg_pool2d((3, 4)).unwrap();
        assert_eq!(same.to_f64_vec().unwrap(), x.to_f64_vec().unwrap());
    }

    #[test]
    fn no_cells_and_no_pixels_are_typed_errors() {
        let zeros = |shape: [usize; 2]| Tensor::zeros(shape, DType::F32);
        let both = |x: &Tensor, size| [x.adaptive_avg_pool2d(size), x.adaptive_max_pool2d(size)];
        for result in both(&zeros([2, 2]), (0, 1)) {
            assert!(matches!(result, Err(Error::Argument { name: "size", .. })));
        }
        for result in both(&zeros([0, 2]), (1, 1)) {
            assert!(matches!(result, Err(Error::Shape { .. })));
        }
    }
}
