//! Losses: means of negative log-likelihoods, which can also be sampled from.
//!
//! Every loss here is a [`Likelihood`](engine::Likelihood). Besides its value it gives *seeds*:
//! gradients of the mean loss with respect to the outputs at targets that the model itself would
//! draw, from which curvature is swept. With N terms and d = N · seed,
//!
//! | seeds | promise, for the outputs of every term |
//! |---|---|
//! | `sampled_seed` | E\[d dᵀ\] = the Hessian of the term |
//! | `exact_seeds`, s₁ … s_C | Σ_c d_c d_cᵀ = the Hessian of the term |
//!
//! | loss | one term | Hessian of a term |
//! |---|---|---|
//! | [`CrossEntropy`] | −ln softmax(z)\[label\] | diag(p) − p pᵀ |
//! | [`Mse`] | (w/2) ‖z − t‖², w = 2/C | w I |
//! | [`Mse::half_sum`] | ½ ‖z − t‖² | I |
//! | [`BinaryCrossEntropy`] | w Σ_c [softplus(z_c) − t_c z_c], w = 1/C | w diag(p (1 − p)) |
//!
//! The weight w makes the value PyTorch's mean over all N·C entries while N stays the number of
//! rows. It weights the log-likelihood, so it must stand once in the Hessian and as √w in a seed.

mod binary_cross_entropy;
mod cross_entropy;
mod mse;

pub use binary_cross_entropy::BinaryCrossEntropy;
pub use cross_entropy::CrossEntropy;
pub use mse::Mse;

use engine::{Error, Result, Shape, Tensor};

/// Rows and components of outputs `[.., C]`; a scalar is one row of one.
fn rows(shape: &Shape) -> (usize, usize) {
    let width = shape.last().copied().unwrap_or(1);
    (shape.numel().checked_div(width).unwrap_or(0), width)
}

/// Outputs and targets of one shape, with at least one row.
fn same_shape(op: &'static str, outputs: &Shape, targets: &Shape) -> Result<()> {
    if outputs == targets && targets.numel() > 0 {
        return Ok(());
    }
    Err(Error::shape(op, "outputs and targets of the same shape, not empty", &[outputs, targets]))
}

/// The C seeds that are 0 but in one component c, where they are `of_entry(i)` at entry i.
fn one_component_each(outputs: &Tensor, of_entry: impl Fn(usize) -> f64) -> Result<Vec<Tensor>> {
    let (_, width) = rows(outputs.shape());
    let seed = |c: usize| {
        let entry = |i: usize| if i % width == c { of_entry(i) } else { 0.0 };
        Tensor::from_fn(outputs.shape(), outputs.dtype(), entry).to_device(outputs.device())
    };
    (0..width).map(seed).collect()
}

#[cfg(test)]
mod tests {
    use engine::{DType, Likelihood, Rng, Tape, Var};

    use super::*;

    const N: usize = 3;
    const C: usize = 4;

    fn outputs() -> Tensor {
        Tensor::normal([N, C], 0.0, 1.5, DType::F64, &mut Rng::new(8))
    }

    fn likelihoods() -> Vec<(&'static str, Box<dyn Likelihood>)> {
        let labels = Tensor::from_slice(&[2_i64, 0, 3], [N]).unwrap();
        let targets = Tensor::uniform([N, C], 0.0, 1.0, DType::F64, &mut Rng::new(9));
        let soft = targets.softmax(-1).unwrap();
        vec![
            ("cross entropy", Box::new(CrossEntropy::new(&labels))),
            ("soft cross entropy", Box::new(CrossEntropy::new(&soft))),
            ("mse", Box::new(Mse::new(&targets))),
            ("half sum", Box::new(Mse::half_sum(&targets))),
            ("binary cross entropy", Box::new(BinaryCrossEntropy::new(&targets))),
        ]
    }

    #[test]
    fn the_mean_of_many_terms_of_sixteen_bits_is_finite_and_so_are_its_gradients() {
        for dtype in [DType::F16, DType::BF16] {
            // Squares of 300 are beyond f16, and so is the sum of 70,000 ones.
            let outputs = Tensor::full([70_000, 1], 20.0, dtype);
            let all: [(Box<dyn Likelihood>, f64); 3] = [
                (Box::new(Mse::new(&Tensor::full([70_000, 1], 32.0, dtype))), 144.0),
                (Box::new(Mse::half_sum(&Tensor::full([70_000, 1], 32.0, dtype))), 72.0),
                (Box::new(BinaryCrossEntropy::new(&Tensor::zeros([70_000, 1], dtype))), 20.0),
            ];
            for (loss, want) in all {
                let tape = Tape::new();
                let z = tape.watch(outputs.clone());
                let nll = loss.nll(&z).unwrap();
                assert_eq!((nll.dtype(), nll.item().unwrap()), (dtype, want));
                let gradients = tape.backward(&nll).unwrap();
                let dz = gradients.of_var(&z).unwrap().to_f64_vec().unwrap();
                assert!(dz.iter().all(|x| x.is_finite() && *x != 0.0), "{dtype}");
            }
            let loss = Mse::new(&Tensor::full([2, 1], -280.0, dtype));
            let tape = Tape::new();
            let z = tape.watch(Tensor::full([2, 1], 20.0, dtype));
            let gradients = tape.backward(&loss.nll(&z).unwrap()).unwrap();
            assert_eq!(gradients.of_var(&z).unwrap().to_f64_vec().unwrap(), [300.0; 2], "{dtype}");
        }
    }

