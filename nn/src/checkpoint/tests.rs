//! Files that are whole, torn, foreign and hostile.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use engine::{DType, Error, Parameters, Rng, Tensor};

use safetensors::tensor::Dtype;

use super::*;
use crate::layer::{BatchNorm2d, Linear, Relu, Sequential};

fn model(seed: u64) -> Sequential {
    let rng = &mut Rng::new(seed);
    Sequential::new().then(Linear::new(3, 4, rng)).then(Relu).then(BatchNorm2d::new(4))
}

fn values(model: &dyn Parameters) -> Vec<(String, Vec<f64>)> {
    members(model).into_iter().map(|(path, t)| (path, t.to_f64_vec().unwrap())).collect()
}

fn extra() -> BTreeMap<String, Tensor> {
    let m = Tensor::from_slice(&[0.1_f64, f64::MIN_POSITIVE, -0.0], [3]).unwrap();
    [("0.weight/m".to_owned(), m)].into()
}

fn metadata() -> BTreeMap<String, String> {
    [("step".to_owned(), u64::MAX.to_string()), ("optimizer".to_owned(), "adam \"β\"".to_owned())]
        .into()
}

fn bytes() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c");
    save(&file, &model(0), &extra(), &metadata()).unwrap();
    fs::read(file).unwrap()
}

fn refused(model: &mut Sequential, bytes: &[u8]) -> Error {
    let before = values(model);
    let error =
        decode(Path::new("c"), bytes).and_then(|c| c.restore(model)).expect_err("should not load");
    assert_eq!(values(model), before, "a refused checkpoint changed the model");
    error
}

#[test]
fn a_model_and_its_optimizer_come_back_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.safetensors");
    save(&file, &model(0), &extra(), &metadata()).unwrap();
    let mut other = model(1);
    let checkpoint = load(&file, &mut other).unwrap();
    assert_eq!(values(&other), values(&model(0)));
    assert_eq!(checkpoint.metadata, metadata());
    let m = &checkpoint.extra["0.weight/m"];
    let bits =
        |t: &Tensor| t.to_vec::<f64>().unwrap().into_iter().map(f64::to_bits).collect::<Vec<_>>();
    assert_eq!(bits(m), bits(&extra()["0.weight/m"]));
}

#[test]
fn equal_states_give_equal_bytes_and_only_the_file_is_left_in_the_folder() {
    assert_eq!(bytes(), bytes());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c");
    for seed in 0..2 {
        save(&file, &model(seed), &extra(), &metadata()).unwrap();
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let mut other = model(5);
    load(&file, &mut other).unwrap();
    assert_eq!(values(&other), values(&model(1)));
}

#[test]
fn a_failed_save_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c");
    save(&file, &model(0), &extra(), &metadata()).unwrap();
    let twice = Sequential::new()
        .named("a", Linear::new(1, 1, &mut Rng::new(0)))
        .named("a", Linear::new(1, 1, &mut Rng::new(1)));
    let error = save(&file, &twice, &extra(), &metadata()).unwrap_err();
    assert!(matches!(error, Error::Argument { op: "checkpoint", .. }));
    load(&file, &mut model(1)).unwrap();
    let nowhere = PathBuf::from("/nowhere/at/all");
    let error = save(&nowhere, &model(0), &extra(), &metadata()).unwrap_err();
    assert!(matches!(error, Error::Io { .. }));
    assert!(matches!(Checkpoint::read(&nowhere), Err(Error::Io { .. })));
}

#[test]
fn another_model_is_told_everything_that_does_not_fit() {
    let rng = &mut Rng::new(0);
    let mut other = Sequential::new().then(Linear::new(2, 4, rng)).then(Linear::new(4, 4, rng));
    let error = refused(&mut other, &bytes());
    let Error::Checkpoint { missing, unexpected, misshapen, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(missing, ["1.weight", "1.bias"]);
    assert_eq!(unexpected, ["2.bias", "2.running_mean", "2.running_var", "2.weight"]);
    assert_eq!(misshapen, [("0.weight".to_owned(), [4, 2].into(), [4, 3].into())]);
}

#[test]
fn a_part_is_written_and_the_rest_named_but_what_does_not_fit_is_refused_still() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c");
    save(&file, &model(0), &BTreeMap::new(), &metadata()).unwrap();
    let linear = |name: &str, value| Ok(name.starts_with("0.").then(|| (name.to_owned(), value)));
    let part = Checkpoint::read(&file).unwrap().translate(linear).unwrap();
    let (mut other, untouched) = (model(1), values(&model(1)));
    let missing = part.restore_part(&mut other).unwrap();
    assert_eq!(missing, ["2.weight", "2.bias", "2.running_mean", "2.running_var"]);
    assert_eq!(values(&other)[..2], values(&model(0))[..2]);
    assert_eq!(values(&other)[2..], untouched[2..]);

    let rng = &mut Rng::new(0);
    let mut narrow = Sequential::new().then(Linear::new(2, 4, rng));
    let before = values(&narrow);
    let error = Checkpoint::read(&file).unwrap().restore_part(&mut narrow).unwrap_err();
    let Error::Checkpoint { missing, unexpected, misshapen, .. } = error else { panic!("{error}") };
    assert_eq!((missing.len(), unexpected.len(), misshapen.len()), (0, 4, 1));
    assert_eq!(values(&narrow), before);
}

