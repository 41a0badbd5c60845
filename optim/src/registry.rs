//! Optimizers by name: what a command line or a table of experiments asks for.

use engine::{Error, Result};

use crate::check::demand;
use crate::frame::layerwise::{LayerRule, Layerwise};
use crate::frame::per_parameter::{PerParameter, Rule};
use crate::frame::second_diagonal::{DiagonalRule, SecondDiagonal};
use crate::layer::adafisher::{AdaFisher, AdaFisherConfig, Decay};
use crate::{
    AdaBeliefConfig, AdaBoundConfig, AdaGradConfig, AdaHessianConfig, AdafactorConfig, AdamConfig,
    AdaptiveKfac, AdaptiveKfacConfig, BandConfig, EkfacConfig, EvaConfig, FoofConfig, HessianFree,
    HessianFreeConfig, Kfac, KfacConfig, KlShampooConfig, LambConfig, LarsConfig, Lbfgs,
    LbfgsConfig, LionConfig, MkorConfig, Muon, MuonConfig, NAdamConfig, Newton, NewtonConfig,
    Optimizer, Prodigy, ProdigyConfig, PsgdConfig, RAdamConfig, RmsPropConfig, SPlusConfig, Sam,
    SamConfig, ScheduleFreeConfig, SgdConfig, Shampoo, ShampooConfig, SingdConfig, SkfacConfig,
    SoapConfig, SophiaConfig, TntConfig,
};

/// Makes an optimizer, at a rate if one is given.
type Build = fn(Option<f64>) -> Result<Box<dyn Optimizer>>;

/// Every name, and what it stands for.
const KNOWN: &[(&str, Build)] = &[
    ("sgd", |rate| rule(SgdConfig { momentum: 0.9, ..SgdConfig::default() }, rate)),
    ("adagrad", |rate| rule(AdaGradConfig::default(), rate)),
    ("rmsprop", |rate| rule(RmsPropConfig::default(), rate)),
    ("adam", |rate| rule(AdamConfig::default(), rate)),
    ("adamw", |rate| rule(AdamConfig::adamw(), rate)),
    ("radam", |rate| rule(RAdamConfig::default(), rate)),
    ("nadam", |rate| rule(NAdamConfig::default(), rate)),
    ("adabelief", |rate| rule(AdaBeliefConfig::default(), rate)),
    ("adabound", |rate| rule(AdaBoundConfig::default(), rate)),
    ("adafactor", |rate| rule(AdafactorConfig::default(), rate)),
    ("lamb", |rate| rule(LambConfig::default(), rate)),
    ("lars", |rate| rule(LarsConfig::default(), rate)),
    ("lion", |rate| rule(LionConfig::default(), rate)),
    ("schedule-free", |rate| rule(ScheduleFreeConfig::default(), rate)),
    ("schedule-free-sgd", |rate| rule(ScheduleFreeConfig::sgd(), rate)),
    ("prodigy", |rate| {
        let config = ProdigyConfig::default();
        Ok(Box::new(Prodigy::new(ProdigyConfig { rate: rate.unwrap_or(config.rate), ..config })?))
    }),
    ("adahessian", |rate| diagonal(AdaHessianConfig::default(), rate)),
    ("sophia", |rate| diagonal(SophiaConfig::default(), rate)),
    ("sophia-h", |rate| diagonal(SophiaConfig::hutchinson(), rate)),
    ("adafisher", |rate| adafisher(AdaFisherConfig::thesis(), rate)),
    ("adafisherw", |rate| {
        adafisher(
            AdaFisherConfig { decay: Decay::Decoupled(0.01), ..AdaFisherConfig::thesis() },
            rate,
        )
    }),
    ("adafisher-paper", |rate| adafisher(AdaFisherConfig::paper(), rate)),
    ("adafisher-official", |rate| adafisher(AdaFisherConfig::official(), rate)),
    ("adafisher-root", |rate| adafisher(AdaFisherConfig::root(), rate)),
    ("adafisher-spring2024", |rate| adafisher(AdaFisherConfig::spring2024(), rate)),
    ("kfac", |rate| {
        let config = KfacConfig::default();
        Ok(Box::new(Kfac::new(KfacConfig { rate: rate.unwrap_or(config.rate), ..config })?))
    }),
    ("kfac-adaptive", |rate| {
        let config = AdaptiveKfacConfig::default();
        let rate = rate.unwrap_or(config.rate);
        Ok(Box::new(AdaptiveKfac::new(AdaptiveKfacConfig { rate, ..config })?))
    }),
    ("ekfac", |rate| layerwise(EkfacConfig::default(), rate)),
    ("adafisher-band", |rate| layerwise(BandConfig::default(), rate)),
    ("foof", |rate| layerwise(FoofConfig::default(), rate)),
    ("skfac", |rate| layerwise(SkfacConfig::default(), rate)),
    ("eva", |rate| layerwise(EvaConfig::default(), rate)),
    ("mkor", |rate| layerwise(MkorConfig::default(), rate)),
    ("singd", |rate| layerwise(SingdConfig::default(), rate)),
    ("ikfac", |rate| layerwise(SingdConfig::ikfac(), rate)),
    ("tnt", |rate| layerwise(TntConfig::default(), rate)),
    ("muon", |rate| {
        let config = MuonConfig::default();
        Ok(Box::new(Muon::new(MuonConfig { rate: rate.unwrap_or(config.rate), ..config })?))
    }),
    ("soap", |rate| rule(SoapConfig::default(), rate)),
    ("eshampoo", |rate| rule(SoapConfig::corrected_shampoo(), rate)),
    ("splus", |rate| rule(SPlusConfig::default(), rate)),
    ("psgd", |rate| rule(PsgdConfig::default(), rate)),
    ("kl-shampoo", |rate| rule(KlShampooConfig::default(), rate)),
    ("lbfgs", |rate| {
        let config = LbfgsConfig::default();
        Ok(Box::new(Lbfgs::new(LbfgsConfig { rate: rate.unwrap_or(config.rate), ..config })?))
    }),
    ("hessian-free", |rate| {
        let config = HessianFreeConfig::default();
        let rate = rate.unwrap_or(config.rate);
        Ok(Box::new(HessianFree::new(HessianFreeConfig { rate, ..config })?))
    }),
    ("natural-gradient", |rate| newton(NewtonConfig::default(), rate)),
    ("newton", |rate| newton(NewtonConfig::saddle_free(), rate)),
    ("sam", |rate| Ok(Box::new(Sam::sgd(SamConfig::default(), rate.unwrap_or(0.01))?))),
    ("asam", |rate| Ok(Box::new(Sam::sgd(SamConfig::adaptive(), rate.unwrap_or(0.01))?))),
    ("shampoo", |rate| {
        let config = ShampooConfig::default();
        Ok(Box::new(Shampoo::new(ShampooConfig { rate: rate.unwrap_or(config.rate), ..config })?))
    }),
];

