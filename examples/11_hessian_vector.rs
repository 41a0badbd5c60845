//! 11 · Hessian times a vector, without a Hessian: the tape differentiated twice. Then what it is
//! good for: the sharpest direction of a loss, and a Newton step by conjugate gradients.
//!
//! `cargo run --example 11_hessian_vector`
#![allow(clippy::print_stdout, reason = "a lesson prints")]

use alcyon::prelude::*;

/// Logistic regression on four points, with a little weight decay: convex, curved, 3 parameters.
fn loss(w: &Var) -> Result<Var> {
    let x = Tensor::from_slice(
        &[1.0_f64, 2.0, 1.0, -1.0, 0.5, 1.0, 2.0, -1.0, 1.0, -2.0, -1.0, 1.0],
        [4, 3],
    )?;
    let signs = Tensor::from_slice(&[1.0_f64, -1.0, 1.0, -1.0], [4, 1])?;
    let margin = Var::constant(&x).linear(w, None)?.mul(&Var::constant(&signs))?;
    // −ln σ(m) = ln(1 + e^(−m))
    let nll = margin.neg()?.exp()?.shift(1.0)?.log()?.mean_all()?;
    nll.add(&w.mul(w)?.sum_all()?.scale(0.05)?)
}

/// The gradient at w.
fn gradient(w: &Tensor) -> Result<Tensor> {
    let tape = Tape::new();
    let w = tape.watch(w.clone());
    let grads = tape.backward(&loss(&w)?)?;
    grads.of_var(&w).cloned().ok_or(Error::NotRecorded { op: "gradient" })
}

/// H v: the gradient of ⟨∇loss, v⟩.
fn hessian_vector(w: &Tensor, v: &Tensor) -> Result<Tensor> {
    let tape = Tape::new();
    let w = tape.watch(w.clone());
    let first = tape.backward_recorded(&loss(&w)?)?;
    let slope = first.of_var(&w).ok_or(Error::NotRecorded { op: "hessian_vector" })?;
    let second = tape.backward(&slope.mul(&Var::constant(v))?.sum_all()?)?;
    second.of_var(&w).cloned().ok_or(Error::NotRecorded { op: "hessian_vector" })
}

fn dot(a: &Tensor, b: &Tensor) -> Result<f64> {
    a.mul(b)?.sum_all()?.item()
}

fn main() -> Result<()> {
    let w = Tensor::from_slice(&[0.3_f64, -0.2, 0.5], [1, 3])?;

    // 1. Column by column, H v for unit vectors *is* the Hessian; finite differences agree.
    println!("1. The Hessian at w, column by column, and the finite difference of the gradient:\n");
    for i in 0..3 {
        let e = Tensor::from_fn([1, 3], DType::F64, |j| if i == j { 1.0 } else { 0.0 });
        let column = hessian_vector(&w, &e)?;
        let h = 1e-5;
        let ahead = gradient(&w.add(&e.scale(h)?)?)?;
        let behind = gradient(&w.sub(&e.scale(h)?)?)?;
        let numeric = ahead.sub(&behind)?.scale(0.5 / h)?;
        println!("   {column:.6}\n   {numeric:.6}\n");
    }

    // 2. Power iteration: the largest eigenvalue from products alone.
    let mut v = Tensor::ones([1, 3], DType::F64);
    let mut sharpness = 0.0;
    for _ in 0..50 {
        let hv = hessian_vector(&w, &v)?;
        sharpness = dot(&v, &hv)? / dot(&v, &v)?;
        v = hv.scale(1.0 / dot(&hv, &hv)?.sqrt())?;
    }
    println!(
        "2. Sharpness (largest eigenvalue): {sharpness:.6}. Gradient descent needs a rate below 2/{sharpness:.3} = {:.3}.\n",
        2.0 / sharpness
    );

    // 3. Newton by conjugate gradients: solve H p = −∇ with three products.
    println!(
        "3. Newton steps, each solved by conjugate gradients, and gradient descent beside it:\n"
    );
    let (mut newton, mut descent) = (w.clone(), w);
    let value = |w: &Tensor| loss(&Var::constant(w))?.item();
    println!("   step   Newton-CG              gradient descent, rate 1");
    for step in 0..6 {
        println!("   {step}      {:.15}      {:.15}", value(&newton)?, value(&descent)?);
        newton = newton.add(&conjugate_gradients(&newton)?)?;
        descent = descent.sub(&gradient(&descent)?)?;
    }
    println!("\nNewton squares its error at every step; no matrix was ever formed.");
    Ok(())
}

/// p with H p = −∇, by the method of Hestenes & Stiefel 1952.
fn conjugate_gradients(w: &Tensor) -> Result<Tensor> {
    let mut p = Tensor::zeros([1, 3], DType::F64);
    let mut residual = gradient(w)?.neg()?;
    let mut direction = residual.clone();
    for _ in 0..3 {
        let squared = dot(&residual, &residual)?;
        if squared < 1e-30 {
            break;
        }
        let hd = hessian_vector(w, &direction)?;
        let alpha = squared / dot(&direction, &hd)?;
        p = p.add(&direction.scale(alpha)?)?;
        residual = residual.sub(&hd.scale(alpha)?)?;
        direction = residual.add(&direction.scale(dot(&residual, &residual)? / squared)?)?;
    }
    Ok(p)
}
