//! `First`: a tensor that an optimizer will keep, before there is one. Its size is known, its memory not taken.

use engine::{DType, Result, Shape, Tensor};

use crate::algebra::pattern::Pattern;

/// What a kept tensor is before the first step.
///
/// # Example
/// ```
/// use engine::DType;
/// use alcyon_optim::First;
/// let table = First::zeros([50_257, 50_257], DType::F64); // 20 GB, and none of them taken
/// assert_eq!(table.bytes(), 50_257 * 50_257 * 8);
/// assert_eq!(First::full([2], 0.5, DType::F64).tensor()?.to_f64_vec()?, [0.5, 0.5]);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct First {
    shape: Shape,
    dtype: DType,
    numbers: Numbers,
}

#[derive(Debug, Clone)]
enum Numbers {
    /// All the same.
    Full(f64),
    /// A multiple of the identity, of which a pattern is kept.
    Identity(Pattern, f64),
    /// Those of a tensor that is there already: its memory is shared until one of the two changes.
    Of(Tensor),
}

impl First {
    /// Zeros.
    #[must_use]
    pub fn zeros(shape: impl Into<Shape>, dtype: DType) -> Self {
        Self::full(shape, 0.0, dtype)
    }

    /// One number everywhere.
    #[must_use]
    pub fn full(shape: impl Into<Shape>, number: f64, dtype: DType) -> Self {
        Self { shape: shape.into(), dtype, numbers: Numbers::Full(number) }
    }

    /// What is kept of `number` · I, in f64.
    #[must_use]
    pub(crate) fn identity(side: &Pattern, number: f64) -> Self {
        let numbers = Numbers::Identity(side.clone(), number);
        Self { shape: side.shape(), dtype: DType::F64, numbers }
    }

    /// A tensor's numbers.
    #[must_use]
    pub fn of(tensor: &Tensor) -> Self {
        let numbers = Numbers::Of(tensor.clone());
        Self { shape: *tensor.shape(), dtype: tensor.dtype(), numbers }
    }

    /// Its shape.
    #[must_use]
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Its dtype.
    #[must_use]
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// The bytes that it will take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shape.numel().saturating_mul(self.dtype.bytes())
    }

    /// The tensor, in memory that is there.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn tensor(&self) -> Result<Tensor> {
        match &self.numbers {
            Numbers::Full(number) => Tensor::full(self.shape, *number, self.dtype).made(),
            Numbers::Of(tensor) => Ok(tensor.clone()),
            Numbers::Identity(side, number) => {
                let mut numbers = side.zeros();
                side.shift(&mut numbers, *number);
                Tensor::from_buffer(numbers, self.shape)
            }
        }
    }
}
