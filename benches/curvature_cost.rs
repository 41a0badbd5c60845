//! What second order costs in training: a step of Adam, K-FAC and Shampoo on a ResNet-18 for 32 images of
//! 32 × 32 pixels: between refreshes, with each kind of refresh, and the mean over a period.
//!
//! | | customary intervals | source |
//! |---|---|---|
//! | K-FAC | factors every 10 steps, inverses every 100 | Pauloski et al. 2020, for ImageNet |
//! | Shampoo | roots every 100 steps, blocks of 256 | Anil et al. 2020; Shi et al. 2023 use 100 and 1024 |
//!
//! K-FAC stands there with whole factors, and with factors cut into blocks of [`BLOCK`]. Beside the times
//! are the operations of a training step (products of layers, forward and twice back) and of the two
//! products that a direction takes: what no program can save.
//!
//! A table, not criterion's: one inverse of a ResNet-18 takes as long as ten steps, and what is wanted is
//! a sum of four figures. `cargo bench --bench curvature_cost [-- kfac|empirical|blocks|alike|shampoo] [images]`

#![allow(clippy::print_stdout, reason = "a table is what it makes")]

use std::time::Instant;

use alcyon::engine::ops::interpolate::Interpolation;
use alcyon::engine::{Error, LayerRecord, Likelihood, Result};
use alcyon::nn::data::digits;
use alcyon::nn::models::{ResNetConfig, Stem};
use alcyon::nn::{CrossEntropy, Module, Sequential};
use alcyon::optim::curvature::Pattern;
use alcyon::optim::{
    self, Adam, AdamConfig, Fisher, Kfac, KfacConfig, LongSides, Shampoo, ShampooConfig,
};
use alcyon::prelude::*;

/// So long that no second refresh comes.
const NEVER: u64 = 1 << 40;

/// The longest side of K-FAC's factors where they are cut.
const BLOCK: usize = 512;

/// So small that no number grows however long it is measured.
const RATE: f64 = 1e-8;

struct Bench {
    images: Tensor,
    labels: Tensor,
}

