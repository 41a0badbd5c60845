//! Alcyon's side of the comparison: one line of JSON a case.
//!
//! ```sh
//! RAYON_NUM_THREADS=2 alcyon-bench --case mlp_adam,gpt_adamw
//! alcyon-bench --case resnet18_256,gpt_small --device cuda --precision bf16 --graph yes
//! ```

mod models;

use alcyon::engine::{Error, Replay, Result};
use alcyon::nn::{CrossEntropy, Module};
use alcyon::optim::{AdaFisher, AdaFisherConfig, Adam, AdamConfig, Sgd, SgdConfig, self};
use alcyon::prelude::*;
use alcyon::train::Precision;
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
        "resnet18_sgd" => train(args, case, ResNet18::new(rng), sgd()?, &images(32)?),
        "resnet18_256" => train(args, case, ResNet18::new(rng), sgd()?, &images(256)?),
        "resnet18_adafisher" => {
            race(args, "resnet18", || ResNet18::new(&mut Rng::new(0)), &images(256)?)
        }
        "gpt_adamw" => train(args, case, Gpt::new(false, rng), adam(true)?, &text(16, 64, 256)?),
        "gpt_adamw_sdpa" => {
            train(args, case, Gpt::new(true, rng), adam(true)?, &text(16, 64, 256)?)
        }
        "gpt_small" => train(args, case, Gpt::small(rng), adam(true)?, &text(8, 512, 50304)?),
        "gpt_adafisher" => {
            race(args, "gpt", || Gpt::new(on_cuda(args), &mut Rng::new(0)), &text(16, 64, 256)?)
        }
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

fn images(n: usize) -> Result<Batch> {
    digits([n, 3, 32, 32])
}

fn text(n: usize, t: usize, vocabulary: u32) -> Result<Batch> {
    let ids = Tensor::from_vec(peers::labels(n * t, vocabulary), [n, t])?;
    Ok(Batch { labels: ids.reshape([n * t])?, inputs: ids })
}

fn on_cuda(args: &Args) -> bool {
    args.device.starts_with("cuda")
}

impl Batch {
    /// Where the arguments say.
    fn placed(&self, device: Device) -> Result<Self> {
        let (inputs, labels) = (self.inputs.to_device(device)?, self.labels.to_device(device)?);
        Ok(Self { inputs, labels })
    }
}

/// How passes are made.
struct How {
    device: Device,
    precision: Precision,
    graph: bool,
}

impl How {
    fn of(args: &Args) -> Result<Self> {
        let device: Device = args.device.parse()?;
        device.open()?.allow_tf32(args.precision == "tf32")?;
        let precision = if args.precision == "bf16" { Precision::BF16 } else { Precision::F32 };
        Ok(Self { device, precision, graph: args.graph })
    }
}

/// A model with its optimizer, and its pass if that has been captured.
struct Runner<M> {
    model: M,
    optimizer: Box<dyn Optimizer>,
    replay: Option<Replay>,
    steps: u64,
}

fn sgd() -> Result<Sgd> {
    Sgd::new(SgdConfig { rate: 0.01, momentum: 0.0, ..SgdConfig::default() })
}

fn adam(decoupled: bool) -> Result<Adam> {
    let weight_decay = if decoupled { 0.01 } else { 0.0 };
    Adam::new(AdamConfig { rate: 1e-3, weight_decay, decoupled, ..AdamConfig::default() })
}

impl<M: Module> Runner<M> {
    fn new(mut model: M, optimizer: Box<dyn Optimizer>, how: &How) -> Result<Self> {
        model.to_device(how.device)?;
        Ok(Self { model, optimizer, replay: None, steps: 0 })
    }

    /// Forward, loss, backward, update, and the loss read.
    fn step(&mut self, batch: &Batch, how: &How) -> Result<f32> {
        self.steps += 1;
        // The first pass of all loads kernels.
        if how.graph && self.steps > 1 && optim::replayable(&mut *self.optimizer).is_some() {
            return self.replayed(batch, how);
        }
        let tape = Tape::training(0);
        let input = tape.input(batch.inputs.clone());
        let logits = how.precision.outputs(&tape, || self.model.forward(&input))?;
        let loss = CrossEntropy::new(&batch.labels);
        let pass = optim::backward(&tape, &logits, &loss, &mut *self.optimizer)?;
        self.model.commit(tape.staged())?;
        drop((logits, input, tape));
        self.optimizer.step(&mut self.model, &pass.gradients)?;
        Ok(pass.loss.item()? as f32)
    }

