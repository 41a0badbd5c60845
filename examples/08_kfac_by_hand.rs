//! 08 · K-FAC in forty lines: from layer records to a natural-gradient step.
//!
//! `cargo run --example 08_kfac_by_hand`
#![allow(clippy::print_stdout, reason = "a lesson prints")]

use alcyon::kernels::linalg::cholesky_inverse;
use alcyon::prelude::*;

struct Net {
    hidden: Parameter,
    hidden_bias: Parameter,
    output: Parameter,
    output_bias: Parameter,
}
parameters!(Net { hidden, hidden_bias, output, output_bias });

impl Net {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut random =
            |shape: Shape| Parameter::new(Tensor::normal(shape, 0.0, 0.4, DType::F64, &mut rng));
        Self {
            hidden: random([8, 4].into()),
            hidden_bias: random([8].into()),
            output: random([3, 8].into()),
            output_bias: random([3].into()),
        }
    }

    fn forward(&self, x: &Var) -> Result<Var> {
        let tape = x.tape()?;
        let h = x.linear(&tape.bind(&self.hidden), Some(&tape.bind(&self.hidden_bias)))?.tanh()?;
        h.linear(&tape.bind(&self.output), Some(&tape.bind(&self.output_bias)))
    }
}

/// M + λI, inverted.
fn damped_inverse(m: &Tensor, damping: f64) -> Result<Tensor> {
    let n = m.shape()[0];
    let damped = m.add(&Tensor::eye(n, DType::F64).scale(damping)?)?.to_vec::<f64>()?;
    let inverse = cholesky_inverse(&damped, n)
        .map_err(|e| Error::Linalg { routine: "cholesky_inverse", reason: e.to_string() })?;
    Tensor::from_vec(inverse, [n, n])
}

/// One layer's direction: (G + √λ/π I)⁻¹ [∂W | ∂b] (A + π√λ I)⁻¹   (Martens & Grosse 2015, §6.3).
fn direction(record: &LayerRecord, terms: usize, damping: f64) -> Result<Tensor> {
    let rows = &record.rows()?[0];
    let (n, r) = (terms as f64, rows.a.shape()[0] as f64);
    let a = rows.a.transpose(0, 1)?.matmul(&rows.a)?.scale(1.0 / r)?;
    let g = rows.g.transpose(0, 1)?.matmul(&rows.g)?.scale(n)?;
    let mean_trace = |m: &Tensor| -> Result<f64> {
        let width = m.shape()[0];
        let diagonal = m.to_f64_vec()?.into_iter().step_by(width + 1);
        Ok(diagonal.sum::<f64>() / width as f64)
    };
    let pi = (mean_trace(&a)? / mean_trace(&g)?).sqrt();
    let left = damped_inverse(&g, damping.sqrt() / pi)?;
    let right = damped_inverse(&a, pi * damping.sqrt())?;
    left.matmul(&rows.gradient()?)?.matmul(&right)
}

/// θ ← θ − rate · d, in place.
fn step(parameter: &mut Parameter, d: &Tensor, rate: f64) -> Result<()> {
    let d = d.contiguous()?;
    let values = parameter.value_mut().make_mut::<f64>()?;
    values.iter_mut().zip(d.as_slice::<f64>()?).for_each(|(x, d)| *x -= rate * d);
    Ok(())
}

fn main() -> Result<()> {
    // 1. One linear layer with squared loss: K-FAC is exact, and one undamped step solves it.
    let mut rng = Rng::new(7);
    let x = Tensor::normal([20, 3], 0.0, 1.0, DType::F64, &mut rng);
    let truth = Tensor::from_slice(&[1.0_f64, -2.0, 0.5], [1, 3])?;
    let targets = x.linear(&truth, None)?;
    let mut weight = Parameter::new(Tensor::zeros([1, 3], DType::F64));
    let tape = Tape::new();
    let y = tape.input(x).linear(&tape.bind(&weight), None)?;
    let mut records: Vec<LayerRecord> = Vec::new();
    let loss = Mse::half_sum(&targets);
    tape.backward_observed(&loss.nll(&y)?, &mut records)?;
    let rows = &records[0].rows()?[0];
    let a = rows.a.transpose(0, 1)?.matmul(&rows.a)?.scale(1.0 / 20.0)?;
    let newton = rows.gradient()?.matmul(&damped_inverse(&a, 0.0)?)?;
    step(&mut weight, &newton, 1.0)?;
    println!("1. y = x·w with w = {truth:.1}: after one step w = {:.6}\n", weight.value());

    // 2. Two layers and a softmax: records of one backward pass, one direction per layer.
    let x = Tensor::normal([64, 4], 0.0, 1.0, DType::F64, &mut rng);
    let labels = {
        let scores = x.linear(&Tensor::normal([3, 4], 0.0, 1.0, DType::F64, &mut rng), None)?;
        scores.argmax(-1)?
    };
    println!("2. A 4-8-3 network, full batch of 64. Loss by step:\n");
    println!("   step   gradient descent, rate 0.5   K-FAC by hand, rate 0.5, λ 0.01");
    let (mut descent, mut natural) = (Net::new(1), Net::new(1));
    for k in 0..=12 {
        let mut losses = [0.0; 2];
        for (net, loss_value, by_hand) in
            [(&mut descent, 0, false), (&mut natural, 1, true)].map(|(n, i, b)| (n, i, b))
        {
            let tape = Tape::new();
            let loss = CrossEntropy::new(&labels);
            let nll = loss.nll(&net.forward(&tape.input(x.clone()))?)?;
            losses[loss_value] = nll.item()?;
            let mut records: Vec<LayerRecord> = Vec::new();
            let grads = tape.backward_observed(&nll, &mut records)?;
            drop(tape);
            for record in &records {
                let d = if by_hand {
                    direction(record, loss.terms(), 0.01)?
                } else {
                    record.rows()?[0].gradient()?
                };
                let width = d.shape()[1] - 1;
                for (_, p) in net.parameters_mut() {
                    if p.id() == record.weight {
                        step(p, &d.narrow(1, 0, width)?, 0.5)?;
                    } else if Some(p.id()) == record.bias {
                        step(p, &d.narrow(1, width, 1)?, 0.5)?;
                    }
                }
            }
            debug_assert_eq!(grads.len(), 4);
        }
        println!("   {k:>4}   {:>26.6}   {:>31.6}", losses[0], losses[1]);
    }
    println!("\nThe only inputs were the records: input and output gradient of each layer.");
    Ok(())
}
