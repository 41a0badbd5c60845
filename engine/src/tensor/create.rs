//! Making tensors.

use std::sync::Arc;

use kernels::pool::Buffer;
use rand::Rng as _;
use rand_distr::{Distribution, StandardNormal, StandardUniform};

use super::{Plain, Tensor};
use crate::dtype::for_element;
use crate::rng::Rng;
use crate::storage::{CpuStorage, Refused};
use crate::{DType, Device, Element, Error, Layout, Number, Result, Shape, Storage, room};

impl Tensor {
    /// A tensor over a vector, row-major, without copying.
    ///
    /// # Errors
    /// [`Error::Shape`] when the vector's length is not the shape's number of elements.
    pub fn from_vec<T: Element>(values: Vec<T>, shape: impl Into<Shape>) -> Result<Self> {
        Self::from_buffer(values.into(), shape)
    }

    /// [`Tensor::from_vec`] of memory of the pool.
    ///
    /// # Errors
    /// As [`Tensor::from_vec`].
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// use kernels::pool::Buffer;
    /// let x = Tensor::from_buffer(Buffer::<f32>::zeros(6), [2, 3])?;
    /// assert_eq!(x.sum_all()?.item()?, 0.0);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn from_buffer<T: Element>(values: Buffer<T>, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into().checked("from_vec")?;
        if values.len() != shape.numel() {
            let expected = format!("{} values for shape {shape}", shape.numel());
            return Err(Error::shape("from_vec", expected, &[&Shape::from([values.len()])]));
        }
        Ok(Self::from_cpu(T::storage(values), shape))
    }

    /// A tensor with a copy of the values, row-major.
    ///
    /// # Errors
    /// As [`Tensor::from_vec`], and [`Error::OutOfMemory`].
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1.0_f64, 2.0, 3.0, 4.0], [2, 2])?;
    /// assert_eq!(x.sum_all()?.item()?, 10.0);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn from_slice<T: Element>(values: &[T], shape: impl Into<Shape>) -> Result<Self> {
        let mut copy = room::empty("from_slice", values.len())?;
        copy.extend_from_slice(values);
        Self::from_vec(copy, shape)
    }

    /// A tensor of which `write` writes every element, or one that has no memory and says why.
    fn written(
        op: &'static str,
        shape: Shape,
        dtype: DType,
        write: impl FnOnce(&mut CpuStorage),
    ) -> Self {
        let memory = |shape: Shape| CpuStorage::of_op(op, dtype, shape.numel());
        match shape.checked(op).and_then(memory) {
            Ok(mut storage) => {
                write(&mut storage);
                Self::from_cpu(storage, shape)
            }
            Err(error) => Self::refused(error, shape, dtype, Device::Cpu),
        }
    }

    fn refused(error: Error, shape: Shape, dtype: DType, device: Device) -> Self {
        let storage = Storage::Refused(Box::new(Refused { device, dtype, error }));
        Self::from_parts(Arc::new(storage), Layout::contiguous(shape), Plain)
    }

    pub(crate) fn from_cpu(storage: CpuStorage, shape: Shape) -> Self {
        Self::from_parts(Arc::new(Storage::Cpu(storage)), Layout::contiguous(shape), Plain)
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn from_cuda(storage: crate::storage::CudaStorage, shape: Shape) -> Self {
        Self::from_parts(Arc::new(Storage::Cuda(storage)), Layout::contiguous(shape), Plain)
    }

    /// One number.
    #[must_use]
    pub fn scalar(value: impl Into<Number>, dtype: DType) -> Self {
        Self::full((), value, dtype)
    }

    /// The same number everywhere: the nearest of the dtype; in integers, a float cut towards zero. If
    /// there is no memory, see [`Tensor::made`].
    #[must_use]
    pub fn full(shape: impl Into<Shape>, value: impl Into<Number>, dtype: DType) -> Self {
        let value = value.into();
        Self::written("full", shape.into(), dtype, |storage| {
            for_element!(dtype, T => storage.slice_mut::<T>().fill(T::of_number(value)));
        })
    }

    /// The same number everywhere, on a device; as [`Tensor::full`].
    ///
    /// # Errors
    /// [`Error::NoDevice`] for a device that cannot be used; [`Error::OutOfMemory`], or `Error::Cuda`,
    /// when it is full; [`Error::Argument`] for a shape that no tensor can have.
    pub fn full_on(
        device: Device,
        shape: impl Into<Shape>,
        value: impl Into<Number>,
        dtype: DType,
    ) -> Result<Self> {
        match device {
            Device::Cpu => Self::full(shape, value, dtype).made(),
            Device::Meta => Self::meta(shape, dtype).made(),
            #[cfg(feature = "cuda")]
            Device::Cuda(ordinal) => {
                let shape = shape.into().checked("full_on")?;
                let gpu = crate::device::open(ordinal)?;
                let storage =
                    crate::storage::CudaStorage::filled(&gpu, dtype, shape.numel(), value.into())?;
                Ok(Self::from_cuda(storage, shape))
            }
            #[cfg(not(feature = "cuda"))]
            Device::Cuda(ordinal) => Err(Device::cuda(ordinal)
                .err()
                .unwrap_or(Error::NoKernel { op: "full_on", device })),
        }
    }

    /// Zeros.
    #[must_use]
    pub fn zeros(shape: impl Into<Shape>, dtype: DType) -> Self {
        Self::full(shape, 0.0, dtype)
    }

    /// Ones.
    #[must_use]
    pub fn ones(shape: impl Into<Shape>, dtype: DType) -> Self {
        Self::full(shape, 1.0, dtype)
    }

    /// The tensor, if it could be made. `zeros`, `full`, `normal` and their like return a tensor, not a
    /// `Result`: one for which there is no memory, or whose shape no tensor can have, carries the error.
    /// This returns it at once, any op and any read later on.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Argument`] for a shape of more than
    /// [`MAX_NUMEL`](crate::shape::MAX_NUMEL) elements.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{DType, Error, Tensor};
    /// assert!(Tensor::zeros([2, 3], DType::F32).made().is_ok());
    /// let x = Tensor::zeros([1 << 45], DType::F32);
    /// assert!(matches!(x.relu(), Err(Error::OutOfMemory { op: "full", bytes }) if bytes == 1 << 47));
    /// assert!(Tensor::zeros([1 << 32, 1 << 32], DType::F32).made().is_err());
    /// ```
    pub fn made(self) -> Result<Self> {
        self.storage().made().map(|()| self)
    }

    /// The identity matrix `[n, n]`.
    #[must_use]
    pub fn eye(n: usize, dtype: DType) -> Self {
        let element = |i: usize| if i.is_multiple_of(n + 1) { 1.0 } else { 0.0 };
        Self::from_fn([n, n], dtype, element)
    }

    /// 0, 1, …, n − 1.
    #[must_use]
    pub fn arange(n: usize, dtype: DType) -> Self {
        Self::from_fn([n], dtype, |i| i as f64)
    }

    /// Element `i` (in row-major order) is `f(i)`, called in order.
    pub fn from_fn(shape: impl Into<Shape>, dtype: DType, mut f: impl FnMut(usize) -> f64) -> Self {
        Self::written("from_fn", shape.into(), dtype, |storage| {
            for_element!(dtype, T => {
                let all = storage.slice_mut::<T>().iter_mut().enumerate();
                all.for_each(|(i, x)| *x = <T as Element>::from_f64(f(i)));
            });
        })
    }

    /// Independent draws from the uniform distribution on `[low, high)`, where `low < high`: never `high`,
    /// and never below `low`, whatever the draw is rounded to. A range without a number of the dtype gives
    /// the nearest below `high`; integers are rounded down.
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::{DType, Rng, Tensor};
    /// let x = Tensor::uniform([1000], 0.0, 1.0, DType::BF16, &mut Rng::new(0));
    /// assert!(x.to_f64_vec()?.iter().all(|x| (0.0..1.0).contains(x)));
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn uniform(
        shape: impl Into<Shape>,
        low: f64,
        high: f64,
        dtype: DType,
        rng: &mut Rng,
    ) -> Self {
        let ordered = low < high;
        Self::written("uniform", shape.into(), dtype, |storage| {
            for_element!(dtype, T => {
                let (first, last) = bounds::<T>(low, high);
                for x in storage.slice_mut::<T>() {
                    let u: f64 = StandardUniform.sample(rng);
                    let draw = between(low, high, u);
                    let near = <T as Element>::from_f64(if dtype == DType::I64 { draw.floor() } else { draw });
                    *x = match near.to_f64() {
                        x if ordered && x >= high => last,
                        x if ordered && x < low => first,
                        _ => near,
                    };
                }
            });
        })
    }

    /// Independent draws from the normal distribution.
    pub fn normal(
        shape: impl Into<Shape>,
        mean: f64,
        deviation: f64,
        dtype: DType,
        rng: &mut Rng,
    ) -> Self {
        Self::from_fn(shape, dtype, |_| {
            let z: f64 = StandardNormal.sample(rng);
            mean + deviation * z
        })
    }

    /// Independent draws from 0, 1, …, bound − 1.
    ///
    /// # Errors
    /// [`Error::Argument`] when `bound` is 0, or beyond the integers; and as [`Tensor::made`].
    pub fn random_indices(shape: impl Into<Shape>, bound: usize, rng: &mut Rng) -> Result<Self> {
        if bound == 0 || i64::try_from(bound).is_err() {
            return Err(Error::Argument {
                op: "random_indices",
                name: "bound",
                expected: "from 1 to 2⁶³ − 1",
                got: bound.to_string(),
            });
        }
        let random = Self::written("random_indices", shape.into(), DType::I64, |storage| {
            for x in storage.slice_mut::<i64>() {
                // Lemire 2019: the high half of a 128-bit product; the bias is below bound / 2⁶⁴.
                *x = ((u128::from(rng.next_u64()) * bound as u128) >> 64) as i64;
            }
        });
        random.made()
    }

    /// A shape and a dtype without numbers: for dry runs on [`Device::Meta`].
    #[must_use]
    pub fn meta(shape: impl Into<Shape>, dtype: DType) -> Self {
        let shape = shape.into();
        match shape.checked("meta") {
            Ok(shape) => {
                let storage = Arc::new(Storage::Meta(dtype));
                Self::from_parts(storage, Layout::contiguous(shape), Plain)
            }
            Err(error) => Self::refused(error, shape, dtype, Device::Meta),
        }
    }
}

