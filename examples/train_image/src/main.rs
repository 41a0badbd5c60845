//! Trains a network on images: any model of the library, any optimizer, a budget in epochs or minutes.
//!
//! `cargo run --release -p train_image -- --help` says the rest. Killed at any moment, the same
//! command goes on from the last snapshot.
//!
//! | to see … | open |
//! |---|---|
//! | which networks there are | `network.rs` |
//! | which images | `images.rs` |
//! | what can be asked for | `cli.rs`, `../training/options.rs` |
//! | how a run is put together | `../training/session.rs` |
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its reader")]

mod cli;
mod images;
mod network;
#[path = "../../training/mod.rs"]
mod training;

use std::process::ExitCode;

use alcyon::prelude::*;
use alcyon::train::Supervised;
use clap::Parser;

use cli::Cli;
use images::Images;
use training::session::Session;

fn main() -> ExitCode {
    alcyon::kernels::parallel::work_here();
    training::exit(train(&Cli::parse().quickened()))
}

fn train(cli: &Cli) -> Result<ExitCode> {
    cli.options.open_device()?;
    let images = Images::open(cli)?;
    let rng = &mut Rng::new(cli.options.seed);
    let mut network = network::build(&cli.model, images.shape, images.classes, rng)?;
    let [c, h, w] = images.shape;
    println!(
        "{}: {} parameters. {}: {} images to train on, {} held out, {c} × {h} × {w}.",
        cli.model,
        network.parameter_count(),
        cli.dataset,
        images.rows.0,
        images.rows.1
    );
    if !images.passed_over.is_empty() {
        println!("Passed over, no images of a known kind: {}.", images.passed_over);
    }
    let settings = [
        ("model", cli.model.clone()),
        ("data", cli.dataset.clone()),
        ("images to train on", images.rows.0.to_string()),
        ("images held out", images.rows.1.to_string()),
        ("images", format!("{c} × {h} × {w}, {} classes", images.classes)),
        ("augmentation", format!("{:?}", cli.augment).to_lowercase()),
        ("batch size", images.batch_size.to_string()),
    ];
    let session = Session {
        options: &cli.options,
        name: format!("{}-{}", cli.model, cli.dataset),
        settings: settings.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        references: Vec::new(),
        usual: ("adafisher-root", 10),
    };
    network.to_device(cli.options.device)?;
    let task = Supervised::classification();
    let (_, code) = session.run(&mut network, &task, &images.train, &images.held_out)?;
    Ok(code)
}
