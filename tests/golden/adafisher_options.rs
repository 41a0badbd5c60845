//! AdaFisher's options as the golden files write them.

use optim::AdaFisherConfig;
use optim::curvature::{
    ConvScale, Degenerate, EmaInit, EmaRule, FactorOrder, MinMax, NormFactor, NormInput,
    Normalisation,
};
use optim::{Damping, Decay, Fallback};

use crate::document::{Node, Result, wrong};

/// The options of a run: `config` in full, or the official program's few.
pub(crate) fn config(root: &Node<'_>, run: &Node<'_>) -> Result<AdaFisherConfig> {
    if let Some(config) = run.find("config") {
        return full_config(&config);
    }
    let hyper = run.get("hyper")?;
    hyper.only(&["optimizer", "lr", "beta", "Lambda", "gamma", "TCov", "weight_decay"])?;
    let number = |key: &str| hyper.get(key)?.number();
    let (mut config, rule) = match root.get("source")?.text()? {
        "official" => (AdaFisherConfig::official(), "official"),
        "official2024" => (AdaFisherConfig::spring2024(), "spring2024"),
        source => return wrong(format!("no options are known for the source `{source}`")),
    };
    config.rate = number("lr")?;
    config.beta = number("beta")?;
    config.damping = Damping::Constant(number("Lambda")?);
    config.ema = ema_rule(rule, number("gamma")?)?;
    config.every = hyper.get("TCov")?.count()? as u64;
    config.decay = match (number("weight_decay")?, hyper.get("optimizer")?.text()?) {
        (0.0, _) => Decay::None,
        (decay, "AdaFisher") => Decay::Coupled(decay),
        (decay, "AdaFisherW") => Decay::Decoupled(decay),
        (_, other) => return wrong(format!("the optimizer `{other}` is not known")),
    };
    Ok(config)
}

const OPTIONS: [&str; 17] = [
    "lr",
    "beta",
    "damping",
    "gamma",
    "weight_decay",
    "decay_mode",
    "tcov",
    "ema",
    "ema_init",
    "order",
    "eps",
    "span_scale",
    "degenerate",
    "norm_factor",
    "norm_input",
    "conv_h_scale",
    "fallback",
];

fn full_config(config: &Node<'_>) -> Result<AdaFisherConfig> {
    config.only(&OPTIONS)?;
    let number = |key: &str| config.get(key)?.number();
    Ok(AdaFisherConfig {
        rate: number("lr")?,
        beta: number("beta")?,
        damping: Damping::Constant(number("damping")?),
        ema: ema_rule(config.get("ema")?.text()?, number("gamma")?)?,
        every: config.get("tcov")?.count()? as u64,
        decay: match config.get("decay_mode")?.text()? {
            "coupled" => Decay::Coupled(number("weight_decay")?),
            "decoupled" => Decay::Decoupled(number("weight_decay")?),
            other => choice(&[("none", Decay::None)], "decay_mode", other)?,
        },
        normalisation: Normalisation::MinMax(MinMax {
            epsilon: number("eps")?,
            span_scale: number("span_scale")?,
            degenerate: chosen(
                config,
                "degenerate",
                &[("one", Degenerate::One), ("zero", Degenerate::Zero)],
            )?,
        }),
        ema_init: chosen(config, "ema_init", &[("zeros", EmaInit::Zero), ("ones", EmaInit::One)])?,
        order: chosen(
            config,
            "order",
            &[
                ("ema_then_minmax", FactorOrder::EmaThenMinMax),
                ("minmax_then_ema", FactorOrder::MinMaxThenEma),
            ],
        )?,
        norm_factor: chosen(
            config,
            "norm_factor",
            &[
                ("thesis", NormFactor::Thesis),
                ("paper", NormFactor::Paper),
                ("official", NormFactor::Official),
            ],
        )?,
        norm_input: chosen(
            config,
            "norm_input",
            &[("raw", NormInput::Raw), ("normalized", NormInput::Normalized)],
        )?,
        conv_scale: chosen(
            config,
            "conv_h_scale",
            &[
                ("positions", ConvScale::Positions),
                ("official", ConvScale::Official),
                ("spring2024", ConvScale::Spring2024),
            ],
        )?,
        fallback: chosen(
            config,
            "fallback",
            &[("one_plus_damping", Fallback::Identity), ("one", Fallback::One)],
        )?,
        ..AdaFisherConfig::thesis()
    })
}

/// The option that a word stands for.
fn chosen<T: Clone>(config: &Node<'_>, key: &'static str, known: &[(&str, T)]) -> Result<T> {
    choice(known, key, config.get(key)?.text()?)
}

fn choice<T: Clone>(known: &[(&str, T)], key: &str, word: &str) -> Result<T> {
    match known.iter().find(|(name, _)| *name == word) {
        Some((_, option)) => Ok(option.clone()),
        None => wrong(format!("{key}: `{word}` is not known")),
    }
}

/// new state = keep · old state + gain · this batch.
fn ema_rule(rule: &str, gamma: f64) -> Result<EmaRule> {
    match rule {
        "thesis" => Ok(EmaRule { keep: gamma, gain: 1.0 - gamma }),
        "official" => Ok(EmaRule { keep: 0.1 * gamma, gain: 0.01 * gamma }),
        "spring2024" => Ok(EmaRule { keep: 1.0 - gamma, gain: gamma }),
        other => wrong(format!("ema: `{other}` is not known")),
    }
}
