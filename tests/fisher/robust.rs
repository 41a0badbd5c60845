//! What goes wrong, and what becomes of it: planted bad factors, numbers that are not finite, options
//! that are out of range or contradict each other, states that do not fit. Each is borne as documented
//! or is a typed error, and a step that fails changes no parameter.

use engine::{DType, Error, Gradients, Parameters, Tape, Tensor};
use optim::{
    AdaFisher, AdaFisherConfig, Ekfac, EkfacConfig, Eva, EvaConfig, Fisher, Kfac, KfacConfig,
    LongSides, Optimizer, Shampoo, ShampooConfig, Soap, SoapConfig, State, build,
};
use optim::{LayerStep, Statistics};

use super::models::{Net, Softmax, noise, numbers, tanh};

fn values(model: &dyn Parameters) -> Vec<f64> {
    model.parameters().into_iter().flat_map(|(_, p)| numbers(p.value())).collect()
}

fn train(optimizer: &mut dyn Optimizer, net: &mut Net) -> engine::Result<f64> {
    let (x, loss) = (noise([6, 4], 1), Softmax::labels(6, 3));
    let tape = Tape::new();
    let y = net.forward(&tape.input(x)).unwrap();
    let pass = optim::backward(&tape, &y, &loss, optimizer)?;
    optimizer.step(net, &pass.gradients)?;
    pass.loss.item()
}

/// A trained net, its optimizer, and what it keeps.
fn trained(optimizer: &mut dyn Optimizer) -> (Net, State) {
    let mut net = Net::new(&[4, 5, 3], tanh);
    train(optimizer, &mut net).unwrap();
    let state = optimizer.state(&net).unwrap();
    (net, state)
}

fn kfac() -> Kfac {
    // The averages stay what they were planted to be: a new batch has a weight of 10⁻¹⁵.
    let config = KfacConfig { inverse_every: 1, decay: 1.0 - 1e-15, ..KfacConfig::default() };
    Kfac::new(KfacConfig { start: optim::curvature::AverageStart::First, ..config }).unwrap()
}

/// −I is no second moment, and a NaN is no number.
fn bad(like: &Tensor) -> [Tensor; 2] {
    let n = like.numel().isqrt();
    let negative = |k: usize| if k.is_multiple_of(n + 1) { -1.0 } else { 0.0 };
    let nan = Tensor::full(*like.shape(), f64::NAN, like.dtype());
    [Tensor::from_fn(*like.shape(), like.dtype(), negative), nan]
}

/// Two steps are borne; the third fails and changes nothing.
fn assert_borne_twice(optimizer: &mut dyn Optimizer, net: &mut Net) {
    for _ in 0..2 {
        let before = values(net);
        train(optimizer, net).unwrap();
        let after = values(net);
        assert!(after != before && after.iter().all(|x| x.is_finite()));
    }
    let before = values(net);
    let error = train(optimizer, net).unwrap_err();
    let inner = match &error {
        Error::InLayer { source, .. } => source,
        other => other,
    };
    assert!(matches!(inner, Error::Linalg { .. }), "{error:?}");
    assert_eq!(values(net), before);
}

#[test]
fn kfac_bears_a_block_that_cannot_be_inverted_twice_and_then_says_so() {
    for which in 0..2 {
        let mut kfac = kfac();
        let (mut net, mut state) = trained(&mut kfac);
        let planted = bad(&state.tensors["layers.0.weight/a"])[which].clone();
        state.tensors.insert("layers.0.weight/a".into(), planted);
        kfac.load_state(&net, &state).unwrap();
        assert_borne_twice(&mut kfac, &mut net);
    }
}

#[test]
fn failures_are_counted_across_a_resume() {
    let mut first = kfac();
    let (mut net, mut state) = trained(&mut first);
    let planted = bad(&state.tensors["layers.1.weight/g"])[0].clone();
    state.tensors.insert("layers.1.weight/g".into(), planted);
    first.load_state(&net, &state).unwrap();
    train(&mut first, &mut net).unwrap();
    let mut resumed = kfac();
    resumed.load_state(&net, &first.state(&net).unwrap()).unwrap();
    train(&mut resumed, &mut net).unwrap();
    assert_fails_in("layers.1.weight", train(&mut resumed, &mut net));
}

