//! `sgd_*`, `adam_*`, `adamw_*`, `adafactor_*`: PyTorch's first-order optimizers in f64; `prodigy_*`: a
//! quadratic.

use engine::{Gradients, Parameter};
use optim::Floor;
use optim::{
    Adafactor, AdafactorConfig, Adam, AdamConfig, Optimizer, Prodigy, ProdigyConfig, Sgd, SgdConfig,
};

use crate::document::{Document, Node, Result};
use crate::expected::line;
use crate::report::{Comparison, Line};
use crate::trajectory;

/// torch.optim.SGD.
pub(crate) fn sgd(file: &str, document: &Document) -> Result<Vec<Line>> {
    cases(file, document, |hyper| {
        hyper.only(&["lr", "momentum", "dampening", "nesterov", "weight_decay"])?;
        Ok(Box::new(Sgd::new(SgdConfig {
            rate: hyper.get("lr")?.number()?,
            momentum: hyper.number_or("momentum", 0.0)?,
            dampening: hyper.number_or("dampening", 0.0)?,
            nesterov: hyper.flag_or("nesterov", false)?,
            weight_decay: hyper.number_or("weight_decay", 0.0)?,
        })?))
    })
}

/// torch.optim.Adam.
pub(crate) fn adam(file: &str, document: &Document) -> Result<Vec<Line>> {
    cases(file, document, |hyper| adam_with(hyper, false, 0.0))
}

/// torch.optim.AdamW.
pub(crate) fn adamw(file: &str, document: &Document) -> Result<Vec<Line>> {
    cases(file, document, |hyper| adam_with(hyper, true, 0.01))
}

fn adam_with(hyper: &Node<'_>, decoupled: bool, decay: f64) -> Result<Box<dyn Optimizer>> {
    hyper.only(&["lr", "betas", "eps", "weight_decay", "amsgrad"])?;
    let betas = hyper.find("betas").map(|betas| betas.list()).transpose()?;
    let betas = betas.map_or_else(|| vec![0.9, 0.999], |betas| betas.data);
    let &[beta1, beta2] = betas.as_slice() else { return hyper.complain("`betas` are not two") };
    Ok(Box::new(Adam::new(AdamConfig {
        rate: hyper.number_or("lr", 1e-3)?,
        beta1,
        beta2,
        epsilon: hyper.number_or("eps", 1e-8)?,
        weight_decay: hyper.number_or("weight_decay", decay)?,
        decoupled,
        amsgrad: hyper.flag_or("amsgrad", false)?,
    })?))
}

/// torch.optim.Adafactor, and the paper's own floor under the second moment.
pub(crate) fn adafactor(file: &str, document: &Document) -> Result<Vec<Line>> {
    cases(file, document, |hyper| {
        hyper.only(&["lr", "beta2_decay", "decay", "d", "weight_decay", "eps", "rho"])?;
        let paper = AdafactorConfig::default();
        let floor = match hyper.find("eps").map(|eps| eps.list()).transpose()? {
            Some(eps) if eps.data.len() == 2 && eps.data[1] == paper.smallest => {
                Floor::Added(eps.data[0])
            }
            Some(_) => return hyper.complain("`eps` are not two, or the second is another"),
            None => Floor::Clamp,
        };
        let decay = hyper.number_or("beta2_decay", hyper.number_or("decay", -0.8)?)?;
        Ok(Box::new(Adafactor::new(AdafactorConfig {
            rate: hyper.number_or("lr", paper.rate)?,
            decay_power: -decay,
            floor,
            clip: hyper.number_or("d", paper.clip)?,
            weight_decay: hyper.number_or("weight_decay", 0.0)?,
            ..paper
        })?))
    })
}

/// Forty steps on ½ ‖x − target‖², with the distance that is estimated on the way.
pub(crate) fn prodigy(file: &str, document: &Document) -> Result<Vec<Line>> {
    let root = document.root();
    let (inputs, hyper) = (root.get("inputs")?, root.get("hyper")?);
    hyper.only(&["betas", "beta3", "d0", "d_coef", "eps"])?;
    let &[beta1, beta2] = hyper.get("betas")?.list()?.data.as_slice() else {
        return hyper.complain("`betas` are not two");
    };
    let config = ProdigyConfig {
        beta1,
        beta2,
        start: hyper.get("d0")?.number()?,
        scale: hyper.get("d_coef")?.number()?,
        epsilon: hyper.get("eps")?.number()?,
        ..ProdigyConfig::default()
    };
    let target = inputs.get("target")?.array()?.tensor()?;
    let run = |name: &str, expected: &Node<'_>, comparison: &mut Comparison| -> Result<()> {
        let bias_correction = match name {
            "default" => false,
            "bias_corr" => true,
            _ => return expected.complain("a case that is not known"),
        };
        let mut optimizer = Prodigy::new(ProdigyConfig { bias_correction, ..config })?;
        let mut model = vec![Parameter::new(inputs.get("x0")?.array()?.tensor()?)];
        let distances = expected.get("d")?.array()?.data;
        let path = expected.get("x")?.array()?.slices()?;
        let slopes = expected.get("grads")?.array()?.slices()?;
        for (step, ((x, d), slope)) in path.iter().zip(distances).zip(&slopes).enumerate() {
            let mut grads = Gradients::default();
            let gradient = model[0].value().sub(&target)?;
            comparison.tensor(&format!("gradient of step {step}"), &gradient, slope)?;
            grads.set(&model[0], gradient);
            optimizer.step(&mut model, &grads)?;
            comparison.tensor(&format!("x after step {step}"), model[0].value(), x)?;
            comparison.number(&format!("d after step {step}"), optimizer.distance(), d)?;
        }
        Ok(())
    };
    let cases = root.get("expected")?.members()?;
    Ok(cases.iter().map(|(name, e)| line(file, name, &root, |c| run(name, e, c))).collect())
}

/// One line per member of `hyper`.
fn cases(
    file: &str,
    document: &Document,
    optimizer: impl Fn(&Node<'_>) -> Result<Box<dyn Optimizer>>,
) -> Result<Vec<Line>> {
    let root = document.root();
    let case = |name: &str, hyper: &Node<'_>| -> Result<Comparison> {
        let expected = root.get("expected")?.get(name)?;
        trajectory::compare(&root, &expected, &mut *optimizer(hyper)?)
    };
    let cases = root.get("hyper")?.members()?;
    Ok(cases.into_iter().map(|(name, hyper)| Line::new(file, name, case(name, &hyper))).collect())
}