#[test]
fn counters_and_tables_that_follow_from_shapes_may_be_missing_or_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c");
    let mut bare = BatchNorm2d::new(4);
    save(&file, &bare, &BTreeMap::new(), &metadata()).unwrap();
    let renamed = |from: &'static str, to: &'static str| {
        let rename = move |name: &str, value| Ok(Some((name.replace(from, to), value)));
        Checkpoint::read(&file).unwrap().translate(rename).unwrap()
    };
    renamed("num_batches_tracked", "relative_position_index").restore(&mut bare).unwrap();
    let error = renamed("num_batches_tracked", "tracked").restore(&mut bare).unwrap_err();
    let Error::Checkpoint { missing, unexpected, .. } = error else { panic!("{error}") };
    assert_eq!((missing, unexpected), (vec![], vec!["tracked".to_owned()]));
    let twice = |_: &str, value| Ok(Some(("weight".to_owned(), value)));
    let error = Checkpoint::read(&file).unwrap().translate(twice).unwrap_err();
    assert!(error.to_string().ends_with("expected a name for each tensor, got weight twice"));
}

#[test]
fn another_dtype_is_refused_where_it_stands() {
    use crate::Module;
    let mut wide = model(0).to_dtype(DType::F64).unwrap();
    let error = refused(&mut wide, &bytes());
    assert_eq!(error.to_string(), "0.weight: checkpoint: expected dtype f64, got f32");
}

#[test]
fn integers_of_any_size_are_read_and_what_tensors_cannot_hold_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c");
    let view = |dtype, shape: &[usize], bytes: &'static [u8]| {
        TensorView::new(dtype, shape.to_vec(), bytes).unwrap()
    };
    let views = [
        ("bool", view(Dtype::BOOL, &[2], &[0, 1])),
        ("u8", view(Dtype::U8, &[1], &[200])),
        ("i8", view(Dtype::I8, &[1], &[200])),
        ("i16", view(Dtype::I16, &[1], &[0, 0x80])),
        ("u16", view(Dtype::U16, &[1], &[0, 0x80])),
        ("i32", view(Dtype::I32, &[1], &[0, 0, 0, 0x80])),
        ("u32", view(Dtype::U32, &[1], &[0, 0, 0, 0x80])),
        ("u64", view(Dtype::U64, &[1], &[0, 0, 0, 0, 1, 0, 0, 0])),
        ("above", view(Dtype::U64, &[1], &[0, 0, 0, 0, 0, 0, 0, 0x80])),
        ("f8", view(Dtype::F8_E4M3, &[1], &[0])),
        ("axes", view(Dtype::U8, &[1; 9], &[7])),
        ("f32", view(Dtype::F32, &[1], &[0, 0, 0x80, 0x3f])),
    ];
    fs::write(&file, safetensors::serialize(views, None).unwrap()).unwrap();
    let read = Checkpoint::read(&file).unwrap();
    let number = |name: &str| read.model[name].to_vec::<i64>().unwrap();
    assert_eq!((number("bool"), number("u8"), number("i8")), (vec![0, 1], vec![200], vec![-56]));
    assert_eq!((number("i16"), number("u16")), (vec![-32_768], vec![32_768]));
    assert_eq!((number("i32"), number("u32")), (vec![-(1 << 31)], vec![1 << 31]));
    assert_eq!(number("u64"), [1 << 32]);
    assert_eq!(read.model["f32"].item().unwrap(), 1.0);
    let left_out: Vec<&str> = read.left_out.keys().map(String::as_str).collect();
    assert_eq!(left_out, ["above", "axes", "f8"]);
    assert_eq!(read.left_out["f8"], "F8_E4M3 [1]");
}

