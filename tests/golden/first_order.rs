//! `sgd_*`, `adam_*`, `adamw_*`: PyTorch's first-order optimizers in f64.

use optim::{Adam, AdamConfig, Optimizer, Sgd, SgdConfig};

use crate::document::{Document, Node, Result};
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
