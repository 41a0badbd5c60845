//! Fine-tuning: a network from a file, with another readout, on other classes.
//!
//! `cargo run --release -p finetune`, and `-- --help` for everything else.
//!
//! | to see … | open |
//! |---|---|
//! | which tensors of a file are taken, and what is frozen | `transfer.rs` |
//! | which images, and where the file comes from if none is given | `images.rs` |
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its reader")]

mod images;
#[path = "../../train_image/src/network.rs"]
mod network;
mod transfer;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use alcyon::nn::{Checkpoint, checkpoint};
use alcyon::optim;
use alcyon::prelude::*;
use alcyon::train::{Budget, Outcome, Pace, Plan, Shuffled, Supervised, Trainer};
use clap::Parser;

use images::Images;

/// Loads a safetensors file into a network with another readout, and trains it three ways: from scratch, the
/// whole of it from the file, and only the readout with the rest frozen.
///
/// Without arguments it makes the file itself: a small network learns the digits 0 to 5, and is then to
/// tell 6 to 9 apart from twenty images of each. Nothing is downloaded.
#[derive(Debug, Clone, Parser)]
#[command(max_term_width = 100, allow_negative_numbers = true)]
struct Cli {
    /// A safetensors file with the network's names: the library's own, or a PyTorch `state_dict`.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,

    /// The network, as in `train_image`.
    #[arg(long, default_value = "cnn")]
    model: String,

    /// The images for a file of yours: `mnist`, `fashion`, `cifar10`; without one, digits.
    #[arg(long, default_value = "digits")]
    dataset: String,

    /// Where the files are.
    #[arg(long, value_name = "DIR", default_value = "data")]
    data_dir: PathBuf,

    /// The optimizer; a wrong name lists all of them.
    #[arg(long, default_value = "adam")]
    optimizer: String,

    /// Its learning rate [default: the optimizer's own].
    #[arg(long)]
    rate: Option<f64>,

    /// Passes over the images.
    #[arg(long, default_value_t = 30)]
    epochs: u64,

    /// Where to compute: `cpu`, `cuda` or `cuda:N`. The CPU on every machine unless this says otherwise;
    /// an optimizer that has no steps on a GPU says so.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: Device,

    /// A second or two: three passes.
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    alcyon::kernels::parallel::work_here();
    match finetune(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if error.asked_wrongly() { 2 } else { 1 })
        }
    }
}

fn finetune(cli: &Cli) -> Result<()> {
    cli.device.open()?;
    let (images, file) = match &cli.checkpoint {
        Some(file) => (Images::of_set(&cli.dataset, &cli.data_dir)?, file.clone()),
        None => (Images::of_digits(6..10, Some(20))?, pretrained(cli)?),
    };
    let checkpoint = Checkpoint::read(&file)?;
    let new = || network::build(&cli.model, images.shape, images.classes, &mut Rng::new(1));

    let mut scratch = new()?;
    let outcome = train(cli, &mut scratch, &images)?;
    report("from scratch", &scratch, &outcome);

    let mut whole = new()?;
    let taken = transfer::body(&checkpoint, &mut whole)?;
    println!("not in the file, or of another shape there: {}", listed(&taken.fresh));
    println!("in the file and not used: {}", listed(&taken.unused));
    let outcome = train(cli, &mut whole, &images)?;
    report("the whole of it from the file", &whole, &outcome);

    let mut frozen = new()?;
    let taken = transfer::body(&checkpoint, &mut frozen)?;
    transfer::freeze_all_but(&taken.fresh, &mut frozen);
    let outcome = train(cli, &mut frozen, &images)?;
    report("only the readout", &frozen, &outcome);
    Ok(())
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

fn train(cli: &Cli, model: &mut Box<dyn Module>, images: &Images) -> Result<Outcome> {
    if let Some(rate) = cli.rate.filter(|rate| rate.is_nan() || *rate <= 0.0) {
        let (op, name, expected) = ("finetune", "--rate", "positive");
        return Err(Error::Argument { op, name, expected, got: rate.to_string() });
    }
    let mut optimizer = optim::build(&cli.optimizer, cli.rate)?;
    let plan = Plan {
        budget: Budget::epochs(if cli.quick { 3 } else { cli.epochs }),
        pace: Some(Pace::over_budget(Schedule::cosine(optimizer.rate(), 1000), 1000)),
        ..Plan::default()
    };
    model.to_device(cli.device)?;
    let batches = Shuffled::new(Loader::new(&images.train, 16)?.on(cli.device), 0);
    let held_out = Loader::new(&images.held_out, 64)?.on(cli.device);
    Trainer::new(model, &mut *optimizer, &Supervised::classification(), plan)?
        .run(&batches, &held_out)
}

/// A network that has learned the first six digits, in a file.
fn pretrained(cli: &Cli) -> Result<PathBuf> {
    let images = Images::of_digits(0..6, None)?;
    let mut model = network::build(&cli.model, images.shape, images.classes, &mut Rng::new(0))?;
    let outcome = train(cli, &mut model, &images)?;
    report("digits 0 to 5", &model, &outcome);
    let folder = Path::new("target/alcyon/finetune");
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let file = folder.join("digits-0-to-5.safetensors");
    checkpoint::save(&file, &model, &[].into(), &[].into())?;
    println!("written: {}", file.display());
    Ok(file)
}

fn report(what: &str, model: &dyn Parameters, outcome: &Outcome) {
    let best = outcome.best().map_or(f64::NAN, |best| 100.0 * best.score);
    let last = outcome.last.map_or(f64::NAN, |last| 100.0 * last.score);
    let trained = model.parameter_count();
    println!("{what:<30} {trained:>7} trained   accuracy {last:.2} % (best {best:.2} %)");
}
