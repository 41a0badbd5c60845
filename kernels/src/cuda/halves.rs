//! Numbers of 16 bits in kernel texts: two types that are stored as words and computed with as floats.

use super::slice::Scalar;

/// The types' text, where one of the scalars is among them; else nothing.
pub(super) fn text(scalars: [Scalar; 2]) -> &'static str {
    let text = include_str!("../../cuda/halves.cu");
    if scalars.into_iter().any(is_half) { text } else { "" }
}

/// Whether kernels store it so and compute with floats.
pub(super) fn is_half(scalar: Scalar) -> bool {
    scalar != scalar.computed_in()
}
