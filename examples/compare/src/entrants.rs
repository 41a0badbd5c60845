//! The optimizers that can be entered, with every setting that is not the rate.
//!
//! Any optimizer of the library can. Settings are those of the papers or the authors' programs, the same
//! in all protocols; only the rate comes from a grid, and the grid is the same for all (`grid.rs`).

use alcyon::optim::curvature::{AverageStart, DampingRule};
use alcyon::optim::{self, AdaFisher, AdaFisherConfig, Decay, Kfac, KfacConfig};
use alcyon::prelude::*;

use crate::protocol::Protocol;

/// What enters when nothing is asked for.
pub(crate) const DEFAULT: [&str; 9] = [
    "sgd",
    "adam",
    "adamw",
    "adafisher",
    "adafisher-official",
    "adafisher-root",
    "adafisherw",
    "kfac",
    "shampoo",
];

/// The decoupled weight decay of `adafisherw`: that of `adamw`, PyTorch's default.
const DECAY: f64 = 0.01;

/// The rate of an optimizer that nobody has chosen one for: the protocol's, or the library's.
///
/// # Errors
/// [`Error::Unknown`], listing all, for a name that is none.
pub(crate) fn rate(name: &str, protocol: &Protocol) -> Result<f64> {
    let usual = optim::build(name, None)?.rate();
    Ok(protocol.rate(name).unwrap_or(usual))
}

/// An optimizer by name: the library's with its own settings, but for those that the protocols know.
///
/// # Errors
/// [`Error::Unknown`] for another name; [`Error::Argument`] for a rate out of range.
pub(crate) fn build(name: &str, rate: f64, protocol: &Protocol) -> Result<Box<dyn Optimizer>> {
    Ok(match name {
        "kfac" => Box::new(Kfac::new(authors_kfac(rate))?),
        "adafisher" | "adafisher-paper" | "adafisherw" => {
            Box::new(AdaFisher::new(adafisher(name, rate, protocol.refresh))?)
        }
        other => optim::build(other, Some(rate))?,
    })
}

/// K-FAC as the AdaFisher authors' comparison has it: eigenbases damped exactly with 1e-3, factors
/// that start as identities and decay by 0.95, KL clip 1e-3, momentum 0.9, factors every 10 steps,
/// inverses every 100.
fn authors_kfac(rate: f64) -> KfacConfig {
    KfacConfig {
        rate,
        momentum: 0.9,
        damping: 1e-3,
        damping_rule: DampingRule::Exact,
        decay: 0.95,
        start: AverageStart::Identity,
        fisher: Fisher::Empirical,
        factor_every: 10,
        inverse_every: 100,
        kl_clip: Some(1e-3),
        ..KfacConfig::default()
    }
}

/// The presets whose refresh is the protocol's; β 0.9, γ 0.8 and λ 1e-3. (The official rule refreshes every
/// 100 steps by itself, and `root` at every step.)
fn adafisher(name: &str, rate: f64, every: u64) -> AdaFisherConfig {
    match name {
        "adafisher-paper" => AdaFisherConfig { rate, every, ..AdaFisherConfig::paper() },
        "adafisherw" => {
            let decay = Decay::Decoupled(DECAY);
            AdaFisherConfig { rate, every, decay, ..AdaFisherConfig::thesis() }
        }
        _ => AdaFisherConfig { rate, every, ..AdaFisherConfig::thesis() },
    }
}