#[test]
fn what_no_model_can_have_does_not_stop_one_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c");
    let kept = model(0);
    let numbers = values(&kept);
    type Written = (String, Dtype, Vec<usize>, Vec<u8>);
    let mut owned: Vec<Written> = Vec::new();
    for (path, value) in members(&kept) {
        let (dtype, bytes) = to_bytes(value).unwrap();
        owned.push((path, dtype, value.shape().to_vec(), bytes));
    }
    owned.push(("steps".into(), Dtype::I32, vec![1], vec![7, 0, 0, 0]));
    owned.push(("mask".into(), Dtype::BOOL, vec![2], vec![0, 1]));
    owned.push(("scale".into(), Dtype::F8_E4M3, vec![1], vec![0]));
    let write = |owned: &[Written]| {
        let views = owned.iter().map(|(name, dtype, shape, bytes)| {
            (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        fs::write(&file, safetensors::serialize(views, None).unwrap()).unwrap();
    };
    write(&owned);
    let mut other = model(1);
    let checkpoint = load(&file, &mut other).unwrap();
    assert_eq!(values(&other), numbers);
    let told = ["mask (BOOL [2])", "steps (I32 [1])", "scale (F8_E4M3 [1])"];
    assert_eq!(checkpoint.unused(&other), told);
    assert_eq!(Checkpoint::read(&file).unwrap().restore_part(&mut other).unwrap(), [""; 0]);
    let renamed = |name: &str, value| Ok(Some((name.replace("steps", "count"), value)));
    let renamed = checkpoint.translate(renamed).unwrap();
    renamed.restore(&mut other).unwrap();
    assert_eq!(renamed.unused(&other), ["count (I32 [1])", told[0], told[2]]);
    // A float, or an integer as models have them, is what another model has.
    for (dtype, bytes) in [(Dtype::I64, vec![0; 8]), (Dtype::F32, vec![0; 4])] {
        owned.push(("more".into(), dtype, vec![1], bytes));
        write(&owned);
        let Error::Checkpoint { unexpected, .. } = load(&file, &mut other).unwrap_err() else {
            panic!()
        };
        assert_eq!(unexpected, ["more"]);
        owned.pop();
    }
}

#[test]
fn a_model_that_needs_what_was_left_out_is_told_why() {
    let f8 = TensorView::new(Dtype::F8_E4M3, vec![1], &[0]).unwrap();
    let bytes = safetensors::serialize([("0.weight", f8)], None).unwrap();
    let error = refused(&mut model(0), &bytes).to_string();
    assert!(error.contains("missing: 0.weight (in the file as F8_E4M3 [1]), 0.bias"), "{error}");
}

#[test]
fn a_model_in_half_precision_takes_half_the_bytes_and_comes_back() {
    use crate::Module;
    let dir = tempfile::tempdir().unwrap();
    for dtype in [DType::F16, DType::BF16] {
        let file = dir.path().join(dtype.to_string());
        let half = model(0).to_dtype(dtype).unwrap();
        save(&file, &half, &BTreeMap::new(), &metadata()).unwrap();
        let mut other = model(1).to_dtype(dtype).unwrap();
        load(&file, &mut other).unwrap();
        assert_eq!(values(&other), values(&half));
        let whole = dir.path().join("whole");
        save(&whole, &model(0), &BTreeMap::new(), &metadata()).unwrap();
        let length = |file| fs::metadata(file).unwrap().len();
        assert!(length(&whole) > length(&file));
        let error = load(&file, &mut model(0)).unwrap_err().to_string();
        assert_eq!(error, format!("0.weight: checkpoint: expected dtype f32, got {dtype}"));
        let back = other.to_dtype(DType::F32).unwrap();
        assert_eq!(values(&back), values(&half));
    }
}

#[test]
fn every_truncation_is_an_error_and_changes_nothing() {
    let whole = bytes();
    let mut model = model(1);
    for end in 0..whole.len() {
        assert!(matches!(refused(&mut model, &whole[..end]), Error::File { .. }), "{end}");
    }
    let longer = [whole, vec![0]].concat();
    assert!(matches!(refused(&mut model, &longer), Error::File { .. }));
}

#[test]
fn headers_that_lie_are_refused_without_allocating_what_they_say() {
    let file = |header: &str, data: &[u8]| {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
    };
    for header in [
        r#"{"w":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}"#,
        r#"{"w":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,4]}}"#,
        r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
        r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
        r#"{"__metadata__":{"alcyon":"[1]"},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        "not json",
    ] {
        let error = refused(&mut model(0), &file(header, &[0; 4]));
        assert!(matches!(error, Error::File { .. }), "{header}: {error}");
    }
    let huge = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    assert!(matches!(refused(&mut model(0), &huge), Error::File { .. }));
}
