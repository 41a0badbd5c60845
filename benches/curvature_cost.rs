//! What second order costs in training: a step of Adam, K-FAC and Shampoo on a ResNet-18 for 32 images of
//! 32 × 32 pixels: between refreshes, with each kind of refresh, and the mean over a period.
//!
//! | | customary intervals | source |
//! |---|---|---|
//! | K-FAC | factors every 10 steps, inverses every 100 | Pauloski et al. 2020, for ImageNet |
//! | Shampoo | roots every 100 steps, blocks of 256 | Anil et al. 2020; Shi et al. 2023 use 100 and 1024 |
//!
//! A table, not criterion's: one inverse of a ResNet-18 takes as long as ten steps, and what is wanted is
//! a sum of four figures. `cargo bench --bench curvature_cost [-- kfac|shampoo]`

#![allow(clippy::print_stdout, reason = "a table is what it makes")]

use std::time::Instant;

use alcyon::engine::{Error, Result};
use alcyon::nn::models::{ResNetConfig, Stem};
use alcyon::nn::{CrossEntropy, Module};
use alcyon::optim::{self, Adam, AdamConfig, Fisher, Kfac, KfacConfig, Shampoo, ShampooConfig};
use alcyon::prelude::*;

/// So long that no second refresh comes.
const NEVER: u64 = 1 << 40;

/// So small that no number grows however long it is measured.
const RATE: f64 = 1e-8;

struct Bench {
    images: Tensor,
    labels: Tensor,
}

impl Bench {
    /// The median seconds of a step, of `samples`, after one that is not counted.
    fn step(&self, optimizer: &mut dyn Optimizer, samples: usize) -> Result<f64> {
        let config = ResNetConfig { stem: Stem::Cifar, classes: 10, ..ResNetConfig::default() };
        let mut model = config.build(&mut Rng::new(1))?;
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

    fn kfac(&self, adam: f64, fisher: Fisher) -> Result<()> {
        let cost = |factor_every, inverse_every, samples| {
            let rate = RATE;
            let config =
                KfacConfig { rate, fisher, factor_every, inverse_every, ..KfacConfig::default() };
            self.step(&mut Kfac::new(config)?, samples)
        };
        let (plain, factors) = (cost(NEVER, NEVER, 5)?, cost(1, NEVER, 3)?);
        let both = cost(1, 1, 1)?;
        let mean = plain + (factors - plain) / 10.0 + (both - factors) / 100.0;
        println!(
            "kfac, {fisher:?}: a mean over 100 steps with 10 looks at factors and 1 inversion"
        );
        rows(adam, &[("between", plain), ("factors", factors), ("inverses", both), ("mean", mean)]);
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
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    let rng = &mut Rng::new(0);
    let images = Tensor::normal([32, 3, 32, 32], 0.0, 1.0, DType::F32, rng);
    let bench = Bench { images, labels: Tensor::random_indices([32], 10, rng)? };
    let mut adam = Adam::new(AdamConfig { rate: RATE, ..AdamConfig::default() })?;
    let adam = bench.step(&mut adam, 5)?;
    println!("adam");
    rows(adam, &[("step", adam)]);
    if is_wanted("kfac") {
        bench.kfac(adam, Fisher::Sampled { draws: 1 })?;
        bench.kfac(adam, Fisher::Empirical)?;
    }
    if is_wanted("shampoo") {
        bench.shampoo(adam)?;
    }
    Ok::<(), Error>(())
}
