//! What an elementwise op is: three formulas. Recording, gradients of first and second order, and
//! the loop around them follow.

use std::fmt::Debug;

#[cfg(feature = "cuda")]
use kernels::cuda::elementwise as cuda;

use crate::op::{Halves, Keeps, Op, Saved, Site, sample_input};
use crate::storage::{CpuStorage, CpuView};
#[cfg(feature = "cuda")]
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor, Var};
use crate::{Element, Error, FloatElement, Result, Sample, Shape, for_float};

/// y = f(x) for every element, with its first and second derivative.
pub trait Elementwise: Copy + Debug + Send + Sync + 'static {
    /// The op's name.
    const NAME: &'static str;
    /// Which of x and y `df` looks at; the other may be anything.
    const KEEPS: Keeps;
    /// Whether `d2f` is given.
    const TWICE: bool = true;
    /// f(x), f′(x) and f″(x) once more, in CUDA C++: of `x`, `y` = f(x) and the [constants](Self::constants)
    /// `c0` and `c1`, all of type `T`. Each is an expression and nothing else (decision 0054): arithmetic,
    /// comparisons, choices, and functions of CUDA C++ that compute; beyond those, the functions in
    /// `kernels/cuda/elementwise.cu`. Anything else is refused when it is first used on a device.
    const CUDA: [&'static str; 3];
    /// The numbers that make one op of this kind differ from another.
    fn constants(self) -> [f64; 2] {
        [0.0; 2]
    }
    /// f(x)
    fn f<T: FloatElement>(self, x: T) -> T;
    /// f′(x), where `y = f(x)` is at hand.
    fn df<T: FloatElement>(self, x: T, y: T) -> T;
    /// f″(x): the derivative with respect to x of everything in `df`, y included.
    fn d2f<T: FloatElement>(self, _x: T, _y: T) -> T {
        T::ZERO
    }
}

/// Applies an elementwise op.
///
/// # Errors
/// [`Error::DType`] when the tensor is not floating point.
pub fn apply<E: Elementwise, H: History>(formulas: E, x: &Tensor<H>) -> Result<Tensor<H>> {
    H::apply(Forward(formulas), &[x])
}

/// Samples of an elementwise op: positive and negative numbers, a transposed view, no elements.
pub fn samples(call: fn(&Var) -> Result<Var>) -> Vec<Sample> {
    vec![
        Sample::new(vec![sample_input([2, 3])], move |x| call(&x[0])),
        Sample::new(vec![sample_input([3, 4])], move |x| call(&x[0].permute(&[1, 0])?)),
        Sample::new(vec![sample_input([0, 3])], move |x| call(&x[0])),
        Sample::new(vec![sample_input(())], move |x| call(&x[0])),
    ]
}

/// Beyond this an exponential tail is 0 or 1 in every type.
const TAIL: f64 = 1e4;

/// x, but no less than where x times a tail that is 0 there is 0: −∞ times 0 would be no number.
pub(super) fn floored<T: FloatElement>(x: T) -> T {
    // Not `max`: a NaN must stay one.
    if x < T::of(-TAIL) { T::of(-TAIL) } else { x }
}

/// x, within the bounds beyond which x times the slope of a tail is 0.
pub(super) fn bounded<T: FloatElement>(x: T) -> T {
    let x = floored(x);
    if x > T::of(TAIL) { T::of(TAIL) } else { x }
}

#[derive(Debug)]
struct Forward<E>(E);

impl<E: Elementwise> Op for Forward<E> {
    fn name(&self) -> &'static str {
        E::NAME
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(*inputs[0])
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        for_float!(inputs[0].dtype(), T => {
            kernels::elementwise::map(inputs[0].slice::<T>(), out.slice_mut::<T>(), |x| self.0.f(x));
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let x = &inputs[0];
        cuda::forward(x.gpu(), &formulas(self.0), x.slice(), &out.slice_mut())?;
        Ok(Saved::new())
    }

    fn halves(&self) -> Halves {
        Halves::InCudaAndRule
    }

    fn keeps(&self) -> Keeps {
        E::KEEPS
    }

    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let there = |value, kept: bool| if kept || at.is_recorded() { value } else { at.grad };
        let x = there(&at.inputs[0], E::KEEPS.inputs);
        let y = there(at.output, E::KEEPS.output);
        let first = Derivative { of: self.0, order: Order::First };
        Ok(vec![Some(Var::apply_op(first, &[x, y, at.grad])?)])
    }
}

