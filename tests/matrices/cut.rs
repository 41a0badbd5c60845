//! Where a side is cut or keeps its diagonal: nothing is lost where what is left out is zero.

use engine::{DType, Error, Parameter, Tensor};
use optim::{
    EkfacConfig, Fisher, FoofConfig, KlShampoo, KlShampooConfig, LongSides, MkorConfig, Optimizer,
    SPlus, SPlusConfig, Shampoo, ShampooConfig, SingdConfig, SkfacConfig, Soap, SoapConfig,
    TntConfig,
};
use optim::{LayerRule, LayerStep, Layerwise};

use crate::{assert_close, feed, noise, numbers, show};

/// Sums in another order.
const ROUNDING: f64 = 1e-9;

/// What rounding leaves in a direction without curvature is divided by ε, 10⁻⁸.
const ROUNDING_OVER_EPSILON: f64 = 1e-6;

/// Noise inside of blocks of 2 along the diagonal, zero outside.
fn blocks(rows: usize, columns: usize, seed: u64) -> Tensor {
    let inside = |at: usize| f64::from(u8::from(at / columns / 2 == at % columns / 2));
    let mask = Tensor::from_fn([rows, columns], DType::F64, inside);
    noise([rows, columns], seed).mul(&mask).unwrap()
}

/// Noise on the diagonal, zero beside it.
fn diagonal(rows: usize, columns: usize, seed: u64) -> Tensor {
    let on = |at: usize| f64::from(u8::from(at / columns == at % columns));
    let mask = Tensor::from_fn([rows, columns], DType::F64, on);
    noise([rows, columns], seed).mul(&mask).unwrap()
}

/// Matrices of a shape, one for each seed.
type Stream = fn(usize, usize, u64) -> Tensor;

const CUTS: [(LongSides, Stream); 2] =
    [(LongSides::blocks(2), blocks), (LongSides::diagonal(), diagonal)];

#[test]
fn rules_of_gradients_lose_nothing_of_a_stream_that_is_as_their_sides_are_cut() {
    for (cut, stream) in CUTS {
        let of = |sides: LongSides| -> [Box<dyn Optimizer>; 4] {
            let every = 2;
            [
                Box::new(
                    Soap::new(SoapConfig { sides, basis_every: every, ..SoapConfig::default() })
                        .unwrap(),
                ),
                Box::new(
                    SPlus::new(SPlusConfig { sides, basis_every: every, ..SPlusConfig::default() })
                        .unwrap(),
                ),
                Box::new(
                    Shampoo::new(ShampooConfig {
                        sides,
                        root_every: every,
                        ..ShampooConfig::default()
                    })
                    .unwrap(),
                ),
                Box::new(
                    KlShampoo::new(KlShampooConfig {
                        sides,
                        basis_every: every,
                        ..KlShampooConfig::default()
                    })
                    .unwrap(),
                ),
            ]
        };
        for (mut whole, mut parts) in of(LongSides::whole()).into_iter().zip(of(cut)) {
            let zeros = || Parameter::new(Tensor::zeros([4, 4], DType::F64));
            let (mut one, mut other) = (zeros(), zeros());
            for seed in 0..7 {
                let g = stream(4, 4, seed);
                let (a, b) = (feed(&mut *whole, &mut one, &g), feed(&mut *parts, &mut other, &g));
                assert_close(
                    &b,
                    &a,
                    ROUNDING_OVER_EPSILON,
                    &format!("{}, {cut:?}, {seed}", whole.name()),
                );
            }
            assert!(numbers(one.value()).iter().any(|x| *x != 0.0), "{}", whole.name());
        }
    }
}

fn bare(sides: LongSides) -> LayerStep {
    let (fisher, kl_clip) = (Fisher::Empirical, None);
    LayerStep { rate: 0.1, momentum: 0.0, kl_clip, fisher, sides, ..LayerStep::default() }
}

