//! L = −(1/N) Σₙ ln softmax(zₙ)\[labelₙ\].   ∂L/∂z = (p − e_label) / N,  ∂²L/∂z² = (diag(p) − p pᵀ) / N.

use engine::{Error, Likelihood, Result, Rng, Tensor, Var};
use rand_distr::{Distribution, StandardUniform};

use super::rows;

/// Classification: each row's label is drawn from softmax(logits).
///
/// # Shape
/// logits: `[.., C]` · labels: `[..]` (i64, each in 0..C)
///
/// # Units
/// A mean over all N rows, in nats; tokens of sequences are rows.
///
/// # Example
/// ```
/// use alcyon_nn::CrossEntropy;
/// use engine::{Likelihood, Tape, Tensor};
/// let loss = CrossEntropy::new(&Tensor::from_slice(&[1_i64], [1])?);
/// let logits = Tape::off().input(Tensor::from_slice(&[0.0_f64, 3.0_f64.ln()], [1, 2])?);
/// let nll = loss.nll(&logits)?.item()?; // probabilities 1/4 and 3/4
/// assert!((nll - (4.0_f64 / 3.0).ln()).abs() < 1e-15);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct CrossEntropy {
    labels: Tensor,
}

impl CrossEntropy {
    /// The loss of given labels. They are checked when outputs come.
    #[must_use]
    pub fn new(labels: &Tensor) -> Self {
        Self { labels: labels.clone() }
    }

    /// softmax(logits) in f64, row by row.
    fn probabilities(&self, logits: &Tensor) -> Result<Vec<f64>> {
        let shape = logits.shape();
        if shape.rank() == 0
            || *self.labels.shape() != shape.without(shape.rank() - 1)
            || shape.numel() == 0
        {
            let expected = "logits [.., C] and labels [..] of at least one row";
            return Err(Error::shape("cross_entropy", expected, &[shape, self.labels.shape()]));
        }
        logits.to_dtype(engine::DType::F64)?.softmax(-1)?.to_vec::<f64>()
    }
}

impl Likelihood for CrossEntropy {
    fn terms(&self) -> usize {
        self.labels.numel()
    }

    fn nll(&self, outputs: &Var) -> Result<Var> {
        outputs.cross_entropy(&Var::constant(&self.labels))
    }

    /// (p − e_y) / N with y drawn from p, row by row.
    fn sampled_seed(&self, outputs: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let mut seed = self.probabilities(outputs)?;
        let (count, width) = rows(outputs.shape());
        for p in seed.chunks_exact_mut(width) {
            let label = draw(p, rng);
            p[label] -= 1.0;
            p.iter_mut().for_each(|x| *x /= count as f64);
        }
        Ok(Tensor::from_fn(outputs.shape(), outputs.dtype(), |i| seed[i]))
    }

    /// √p_c (p − e_c) / N for each class c: the expectation over y, written out.
    fn exact_seeds(&self, outputs: &Tensor) -> Result<Vec<Tensor>> {
        let p = self.probabilities(outputs)?;
        let (count, width) = rows(outputs.shape());
        let seed = |c: usize| {
            Tensor::from_fn(outputs.shape(), outputs.dtype(), |i| {
                let of_class = p[i - i % width + c];
                let residual = p[i] - if i % width == c { 1.0 } else { 0.0 };
                of_class.sqrt() * residual / count as f64
            })
        };
        Ok((0..width).map(seed).collect())
    }
}

/// A class, with the probabilities p: the first at which the running sum passes a uniform number.
fn draw(p: &[f64], rng: &mut Rng) -> usize {
    let mut left: f64 = StandardUniform.sample(rng);
    for (class, &p) in p.iter().enumerate() {
        left -= p;
        if left < 0.0 {
            return class;
        }
    }
    // Rounding left a little over: the last class that can occur at all.
    p.iter().rposition(|&p| p > 0.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use engine::{DType, Tape};

    use super::*;

    #[test]
    fn the_gradient_is_the_probability_less_one_at_the_label_over_the_rows() {
        let logits = Tensor::from_slice(&[0.0_f64, 0.0, 3.0_f64.ln(), 0.0], [2, 2]).unwrap();
        let loss = CrossEntropy::new(&Tensor::from_slice(&[0_i64, 1], [2]).unwrap());
        let tape = Tape::new();
        let z = tape.watch(logits);
        let grads = tape.backward(&loss.nll(&z).unwrap()).unwrap();
        let got = grads.of_var(&z).unwrap().to_vec::<f64>().unwrap();
        for (got, expected) in got.into_iter().zip([-0.25, 0.25, 0.375, -0.375]) {
            assert!((got - expected).abs() < 1e-15, "{got} for {expected}");
        }
    }

    #[test]
    fn a_label_out_of_range_is_located() {
        let loss = CrossEntropy::new(&Tensor::from_slice(&[0_i64, -1], [2]).unwrap());
        let got = loss.nll(&Tape::new().input(Tensor::zeros([2, 3], DType::F32)));
        assert!(matches!(got, Err(Error::Index { index: -1, at: 1, bound: 3, .. })));
    }

    #[test]
    fn a_certain_class_is_always_drawn_and_tokens_of_sequences_are_rows() {
        let loss = CrossEntropy::new(&Tensor::zeros([2, 3], DType::I64));
        assert_eq!(loss.terms(), 6);
        let logits = Tensor::from_fn([2, 3, 4], DType::F32, |i| if i % 4 == 2 { 1e4 } else { 0.0 });
        let seed = loss.sampled_seed(&logits, &mut Rng::new(0)).unwrap();
        assert!(seed.to_f64_vec().unwrap().iter().all(|&s| s == 0.0));
    }

    #[test]
    fn probabilities_that_sum_to_less_than_one_still_draw_a_possible_class() {
        let mut rng = Rng::new(0);
        assert!((0..100).all(|_| draw(&[0.0, 1e-9, 0.0], &mut rng) == 1));
    }
}
