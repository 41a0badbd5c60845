//! What a backward pass returns.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::rc::{Rc, Weak};

use kernels::length::{self, Length};

use super::{NodeId, Recording};
use crate::{DType, Device, Error, ParamId, Parameter, Parameters, Result, Tensor, Var};

/// What becomes of a trainable parameter that has no gradient: it was not used in the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unused {
    /// A step is refused with [`Error::MissingGradient`]: most such parameters have been forgotten.
    #[default]
    Refuse,
    /// A step leaves the parameter as it is, and what is kept of it: for models with branches, of which a
    /// batch takes some.
    Skip,
}

/// Sums of squares in f32 that have neither overflowed nor lost what counts.
const ORDINARY_IN_F32: RangeInclusive<f64> = 1e-20..=1e37;

/// What f32 multiplies by without loss.
const SMALLEST_FACTOR: f64 = 1.0 / (1_u128 << 64) as f64;

/// Gradients by parameter, and by watched variable.
#[derive(Debug, Clone, Default)]
pub struct Gradients {
    by_param: HashMap<ParamId, Tensor>,
    /// An op that used the parameter, where a tape has recorded it.
    users: HashMap<ParamId, &'static str>,
    unused: Unused,
    by_node: HashMap<NodeId, Tensor>,
    recording: Weak<Recording>,
}

impl Gradients {
    pub(super) fn new(recording: &Rc<Recording>) -> Self {
        Self { recording: Rc::downgrade(recording), ..Self::default() }
    }

