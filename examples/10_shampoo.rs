//! 10 · Shampoo: curvature from gradients alone. Two sides of a matrix, two fourth roots.
//!
//! `cargo run --example 10_shampoo`
#![allow(clippy::print_stdout, reason = "a lesson prints")]

use alcyon::kernels::linalg::power;
use alcyon::prelude::*;

struct Model {
    weight: Parameter,
}
parameters!(Model { weight });

fn root(m: &Tensor, exponent: f64) -> Result<Tensor> {
    let n = m.shape()[0];
    let values = power(&m.to_vec::<f64>()?, n, exponent, 0.0)
        .map_err(|e| Error::Linalg { routine: "power", reason: e.to_string() })?;
    Tensor::from_vec(values, [n, n])
}

fn main() -> Result<()> {
    // 1. One gradient G. L = GGᵀ, R = GᵀG; the direction is L^(−1/4) G R^(−1/4).
    let mut rng = Rng::new(3);
    let g = Tensor::normal([3, 3], 0.0, 1.0, DType::F64, &mut rng);
    let (left, right) = (g.matmul(&g.transpose(0, 1)?)?, g.transpose(0, 1)?.matmul(&g)?);
    let direction = root(&left, -0.25)?.matmul(&g)?.matmul(&root(&right, -0.25)?)?;
    println!("1. Without history Shampoo's direction is the orthogonal factor of the gradient:\n");
    println!("   D = L^(-1/4) G R^(-1/4) =\n{direction:.4}\n");
    println!("   D Dᵀ =\n{:.4}\n", direction.matmul(&direction.transpose(0, 1)?)?);

    // 2. An ill-conditioned matrix problem: loss = ½‖P (W − W*) Q‖², curvature P²⊗Q².
    let p = Tensor::from_slice(&[1.0_f64, 0.3, 0.0, 0.3, 0.5, 0.1, 0.0, 0.1, 0.02], [3, 3])?;
    let q = Tensor::from_slice(&[0.1_f64, 0.05, 0.05, 2.0], [2, 2])?;
    let target = Tensor::normal([3, 2], 0.0, 1.0, DType::F64, &mut rng);
    let loss = |w: &Var| -> Result<Var> {
        let gap = w.sub(&Var::constant(&target))?;
        let bent = Var::constant(&p).matmul(&gap)?.matmul(&Var::constant(&q))?;
        bent.mul(&bent)?.sum_all()?.scale(0.5)
    };
    println!("2. ½‖P (W − W*) Q‖² with badly conditioned P and Q. Loss by step:\n");
    println!("   step        SGD, rate 0.3   Shampoo, rate 0.5");
    let mut optimizers: [Box<dyn Optimizer>; 2] = [
        Box::new(Sgd::new(SgdConfig { rate: 0.3, ..SgdConfig::default() })?),
        Box::new(Shampoo::new(ShampooConfig { rate: 0.5, ..ShampooConfig::default() })?),
    ];
    let mut models =
        [0, 1].map(|_| Model { weight: Parameter::new(Tensor::zeros([3, 2], DType::F64)) });
    for step in 0..=200 {
        let mut losses = [0.0; 2];
        for ((model, optimizer), value) in models.iter_mut().zip(&mut optimizers).zip(&mut losses) {
            let tape = Tape::new();
            let nll = loss(&tape.bind(&model.weight))?;
            *value = nll.item()?;
            let grads = tape.backward(&nll)?;
            drop(tape);
            optimizer.step(model, &grads)?;
        }
        if [0, 1, 2, 5, 10, 20, 50, 100, 200].contains(&step) {
            println!("   {step:>4}   {:>18.3e}   {:>17.3e}", losses[0], losses[1]);
        }
    }
    println!("\n{}", optimizers[1].coverage(&models[1]));
    Ok(())
}
