//! Gradients at the ends of their dtypes: what cannot be squared is refused before anything has moved, and what can
//! be steps to finite numbers. More is in the second table of `battery.rs`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

use engine::{DType, Gradients, Parameter, Parameters, Tensor, parameters};
use optim::{
    AdaGradConfig, AdafactorConfig, LambConfig, LarsConfig, Optimizer, PerParameter, Rule, build,
    known,
};

/// A matrix and a vector.
struct Two {
    matrix: Parameter,
    vector: Parameter,
}
parameters!(Two { matrix, vector });

impl Two {
    fn new(dtype: DType) -> Self {
        let ones = |shape: &[usize]| Tensor::ones(engine::Shape::new(shape).unwrap(), dtype);
        Self { matrix: Parameter::new(ones(&[2, 3])), vector: Parameter::new(ones(&[2])) }
    }

    /// The same number everywhere.
    fn gradients(&self, size: f64) -> Gradients {
        let mut grads = Gradients::default();
        for (_, p) in self.parameters() {
            grads.set(p, Tensor::full(*p.value().shape(), size, p.value().dtype()));
        }
        grads
    }

    fn values(&self) -> Vec<f64> {
        self.parameters().iter().flat_map(|(_, p)| p.value().to_f64_vec().unwrap()).collect()
    }
}

/// Every optimizer that steps on gradients alone, of layers that it has not seen, too.
fn on_gradients(name: &str) -> Option<Box<dyn Optimizer>> {
    let optimizer = build(name, None).unwrap();
    let wants_more = name.starts_with("kfac") || name == "adahessian";
    (!optimizer.needs_problem() && !wants_more).then_some(optimizer)
}

#[test]
fn a_gradient_that_cannot_be_squared_is_refused_by_name_and_size_and_can_be_clipped() {
    for name in known() {
        for (dtype, size, word) in
            [(DType::F32, 1e20, "1e20 in f32"), (DType::F64, 1e160, "1e160 in f64")]
        {
            let Some(mut optimizer) = on_gradients(name) else { continue };
            let mut model = Two::new(dtype);
            let small = model.gradients(1e-2);
            optimizer.step(&mut model, &small).unwrap();
            let before = model.values();
            let mut grads = model.gradients(size);
            let refused = optimizer.step(&mut model, &grads).unwrap_err().to_string();
            let named =
                refused.starts_with("matrix: step: gradient") && refused.contains("clip_norm");
            assert!(named && refused.contains(word.split(' ').next_back().unwrap()), "{refused}");
            assert_eq!(model.values(), before, "{name}");
            grads.clip_norm(1.0).unwrap();
            optimizer.step(&mut model, &grads).unwrap();
            assert!(model.values().iter().all(|x| x.is_finite()), "{name} in {dtype}");
        }
    }
}

#[test]
fn a_gradient_whose_square_vanishes_steps_to_finite_numbers() {
    for name in known() {
        for (dtype, sizes) in [(DType::F32, [1e-30, 1e-44]), (DType::F64, [1e-200, 1e-320])] {
            for size in sizes {
                let Some(mut optimizer) = on_gradients(name) else { continue };
                let mut model = Two::new(dtype);
                for _ in 0..3 {
                    let grads = model.gradients(size);
                    optimizer.step(&mut model, &grads).unwrap();
                }
                let moved = model.values();
                assert!(moved.iter().all(|x| x.is_finite()), "{name}, {size}: {moved:?}");
            }
        }
    }
}

fn step<R: Rule>(
    optimizer: &mut PerParameter<R>,
    parameter: &mut Parameter,
    gradient: &[f64],
) -> Vec<f64> {
    let mut grads = Gradients::default();
    let shape = *parameter.value().shape();
    let gradient = Tensor::from_slice(gradient, shape).unwrap();
    grads.set(parameter, gradient.to_dtype(parameter.value().dtype()).unwrap());
    optimizer.step(parameter, &grads).unwrap();
    parameter.value().to_f64_vec().unwrap()
}

#[test]
fn adafactor_keeps_a_dead_row_beside_a_large_one() {
    let mut weight = Parameter::new(Tensor::ones([2, 2], DType::F32));
    let mut adafactor = PerParameter::new(AdafactorConfig::default()).unwrap();
    // 10⁻³⁰ over 10²⁴ is nothing in f32, and 0 over its root was no number.
    let moved = step(&mut adafactor, &mut weight, &[1e12, -1e12, 0.0, 0.0]);
    assert_eq!(moved[2..], [1.0, 1.0]);
    assert!(moved[0] < 1.0 && moved[1] > 1.0, "{moved:?}");
}

#[test]
fn a_step_as_long_as_the_parameter_is_so_for_the_shortest_gradient_or_shorter() {
    let mut weight = Parameter::new(Tensor::full([2], 100.0, DType::F32));
    let moved = step(
        &mut PerParameter::new(LambConfig { weight_decay: 0.0, ..LambConfig::default() }).unwrap(),
        &mut weight,
        &[1e-42, 0.0],
    );
    assert!((moved[0] - 100.0).abs() <= 0.15 && moved[1] == 100.0, "{moved:?}");
    let mut weight = Parameter::new(Tensor::full([2], 100.0, DType::F32));
    let moved = step(
        &mut PerParameter::new(LarsConfig { weight_decay: 0.0, ..LarsConfig::default() }).unwrap(),
        &mut weight,
        &[1e-42, 0.0],
    );
    assert!((moved[0] - 100.0).abs() <= 0.15 && moved[1] == 100.0, "{moved:?}");
}

#[test]
fn sums_of_squares_end_at_the_largest_number() {
    let mut weight = Parameter::new(Tensor::ones([1], DType::F32));
    let mut adagrad = PerParameter::new(AdaGradConfig::default()).unwrap();
    let mut last = 1.0;
    for _ in 0..100 {
        let moved = step(&mut adagrad, &mut weight, &[4e18])[0];
        assert!(moved < last, "{moved}");
        last = moved;
    }
    let sum = adagrad.kept(&weight, "s").unwrap().item().unwrap();
    assert_eq!(sum, f64::from(f32::MAX));
}
