//! compare: y = 1 where a > b (a < b, a = b), else 0, broadcasting; integers, without gradients.

use super::elementwise::{self, binary_samples};
use crate::op::{Keeps, Op, Saved, Site};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{DType, Element, Error, OpSpec, Result, Shape};

#[derive(Debug, Clone, Copy)]
enum Compare {
    Greater,
    Less,
    Equal,
}

impl<H: History> Tensor<H> {
    /// 1 where this is greater than `other`, else 0 (i64), element by element; shapes broadcast.
    /// A NaN is not greater than anything. What [`Tensor::select`] takes.
    ///
    /// # Errors
    /// [`Error::Shape`] when the shapes do not broadcast, [`Error::DType`] when the dtypes differ.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[-1.0_f32, 0.0, 2.0], [3])?;
    /// let zero = Tensor::from_slice(&[0.0_f32], [1])?;
    /// assert_eq!(x.greater(&zero)?.to_vec::<i64>()?, [0, 0, 1]);
    /// assert_eq!(x.less(&zero)?.to_vec::<i64>()?, [1, 0, 0]);
    /// assert_eq!(x.equal(&zero)?.to_vec::<i64>()?, [0, 1, 0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn greater(&self, other: &Self) -> Result<Self> {
        H::apply(Compare::Greater, &[self, other])
    }

    /// 1 where this is less than `other`, else 0; as [`Tensor::greater`].
    ///
    /// # Errors
    /// As [`Tensor::greater`].
    pub fn less(&self, other: &Self) -> Result<Self> {
        H::apply(Compare::Less, &[self, other])
    }

    /// 1 where this equals `other`, else 0; as [`Tensor::greater`]. A NaN equals nothing.
    ///
    /// # Errors
    /// As [`Tensor::greater`].
    pub fn equal(&self, other: &Self) -> Result<Self> {
        H::apply(Compare::Equal, &[self, other])
    }
}

impl Compare {
    fn holds<T: Element + PartialOrd>(self, inputs: &[CpuView<'_>], out: &mut CpuStorage) {
        let out = out.slice_mut::<i64>();
        match self {
            Self::Greater => elementwise::pairs(inputs, out, |a: T, b: T| i64::from(a > b)),
            Self::Less => elementwise::pairs(inputs, out, |a: T, b: T| i64::from(a < b)),
            Self::Equal => elementwise::pairs(inputs, out, |a: T, b: T| i64::from(a == b)),
        }
    }
}

impl Op for Compare {
    fn name(&self) -> &'static str {
        match self {
            Self::Greater => "greater",
            Self::Less => "less",
            Self::Equal => "equal",
        }
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        elementwise::broadcast(self.name(), inputs)
    }

    fn dtype(&self, inputs: &[DType]) -> Result<DType> {
        let (expected, got) = (inputs[0].to_string(), inputs[1]);
        if inputs[0] == got {
            return Ok(DType::I64);
        }
        Err(Error::DType { op: self.name(), expected, got })
    }

    fn takes_strides(&self) -> bool {
        true
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        match inputs[0].dtype() {
            DType::F32 => self.holds::<f32>(inputs, out),
            DType::F64 => self.holds::<f64>(inputs, out),
            _ => self.holds::<i64>(inputs, out),
        }
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let formula = match self {
            Self::Greater => "a > b",
            Self::Less => "a < b",
            Self::Equal => "a == b",
        };
        elementwise::cuda_pairs(self.name(), formula, inputs, out)
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    /// Never asked for: an integer output carries no gradient.
    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        Ok(vec![None; at.inputs.len()])
    }
}

pub(super) const SPEC: OpSpec = OpSpec {
    name: "compare",
    samples: || {
        fn all(a: &Var, b: &Var) -> Result<Var> {
            let b = b.scale(-0.9)?;
            // One number tells the three apart.
            let [greater, less, equal] = [a.greater(&b)?, a.less(&b)?, a.equal(&b)?]
                .map(|mask| mask.to_dtype(a.dtype()));
            greater?.add(&less?.scale(2.0)?)?.add(&equal?.scale(4.0)?)
        }
        binary_samples(all)
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_of_the_three_holds_unless_there_is_a_nan() {
        let a = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, f32::NAN], [4]).unwrap();
        let b = Tensor::from_slice(&[2.0_f32, 2.0, 2.0, f32::NAN], [4]).unwrap();
        let [greater, less, equal] = [a.greater(&b), a.less(&b), a.equal(&b)]
            .map(|mask| mask.unwrap().to_vec::<i64>().unwrap());
        assert_eq!(greater, [0, 0, 1, 0]);
        assert_eq!(less, [1, 0, 0, 0]);
        assert_eq!(equal, [0, 1, 0, 0]);
    }

    #[test]
    fn labels_can_be_compared() {
        let of = |v: [i64; 3]| Tensor::from_slice(&v, [3]).unwrap();
        let right = of([1, 5, 2]).equal(&of([1, 4, 2])).unwrap();
        assert_eq!(right.to_vec::<i64>().unwrap(), [1, 0, 1]);
    }
}
