//! Typed runs of device memory: what kernels read and write.

use super::device::Gpu;
use super::error::Result;
use super::memory::Buffer;
use super::operand::on_device;

/// What the elements of device memory are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// `float`
    F32,
    /// `double`
    F64,
    /// `long long`
    I64,
    /// 16 bits with a mantissa of 10 (IEEE 754 binary16): stored so, computed with as a float.
    F16,
    /// 16 bits with a mantissa of 7 and f32's range: as `F16`.
    BF16,
}

impl Scalar {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::F32, Self::F64, Self::I64, Self::F16, Self::BF16];

    /// Bytes of one.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// What kernels compute with: `float` for numbers of 16 bits, else the type itself.
    #[must_use]
    pub const fn computed_in(self) -> Self {
        match self {
            Self::F16 | Self::BF16 => Self::F32,
            other => other,
        }
    }

    /// Its name in kernel texts.
    #[must_use]
    pub const fn c_name(self) -> &'static str {
        match self {
            Self::F32 => "float",
            Self::F64 => "double",
            Self::I64 => "long long",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
        }
    }
}

/// Elements that a kernel reads.
#[derive(Debug, Clone, Copy)]
pub struct Slice<'a> {
    buffer: &'a Buffer,
    scalar: Scalar,
    start: usize,
    len: usize,
}

/// Elements that a kernel writes, all of them.
#[derive(Debug)]
pub struct SliceMut<'a> {
    buffer: &'a mut Buffer,
    scalar: Scalar,
    len: usize,
}

impl<'a> Slice<'a> {
    /// `len` elements of a buffer from element `start` on.
    ///
    /// # Panics
    /// When the buffer has fewer.
    #[must_use]
    #[track_caller]
    pub fn new(buffer: &'a Buffer, scalar: Scalar, start: usize, len: usize) -> Self {
        assert!(fits(buffer, scalar, start, len), "cuda slice: beyond its buffer");
        Self { buffer, scalar, start, len }
    }

    /// What the elements are.
    #[must_use]
    pub const fn scalar(&self) -> Scalar {
        self.scalar
    }

    /// The number of elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first element's address on the device.
    #[must_use]
    pub fn pointer(&self) -> u64 {
        self.buffer.pointer() + (self.start * self.scalar.bytes()) as u64
    }

    /// The number of the device that they are on.
    #[must_use]
    pub fn device(&self) -> usize {
        self.buffer.device()
    }

    /// The first element's address, for work of this kernel on this device.
    pub(super) fn on(&self, gpu: &Gpu, kernel: &'static str) -> Result<u64> {
        on_device(gpu, kernel, self.device())?;
        Ok(self.pointer())
    }

    /// `len` of the elements, from element `start` on.
    ///
    /// # Panics
    /// When there are fewer.
    #[must_use]
    #[track_caller]
    pub fn part(&self, start: usize, len: usize) -> Self {
        let end = start.checked_add(len);
        assert!(end.is_some_and(|end| end <= self.len), "cuda slice: a part beyond the whole");
        Self { start: self.start + start, len, ..*self }
    }
}

impl<'a> SliceMut<'a> {
    /// The first `len` elements of a buffer.
    ///
    /// # Panics
    /// When the buffer has fewer.
    #[must_use]
    #[track_caller]
    pub fn new(buffer: &'a mut Buffer, scalar: Scalar, len: usize) -> Self {
        assert!(fits(buffer, scalar, 0, len), "cuda slice: beyond its buffer");
        Self { buffer, scalar, len }
    }

    /// What the elements are.
    #[must_use]
    pub const fn scalar(&self) -> Scalar {
        self.scalar
    }

    /// The number of elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first element's address on the device.
    #[must_use]
    pub fn pointer(&self) -> u64 {
        self.buffer.pointer()
    }

    /// The first element's address, for work of this kernel on this device.
    pub(super) fn on(&self, gpu: &Gpu, kernel: &'static str) -> Result<u64> {
        self.read().on(gpu, kernel)
    }

    /// The same elements, to be read.
    #[must_use]
    pub const fn read(&self) -> Slice<'_> {
        Slice { buffer: self.buffer, scalar: self.scalar, start: 0, len: self.len }
    }
}

/// Whether a buffer has so many elements from one on. Without wrapping: all that is done with addresses rests on it.
fn fits(buffer: &Buffer, scalar: Scalar, start: usize, len: usize) -> bool {
    let end = start.checked_add(len).and_then(|end| end.checked_mul(scalar.bytes()));
    end.is_some_and(|end| end <= buffer.bytes())
}
