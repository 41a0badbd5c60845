//! `DType`: what a tensor's elements are, known at run time.

use std::fmt;

use kernels::pool::{Buffer, Pooled};

use crate::number::{self, Number};
use crate::storage::CpuStorage;

/// The element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// 32-bit floating point, the default.
    F32,
    /// 64-bit floating point: gradient checks, golden numbers, curvature algebra.
    F64,
    /// 64-bit signed integers: labels, tokens, indices.
    I64,
    /// 16-bit floating point with 11 significant bits (IEEE 754 binary16), up to 65504. Ops compute in
    /// f32 and round what they hand out.
    F16,
    /// 16-bit floating point with f32's range and 8 significant bits. Ops compute as with `F16`.
    BF16,
}

impl DType {
    /// Bytes of one element.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// Whether elements are floating point numbers: only those can carry gradients.
    #[must_use]
    pub const fn is_float(self) -> bool {
        !matches!(self, Self::I64)
    }

    /// Whether elements are 16-bit floating point numbers: ops round what they hand out to these, and
    /// compute in f32.
    #[must_use]
    pub const fn is_half(self) -> bool {
        matches!(self, Self::F16 | Self::BF16)
    }

    /// What ops compute in: f32 for 16-bit numbers, else the dtype itself.
    #[must_use]
    pub const fn computed_in(self) -> Self {
        if self.is_half() { Self::F32 } else { self }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::I64 => "i64",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
        })
    }
}

/// A Rust type that can be a tensor's element.
pub trait Element: Pooled + PartialEq + fmt::Debug + fmt::Display + 'static {
    /// Its dtype.
    const DTYPE: DType;
    /// As `f64` (exact for floats; rounded for integers beyond 2⁵³).
    fn to_f64(self) -> f64;
    /// The nearest number of the type, of two the even one; an integer is cut towards zero.
    fn from_f64(x: f64) -> Self;
    /// The nearest number of the type, of two the even one.
    fn from_i64(x: i64) -> Self;
    /// The next number of the type: the least above this one, or the largest below.
    fn neighbour(self, above: bool) -> Self;
    /// Memory that an operation can work on.
    fn storage(numbers: Buffer<Self>) -> CpuStorage;
    /// From either kind of number.
    #[must_use]
    fn of_number(x: Number) -> Self {
        match x {
            Number::Float(x) => Self::from_f64(x),
            Number::Integer(x) => Self::from_i64(x),
        }
    }
}

macro_rules! element {
    ($($t:ty => $d:ident, $neighbour:expr),*) => {$(
        impl Element for $t {
            const DTYPE: DType = DType::$d;
            fn to_f64(self) -> f64 { self as f64 }
            fn from_f64(x: f64) -> Self { x as $t }
            fn storage(numbers: Buffer<Self>) -> CpuStorage { CpuStorage::$d(numbers) }
            fn from_i64(x: i64) -> Self { x as $t }
            fn neighbour(self, above: bool) -> Self { $neighbour(self, above) }
        }
    )*};
}
element!(
    f32 => F32, |x: f32, above| if above { x.next_up() } else { x.next_down() },
    f64 => F64, |x: f64, above| if above { x.next_up() } else { x.next_down() },
    i64 => I64, |x: i64, above| if above { x.saturating_add(1) } else { x.saturating_sub(1) }
);

macro_rules! half_element {
    ($($t:ty => $d:ident),*) => {$(
        impl Element for $t {
            const DTYPE: DType = DType::$d;
            fn to_f64(self) -> f64 { <$t>::to_f64(self) }
            fn from_f64(x: f64) -> Self { <$t>::from_f32(number::to_odd(x)) }
            fn storage(numbers: Buffer<Self>) -> CpuStorage { CpuStorage::$d(numbers) }
            fn from_i64(x: i64) -> Self { <Self as Element>::from_f64(number::integer_to_odd(x)) }
            fn neighbour(self, above: bool) -> Self {
                <$t>::from_bits(number::neighbour(self.to_bits(), above))
            }
        }
    )*};
}
half_element!(half::f16 => F16, half::bf16 => BF16);

/// A floating point element: what kernels compute with.
pub trait FloatElement: Element + kernels::Float {}
impl FloatElement for f32 {}
impl FloatElement for f64 {}

/// Runs a block with `T` bound to the Rust type of any dtype.
macro_rules! for_element {
    ($dtype:expr, $T:ident => $body:expr) => {{
        macro_rules! with {
            ($t:ty) => {{
                type $T = $t;
                $body
            }};
        }
        match $dtype {
            $crate::DType::F32 => with!(f32),
            $crate::DType::F64 => with!(f64),
            $crate::DType::I64 => with!(i64),
            $crate::DType::F16 => with!(half::f16),
            $crate::DType::BF16 => with!(half::bf16),
        }
    }};
}
pub(crate) use for_element;

/// Runs a block with `T` bound to the Rust type of a floating point dtype.
///
/// Ops have checked before (in [`Op::dtype`](crate::Op::dtype)) that the dtype is a float's; kernels get
/// 16-bit numbers as f32.
#[macro_export]
macro_rules! for_float {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F64 => {
                type $T = f64;
                $body
            }
            _ => {
                type $T = f32;
                $body
            }
        }
    };
}
