//! Main memory, and what a CPU kernel gets to see of it.

use kernels::Buffer;
use kernels::pool::or_out_of_memory;

use crate::{DType, Element, Error, Layout, Result};

/// A run of numbers in main memory.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CpuStorage {
    /// f32
    F32(Buffer<f32>),
    /// f64
    F64(Buffer<f64>),
    /// i64
    I64(Buffer<i64>),
    /// f16
    F16(Buffer<half::f16>),
    /// bf16
    BF16(Buffer<half::bf16>),
}

impl CpuStorage {
    /// Memory whose contents are unspecified: the caller writes every element.
    ///
    /// # Panics
    /// Without memory: an op's kernels are called where that becomes
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    #[must_use]
    pub fn unspecified(dtype: DType, len: usize) -> Self {
        match dtype {
            DType::F32 => Self::F32(Buffer::unspecified(len)),
            DType::F64 => Self::F64(Buffer::unspecified(len)),
            DType::I64 => Self::I64(Buffer::unspecified(len)),
            DType::F16 => Self::F16(Buffer::unspecified(len)),
            DType::BF16 => Self::BF16(Buffer::unspecified(len)),
        }
    }

    /// The same outside of an op's kernel.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] in the name of an op.
    pub(crate) fn of_op(op: &'static str, dtype: DType, len: usize) -> Result<Self> {
        or_out_of_memory(|| Self::unspecified(dtype, len)).map_err(Error::no_memory(op))
    }

    /// The element type.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::F64(_) => DType::F64,
            Self::I64(_) => DType::I64,
            Self::F16(_) => DType::F16,
            Self::BF16(_) => DType::BF16,
        }
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(b) => b.len(),
            Self::F64(b) => b.len(),
            Self::I64(b) => b.len(),
            Self::F16(b) => b.len(),
            Self::BF16(b) => b.len(),
        }
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers.
    ///
    /// # Panics
    /// When `T` is not the storage's dtype: ops check dtypes before kernels run, so this is a bug
    /// of ours.
    #[must_use]
    pub fn slice<T: Element>(&self) -> &[T] {
        let dtype = self.dtype();
        assert_eq!(dtype, T::DTYPE, "a kernel asked for the wrong dtype");
        match self {
            Self::F32(b) => bytemuck::cast_slice(b),
            Self::F64(b) => bytemuck::cast_slice(b),
            Self::I64(b) => bytemuck::cast_slice(b),
            Self::F16(b) => bytemuck::cast_slice(b),
            Self::BF16(b) => bytemuck::cast_slice(b),
        }
    }

    /// The numbers, to be written.
    ///
    /// # Panics
    /// As [`CpuStorage::slice`].
    #[must_use]
    pub fn slice_mut<T: Element>(&mut self) -> &mut [T] {
        let dtype = self.dtype();
        assert_eq!(dtype, T::DTYPE, "a kernel asked for the wrong dtype");
        match self {
            Self::F32(b) => bytemuck::cast_slice_mut(b),
            Self::F64(b) => bytemuck::cast_slice_mut(b),
            Self::I64(b) => bytemuck::cast_slice_mut(b),
            Self::F16(b) => bytemuck::cast_slice_mut(b),
            Self::BF16(b) => bytemuck::cast_slice_mut(b),
        }
    }
}

/// One input of an op on the CPU: storage and the layout of the tensor in it.
#[derive(Debug, Clone, Copy)]
pub struct CpuView<'a> {
    storage: &'a CpuStorage,
    layout: &'a Layout,
}

impl<'a> CpuView<'a> {
    pub(crate) const fn new(storage: &'a CpuStorage, layout: &'a Layout) -> Self {
        Self { storage, layout }
    }

    /// The element type.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        self.storage.dtype()
    }

    /// Shape, strides, offset.
    #[must_use]
    pub const fn layout(&self) -> &'a Layout {
        self.layout
    }

    /// The sizes.
    #[must_use]
    pub fn shape(&self) -> &'a [usize] {
        self.layout.shape()
    }

    /// The tensor's elements in row-major order. Only for ops that do not take strides: their
    /// inputs have been made contiguous.
    ///
    /// # Panics
    /// When the view is not contiguous or of another dtype: a bug of ours.
    #[must_use]
    pub fn slice<T: Element>(&self) -> &'a [T] {
        assert!(
            self.layout.is_contiguous(),
            "a kernel asked for a contiguous slice of a strided view"
        );
        let start = self.layout.offset();
        &self.storage.slice::<T>()[start..start + self.layout.shape().numel()]
    }

    /// The whole storage, to be read through the layout's offset and strides.
    #[must_use]
    pub fn storage<T: Element>(&self) -> &'a [T] {
        self.storage.slice()
    }
}
