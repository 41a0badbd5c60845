//! Alcyon's optimizers, and the curvature they use.
//!
//! Curvature optimizers are three small roles: **estimate** (records → factors), **precondition**
//! (factors → direction), **step** (direction → parameter). An optimizer is one file that reads
//! like the paper's algorithm box.
#![forbid(unsafe_code)]

pub mod adabelief;
pub mod adabound;
pub mod adafactor;
pub mod adafisher;
pub mod adagrad;
pub mod adahessian;
pub mod adam;
mod axes;
pub mod backward;
pub mod coverage;
pub mod curvature;
mod flat;
pub mod kfac;
pub mod lamb;
pub mod lars;
pub mod lion;
mod moments;
pub mod muon;
pub mod nadam;
pub mod optimizer;
pub mod per_parameter;
pub mod problem;
pub mod prodigy;
pub mod psgd;
pub mod radam;
pub mod registry;
pub mod rmsprop;
mod saved;
pub mod schedule;
pub mod schedule_free;
pub mod second_diagonal;
pub mod sgd;
pub mod shampoo;
pub mod soap;
pub mod sophia;
pub mod splus;

pub use adabelief::{AdaBelief, AdaBeliefConfig};
pub use adabound::{AdaBound, AdaBoundConfig};
pub use adafactor::{Adafactor, AdafactorConfig};
pub use adafisher::{AdaFisher, AdaFisherConfig};
pub use adagrad::{AdaGrad, AdaGradConfig};
pub use adahessian::{AdaHessian, AdaHessianConfig};
pub use adam::{Adam, AdamConfig};
pub use backward::{Pass, backward};
pub use coverage::Coverage;
pub use curvature::{CurvatureSource, Fisher};
pub use kfac::{Kfac, KfacConfig};
pub use lamb::{Lamb, LambConfig};
pub use lars::{Lars, LarsConfig};
pub use lion::{Lion, LionConfig};
pub use muon::{Muon, MuonConfig};
pub use nadam::{NAdam, NAdamConfig};
pub use optimizer::{Optimizer, State};
pub use problem::{Batch, Problem};
pub use prodigy::{Prodigy, ProdigyConfig};
pub use psgd::{Psgd, PsgdConfig};
pub use radam::{RAdam, RAdamConfig};
pub use registry::{build, known};
pub use rmsprop::{RmsProp, RmsPropConfig};
pub use schedule::Schedule;
pub use schedule_free::{ScheduleFree, ScheduleFreeConfig};
pub use sgd::{Sgd, SgdConfig};
pub use shampoo::{Shampoo, ShampooConfig};
pub use soap::{Soap, SoapConfig};
pub use sophia::{Sophia, SophiaConfig};
pub use splus::{SPlus, SPlusConfig};
