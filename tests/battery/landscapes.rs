//! Two landscapes: a bowl, and Rosenbrock's valley from four starts. Rates are looked for on a ladder, so
//! that no figure is made for one optimizer; the table says which rung it was.

use engine::{DType, Parameter, Result, Rng, Tape, Tensor, Var, parameters};
use nn::Mse;
use optim::{Batch, Optimizer, build};

use super::Cell;

/// The starts of Martins Gomes 2025, chapter 6.
pub(crate) const STARTS: [[f64; 2]; 4] = [[-1.2, 1.0], [-1.0, -1.0], [0.0, 2.0], [2.0, 0.0]];

/// Rates in units of the default: what a user would try.
const LADDER: [f64; 7] = [1.0, 0.1, 10.0, 100.0, 1000.0, 0.01, 0.001];

fn noise<const N: usize>(shape: [usize; N], seed: u64) -> Tensor {
    Tensor::normal(shape, 0.0, 1.0, DType::F64, &mut Rng::new(seed))
}

/// Whether `run` ends below `enough` at a rate of the ladder. A run that ends in NaN has failed.
fn climbed(name: &str, enough: f64, run: impl Fn(&mut dyn Optimizer) -> f64) -> Cell {
    let rate = build(name, None).unwrap().rate();
    let mut smallest = f64::INFINITY;
    for factor in LADDER {
        let left = run(&mut *build(name, Some(rate * factor)).unwrap());
        if left < enough {
            return match factor {
                1.0 => Cell::Pass,
                _ => Cell::Bound(format!("at {factor} x the default rate")),
            };
        }
        smallest = smallest.min(left);
    }
    Cell::Fail(format!("{smallest} is not below {enough}"))
}

/// A layer that is to fit a linear map. Without a bias: some optimizers step along vectors with a rate
/// of their own.
struct Layer {
    weight: Parameter,
}
parameters!(Layer { weight });

impl Layer {
    fn forward(&self, tape: &Tape, x: &Tensor) -> Result<Var> {
        tape.input(x.clone()).linear(&tape.bind(&self.weight), None)
    }
}

/// 300 steps leave less than a twentieth of the loss.
pub(crate) fn bowl(name: &str) -> Cell {
    // Axes of different widths: the condition number is about 16.
    let widths = Tensor::from_slice(&[2.0, 1.0, 0.5], [3]).unwrap();
    let x = noise([32, 3], 1).mul(&widths).unwrap();
    let target = x.matmul(&noise([3, 2], 2)).unwrap();
    let loss = Mse::half_sum(&target);
    climbed(name, 0.05, |optimizer| {
        let mut layer = Layer { weight: Parameter::new(noise([2, 3], 4)) };
        let forward = |layer: &Layer, tape: &Tape| layer.forward(tape, &x);
        let mut losses = Vec::new();
        for _ in 0..300 {
            match optimizer.minimize(&mut Batch::new(&mut layer, forward, &loss)) {
                Ok(loss) => losses.push(loss),
                // A rate that is too large for this landscape ends in numbers that are none.
                Err(_) => return f64::INFINITY,
            }
        }
        losses[299] / losses[0]
    })
}

/// (1 − x)² + 100 (y − x²)², as the squares of two residuals.
fn valley(point: &Parameter, tape: &Tape) -> Result<Var> {
    let point = tape.bind(point);
    let (x, y) = (point.narrow(0, 0, 1)?, point.narrow(0, 1, 1)?);
    let first = x.neg()?.shift(1.0)?;
    let second = y.sub(&x.mul(&x)?)?.scale(10.0)?;
    Var::concat(&[&first, &second], 0)?.reshape([1, 2])?.scale(2.0_f64.sqrt())
}

/// 300 steps leave less than a quarter of the height: the walls are steep, so that is well inside.
pub(crate) fn rosenbrock(name: &str, start: [f64; 2]) -> Cell {
    let loss = Mse::half_sum(&Tensor::zeros([1, 2], DType::F64));
    let value = (1.0_f64 - start[0]).powi(2) + 100.0 * (start[1] - start[0] * start[0]).powi(2);
    climbed(name, 0.25 * value, |optimizer| {
        let mut point = Parameter::new(Tensor::from_slice(&start, [2]).unwrap());
        let mut last = f64::INFINITY;
        for step in 0..300 {
            match optimizer.minimize(&mut Batch::new(&mut point, valley, &loss)) {
                Ok(loss) => last = loss,
                Err(_) => return f64::INFINITY,
            }
            if step == 0 {
                assert!((last - value).abs() < 1e-9 * value, "{last} is not {value}");
            }
        }
        last
    })
}

#[test]
fn second_order_with_a_search_reaches_the_minimum_of_the_valley() {
    let loss = Mse::half_sum(&Tensor::zeros([1, 2], DType::F64));
    for start in STARTS {
        for name in ["lbfgs", "hessian-free"] {
            let mut point = Parameter::new(Tensor::from_slice(&start, [2]).unwrap());
            let mut optimizer = build(name, None).unwrap();
            for _ in 0..100 {
                optimizer.minimize(&mut Batch::new(&mut point, valley, &loss)).unwrap();
            }
            let end = point.value().to_vec::<f64>().unwrap();
            let away = (end[0] - 1.0).abs().max((end[1] - 1.0).abs());
            assert!(away < 1e-4, "{name} from {start:?} ends at {end:?}");
        }
    }
}
