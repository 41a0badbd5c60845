//! Alcyon: a reverse-mode autodiff tensor engine whose tape keeps every layer visible.
//!
//! This package is a facade: it re-exports the five crates, and owns the examples, tests and
//! benches. Start with the README, then `examples/00_scalar.rs`; `ARCHITECTURE.md` is the map.

pub use {engine, kernels, nn, optim, train};

/// Everything a model and a training loop need.
pub mod prelude {
    pub use engine::{
        DType, Device, Error, Geometry, Gradients, Layer, LayerObserver, LayerRecord, Likelihood,
        Parameter, Parameters, Result, Rng, Shape, Tape, Tensor, Var, Window, parameters,
    };
    pub use nn::data::Loader;
    pub use nn::{CrossEntropy, Linear, Mlp, Module, Mse, Sequential};
    pub use optim::{
        AdaFisher, AdaFisherConfig, Adam, AdamConfig, Coverage, CurvatureSource, Fisher, Kfac,
        KfacConfig, Optimizer, Pass, Schedule, Sgd, SgdConfig, Shampoo, ShampooConfig, State,
    };
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The pages of `docs/book`: their code is compiled and run.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../docs/book/src/adafisher.md")]
    struct AdaFisher;
    #[doc = include_str!("../docs/book/src/conventions.md")]
    struct Conventions;
    #[doc = include_str!("../docs/book/src/diagonals.md")]
    struct Diagonals;
    #[doc = include_str!("../docs/book/src/first-order.md")]
    struct FirstOrder;
    #[cfg(feature = "cuda")]
    #[doc = include_str!("../docs/book/src/kernels.md")]
    struct Kernels;
    #[doc = include_str!("../docs/book/src/kfac.md")]
    struct Kfac;
    #[doc = include_str!("../docs/book/src/relatives.md")]
    struct Relatives;
    #[doc = include_str!("../docs/book/src/searches.md")]
    struct Searches;
    #[doc = include_str!("../docs/book/src/shampoo.md")]
    struct Shampoo;
}
