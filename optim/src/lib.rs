//! Alcyon's optimizers, and the curvature they use.
//!
//! Curvature optimizers are three small roles: **estimate** (records → factors), **precondition**
//! (factors → direction), **step** (direction → parameter). An optimizer is one file that reads
//! like the paper's algorithm box.
#![forbid(unsafe_code)]

mod algebra;
pub mod audit;
mod check;
pub mod curvature;
mod first_order;
mod frame;
mod hessian;
mod layer;
mod matrix;
mod optimizer;
mod registry;

pub use algebra::on_tensors::Composed;
pub use algebra::sides::LongSides;
pub use curvature::{CurvatureSource, Fisher};
pub use first_order::adabelief::{AdaBelief, AdaBeliefConfig};
pub use first_order::adabound::{AdaBound, AdaBoundConfig};
pub use first_order::adafactor::{Adafactor, AdafactorConfig, Floor};
pub use first_order::adagrad::{AdaGrad, AdaGradConfig};
pub use first_order::adam::{Adam, AdamConfig};
pub use first_order::lamb::{Lamb, LambConfig};
pub use first_order::lars::{Lars, LarsConfig};
pub use first_order::lion::{Lion, LionConfig};
pub use first_order::nadam::{NAdam, NAdamConfig};
pub use first_order::prodigy::{Prodigy, ProdigyConfig};
pub use first_order::radam::{RAdam, RAdamConfig};
pub use first_order::rmsprop::{RmsProp, RmsPropConfig};
pub use first_order::sam::{Sam, SamConfig};
pub use first_order::schedule_free::{ScheduleFree, ScheduleFreeConfig};
pub use first_order::sgd::{Sgd, SgdConfig};
pub use frame::first::First;
pub use frame::layerwise::{LayerRule, LayerState, LayerStep, Layerwise};
pub use frame::per_parameter::{
    PerParameter, Rule, Start as InitialState, each_entry, norm, zeros,
};
pub use frame::second_diagonal::{DiagonalRule as HessianDiagonalRule, SecondDiagonal};
pub use hessian::adahessian::{AdaHessian, AdaHessianConfig};
pub use hessian::hessian_free::{HessianFree, HessianFreeConfig};
pub use hessian::lbfgs::{Lbfgs, LbfgsConfig};
pub use hessian::line_search::Wolfe;
pub use hessian::newton::{Metric, Newton, NewtonConfig};
pub use hessian::sophia::{Sophia, SophiaConfig};
pub use layer::adafisher::AdaFisher;
pub use layer::adafisher::FactorTrace;
pub use layer::adafisher::{AdaFisherConfig, Damping, Decay, Fallback, Magnitude};
pub use layer::adafisher_band::{Band, BandConfig};
pub use layer::ekfac::{Ekfac, EkfacConfig};
pub use layer::eva::{Eva, EvaConfig};
pub use layer::foof::{Foof, FoofConfig};
pub use layer::kfac::adaptive::{AdaptiveKfac, AdaptiveKfacConfig, Proposal};
pub use layer::kfac::{Kfac, KfacConfig, Uncovered};
pub use layer::mkor::{Mkor, MkorConfig, update_inverse};
pub use layer::singd::{Singd, SingdConfig};
pub use layer::skfac::{Skfac, SkfacConfig, damped_inverse};
pub use layer::tnt::{Tnt, TntConfig};
pub use matrix::kl_shampoo::{KlShampoo, KlShampooConfig, Scale as KlShampooScale};
pub use matrix::muon::Muon;
pub use matrix::muon::{CONVERGENT, Quintic, STEEP, newton_schulz};
pub use matrix::muon::{Matrices, MuonConfig, Scale as MuonScale};
pub use matrix::psgd::{Psgd, PsgdConfig};
pub use matrix::shampoo::{Graft, Shampoo, ShampooConfig, Statistics};
pub use matrix::soap::{Basis, Soap, SoapConfig};
pub use matrix::splus::{SPlus, SPlusConfig};
pub use optimizer::backward::{Pass, backward};
#[cfg(feature = "cuda")]
pub use optimizer::backward::{replayable, replayed};
pub use optimizer::contract::{Optimizer, State};
pub use optimizer::coverage::{Coverage, Line as CoverageLine};
pub use optimizer::evaluate_at_average::with_averages;
pub use optimizer::on_host::OnHost;
pub use optimizer::problem::{Batch, Problem};
pub use optimizer::schedule::Schedule;
pub use registry::{build, known};