/// The layer is named.
fn assert_fails_in(layer: &str, outcome: engine::Result<f64>) {
    match outcome {
        Err(Error::InLayer { path, source }) => {
            assert_eq!(path, layer);
            assert!(matches!(*source, Error::Linalg { .. }), "{source}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bad_block_without_a_previous_inverse_is_an_error_at_once() {
    let mut kfac = kfac();
    let (mut net, mut state) = trained(&mut kfac);
    for planted in bad(&state.tensors["layers.0.weight/a"]) {
        state.tensors.insert("layers.0.weight/a".into(), planted);
        let of_inverse = |key: &String| {
            let kept = ["/columns", "/damping", "/inverse", "/matrix", "/failures"];
            key.starts_with("layers.0.weight") && kept.iter().any(|part| key.contains(part))
        };
        state.numbers.retain(|key, _| !of_inverse(key));
        state.tensors.retain(|key, _| !of_inverse(key));
        kfac.load_state(&net, &state).unwrap();
        let before = values(&net);
        assert_fails_in("layers.0.weight", train(&mut kfac, &mut net));
        assert_eq!(values(&net), before);
    }
}

#[test]
fn shampoo_bears_moments_without_roots_twice_and_then_names_the_parameter() {
    let mut shampoo = Shampoo::new(ShampooConfig { root_every: 1, ..Default::default() }).unwrap();
    let (mut net, mut state) = trained(&mut shampoo);
    // A negative eigenvalue is lifted, so only what is no number fails.
    let nan = bad(&state.tensors["layers.0.weight/moment.0.0"])[1].clone();
    state.tensors.insert("layers.0.weight/moment.0.0".into(), nan);
    shampoo.load_state(&net, &state).unwrap();
    assert_borne_twice(&mut shampoo, &mut net);
}

#[test]
fn a_gradient_that_is_not_finite_is_refused_with_its_path_and_changes_nothing() {
    let names =
        ["kfac", "ekfac", "foof", "skfac", "eva", "mkor", "singd", "ikfac", "tnt", "shampoo"];
    for name in names {
        for bad in [f64::NAN, f64::INFINITY] {
            let mut optimizer = build(name, None).unwrap();
            let (mut net, _) = trained(&mut *optimizer);
            let mut gradients = Gradients::default();
            for (path, p) in net.parameters() {
                let value = if path == "layers.1.weight" { bad } else { 0.1 };
                gradients.set(p, Tensor::full(*p.value().shape(), value, DType::F64));
            }
            let before = values(&net);
            match optimizer.step(&mut net, &gradients) {
                Err(Error::InLayer { path, source }) => {
                    assert_eq!(path, "layers.1.weight", "{name}");
                    assert!(matches!(*source, Error::Argument { name: "gradient", .. }), "{name}");
                }
                other => panic!("{name}: {other:?}"),
            }
            assert_eq!(values(&net), before, "{name}");
        }
    }
}

#[test]
fn an_infinity_in_one_record_is_left_out_of_the_factors_and_counted() {
    use engine::{LayerRecord, Likelihood};
    use optim::CurvatureSource;

    /// Shows an optimizer's estimator a batch of which one input is infinite.
    fn show(source: &mut dyn CurvatureSource, net: &Net) {
        let (x, loss) = (noise([6, 4], 1), Softmax::labels(6, 3));
        let tape = Tape::new();
        let y = net.forward(&tape.input(x)).unwrap();
        let mut records: Vec<LayerRecord> = Vec::new();
        tape.backward_observed(&loss.nll(&y).unwrap(), &mut records).unwrap();
        source.begin_sweep(0);
        for record in &mut records {
            let mut numbers = record.input.to_f64_vec().unwrap();
            numbers[0] = f64::INFINITY;
            record.input = Tensor::from_vec(numbers, *record.input.shape()).unwrap();
            source.observe(record).unwrap();
        }
        source.finish(loss.terms()).unwrap();
    }
    let fisher = Fisher::Empirical;
    let step = LayerStep { fisher, ..LayerStep::default() };
    let mut kfac = Kfac::new(KfacConfig { fisher, ..KfacConfig::default() }).unwrap();
    let mut ekfac = Ekfac::new(EkfacConfig { step, ..EkfacConfig::default() }).unwrap();
    let mut eva = Eva::new(EvaConfig { step, ..EvaConfig::default() }).unwrap();
    let optimizers: [&mut dyn Optimizer; 3] = [&mut kfac, &mut ekfac, &mut eva];
    for optimizer in optimizers {
        let (mut net, _) = trained(optimizer);
        show(optimizer.curvature().unwrap(), &net);
        let mut gradients = Gradients::default();
        for (_, p) in net.parameters() {
            gradients.set(p, Tensor::full(*p.value().shape(), 0.1, DType::F64));
        }
        optimizer.step(&mut net, &gradients).unwrap();
        assert!(values(&net).iter().all(|x| x.is_finite()), "{}", optimizer.name());
        train(optimizer, &mut net).unwrap();
        assert!(values(&net).iter().all(|x| x.is_finite()), "{}", optimizer.name());
    }
    assert_eq!((kfac.factors().skipped(), ekfac.skipped(), eva.skipped()), (1, 1, 1));
}

/// The name of the argument that was refused.
fn refused<T: std::fmt::Debug>(result: engine::Result<T>) -> &'static str {
    match result {
        Err(Error::Argument { name, .. }) => name,
        other => panic!("{other:?}"),
    }
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        let kfac = |change: fn(&mut KfacConfig, f64)| {
            let mut config = KfacConfig::default();
            change(&mut config, bad);
            refused(Kfac::new(config))
        };
        assert_eq!(kfac(|c, x| c.rate = x), "rate");
        assert_eq!(kfac(|c, x| c.damping = x), "damping");
        assert_eq!(kfac(|c, x| c.weight_decay = x), "weight_decay");
        assert_eq!(kfac(|c, x| c.decay = x), "decay");
        assert_eq!(kfac(|c, x| c.momentum = x), "momentum");
        let ekfac = EkfacConfig { damping: bad, ..EkfacConfig::default() };
        assert_eq!(refused(Ekfac::new(ekfac)), "damping");
        let ekfac = EkfacConfig { decay: bad, ..EkfacConfig::default() };
        assert_eq!(refused(Ekfac::new(ekfac)), "decay");
        let statistics = Statistics::Ema { beta2: bad, bias_correction: true, epsilon: 1e-12 };
        let shampoo = ShampooConfig { statistics, ..ShampooConfig::default() };
        assert_eq!(refused(Shampoo::new(shampoo)), "beta2");
        let soap = SoapConfig { epsilon: bad, ..SoapConfig::default() };
        assert_eq!(refused(Soap::new(soap)), "epsilon");
        let adafisher =
            AdaFisherConfig { damping: optim::Damping::Constant(bad), ..AdaFisherConfig::thesis() };
        assert_eq!(refused(AdaFisher::new(adafisher)), "damping");
    }
    // A decay of 1 would never learn.
    assert_eq!(refused(Kfac::new(KfacConfig { decay: 1.0, ..KfacConfig::default() })), "decay");
    assert_eq!(refused(Ekfac::new(EkfacConfig { decay: 1.0, ..EkfacConfig::default() })), "decay");
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let fisher = Fisher::Sampled { draws: 0 };
    assert_eq!(refused(Kfac::new(KfacConfig { fisher, ..KfacConfig::default() })), "draws");
    let step = LayerStep { fisher, ..LayerStep::default() };
    assert_eq!(refused(Ekfac::new(EkfacConfig { step, ..EkfacConfig::default() })), "draws");
    // Inverses more often than there is something new to invert.
    let config = KfacConfig { factor_every: 10, inverse_every: 5, ..KfacConfig::default() };
    assert_eq!(refused(Kfac::new(config)), "inverse_every");
    let config =
        ShampooConfig { merge: true, sides: LongSides::whole(), ..ShampooConfig::default() };
    assert_eq!(refused(Shampoo::new(config)), "merge");
    let config = ShampooConfig { exponent: Some(0.5), ..ShampooConfig::default() };
    assert_eq!(refused(Shampoo::new(config)), "exponent");
    assert!(matches!(AdaFisherConfig::preset("neurips"), Err(Error::Unknown { .. })));
}

#[test]
fn factors_of_an_unknown_form_or_another_shape_are_refused_and_change_nothing() {
    type Spoil = fn(&mut State);
    let spoils: [(&str, Spoil); 5] = [
        ("form", |s| drop(s.numbers.insert("layers.0.weight/form".into(), "circulant".into()))),
        ("groups", |s| drop(s.numbers.insert("layers.0.weight/groups".into(), "2".into()))),
        ("a", |s| drop(s.tensors.insert("layers.0.weight/a".into(), noise([9], 1)))),
        ("missing", |s| drop(s.tensors.remove("layers.1.weight/g"))),
        ("kind", |s| drop(s.numbers.insert("layers.0.weight/inverse.a.0".into(), "guess".into()))),
    ];
    for (what, spoil) in spoils {
        let mut kfac = kfac();
        let (net, state) = trained(&mut kfac);
        let mut spoiled = state.clone();
        spoil(&mut spoiled);
        let error = kfac.load_state(&net, &spoiled).unwrap_err();
        let typed =
            matches!(error, Error::Unknown { .. } | Error::Shape { .. } | Error::Argument { .. });
        assert!(typed, "{what}: {error:?}");
        let after = kfac.state(&net).unwrap();
        assert_eq!(after.numbers, state.numbers, "{what}");
        for (key, tensor) in &after.tensors {
            assert_eq!(numbers(tensor), numbers(&state.tensors[key]), "{what}: {key}");
        }
    }
}
