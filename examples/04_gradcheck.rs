//! 04 · Do not believe a derivative: check it. And a wrong one is caught.
//!
//! `cargo run --example 04_gradcheck`
#![allow(clippy::print_stdout, reason = "a lesson prints")]

use std::f64::consts::PI;

use alcyon::engine::gradcheck;
use alcyon::prelude::*;

fn main() -> Result<()> {
    // 1. Central differences: (f(x+h) − f(x−h)) / 2h. Too large a step sees the bend, too small a
    //    one sees rounding. The best is near the cube root of machine epsilon.
    println!("1. d tanh/dx at 0.7, error of the central difference by step:\n");
    let exact = 1.0 - 0.7_f64.tanh().powi(2);
    for exponent in (1..=12).rev() {
        let h = 10.0_f64.powi(-exponent);
        let numeric = ((0.7 + h).tanh() - (0.7 - h).tanh()) / (2.0 * h);
        let error = (numeric - exact).abs();
        let bar = "#".repeat(((error.log10() + 13.0).max(0.0) * 4.0) as usize);
        println!("   h = 1e-{exponent:<2}  {error:.1e}  {bar}");
    }

    // 2. The same for a whole function of tensors.
    let mut rng = Rng::new(1);
    let mut random = |shape: [usize; 2]| Tensor::normal(shape, 0.0, 1.0, DType::F64, &mut rng);
    let inputs = [random([4, 3]), random([5, 3]), random([2, 5])];
    let network = |x: &[Var]| x[0].linear(&x[1], None)?.tanh()?.linear(&x[2], None);
    let first = gradcheck::first_order(&inputs, network)?;
    let second = gradcheck::second_order(&inputs, network)?;
    println!("\n2. A two-layer network: {} derivatives,", first.entries);
    println!("   first order  differs by {:.1e}", first.error);
    println!("   second order differs by {:.1e} (the tape differentiated twice)", second.error);

    // 3. A wrong derivative: `detach` cuts the tape, so one factor's share is lost.
    let wrong = gradcheck::first_order(&[random([2, 2])], |x| x[0].mul(&x[0].detach()))?;
    println!(
        "\n3. x · detach(x) pretends that half of d(x²)/dx is not there: error {:.2}",
        wrong.error
    );

    // 4. A kink: relu at 0 has no derivative, and finite differences say one half.
    let kink = Tensor::zeros([1], DType::F64);
    let at_kink = gradcheck::first_order(&[kink], |x| x[0].relu())?;
    println!(
        "4. relu at exactly 0: error {:.2}, for no slope is right there. Checks stay away from kinks.",
        at_kink.error
    );

    // 5. Hessian–vector products are symmetric: uᵀ(Hv) = vᵀ(Hu).
    let x = random([1, 6]);
    let (u, v) = (random([1, 6]), random([1, 6]));
    let product = |direction: &Tensor| -> Result<Tensor> {
        let tape = Tape::new();
        let x = tape.watch(x.clone());
        let f = x.mul(&x)?.scale(PI)?.tanh()?.sum_all()?.mul(&x.sum_all()?)?;
        let grads = tape.backward_recorded(&f)?;
        let Some(g) = grads.of_var(&x) else { return Ok(Tensor::zeros([1, 6], DType::F64)) };
        let slope = g.mul(&Var::constant(direction))?.sum_all()?;
        let second = tape.backward(&slope)?;
        Ok(second.of_var(&x).cloned().unwrap_or_else(|| Tensor::zeros([1, 6], DType::F64)))
    };
    let (left, right) = (u.mul(&product(&v)?)?.sum_all()?, v.mul(&product(&u)?)?.sum_all()?);
    println!("5. uᵀHv = {:.12}\n   vᵀHu = {:.12}", left.item()?, right.item()?);
    Ok(())
}
