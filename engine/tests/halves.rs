//! Computing in 16 bits: an op hands out the f32 result, rounded.

#![allow(clippy::unwrap_used, reason = "helpers of tests may do as tests do")]

use alcyon_engine::ops::OPS;
use alcyon_engine::{
    DType, Geometry, LayerRecord, Parameter, Rng, Sample, Tape, Tensor, Var, Window,
};

const HALVES: [DType; 2] = [DType::F16, DType::BF16];

/// From 1 to the next number.
fn ulp(dtype: DType) -> f64 {
    2_f64.powi(if dtype == DType::F16 { -10 } else { -7 })
}

/// What a sample gives in one dtype for inputs that a 16-bit dtype holds.
struct Run {
    output: Tensor,
    /// Of ⟨c, output⟩ for a fixed c, and of the product of *those* with another.
    gradients: Vec<Tensor>,
    /// Records, but for inputs.
    records: usize,
}

fn run(sample: &Sample, held_by: DType, dtype: DType) -> Run {
    let cast = |t: &Tensor| match t.dtype().is_float() {
        true => t.to_dtype(held_by).unwrap().to_dtype(dtype).unwrap(),
        false => t.clone(),
    };
    let mut rng = Rng::new(3);
    let mut direction = |v: &Var| {
        let c = Tensor::uniform(v.shape(), -1.0, 1.0, DType::F64, &mut rng);
        Var::constant(&c.to_dtype(held_by).unwrap().to_dtype(v.dtype()).unwrap())
    };
    let tape = Tape::training(0);
    let x: Vec<Var> = sample.inputs.iter().map(|t| tape.watch(cast(t))).collect();
    let inputs = tape.len();
    let y = (sample.call)(&x).unwrap();
    let records = tape.len() - inputs;
    let loss = y.mul(&direction(&y)).unwrap().sum_all().unwrap();
    let first = tape.backward(&loss).unwrap();
    let mut gradients: Vec<Tensor> = x.iter().filter_map(|x| first.of_var(x).cloned()).collect();
    for (x, g) in x.iter().filter_map(|x| Some((x, first.of_var(x)?))) {
        assert_eq!(g.dtype(), x.dtype(), "a gradient has the dtype of what it is of");
    }
    if sample.twice {
        let first = tape.backward_recorded(&loss).unwrap();
        let slopes: Vec<Var> = x
            .iter()
            .filter_map(|x| first.of_var(x))
            .map(|g| g.mul(&direction(g)).unwrap().sum_all().unwrap())
            .collect();
        for slope in slopes.iter().filter(|slope| slope.is_recorded()) {
            let second = tape.backward(slope).unwrap();
            gradients.extend(x.iter().filter_map(|x| second.of_var(x).cloned()));
        }
    }
    Run { output: y.value(), gradients, records }
}

fn bits(t: &Tensor) -> Vec<u64> {
    t.to_f64_vec().unwrap().into_iter().map(f64::to_bits).collect()
}

