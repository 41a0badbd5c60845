//! The exponential moving average of the weights: Polyak & Juditsky 1992; with a constant decay as in
//! Tarvainen & Valpola 2017, eq. 1.
//!
//! Before the first step it is the starting point; after every step  w̄ ← d w̄ + (1 − d) w.  Running
//! statistics (buffers) are the model's own.

use std::collections::BTreeMap;

use engine::{Error, Parameters, Result, Tensor};

/// An average of a model's parameters over the steps of a run.
///
/// # Example
/// ```
/// use alcyon_train::Average;
/// use engine::{DType, Parameter, Tensor};
/// let mut weight = Parameter::new(Tensor::zeros([1], DType::F64));
/// let mut average = Average::new(0.75, &weight)?;
/// *weight.value_mut() = Tensor::full([1], 8.0, DType::F64);
/// average.update(&weight)?;
/// assert_eq!(average.with(&mut weight, |weight| weight.value().item())?, 2.0);
/// assert_eq!(weight.value().item()?, 8.0); // put back
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Average {
    decay: f64,
    values: BTreeMap<String, Tensor>,
}

impl Average {
    /// Starts at the model's values.
    ///
    /// # Errors
    /// [`Error::Argument`] unless the decay is in 0 .. 1.
    pub fn new(decay: f64, model: &dyn Parameters) -> Result<Self> {
        if !(0.0..1.0).contains(&decay) {
            let (op, name, expected) = ("train", "average", "a decay in 0 .. 1");
            return Err(Error::Argument { op, name, expected, got: decay.to_string() });
        }
        let value = |(path, p): (String, &engine::Parameter)| (path, p.value().clone());
        Ok(Self { decay, values: model.parameters().into_iter().map(value).collect() })
    }

    /// One step has been taken.
    ///
    /// # Errors
    /// None on the CPU.
    pub fn update(&mut self, model: &dyn Parameters) -> Result<()> {
        for (path, parameter) in model.parameters() {
            let Some(mean) = self.values.get_mut(&path) else { continue };
            *mean = mean.scale(self.decay)?.add(&parameter.value().scale(1.0 - self.decay)?)?;
        }
        Ok(())
    }

    /// Calls a function on the model with its parameters at their averages, and puts them back.
    ///
    /// # Errors
    /// The function's own.
    pub fn with<M: Parameters, T>(
        &self,
        model: &mut M,
        evaluate: impl FnOnce(&M) -> Result<T>,
    ) -> Result<T> {
        let mut trained = Vec::new();
        for (path, parameter) in model.parameters_mut() {
            trained.push(parameter.value().clone());
            if let Some(mean) = self.values.get(&path) {
                *parameter.value_mut() = mean.clone();
            }
        }
        let result = evaluate(model);
        for ((_, parameter), value) in model.parameters_mut().into_iter().zip(trained) {
            *parameter.value_mut() = value;
        }
        result
    }

    /// By the paths of the parameters.
    #[must_use]
    pub const fn values(&self) -> &BTreeMap<String, Tensor> {
        &self.values
    }

    /// Takes saved values over.
    ///
    /// # Errors
    /// [`Error::Shape`] when one does not have its parameter's shape, [`Error::Argument`] when there is
    /// none for a parameter; nothing is changed then.
    pub fn restore(&mut self, mut saved: BTreeMap<String, Tensor>) -> Result<()> {
        for (path, mine) in &self.values {
            match saved.get(path) {
                Some(value) if value.shape() == mine.shape() => {}
                Some(value) => {
                    let expected = format!("the average of {path} {}", mine.shape());
                    return Err(Error::shape("resume", expected, &[value.shape()]));
                }
                None => {
                    let (op, name) = ("resume", "average");
                    let expected = "saved for every parameter";
                    return Err(Error::Argument { op, name, expected, got: format!("no {path}") });
                }
            }
        }
        saved.retain(|path, _| self.values.contains_key(path));
        for (path, mine) in &self.values {
            if let Some(value) = saved.get_mut(path) {
                *value = value.to_device(mine.device())?;
            }
        }
        self.values = saved;
        Ok(())
    }
}