fn alike<R: LayerRule>(rule: impl Fn(LayerStep) -> R) {
    for (cut, rows) in CUTS {
        let mut whole = Layerwise::new(rule(bare(LongSides::whole()))).unwrap();
        let mut parts = Layerwise::new(rule(bare(cut))).unwrap();
        let zeros = || Parameter::new(Tensor::zeros([4, 4], DType::F64));
        let (mut one, mut other) = (zeros(), zeros());
        for seed in 0..5 {
            let (x, d) = (rows(4, 4, seed), rows(4, 4, 100 + seed));
            let a = show(&mut whole, &mut one, &x, &d);
            let b = show(&mut parts, &mut other, &x, &d);
            assert_close(&b, &a, ROUNDING, &format!("{}, {cut:?}, {seed}", whole.name()));
        }
    }
}

#[test]
fn rules_of_layers_lose_nothing_of_rows_that_are_as_their_sides_are_cut() {
    alike(|step| EkfacConfig { step, ..EkfacConfig::default() });
    alike(|step| FoofConfig { step, ..FoofConfig::default() });
    alike(|step| SkfacConfig { step, ..SkfacConfig::default() });
    alike(|step| SingdConfig { step, ..SingdConfig::default() });
    alike(|step| SingdConfig { step, ..SingdConfig::ikfac() });
    alike(|step| TntConfig { step, ..TntConfig::default() });
}

#[test]
fn the_diagonal_of_mkor_is_the_inverse_of_the_diagonals_that_came_in() {
    let mut mkor = Layerwise::new(MkorConfig {
        step: bare(LongSides::diagonal()),
        decay: 0.5,
        bound: 1e9,
        ..MkorConfig::default()
    })
    .unwrap();
    let mut weight = Parameter::new(Tensor::zeros([3, 4], DType::F64));
    let (mut a, mut g) = (vec![1.0; 4], vec![1.0; 3]);
    for seed in 0..4 {
        let (x, d) = (noise([5, 4], seed), noise([5, 3], 50 + seed));
        show(&mut mkor, &mut weight, &x, &d);
        for (f, rows) in [(&mut a, &x), (&mut g, &d)] {
            let mean = numbers(&rows.mean(&[0]).unwrap());
            f.iter_mut().zip(mean).for_each(|(f, v)| *f = 0.5 * *f + 0.5 * v * v);
        }
    }
    for (name, f) in [("a_inverse", a), ("g_inverse", g)] {
        let inverse: Vec<f64> = f.iter().map(|f| 1.0 / f).collect();
        assert_close(mkor.kept(&weight, name).unwrap(), &inverse, ROUNDING, name);
    }
}

#[test]
fn a_state_of_other_sides_is_refused_and_one_of_the_same_goes_on() {
    let make = |sides| {
        let step = LayerStep { sides, ..bare(sides) };
        Layerwise::new(EkfacConfig { step, ..EkfacConfig::default() }).unwrap()
    };
    let (x, d) = (noise([6, 4], 1), noise([6, 4], 2));
    for sides in [LongSides::whole(), LongSides::blocks(2), LongSides::diagonal()] {
        let mut weight = Parameter::new(Tensor::zeros([4, 4], DType::F64));
        let mut optimizer = make(sides);
        show(&mut optimizer, &mut weight, &x, &d);
        let state = optimizer.state(&weight).unwrap();
        let mut resumed = make(sides);
        resumed.load_state(&weight, &state).unwrap();
        let before = numbers(weight.value());
        let went_on = show(&mut optimizer, &mut weight, &x, &d);
        *weight.value_mut() = Tensor::from_vec(before, [4, 4]).unwrap();
        assert_eq!(show(&mut resumed, &mut weight, &x, &d), went_on, "{sides:?}");
        let other =
            if sides == LongSides::diagonal() { LongSides::whole() } else { LongSides::diagonal() };
        let refused = make(other).load_state(&weight, &state);
        assert!(matches!(refused, Err(Error::Argument { name: "state", .. })), "{refused:?}");
    }
}