    #[test]
    fn targets_that_are_no_probabilities_are_refused() {
        let of = |x: f64| Tensor::from_slice(&[x, 0.5], [1, 2]).unwrap();
        let z = Tape::off().input(Tensor::zeros([1, 2], DType::F64));
        for bad in [5.0, -0.5, f64::NAN] {
            let soft = CrossEntropy::new(&of(bad)).nll(&z);
            let binary = BinaryCrossEntropy::new(&of(bad)).nll(&z);
            for got in [soft, binary] {
                assert!(matches!(got, Err(Error::Target { at: 0, .. })), "{bad}: {got:?}");
            }
        }
        let sum = CrossEntropy::new(&of(0.25)).nll(&z);
        assert!(matches!(sum, Err(Error::Target { got: 0.75, .. })), "{sum:?}");
    }

    /// The Hessian of the mean loss with respect to all outputs, by differentiating twice.
    fn hessian(loss: &dyn Likelihood) -> Vec<Vec<f64>> {
        let tape = Tape::new();
        let z = tape.watch(outputs());
        let first = tape.backward_recorded(&loss.nll(&z).unwrap()).unwrap();
        let gradient = first.of_var(&z).unwrap().clone();
        let row = |i: usize| {
            let pick = Tensor::from_fn([N, C], DType::F64, |j| f64::from(i == j));
            let entry = gradient.mul(&Var::constant(&pick)).unwrap().sum_all().unwrap();
            tape.backward(&entry).unwrap().of_var(&z).unwrap().to_vec::<f64>().unwrap()
        };
        (0..N * C).map(row).collect()
    }

    /// N Σ s sᵀ in the block of each term, and 0 between terms.
    fn of_seeds(seeds: &[Tensor], i: usize, j: usize) -> f64 {
        if i / C != j / C {
            return 0.0;
        }
        let product = |s: &Tensor| {
            let s = s.to_vec::<f64>().unwrap();
            s[i] * s[j]
        };
        N as f64 * seeds.iter().map(product).sum::<f64>()
    }

    #[test]
    fn exact_seeds_are_a_root_of_the_hessian() {
        for (name, loss) in likelihoods() {
            assert_eq!(loss.terms(), N);
            let seeds = loss.exact_seeds(&outputs()).unwrap();
            for (i, row) in hessian(&*loss).into_iter().enumerate() {
                for (j, expected) in row.into_iter().enumerate() {
                    let got = of_seeds(&seeds, i, j);
                    assert!((got - expected).abs() < 1e-12, "{name}: {got} for {expected}");
                }
            }
        }
    }

    #[test]
    fn sampled_seeds_average_to_the_hessian_and_have_mean_zero() {
        let draws = 40_000;
        // A product of two bounded or normal numbers: six standard errors with deviation ≤ 2.
        let tolerance = 12.0 / f64::from(draws).sqrt();
        for (name, loss) in likelihoods() {
            let mut rng = Rng::new(4);
            let (mut mean, mut second) = (vec![0.0; N * C], vec![0.0; N * C * C]);
            for _ in 0..draws {
                let seed = loss.sampled_seed(&outputs(), &mut rng).unwrap();
                let d: Vec<f64> = seed.to_vec().unwrap();
                for i in 0..N * C {
                    mean[i] += d[i] * N as f64 / f64::from(draws);
                    for c in 0..C {
                        let j = i / C * C + c;
                        second[i * C + c] += d[i] * d[j] * (N * N) as f64 / f64::from(draws);
                    }
                }
            }
            let hessian = hessian(&*loss);
            for i in 0..N * C {
                assert!(mean[i].abs() < tolerance, "{name}: mean {}", mean[i]);
                for c in 0..C {
                    let expected = hessian[i][i / C * C + c] * N as f64;
                    let gap = (second[i * C + c] - expected).abs();
                    assert!(gap < tolerance, "{name}: {gap} from {expected}");
                }
            }
        }
    }

    #[test]
    fn outputs_that_do_not_fit_are_refused_by_value_and_seeds_alike() {
        let wrong = Tensor::zeros([N + 1, C], DType::F64);
        for (name, loss) in likelihoods() {
            let value = loss.nll(&Tape::new().input(wrong.clone()));
            assert!(matches!(value, Err(Error::Shape { .. })), "{name}");
            assert!(matches!(loss.exact_seeds(&wrong), Err(Error::Shape { .. })), "{name}");
            let sampled = loss.sampled_seed(&wrong, &mut Rng::new(0));
            assert!(matches!(sampled, Err(Error::Shape { .. })), "{name}");
        }
    }

    #[test]
    fn seeds_have_the_dtype_of_the_outputs() {
        let narrow = outputs().to_dtype(DType::F32).unwrap();
        for (name, loss) in likelihoods() {
            let sampled = loss.sampled_seed(&narrow, &mut Rng::new(0)).unwrap();
            assert_eq!(sampled.dtype(), DType::F32, "{name}");
            let exact = loss.exact_seeds(&narrow).unwrap();
            assert!(exact.iter().all(|s| s.dtype() == DType::F32), "{name}");
        }
    }
}
