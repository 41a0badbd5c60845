//! The registry: one line per op. Everything else about an op — tests over all samples, parity,
//! the table in the book — follows from its line here and the `SPEC` in its file.

pub mod elementwise;

/// Declares the op files and collects their specs.
macro_rules! operations {
    ($($op:ident),* $(,)?) => {
        $(pub mod $op;)*

        /// Every op's spec, in the order of the registry.
        pub static OPS: &[crate::OpSpec] = &[$($op::SPEC),*];
    };
}

operations! {
    // arithmetic
    add, sub, mul, div, scale, shift,
    // functions
    neg, exp, log, sqrt, square, recip, abs, sin, cos, tanh, sigmoid, softplus, relu, gelu, gelu_tanh, silu,
    // reductions
    sum,
    // products
    matmul,
    // views and indices
    reshape, permute, narrow, broadcast_to, contiguous, concat, gather, scatter_add, cast,
    // layers
    linear, conv2d,
}
