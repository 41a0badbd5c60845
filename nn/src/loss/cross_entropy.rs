//! L = −(1/N) Σₙ ln softmax(zₙ)\[labelₙ\].   ∂L/∂z = (p − e_label) / N,  ∂²L/∂z² = (diag(p) − p pᵀ) / N.

use engine::compose::Padding;
use engine::{DType, Device, Error, Likelihood, Result, Rng, Tensor, Var};
use rand_distr::{Distribution, StandardUniform};

use super::{rows, same_shape};

/// Classification: each row's label is drawn from softmax(logits).
///
/// Instead of a label a row may have probabilities t of all classes, as mixup and smoothing give
/// them: −Σ_c t_c ln softmax(z)_c, with the Hessian of a label. Rows that do not sum to 1 are refused
/// ([`Tensor::soft_cross_entropy`] says how near is near enough).
///
/// # Shape
/// logits: `[.., C]` · labels: `[..]` (i64, each in 0..C), or `[.., C]` of a float dtype
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

    /// Whether rows have probabilities instead of a label.
    fn soft(&self) -> bool {
        self.labels.dtype() != DType::I64
    }

    /// softmax(logits) in f64, row by row, where the logits are.
    fn probabilities(&self, logits: &Tensor) -> Result<Tensor> {
        let shape = logits.shape();
        let fits = shape.rank() > 0
            && if self.soft() {
                self.labels.shape() == shape
            } else {
                *self.labels.shape() == shape.without(shape.rank() - 1)
            };
        if !fits || shape.numel() == 0 {
            let expected = "logits [.., C] and labels [..] or [.., C] of at least one row";
            return Err(Error::shape("cross_entropy", expected, &[shape, self.labels.shape()]));
        }
        logits.to_dtype(DType::F64)?.softmax(-1)
    }
}

impl Likelihood for CrossEntropy {
    fn terms(&self) -> usize {
        if self.soft() { rows(self.labels.shape()).0 } else { self.labels.numel() }
    }

    fn nll(&self, outputs: &Var) -> Result<Var> {
        if self.soft() {
            same_shape("cross_entropy", outputs.shape(), self.labels.shape())?;
            let targets = Var::constant(&self.labels.to_dtype(outputs.dtype())?);
            return outputs.soft_cross_entropy(&targets);
        }
        outputs.cross_entropy(&Var::constant(&self.labels))
    }

    /// (p − e_y) / N with y drawn from p, row by row: on a device without the host reading p.
    fn sampled_seed(&self, outputs: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let p = self.probabilities(outputs)?;
        if outputs.device() != Device::Cpu {
            return sampled_there(&p, rng)?.to_dtype(outputs.dtype());
        }
        let mut seed = p.to_vec::<f64>()?;
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
        let p = self.probabilities(outputs)?.to_vec::<f64>()?;
        let (count, width) = rows(outputs.shape());
        let seed = |c: usize| {
            Tensor::from_fn(outputs.shape(), outputs.dtype(), |i| {
                let of_class = p[i - i % width + c];
                let residual = p[i] - if i % width == c { 1.0 } else { 0.0 };
                of_class.sqrt() * residual / count as f64
            })
            .to_device(outputs.device())
        };
        (0..width).map(seed).collect()
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

/// (p − e_y) / N by operations on tensors, with the labels that [`draw`] finds: the entries of a row's
/// running sum that have passed its uniform number are 1, and their differences e_y.
fn sampled_there(p: &Tensor, rng: &mut Rng) -> Result<Tensor> {
    let (count, width) = rows(p.shape());
    let uniform = Tensor::uniform([count, 1], 0.0, 1.0, DType::F64, rng).to_device(p.device())?;
    let sums = p.reshape([count, width])?.cumsum(-1)?;
    // Rounding may leave a little over: then the last class that can occur at all.
    let most = sums.narrow(1, width - 1, 1)?.scale(1.0 - f64::EPSILON)?;
    let passed = sums.greater(&uniform.minimum(&most)?)?.to_dtype(DType::F64)?;
    let before = passed.pad(1, 1, 0, Padding::Constant(0.0))?.narrow(1, 0, width)?;
    let label = passed.sub(&before)?.reshape(*p.shape())?;
    p.sub(&label)?.scale(1.0 / count as f64)
}

#[cfg(test)]
mod tests {
    use engine::Tape;

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
    fn probabilities_of_one_class_are_its_label_and_others_average_the_losses() {
        let z = Tensor::normal([2, 3], 0.0, 1.0, DType::F64, &mut Rng::new(1));
        let of = |targets: &Tensor| {
            let loss = CrossEntropy::new(targets);
            assert_eq!(loss.terms(), 2);
            let tape = Tape::new();
            let z = tape.watch(z.clone());
            let nll = loss.nll(&z).unwrap();
            let gradient =
                tape.backward(&nll).unwrap().of_var(&z).unwrap().to_vec::<f64>().unwrap();
            let value = nll.item().unwrap();
            let seeds = loss.exact_seeds(&z.value()).unwrap();
            ([vec![value], gradient].concat(), seeds[0].to_vec::<f64>().unwrap())
        };
        let labels = |l: [i64; 2]| of(&Tensor::from_slice(&l, [2]).unwrap());
        let soft = |t: [f32; 6]| of(&Tensor::from_slice(&t, [2, 3]).unwrap());
        let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        let (first, second) = (labels([0, 2]), labels([1, 2]));
        let hard = soft([1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
        assert!(near(&hard.0, &first.0) && near(&hard.1, &first.1));
        let mixed = soft([0.25, 0.75, 0.0, 0.0, 0.0, 1.0]);
        let average = |(a, b): (&f64, &f64)| 0.25 * a + 0.75 * b;
        let expected: Vec<f64> = first.0.iter().zip(&second.0).map(average).collect();
        assert!(near(&mixed.0, &expected) && near(&mixed.1, &first.1));
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