/// The point of `[low, high]` that u of `[0, 1)` of the way lies at; also where the width is no number.
fn between(low: f64, high: f64, u: f64) -> f64 {
    let width = high - low;
    if width.is_finite() { low + width * u } else { low * (1.0 - u) + high * u }
}

/// The first number of a type that is not below `low`, and the last one below `high`.
fn bounds<T: Element>(low: f64, high: f64) -> (T, T) {
    let (first, last) = (T::from_f64(low), T::from_f64(high));
    let last = if last.to_f64() < high { last } else { last.neighbour(false) };
    let first = if first.to_f64() >= low { first } else { first.neighbour(true) };
    (if first.to_f64() < high { first } else { last }, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DTYPES: [DType; 4] = [DType::F16, DType::BF16, DType::F32, DType::F64];

    #[test]
    fn uniform_never_draws_the_upper_bound_nor_less_than_the_lower() {
        let tiny = (1.0, 1.0 + f64::EPSILON);
        let ranges = [(0.0, 1.0), (-1.0, 0.0), (0.1, 0.7), (-3e4, 3e4), (1e-8, 3e-8)];
        let mut rng = Rng::new(1);
        for (low, high) in ranges.into_iter().chain([tiny, (f64::MIN, f64::MAX)]) {
            for dtype in DTYPES {
                let draws = Tensor::uniform([50_000], low, high, dtype, &mut rng);
                let draws = draws.to_f64_vec().unwrap();
                assert!(draws.iter().all(|&x| x < high), "{low} {high} {dtype}");
                // Of the tiny range f64 alone has a number besides `low`.
                assert!(draws.iter().all(|&x| x >= low || low == 1e-8), "{low} {high} {dtype}");
            }
        }
    }

    #[test]
    fn a_draw_that_would_be_rounded_to_the_upper_bound_is_the_number_before_it() {
        // The largest f64 below 1 is u's largest value.
        for dtype in DTYPES {
            for_element!(dtype, T => {
                let (first, last) = bounds::<T>(0.0, 1.0);
                assert_eq!(first.to_f64(), 0.0);
                assert!(last.to_f64() < 1.0 && last.neighbour(true).to_f64() == 1.0, "{dtype}");
            });
        }
        // Between 2049 and 2050 f16 has no number: 2048 is the nearest below.
        let x = Tensor::uniform([100], 2049.2, 2049.9, DType::F16, &mut Rng::new(2));
        assert!(x.to_f64_vec().unwrap().iter().all(|&x| x == 2048.0));
    }

    #[test]
    fn integers_are_drawn_evenly_on_both_sides_of_zero_and_without_the_bound() {
        let x = Tensor::uniform([30_000], -3.0, 3.0, DType::I64, &mut Rng::new(3));
        let x = x.to_vec::<i64>().unwrap();
        for value in -3..3 {
            // Six standard deviations of a binomial of 30,000 draws at 1/6.
            let count = x.iter().filter(|&&x| x == value).count() as f64;
            assert!((count - 5000.0).abs() < 6.0 * 64.6, "{value}: {count}");
        }
        assert!(x.iter().all(|x| (-3..3).contains(x)));
        // An empty range is its only point, as it was.
        let one = Tensor::uniform([3], 2.0, 2.0, DType::F32, &mut Rng::new(3));
        assert_eq!(one.to_vec::<f32>().unwrap(), [2.0; 3]);
    }

    #[test]
    fn indices_of_a_bound_beyond_every_double_stay_below_it() {
        let bound = (1_usize << 62) + 1;
        let x = Tensor::random_indices([1000], bound, &mut Rng::new(4)).unwrap();
        let x = x.to_vec::<i64>().unwrap();
        assert!(x.iter().all(|&x| x >= 0 && (x as usize) < bound));
        assert!(x.iter().any(|x| x % 2 == 1), "as doubles all would be even");
        let refused = Tensor::random_indices([1], usize::MAX, &mut Rng::new(4));
        assert!(matches!(refused, Err(Error::Argument { name: "bound", .. })));
    }
}
