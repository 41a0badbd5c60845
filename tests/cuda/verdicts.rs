//! Batches whose gradients cannot be stepped with, on the device, where nobody reads them: nothing changes, the next
//! read says so, and good batches after it move everything.

use alcyon::optim::{build, known};
use alcyon::prelude::*;

use super::hostile::{Kind, survives};
use super::{GPU, emulated};

#[test]
fn a_step_that_is_not_finite_or_cannot_be_squared_changes_nothing_on_the_device_and_is_told() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let there: Vec<&str> =
        known().into_iter().filter(|name| build(name, None).unwrap().runs_on(GPU)).collect();
    assert!(there.len() > 20, "{there:?}");
    let ask = |name: &str| {
        let kinds = [Kind::Huge, Kind::NotANumber, Kind::Infinite].into_iter();
        kinds.map(|kind| survives(name, kind, GPU)).filter_map(Result::err).collect::<Vec<_>>()
    };
    let failures: Vec<String> = there.into_iter().flat_map(ask).collect();
    assert!(failures.is_empty(), "{failures:#?}");
}
