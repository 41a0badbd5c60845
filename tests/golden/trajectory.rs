//! Parameters under a given sequence of gradients, compared after every step.
//!
//! A stack `X` of a file is a start `X0`, gradients `grads_X` (one per step) and the expected
//! parameters `X` (one per step). A stack `X_eval` is what `X` is to be evaluated with. All stacks of a
//! case are parameters of one model.

use engine::{Gradients, Parameter};
use optim::Optimizer;

use crate::document::{Array, Node, Result, wrong};
use crate::report::{Comparison, Tolerance};

/// The parameters of all stacks.
#[derive(Debug)]
struct Stacks {
    stacks: Vec<Parameter>,
}

engine::parameters!(Stacks { stacks });

/// Runs an optimizer over the stacks of `expected`, within the file's own tolerance.
pub(crate) fn compare(
    root: &Node<'_>,
    expected: &Node<'_>,
    optimizer: &mut dyn Optimizer,
) -> Result<Comparison> {
    compare_within(tolerance(root)?, root, expected, optimizer)
}

/// The same, within another tolerance.
pub(crate) fn compare_within(
    tolerance: Tolerance,
    root: &Node<'_>,
    expected: &Node<'_>,
    optimizer: &mut dyn Optimizer,
) -> Result<Comparison> {
    let inputs = root.get("inputs")?;
    let (averages, stacks): (Vec<_>, Vec<_>) =
        expected.members()?.into_iter().partition(|(name, _)| name.ends_with("_eval"));
    for (name, _) in &averages {
        let of = name.trim_end_matches("_eval");
        if !stacks.iter().any(|(stack, _)| *stack == of) {
            return expected.complain("averages of a stack that is not there");
        }
    }
    let mut model = Stacks { stacks: Vec::new() };
    let (mut grads, mut golden): (Vec<Vec<Array>>, Vec<Vec<Array>>) = (Vec::new(), Vec::new());
    for (name, stack) in &stacks {
        model.stacks.push(Parameter::new(start(&inputs, name)?.array()?.tensor()?));
        grads.push(inputs.get(&format!("grads_{name}"))?.array()?.slices()?);
        golden.push(stack.array()?.slices()?);
    }
    let steps = golden.first().map_or(0, Vec::len);
    if grads.iter().chain(&golden).any(|stack| stack.len() != steps) {
        return wrong("the stacks differ in length");
    }
    let mut comparison = Comparison::new(tolerance);
    for step in 0..steps {
        let mut now = Gradients::default();
        for (parameter, grads) in model.stacks.iter().zip(&grads) {
            now.set(parameter, grads[step].tensor()?);
        }
        optimizer.step(&mut model, &now)?;
        for ((parameter, golden), (name, _)) in model.stacks.iter().zip(&golden).zip(&stacks) {
            let what = format!("step {}: {name}", step + 1);
            comparison.tensor(&what, parameter.value(), &golden[step])?;
            let eval = averages.iter().find(|(of, _)| of.trim_end_matches("_eval") == *name);
            if let Some((name, average)) = eval {
                let golden = average.array()?.slices()?;
                let Some(got) = optimizer.average(parameter)? else { return wrong("no average") };
                let Some(golden) = golden.get(step) else { return wrong("a short stack") };
                comparison.tensor(&format!("step {}: {name}", step + 1), &got, golden)?;
            }
        }
    }
    Ok(comparison)
}

/// `W` starts at `W0`, `W1` at `W1_0`.
fn start<'a>(inputs: &Node<'a>, name: &str) -> Result<Node<'a>> {
    inputs.find(&format!("{name}_0")).map_or_else(|| inputs.get(&format!("{name}0")), Ok)
}

/// The file's own tolerance.
pub(crate) fn tolerance(root: &Node<'_>) -> Result<Tolerance> {
    let given = root.get("tolerance")?;
    let (relative, absolute) = (given.get("rtol")?.number()?, given.get("atol")?.number()?);
    if relative >= 0.0 && absolute >= 0.0 && relative.max(absolute) < 1e-3 {
        Ok(Tolerance { relative, absolute })
    } else {
        given.complain("no tolerance for f64")
    }
}
