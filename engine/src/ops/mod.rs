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
    neg, exp, log, sqrt, square, powf, recip, abs, clamp, sin, cos, tanh, sigmoid, softplus, relu, relu6,
    leaky_relu, elu, gelu, gelu_tanh, silu, hard_sigmoid, hard_swish,
    // choices
    maximum, minimum, compare, select,
    // reductions
    sum, variance, cumsum, max, argmax, argsort,
    // probabilities
    softmax, log_softmax, logsumexp, cross_entropy, soft_cross_entropy, binary_cross_entropy, dropout, attention,
    // products
    matmul,
    // views and indices
    reshape, permute, narrow, broadcast_to, contiguous, concat, gather, scatter_add, take_along, cast,
    // layers
    linear, conv1d, conv2d, conv_transpose2d, embedding, layer_norm, rms_norm, group_norm, batch_norm, batch_norm_fixed,
    // windows
    max_pool2d, avg_pool2d, adaptive_avg_pool2d, adaptive_max_pool2d, interpolate,
}
