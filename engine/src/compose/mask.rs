//! masked_fill, tril and triu: elements that a mask or a place rules out, replaced.

use crate::tensor::{History, Tensor};
use crate::{DType, Error, Result};

impl<H: History> Tensor<H> {
    /// `value` where the mask is not 0, else this tensor's element; the mask broadcasts to this
    /// tensor. What is replaced gets no gradient.
    ///
    /// # Shape
    /// mask: i64, what [`Tensor::greater`] and its like return
    ///
    /// # Errors
    /// [`Error::Shape`] when the mask does not broadcast to this shape; [`Error::DType`] when it is not
    /// i64, or this tensor not floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1.0_f64, 2.0], [2])?;
    /// let mask = Tensor::from_slice(&[0_i64, 1], [2])?;
    /// assert_eq!(x.masked_fill(&mask, -7.0)?.to_vec::<f64>()?, [1.0, -7.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn masked_fill(&self, mask: &Self, value: f64) -> Result<Self> {
        if self.shape().broadcast(mask.shape()) != Some(*self.shape()) {
            let expected = "a mask that broadcasts to the tensor's shape";
            return Err(Error::shape("masked_fill", expected, &[self.shape(), mask.shape()]));
        }
        mask.select(&self.beside(&Tensor::scalar(value, self.dtype()))?, self)
    }

    /// The lower triangle of the last two axes: zeros where column − row > `diagonal`.
    ///
    /// # Errors
    /// [`Error::Shape`] for fewer than two axes; [`Error::DType`] when the tensor is not floating point.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{DType, Tensor};
    /// let ones = Tensor::ones([2, 2], DType::F64);
    /// assert_eq!(ones.tril(0)?.to_vec::<f64>()?, [1.0, 0.0, 1.0, 1.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn tril(&self, diagonal: isize) -> Result<Self> {
        self.without("tril", |row, column| column - row > diagonal)
    }

    /// The upper triangle of the last two axes: zeros where column − row < `diagonal`.
    ///
    /// # Errors
    /// As [`Tensor::tril`].
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{DType, Tensor};
    /// let ones = Tensor::ones([2, 2], DType::F64);
    /// assert_eq!(ones.triu(1)?.to_vec::<f64>()?, [0.0, 1.0, 0.0, 0.0]);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn triu(&self, diagonal: isize) -> Result<Self> {
        self.without("triu", |row, column| column - row < diagonal)
    }

    /// Zeros at the places (row, column) that are hidden.
    fn without(&self, op: &'static str, hidden: impl Fn(isize, isize) -> bool) -> Result<Self> {
        let [.., rows, columns] = **self.shape() else {
            return Err(Error::shape(op, "[.., m, n]", &[self.shape()]));
        };
        let mask = Tensor::from_fn([rows, columns], DType::I64, |i| {
            f64::from(u8::from(hidden((i / columns) as isize, (i % columns) as isize)))
        });
        self.masked_fill(&self.beside(&mask)?, 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::sample_input;
    use crate::{Tape, gradcheck};

    #[test]
    fn both_triangles_make_the_whole() {
        let x = sample_input([2, 3, 4]);
        for diagonal in -4..5 {
            let (lower, upper) = (x.tril(diagonal).unwrap(), x.triu(diagonal + 1).unwrap());
            let whole = lower.add(&upper).unwrap();
            assert_eq!(whole.to_vec::<f64>().unwrap(), x.to_vec::<f64>().unwrap());
        }
        assert!(x.tril(-3).unwrap().to_vec::<f64>().unwrap().iter().all(|&x| x == 0.0));
    }

    #[test]
    fn what_is_replaced_gets_no_gradient_even_if_it_was_not_finite() {
        let tape = Tape::new();
        let x = tape.watch(Tensor::from_slice(&[f64::NAN, 2.0], [2]).unwrap());
        let mask = tape.input(Tensor::from_slice(&[1_i64, 0], [2]).unwrap());
        let loss = x.square().unwrap().masked_fill(&mask, 0.0).unwrap().sum_all().unwrap();
        assert_eq!(loss.item().unwrap(), 4.0);
        let check = gradcheck::second_order(&[sample_input([3, 3])], |x| x[0].tril(0)?.square());
        assert!(check.unwrap().error < 1e-7);
    }

    #[test]
    fn what_does_not_fit_is_a_typed_error() {
        let x = sample_input([2, 3]);
        let mask = Tensor::zeros([2], DType::I64);
        assert!(matches!(x.masked_fill(&mask, 0.0), Err(Error::Shape { op: "masked_fill", .. })));
        let larger = Tensor::zeros([4, 2, 3], DType::I64);
        assert!(matches!(x.masked_fill(&larger, 0.0), Err(Error::Shape { op: "masked_fill", .. })));
        assert!(matches!(x.masked_fill(&x, 0.0), Err(Error::DType { .. })));
        assert!(matches!(sample_input([2]).tril(0), Err(Error::Shape { op: "tril", .. })));
    }
}
