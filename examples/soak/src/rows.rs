//! What is trained: the networks of `train_image` and `train_text`, prepared as there by another thread.
//!
//! All have twenty batches an epoch, and a tenth of the steps is whole epochs: memory is looked at in the
//! same moment of a step and of an epoch.

use std::path::Path;
use std::thread;
use std::time::Duration;

use alcyon::kernels::pool;
use alcyon::nn::data::augment::{HorizontalFlip, PadCrop};
use alcyon::nn::data::{self, Images, TokenWindows, Tokenizer};
use alcyon::nn::models::GptConfig;
use alcyon::optim;
use alcyon::prelude::*;
use alcyon::train::{Budget, Event, Every, LossOf, Plan, Shuffled, Supervised, Trainer};

use crate::{Held, network};

/// Batches of an epoch.
const BATCHES: usize = 20;

/// The first six chapters of Jane Austen's "Persuasion" (1818), in the public domain.
const PERSUASION: &str = include_str!("../../train_text/persuasion.txt");

/// One line of the table.
pub(crate) struct Row {
    network: &'static str,
    optimizer: &'static str,
    pub(crate) steps: u64,
}

pub(crate) fn all() -> Vec<Row> {
    let on_digits = ["sgd", "adam", "adafisher", "kfac", "shampoo", "soap", "muon"];
    let row = |network, optimizer, steps| Row { network, optimizer, steps };
    let mut all: Vec<Row> = on_digits.map(|name| row("mlp", name, 20_000)).into();
    all.push(row("mlp", "lbfgs", 4_000));
    all.push(row("cnn", "adafisher-root", 2_000));
    all.push(row("gpt2", "adam", 2_000));
    all
}

impl Row {
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.network, self.optimizer)
    }

    /// Trains, and says what was held after a tenth of the steps and after all.
    pub(crate) fn train(&self, steps: u64, data_dir: &Path) -> Result<Vec<Held>> {
        let rng = &mut Rng::new(0);
        match self.network {
            "mlp" => {
                let (images, _) = data::open_images("digits", None)?;
                let images = images.range(0, 64 * BATCHES)?.augmented();
                let network = network::build("mlp", [1, 8, 8], 10, rng)?;
                let task = Supervised::classification();
                self.run(steps, network, &Loader::new(&images, 64)?, &task)
            }
            "cnn" => {
                let pictures = cifar10(data_dir)?.range(0, 128 * BATCHES)?;
                let moved = pictures.augmented().then(PadCrop { padding: 4 }).then(HorizontalFlip);
                let network = network::build("cnn", [3, 32, 32], 10, rng)?;
                let task = Supervised::classification();
                self.run(steps, network, &Loader::new(&moved, 128)?, &task)
            }
            _ => {
                let (context, rows) = (64, 16);
                let tokenizer = Tokenizer::characters(PERSUASION);
                let mut tokens = tokenizer.encode(PERSUASION)?;
                tokens.truncate(BATCHES * rows * context + 1);
                let config = GptConfig {
                    vocabulary: tokenizer.vocabulary(),
                    context,
                    width: 64,
                    layers: 2,
                    heads: 4,
                    dropout: 0.0,
                    frozen_tables: false,
                };
                let windows = TokenWindows::random(&tokens, context)?;
                let task = Supervised::language_model();
                let network = Box::new(config.build_gpt2(rng)?);
                self.run(steps, network, &Loader::new(&windows, rows)?, &task)
            }
        }
    }

    fn run(
        &self,
        steps: u64,
        mut network: Box<dyn Module>,
        loader: &Loader,
        task: &Supervised<LossOf>,
    ) -> Result<Vec<Held>> {
        let mut optimizer = optim::build(self.optimizer, None)?;
        let batches = Shuffled::new(loader.clone().prefetch(1), 0);
        let plan = Plan {
            budget: Budget::steps(steps),
            evaluate: Every::Steps(0),
            log_every: (steps / 10).max(1),
            ..Plan::default()
        };
        let mut held = Vec::new();
        let mut look = |event: &Event<'_>| {
            if let Event::Stepped(step) = event
                && (step.step == steps / 10 || step.step == steps)
            {
                held.push(Held::now());
            }
            Ok(())
        };
        Trainer::new(&mut network, &mut *optimizer, task, plan)?
            .observe(&mut look)
            .run(&batches, loader)?;
        Ok(held)
    }
}

impl Held {
    fn now() -> Self {
        // The thread that prepares batches comes to rest.
        thread::sleep(Duration::from_millis(200));
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        let pool = (pool::live_bytes() + pool::idle_bytes()) as u64;
        Self { resident: kib.unwrap_or(0) * 1024, pool }
    }
}

/// Pictures of 32 × 32 in three colours: the data set's, if it is there.
fn cifar10(data_dir: &Path) -> Result<Images> {
    if let Ok((train, _)) = data::open_images("cifar10", Some(data_dir)) {
        return Ok(train);
    }
    eprintln!("NO cifar10 IN {}: MADE-UP PICTURES OF ITS SHAPE INSTEAD", data_dir.display());
    let count = 128 * BATCHES;
    let bytes = (0..count * 3 * 32 * 32).map(|i| (i * 7 % 251) as u8).collect();
    let labels = (0..count as i64).map(|i| i % 10).collect();
    let names = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    Images::new("made up", [3, 32, 32], bytes, labels, &names)
}
