//! Options of rules that have formulas of their own on a device: there they take the steps they take here.

use alcyon::optim::{
    AdaBeliefConfig, AdaBoundConfig, AdaGradConfig, AdafactorConfig, LambConfig, LarsConfig,
    NAdamConfig, RAdamConfig, RmsPropConfig, ScheduleFreeConfig,
};
use alcyon::optim::{PerParameter, Rule};
use alcyon::prelude::*;

use super::{GPU, emulated, plain_network, train, values};

fn assert_same<R: Rule + Clone + 'static>(rule: &R) {
    let run = |device| {
        let (mut model, mut optimizer) =
            (plain_network(), PerParameter::new(rule.clone()).unwrap());
        train(&mut model, &mut optimizer, device, 7).unwrap();
        values(&model)
    };
    let (here, there, start) = (run(Device::Cpu), run(GPU), values(&plain_network()));
    assert_ne!(here, start, "{rule:?} did not move");
    for (a, b) in here.iter().zip(&there) {
        assert!((a - b).abs() <= 1e-9, "{rule:?}: {a} and {b}");
    }
}

#[test]
fn every_option_of_a_rule_takes_the_same_steps_on_the_device() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let weight_decay = 0.1;
    assert_same(&AdaGradConfig { weight_decay, ..AdaGradConfig::default() });
    for momentum in [0.0, 0.9] {
        assert_same(&RmsPropConfig { momentum, centered: true, ..RmsPropConfig::default() });
    }
    for decoupled in [false, true] {
        assert_same(&RAdamConfig { weight_decay, decoupled, ..RAdamConfig::default() });
        assert_same(&NAdamConfig { weight_decay, decoupled, ..NAdamConfig::default() });
        let amsbound = decoupled;
        assert_same(&AdaBoundConfig {
            weight_decay,
            decoupled,
            amsbound,
            ..AdaBoundConfig::default()
        });
    }
    assert_same(&AdaBeliefConfig { rectify: true, ..AdaBeliefConfig::default() });
    assert_same(&LambConfig { vectors: false, ..LambConfig::default() });
    assert_same(&LarsConfig { vectors: false, rate: 0.1, ..LarsConfig::default() });
    for (relative_step, relative_size) in [(false, true), (true, false), (false, false)] {
        let rate = 1e-3;
        let options =
            AdafactorConfig { relative_step, relative_size, ..AdafactorConfig::default() };
        assert_same(&AdafactorConfig { rate, ..options });
    }
    assert_same(&ScheduleFreeConfig { rate: 0.1, weight_decay, ..ScheduleFreeConfig::sgd() });
}
