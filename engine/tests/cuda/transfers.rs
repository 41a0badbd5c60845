//! What moves between host and device, and what is found wrong on the way.

use alcyon_engine::{DType, Device, Error, Geometry, Tape, Tensor, Window};

use crate::emulated;

const GPU: Device = Device::Cuda(0);

#[test]
fn tensors_and_views_of_every_dtype_arrive_as_they_left() {
    let Some((_gpu, _guard)) = emulated() else { return };
    for dtype in [DType::F32, DType::F64, DType::I64, DType::F16, DType::BF16] {
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

/// Every half-precision number there is, and what lies between them, at their ends and beyond.
fn awkward() -> Vec<f32> {
    let mut all =
        vec![0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 65_504.0, 65_519.9, 65_520.0];
    all.extend([1e-45, 1e-40, 5.9e-8, 2.98e-8, 2.99e-8, 3.3e38, 3.4e38, f32::MIN_POSITIVE]);
    for word in (0..=u16::MAX).step_by(97) {
        let (x, y) = (half::f16::from_bits(word).to_f32(), half::bf16::from_bits(word).to_f32());
        // The number; halfway to the next; a little beside that.
        all.extend([x, y, x * (1.0 + 2e-4), x * (1.0 - 3e-4), y * (1.0 + 3e-3), y * (1.0 - 2e-3)]);
        all.push(f32::from_bits(x.to_bits() | 1 << 12));
        all.push(f32::from_bits(y.to_bits() | 1 << 15));
    }
    all
}

fn alike(here: &[f64], there: &[f64]) {
    for (i, (a, b)) in here.iter().zip(there).enumerate() {
        let same = a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        assert!(same, "entry {i}: cpu {a:e}, device {b:e}");
    }
}

#[test]
fn casts_between_all_dtypes_are_the_cpus_bit_for_bit() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let x = Tensor::from_vec(awkward(), [awkward().len()]).unwrap();
    let all = [DType::F16, DType::BF16, DType::F32, DType::F64, DType::I64];
    for from in all {
        let here = x.to_dtype(from).unwrap();
        let there = here.to_device(GPU).unwrap();
        for to in all {
            let (a, b) = (here.to_dtype(to).unwrap(), there.to_dtype(to).unwrap());
            assert_eq!((b.device(), b.dtype()), (GPU, to));
            alike(&a.to_f64_vec().unwrap(), &b.to_f64_vec().unwrap());
        }
    }
}

#[test]
fn a_double_between_two_halves_becomes_the_nearest() {
    let Some((_gpu, _guard)) = emulated() else { return };
    // Just above the middle of two neighbours, by less than f32 can tell: one rounding goes up.
    let above = |ulp: f64| 1.0 + ulp / 2.0 + 2_f64.powi(-40);
    for (dtype, ulp) in [(DType::F16, 2_f64.powi(-10)), (DType::BF16, 2_f64.powi(-7))] {
        let there = Tensor::from_slice(&[above(ulp)], [1]).unwrap().to_device(GPU).unwrap();
        let back = there.to_dtype(dtype).unwrap().to_dtype(DType::F64).unwrap();
        assert_eq!(back.to_vec::<f64>().unwrap(), [1.0 + ulp], "{dtype}");
    }
}

#[test]
fn products_of_sixteen_bits_are_the_libraries_and_formulas_are_one_kernel_without_a_cast() {
    let Some((gpu, _guard)) = emulated() else { return };
    for dtype in [DType::F16, DType::BF16] {
        let of = |shape: [usize; 2]| {
            let x = Tensor::arange(shape[0] * shape[1], DType::F32).scale(0.125).unwrap();
            x.reshape(shape).unwrap().to_dtype(dtype).unwrap().to_device(GPU).unwrap()
        };
        let (a, b) = (of([3, 4]), of([4, 2]));
        let launched = |call: &dyn Fn() -> alcyon_engine::Result<Tensor>| {
            let before = gpu.launches();
            assert_eq!(call().unwrap().dtype(), dtype);
            gpu.launches() - before
        };
        assert_eq!(launched(&|| a.matmul(&b)), 0);
        assert_eq!(launched(&|| a.linear(&a, None)), 0);
        let bias = of([1, 3]).reshape([3]).unwrap();
        assert_eq!(launched(&|| a.linear(&a, Some(&bias))), 0);
        let (x, w) = (of([1, 12]).reshape([1, 1, 3, 4]), of([2, 9]).reshape([2, 1, 3, 3]));
        let (x, w) = (x.unwrap(), w.unwrap());
        let window = Window { padding: (1, 1), ..Window::new((3, 3)) };
        let geometry = Geometry { window, groups: 1 };
        let without_cudnn = u64::from(gpu.cudnn().is_err()); // Then patches are laid out.
        assert_eq!(launched(&|| x.conv2d(&w, None, geometry)), without_cudnn);
        assert_eq!(launched(&|| a.gelu()), 1);
        assert_eq!(launched(&|| a.add(&a)), 1);
        assert_eq!(launched(&|| a.sum(&[1])), 1);
        // Without a kernel of its own: there, softmax, and back.
        assert_eq!(launched(&|| a.softmax(1)), 3);
    }
}

#[test]
fn autocast_on_the_device_gives_the_numbers_of_the_cpu() {
    let Some((_gpu, _guard)) = emulated() else { return };
    for (dtype, ulp) in [(DType::F16, 2_f64.powi(-10)), (DType::BF16, 2_f64.powi(-7))] {
        let run = |device: Device| {
            let of = |shape: [usize; 2]| {
                let x = Tensor::from_fn(shape, DType::F32, |i| ((i * 7) % 11) as f64 / 8.0 - 0.6);
                x.to_device(device).unwrap()
            };
            let tape = Tape::new();
            let (w, x) = (tape.watch(of([5, 6])), tape.input(of([4, 6])));
            let part = || x.linear(&w, None)?.tanh()?.linear(&w.transpose(0, 1)?, None)?.add(&x);
            let y = tape.autocast(dtype, part).unwrap();
            assert_eq!(y.dtype(), DType::F32, "16 bits and f32 are added in f32");
            let gradients = tape.backward(&y.square().unwrap().sum_all().unwrap()).unwrap();
            let dw = gradients.of_var(&w).unwrap();
            assert_eq!((dw.dtype(), dw.device()), (DType::F32, device));
            [y.to_f64_vec().unwrap(), dw.to_f64_vec().unwrap()]
        };
        let (here, there) = (run(Device::Cpu), run(GPU));
        for (here, there) in here.iter().zip(&there) {
            let largest = here.iter().fold(1.0_f64, |m, x| m.max(x.abs()));
            // Each of the five 16-bit records may be rounded to neighbours.
            let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 5.0 * ulp * largest;
            assert!(here.iter().zip(there).all(near), "{dtype}: {here:?} and {there:?}");
        }
    }
}

#[test]
fn views_and_joins_of_half_precisions_are_the_cpus_bit_for_bit() {
    let Some((_gpu, _guard)) = emulated() else { return };
    for dtype in [DType::F16, DType::BF16] {
        let here = Tensor::arange(12, DType::F32).reshape([3, 4]).unwrap().to_dtype(dtype).unwrap();
        let there = here.to_device(GPU).unwrap();
        let joined = |t: &Tensor| {
            let turned = t.transpose(0, 1)?.contiguous()?.reshape([2, 6])?;
            Tensor::concat(&[&turned, &Tensor::full_on(t.device(), [1, 6], -1.5, dtype)?], 0)
        };
        let (a, b) = (joined(&here).unwrap(), joined(&there).unwrap());
        assert_eq!((b.device(), b.dtype()), (GPU, dtype));
        alike(&a.to_f64_vec().unwrap(), &b.to_f64_vec().unwrap());
    }
}
