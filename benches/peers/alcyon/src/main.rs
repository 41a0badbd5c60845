//! Alcyon's side of the comparison: one line of JSON a case.
//!
//! ```sh
//! RAYON_NUM_THREADS=2 alcyon-bench --case mlp_adam,gpt_adamw
//! ```

mod models;

use alcyon::engine::{Error, Result};
use alcyon::nn::{CrossEntropy, Module};
use alcyon::optim::{self, AdaFisher, AdaFisherConfig, Adam, AdamConfig, Sgd, SgdConfig};
use alcyon::prelude::*;
use models::{Gpt, ResNet18, cnn, mlp};
use peers::{Args, report};

const MILLIONS: usize = 16 * 1024 * 1024;

fn main() -> Result<()> {
    let args = Args::read();
    alcyon::kernels::parallel::work_here();
    args.cases.iter().try_for_each(|case| run(&args, case))
}

fn run(args: &Args, case: &str) -> Result<()> {
    let rng = &mut Rng::new(0);
    match case {
        "matmul_512" => matmul(args, case, [512, 512, 512]),
        "matmul_1024" => matmul(args, case, [1024, 1024, 1024]),
        "matmul_64x4096x64" => matmul(args, case, [64, 4096, 64]),
        "add_16m" | "relu_16m" | "sum_16m" => elementwise(args, case),
        "mlp_adam" => train(args, case, mlp(rng), adam(false)?, &digits([128, 784])?),
        "mlp_adafisher" => race(args, "mlp", || mlp(&mut Rng::new(0)), &digits([128, 784])?),
        "cnn_sgd" => train(args, case, cnn(rng), sgd()?, &digits([64, 1, 28, 28])?),
        "cnn_adafisher" => race(args, "cnn", || cnn(&mut Rng::new(0)), &digits([64, 1, 28, 28])?),
        "resnet18_sgd" => train(args, case, ResNet18::new(rng), sgd()?, &digits([32, 3, 32, 32])?),
        "gpt_adamw" => train(args, case, Gpt::new(false, rng), adam(true)?, &text()?),
        "gpt_adamw_sdpa" => train(args, case, Gpt::new(true, rng), adam(true)?, &text()?),
        "gpt_adafisher" => race(args, "gpt", || Gpt::new(false, &mut Rng::new(0)), &text()?),
        _ => Err(Error::Argument {
            op: "bench",
            name: "case",
            expected: "a case of the table",
            got: case.to_owned(),
        }),
    }
}

fn normal(shape: impl Into<Shape>) -> Tensor {
    Tensor::normal(shape, 0.0, 1.0, DType::F32, &mut Rng::new(1))
}

fn matmul(args: &Args, case: &str, [m, k, n]: [usize; 3]) -> Result<()> {
    let (a, b) = (normal([m, k]), normal([k, n]));
    report(case, args.time(10, || a.matmul(&b).map(drop))?, &[]);
    Ok(())
}

fn elementwise(args: &Args, case: &str) -> Result<()> {
    let (a, b) = (normal([MILLIONS]), normal([MILLIONS]));
    let times = args.time(3, || match case {
        "add_16m" => a.add(&b).map(drop),
        "relu_16m" => a.relu().map(drop),
        _ => a.sum_all()?.item().map(drop),
    })?;
    report(case, times, &[]);
    Ok(())
}

/// One batch, again and again: what its numbers are does not matter for the time.
struct Batch {
    inputs: Tensor,
    labels: Tensor,
}

fn digits(shape: impl Into<Shape>) -> Result<Batch> {
    let inputs = normal(shape);
    let n = inputs.shape()[0];
    Ok(Batch { inputs, labels: Tensor::from_vec(peers::labels(n, 10), [n])? })
}

fn text() -> Result<Batch> {
    let ids = Tensor::from_vec(peers::labels(1024, 256), [16, 64])?;
    Ok(Batch { labels: ids.reshape([1024])?, inputs: ids })
}

fn sgd() -> Result<Sgd> {
    Sgd::new(SgdConfig { rate: 0.01, momentum: 0.0, ..SgdConfig::default() })
}

fn adam(decoupled: bool) -> Result<Adam> {
    let weight_decay = if decoupled { 0.01 } else { 0.0 };
    Adam::new(AdamConfig { rate: 1e-3, weight_decay, decoupled, ..AdamConfig::default() })
}

/// Forward, loss, backward, update, and the loss read.
fn step(model: &mut impl Module, optimizer: &mut dyn Optimizer, batch: &Batch) -> Result<f32> {
    let tape = Tape::training(0);
    let logits = model.forward(&tape.input(batch.inputs.clone()))?;
    let loss = CrossEntropy::new(&batch.labels);
    let pass = optim::backward(&tape, &logits, &loss, optimizer)?;
    model.commit(tape.staged())?;
    drop((logits, tape));
    optimizer.step(model, &pass.gradients)?;
    Ok(pass.loss.item()? as f32)
}

fn train(
    args: &Args,
    case: &str,
    mut model: impl Module,
    mut optimizer: impl Optimizer,
    batch: &Batch,
) -> Result<()> {
    let mut losses = Vec::new();
    let warm = if case.starts_with("resnet") { 2 } else { 5 };
    let times = args.time(warm, || {
        losses.push(step(&mut model, &mut optimizer, batch)?);
        Ok::<(), Error>(())
    })?;
    report(case, times, &losses);
    Ok(())
}

/// Adam, AdaFisher with curvature from every step and from every tenth, taking turns in stretches
/// of ten steps, so that a busy machine slows all three alike.
fn race<M: Module>(args: &Args, name: &str, model: impl Fn() -> M, batch: &Batch) -> Result<()> {
    let adafisher = |every| {
        let config = AdaFisherConfig { every, rate: 1e-4, ..AdaFisherConfig::thesis() };
        AdaFisher::new(config)
    };
    let mut runners: [(&str, M, Box<dyn Optimizer>); 3] = [
        ("adam", model(), Box::new(adam(false)?)),
        ("adafisher", model(), Box::new(adafisher(1)?)),
        ("adafisher_every10", model(), Box::new(adafisher(10)?)),
    ];
    let (mut times, begin) = (vec![Vec::new(); 3], std::time::Instant::now());
    while times[0].len() < args.iterations.max(4) || begin.elapsed().as_secs_f64() < args.seconds {
        for ((_, model, optimizer), times) in runners.iter_mut().zip(&mut times) {
            let start = std::time::Instant::now();
            for _ in 0..10 {
                step(model, &mut **optimizer, batch)?;
            }
            times.push(start.elapsed().as_secs_f64() / 10.0);
        }
    }
    for ((optimizer, ..), times) in runners.iter().zip(times) {
        report(&format!("{name}_race_{optimizer}"), times, &[]);
    }
    Ok(())
}
