//! variance: y = mean((x − mean x)²) over some axes.   dx = 2 g (x − mean x) / count.

use kernels::reduce::variance_axis;

use super::sum::{positions, remaining};
use crate::op::{Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{OpSpec, Result, Sample, Shape, for_float};

/// Over the axes from one on, which stay with size 1.
#[derive(Debug)]
struct Variance {
    from: usize,
}

impl<H: History> Tensor<H> {
    /// The variance over the given axes, which disappear: the mean of (x − mean)², divided by the count
    /// (not by one less). Mean and squares are carried in f64 (on a GPU the mean is corrected, and the
    /// squares are around it), so it is right to the last digit wherever the numbers lie.
    ///
    /// # Errors
    /// As [`Tensor::sum`].
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1e6_f32, 1e6 + 1.0, 1e6 + 2.0, 1e6 + 3.0], [4])?;
    /// assert_eq!(x.variance(&[0])?.item()?, 1.25);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn variance(&self, axes: &[isize]) -> Result<Self> {
        let gone = positions("variance", self.shape(), axes)?;
        let (kept, last): (Vec<usize>, Vec<usize>) =
            (0..self.rank()).partition(|axis| !gone.contains(axis));
        let from = kept.len();
        let order: Vec<isize> = kept.into_iter().chain(last).map(|axis| axis as isize).collect();
        H::apply(Variance { from }, &[&self.permute(&order)?])?
            .reshape(remaining("variance", self.shape(), axes)?)
    }
}

impl Variance {
    /// How many variances there are, and of how many numbers each.
    fn sizes(&self, shape: &[usize]) -> (usize, usize) {
        (shape[..self.from].iter().product(), shape[self.from..].iter().product())
    }

    fn axes(&self, rank: usize) -> Vec<isize> {
        (self.from as isize..rank as isize).collect()
    }
}

impl Op for Variance {
    fn name(&self) -> &'static str {
        "variance"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok((self.from..inputs[0].rank()).fold(*inputs[0], |shape, axis| shape.with(axis, 1)))
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        let (_, n) = self.sizes(inputs[0].shape());
        for_float!(inputs[0].dtype(), T => variance_axis::<T>(inputs[0].slice(), n, out.slice_mut()));
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let (_, n) = self.sizes(inputs[0].shape());
        kernels::cuda::reduce::variance(inputs[0].gpu(), inputs[0].slice(), n, &out.slice_mut())?;
        Ok(Saved::new())
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    /// The variance does not change when a constant is subtracted: of what is left after the mean, as
    /// rounded, the rest of the mean is taken exactly.
    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let (x, axes) = (&at.inputs[0], self.axes(at.inputs[0].rank()));
        let (_, n) = self.sizes(x.shape());
        let near = x.sub(&Var::constant(&x.value().mean_keep(&axes)?))?;
        let centred = near.sub(&near.mean_keep(&axes)?)?;
        Ok(vec![Some(centred.mul(&at.grad.scale(2.0 / n as f64)?)?)])
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "variance",
    samples: || {
        vec![
            Sample::new(vec![sample_input([2, 5])], |x| x[0].variance(&[1])),
            Sample::new(vec![sample_input([3, 2, 2])], |x| x[0].variance(&[0, 2])),
            Sample::new(vec![sample_input([3, 2])], |x| x[0].variance(&[0, 1])),
            Sample::new(vec![sample_input([0, 3])], |x| x[0].variance(&[1])),
        ]
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    /// Of 48 numbers around an offset, in f32 and as the f64 they are.
    fn around(offset: f64) -> (Tensor, f64) {
        let x = Tensor::from_fn([48], DType::F32, |i| offset + (0.7 * i as f64).sin());
        let all = x.to_f64_vec().unwrap();
        let mean = all.iter().sum::<f64>() / 48.0;
        (x, all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 48.0)
    }

    #[test]
    fn far_from_zero_a_variance_is_right_to_the_last_digit() {
        for offset in [0.0, 1e3, -1e5, 1e6, 1e7] {
            let (x, want) = around(offset);
            for x in [x.clone(), x.reshape([48, 1]).unwrap().broadcast_to([48, 3]).unwrap()] {
                for got in x.variance(&[0]).unwrap().to_f64_vec().unwrap() {
                    // Half a unit in the last place of an f32.
                    assert!((got / want - 1.0).abs() <= 2_f64.powi(-24), "{offset}: {got} {want}");
                }
            }
        }
    }

    #[test]
    fn of_sixteen_bits_it_is_rounded_once() {
        let x = Tensor::from_fn([1000], DType::F16, |i| if i % 2 == 0 { 300.0 } else { -300.0 });
        assert!(x.variance(&[0]).unwrap().item().unwrap() == f64::INFINITY, "90,000 is beyond f16");
        let x = x.scale(0.5).unwrap();
        assert_eq!(x.variance(&[0]).unwrap().item().unwrap(), 22_496.0);
    }

    #[test]
    fn without_axes_it_is_zero_and_over_nothing_it_is_nan() {
        let x = sample_input([2, 2]);
        assert_eq!(x.variance(&[]).unwrap().to_vec::<f64>().unwrap(), [0.0; 4]);
        assert!(sample_input([0]).variance(&[0]).unwrap().item().unwrap().is_nan());
    }
}
