//! Making tensors.

use std::sync::Arc;

use rand::Rng as _;
use rand_distr::{Distribution, StandardNormal, StandardUniform};

use super::{Plain, Tensor};
use crate::dtype::for_element;
use crate::rng::Rng;
use crate::storage::CpuStorage;
use crate::{DType, Device, Element, Error, Layout, Result, Shape, Storage};

impl Tensor {
    /// A tensor over a vector, row-major, without copying.
    ///
    /// # Errors
    /// [`Error::Shape`] when the vector's length is not the shape's number of elements.
    pub fn from_vec<T: Element>(values: Vec<T>, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if values.len() != shape.numel() {
            let expected = format!("{} values for shape {shape}", shape.numel());
            return Err(Error::shape("from_vec", expected, &[&Shape::from([values.len()])]));
        }
        Ok(Self::from_cpu(CpuStorage::from_vec(values), shape))
    }

    /// A tensor with a copy of the values, row-major.
    ///
    /// # Errors
    /// As [`Tensor::from_vec`].
    ///
    /// # Example
    /// ```
    /// use alcyon_engine::Tensor;
    /// let x = Tensor::from_slice(&[1.0_f64, 2.0, 3.0, 4.0], [2, 2])?;
    /// assert_eq!(x.sum_all()?.item()?, 10.0);
    /// # Ok::<(), alcyon_engine::Error>(())
    /// ```
    pub fn from_slice<T: Element>(values: &[T], shape: impl Into<Shape>) -> Result<Self> {
        Self::from_vec(values.to_vec(), shape)
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
    pub fn scalar(value: f64, dtype: DType) -> Self {
        Self::full((), value, dtype)
    }

    /// The same number everywhere (rounded to the dtype).
    #[must_use]
    pub fn full(shape: impl Into<Shape>, value: f64, dtype: DType) -> Self {
        let shape = shape.into();
        let mut storage = CpuStorage::unspecified(dtype, shape.numel());
        for_element!(dtype, T => storage.slice_mut::<T>().fill(T::from_f64(value)));
        Self::from_cpu(storage, shape)
    }

    /// The same number everywhere, on a device.
    ///
    /// # Errors
    /// [`Error::NoDevice`] for a device that cannot be used, or `Error::Cuda` when it is full.
    pub fn full_on(
        device: Device,
        shape: impl Into<Shape>,
        value: f64,
        dtype: DType,
    ) -> Result<Self> {
        match device {
            Device::Cpu => Ok(Self::full(shape, value, dtype)),
            Device::Meta => Ok(Self::meta(shape, dtype)),
            #[cfg(feature = "cuda")]
            Device::Cuda(ordinal) => {
                let (gpu, shape) = (crate::device::open(ordinal)?, shape.into());
                let storage =
                    crate::storage::CudaStorage::filled(&gpu, dtype, shape.numel(), value)?;
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
        let shape = shape.into();
        let mut storage = CpuStorage::unspecified(dtype, shape.numel());
        for_element!(dtype, T => {
            let all = storage.slice_mut::<T>().iter_mut().enumerate();
            all.for_each(|(i, x)| *x = T::from_f64(f(i)));
        });
        Self::from_cpu(storage, shape)
    }

    /// Independent draws from the uniform distribution on `[low, high)`.
    pub fn uniform(
        shape: impl Into<Shape>,
        low: f64,
        high: f64,
        dtype: DType,
        rng: &mut Rng,
    ) -> Self {
        Self::from_fn(shape, dtype, |_| {
            let u: f64 = StandardUniform.sample(rng);
            low + (high - low) * u
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
    /// [`Error::Argument`] when `bound` is 0.
    pub fn random_indices(shape: impl Into<Shape>, bound: usize, rng: &mut Rng) -> Result<Self> {
        if bound == 0 {
            return Err(Error::Argument {
                op: "random_indices",
                name: "bound",
                expected: "at least 1",
                got: "0".into(),
            });
        }
        // Lemire 2019: the high half of a 128-bit product; the bias is below bound / 2⁶⁴.
        Ok(Self::from_fn(shape, DType::I64, |_| {
            ((u128::from(rng.next_u64()) * bound as u128) >> 64) as f64
        }))
    }

    /// A shape and a dtype without numbers: for dry runs on [`Device::Meta`].
    #[must_use]
    pub fn meta(shape: impl Into<Shape>, dtype: DType) -> Self {
        Self::from_parts(Arc::new(Storage::Meta(dtype)), Layout::contiguous(shape.into()), Plain)
    }
}
