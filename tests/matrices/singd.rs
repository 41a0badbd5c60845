//! SINGD and IKFAC: the pace of K and C, and momentum.

use engine::{DType, Parameter, Tensor};
use optim::{Fisher, LayerStep, Layerwise, LongSides, Optimizer, SingdConfig, build};

use crate::{assert_close, noise, show};

fn looking(config: SingdConfig) -> Layerwise<SingdConfig> {
    let (fisher, kl_clip) = (Fisher::Empirical, None);
    let step = LayerStep { rate: 0.0, learn_every: 1, kl_clip, fisher, ..config.step };
    Layerwise::new(SingdConfig { step, ..config }).unwrap()
}

/// The largest entry of K after some looks at inputs and output gradients that say almost nothing.
fn grown(config: SingdConfig, width: usize, looks: usize) -> f64 {
    let mut optimizer = looking(config);
    let mut weight = Parameter::new(Tensor::zeros([width, width], DType::F64));
    let small = Tensor::full([1, width], 1e-6, DType::F64);
    for _ in 0..looks {
        show(&mut optimizer, &mut weight, &small, &small);
    }
    optimizer.kept(&weight, "k").unwrap().iter().fold(0.0_f64, |m, x| m.max(x.abs()))
}

#[test]
fn adaptation_is_as_fast_at_a_width_of_256_as_at_16() {
    for config in [SingdConfig::default(), SingdConfig::ikfac()] {
        let (narrow, wide) = (grown(config, 16, 60), grown(config, 256, 60));
        assert!((narrow - wide).abs() < 1e-6 * narrow, "{narrow} and {wide}");
        // The force is −½: K grows by β/2 a look, once the momentum is there.
        let expected = (1.0 + config.root_rate / 2.0_f64).powi(60);
        assert!((narrow / expected - 1.0).abs() < 0.02, "{narrow}, not {expected}");
    }
}

#[test]
fn a_first_look_at_large_inputs_turns_no_entry_of_k_by_more_than_the_rate() {
    let config = SingdConfig::default();
    let mut optimizer = looking(config);
    let mut weight = Parameter::new(Tensor::zeros([4, 4], DType::F64));
    let large = noise([8, 4], 1).scale(1e3).unwrap();
    show(&mut optimizer, &mut weight, &large, &large);
    for name in ["k", "c"] {
        let kept = optimizer.kept(&weight, name).unwrap();
        let moved = |(at, x): (usize, &f64)| (x - f64::from(u8::from(at % 5 == 0))).abs();
        let largest = kept.iter().enumerate().map(moved).fold(0.0, f64::max);
        assert!((largest - config.root_rate).abs() < 1e-12, "{name}: {largest}");
    }
}

#[test]
fn ikfac_by_name_has_no_momentum_of_its_roots_and_coverage_says_who_has() {
    let run = |optimizer: &mut dyn Optimizer| {
        let mut weight = Parameter::new(noise([3, 4], 9));
        for seed in 0..25 {
            show(optimizer, &mut weight, &noise([6, 4], seed), &noise([6, 3], 40 + seed));
        }
        (weight.value().to_f64_vec().unwrap(), optimizer.coverage(&weight).lines[0].rule.clone())
    };
    let by_name = run(&mut *build("ikfac", None).unwrap());
    let without = SingdConfig { untied: true, root_momentum: 0.0, ..SingdConfig::default() };
    assert_eq!(by_name, run(&mut Layerwise::new(without).unwrap()));
    let with = SingdConfig { root_momentum: 0.9, ..without };
    let other = run(&mut Layerwise::new(with).unwrap());
    assert_ne!(by_name.0, other.0);
    assert!(other.1.contains("with momentum") && !by_name.1.contains("momentum"), "{other:?}");
}

#[test]
fn blocks_and_diagonals_come_to_the_inverse_roots_of_their_part_of_the_moments() {
    let (x, d) = (noise([30, 4], 1), noise([30, 4], 2));
    let moment = x.transpose(0, 1).unwrap().matmul(&x).unwrap().scale(1.0 / 30.0).unwrap();
    let moment = moment.to_f64_vec().unwrap();
    let config = SingdConfig { damping: 0.1, root_rate: 0.2, ..SingdConfig::ikfac() };
    for (sides, size) in [(LongSides::blocks(2), 2), (LongSides::diagonal(), 1)] {
        let step = LayerStep { sides, ..config.step };
        let mut optimizer = looking(SingdConfig { step, ..config });
        let mut weight = Parameter::new(Tensor::zeros([4, 4], DType::F64));
        for _ in 0..400 {
            show(&mut optimizer, &mut weight, &x, &d);
        }
        let kept = optimizer.kept(&weight, "k").unwrap();
        assert_eq!(kept.len(), 4 * size);
        for (block, k) in kept.chunks(size * size).enumerate() {
            let at = |i: usize, j: usize| (block * size + i) * 4 + block * size + j;
            let damped: Vec<f64> = (0..size * size)
                .map(|e| {
                    moment[at(e / size, e % size)] + if e / size == e % size { 0.1 } else { 0.0 }
                })
                .collect();
            let inverse = kernels::linalg::cholesky_inverse(&damped, size).unwrap();
            let product: Vec<f64> = (0..size * size)
                .map(|e| (0..size).map(|l| k[e / size * size + l] * k[e % size * size + l]).sum())
                .collect();
            assert_close(&product, &inverse, 1e-9, &format!("block {block} of {sides:?}"));
        }
    }
}
