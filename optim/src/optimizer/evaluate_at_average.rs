//! Evaluating at the point that an optimizer recommends, where that is another than the trained one.

use engine::{Parameters, Result};

use crate::Optimizer;

/// Calls `evaluate` on the model with each parameter at its [`Optimizer::average`] (where there is one),
/// and puts the trained values back.
///
/// # Errors
/// Those of the averages; `evaluate`'s own are inside of what it returns.
///
/// # Example
/// ```
/// use engine::{DType, Gradients, Parameter, Tensor};
/// use alcyon_optim::{Optimizer, SPlus, SPlusConfig, with_averages};
/// let mut weight = Parameter::new(Tensor::full([1], 1.0, DType::F64));
/// let mut splus = SPlus::new(SPlusConfig { average: 0.5, ..SPlusConfig::default() })?;
/// for _ in 0..3 {
///     let mut grads = Gradients::default();
///     grads.set(&weight, weight.value().clone());
///     splus.step(&mut weight, &grads)?;
/// }
/// let trained = weight.value().item()?;
/// let average = with_averages(&mut weight, &splus, |weight| weight.value().item())??;
/// assert!(average > trained); // behind on the way down
/// assert_eq!(weight.value().item()?, trained);
/// # Ok::<(), engine::Error>(())
/// ```
pub fn with_averages<M: Parameters, T>(
    model: &mut M,
    optimizer: &dyn Optimizer,
    evaluate: impl FnOnce(&M) -> T,
) -> Result<T> {
    let mut averages = Vec::new();
    for (_, parameter) in model.parameters() {
        averages.push(optimizer.average(parameter)?);
    }
    let mut trained = Vec::new();
    for ((_, parameter), average) in model.parameters_mut().into_iter().zip(averages) {
        trained.push(parameter.value().clone());
        if let Some(average) = average {
            *parameter.value_mut() = average;
        }
    }
    let result = evaluate(model);
    for ((_, parameter), value) in model.parameters_mut().into_iter().zip(trained) {
        *parameter.value_mut() = value;
    }
    Ok(result)
}