    /// The same by a captured pass.
    fn replayed(&mut self, batch: &Batch, how: &How) -> Result<f32> {
        let inputs = [&batch.inputs, &batch.labels];
        if self.replay.is_none() {
            let observed = self.optimizer.curvature().is_some();
            let pass = |model: &M, tape: &Tape, x: &[Tensor]| {
                let input = tape.input(x[0].clone());
                let logits = how.precision.outputs(tape, || model.forward(&input))?;
                CrossEntropy::new(&x[1]).nll(&logits)
            };
            self.replay = Some(Replay::capture(&mut self.model, &inputs, 0, observed, pass)?);
        }
        let moved = || Error::Argument {
            op: "bench",
            name: "model",
            expected: "where it was",
            got: "elsewhere".to_owned(),
        };
        let replay = self.replay.as_ref().ok_or_else(moved)?;
        if !replay.launch(&self.model, &inputs, 0)? {
            return Err(moved());
        }
        let terms = batch.labels.numel();
        let pass = optim::replayed(replay, terms, &mut *self.optimizer)?.ok_or_else(moved)?;
        replay.commit(&mut self.model)?;
        self.optimizer.step(&mut self.model, &pass.gradients)?;
        Ok(pass.loss.item()? as f32)
    }
}

fn train(
    args: &Args,
    case: &str,
    model: impl Module,
    optimizer: impl Optimizer + 'static,
    batch: &Batch,
) -> Result<()> {
    let (how, mut losses) = (How::of(args)?, Vec::new());
    let batch = batch.placed(how.device)?;
    let mut runner = Runner::new(model, Box::new(optimizer), &how)?;
    let warm = if case.starts_with("resnet") { 2 } else { 5 };
    let times = args.time(warm, || {
        losses.push(runner.step(&batch, &how)?);
        Ok::<(), Error>(())
    })?;
    report(case, times, &losses);
    Ok(())
}

/// Adam, AdaFisher with curvature from every step and from every tenth, and on a device K-FAC, taking turns in
/// stretches of ten steps, so that a busy machine slows all alike.
fn race<M: Module>(args: &Args, name: &str, model: impl Fn() -> M, batch: &Batch) -> Result<()> {
    let adafisher = |every| {
        let config = AdaFisherConfig { every, rate: 1e-4, ..AdaFisherConfig::thesis() };
        AdaFisher::new(config)
    };
    let how = How::of(args)?;
    let batch = batch.placed(how.device)?;
    let mut optimizers: Vec<(&str, Box<dyn Optimizer>)> = vec![
        ("adam", Box::new(adam(false)?)),
        ("adafisher", Box::new(adafisher(1)?)),
        ("adafisher_every10", Box::new(adafisher(10)?)),
    ];
    if on_cuda(args) {
        let (factor_every, inverse_every, sides) = (10, 100, optim::LongSides::blocks(512));
        let config = KfacConfig { factor_every, inverse_every, sides, ..KfacConfig::default() };
        optimizers.push(("kfac", Box::new(Kfac::new(config)?)));
    }
    let mut runners = Vec::new();
    for (optimizer, built) in optimizers {
        runners.push((optimizer, Runner::new(model(), built, &how)?));
    }
    let (mut times, begin) = (vec![Vec::new(); runners.len()], std::time::Instant::now());
    while times[0].len() < args.iterations.max(4) || begin.elapsed().as_secs_f64() < args.seconds {
        for ((_, runner), times) in runners.iter_mut().zip(&mut times) {
            let start = std::time::Instant::now();
            for _ in 0..10 {
                runner.step(&batch, &how)?;
            }
            times.push(start.elapsed().as_secs_f64() / 10.0);
        }
    }
    for ((optimizer, ..), times) in runners.iter().zip(times) {
        report(&format!("{name}_race_{optimizer}"), times, &[]);
    }
    Ok(())
}
