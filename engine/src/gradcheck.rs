//! Finite differences, first and second order: the oracle that every op is held against.

use crate::tape::Tape;
use crate::{DType, Error, Result, Rng, Tensor, Var};

/// How far a derivative is from its finite difference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Check {
    /// The largest |analytic − numeric| / max(1, |numeric|).
    pub error: f64,
    /// The number of derivatives compared.
    pub entries: usize,
}

/// The step of central differences in f64: the cube root of machine epsilon.
const STEP: f64 = 6.055_454_452_393_343e-6;

/// Compares the gradient of ⟨c, f(x)⟩, for a fixed random c, with central differences in every
/// entry of every floating point input.
///
/// # Errors
/// Whatever `f` returns; [`Error::DType`] for inputs that are f32.
///
/// # Example
/// ```
/// use alcyon_engine::{gradcheck, Tensor};
/// let x = Tensor::from_slice(&[0.5_f64, -1.0], [2])?;
/// let check = gradcheck::first_order(&[x], |x| x[0].mul(&x[0]))?;
/// assert!(check.error < 1e-8);
/// # Ok::<(), alcyon_engine::Error>(())
/// ```
pub fn first_order(inputs: &[Tensor], f: impl Fn(&[Var]) -> Result<Var>) -> Result<Check> {
    let analytic = gradients(inputs, &f)?;
    compare(inputs, &analytic, |x| projected(x, &f))
}

/// Compares the derivative of ⟨v, ∇⟨c, f⟩⟩ for fixed random c and v — a Hessian–vector product,
/// made by differentiating the tape twice — with central differences of the gradient.
///
/// # Errors
/// As [`first_order`], and [`Error::NotTwiceDifferentiable`] from an op without a second rule.
pub fn second_order(inputs: &[Tensor], f: impl Fn(&[Var]) -> Result<Var>) -> Result<Check> {
    let directions = directions(inputs);
    let analytic = hessian_product(inputs, &directions, &f)?;
    compare(inputs, &analytic, |x| {
        let mut total = 0.0;
        for (grad, direction) in gradients(x, &f)?.iter().zip(&directions) {
            let (g, v) = (grad.to_f64_vec()?, direction.to_f64_vec()?);
            total += g.iter().zip(v).map(|(g, v)| g * v).sum::<f64>();
        }
        Ok(total)
    })
}

/// Compares the Hessian–vector product H v of ⟨c, f⟩, from a recorded sweep and a second one, with the
/// change of the gradient along v: (∇(x + hv) − ∇(x − hv)) / 2h. One difference gives all entries.
///
/// # Errors
/// As [`second_order`].
///
/// # Example
/// ```
/// use alcyon_engine::{gradcheck, Tensor};
/// let x = Tensor::from_slice(&[0.5_f64, -1.0], [2])?;
/// let check = gradcheck::hessian_vector(&[x], |x| x[0].mul(&x[0])?.mul(&x[0]))?;
/// assert!(check.error < 1e-8 && check.entries == 2);
/// # Ok::<(), alcyon_engine::Error>(())
/// ```
pub fn hessian_vector(inputs: &[Tensor], f: impl Fn(&[Var]) -> Result<Var>) -> Result<Check> {
    let directions = directions(inputs);
    let analytic = hessian_product(inputs, &directions, &f)?;
    let moved = |step: f64| -> Result<Vec<Tensor>> {
        let along = |(x, v): (&Tensor, &Tensor)| {
            if x.dtype().is_float() { x.add(&v.scale(step)?) } else { Ok(x.clone()) }
        };
        gradients(&inputs.iter().zip(&directions).map(along).collect::<Result<Vec<_>>>()?, &f)
    };
    let (ahead, behind) = (moved(STEP)?, moved(-STEP)?);
    let mut check = Check { error: 0.0, entries: 0 };
    for (k, product) in analytic.iter().enumerate().filter(|(k, _)| inputs[*k].dtype().is_float()) {
        let (ahead, behind) = (ahead[k].to_f64_vec()?, behind[k].to_f64_vec()?);
        for ((got, a), b) in product.to_f64_vec()?.into_iter().zip(ahead).zip(behind) {
            check.add(got, (a - b) / (2.0 * STEP));
        }
    }
    Ok(check)
}

