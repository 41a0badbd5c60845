//! Trains a language model on text, and compares it with one that counts pairs of characters.
//!
//! `cargo run --release --example train_text -- --help` says the rest. Killed at any moment, the same
//! command goes on from the last snapshot.
//!
//! | to see … | open |
//! |---|---|
//! | how a text becomes batches | `corpus.rs` |
//! | what counting pairs comes to | `bigram.rs` |
//! | which models there are | `network.rs` |
//! | what can be asked for | `cli.rs`, `../training/options.rs` |
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its reader")]

mod bigram;
mod cli;
mod corpus;
mod network;
#[path = "../training/options.rs"]
mod options;
#[path = "../training/session.rs"]
mod session;
#[path = "../training/view.rs"]
mod view;

use std::process::ExitCode;

use alcyon::prelude::*;
use alcyon::train::Supervised;
use clap::Parser;

use cli::Cli;
use corpus::Corpus;
use session::Session;

fn main() -> ExitCode {
    alcyon::kernels::parallel::work_here();
    match train(&Cli::parse().quickened()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let asked_wrongly = matches!(error, Error::Unknown { .. } | Error::Argument { .. });
            ExitCode::from(if asked_wrongly { 2 } else { 1 })
        }
    }
}

fn train(cli: &Cli) -> Result<()> {
    let corpus = Corpus::open(cli.text.as_deref())?;
    let (train, held_out) = (corpus.train(), corpus.held_out());
    let bigram = bigram::perplexity(train, held_out, corpus.vocabulary());
    let batch_size = cli.options.batch_size.unwrap_or(16);
    let batches = corpus::Windows::new(train, cli.context, batch_size, cli.options.seed)?;
    let judged = corpus::Windows::in_order(held_out, cli.context, 4 * batch_size)?;
    let rng = &mut Rng::new(cli.options.seed);
    let mut model = network::build(cli, corpus.vocabulary(), rng)?;
    println!(
        "{}: {} parameters. {}: {} characters to train on, {} held out, {} different ones.\n\
         Perplexity of guessing evenly {}, of counting pairs {bigram:.3}.",
        cli.model,
        model.parameter_count(),
        corpus.name,
        train.len(),
        held_out.len(),
        corpus.vocabulary(),
        corpus.vocabulary(),
    );
    let settings = [
        ("model", cli.model.clone()),
        ("width, layers", format!("{}, {}", cli.width, cli.layers)),
        ("dropout", cli.dropout.to_string()),
        ("text", corpus.name.clone()),
        ("characters to train on", train.len().to_string()),
        ("characters held out", held_out.len().to_string()),
        ("context", cli.context.to_string()),
        ("batch size", batch_size.to_string()),
    ];
    let session = Session {
        options: &cli.options,
        name: format!("{}-{}", cli.model, corpus.name),
        settings: settings.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        references: vec![("counting pairs", bigram)]
            .into_iter()
            .map(|(n, s)| (n.into(), s))
            .collect(),
        usual: (cli::USUAL, 10),
    };
    let outcome = session.run(&mut model, &Supervised::language_model(), &batches, &judged)?;
    if let Some(best) = outcome.best() {
        let verdict = if best.score < bigram { "below" } else { "not yet below" };
        println!("Best perplexity {:.3}: {verdict} the {bigram:.3} of counting pairs.", best.score);
    }
    Ok(())
}
