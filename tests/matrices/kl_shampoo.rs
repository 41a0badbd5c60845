//! KL-Shampoo: the length of its steps, and eigenvalues against closed forms.

use engine::{DType, Parameter, Tensor};
use optim::{KlShampoo, KlShampooConfig, KlShampooScale};

use crate::{assert_close, feed, noise, numbers};

fn zeros(dtype: DType) -> Parameter {
    Parameter::new(Tensor::zeros([3, 4], dtype))
}

#[test]
fn the_first_steps_have_the_same_length_whatever_the_scale_of_the_gradients() {
    // Without ε, which is in units of the gradient, the gradient's own rounding is left.
    for (dtype, tolerance) in [(DType::F64, 1e-9), (DType::F32, 1e-3)] {
        let lengths = |scale: f64| -> Vec<f64> {
            let mut weight = zeros(dtype);
            let config = KlShampooConfig { epsilon: 1e-30, ..KlShampooConfig::default() };
            let mut optimizer = KlShampoo::new(config).unwrap();
            let length = |seed| {
                let g = noise([3, 4], seed).scale(scale).unwrap();
                let step = feed(&mut optimizer, &mut weight, &g);
                step.iter().map(|x| x * x).sum::<f64>().sqrt()
            };
            (0..60).map(length).collect()
        };
        let one = lengths(1.0);
        assert_eq!(one[0], 0.0, "the first gradient only finds the bases");
        // An entry that is whitened and averaged is about 10⁻³ long in the first step, and a quarter of it later.
        let sides = 12.0_f64.sqrt() * 1e-3;
        assert!((0.3 * sides..3.0 * sides).contains(&one[1]), "{}", one[1]);
        assert!(one[1..].iter().all(|x| (0.05 * sides..3.0 * sides).contains(x)), "{one:?}");
        for scale in [1e-3, 1e3] {
            assert_close(&lengths(scale), &one, tolerance, &format!("{scale}, {dtype}"));
        }
    }
}

#[test]
fn a_gradient_of_one_entry_a_row_has_the_eigenvalues_of_its_own_recursion() {
    // g = diag(2, 0.5): the axes are the bases, and each λᵢ follows gᵢᵢ²/(2 ωᵢ) alone, as ωᵢ follows λᵢ.
    let (beta, g) = (0.9, [2.0, 0.5]);
    let config =
        KlShampooConfig { rate: 0.1, beta1: 0.0, beta2: beta, ..KlShampooConfig::default() };
    let mut optimizer = KlShampoo::new(config).unwrap();
    let mut weight = Parameter::new(Tensor::zeros([2, 2], DType::F64));
    let gradient = Tensor::from_slice(&[g[0], 0.0, 0.0, g[1]], [2, 2]).unwrap();
    feed(&mut optimizer, &mut weight, &gradient);
    let rms = ((g[0] * g[0] + g[1] * g[1]) / 4.0_f64).sqrt();
    let (mut lambda, mut omega) = ([rms; 2], [rms; 2]);
    for _ in 0..35 {
        let step = feed(&mut optimizer, &mut weight, &gradient);
        let length = |i: usize| 0.1 * g[i] / ((lambda[i] * omega[i]).sqrt() + 1e-8);
        assert_close(&step, &[length(0), 0.0, 0.0, length(1)], 1e-12, "the step");
        for i in 0..2 {
            let square = g[i] * g[i] / 2.0;
            let new = (square / omega[i], square / lambda[i]);
            lambda[i] = beta * lambda[i] + (1.0 - beta) * new.0;
            omega[i] = beta * omega[i] + (1.0 - beta) * new.1;
        }
        for (name, expected) in [("l_values", lambda), ("r_values", omega)] {
            assert_close(&numbers(optimizer.kept(&weight, name).unwrap()), &expected, 1e-12, name);
        }
    }
    // Where it settles, λᵢ ωᵢ = gᵢᵢ²/2: every entry moves by √2 α.
    let step = feed(&mut optimizer, &mut weight, &gradient);
    assert_close(&step, &[0.1 * 2.0_f64.sqrt(), 0.0, 0.0, 0.1 * 2.0_f64.sqrt()], 0.05, "settled");
}

#[test]
fn the_eigenvalues_of_a_gradient_of_rank_one_go_along_it() {
    let (u, v) = (noise([3, 1], 1), noise([1, 4], 2));
    let gradient = u.matmul(&v).unwrap();
    let square: f64 = numbers(&gradient).iter().map(|x| x * x).sum();
    let mut optimizer =
        KlShampoo::new(KlShampooConfig { rate: 1.0, beta1: 0.0, ..KlShampooConfig::default() })
            .unwrap();
    let mut weight = zeros(DType::F64);
    feed(&mut optimizer, &mut weight, &gradient);
    let rms = (square / 12.0).sqrt();
    // The first step that moves: along the gradient, by √(rows · columns) as a whole.
    let step = feed(&mut optimizer, &mut weight, &gradient);
    let expected: Vec<f64> = numbers(&gradient).iter().map(|g| g / (rms + 1e-8)).collect();
    assert_close(&step, &expected, 1e-9, "the first step");
    let length = step.iter().map(|x| x * x).sum::<f64>().sqrt();
    assert!((length - 12.0_f64.sqrt()).abs() < 1e-6, "{length}");
    // λ₁ ← 0.95 rms + 0.05 ‖g‖²/(rms columns), and the others forget.
    let values = numbers(optimizer.kept(&weight, "l_values").unwrap());
    let first = 0.95 * rms + 0.05 * square / rms / 4.0;
    assert_close(&values, &[first, 0.95 * rms, 0.95 * rms], 1e-9, "λ");
}

#[test]
fn the_authors_start_is_an_option_and_supposes_gradients_of_a_tenth() {
    let config = KlShampooConfig {
        scale: KlShampooScale::Fixed(0.1),
        rate: 1.0,
        ..KlShampooConfig::default()
    };
    let mut optimizer = KlShampoo::new(config).unwrap();
    let mut weight = Parameter::new(Tensor::zeros([1, 1], DType::F64));
    let gradient = Tensor::full([1, 1], 1e-3, DType::F64);
    feed(&mut optimizer, &mut weight, &gradient);
    let step = feed(&mut optimizer, &mut weight, &gradient);
    assert!((step[0] - 1e-3 / (0.1 + 1e-8)).abs() < 1e-12, "{step:?}");
    assert!(
        KlShampoo::new(KlShampooConfig { scale: KlShampooScale::Fixed(0.0), ..config }).is_err()
    );
}

#[test]
fn gradients_of_zeros_move_nothing_and_begin_nothing() {
    let mut optimizer = KlShampoo::new(KlShampooConfig::default()).unwrap();
    let mut weight = zeros(DType::F64);
    let none = Tensor::zeros([3, 4], DType::F64);
    for _ in 0..3 {
        assert!(feed(&mut optimizer, &mut weight, &none).iter().all(|x| *x == 0.0));
    }
    feed(&mut optimizer, &mut weight, &noise([3, 4], 1));
    let step = feed(&mut optimizer, &mut weight, &noise([3, 4], 2));
    assert!(step.iter().all(|x| x.is_finite() && x.abs() < 1e-2), "{step:?}");
}