/// The names that [`build`] takes.
#[must_use]
pub fn known() -> Vec<&'static str> {
    KNOWN.iter().map(|(name, _)| *name).collect()
}

/// The optimizer of a name with its default options, which are the `Default` of its configuration
/// (`sgd` has momentum 0.9, `adafisherw` a decay of 0.01), and with another rate if one is given.
///
/// # Errors
/// [`Error::Unknown`] with all names; [`Error::Argument`] when the rate is negative or not finite.
///
/// # Example
/// ```
/// let optimizer = alcyon_optim::build("adamw", Some(0.1))?;
/// assert_eq!((optimizer.name(), optimizer.rate()), ("adamw", 0.1));
/// assert!(alcyon_optim::build("adamz", None).is_err_and(|e| e.to_string().contains("adamw")));
/// # Ok::<(), engine::Error>(())
/// ```
pub fn build(name: &str, rate: Option<f64>) -> Result<Box<dyn Optimizer>> {
    if let Some(rate) = rate {
        demand("build", "rate", rate, "finite and not negative", rate.is_finite() && rate >= 0.0)?;
    }
    match KNOWN.iter().find(|(known, _)| *known == name) {
        Some((_, build)) => build(rate),
        None => Err(Error::Unknown {
            what: "optimizer",
            got: name.to_owned(),
            known: known().into_iter().map(str::to_owned).collect(),
        }),
    }
}

fn rule<R: Rule + 'static>(mut rule: R, rate: Option<f64>) -> Result<Box<dyn Optimizer>> {
    if let Some(rate) = rate {
        rule.set_rate(rate);
    }
    Ok(Box::new(PerParameter::new(rule)?))
}

fn diagonal<R: DiagonalRule + 'static>(
    mut rule: R,
    rate: Option<f64>,
) -> Result<Box<dyn Optimizer>> {
    if let Some(rate) = rate {
        rule.set_rate(rate);
    }
    Ok(Box::new(SecondDiagonal::new(rule)?))
}

fn layerwise<R: LayerRule + 'static>(mut rule: R, rate: Option<f64>) -> Result<Box<dyn Optimizer>> {
    if let Some(rate) = rate {
        rule.common_mut().rate = rate;
    }
    Ok(Box::new(Layerwise::new(rule)?))
}

fn newton(config: NewtonConfig, rate: Option<f64>) -> Result<Box<dyn Optimizer>> {
    Ok(Box::new(Newton::new(NewtonConfig { rate: rate.unwrap_or(config.rate), ..config })?))
}

fn adafisher(config: AdaFisherConfig, rate: Option<f64>) -> Result<Box<dyn Optimizer>> {
    Ok(Box::new(AdaFisher::new(AdaFisherConfig { rate: rate.unwrap_or(config.rate), ..config })?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_builds_an_optimizer_that_takes_the_rate_and_refuses_a_senseless_one() {
        for name in known() {
            let optimizer = build(name, Some(0.125)).unwrap();
            assert!(name.starts_with(optimizer.name()), "{name} is {}", optimizer.name());
            assert_eq!(optimizer.rate(), 0.125, "{name}");
            assert!(build(name, None).unwrap().rate() > 0.0);
            for rate in [f64::NAN, -1.0] {
                let refused = matches!(build(name, Some(rate)), Err(Error::Argument { .. }));
                assert!(refused, "{name} takes the rate {rate}");
            }
        }
    }
}
