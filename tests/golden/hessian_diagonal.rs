//! `adahessian_*`, `sophia_*`: optimizers that divide by an estimate of the Hessian's diagonal.
//!
//! Yao et al. 2021; Liu et al. 2024.

use engine::{Gradients, Parameter, Tape};
use optim::{AdaHessian, AdaHessianConfig, Optimizer, Sophia, SophiaConfig, backward};

use crate::document::{Document, Node, Result, wrong};
use crate::expected::{Expected, line};
use crate::report::{Comparison, Line};

fn betas(hyper: &Node<'_>) -> Result<[f64; 2]> {
    match hyper.get("betas")?.list()?.data.as_slice() {
        &[beta1, beta2] => Ok([beta1, beta2]),
        _ => hyper.complain("`betas` are not two"),
    }
}

/// ½ Σ h x², whose Hessian is diagonal: every probe finds it exactly. The estimate comes from a tape.
pub(crate) fn adahessian(file: &str, document: &Document) -> Result<Vec<Line>> {
    let root = document.root();
    let (inputs, hyper) = (root.get("inputs")?, root.get("hyper")?);
    let expected = Expected::of(&root)?;
    hyper.only(&["betas", "eps", "hessian_power", "lr"])?;
    let [beta1, beta2] = betas(&hyper)?;
    let config = AdaHessianConfig {
        rate: hyper.get("lr")?.number()?,
        beta1,
        beta2,
        epsilon: hyper.get("eps")?.number()?,
        power: hyper.get("hessian_power")?.number()?,
        ..AdaHessianConfig::default()
    };
    let run = |comparison: &mut Comparison| -> Result<()> {
        let mut optimizer = AdaHessian::new(config)?;
        let mut model = vec![Parameter::new(inputs.get("x0")?.array()?.tensor()?)];
        let loss = Weighted(inputs.get("h")?.array()?.tensor()?);
        for (step, golden) in expected.array("x")?.slices()?.iter().enumerate() {
            let tape = Tape::new();
            let pass = backward(&tape, &tape.bind(&model[0]), &loss, &mut optimizer)?;
            optimizer.step(&mut model, &pass.gradients)?;
            comparison.tensor(&format!("x after step {step}"), model[0].value(), golden)?;
        }
        Ok(())
    };
    let mut lines = vec![line(file, "", &root, run)];
    lines.extend(expected.rest(file)?);
    Ok(lines)
}

/// ½ Σ h x², a single term.
struct Weighted(engine::Tensor);

impl engine::Likelihood for Weighted {
    fn terms(&self) -> usize {
        1
    }
    fn nll(&self, x: &engine::Var) -> engine::Result<engine::Var> {
        x.mul(x)?.mul(&engine::Var::constant(&self.0))?.sum_all()?.scale(0.5)
    }
    fn sampled_seed(
        &self,
        x: &engine::Tensor,
        _: &mut engine::Rng,
    ) -> engine::Result<engine::Tensor> {
        x.mul(&self.0)
    }
    fn exact_seeds(&self, _: &engine::Tensor) -> engine::Result<Vec<engine::Tensor>> {
        Ok(vec![self.0.sqrt()?])
    }
}

/// Gradients and estimates as the file has them: an estimate counts from the step after.
pub(crate) fn sophia(file: &str, document: &Document) -> Result<Vec<Line>> {
    let root = document.root();
    let (inputs, hyper) = (root.get("inputs")?, root.get("hyper")?);
    let expected = Expected::of(&root)?;
    hyper.only(&["betas", "bs", "lr", "rho", "weight_decay"])?;
    let [beta1, beta2] = betas(&hyper)?;
    let config = SophiaConfig {
        rate: hyper.get("lr")?.number()?,
        beta1,
        beta2,
        rho: hyper.get("rho")?.number()?,
        weight_decay: hyper.get("weight_decay")?.number()?,
        ..SophiaConfig::default()
    };
    let terms = hyper.get("bs")?.count()?;
    let run = |comparison: &mut Comparison| -> Result<()> {
        let mut optimizer = Sophia::new(config)?;
        let mut model = vec![Parameter::new(inputs.get("W0")?.array()?.tensor()?)];
        let slopes = inputs.get("grads_W")?.array()?.slices()?;
        let sampled = inputs.get("ghat_after_step")?;
        for (step, (golden, slope)) in
            expected.array("W")?.slices()?.iter().zip(&slopes).enumerate()
        {
            let before = step.checked_sub(1).and_then(|last| sampled.find(&last.to_string()));
            if let (Some(sampled), Some(estimator)) = (before, optimizer.hessian_diagonal()) {
                let square = |g: f64| terms as f64 * g * g;
                let estimate: Vec<f64> = sampled.array()?.data.into_iter().map(square).collect();
                estimator.add(model[0].id(), estimate, terms);
                estimator.finish(terms);
            }
            let mut grads = Gradients::default();
            grads.set(&model[0], slope.tensor()?);
            optimizer.step(&mut model, &grads)?;
            comparison.tensor(&format!("W after step {step}"), model[0].value(), golden)?;
        }
        if slopes.is_empty() { wrong("no steps") } else { Ok(()) }
    };
    let mut lines = vec![line(file, "", &root, run)];
    lines.extend(expected.rest(file)?);
    Ok(lines)
}