impl Check {
    fn add(&mut self, got: f64, numeric: f64) {
        let error = (got - numeric).abs() / numeric.abs().max(1.0);
        // NaN must not pass for a small error.
        self.error = if error.is_nan() { f64::INFINITY } else { self.error.max(error) };
        self.entries += 1;
    }
}

fn compare(
    inputs: &[Tensor],
    analytic: &[Tensor],
    value: impl Fn(&[Tensor]) -> Result<f64>,
) -> Result<Check> {
    let mut check = Check { error: 0.0, entries: 0 };
    for (k, grad) in analytic.iter().enumerate() {
        if !inputs[k].dtype().is_float() {
            continue;
        }
        for (i, got) in grad.to_f64_vec()?.into_iter().enumerate() {
            let nudged = |step: f64| -> Result<f64> {
                let mut moved = inputs.to_vec();
                moved[k].make_mut::<f64>()?[i] += step;
                value(&moved)
            };
            check.add(got, (nudged(STEP)? - nudged(-STEP)?) / (2.0 * STEP));
        }
    }
    Ok(check)
}

/// ⟨c, f(x)⟩ on a live tape, and the variables.
fn project(inputs: &[Tensor], f: &impl Fn(&[Var]) -> Result<Var>) -> Result<(Tape, Vec<Var>, Var)> {
    if let Some(wrong) = inputs.iter().find(|t| t.dtype() == DType::F32) {
        return Err(Error::DType { op: "gradcheck", expected: "f64".into(), got: wrong.dtype() });
    }
    let tape = Tape::training(0);
    let x: Vec<Var> = inputs.iter().map(|t| tape.watch(t.clone())).collect();
    let y = f(&x)?;
    let c = Tensor::normal(*y.shape(), 0.0, 1.0, DType::F64, &mut Rng::new(1));
    let loss = y.mul(&Var::constant(&c))?.sum_all()?;
    Ok((tape, x, loss))
}

fn projected(inputs: &[Tensor], f: &impl Fn(&[Var]) -> Result<Var>) -> Result<f64> {
    project(inputs, f)?.2.item()
}

fn gradients(inputs: &[Tensor], f: &impl Fn(&[Var]) -> Result<Var>) -> Result<Vec<Tensor>> {
    let (tape, x, loss) = project(inputs, f)?;
    let grads = tape.backward(&loss)?;
    let of =
        |x: &Var| grads.of_var(x).cloned().unwrap_or_else(|| Tensor::zeros(*x.shape(), DType::F64));
    Ok(x.iter().map(of).collect())
}

fn directions(inputs: &[Tensor]) -> Vec<Tensor> {
    let mut rng = Rng::new(2);
    inputs.iter().map(|t| Tensor::normal(*t.shape(), 0.0, 1.0, DType::F64, &mut rng)).collect()
}

fn hessian_product(
    inputs: &[Tensor],
    directions: &[Tensor],
    f: &impl Fn(&[Var]) -> Result<Var>,
) -> Result<Vec<Tensor>> {
    let (tape, x, loss) = project(inputs, f)?;
    let first = tape.backward_recorded(&loss)?;
    let mut slope = tape.input(Tensor::scalar(0.0, DType::F64));
    for (x, v) in x.iter().zip(directions) {
        if let Some(g) = first.of_var(x) {
            slope = slope.add(&g.mul(&Var::constant(v))?.sum_all()?)?;
        }
    }
    let second = tape.backward(&slope)?;
    let of = |x: &Var| {
        second.of_var(x).cloned().unwrap_or_else(|| Tensor::zeros(*x.shape(), DType::F64))
    };
    Ok(x.iter().map(of).collect())
}
