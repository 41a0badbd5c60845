//! Shampoo: closed forms, equivariance, blocks, resuming.

use engine::{DType, Error, Gradients, Parameter, Tensor, parameters};
use optim::{Graft, LongSides, Optimizer, Shampoo, ShampooConfig, Statistics};

use super::models::{REORDERED, assert_close, noise, numbers, tensor};

/// ε must be small against the squares of singular values; roots of it are not: 10⁻¹⁴ and 10⁻⁷.
const ROOT_OF_EPSILON: f64 = 1e-6;

/// The paper's constants, step length 1, almost no ε.
fn bare() -> ShampooConfig {
    let statistics = Statistics::Sum { epsilon: 1e-14 };
    ShampooConfig { rate: 1.0, statistics, ..ShampooConfig::paper() }
}

/// Feeds gradients to one parameter that starts from zeros; returns where it ends.
fn run(config: ShampooConfig, gradients: &[Tensor]) -> Vec<f64> {
    let mut p = Parameter::new(Tensor::zeros(*gradients[0].shape(), gradients[0].dtype()));
    let mut shampoo = Shampoo::new(config).unwrap();
    for g in gradients {
        feed(&mut shampoo, &mut p, g).unwrap();
    }
    numbers(p.value())
}

fn feed(shampoo: &mut Shampoo, p: &mut Parameter, g: &Tensor) -> engine::Result<()> {
    let mut gradients = Gradients::default();
    gradients.set(p, g.clone());
    shampoo.step(p, &gradients)
}

/// The rotation of the plane (0, 1), applied to `n` axes in turn.
fn rotation(n: usize, angle: f64) -> Tensor {
    let mut q = Tensor::eye(n, DType::F64);
    for i in 0..n - 1 {
        let (s, c) = (angle + i as f64).sin_cos();
        let plane = Tensor::from_fn([n, n], DType::F64, |k| match (k / n, k % n) {
            (r, col) if r == col && (r == i || r == i + 1) => c,
            (r, col) if r == i && col == i + 1 => -s,
            (r, col) if r == i + 1 && col == i => s,
            (r, col) if r == col => 1.0,
            _ => 0.0,
        });
        q = q.matmul(&plane).unwrap();
    }
    q
}

#[test]
fn the_first_step_is_the_polar_factor_of_the_gradient() {
    let g = noise([4, 3], 1);
    let u = tensor(&run(bare(), std::slice::from_ref(&g)), [4, 3]).neg().unwrap();
    let square = |x: &Tensor, y: &Tensor| numbers(&x.transpose(0, 1).unwrap().matmul(y).unwrap());
    let identity = numbers(&Tensor::eye(3, DType::F64));
    assert_close(&square(&u, &u), &identity, ROOT_OF_EPSILON, "UᵀU = I");
    // G = U H with H symmetric positive definite: UᵀG = H.
    let h = square(&u, &g);
    let transposed: Vec<f64> = (0..9).map(|k| h[k % 3 * 3 + k / 3]).collect();
    assert_close(&h, &transposed, ROOT_OF_EPSILON, "UᵀG is symmetric");
    assert!((0..3).all(|i| h[i * 4] > 0.0), "with a positive diagonal");
}

#[test]
fn a_rotated_gradient_gives_the_rotated_direction() {
    let (left, right) = (rotation(4, 0.3), rotation(3, 1.1));
    let rotate = |g: &Tensor| left.matmul(g).unwrap().matmul(&right).unwrap();
    let gradients: Vec<Tensor> = (0..3).map(|i| noise([4, 3], i)).collect();
    let rotated: Vec<Tensor> = gradients.iter().map(rotate).collect();
    let statistics = Statistics::Ema { beta2: 0.9, bias_correction: true, epsilon: 1e-6 };
    for config in [
        ShampooConfig::paper(),
        ShampooConfig { statistics, beta1: 0.9, graft: Graft::Sgd, ..ShampooConfig::paper() },
    ] {
        let plain = tensor(&run(config.clone(), &gradients), [4, 3]);
        assert_close(&run(config, &rotated), &numbers(&rotate(&plain)), 1e-9, "rotated");
    }
}

#[test]
fn a_vector_takes_a_first_step_of_length_one_along_its_gradient() {
    let u = run(bare(), &[tensor(&[3.0, 4.0], [2])]);
    assert_close(&u, &[-0.6, -0.8], ROOT_OF_EPSILON, "g / |g|");
}

#[test]
fn blocks_are_preconditioned_as_parameters_of_their_own() {
    let gradients: Vec<Tensor> = (0..4).map(|i| noise([3, 5], i)).collect();
    let config =
        ShampooConfig { sides: LongSides::blocks(3), beta1: 0.5, ..ShampooConfig::paper() };
    let whole = tensor(&run(config, &gradients), [3, 5]);
    for (start, len) in [(0, 3), (3, 2)] {
        let cut = |t: &Tensor| t.narrow(1, start, len).unwrap().contiguous().unwrap();
        let parts: Vec<Tensor> = gradients.iter().map(cut).collect();
        let alone = run(ShampooConfig { beta1: 0.5, ..ShampooConfig::paper() }, &parts);
        assert_close(&numbers(&cut(&whole)), &alone, REORDERED, "a block");
    }
}

