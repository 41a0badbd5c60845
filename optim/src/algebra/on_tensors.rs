//! Updates written as operations on tensors, which run wherever the tensors are: the way to a device of
//! rules that are more than one formula of each entry. Nothing is read back, norms included, but for decompositions.

use engine::{DType, Device, Result, Tensor};

/// What an update makes: the new value, and what is kept from now on.
pub type Composed = (Tensor, Vec<Tensor>);

/// keep · old + gain · new
pub(crate) fn mix(keep: f64, old: &Tensor, gain: f64, new: &Tensor) -> Result<Tensor> {
    old.scale(keep)?.add(&new.scale(gain)?)
}

/// √Σ x², a scalar where x is.
pub(crate) fn length(x: &Tensor) -> Result<Tensor> {
    x.square()?.sum_all()?.sqrt()
}

/// a / b where both are positive, else 1; at most the largest number.
pub(crate) fn ratio(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let number = |x| Tensor::full_on(b.device(), *b.shape(), x, b.dtype());
    let (zero, one) = (number(0.0)?, number(1.0)?);
    let largest = if b.dtype() == DType::F64 { f64::MAX } else { f32::MAX.into() };
    let ratio = a.div(b)?.minimum(&number(largest)?)?;
    a.minimum(b)?.greater(&zero)?.select(&ratio, &one)
}

/// β₁ m + (1 − β₁) g and β₂ v + (1 − β₂) g².
pub(crate) fn moments(
    [beta1, beta2]: [f64; 2],
    grad: &Tensor,
    [m, v]: [&Tensor; 2],
) -> Result<[Tensor; 2]> {
    Ok([mix(beta1, m, 1.0 - beta1, grad)?, mix(beta2, v, 1.0 - beta2, &grad.square()?)?])
}

/// √v / root + ε
pub(crate) fn spread(v: &Tensor, root: f64, epsilon: f64) -> Result<Tensor> {
    v.sqrt()?.scale(1.0 / root)?.shift(epsilon)
}

/// In main memory: the host waits.
pub(crate) fn here(x: &Tensor) -> Result<Tensor> {
    x.to_device(Device::Cpu)
}

/// Where another tensor is.
pub(crate) fn there(x: &Tensor, other: &Tensor) -> Result<Tensor> {
    x.to_device(other.device())
}
