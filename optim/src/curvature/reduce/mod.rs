//! One record becomes numbers.

pub(crate) mod example_gradients;
pub(crate) mod numbers;
pub(crate) mod second_moments;
