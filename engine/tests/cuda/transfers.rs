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
fn an_integer_beside_a_tie_is_rounded_once_there_too_and_a_large_one_fills_exactly() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let ties = [(1_i64 << 60) + (1 << 52) + 1, (1 << 60) + (1 << 36) + 1, (1 << 53) + 1, 2049];
    let x: Vec<i64> = ties.into_iter().flat_map(|x| [x, -x, x - 1, 1 - x]).collect();
    let here = Tensor::from_vec(x, [16]).unwrap();
    let there = here.to_device(GPU).unwrap();
    for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
        let (a, b) = (here.to_dtype(dtype).unwrap(), there.to_dtype(dtype).unwrap());
        alike(&a.to_f64_vec().unwrap(), &b.to_f64_vec().unwrap());
    }
    let odd = (1_i64 << 53) + 1;
    let filled = Tensor::full_on(GPU, [3], odd, DType::I64).unwrap();
    assert_eq!(filled.to_vec::<i64>().unwrap(), [odd; 3]);
}

#[test]
fn targets_that_are_no_probabilities_are_the_error_of_the_next_read() {
    let Some((_gpu, _guard)) = emulated() else { return };
    let there = |x: &[f32]| Tensor::from_slice(x, [2, 2]).unwrap().to_device(GPU).unwrap();
    let logits = there(&[0.0; 4]);
    let good = there(&[0.25, 0.75, 1.0, 0.0]);
    for loss in [logits.binary_cross_entropy(&good), logits.soft_cross_entropy(&good)] {
        assert!(loss.unwrap().item().unwrap() > 0.0);
    }
    let item = |loss: alcyon_engine::Result<Tensor>| loss.unwrap().item();
    let five = item(logits.binary_cross_entropy(&there(&[0.0, 1.0, 5.0, 0.0])));
    assert!(matches!(five, Err(Error::Target { got: 5.0, at: 2, .. })), "{five:?}");
    let nan = item(logits.soft_cross_entropy(&there(&[0.0, 1.0, f32::NAN, 0.0])));
    assert!(matches!(nan, Err(Error::Target { at: 2, .. })), "{nan:?}");
    let sum = item(logits.soft_cross_entropy(&there(&[0.0, 1.0, 0.75, 0.75])));
    assert!(matches!(sum, Err(Error::Target { got: 1.5, at: 1, .. })), "{sum:?}");
    assert!(item(logits.soft_cross_entropy(&good)).is_ok(), "it was the error of that read alone");
}

#[test]
fn infinite_and_long_inputs_give_what_the_cpu_gives() {
    let Some((_gpu, _guard)) = emulated() else { return };
    const INF: f32 = f32::INFINITY;
    let rows = [[-INF, -INF, -INF], [INF, 0.0, INF], [-INF, 0.0, 1.0], [f32::NAN, INF, 0.0]];
    let here = Tensor::from_slice(&rows.concat(), [4, 3]).unwrap();
    let there = here.to_device(GPU).unwrap();
    let close = |a: Tensor, b: Tensor| {
        let (a, b) = (a.to_f64_vec().unwrap(), b.to_f64_vec().unwrap());
        let same =
            |(a, b): (&f64, &f64)| a == b || a.is_nan() && b.is_nan() || (a - b).abs() < 1e-6;
        assert!(a.iter().zip(&b).all(same), "cpu {a:?}, device {b:?}");
    };
    close(here.softmax(-1).unwrap(), there.softmax(-1).unwrap());
    close(here.log_softmax(-1).unwrap(), there.log_softmax(-1).unwrap());
    close(here.logsumexp(-1).unwrap(), there.logsumexp(-1).unwrap());
    let labels = Tensor::from_slice(&[0_i64, 0, 1, 2], [4]).unwrap();
    for rows in [0..1_usize, 1..2, 2..3, 3..4] {
        let part = |x: &Tensor| x.narrow(0, rows.start, 1).unwrap().contiguous().unwrap();
        let there_too = part(&labels).to_device(GPU).unwrap();
        close(
            part(&here).cross_entropy(&part(&labels)).unwrap(),
            part(&there).cross_entropy(&there_too).unwrap(),
        );
    }
    let ones = Tensor::ones([70_000], DType::F16).to_device(GPU).unwrap();
    assert_eq!(ones.mean_all().unwrap().item().unwrap(), 1.0);
    let far = Tensor::from_fn([48], DType::F32, |i| 1e6 + (0.7 * i as f64).sin());
    let far_there = far.to_device(GPU).unwrap();
    close(far.variance(&[0]).unwrap(), far_there.variance(&[0]).unwrap());
    let tenth = Tensor::full([100_000], 0.1, DType::F32);
    let sums = tenth.to_device(GPU).unwrap().cumsum(0).unwrap();
    alike(&tenth.cumsum(0).unwrap().to_f64_vec().unwrap(), &sums.to_f64_vec().unwrap());
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