/// g f′(x), or after that g f″(x), fused. Inputs x, y, g.
#[derive(Debug)]
struct Derivative<E> {
    of: E,
    order: Order,
}

/// The second is the end of the road: a third derivative is [`Error::NoThirdDerivative`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    First = 1,
    Second = 2,
}

impl<E: Elementwise> Op for Derivative<E> {
    fn name(&self) -> &'static str {
        E::NAME
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(*inputs[0])
    }

    fn cpu(&self, inputs: &[CpuView<'_>], out: &mut CpuStorage) -> Result<Saved> {
        for_float!(inputs[0].dtype(), T => {
            let ([x, y, g], op) = ([0, 1, 2].map(|i| inputs[i].slice::<T>()), self.of);
            let out = out.slice_mut::<T>();
            match self.order {
                Order::First => kernels::elementwise::map3(x, y, g, out, |x, y, g| g * op.df(x, y)),
                Order::Second => kernels::elementwise::map3(x, y, g, out, |x, y, g| g * op.d2f(x, y)),
            }
        });
        Ok(Saved::new())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[CudaView<'_>], out: &mut CudaStorage) -> Result<Saved> {
        let all = [0, 1, 2].map(|i| inputs[i].slice());
        let formulas = formulas(self.of);
        cuda::derivative(inputs[0].gpu(), &formulas, self.order as usize, all, &out.slice_mut())?;
        Ok(Saved::new())
    }

    fn halves(&self) -> Halves {
        Halves::InCuda
    }

    /// d/dg = f′, d/dx = g f″. What y contributes is in f″, so y itself gets nothing.
    fn backward(&self, at: &Site<'_>) -> Result<Vec<Option<Var>>> {
        let (Order::First, [x, y, g]) = (self.order, at.inputs) else {
            return Err(Error::NoThirdDerivative { op: E::NAME });
        };
        if !E::TWICE {
            return Err(Error::NotTwiceDifferentiable { op: E::NAME });
        }
        let derivative = |order| Self { of: self.of, order };
        let d_x =
            at.want(0, || Var::apply_op(derivative(Order::Second), &[x, y, g])?.mul(at.grad))?;
        let d_g = at.want(2, || Var::apply_op(derivative(Order::First), &[x, y, at.grad]))?;
        Ok(vec![d_x, None, d_g])
    }
}

#[cfg(feature = "cuda")]
fn formulas<E: Elementwise>(op: E) -> cuda::Formulas {
    cuda::Formulas { name: E::NAME, formulas: E::CUDA, constants: op.constants() }
}

/// The output shape of a broadcasting op of two inputs.
///
/// # Errors
/// [`Error::Shape`] when the shapes do not broadcast.
pub(super) fn broadcast(op: &'static str, inputs: &[&Shape]) -> Result<Shape> {
    inputs[0]
        .broadcast(inputs[1])
        .ok_or_else(|| Error::shape(op, "two shapes that broadcast", inputs))
}

/// The kernel of a broadcasting op of two inputs, given its formula for both dtypes.
pub(super) fn binary(
    inputs: &[CpuView<'_>],
    out: &mut CpuStorage,
    f32s: impl Fn(f32, f32) -> f32 + Sync,
    f64s: impl Fn(f64, f64) -> f64 + Sync,
) {
    match out {
        CpuStorage::F32(out) => pairs(inputs, out, f32s),
        CpuStorage::F64(out) => pairs(inputs, out, f64s),
        // Its dtype has been checked.
        CpuStorage::I64(_) | CpuStorage::F16(_) | CpuStorage::BF16(_) => {}
    }
}

/// out = f(a, b) for every pair of elements of two inputs that broadcast.
pub(super) fn pairs<A: Element, T: Send>(
    inputs: &[CpuView<'_>],
    out: &mut [T],
    f: impl Fn(A, A) -> T + Sync,
) {
    let [a, b] = [inputs[0].layout(), inputs[1].layout()];
    if a.shape() == b.shape() && a.is_contiguous() && b.is_contiguous() {
        return kernels::elementwise::map2(inputs[0].slice(), inputs[1].slice(), out, f);
    }
    let Some(shape) = a.shape().broadcast(b.shape()) else { return };
    let (a, b) = (a.broadcast_to(shape), b.broadcast_to(shape));
    kernels::elementwise::map2_strided(
        &shape,
        inputs[0].storage(),
        a.strides(),
        a.offset(),
        inputs[1].storage(),
        b.strides(),
        b.offset(),
        out,
        f,
    );
}

/// [`pairs`] on a CUDA device, given the formula in CUDA C++ and its name.
#[cfg(feature = "cuda")]
pub(super) fn cuda_pairs(
    name: &'static str,
    formula: &'static str,
    inputs: &[CudaView<'_>],
    out: &mut CudaStorage,
) -> Result<Saved> {
    use kernels::cuda::pairs::{self, Formula};
    let (gpu, formula) = (inputs[0].gpu(), Formula(name, formula));
    let [a, b] = [inputs[0].layout(), inputs[1].layout()];
    let out = out.slice_mut();
    if a.shape() == b.shape() && a.is_contiguous() && b.is_contiguous() {
        pairs::alike(gpu, formula, inputs[0].slice(), inputs[1].slice(), &out)?;
    } else if let Some(shape) = a.shape().broadcast(b.shape()) {
        let (a, b) = (a.broadcast_to(shape), b.broadcast_to(shape));
        let [left, right] = [inputs[0].strided(), inputs[1].strided()];
        let (left, right) = ((left, a.strides()), (right, b.strides()));
        pairs::broadcast(gpu, formula, &shape, left, right, &out)?;
    }
    Ok(Saved::new())
}

/// Samples of a broadcasting op: equal shapes, repeated axes on either side, a scalar, a
/// transposed view, one tensor on both sides, no elements.
pub(super) fn binary_samples(call: fn(&Var, &Var) -> Result<Var>) -> Vec<Sample> {
    let pair = |a: Shape, b: Shape| vec![sample_input(a), sample_input(b)];
    vec![
        Sample::new(pair([2, 3].into(), [2, 3].into()), move |x| call(&x[0], &x[1])),
        Sample::new(pair([2, 1, 3].into(), [4, 1].into()), move |x| call(&x[0], &x[1])),
        Sample::new(pair(().into(), [2, 2].into()), move |x| call(&x[0], &x[1])),
        Sample::new(pair([3, 2].into(), [2, 3].into()), move |x| {
            call(&x[0].transpose(0, 1)?, &x[1])
        }),
        Sample::new(vec![sample_input([5])], move |x| call(&x[0], &x[0])),
        Sample::new(pair([0, 2].into(), [2].into()), move |x| call(&x[0], &x[1])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Tape};

    /// The value and the slope of an op at a number.
    fn at(x: f64, dtype: DType, f: fn(&Var) -> Result<Var>) -> [f64; 2] {
        let tape = Tape::new();
        let x = tape.watch(Tensor::full([1], x, dtype));
        let y = f(&x).unwrap();
        let slope = tape.backward(&y).unwrap().of_var(&x).unwrap().item().unwrap();
        [y.item().unwrap(), slope]
    }

    #[test]
    fn activations_of_infinite_and_huge_numbers_have_the_values_of_their_limits() {
        let gates: [fn(&Var) -> Result<Var>; 4] =
            [|x| x.silu(), |x| x.gelu(), |x| x.gelu_tanh(), |x| x.softplus()];
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            for f in gates {
                for x in [f64::NEG_INFINITY, -1e30] {
                    assert_eq!(at(x, dtype, f), [0.0, 0.0], "{dtype} {x}");
                }
                let [y, slope] = at(f64::INFINITY, dtype, f);
                assert_eq!((y, slope), (f64::INFINITY, 1.0), "{dtype}");
                assert!(at(f64::NAN, dtype, f).iter().all(|y| y.is_nan()));
            }
            for (x, want) in [(f64::NEG_INFINITY, [0.0, 0.0]), (f64::INFINITY, [1.0, 0.0])] {
                assert_eq!(at(x, dtype, |x| x.sigmoid()), want, "{dtype} {x}");
            }
        }
        assert_eq!(at(1e30, DType::F32, |x| x.gelu_tanh())[1], 1.0);
    }

    #[test]
    fn a_third_derivative_is_refused_as_a_third() {
        let tape = Tape::new();
        let x = tape.watch(Tensor::ones([1], DType::F64));
        let first = tape.backward_recorded(&x.sigmoid().unwrap()).unwrap();
        let second = tape.backward_recorded(first.of_var(&x).unwrap()).unwrap();
        let third = tape.backward(second.of_var(&x).unwrap()).unwrap_err();
        assert!(matches!(third, Error::NoThirdDerivative { op: "sigmoid" }));
        assert!(third.to_string().contains("third"), "{third}");
    }
}
