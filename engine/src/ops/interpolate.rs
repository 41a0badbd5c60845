//! interpolate: an image at another resolution, y = Aₕ x Aᵥᵀ.   dx = Aₕᵀ g Aᵥ: a linear map and its
//! adjoint, which are each other's gradients.

use kernels::interpolate::{Sampling, interpolate, interpolate_backward};

use crate::op::{Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{Error, OpSpec, Result, Sample, Shape, for_float};

/// How pixels of the result are made of those of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// The pixel in whose cell the result's cell begins.
    Nearest,
    /// The mean of the four around, by their distance.
    Bilinear {
        /// Whether the centres of the corners lie on each other; else their outer edges do.
        align_corners: bool,
    },
}

impl Interpolation {
    const fn sampling(self) -> Sampling {
        match self {
            Self::Nearest => Sampling::Nearest,
            Self::Bilinear { align_corners: false } => Sampling::Linear,
            Self::Bilinear { align_corners: true } => Sampling::LinearAligned,
        }
    }
}

/// From images of one size to another; the adjoint goes back.
#[derive(Debug, Clone, Copy)]
struct Resize {
    image: (usize, usize),
    result: (usize, usize),
    how: Interpolation,
    adjoint: bool,
}

impl<H: History> Tensor<H> {
    /// Images at another resolution, larger or smaller. Coordinates follow PyTorch's convention (no
    /// smoothing when an image gets smaller); nearest coordinates are computed in integers.
    ///
    /// # Shape
    /// x: `[N, C, H, W]` · result: `[N, C, size.0, size.1]`
    ///
    /// # Errors
    /// [`Error::Shape`] when the tensor has not four axes or its images no pixels; [`Error::Argument`]
    /// for a size of 0.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{Tensor, ops::interpolate::Interpolation};
    /// let x = Tensor::from_slice(&[0.0_f64, 4.0], [1, 1, 1, 2])?;
    /// let wide = |how| x.interpolate((1, 4), how)?.to_vec::<f64>();
    /// assert_eq!(wide(Interpolation::Nearest)?, [0.0, 0.0, 4.0, 4.0]);
    /// assert_eq!(wide(Interpolation::Bilinear { align_corners: false })?, [0.0, 1.0, 3.0, 4.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn interpolate(&self, size: (usize, usize), how: Interpolation) -> Result<Self> {
        if size.0 == 0 || size.1 == 0 {
            let got = format!("{size:?}");
            let expected = "at least 1 by 1";
            return Err(Error::Argument { op: "interpolate", name: "size", expected, got });
        }
        let [_, _, h, w] = **self.shape() else {
            return Err(Error::shape("interpolate", "[N, C, H, W]", &[self.shape()]));
        };
        H::apply(Resize { image: (h, w), result: size, how, adjoint: false }, &[self])
    }
}

impl Op for Resize {
    fn name(&self) -> &'static str {
        "interpolate"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        if self.image.0 == 0 || self.image.1 == 0 {
            return Err(Error::shape("interpolate", "images of at least one pixel", inputs));
        }
        let (h, w) = if self.adjoint { self.image } else { self.result };
        Shape::new(&[inputs[0][0], inputs[0][1], h, w])
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let sampling = self.how.sampling();
        for_float!(inputs[0].dtype(), T => {
            let rows = sampling.taps::<T>(self.image.0, self.result.0);
            let columns = sampling.taps::<T>(self.image.1, self.result.1);
            let x = inputs[0].slice();
            if self.adjoint {
                interpolate_backward(x, &rows, &columns, self.image, out.slice_mut());
            } else {
                interpolate(x, self.image, &rows, &columns, out.slice_mut());
            }
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        use kernels::cuda::interpolate::{backward, forward};
        let (gpu, x) = (inputs[0].gpu(), inputs[0].slice());
        let map = if self.adjoint { backward } else { forward };
        map(gpu, self.how.sampling(), [self.image, self.result], x, &out.slice_mut())?;
        Ok(Saved::new())
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let back = Self { adjoint: !self.adjoint, ..*self };
        Ok(vec![Some(Var::apply_op(back, &[at.grad])?)])
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "interpolate",
    samples: || {
        let sample = |x: [usize; 4], size, how| {
            Sample::new(vec![sample_input(x)], move |x| x[0].interpolate(size, how)?.square())
        };
        let bilinear = |align_corners| Interpolation::Bilinear { align_corners };
        vec![
            sample([2, 1, 2, 3], (3, 4), Interpolation::Nearest),
            sample([1, 2, 2, 3], (5, 4), bilinear(false)),
            sample([1, 1, 3, 2], (4, 5), bilinear(true)),
            sample([1, 1, 5, 4], (2, 3), bilinear(false)),
            sample([1, 1, 3, 1], (1, 2), bilinear(true)),
            sample([0, 2, 2, 2], (3, 3), Interpolation::Nearest),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    /// The image that PyTorch's documentation of `Upsample` doubles, with its results.
    #[test]
    fn a_doubled_image_is_that_of_pytorchs_documentation() {
        let x = Tensor::from_slice(&[1.0_f64, 2.0, 3.0, 4.0], [1, 1, 2, 2]).unwrap();
        let doubled = |how| x.interpolate((4, 4), how).unwrap().to_vec::<f64>().unwrap();
        let nearest = [1., 1., 2., 2., 1., 1., 2., 2., 3., 3., 4., 4., 3., 3., 4., 4.];
        assert_eq!(doubled(Interpolation::Nearest), nearest);
        let edges = [
            [1.0, 1.25, 1.75, 2.0],
            [1.5, 1.75, 2.25, 2.5],
            [2.5, 2.75, 3.25, 3.5],
            [3.0, 3.25, 3.75, 4.0],
        ];
        assert_eq!(doubled(Interpolation::Bilinear { align_corners: false }), edges.concat());
        let corners = [
            [1.0, 1.3333, 1.6667, 2.0],
            [1.6667, 2.0, 2.3333, 2.6667],
            [2.3333, 2.6667, 3.0, 3.3333],
            [3.0, 3.3333, 3.6667, 4.0],
        ];
        let got = doubled(Interpolation::Bilinear { align_corners: true });
        assert!(got.iter().zip(corners.concat()).all(|(a, b)| (a - b).abs() < 1e-4), "{got:?}");
    }

    #[test]
    fn what_does_not_fit_is_a_typed_error() {
        let zeros = |shape: &[usize]| Tensor::zeros(Shape::new(shape).unwrap(), DType::F32);
        for shape in [&[2, 3][..], &[1, 1, 0, 3]] {
            let got = zeros(shape).interpolate((2, 2), Interpolation::Nearest);
            assert!(matches!(got, Err(Error::Shape { op: "interpolate", .. })), "{got:?}");
        }
        let got = zeros(&[1, 1, 2, 2]).interpolate((2, 0), Interpolation::Nearest);
        assert!(matches!(got, Err(Error::Argument { op: "interpolate", name: "size", .. })));
    }
}
