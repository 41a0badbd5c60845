//! Trains a language model on text, and compares it with one that counts pairs of tokens.
//!
//! `cargo run --release -p train_text -- --help` says the rest. Killed at any moment, the same
//! command goes on from the last snapshot.
//!
//! | to see … | open |
//! |---|---|
//! | how a text becomes batches | `corpus.rs` |
//! | which models there are | `network.rs` |
//! | what can be asked for | `cli.rs`, `../training/options.rs` |
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its reader")]

mod cli;
mod corpus;
mod network;
#[path = "../../training/mod.rs"]
mod training;

use std::process::ExitCode;

use alcyon::prelude::*;
use alcyon::train::Supervised;
use clap::Parser;

use cli::Cli;
use corpus::Corpus;
use training::session::Session;

fn main() -> ExitCode {
    alcyon::kernels::parallel::work_here();
    training::exit(train(&Cli::parse().quickened()))
}

fn train(cli: &Cli) -> Result<ExitCode> {
    cli.options.open_device()?;
    let corpus = Corpus::open(cli)?;
    let (vocabulary, bigram) = (corpus.tokenizer.vocabulary(), corpus.bigram()?);
    let batch_size = cli.options.batch_size.unwrap_or(16);
    let (batches, held_out) = corpus.batches(cli, batch_size)?;
    let mut model = network::build(cli, vocabulary, &mut Rng::new(cli.options.seed))?;
    println!(
        "{}: {} parameters. {}: {} {} to train on, {} held out, {vocabulary} different ones.\n\
         Perplexity of guessing evenly {vocabulary}, of counting pairs {bigram:.3}.",
        cli.model,
        model.parameter_count(),
        corpus.name,
        corpus.train.len(),
        cli.units.name(),
        corpus.held_out.len(),
    );
    let settings = [
        ("model", cli.model.clone()),
        ("width, layers, heads", format!("{}, {}, {}", cli.width, cli.layers, cli.heads)),
        ("dropout", cli.dropout.to_string()),
        ("text", cli.text.clone().unwrap_or_else(|| corpus.name.clone())),
        ("units", format!("{vocabulary} {}", cli.units.name())),
        ("units to train on", corpus.train.len().to_string()),
        ("units held out", corpus.held_out.len().to_string()),
        ("context", cli.context.to_string()),
        ("batch size", batch_size.to_string()),
    ];
    let session = Session {
        options: &cli.options,
        name: format!("{}-{}", cli.model, corpus.name),
        settings: settings.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        references: vec![("counting pairs".to_owned(), bigram)],
        usual: (cli::USUAL, 10),
    };
    model.to_device(cli.options.device)?;
    let (outcome, code) =
        session.run(&mut model, &Supervised::language_model(), &batches, &held_out)?;
    if let Some(best) = outcome.best() {
        let verdict = if best.score < bigram { "below" } else { "not yet below" };
        println!("Best perplexity {:.3}: {verdict} the {bigram:.3} of counting pairs.", best.score);
    }
    Ok(code)
}
