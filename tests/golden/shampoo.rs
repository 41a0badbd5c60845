//! `shampoo_*`: Gupta et al. 2018 (sums) and the averaged, grafted variants.

use optim::{Graft, LongSides, Optimizer, Shampoo, ShampooConfig, Statistics};

use crate::document::{Document, Failure, Node, Result};
use crate::report::{Comparison, Line, Tolerance};
use crate::trajectory;

/// A case whose golden numbers are 7.2e-10 off, beyond their tolerance of 1e-10. At step 1 a factor has the eigenvalues
/// 1e-6 and 12, so an eigenvalue routine leaves the smaller one nine digits, and its root is used for three steps. The
/// same case with 50 digits is `shampoo_exact`, which has to agree to 1e-14.
const STALE: (&str, &str) = ("shampoo_steps", "gupta_every3");

/// One line per member of `expected`.
pub(crate) fn replay(file: &str, document: &Document) -> Result<Vec<Line>> {
    let root = document.root();
    let case = |name: &str, expected: &Node<'_>| -> Result<Comparison> {
        if expected.find("update").is_some() {
            return first_step(&root, expected);
        }
        let mut optimizer = Shampoo::new(config(&root.get("hyper")?, name)?)?;
        if (file, name) == STALE {
            let tolerance = Tolerance { relative: 1e-8, absolute: 1e-9 };
            return trajectory::compare_within(tolerance, &root, expected, &mut optimizer);
        }
        trajectory::compare(&root, expected, &mut optimizer)
    };
    let cases = root.get("expected")?.members()?;
    Ok(cases.into_iter().map(|(name, e)| Line::new(file, name, case(name, &e))).collect())
}

/// `gupta*` are sums (with a suffix `_every3`: roots at steps 1, 4, 7, …), `ema*` averages.
fn config(hyper: &Node<'_>, name: &str) -> Result<ShampooConfig> {
    if let Some(variant) = name.strip_prefix("gupta") {
        let every = variant.strip_prefix("_every").map_or(Some(1), |n| n.parse().ok());
        let Some(root_every) = every else { return hyper.complain("a case is misnamed") };
        let hyper = hyper.get("gupta")?;
        let statistics = Statistics::Sum { epsilon: hyper.get("eps")?.number()? };
        let rate = hyper.get("lr")?.number()?;
        return Ok(ShampooConfig { rate, statistics, root_every, ..plain() });
    }
    let hyper = hyper.get(name)?;
    hyper.only(&["lr", "betas", "eps", "bc", "graft", "gb2", "geps", "wd"])?;
    let &[beta1, beta2] = hyper.get("betas")?.list()?.data.as_slice() else {
        return hyper.complain("`betas` are not two");
    };
    let graft = match hyper.find("graft").map(|graft| graft.text()).transpose()? {
        None => Graft::None,
        Some("sgd") => Graft::Sgd,
        Some("adam") => Graft::Adam {
            beta2: hyper.get("gb2")?.number()?,
            epsilon: hyper.number_or("geps", 1e-8)?,
        },
        Some(other) => return Err(Failure::NotYet(format!("shampoo with the graft `{other}`"))),
    };
    Ok(ShampooConfig {
        rate: hyper.get("lr")?.number()?,
        beta1,
        statistics: Statistics::Ema {
            beta2,
            bias_correction: hyper.flag_or("bc", true)?,
            epsilon: hyper.get("eps")?.number()?,
        },
        root_every: 1,
        graft,
        weight_decay: hyper.number_or("wd", 0.0)?,
        ..plain()
    })
}

/// Nothing but Shampoo itself.
fn plain() -> ShampooConfig {
    ShampooConfig {
        beta1: 0.0,
        graft: Graft::None,
        weight_decay: 0.0,
        sides: LongSides::whole(),
        ..ShampooConfig::paper()
    }
}

/// The first step from sums without a floor is the orthogonal factor U Vᵀ of the gradient.
fn first_step(root: &Node<'_>, expected: &Node<'_>) -> Result<Comparison> {
    let mut comparison = Comparison::new(trajectory::tolerance(root)?);
    let gradient = expected.get("G")?.array()?;
    // Far below the singular values, far above the rounding of G Gᵀ.
    let statistics = Statistics::Sum { epsilon: 1e-12 };
    let mut optimizer = Shampoo::new(ShampooConfig { rate: 1.0, statistics, ..plain() })?;
    let mut model = vec![engine::Parameter::new(gradient.tensor()?.scale(0.0)?)];
    let mut grads = engine::Gradients::default();
    grads.set(&model[0], gradient.tensor()?);
    optimizer.step(&mut model, &grads)?;
    let update = model[0].value().scale(-1.0)?;
    comparison.tensor("U Vᵀ", &update, &expected.get("update")?.array()?)?;
    Ok(comparison)
}