    pub(super) fn insert(
        &mut self,
        node: NodeId,
        used: Option<(ParamId, &'static str)>,
        grad: Tensor,
    ) {
        match used {
            Some((param, op)) => {
                self.users.insert(param, op);
                self.by_param.insert(param, grad)
            }
            None => self.by_node.insert(node, grad),
        };
    }

    /// What a step does about trainable parameters without a gradient.
    #[must_use]
    pub const fn unused(&self) -> Unused {
        self.unused
    }

    /// Says what a step does about trainable parameters without a gradient; [`Unused::Refuse`] unless this is
    /// called.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{Gradients, Unused};
    /// let mut gradients = Gradients::default();
    /// gradients.set_unused(Unused::Skip);
    /// assert_eq!(gradients.unused(), Unused::Skip);
    /// ```
    pub const fn set_unused(&mut self, unused: Unused) {
        self.unused = unused;
    }

    /// Takes the gradients of a model's parameters out: what is left is everybody else's. For a loss that
    /// reaches two models, of which one is stepped, or each by an optimizer of its own.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{DType, Parameter, Tape, Tensor};
    /// let [generator, critic] = [2.0, 3.0].map(|x| Parameter::new(Tensor::scalar(x, DType::F64)));
    /// let tape = Tape::new();
    /// let loss = tape.bind(&generator).mul(&tape.bind(&critic))?;
    /// let mut gradients = tape.backward(&loss)?;
    /// let of_critic = gradients.split_off(&critic);
    /// assert_eq!(of_critic.of(&critic).unwrap().item()?, 2.0);
    /// assert!(gradients.of(&critic).is_none() && gradients.check_owned(&generator).is_ok());
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    #[must_use]
    pub fn split_off(&mut self, model: &dyn Parameters) -> Self {
        let mut off = Self {
            unused: self.unused,
            recording: Weak::clone(&self.recording),
            ..Self::default()
        };
        for (_, parameter) in model.parameters() {
            let id = parameter.id();
            off.by_param.extend(self.by_param.remove(&id).map(|grad| (id, grad)));
            off.users.extend(self.users.remove(&id).map(|op| (id, op)));
        }
        off
    }

    /// Refuses gradients of parameters that the model does not own: a step would leave those parameters where
    /// they are, for good. Every optimizer asks this before a step.
    ///
    /// # Errors
    /// [`Error::Unowned`] with the shape of the first such parameter and an op that used it.
    pub fn check_owned(&self, model: &dyn Parameters) -> Result<()> {
        let owned: HashSet<ParamId> = model.parameters().iter().map(|(_, p)| p.id()).collect();
        match self.params().into_iter().find(|param| !owned.contains(param)) {
            None => Ok(()),
            Some(param) => {
                let op = self.users.get(&param).copied().unwrap_or("Gradients::set");
                Err(Error::Unowned { shape: *self.by_param[&param].shape(), op })
            }
        }
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

    /// Adds another micro-batch's gradients. One that may leave parameters unused ([`Unused::Skip`]) makes
    /// the sum one that may.
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
        self.users.extend(&other.users);
        if other.unused == Unused::Skip {
            self.unused = Unused::Skip;
        }
        Ok(())
    }

    /// Multiplies every gradient by a number.
    ///
    /// # Errors
    /// None in practice; the multiplication is an op.
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        for grad in self.by_param.values_mut().chain(self.by_node.values_mut()) {
            *grad = scaled(grad, factor)?;
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

    /// The Euclidean norm over all parameters' gradients together, whatever their squares do. Of ordinary
    /// gradients on a GPU one number is read.
    ///
    /// # Errors
    /// [`Error::NoKernel`] when gradients have no numbers (meta device).
    pub fn norm(&self) -> Result<f64> {
        Ok(self.length()?.value())
    }

    fn length(&self) -> Result<Length> {
        // Summed in the order of identities, so that the result has the same bits every time.
        let (mut here, mut there, mut single): (f64, Option<Tensor>, bool) = (0.0, None, false);
        for id in self.params() {
            let grad = &self.by_param[&id];
            if matches!(grad.device(), Device::Cuda(_)) {
                let squares = grad.square()?.sum_all()?.to_dtype(DType::F64)?;
                there = Some(there.map_or(Ok(squares.clone()), |sum| sum.add(&squares))?);
                single |= grad.dtype() != DType::F64;
            } else {
                here += length::squares(&grad.to_f64_vec()?, 1.0);
            }
        }
        let there = there.map(|sum| sum.item()).transpose()?;
        let plain = match there {
            Some(there) if single && !ORDINARY_IN_F32.contains(&there) => f64::NAN,
            there => here + there.unwrap_or(0.0),
        };
        if let Some(length) = Length::of_ordinary(plain) {
            return Ok(length);
        }
        let numbers = self.params().into_iter().map(|id| self.by_param[&id].to_f64_vec());
        Ok(Length::of_any(&numbers.collect::<Result<Vec<_>>>()?))
    }

    /// Scales all gradients so that their common norm is at most `max_norm`; returns the norm
    /// before. (PyTorch's `clip_grad_norm_`, without its 1e-6.) Gradients with a NaN or an infinity stay as they
    /// are: no factor mends them, and a step refuses them by name.
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
        let length = self.length()?;
        if length.value() > max_norm && length.is_of_finite_numbers() {
            self.scale(length.factor_to(max_norm))?;
        }
        Ok(length.value())
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

/// g × factor, also where the factor alone is below f32's smallest number.
fn scaled(grad: &Tensor, factor: f64) -> Result<Tensor> {
    if grad.dtype() == DType::F64 || factor == 0.0 || factor.abs() >= SMALLEST_FACTOR {
        return grad.scale(factor);
    }
    grad.scale(SMALLEST_FACTOR)?.scale(factor / SMALLEST_FACTOR)
}

fn ascending<T>(by_param: &HashMap<ParamId, T>) -> Vec<ParamId> {
    let mut ids: Vec<_> = by_param.keys().copied().collect();
    ids.sort_unstable();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_keeps_the_direction_of_finite_gradients_however_large_or_small_they_are() {
        let cases = [
            (DType::F64, [1.0, 1e160, 1e-160, 1e300, 1e-200].as_slice()),
            (DType::F32, &[1.0, 1e20, 1e38, 1e-30]),
        ];
        for (dtype, scales) in cases {
            for &scale in scales {
                let weight = Parameter::new(Tensor::zeros([2], dtype));
                let mut grads = Gradients::default();
                let grad = Tensor::from_slice(&[3.0 * scale, -1.5 * scale], [2]).unwrap();
                grads.set(&weight, grad.to_dtype(dtype).unwrap());
                let seen = grads.of(&weight).unwrap().to_f64_vec().unwrap();
                let norm = grads.clip_norm(1e-3 * scale).unwrap();
                assert!((norm / seen[0].hypot(seen[1]) - 1.0).abs() < 1e-12, "{scale}: {norm}");
                let left = grads.of(&weight).unwrap().to_f64_vec().unwrap();
                let ratio = left[0].hypot(left[1]) / (1e-3 * scale) - 1.0;
                assert!(ratio.abs() < 1e-6, "{scale} in {dtype} is cut to {left:?}");
                assert!((left[0] / left[1] + 2.0).abs() < 1e-6, "{left:?}");
            }
        }
    }

    #[test]
    fn a_factor_too_small_for_f32_is_not_zero() {
        let weight = Parameter::new(Tensor::zeros([1], DType::F32));
        let mut grads = Gradients::default();
        grads.set(&weight, Tensor::from_slice(&[1e30_f32], [1]).unwrap());
        grads.scale(1e-50).unwrap();
        let left = grads.of(&weight).unwrap().item().unwrap();
        assert!((left / 1e-20 - 1.0).abs() < 1e-6, "{left}");
    }

    #[test]
    fn no_factor_mends_an_infinite_gradient_so_none_is_tried() {
        let weight = Parameter::new(Tensor::zeros([2], DType::F64));
        let mut grads = Gradients::default();
        grads.set(&weight, Tensor::from_slice(&[f64::INFINITY, 2.0], [2]).unwrap());
        assert_eq!(grads.clip_norm(1.0).unwrap(), f64::INFINITY);
        assert_eq!(grads.of(&weight).unwrap().to_vec::<f64>().unwrap(), [f64::INFINITY, 2.0]);
    }
}