impl Bench {
    /// The median seconds of a step, of `samples`, after one that is not counted.
    fn step(&self, optimizer: &mut dyn Optimizer, samples: usize) -> Result<f64> {
        let mut model = Self::model()?;
        let loss = CrossEntropy::new(&self.labels);
        let mut seconds = Vec::new();
        for _ in 0..=samples {
            let start = Instant::now();
            let tape = Tape::training(0);
            let logits = model.forward(&tape.input(self.images.clone()))?;
            let pass = optim::backward(&tape, &logits, &loss, optimizer)?;
            model.commit(tape.staged())?;
            drop((logits, tape));
            optimizer.step(&mut model, &pass.gradients)?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.remove(0);
        seconds.sort_by(f64::total_cmp);
        Ok(seconds[samples / 2])
    }

    fn model() -> Result<Sequential> {
        let config = ResNetConfig { stem: Stem::Cifar, classes: 10, ..ResNetConfig::default() };
        config.build(&mut Rng::new(1))
    }

    /// Operations of a training step's products, and of a direction by whole factors and by blocks.
    fn operations(&self) -> Result<[f64; 3]> {
        let model = Self::model()?;
        let tape = Tape::training(0);
        let loss = CrossEntropy::new(&self.labels)
            .nll(&model.forward(&tape.input(self.images.clone()))?)?;
        let mut records: Vec<LayerRecord> = Vec::new();
        tape.backward_observed(&loss, &mut records)?;
        let mut sums = [0.0; 3];
        for record in records.iter().filter(|r| r.weight_shape.rank() > 1) {
            let (numbers, m) = (record.weight_shape.numel(), record.weight_shape[0]);
            let rows = (record.output_grad.numel() / m) as f64;
            let taps = record.weight_shape.iter().skip(2).product();
            let side = |block| {
                let blocks = |n, unit| Pattern::cut(n, unit, block).numbers() as f64;
                let (n, m) = (numbers / m, m);
                2.0 * (n as f64 * blocks(m, 1) + m as f64 * blocks(n, taps))
            };
            let all = [6.0 * rows * numbers as f64, side(None), side(Some(BLOCK))];
            sums.iter_mut().zip(all).for_each(|(sum, x)| *sum += x);
        }
        Ok(sums)
    }

    fn kfac(&self, adam: f64, fisher: Fisher, sides: LongSides) -> Result<()> {
        let cost = |factor_every, inverse_every, samples| {
            let rate = RATE;
            let config = KfacConfig {
                rate,
                fisher,
                factor_every,
                inverse_every,
                sides,
                ..KfacConfig::default()
            };
            self.step(&mut Kfac::new(config)?, samples)
        };
        let (plain, factors) = (cost(NEVER, NEVER, 5)?, cost(1, NEVER, 3)?);
        let both = cost(1, 1, 1)?;
        let mean = plain + (factors - plain) / 10.0 + (both - factors) / 100.0;
        println!(
            "kfac, {fisher:?}, {sides:?}: a mean over 100 steps with 10 looks at factors and 1 inversion"
        );
        rows(adam, &[("between", plain), ("factors", factors), ("inverses", both), ("mean", mean)]);
        Ok(())
    }

    /// The direction of K-FAC's first step on a network that has seen some steps of Adam.
    fn direction(&self, trained: &Sequential, sides: LongSides) -> Result<Vec<Vec<f64>>> {
        let mut model = Self::model()?;
        let all = model.parameters_mut().into_iter().zip(trained.parameters());
        all.for_each(|((_, to), (_, from))| *to.value_mut() = from.value().clone());
        let config = KfacConfig { rate: 1.0, kl_clip: None, sides, ..KfacConfig::default() };
        self.one_step(&mut model, &mut Kfac::new(config)?)?;
        let pairs = model.parameters().into_iter().zip(trained.parameters());
        pairs.map(|((_, new), (_, old))| old.value().sub(new.value())?.to_f64_vec()).collect()
    }

    fn one_step(&self, model: &mut Sequential, optimizer: &mut dyn Optimizer) -> Result<()> {
        let tape = Tape::training(0);
        let logits = model.forward(&tape.input(self.images.clone()))?;
        let pass = optim::backward(&tape, &logits, &CrossEntropy::new(&self.labels), optimizer)?;
        drop((logits, tape));
        optimizer.step(model, &pass.gradients)
    }

    /// How much the direction in blocks is the direction by whole factors: on digits of this size.
    fn alike(batch: usize) -> Result<()> {
        let (digits, _) = digits()?;
        let digits = digits.range(0, batch)?;
        let bilinear = Interpolation::Bilinear { align_corners: false };
        let grey = digits.inputs.reshape([batch, 1, 8, 8])?.interpolate((32, 32), bilinear)?;
        let images = grey.broadcast_to([batch, 3, 32, 32])?.contiguous()?;
        let bench = Self { images, labels: digits.labels.contiguous()? };
        let mut model = Self::model()?;
        let mut adam = Adam::new(AdamConfig::default())?;
        for steps in [0, 20] {
            (0..steps).try_for_each(|_| bench.one_step(&mut model, &mut adam))?;
            let whole = bench.direction(&model, LongSides::whole())?;
            let cut = bench.direction(&model, LongSides::blocks(BLOCK))?;
            let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
            let cosine = |x: &[f64], y: &[f64]| dot(x, y) / (dot(x, x) * dot(y, y)).sqrt();
            println!(
                "digits, after {steps} steps of adam: cosine {:.3} of the whole direction in blocks of {BLOCK}",
                cosine(&cut.concat(), &whole.concat())
            );
            for (((path, p), x), y) in model.parameters().into_iter().zip(&whole).zip(&cut) {
                let n = p.value().numel() / p.value().shape()[0];
                if n > BLOCK {
                    println!("  {path:28} {n:5} inputs: {:.3}", cosine(x, y));
                }
            }
        }
        Ok(())
    }

    fn shampoo(&self, adam: f64) -> Result<()> {
        let cost = |root_every, samples| {
            let config = ShampooConfig { rate: RATE, root_every, ..ShampooConfig::default() };
            self.step(&mut Shampoo::new(config)?, samples)
        };
        let (plain, roots) = (cost(NEVER, 5)?, cost(1, 2)?);
        let every = |n: f64| plain + (roots - plain) / n;
        println!("shampoo, blocks of 256");
        let means = [("roots / 10", every(10.0)), ("roots / 100", every(100.0))];
        rows(adam, &[[("between", plain), ("roots", roots)], means].concat());
        Ok(())
    }
}

fn rows(adam: f64, all: &[(&str, f64)]) {
    for (name, seconds) in all {
        println!("  {name:12} {:9.1} ms   {:6.2} x adam", 1e3 * seconds, seconds / adam);
    }
}

fn main() -> Result<()> {
    let mut wanted: Vec<String> =
        std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let batch = wanted.iter().find_map(|word| word.parse().ok()).unwrap_or(32);
    wanted.retain(|word| word.parse::<usize>().is_err());
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    let rng = &mut Rng::new(0);
    let images = Tensor::normal([batch, 3, 32, 32], 0.0, 1.0, DType::F32, rng);
    let bench = Bench { images, labels: Tensor::random_indices([batch], 10, rng)? };
    let [training, whole, blocks] = bench.operations()?.map(|x| x / 1e9);
    println!("{batch} images: {training:.1} G operations in a training step's products");
    println!("a direction: {whole:.1} G by whole factors, {blocks:.1} G in blocks of {BLOCK}");
    let mut adam = Adam::new(AdamConfig { rate: RATE, ..AdamConfig::default() })?;
    let adam = bench.step(&mut adam, 5)?;
    println!("adam");
    rows(adam, &[("step", adam)]);
    if is_wanted("kfac") {
        bench.kfac(adam, Fisher::Sampled { draws: 1 }, LongSides::whole())?;
    }
    if is_wanted("empirical") {
        bench.kfac(adam, Fisher::Empirical, LongSides::whole())?;
    }
    if is_wanted("blocks") {
        bench.kfac(adam, Fisher::Sampled { draws: 1 }, LongSides::blocks(BLOCK))?;
        bench.kfac(adam, Fisher::Empirical, LongSides::blocks(BLOCK))?;
    }
    if is_wanted("alike") {
        Bench::alike(batch)?;
    }
    if is_wanted("shampoo") {
        bench.shampoo(adam)?;
    }
    Ok::<(), Error>(())
}
