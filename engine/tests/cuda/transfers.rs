//! What moves between host and device, and what is found wrong on the way.

use alcyon_engine::{DType, Device, Error, Tape, Tensor};

use crate::emulated;

const GPU: Device = Device::Cuda(0);

#[test]
fn tensors_and_views_of_every_dtype_arrive_as_they_left() {
    let Some((_gpu, _guard)) = emulated() else { return };
    for dtype in [DType::F32, DType::F64, DType::I64] {
        let whole = Tensor::arange(24, dtype).reshape([2, 3, 4]).unwrap();
        let view = whole.permute(&[2, 0, 1]).unwrap().narrow(0, 1, 2).unwrap();
        for t in [whole, view, Tensor::zeros([0, 3], dtype)] {
            let there = t.to_device(GPU).unwrap();
            assert_eq!((there.device(), there.shape(), there.dtype()), (GPU, t.shape(), dtype));
            let back = there.to_device(Device::Cpu).unwrap();
            assert_eq!(back.to_f64_vec().unwrap(), t.to_f64_vec().unwrap());
        }
    }
}

#[test]
fn inputs_on_two_devices_are_an_error_and_nothing_moves_by_itself() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let here = Tensor::ones([2], DType::F32);
    let there = here.to_device(GPU).unwrap();
    let answer = here.add(&there);
    assert!(matches!(answer, Err(Error::Device { op: "add", .. })), "{answer:?}");
    assert!(matches!(
        there.as_slice::<f32>(),
        Err(Error::NoKernel { op: "as_slice", device: GPU })
    ));
}

#[test]
fn a_training_step_reads_nothing_back() {
    let Some((gpu, _guard)) = emulated() else { return };
    let of = |shape: [usize; 2]| {
        Tensor::from_fn(shape, DType::F32, |i| (i % 5) as f64 - 2.0).to_device(GPU).unwrap()
    };
    let labels = Tensor::from_slice(&[0_i64, 2, 1, 2], [4]).unwrap().to_device(GPU).unwrap();
    let (x, w1, w2) = (of([4, 6]), of([5, 6]), of([3, 5]));
    let reads = gpu.reads();
    let tape = Tape::training(1);
    let [w1, w2] = [w1, w2].map(|w| tape.watch(w));
    let hidden = tape.input(x).linear(&w1, None).unwrap().relu().unwrap().dropout(0.5).unwrap();
    let loss = hidden.linear(&w2, None).unwrap().cross_entropy(&tape.input(labels)).unwrap();
    let gradients = tape.backward(&loss).unwrap();
    let step = gradients.of_var(&w1).unwrap().scale(-0.1).unwrap();
    let new = w1.value().add(&step).unwrap();
    assert_eq!(gpu.reads(), reads, "the host has waited for the device");
    assert!(new.to_f64_vec().unwrap().iter().all(|x| x.is_finite()));
    assert_eq!(gpu.reads(), reads + 1);
}

#[test]
fn an_index_out_of_range_is_the_error_of_the_next_read_and_of_that_alone() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let table = Tensor::ones([3, 2], DType::F32).to_device(GPU).unwrap();
    let indices = Tensor::from_slice(&[0_i64, 2, 3, -1], [4]).unwrap().to_device(GPU).unwrap();
    let rows = indices.embedding(&table).unwrap();
    let answer = rows.to_vec::<f32>();
    assert!(
        matches!(answer, Err(Error::Index { op: "embedding", index: 3, at: 2, bound: 3 })),
        "{answer:?}"
    );
    assert_eq!(table.to_vec::<f32>().unwrap(), [1.0; 6]);
}

#[test]
fn a_tensor_larger_than_the_device_is_an_error_that_names_the_sizes() {
    let Some((gpu, _guard)) = emulated() else { return };
    let elements = gpu.info().memory / 4 + 1;
    let answer = Tensor::full_on(GPU, [elements], 0.0, DType::F32);
    let text = answer.map(|_| ()).unwrap_err().to_string();
    assert!(
        text.contains("out of device memory") && text.contains(&(elements * 4).to_string()),
        "{text}"
    );
}
