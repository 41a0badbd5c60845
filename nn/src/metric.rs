//! What a trained model is judged by.

use engine::{DType, Error, Result, Tensor};

/// The number of rows whose largest logit is at the label; of equal logits the first counts. A row
/// with a NaN is never right.
///
/// # Shape
/// logits: `[.., C]` · labels: `[..]` (i64)
///
/// # Errors
/// [`Error::Shape`] when they do not fit, [`Error::DType`] for labels that are not i64.
///
/// # Example
/// ```
/// use alcyon_nn::metric::correct;
/// use engine::Tensor;
/// let logits = Tensor::from_slice(&[0.1_f32, 0.9, 2.0, -1.0], [2, 2])?;
/// assert_eq!(correct(&logits, &Tensor::from_slice(&[1_i64, 1], [2])?)?, 1);
/// # Ok::<(), engine::Error>(())
/// ```
pub fn correct(logits: &Tensor, labels: &Tensor) -> Result<usize> {
    if labels.dtype() != DType::I64 {
        return Err(Error::DType { op: "accuracy", expected: "i64".into(), got: labels.dtype() });
    }
    let shape = logits.shape();
    if shape.rank() == 0 || *labels.shape() != shape.without(shape.rank() - 1) {
        let expected = "logits [.., C] and labels [..]";
        return Err(Error::shape("accuracy", expected, &[shape, labels.shape()]));
    }
    let width = shape[shape.rank() - 1].max(1);
    let (logits, labels) = (logits.to_f64_vec()?, labels.to_vec::<i64>()?);
    let right = |(row, label): (&[f64], &i64)| first_largest(row) == usize::try_from(*label).ok();
    Ok(logits.chunks_exact(width).zip(&labels).filter(|&pair| right(pair)).count())
}

/// The share of rows whose largest logit is at the label, in 0 ..= 1; NaN over no rows.
///
/// # Shape
/// logits: `[.., C]` · labels: `[..]` (i64)
///
/// # Errors
/// As [`correct`].
pub fn accuracy(logits: &Tensor, labels: &Tensor) -> Result<f64> {
    Ok(correct(logits, labels)? as f64 / labels.numel() as f64)
}

/// exp(mean negative log-likelihood per token, in nats): the number of equally likely tokens that
/// would be as surprising.
///
/// # Example
/// ```
/// assert!((alcyon_nn::metric::perplexity(65.0_f64.ln()) - 65.0).abs() < 1e-12);
/// ```
#[must_use]
pub fn perplexity(mean_nll: f64) -> f64 {
    mean_nll.exp()
}

/// The place of the first largest entry; none for a row with a NaN, or without entries.
fn first_largest(row: &[f64]) -> Option<usize> {
    if row.iter().any(|x| x.is_nan()) {
        return None;
    }
    (0..row.len()).reduce(|best, i| if row[i] > row[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_right_when_its_first_largest_logit_is_at_the_label() {
        let rows = [[1.0_f64, 1.0, 0.0], [0.0, 1.0, 1.0], [f64::NAN, 5.0, 0.0], [0.0, 0.0, 3.0]];
        let logits = Tensor::from_slice(&rows.concat(), [2, 2, 3]).unwrap();
        let labels = Tensor::from_slice(&[0_i64, 2, 1, 2], [2, 2]).unwrap();
        assert_eq!(correct(&logits, &labels).unwrap(), 2);
        assert!((accuracy(&logits, &labels).unwrap() - 0.5).abs() < 1e-15);
    }

    #[test]
    fn labels_of_another_shape_or_dtype_are_refused() {
        let logits = Tensor::zeros([2, 3], DType::F32);
        let labels = |n: usize, dtype| Tensor::zeros([n], dtype);
        let got = accuracy(&logits, &labels(3, DType::I64));
        assert!(matches!(got, Err(Error::Shape { op: "accuracy", .. })));
        let got = accuracy(&logits, &labels(2, DType::F32));
        assert!(matches!(got, Err(Error::DType { got: DType::F32, .. })));
    }
}
