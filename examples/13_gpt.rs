//! 13 · GPT: the same loop learns to write, a character at a time.
//!
//! `cargo run --release --example 13_gpt`
#![allow(clippy::print_stdout, reason = "a lesson prints")]

use alcyon::nn::data::Batch;
use alcyon::nn::models::GptConfig;
use alcyon::optim;
use alcyon::prelude::*;
use alcyon::train::{Batches, Budget, Event, Every, Pace, Plan, Stream, Supervised, Trainer};

/// The beginning of Jane Austen's "Persuasion".
const TEXT: &str = include_str!("train_text/persuasion.txt");
const CONTEXT: usize = 48;
const STEPS: u64 = 400;

/// 1. A text is a row of numbers. Of windows of it, the inputs are all but the last and the targets all
///    but the first: every position predicts what comes next.
struct Windows<'a> {
    tokens: &'a [i64],
    /// Windows of a batch.
    size: usize,
}

impl Batches for Windows<'_> {
    fn count(&self) -> usize {
        self.tokens.len() / CONTEXT / self.size
    }

    fn epoch(&self, epoch: u64, from: usize) -> Stream<'_> {
        // Each epoch cuts elsewhere.
        let shift = epoch as usize * 17 % CONTEXT;
        let batch = move |number: usize| {
            let part = |next: usize| {
                let start = |row| {
                    ((row * self.count() + number) * CONTEXT + shift)
                        % (self.tokens.len() - CONTEXT - 1)
                };
                let window = |row| &self.tokens[start(row) + next..start(row) + next + CONTEXT];
                let tokens = (0..self.size).flat_map(window).copied().collect();
                Tensor::from_vec(tokens, [self.size, CONTEXT])
            };
            Ok(Batch { inputs: part(0)?, targets: part(1)? })
        };
        Box::new((from..self.count()).map(batch))
    }
}

fn main() -> Result<()> {
    let mut characters: Vec<char> = TEXT.chars().collect();
    characters.sort_unstable();
    characters.dedup();
    let number = |c| characters.binary_search(&c).map_or(0, |at| at as i64);
    let tokens: Vec<i64> = TEXT.chars().map(number).collect();
    let (train, held_out) = tokens.split_at(tokens.len() * 9 / 10);

    // 2. The model: two blocks of attention, and a readout tied to the table of characters.
    let (vocabulary, width) = (characters.len(), 48);
    let config = GptConfig {
        vocabulary,
        context: CONTEXT,
        width,
        layers: 2,
        heads: 4,
        dropout: 0.0,
        frozen_tables: false,
    };
    let mut model = config.build_gpt2(&mut Rng::new(0))?;
    println!("{vocabulary} characters, {} parameters\n", model.parameter_count());

    // 3. The loop. Perplexity is the number of equally likely characters that would be as surprising.
    let rate = 0.003;
    let mut optimizer = optim::build("adamw", Some(rate))?;
    let plan = Plan {
        budget: Budget::steps(STEPS),
        pace: Some(Pace::Steps(Schedule::cosine(rate, STEPS).warm_up(20))),
        evaluate: Every::Steps(100),
        clip_norm: Some(1.0),
        ..Plan::default()
    };
    let mut print = |event: &Event<'_>| {
        if let Event::Evaluated { evaluation: e, .. } = event {
            println!("step {:>4}   perplexity on unseen pages {:.2}", e.step, e.score);
        }
        Ok(())
    };
    let outcome = Trainer::new(&mut model, &mut *optimizer, &Supervised::language_model(), plan)?
        .observe(&mut print)
        .run(&Windows { tokens: train, size: 16 }, &Windows { tokens: held_out, size: 16 })?;
    let best = outcome.best().map_or(f64::NAN, |best| best.score);
    println!(
        "\nGuessing evenly is {vocabulary}, knowing the character before about 11; this is {best:.2}."
    );

    // 4. It writes: each character is drawn from what the model expects after those before it.
    let mut written: Vec<i64> = "Anne ".chars().map(number).collect();
    let mut rng = Rng::new(2);
    for _ in 0..240 {
        let seen = &written[written.len().saturating_sub(CONTEXT)..];
        let logits = model.predict(&Tensor::from_slice(seen, [1, seen.len()])?)?;
        let last = logits.narrow(1, seen.len() - 1, 1)?.scale(1.0 / 0.7)?.softmax(-1)?;
        let mut left = Tensor::uniform([1], 0.0, 1.0, DType::F64, &mut rng).item()?;
        let drawn = last.to_f64_vec()?.iter().position(|p| {
            left -= p;
            left <= 0.0
        });
        written.push(drawn.unwrap_or(0) as i64);
    }
    let text: String = written.iter().map(|&token| characters[token as usize]).collect();
    println!("\n{text}");
    Ok(())
}
