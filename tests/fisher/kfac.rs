//! K-FAC as an optimizer: closed forms, invariances, uses that it does not cover, resuming.

use engine::{
    DType, Error, Geometry, Gradients, Likelihood, Parameter, Parameters, Result, Tape, Tensor,
    Var, Window, parameters,
};
use optim::Uncovered;
use optim::curvature::DampingRule;
use optim::{Fisher, Kfac, KfacConfig, Optimizer};

use super::models::{
    Dense, Net, REORDERED, Softmax, Squared, assert_close, identity, noise, numbers, step, tanh,
    tensor,
};

fn values(model: &dyn Parameters) -> Vec<f64> {
    model.parameters().into_iter().flat_map(|(_, p)| numbers(p.value())).collect()
}

/// Trains for some steps on one batch; returns the losses before each.
fn train(
    kfac: &mut Kfac,
    net: &mut Net,
    loss: &dyn Likelihood,
    x: &Tensor,
    steps: usize,
) -> Vec<f64> {
    let one = |_| {
        let tape = Tape::new();
        let y = net.forward(&tape.input(x.clone())).unwrap();
        step(kfac, net, loss, &tape, &y).unwrap()
    };
    (0..steps).map(one).collect()
}

fn exact() -> KfacConfig {
    KfacConfig { fisher: Fisher::Exact, inverse_every: 1, ..KfacConfig::default() }
}

#[test]
fn one_undamped_step_of_length_one_lands_on_the_least_squares_solution() {
    for damping_rule in [DampingRule::Pi, DampingRule::Plain, DampingRule::Exact] {
        let mut net = Net::new(&[3, 2], identity);
        let (x, loss) = (noise([8, 3], 1), Squared(noise([8, 2], 2)));
        let mut kfac = Kfac::new(KfacConfig {
            rate: 1.0,
            damping: 0.0,
            kl_clip: None,
            damping_rule,
            ..exact()
        })
        .unwrap();
        train(&mut kfac, &mut net, &loss, &x, 1);
        let tape = Tape::new();
        let y = net.forward(&tape.input(x)).unwrap();
        let gradients = tape.backward(&loss.nll(&y).unwrap()).unwrap();
        // At the minimum the gradient vanishes.
        assert!(gradients.norm().unwrap() < 1e-12, "{damping_rule:?}");
    }
}

#[test]
fn the_loss_falls_under_every_fisher_and_damping_rule() {
    for fisher in [Fisher::Empirical, Fisher::Sampled { draws: 2 }, Fisher::Exact] {
        for damping_rule in [DampingRule::Pi, DampingRule::Plain, DampingRule::Exact] {
            let mut net = Net::new(&[4, 6, 3], tanh);
            let (x, loss) = (noise([12, 4], 1), Softmax::labels(12, 3));
            let config = KfacConfig { fisher, damping_rule, damping: 0.1, ..KfacConfig::default() };
            let losses = train(&mut Kfac::new(config).unwrap(), &mut net, &loss, &x, 30);
            assert!(losses[29] < 0.5 * losses[0], "{fisher:?} {damping_rule:?}: {losses:?}");
        }
    }
}

#[test]
fn the_kl_clip_bounds_the_length_of_a_step() {
    let bound = 1e-4;
    let mut net = Net::new(&[4, 3], identity);
    let before = values(&net);
    let (x, loss) = (noise([6, 4], 1), Softmax::labels(6, 3));
    let tape = Tape::new();
    let y = net.forward(&tape.input(x)).unwrap();
    let mut kfac =
        Kfac::new(KfacConfig { kl_clip: Some(bound), momentum: 0.0, ..exact() }).unwrap();
    let pass = optim::backward(&tape, &y, &loss, &mut kfac).unwrap();
    kfac.step(&mut net, &pass.gradients).unwrap();
    let gradient = net.parameters().into_iter();
    let gradient: Vec<f64> =
        gradient.flat_map(|(_, p)| numbers(pass.gradients.of(p).unwrap())).collect();
    // Δ = −α ν P, so ν² α² ⟨P, g⟩ = −ν α ⟨Δ, g⟩ is the bound, and ⟨Δ, g⟩ < 0.
    let unclipped = {
        let mut net = Net::new(&[4, 3], identity);
        let mut kfac = Kfac::new(KfacConfig { kl_clip: None, momentum: 0.0, ..exact() }).unwrap();
        let (x, tape) = (noise([6, 4], 1), Tape::new());
        let y = net.forward(&tape.input(x)).unwrap();
        step(&mut kfac, &mut net, &loss, &tape, &y).unwrap();
        values(&net)
    };
    let along = |after: &[f64]| -> f64 {
        after.iter().zip(&before).zip(&gradient).map(|((a, b), g)| (b - a) * g).sum()
    };
    let (full, clipped) = (0.1 * along(&unclipped), 0.1 * along(&values(&net)));
    assert!(full > bound, "the clip has something to do");
    assert!((clipped * clipped / full - bound).abs() < 1e-12 * bound.max(1.0));
}