#[test]
fn grafting_keeps_the_direction_and_takes_the_other_methods_length() {
    let g = noise([4, 3], 1);
    let length = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let own = run(bare(), std::slice::from_ref(&g));
    for (graft, expected) in [
        (Graft::Sgd, length(&numbers(&g))),
        (Graft::Adam { beta2: 0.9, epsilon: 1e-12 }, 12.0_f64.sqrt()),
    ] {
        let grafted = run(ShampooConfig { graft, ..bare() }, std::slice::from_ref(&g));
        let scaled: Vec<f64> = own.iter().map(|x| x * expected / length(&own)).collect();
        assert_close(&grafted, &scaled, ROOT_OF_EPSILON, "a longer or shorter step");
    }
}

/// A matrix, a tensor of order 3, a vector and a scalar.
struct Mixed {
    all: Vec<Parameter>,
}
parameters!(Mixed { all });

impl Mixed {
    fn new() -> Self {
        let all = [noise([4, 3], 1), noise([2, 3, 2], 2), noise([5], 3)];
        let scalar = Tensor::scalar(0.5, DType::F64);
        Self { all: all.into_iter().chain([scalar]).map(Parameter::new).collect() }
    }

    fn gradients(&self, seed: u64) -> Gradients {
        let mut gradients = Gradients::default();
        for (i, p) in self.all.iter().enumerate() {
            let g = Tensor::normal(
                *p.value().shape(),
                0.0,
                1.0,
                DType::F64,
                &mut engine::Rng::stream(seed, i as u64),
            );
            gradients.set(p, g);
        }
        gradients
    }

    fn values(&self) -> Vec<f64> {
        self.all.iter().flat_map(|p| numbers(p.value())).collect()
    }
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one_bit_by_bit() {
    let config =
        ShampooConfig { root_every: 3, sides: LongSides::blocks(3), ..ShampooConfig::default() };
    let (mut model, mut shampoo) = (Mixed::new(), Shampoo::new(config.clone()).unwrap());
    for seed in 0..5 {
        let gradients = model.gradients(seed);
        shampoo.step(&mut model, &gradients).unwrap();
    }
    let (mut again, mut resumed) = (Mixed::new(), Shampoo::new(config).unwrap());
    for (to, from) in again.all.iter_mut().zip(&model.all) {
        *to.value_mut() = from.value().clone();
    }
    resumed.load_state(&again, &shampoo.state(&model).unwrap()).unwrap();
    for seed in 5..9 {
        let gradients = model.gradients(seed);
        shampoo.step(&mut model, &gradients).unwrap();
        let gradients = again.gradients(seed);
        resumed.step(&mut again, &gradients).unwrap();
    }
    assert_eq!(again.values(), model.values());
    assert_eq!(resumed.coverage(&again), shampoo.coverage(&model));
}

#[test]
fn a_state_of_another_block_size_is_refused_and_changes_nothing() {
    let (mut model, mut shampoo) = (Mixed::new(), Shampoo::new(ShampooConfig::default()).unwrap());
    let gradients = model.gradients(0);
    shampoo.step(&mut model, &gradients).unwrap();
    let state = shampoo.state(&model).unwrap();
    let mut other =
        Shampoo::new(ShampooConfig { sides: LongSides::blocks(2), ..ShampooConfig::default() })
            .unwrap();
    assert!(other.load_state(&model, &state).is_err());
    assert_eq!(other.state(&model).unwrap().tensors.len(), 0);
}

#[test]
fn coverage_says_how_each_parameter_is_cut() {
    let shampoo =
        Shampoo::new(ShampooConfig { sides: LongSides::blocks(3), ..ShampooConfig::default() })
            .unwrap();
    let rules: Vec<String> =
        shampoo.coverage(&Mixed::new()).lines.into_iter().map(|line| line.rule).collect();
    let expected = [
        "Kronecker, 3 ⊗ 3, in 2 blocks",
        "Kronecker, 2 ⊗ 3 ⊗ 2",
        "Kronecker, 3, in 2 blocks",
        "Kronecker, 1",
    ];
    assert_eq!(rules, expected);
}

#[test]
fn vanished_gradients_leave_parameters_where_they_are() {
    let zeros = vec![Tensor::zeros([3, 2], DType::F64); 3];
    for config in [ShampooConfig::default(), ShampooConfig::paper()] {
        assert_eq!(run(config, &zeros), [0.0; 6]);
    }
}

#[test]
fn constants_out_of_range_are_typed_errors() {
    let statistics = Statistics::Sum { epsilon: 0.0 };
    let result = Shampoo::new(ShampooConfig { statistics, ..ShampooConfig::paper() });
    assert!(matches!(result, Err(Error::Argument { name: "epsilon", .. })));
    let result =
        Shampoo::new(ShampooConfig { sides: LongSides::blocks(0), ..ShampooConfig::paper() });
    assert!(matches!(result, Err(Error::Argument { name: "sides.block", .. })));
}
