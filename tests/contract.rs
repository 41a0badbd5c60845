//! What an optimizer promises whoever calls it: a step that is refused or skipped has never been; what it saves it
//! takes back; no parameter is passed over in silence.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

#[path = "contract/diverging.rs"]
mod diverging;
#[path = "contract/frozen.rs"]
mod frozen;
#[path = "battery/models.rs"]
#[allow(dead_code, reason = "the battery uses the rest")]
mod models;
#[path = "contract/owned.rs"]
mod owned;
#[path = "contract/refused.rs"]
mod refused;
#[path = "contract/unused.rs"]
mod unused;

use engine::{Parameters, Tensor};
use optim::{Optimizer, State};

/// All that a run has: parameters, and what the optimizer would save.
type Everything = (Vec<f64>, Vec<(String, String)>, Vec<(String, Vec<f64>)>);

fn everything(model: &impl Parameters, optimizer: &dyn Optimizer) -> Everything {
    let State { numbers, tensors, .. } = optimizer.state(model).unwrap();
    let values = |(name, t): (String, Tensor)| (name, t.to_f64_vec().unwrap());
    (
        models::values(model),
        numbers.into_iter().collect(),
        tensors.into_iter().map(values).collect(),
    )
}

/// Gives a model the values of another.
fn copy_values(to: &mut impl Parameters, from: &impl Parameters) {
    for ((_, to), (_, from)) in to.parameters_mut().into_iter().zip(from.parameters()) {
        *to.value_mut() = from.value().clone();
    }
}