/// Two layers whose fields can be listed in either order.
struct Swapped(Net);

impl Parameters for Swapped {
    fn collect<'a>(&'a self, at: &str, out: &mut Vec<(String, engine::parameter::Member<'a>)>) {
        let start = out.len();
        self.0.collect(at, out);
        out[start..].reverse();
    }
    fn collect_mut<'a>(
        &'a mut self,
        at: &str,
        out: &mut Vec<(String, engine::parameter::MemberMut<'a>)>,
    ) {
        let start = out.len();
        self.0.collect_mut(at, out);
        out[start..].reverse();
    }
}

#[test]
fn the_order_of_parameters_does_not_matter() {
    let (x, loss) = (noise([6, 4], 1), Softmax::labels(6, 3));
    let mut plain = Net::new(&[4, 5, 3], tanh);
    train(&mut Kfac::new(exact()).unwrap(), &mut plain, &loss, &x, 4);
    let mut swapped = Swapped(Net::new(&[4, 5, 3], tanh));
    let mut kfac = Kfac::new(exact()).unwrap();
    for _ in 0..4 {
        let tape = Tape::new();
        let y = swapped.0.forward(&tape.input(x.clone())).unwrap();
        step(&mut kfac, &mut swapped, &loss, &tape, &y).unwrap();
    }
    assert_eq!(values(&swapped.0), values(&plain));
}

