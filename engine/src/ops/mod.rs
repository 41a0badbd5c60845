//! The registry: one line per op. Everything else about an op — tests over all samples, parity,
//! the table in the book — follows from its line here and the `SPEC` in its file.

pub mod elementwise;
mod norm;

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
    neg, exp, log, sqrt, square, powf, recip, abs, clamp, sin, cos, tanh, sigmoid, softplus, relu, gelu,
    gelu_tanh, silu,
    // choices
    maximum, minimum, compare, select,
    // reductions
    sum, max, argmax,
    // probabilities
    softmax, log_softmax, cross_entropy, dropout,
    // products
    matmul,
    // views and indices
    reshape, permute, narrow, broadcast_to, contiguous, concat, gather, scatter_add, cast,
    // layers
    linear, conv2d, embedding, layer_norm, batch_norm, batch_norm_fixed,
    // windows
    max_pool2d, avg_pool2d, adaptive_avg_pool2d, adaptive_max_pool2d,
}
