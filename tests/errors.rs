//! What a user can get wrong with tensors is a typed error that names the op, and never a panic.

use engine::compose::Padding;
use engine::ops::OPS;
use engine::{DType, Device, Error, Result, Sample, Shape, Tape, Tensor, Var};

/// Runs a sample on other inputs than its own.
fn call(sample: &Sample, inputs: Vec<Tensor>) -> Result<Var> {
    let tape = Tape::training(0);
    let x: Vec<Var> = inputs.into_iter().map(|t| tape.watch(t)).collect();
    (sample.call)(&x)
}

fn floats(sample: &Sample) -> Vec<usize> {
    (0..sample.inputs.len()).filter(|&i| sample.inputs[i].dtype().is_float()).collect()
}

#[test]
fn one_input_of_another_dtype_is_refused_by_every_op_of_the_registry() {
    let mut checked = 0;
    for spec in OPS {
        for (n, sample) in (spec.samples)().iter().enumerate() {
            let floats = floats(sample);
            for &i in floats.iter().filter(|_| floats.len() > 1) {
                let mut inputs = sample.inputs.clone();
                inputs[i] = inputs[i].to_dtype(DType::F32).unwrap();
                let got = call(sample, inputs);
                assert!(
                    matches!(got, Err(Error::DType { .. })),
                    "{} sample {n}, input {i}: {got:?}",
                    spec.name
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 50, "{checked}");
}

#[test]
fn sixteen_bits_beside_thirty_two_are_refused_by_every_op_of_the_registry() {
    let mut refused = 0;
    for spec in OPS {
        for (n, sample) in (spec.samples)().iter().enumerate() {
            let floats = floats(sample);
            for &i in floats.iter().filter(|_| floats.len() > 1) {
                let mut inputs = sample.inputs.clone();
                for &j in &floats {
                    let dtype = if i == j { DType::F32 } else { DType::BF16 };
                    inputs[j] = inputs[j].to_dtype(dtype).unwrap();
                }
                let got = call(sample, inputs);
                let typed = matches!(&got, Err(Error::DType { .. }));
                assert!(typed, "{} sample {n}, input {i}: {got:?}", spec.name);
                refused += 1;
            }
        }
    }
    assert!(refused > 50, "{refused}");
}

#[test]
fn half_precision_is_stored_viewed_joined_and_cast() {
    let x = Tensor::from_fn([2, 3], DType::F32, |i| i as f64 - 2.0);
    for dtype in [DType::F16, DType::BF16] {
        let half = x.to_dtype(dtype).unwrap();
        let moved = half.permute(&[1, 0]).unwrap().contiguous().unwrap();
        let joined = Tensor::concat(&[&moved.narrow(0, 1, 2).unwrap(), &moved], 0).unwrap();
        let flat = joined.reshape([10]).unwrap();
        assert_eq!((flat.dtype(), flat.bytes()), (dtype, 20));
        let expected = [-1.0, 2.0, 0.0, 3.0, -2.0, 1.0, -1.0, 2.0, 0.0, 3.0];
        assert_eq!(flat.to_f64_vec().unwrap(), expected);
        assert_eq!(flat.to_dtype(DType::F32).unwrap().to_f64_vec().unwrap(), expected);
        assert_eq!(Tensor::full([2], 0.5, dtype).to_f64_vec().unwrap(), [0.5; 2]);
        assert!(matches!(half.to_vec::<f32>(), Err(Error::DType { op: "to_vec", .. })));
        assert!(matches!(half.greater(&x), Err(Error::DType { op: "greater", .. })));
    }
}

#[test]
fn indices_in_place_of_numbers_and_numbers_in_place_of_indices_are_refused() {
    let (x, i) = (numbers([2, 3].into()), indices([2].into()));
    let mistakes = [
        ("add", i.add(&i)),
        ("exp", i.exp()),
        ("sum", i.sum(&[0])),
        ("max", i.max(0)),
        ("argmax", i.argmax(0)),
        ("softmax", i.softmax(0)),
        ("greater", x.greater(&i)),
        ("select", x.select(&x, &x)),
        ("select", i.select(&i, &i)),
        ("gather", x.gather(0, &x)),
        ("scatter_add", x.scatter_add(0, &x, 4)),
        ("cross_entropy", x.cross_entropy(&x)),
        ("cross_entropy", i.cross_entropy(&i)),
        ("cumsum", i.cumsum(0)),
        ("argsort", i.argsort(0, true)),
        ("take_along", x.take_along(0, &x)),
        ("select", x.masked_fill(&x, 0.0)),
        (
            "attention",
            Tensor::full([1, 2], 0.0, DType::I64).attention(&x, &x, Default::default(), 1.0),
        ),
    ];
    for (name, got) in mistakes {
        assert!(matches!(&got, Err(Error::DType { op, .. }) if *op == name), "{name}: {got:?}");
    }
}

#[test]
fn one_input_on_another_device_is_refused_by_every_op_of_the_registry() {
    let mut checked = 0;
    for spec in OPS {
        for (n, sample) in (spec.samples)().iter().enumerate() {
            for i in (0..sample.inputs.len()).filter(|_| sample.inputs.len() > 1) {
                let mut inputs = sample.inputs.clone();
                inputs[i] = Tensor::meta(inputs[i].shape(), inputs[i].dtype());
                let got = call(sample, inputs);
                assert!(
                    matches!(got, Err(Error::Device { .. })),
                    "{} sample {n}, input {i}: {got:?}",
                    spec.name
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 50, "{checked}");
}

fn numbers(shape: Shape) -> Tensor {
    engine::op::sample_input(shape)
}

fn indices(shape: Shape) -> Tensor {
    Tensor::zeros(shape, DType::I64)
}

/// Calls whose shapes do not fit, each with the op that has to say so.
fn misshapen(
    x: impl Fn(&[usize]) -> Tensor,
    i: impl Fn(&[usize]) -> Tensor,
) -> Vec<(&'static str, Result<Tensor>)> {
    let (a, b) = (x(&[2, 3]), x(&[4]));
    vec![
        // broadcasting
        ("add", a.add(&b)),
        ("sub", a.sub(&b)),
        ("mul", a.mul(&b)),
        ("div", a.div(&b)),
        ("maximum", a.maximum(&b)),
        ("minimum", a.minimum(&b)),
        ("greater", a.greater(&b)),
        ("less", a.less(&b)),
        ("equal", a.equal(&b)),
        ("select", i(&[2, 3]).select(&a, &b)),
        ("select", i(&[4]).select(&a, &a)),
        ("broadcast_to", a.broadcast_to([3, 2])),
        ("broadcast_to", a.broadcast_to([3])),
        ("sum_to", a.sum_to(&Shape::from([3, 2]))),
        // reductions
        ("max", x(&[2, 0]).max(1)),
        ("max", x(&[2, 0]).min(-1)),
        ("argmax", x(&[0]).argmax(0)),
        ("max", x(&[2, 0]).logsumexp(1)),
        ("cross_entropy", a.cross_entropy(&i(&[3]))),
        ("cross_entropy", a.cross_entropy(&i(&[2, 1]))),
        ("cross_entropy", x(&[]).cross_entropy(&i(&[]))),
        ("cross_entropy", x(&[0, 3]).cross_entropy(&i(&[0]))),
        // products and layers
        ("matmul", a.matmul(&a)),
        ("matmul", a.matmul(&x(&[3]))),
        ("matmul", x(&[2, 2, 3]).matmul(&x(&[3, 3, 2]))),
        ("linear", a.linear(&x(&[4, 2]), None)),
        ("linear", a.linear(&x(&[3]), None)),
        ("linear", a.linear(&x(&[4, 3]), Some(&x(&[3])))),
        ("linear", x(&[]).linear(&x(&[4, 3]), None)),
        // views and indices
        ("reshape", a.reshape([4])),
        ("narrow", a.narrow(1, 2, 2)),
        ("narrow", a.narrow(0, usize::MAX, 2)),
        ("concat", Tensor::concat(&[&a, &x(&[2, 2])], 0)),
        ("concat", Tensor::concat(&[&a, &x(&[2])], 0)),
        ("concat", Tensor::concat(&[], 0)),
        ("stack", Tensor::stack(&[&a, &b], 0)),
        ("stack", Tensor::stack(&[], 0)),
        ("gather", a.gather(0, &i(&[1, 1]))),
        ("scatter_add", a.scatter_add(0, &i(&[3]), 5)),
        ("scatter_add", a.scatter_add(0, &i(&[2, 1]), 5)),
    ]
}

#[test]
fn shapes_that_do_not_fit_are_refused_in_the_name_of_the_op() {
    let at = |dims: &[usize]| Shape::new(dims).unwrap();
    for (name, got) in misshapen(|d| numbers(at(d)), |d| indices(at(d))) {
        assert!(matches!(&got, Err(Error::Shape { op, .. }) if *op == name), "{name}: {got:?}");
    }
}

#[test]
fn a_dry_run_without_numbers_finds_the_same_mistakes() {
    let at = |dtype| move |dims: &[usize]| Tensor::meta(Shape::new(dims).unwrap(), dtype);
    for (name, got) in misshapen(at(DType::F32), at(DType::I64)) {
        assert!(matches!(&got, Err(Error::Shape { op, .. }) if *op == name), "{name}: {got:?}");
    }
}

/// Ops that take plain tensors beside their inputs: their samples hold numbers, which cannot run
/// dry.
const HOLD_NUMBERS: [&str; 1] = ["batch_norm_fixed"];

#[test]
fn a_dry_run_gives_the_shape_and_dtype_of_every_sample_of_every_op() {
    for spec in OPS.iter().filter(|spec| !HOLD_NUMBERS.contains(&spec.name)) {
        for (n, sample) in (spec.samples)().iter().enumerate() {
            let want = call(sample, sample.inputs.clone()).unwrap();
            let dry = sample.inputs.iter().map(|t| Tensor::meta(t.shape(), t.dtype())).collect();
            let got = call(sample, dry).unwrap_or_else(|e| panic!("{} sample {n}: {e}", spec.name));
            assert_eq!(got.device(), Device::Meta, "{} sample {n}", spec.name);
            assert_eq!((got.shape(), got.dtype()), (want.shape(), want.dtype()), "{}", spec.name);
        }
    }
}

#[test]
fn an_axis_that_is_not_there_is_refused_in_the_name_of_the_op() {
    let (x, i) = (numbers([2, 3].into()), indices([2].into()));
    for axis in [2, -3, isize::MAX, isize::MIN] {
        let mistakes = [
            ("sum", x.sum(&[axis])),
            ("max", x.max(axis)),
            ("max", x.min_keep(axis)),
            ("argmax", x.argmax(axis)),
            ("softmax", x.softmax(axis)),
            ("log_softmax", x.log_softmax(axis)),
            ("logsumexp", x.logsumexp(axis)),
            ("narrow", x.narrow(axis, 0, 1)),
            ("transpose", x.transpose(0, axis)),
            ("permute", x.permute(&[axis, 0])),
            ("flatten", x.flatten(axis)),
            ("concat", Tensor::concat(&[&x, &x], axis)),
            ("gather", x.gather(axis, &i)),
            ("scatter_add", x.scatter_add(axis, &i, 3)),
            ("split", x.split(&[1, 1], axis).map(|_| x.clone())),
            ("chunk", x.chunk(1, axis).map(|_| x.clone())),
            ("cumsum", x.cumsum(axis)),
            ("argsort", x.argsort(axis, false)),
            ("take_along", x.take_along(axis, &i)),
            ("topk", x.topk(1, axis).map(|(values, _)| values)),
            ("roll", x.roll(&[1], &[axis])),
            ("flip", x.flip(&[axis])),
            ("pad", x.pad(axis, 1, 1, Padding::Constant(0.0))),
        ];
        for (name, got) in mistakes {
            let found = matches!(&got, Err(Error::Axis { op, axis: a, rank: 2 }) if *op == name && *a == axis);
            assert!(found, "{name}, axis {axis}: {got:?}");
        }
    }
}

#[test]
fn an_index_out_of_range_is_refused_and_said_where_it_stands() {
    let x = numbers([2, 3].into());
    for wrong in [3, -1, i64::MAX, i64::MIN] {
        let index = Tensor::from_slice(&[0, wrong], [2]).unwrap();
        let columns = x.transpose(0, 1).unwrap();
        let mistakes = [
            ("gather", 3, x.gather(1, &index)),
            ("scatter_add", 3, x.scatter_add(0, &index, 3)),
            ("cross_entropy", 3, x.cross_entropy(&index)),
            ("gather", 3, columns.gather(0, &index)),
        ];
        for (name, size, got) in mistakes {
            let found = matches!(
                &got,
                Err(Error::Index { op, index, at: 1, bound })
                    if *op == name && *index == wrong && *bound == size
            );
            assert!(found, "{name}, index {wrong}: {got:?}");
        }
    }
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let x = numbers([2, 3].into());
    let one = |parts: Result<Vec<Tensor>>| parts.map(|_| x.clone());
    let mistakes = [
        ("sum", "axes", x.sum(&[0, -2])),
        ("clamp", "low, high", x.clamp(1.0, -1.0)),
        ("dropout", "p", x.dropout(1.0)),
        ("leaky_relu", "slope", x.leaky_relu(f64::NAN)),
        ("elu", "alpha", x.elu(f64::INFINITY)),
        ("attention", "scale", x.attention(&x, &x, Default::default(), f64::NAN)),
        ("rms_norm", "eps", x.rms_norm(None, -1.0)),
        ("group_norm", "groups", x.group_norm(2, None, None, 0.0)),
        ("topk", "k", x.topk(4, 1).map(|(values, _)| values)),
        ("roll", "shifts", x.roll(&[], &[0])),
        ("pad", "before, after", x.pad(0, 2, 0, Padding::Reflect)),
        ("einsum", "spec", Tensor::einsum("ii", &[&x])),
        ("split", "sizes", one(x.split(&[1, 3], 0))),
        ("chunk", "count", one(x.chunk(2, 1))),
    ];
    for (name, option, got) in mistakes {
        let found =
            matches!(&got, Err(Error::Argument { op, name: n, .. }) if *op == name && *n == option);
        assert!(found, "{name}: {got:?}");
    }
}

#[test]
fn a_message_says_the_op_what_it_expects_and_what_came() {
    let got = numbers([2, 3].into()).add(&numbers([4].into())).unwrap_err();
    assert_eq!(got.to_string(), "add: expected two shapes that broadcast, got [2, 3] and [4]");
    let located = got.in_layer("query").in_layer("encoder").to_string();
    assert!(located.starts_with("encoder.query: add: "), "{located}");
}

#[test]
fn a_gradient_is_asked_of_a_recorded_scalar_on_its_own_tape_or_refused() {
    let (tape, other) = (Tape::new(), Tape::new());
    let x = tape.watch(numbers([2].into()));
    assert!(matches!(tape.backward(&x), Err(Error::Shape { op: "backward", .. })));
    let loss = x.sum_all().unwrap();
    assert!(matches!(other.backward(&loss), Err(Error::TapeMismatch { .. })));
    assert!(matches!(tape.backward(&loss.detach()), Err(Error::NotRecorded { .. })));
    assert!(matches!(Tape::off().backward(&loss), Err(Error::NotRecorded { .. })));
    let elsewhere = other.watch(numbers([2].into()));
    assert!(matches!(x.add(&elsewhere), Err(Error::TapeMismatch { op: "add" })));
    drop(tape);
    assert!(matches!(x.exp(), Err(Error::TapeGone)));
}
