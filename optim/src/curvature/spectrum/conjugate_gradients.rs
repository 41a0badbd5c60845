//! Conjugate gradients: A x = b from products with A alone.  Hestenes & Stiefel 1952.
//!
//! ```text
//! α = rᵀM⁻¹r / pᵀAp,   x ← x + α p,   r ← r − α A p,   p ← M⁻¹r + (r'ᵀM⁻¹r' / rᵀM⁻¹r) p
//! ```
//! It minimises ½ xᵀAx − bᵀx along one direction after another. The stop of Martens 2010, section 4.4:
//! once the model has gained less than 5·10⁻⁴ of itself, per step, over the last max(10, i/10) steps.

use engine::Result;

use crate::algebra::flat::dot;

/// When to stop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stop {
    /// After so many products.
    pub iterations: usize,
    /// At ‖r‖ ≤ `residual` ‖b‖.
    pub residual: f64,
    /// Martens' relative progress per step; 0 to ignore it.
    pub progress: f64,
}

/// A step of the iteration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Iteration {
    /// α
    pub alpha: f64,
    /// ‖r‖ after it.
    pub residual: f64,
    /// ½ xᵀAx − bᵀx after it.
    pub model: f64,
}

/// The solution found, and the way there.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// x
    pub x: Vec<f64>,
    /// One entry per product.
    pub path: Vec<Iteration>,
}

/// Solves A x = b from the start `x`, for a symmetric positive definite A and a diagonal
/// preconditioner M (ones for none).
///
/// # Errors
/// Those of `product`. A direction of no or negative curvature ends the iteration without an error.
///
/// # Example
/// ```
/// use alcyon_optim::curvature::{Stop, solve};
/// let product = |v: &[f64]| Ok(vec![2.0 * v[0] + v[1], v[0] + 3.0 * v[1]]);
/// let stop = Stop { iterations: 2, residual: 0.0, progress: 0.0 };
/// let x = solve(product, &[3.0, 4.0], vec![0.0; 2], &[1.0; 2], stop)?.x;
/// assert!((x[0] - 1.0).abs() < 1e-12 && (x[1] - 1.0).abs() < 1e-12); // two steps for two numbers
/// # Ok::<(), engine::Error>(())
/// ```
pub fn solve(
    mut product: impl FnMut(&[f64]) -> Result<Vec<f64>>,
    b: &[f64],
    mut x: Vec<f64>,
    preconditioner: &[f64],
    stop: Stop,
) -> Result<Solution> {
    let conditioned =
        |r: &[f64]| -> Vec<f64> { r.iter().zip(preconditioner).map(|(r, m)| r / m).collect() };
    let mut r: Vec<f64> = if x.iter().any(|x| *x != 0.0) {
        product(&x)?.iter().zip(b).map(|(ax, b)| b - ax).collect()
    } else {
        b.to_vec()
    };
    let mut y = conditioned(&r);
    let (mut p, mut rho) = (y.clone(), dot(&r, &y));
    let small = stop.residual * dot(b, b).sqrt();
    let mut path: Vec<Iteration> = Vec::new();
    while path.len() < stop.iterations && dot(&r, &r).sqrt() > small && !slow(&path, stop.progress)
    {
        let ap = product(&p)?;
        let curvature = dot(&p, &ap);
        if curvature.is_nan() || curvature <= 0.0 {
            break;
        }
        let alpha = rho / curvature;
        x.iter_mut().zip(&p).for_each(|(x, p)| *x += alpha * p);
        r.iter_mut().zip(&ap).for_each(|(r, ap)| *r -= alpha * ap);
        y = conditioned(&r);
        let next = dot(&r, &y);
        p.iter_mut().zip(&y).for_each(|(p, y)| *p = y + next / rho * *p);
        rho = next;
        // b − r = A x
        let model = 0.5 * (dot(&x, b) - dot(&x, &r)) - dot(&x, b);
        path.push(Iteration { alpha, residual: dot(&r, &r).sqrt(), model });
    }
    Ok(Solution { x, path })
}

/// Martens' criterion.
fn slow(path: &[Iteration], progress: f64) -> bool {
    let i = path.len();
    let window = (i / 10).max(10);
    if progress <= 0.0 || i <= window {
        return false;
    }
    let (now, then) = (path[i - 1].model, path[i - 1 - window].model);
    now < 0.0 && (now - then) / now < window as f64 * progress
}
