//! `OnHost`: any optimizer for a model on a device, by way of main memory, as ZeRO-Offload has it (Ren et al.
//! 2021, "ZeRO-Offload: Democratizing Billion-Scale Model Training").
//!
//! ```text
//! g, θ  to main memory;   the optimizer's step there;   θ  back
//! ```
//! For optimizers that have no update on devices: the host waits for every gradient and every parameter, which
//! `Gpu::reads` counts. Nobody gets it without asking for it, and coverage says "on the host". What an
//! optimizer keeps stays in main memory, so its saved state is that of the same optimizer without this.

use engine::{Device, Gradients, Parameter, Parameters, Result, Tensor};

use super::coverage::Coverage;
use crate::curvature::communicator::Communicator;
use crate::curvature::estimate::hessian_diagonal::HessianDiagonal;
use crate::{CurvatureSource, Optimizer, State};

/// An optimizer that steps in main memory, wherever the model is.
///
/// Not for optimizers that evaluate a batch themselves ([`Optimizer::needs_problem`]): those refuse devices
/// as before.
///
/// # Example
/// ```
/// use engine::{Gradients, Parameter, Tensor};
/// use alcyon_optim::{OnHost, Optimizer};
/// let mut weight = Parameter::new(Tensor::from_slice(&[1.0], [1])?); // or on a GPU
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::from_slice(&[2.0], [1])?);
/// let mut optimizer = OnHost::new(alcyon_optim::build("sgd", Some(0.25))?);
/// optimizer.step(&mut weight, &grads)?;
/// assert_eq!(weight.value().to_vec::<f64>()?, [0.5]);
/// assert!(optimizer.coverage(&weight).lines[0].rule.ends_with("on the host"));
/// # Ok::<(), engine::Error>(())
/// ```
pub struct OnHost {
    inner: Box<dyn Optimizer>,
}

impl std::fmt::Debug for OnHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnHost").field("inner", &self.inner.name()).finish()
    }
}

impl OnHost {
    /// Steps of this optimizer, in main memory.
    #[must_use]
    pub fn new(inner: Box<dyn Optimizer>) -> Self {
        Self { inner }
    }
}

/// The gradients of all parameters, in main memory.
fn gradients_here(model: &dyn Parameters, grads: &Gradients) -> Result<Gradients> {
    grads.check_owned(model)?;
    let mut here = Gradients::default();
    here.set_unused(grads.unused());
    for (_, parameter) in model.parameters() {
        if let Some(grad) = grads.of(parameter) {
            here.set(parameter, grad.to_device(Device::Cpu)?);
        }
    }
    Ok(here)
}

/// The values on other devices: those of all parameters.
fn moved(values: &[Tensor], devices: impl Iterator<Item = Device>) -> Result<Vec<Tensor>> {
    values.iter().zip(devices).map(|(value, device)| value.to_device(device)).collect()
}

fn values(model: &dyn Parameters) -> Vec<Tensor> {
    model.parameters().into_iter().map(|(_, parameter)| parameter.value().clone()).collect()
}

fn set_values(model: &mut dyn Parameters, values: Vec<Tensor>) {
    for ((_, parameter), value) in model.parameters_mut().into_iter().zip(values) {
        *parameter.value_mut() = value;
    }
}

impl Optimizer for OnHost {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn curvature(&mut self) -> Option<&mut dyn CurvatureSource> {
        self.inner.curvature()
    }

    fn hessian_diagonal(&mut self) -> Option<&mut HessianDiagonal> {
        self.inner.hessian_diagonal()
    }

    fn needs_problem(&self) -> bool {
        self.inner.needs_problem()
    }

    fn discard(&mut self) {
        self.inner.discard();
    }

    fn exchange(&mut self, communicator: &mut dyn Communicator) -> Result<()> {
        self.inner.exchange(communicator)
    }

    fn runs_on(&self, device: Device) -> bool {
        device == Device::Cpu || device != Device::Meta && !self.needs_problem()
    }

    /// Whatever fails, the parameters are as before, and on their devices.
    fn step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        let before = values(model);
        let here = gradients_here(model, grads)
            .and_then(|grads| Ok((grads, moved(&before, before.iter().map(|_| Device::Cpu))?)));
        let (grads, here) = here.inspect_err(|_| self.inner.discard())?;
        set_values(model, here);
        let done = self.inner.step(model, &grads);
        let after = done.and_then(|()| moved(&values(model), before.iter().map(Tensor::device)));
        match after {
            Ok(after) => {
                set_values(model, after);
                Ok(())
            }
            Err(error) => {
                set_values(model, before);
                Err(error)
            }
        }
    }

    fn options(&self) -> String {
        self.inner.options()
    }

    fn rate(&self) -> f64 {
        self.inner.rate()
    }

    fn set_rate(&mut self, rate: f64) {
        self.inner.set_rate(rate);
    }

    /// Only of optimizers whose average does not need the parameter's own value.
    fn average(&self, parameter: &Parameter) -> Result<Option<Tensor>> {
        let average = self.inner.average(parameter)?;
        average.map(|average| average.to_device(parameter.value().device())).transpose()
    }

    fn coverage(&self, model: &dyn Parameters) -> Coverage {
        let mut coverage = self.inner.coverage(model);
        for line in coverage.lines.iter_mut().filter(|line| line.rule != "frozen") {
            line.rule.push_str(", on the host");
        }
        coverage
    }

    fn state(&self, model: &dyn Parameters) -> Result<State> {
        self.inner.state(model)
    }

    fn load_state(&mut self, model: &dyn Parameters, state: &State) -> Result<()> {
        self.inner.load_state(model, state)
    }
}