/// The same arithmetic on the same numbers: nothing may differ but the last rounding.
#[test]
fn every_op_hands_out_the_f32_result_rounded_bit_for_bit() {
    let mut compared = 0;
    for dtype in HALVES {
        for spec in OPS {
            for (i, sample) in (spec.samples)().iter().enumerate() {
                let narrow = run(sample, dtype, dtype);
                // Given moments are no inputs: the sample rounds them itself.
                if narrow.records == 1 && spec.name != "batch_norm_fixed" {
                    let wide = run(sample, dtype, DType::F32).output;
                    let rounded = wide.to_dtype(narrow.output.dtype()).unwrap();
                    assert_eq!(bits(&narrow.output), bits(&rounded), "{} {dtype} {i}", spec.name);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 200, "{compared}");
}

/// Each record rounds once on the way there and once on the way back, by half an ulp of a number that is
/// no larger than the largest that comes out (or 1).
#[test]
fn gradients_of_both_orders_are_near_those_of_f32() {
    for dtype in HALVES {
        for spec in OPS {
            for (i, sample) in (spec.samples)().iter().enumerate() {
                let (narrow, wide) = (run(sample, dtype, dtype), run(sample, dtype, DType::F32));
                assert_eq!(narrow.gradients.len(), wide.gradients.len());
                for (k, (a, b)) in narrow.gradients.iter().zip(&wide.gradients).enumerate() {
                    let (a, b) = (a.to_f64_vec().unwrap(), b.to_f64_vec().unwrap());
                    let largest = b.iter().fold(1.0_f64, |m, x| m.max(x.abs()));
                    let tolerance = 2.0 * (narrow.records + 1) as f64 * ulp(dtype) / 2.0 * largest;
                    for (a, b) in a.iter().zip(&b) {
                        assert!(
                            (a - b).abs() <= tolerance || a == b,
                            "{} {dtype} sample {i}, gradient {k}: {a} and {b}",
                            spec.name
                        );
                    }
                }
            }
        }
    }
}

/// A convolution, a norm and two linear layers, with the records of their layers.
fn network(held_by: DType, dtype: DType) -> (Vec<LayerRecord>, Vec<Tensor>) {
    let mut rng = Rng::new(5);
    let mut random = |shape: &[usize]| {
        let shape = alcyon_engine::Shape::new(shape).unwrap();
        let x = Tensor::normal(shape, 0.0, 0.5, DType::F64, &mut rng);
        x.to_dtype(held_by).unwrap().to_dtype(dtype).unwrap()
    };
    let x = random(&[3, 2, 4, 4]);
    let shapes: [&[usize]; 6] = [&[4, 2, 3, 3], &[4], &[16], &[16], &[5, 16], &[5]];
    let parameters = shapes.map(|shape| Parameter::new(random(shape)));
    let tape = Tape::new();
    let [kernel, bias, scale, shift, weight, last] = parameters.each_ref().map(|p| tape.bind(p));
    let geometry = Geometry { window: Window::new((3, 3)), groups: 1 };
    let h = tape.input(x).conv2d(&kernel, Some(&bias), geometry).unwrap().relu().unwrap();
    let h = h.reshape([3, 16]).unwrap().layer_norm(Some(&scale), Some(&shift), 1e-5).unwrap();
    let y = h.linear(&weight, Some(&last)).unwrap();
    let loss = y.square().unwrap().mean_all().unwrap();
    let mut records = Vec::new();
    let gradients = tape.backward_observed(&loss, &mut records).unwrap();
    (records, parameters.iter().map(|p| gradients.of(p).unwrap().clone()).collect())
}

#[test]
fn layer_records_of_sixteen_bits_are_f32_and_their_rows_give_the_weights_gradients() {
    for dtype in HALVES {
        let (records, gradients) = network(dtype, dtype);
        let (exact, _) = network(dtype, DType::F32);
        assert_eq!(records.len(), 3);
        for (record, exact) in records.iter().zip(&exact) {
            assert_eq!(
                (record.input.dtype(), record.output_grad.dtype()),
                (DType::F32, DType::F32)
            );
            // Three layers deep, each rounds what it hands on; numbers here are below 8.
            for (a, b) in [(&record.input, &exact.input), (&record.output_grad, &exact.output_grad)]
            {
                let (a, b) = (a.to_f64_vec().unwrap(), b.to_f64_vec().unwrap());
                let far = a.iter().zip(&b).any(|(a, b)| (a - b).abs() > 8.0 * 3.0 * ulp(dtype));
                assert!(!far, "{dtype}: {a:?} and {b:?}");
            }
        }
        // gᵀa of the last record that was handed out is the gradient, which was rounded once more.
        let last = records.iter().find(|r| *r.weight_shape == [5, 16]).unwrap();
        let rows = last.rows().unwrap();
        let whole = rows[0].gradient().unwrap();
        let weight = whole.narrow(1, 0, 16).unwrap().to_dtype(dtype).unwrap();
        assert_eq!(bits(&weight), bits(&gradients[4]), "{dtype}");
        assert_eq!(gradients[4].dtype(), dtype);
    }
}

#[test]
fn a_gradient_that_comes_by_two_ways_is_added_in_sixteen_bits_too() {
    for dtype in HALVES {
        let tape = Tape::new();
        let x =
            tape.watch(Tensor::from_slice(&[1.0_f32, -2.0], [2]).unwrap().to_dtype(dtype).unwrap());
        let loss = x.square().unwrap().add(&x.scale(3.0).unwrap()).unwrap().sum_all().unwrap();
        let gradients = tape.backward(&loss).unwrap();
        let got = gradients.of_var(&x).unwrap();
        assert_eq!((got.dtype(), got.to_f64_vec().unwrap()), (dtype, vec![5.0, -1.0]));
    }
}