#[test]
fn single_precision_follows_double_precision() {
    let (x, loss) = (noise([6, 4], 1), Softmax::labels(6, 3));
    let mut double = Net::new(&[4, 5, 3], tanh);
    let mut single = Net::new(&[4, 5, 3], tanh);
    for (_, p) in single.parameters_mut() {
        *p = Parameter::new(p.value().to_dtype(DType::F32).unwrap());
    }
    train(&mut Kfac::new(exact()).unwrap(), &mut double, &loss, &x, 5);
    train(
        &mut Kfac::new(exact()).unwrap(),
        &mut single,
        &loss,
        &x.to_dtype(DType::F32).unwrap(),
        5,
    );
    assert_close(&values(&single), &values(&double), 1e-4, "f32");
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one_bit_by_bit() {
    for damping_rule in [DampingRule::Pi, DampingRule::Exact] {
        let config = KfacConfig {
            inverse_every: 3,
            factor_every: 2,
            damping_rule,
            weight_decay: 0.01,
            ..KfacConfig::default()
        };
        let (x, loss) = (noise([6, 4], 1), Softmax::labels(6, 3));
        let (mut net, mut kfac) = (Net::new(&[4, 5, 3], tanh), Kfac::new(config.clone()).unwrap());
        train(&mut kfac, &mut net, &loss, &x, 5);

        let mut again = Net::new(&[4, 5, 3], tanh);
        for ((_, to), (_, from)) in again.parameters_mut().into_iter().zip(net.parameters()) {
            *to.value_mut() = from.value().clone();
        }
        let mut resumed = Kfac::new(config).unwrap();
        resumed.load_state(&again, &kfac.state(&net).unwrap()).unwrap();
        assert_eq!(resumed.coverage(&again), kfac.coverage(&net));

        train(&mut kfac, &mut net, &loss, &x, 4);
        train(&mut resumed, &mut again, &loss, &x, 4);
        assert_eq!(values(&again), values(&net), "{damping_rule:?}");
    }
}

#[test]
fn a_state_of_another_model_is_refused_and_changes_nothing() {
    let (x, loss) = (noise([6, 4], 1), Softmax::labels(6, 3));
    let (mut net, mut kfac) = (Net::new(&[4, 3], tanh), Kfac::new(exact()).unwrap());
    train(&mut kfac, &mut net, &loss, &x, 2);
    let before = kfac.state(&net).unwrap();

    let (mut other, mut other_kfac) = (Net::new(&[4, 5, 3], tanh), Kfac::new(exact()).unwrap());
    train(&mut other_kfac, &mut other, &loss, &x, 1);
    assert!(kfac.load_state(&net, &other_kfac.state(&other).unwrap()).is_err());
    let mut renamed = before.clone();
    renamed.optimizer = "adam".into();
    assert!(matches!(kfac.load_state(&net, &renamed), Err(Error::Unknown { .. })));

    let after = kfac.state(&net).unwrap();
    assert_eq!(after.numbers, before.numbers);
    for (key, tensor) in &after.tensors {
        assert_eq!(numbers(tensor), numbers(&before.tensors[key]), "{key}");
    }
}

#[test]
fn dead_layers_and_vanished_gradients_stay_finite() {
    for damping_rule in [DampingRule::Pi, DampingRule::Plain, DampingRule::Exact] {
        let mut net = Net::new(&[4, 5, 3], Var::relu);
        // Every hidden unit is off: nothing comes back to the first layer.
        for (path, p) in net.parameters_mut() {
            if path == "layers.0.bias" {
                *p.value_mut() = Tensor::full([5], -1e3, DType::F64);
            }
        }
        let (x, loss) = (noise([6, 4], 1), Softmax::labels(6, 3));
        let mut kfac = Kfac::new(KfacConfig { damping_rule, ..KfacConfig::default() }).unwrap();
        train(&mut kfac, &mut net, &loss, &x, 3);
        assert!(values(&net).iter().all(|x| x.is_finite()), "{damping_rule:?}");
    }
}

/// A layer, and a free parameter that scales its output.
#[derive(Debug)]
struct Scaled {
    layer: Dense,
    temperature: Parameter,
}
parameters!(Scaled { layer, temperature });

impl Scaled {
    fn new() -> Self {
        let temperature = Parameter::new(Tensor::ones([3], DType::F64));
        Self { layer: Dense::new(4, 3, true, 1), temperature }
    }
    fn forward(&self, x: &Var) -> Result<Var> {
        self.layer.forward(x)?.mul(&x.tape()?.bind(&self.temperature))
    }
}

#[test]
fn a_parameter_outside_layers_moves_along_its_gradient_or_is_refused_by_name() {
    let (x, loss) = (noise([6, 4], 1), Softmax::labels(6, 3));
    let pass = |model: &Scaled, kfac: &mut Kfac| {
        let tape = Tape::new();
        let y = model.forward(&tape.input(x.clone())).unwrap();
        optim::backward(&tape, &y, &loss, kfac).unwrap().gradients
    };
    let mut model = Scaled::new();
    let mut kfac = Kfac::new(KfacConfig { kl_clip: None, ..exact() }).unwrap();
    let gradients = pass(&model, &mut kfac);
    kfac.step(&mut model, &gradients).unwrap();
    let g = numbers(gradients.of(&model.temperature).unwrap());
    let expected: Vec<f64> = g.iter().map(|g| 1.0 - 0.1 * g).collect();
    assert_close(&numbers(model.temperature.value()), &expected, REORDERED, "θ − α g");
    let coverage = kfac.coverage(&model).to_string();
    assert!(coverage.contains("Kronecker, 3 ⊗ 5"), "{coverage}");
    assert!(coverage.contains("gradient: also used by mul"), "{coverage}");

    let mut model = Scaled::new();
    let mut kfac = Kfac::new(KfacConfig { uncovered: Uncovered::Error, ..exact() }).unwrap();
    let gradients = pass(&model, &mut kfac);
    let before = values(&model);
    match kfac.step(&mut model, &gradients) {
        Err(Error::Uncovered { param, op }) => assert_eq!((&*param, op), ("temperature", "mul")),
        other => panic!("{other:?}"),
    }
    assert_eq!(values(&model), before);
}

#[test]
fn a_table_that_is_also_a_dense_weight_moves_along_its_gradient() {
    let mut table = Parameter::new(noise([5, 3], 3));
    let words = Tensor::from_slice(&[1_i64, 4, 2], [3]).unwrap();
    let before = numbers(table.value());
    let mut kfac = Kfac::new(KfacConfig { kl_clip: None, ..exact() }).unwrap();
    let tape = Tape::new();
    let weight = tape.bind(&table);
    let y = tape.input(words).embedding(&weight).unwrap().tanh().unwrap();
    let y = y.linear(&weight, None).unwrap();
    let pass = optim::backward(&tape, &y, &Softmax::labels(3, 5), &mut kfac).unwrap();
    kfac.step(&mut table, &pass.gradients).unwrap();
    let g = numbers(pass.gradients.of(&table).unwrap());
    let expected: Vec<f64> = before.iter().zip(&g).map(|(x, g)| x - 0.1 * g).collect();
    assert_close(&numbers(table.value()), &expected, REORDERED, "θ − α g");
}

#[test]
fn a_frozen_bias_leaves_the_block_of_its_weight() {
    let (x, loss) = (noise([6, 4], 1), Softmax::labels(6, 3));
    let mut frozen = Net::new(&[4, 3], identity);
    frozen.layers[0].bias.as_mut().unwrap().set_trainable(false);
    let bias = numbers(frozen.layers[0].bias.as_ref().unwrap().value());
    train(&mut Kfac::new(exact()).unwrap(), &mut frozen, &loss, &x, 3);
    assert_eq!(numbers(frozen.layers[0].bias.as_ref().unwrap().value()), bias);

    // The same model with the bias as a constant that K-FAC never sees.
    let mut weight = Parameter::new(Net::new(&[4, 3], identity).layers[0].weight.value().clone());
    let mut kfac = Kfac::new(exact()).unwrap();
    for _ in 0..3 {
        let tape = Tape::new();
        let y = tape.input(x.clone()).linear(&tape.bind(&weight), None).unwrap();
        let y = y.add(&Var::constant(&tensor(&bias, [3]))).unwrap();
        step(&mut kfac, &mut weight, &loss, &tape, &y).unwrap();
    }
    let got = numbers(frozen.layers[0].weight.value());
    assert_close(&got, &numbers(weight.value()), REORDERED, "the weight alone");
}

#[test]
fn constants_out_of_range_and_missing_gradients_are_typed_errors() {
    let mut net = Net::new(&[4, 3], identity);
    let before = values(&net);
    let result = Kfac::new(KfacConfig { damping: -1.0, ..exact() });
    assert!(matches!(result, Err(Error::Argument { name: "damping", .. })));
    let result = Kfac::new(exact()).unwrap().step(&mut net, &Gradients::default());
    match result {
        Err(Error::MissingGradient { param }) => assert_eq!(param, "layers.0.weight"),
        other => panic!("{other:?}"),
    }
    assert_eq!(values(&net), before);
}

/// A transposed convolution of single pixels.
#[derive(Debug)]
struct Pixels {
    weight: Parameter,
}
parameters!(Pixels { weight });

#[test]
fn a_step_of_a_transposed_convolution_of_single_pixels_is_that_of_a_dense_layer() {
    for damping_rule in [DampingRule::Pi, DampingRule::Plain, DampingRule::Exact] {
        let mut dense = Dense::new(3, 2, false, 5);
        let transposed = dense.weight.value().transpose(0, 1).unwrap().contiguous().unwrap();
        let mut pixels =
            Pixels { weight: Parameter::new(transposed.reshape([3, 2, 1, 1]).unwrap()) };
        let (x, loss) = (noise([8, 3], 1), Squared(noise([8, 2], 2)));
        let config = KfacConfig { damping_rule, kl_clip: None, ..exact() };
        let (mut one, mut other) = (Kfac::new(config.clone()).unwrap(), Kfac::new(config).unwrap());
        for _ in 0..3 {
            let tape = Tape::new();
            let y = dense.forward(&tape.input(x.clone())).unwrap();
            step(&mut one, &mut dense, &loss, &tape, &y).unwrap();

            let tape = Tape::new();
            let image = tape.input(x.reshape([8, 3, 1, 1]).unwrap());
            let geometry = Geometry { window: Window::new((1, 1)), groups: 1 };
            let y = image.conv_transpose2d(&tape.bind(&pixels.weight), None, geometry, (0, 0));
            let y = y.unwrap().reshape([8, 2]).unwrap();
            step(&mut other, &mut pixels, &loss, &tape, &y).unwrap();
        }
        let expected = numbers(&dense.weight.value().transpose(0, 1).unwrap());
        let rule = format!("{damping_rule:?}");
        assert_close(&numbers(pixels.weight.value()), &expected, REORDERED, &rule);
    }
}
