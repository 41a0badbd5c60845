//! PSGD beside its authors' choices: vectors, merged axes, and the fit of a long thin matrix.

use engine::{DType, Error, Parameter, Shape, Tensor};
use optim::{LongSides, Psgd, PsgdConfig, Rule};

use crate::{feed, noise};

fn words(config: &PsgdConfig, shape: &[usize]) -> String {
    let zeros = Tensor::zeros(Shape::new(shape).unwrap(), DType::F32);
    config.words(&Parameter::new(zeros))
}

#[test]
fn vectors_keep_diagonals_and_tensors_are_merged_to_the_squarest_matrix() {
    let config = PsgdConfig::default();
    for (shape, expected) in [
        (vec![], "whitened, diagonal 1"),
        (vec![7], "whitened, diagonal 7"),
        (vec![7, 3], "whitened, 7 ⊗ 3"),
        (vec![7, 1], "whitened, 7 ⊗ diagonal 1"),
        (vec![64, 32, 3, 3], "whitened, 64 ⊗ 288"),
        (vec![2, 3, 4, 5], "whitened, 6 ⊗ 20"),
        (vec![50_257, 64], "whitened, diagonal 50257 ⊗ 64"),
    ] {
        assert_eq!(words(&config, &shape), expected, "{shape:?}");
    }
    let ours = PsgdConfig { merge: false, least_axes: 1, ..config };
    assert_eq!(words(&ours, &[2, 3, 4]), "whitened, 2 ⊗ 3 ⊗ 4");
    assert_eq!(words(&ours, &[7]), "whitened, 7");
}

#[test]
fn blocks_are_refused_for_there_are_none() {
    let config = PsgdConfig { sides: LongSides::blocks(4), ..PsgdConfig::default() };
    assert!(matches!(Psgd::new(config), Err(Error::Argument { name: "sides.block", .. })));
}

#[test]
fn a_tensor_of_four_axes_steps_as_the_matrix_that_it_is_merged_to() {
    for dtype in [DType::F64, DType::F32] {
        let (mut one, mut other) = (
            Parameter::new(Tensor::zeros([2, 3, 2, 2], dtype)),
            Parameter::new(Tensor::zeros([2, 12], dtype)),
        );
        // [2 · 3, 2 · 2] is the squarest: the same numbers as [6, 4].
        let mut same = Parameter::new(Tensor::zeros([6, 4], dtype));
        let make = || Psgd::new(PsgdConfig::default()).unwrap();
        let (mut a, mut b, mut c) = (make(), make(), make());
        for seed in 0..20 {
            let g = noise([24], seed);
            let four = feed(&mut a, &mut one, &g.reshape([2, 3, 2, 2]).unwrap());
            let two = feed(&mut b, &mut same, &g.reshape([6, 4]).unwrap());
            let skew = feed(&mut c, &mut other, &g.reshape([2, 12]).unwrap());
            assert_eq!(four, two);
            assert_ne!(four, skew);
        }
    }
}
