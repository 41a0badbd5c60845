//! What a backward pass returns.

use std::collections::HashMap;
use std::rc::{Rc, Weak};

use super::{NodeId, Recording};
use crate::{DType, Device, Error, ParamId, Parameter, Result, Tensor, Var};

/// Gradients by parameter, and by watched variable.
#[derive(Debug, Clone, Default)]
pub struct Gradients {
    by_param: HashMap<ParamId, Tensor>,
    by_node: HashMap<NodeId, Tensor>,
    recording: Weak<Recording>,
}

impl Gradients {
    pub(super) fn new(recording: &Rc<Recording>) -> Self {
        Self { recording: Rc::downgrade(recording), ..Self::default() }
    }

    pub(super) fn insert(&mut self, node: NodeId, param: Option<ParamId>, grad: Tensor) {
        match param {
            Some(param) => self.by_param.insert(param, grad),
            None => self.by_node.insert(node, grad),
        };
    }

    /// The gradient of a parameter, if it was used in the loss.
    #[must_use]
    pub fn of(&self, parameter: &Parameter) -> Option<&Tensor> {
        self.by_param.get(&parameter.id())
    }

    /// The gradient of a watched variable, if it was used in the loss.
    #[must_use]
    pub fn of_var(&self, var: &Var) -> Option<&Tensor> {
        let node = var.node_on(&self.recording.upgrade()?)?;
        self.by_node.get(&node)
    }

    /// The gradient of a parameter by its identity.
    #[must_use]
    pub fn get(&self, param: ParamId) -> Option<&Tensor> {
        self.by_param.get(&param)
    }

    /// The identities of the parameters with a gradient, in their order.
    #[must_use]
    pub fn params(&self) -> Vec<ParamId> {
        ascending(&self.by_param)
    }

    /// Sets (or replaces) the gradient of a parameter: for optimizers under test and for users
    /// who compute their own.
    pub fn set(&mut self, parameter: &Parameter, grad: Tensor) {
        self.by_param.insert(parameter.id(), grad);
    }

    /// The number of parameters with a gradient.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_param.len()
    }

    /// Whether no parameter has a gradient.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_param.is_empty()
    }

    /// Adds another micro-batch's gradients.
    ///
    /// # Errors
    /// [`Error::Shape`] when the gradients of one parameter differ in shape.
    pub fn accumulate(&mut self, other: &Self) -> Result<()> {
        for (&param, grad) in &other.by_param {
            let sum = match self.by_param.remove(&param) {
                Some(mine) if mine.shape() != grad.shape() => {
                    return Err(Error::shape(
                        "accumulate",
                        "equal shapes",
                        &[mine.shape(), grad.shape()],
                    ));
                }
                Some(mine) => mine.add(grad)?,
                None => grad.clone(),
            };
            self.by_param.insert(param, sum);
        }
        Ok(())
    }

    /// Multiplies every gradient by a number.
    ///
    /// # Errors
    /// None in practice; the multiplication is an op.
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        for grad in self.by_param.values_mut().chain(self.by_node.values_mut()) {
            *grad = grad.scale(factor)?;
        }
        Ok(())
    }

    /// Whether no gradient of a parameter has a NaN or an infinity. On a GPU: one number is read.
    ///
    /// # Errors
    /// [`Error::NoKernel`] when gradients have no numbers (meta device).
    pub fn is_finite(&self) -> Result<bool> {
        let mut sum: Option<Tensor> = None;
        for id in self.params() {
            // 0 · x is 0, or NaN when x is not finite; zeros do not overflow when they are added.
            let zero = self.by_param[&id].scale(0.0)?.sum_all()?.to_dtype(DType::F64)?;
            sum = Some(sum.map_or(Ok(zero.clone()), |sum| sum.add(&zero))?);
        }
        Ok(sum.map_or(Ok(0.0), |sum| sum.item())?.is_finite())
    }

    /// The Euclidean norm over all parameters' gradients together. Of gradients on a GPU one number is read.
    ///
    /// # Errors
    /// [`Error::NoKernel`] when gradients have no numbers (meta device).
    pub fn norm(&self) -> Result<f64> {
        // Summed in the order of identities, so that the result has the same bits every time.
        let (mut here, mut there): (f64, Option<Tensor>) = (0.0, None);
        for id in self.params() {
            let grad = &self.by_param[&id];
            if matches!(grad.device(), Device::Cuda(_)) {
                let squares = grad.square()?.sum_all()?.to_dtype(DType::F64)?;
                there = Some(there.map_or(Ok(squares.clone()), |sum| sum.add(&squares))?);
            } else {
                here += sum_of_squares(grad)?;
            }
        }
        let there = there.map_or(Ok(0.0), |sum| sum.item())?;
        if there.is_finite() {
            return Ok((here + there).sqrt());
        }
        // Squares overflow before numbers do.
        let all = self.params().into_iter().map(|id| sum_of_squares(&self.by_param[&id]));
        Ok(all.sum::<Result<f64>>()?.sqrt())
    }

    /// Scales all gradients so that their common norm is at most `max_norm`; returns the norm
    /// before. (PyTorch's `clip_grad_norm_`, without its 1e-6.)
    ///
    /// # Errors
    /// [`Error::Argument`] when `max_norm` is not positive.
    pub fn clip_norm(&mut self, max_norm: f64) -> Result<f64> {
        if max_norm.is_nan() || max_norm <= 0.0 {
            return Err(Error::Argument {
                op: "clip_norm",
                name: "max_norm",
                expected: "positive",
                got: max_norm.to_string(),
            });
        }
        let norm = self.norm()?;
        if norm > max_norm {
            self.scale(max_norm / norm)?;
        }
        Ok(norm)
    }
}

/// Gradients that are themselves on the tape, to be differentiated again.
#[derive(Debug, Clone, Default)]
pub struct VarGradients {
    by_param: HashMap<ParamId, Var>,
    by_node: HashMap<NodeId, Var>,
    recording: Weak<Recording>,
}

impl VarGradients {
    pub(super) fn new(recording: &Rc<Recording>) -> Self {
        Self { recording: Rc::downgrade(recording), ..Self::default() }
    }

    pub(super) fn insert(&mut self, node: NodeId, param: Option<ParamId>, grad: Var) {
        match param {
            Some(param) => self.by_param.insert(param, grad),
            None => self.by_node.insert(node, grad),
        };
    }

    /// The gradient of a parameter, if it was used in the loss.
    #[must_use]
    pub fn of(&self, parameter: &Parameter) -> Option<&Var> {
        self.by_param.get(&parameter.id())
    }

    /// The gradient of a parameter by its identity.
    #[must_use]
    pub fn get(&self, param: ParamId) -> Option<&Var> {
        self.by_param.get(&param)
    }

    /// The identities of the parameters with a gradient, in their order.
    #[must_use]
    pub fn params(&self) -> Vec<ParamId> {
        ascending(&self.by_param)
    }

    /// The gradient of a watched variable, if it was used in the loss.
    #[must_use]
    pub fn of_var(&self, var: &Var) -> Option<&Var> {
        let node = var.node_on(&self.recording.upgrade()?)?;
        self.by_node.get(&node)
    }
}

/// In f64.
fn sum_of_squares(x: &Tensor) -> Result<f64> {
    Ok(x.to_f64_vec()?.iter().map(|x| x * x).sum())
}

fn ascending<T>(by_param: &HashMap<ParamId, T>) -> Vec<ParamId> {
    let mut ids: Vec<_> = by_param.keys().copied().collect();
    ids.sort_unstable();
    ids
}
