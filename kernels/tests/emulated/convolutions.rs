//! Every rung of the convolutions, in every type, against the definition in f64.

use alcyon_kernels::conv::{Conv2d, reference};
use alcyon_kernels::cuda::conv::{self, cudnn, direct, unfolded};
use alcyon_kernels::cuda::memory::Buffer;
use alcyon_kernels::cuda::{CudaError, Gpu, Scalar, Slice, SliceMut};
use alcyon_kernels::unfold::Window;
use cudarc::cudnn::{result, sys};
use half::{bf16, f16};

use crate::{device, read};

const FLOATS: [Scalar; 4] = [Scalar::F32, Scalar::F64, Scalar::F16, Scalar::BF16];

/// Small multiples of ¼, which all types hold: products and their sums are exact in f32.
fn numbers(n: usize, seed: usize) -> Vec<f64> {
    (0..n).map(|i| ((i * 7 + seed * 5) % 11) as f64 / 4.0 - 1.25).collect()
}

fn rounded(scalar: Scalar, x: f64) -> f64 {
    match scalar {
        Scalar::F16 => f16::from_f32(x as f32).to_f64(),
        Scalar::BF16 => bf16::from_f32(x as f32).to_f64(),
        _ => x,
    }
}

fn write(gpu: &Gpu, scalar: Scalar, x: &[f64]) -> Buffer {
    match scalar {
        Scalar::F32 => gpu.write(&x.iter().map(|&x| x as f32).collect::<Vec<_>>()),
        Scalar::F16 => gpu.write(&x.iter().map(|&x| f16::from_f32(x as f32)).collect::<Vec<_>>()),
        Scalar::BF16 => gpu.write(&x.iter().map(|&x| bf16::from_f32(x as f32)).collect::<Vec<_>>()),
        _ => gpu.write(x),
    }
    .unwrap()
}

fn values(gpu: &Gpu, scalar: Scalar, buffer: &Buffer, n: usize) -> Vec<f64> {
    match scalar {
        Scalar::F32 => read::<f32>(gpu, buffer, n).into_iter().map(f64::from).collect(),
        Scalar::F16 => read::<f16>(gpu, buffer, n).into_iter().map(f16::to_f64).collect(),
        Scalar::BF16 => read::<bf16>(gpu, buffer, n).into_iter().map(bf16::to_f64).collect(),
        _ => read::<f64>(gpu, buffer, n),
    }
}

/// A convolution, its arrays, and its three maps by the definition.
struct Case {
    conv: Conv2d,
    x: Vec<f64>,
    w: Vec<f64>,
    g: Vec<f64>,
    /// For outputs, and for channels of the input.
    bias: [Vec<f64>; 2],
    wanted: [Vec<f64>; 3],
}

impl Case {
    fn new(batch: usize, groups: usize, channels: [usize; 2], window: Window) -> Self {
        let [c, o] = channels;
        let conv = Conv2d::new(batch, groups, c, o, (6, 5), window).unwrap();
        let x = numbers(batch * c * 30, 1);
        let w = numbers(o * conv.patch(), 2);
        let g = numbers(batch * o * conv.positions(), 3);
        let bias = [numbers(o, 4), numbers(c, 5)];
        let mut wanted = [g.clone(), x.clone(), w.clone()];
        reference::forward(&conv, &x, &w, Some(&bias[0]), &mut wanted[0]);
        reference::backward_input(&conv, &g, &w, &mut wanted[1]);
        for (plane, dx) in wanted[1].chunks_mut(30).enumerate() {
            dx.iter_mut().for_each(|dx| *dx += bias[1][plane % c]);
        }
        reference::backward_weight(&conv, &x, &g, &mut wanted[2]);
        Self { conv, x, w, g, bias, wanted }
    }

    /// Compares the maps that a rung says it has computed; which they are.
    fn check(&self, gpu: &Gpu, scalar: Scalar, rung: Rung) -> [bool; 3] {
        let put = |x: &[f64]| write(gpu, scalar, x);
        let on = [&self.x, &self.w, &self.g, &self.bias[0], &self.bias[1]].map(|x| put(x));
        let of = |i: usize, n| Slice::new(&on[i], scalar, 0, n);
        let (conv, lengths) = (&self.conv, [&self.x, &self.w, &self.g].map(Vec::len));
        let (x, w, g) = (of(0, lengths[0]), of(1, lengths[1]), of(2, lengths[2]));
        let (b, c) = (Some(of(3, conv.out_channels)), Some(of(4, conv.in_channels)));
        let mut outs = [self.g.len(), self.x.len(), self.w.len()]
            .map(|n| gpu.memory().allocate(n * scalar.bytes()).unwrap());
        let [y, dx, dw] = outs.each_mut();
        let y = SliceMut::new(y, scalar, self.g.len());
        let dx = SliceMut::new(dx, scalar, self.x.len());
        let dw = SliceMut::new(dw, scalar, self.w.len());
        let yes = |done: Result<(), CudaError>| done.map(|()| true);
        let done = match rung {
            Rung::Direct => [
                yes(direct::forward(gpu, conv, x, w, b, &y)),
                yes(direct::backward_input(gpu, conv, g, w, c, &dx)),
                yes(direct::backward_weight(gpu, conv, x, g, &dw)),
            ],
            Rung::Unfolded(bytes) => [
                yes(unfolded::forward(gpu, conv, bytes, x, w, b, &y)),
                yes(unfolded::backward_input(gpu, conv, bytes, g, w, c, &dx)),
                yes(unfolded::backward_weight(gpu, conv, bytes, x, g, &dw)),
            ],
            Rung::Cudnn => [
                cudnn::forward(gpu, conv, x, w, b, &y),
                cudnn::backward_input(gpu, conv, g, w, c, &dx),
                cudnn::backward_weight(gpu, conv, x, g, &dw),
            ],
            Rung::Chosen => [
                yes(conv::forward(gpu, conv, x, w, b, &y)),
                yes(conv::backward_input(gpu, conv, g, w, c, &dx)),
                yes(conv::backward_weight(gpu, conv, x, g, &dw)),
            ],
        }
        .map(|done| done.unwrap());
        for ((out, wanted), done) in outs.iter().zip(&self.wanted).zip(done) {
            let wanted: Vec<f64> = wanted.iter().map(|&x| rounded(scalar, x)).collect();
            let got = values(gpu, scalar, out, wanted.len());
            assert!(!done || got == wanted, "{rung:?} {scalar:?} {conv:?}:\n{got:?}\n{wanted:?}");
        }
        done
    }
}

#[derive(Debug, Clone, Copy)]
enum Rung {
    Direct,
    /// With so many bytes for patches.
    Unfolded(usize),
    Cudnn,
    Chosen,
}

/// Pointwise, plain, strided, dilated, padded; in groups; depthwise, with a multiplier, too.
fn cases() -> Vec<Case> {
    let plain = Window::new((3, 2));
    let padded = Window { padding: (1, 2), ..Window::new((3, 3)) };
    let strided = Window { stride: (2, 1), ..padded };
    let dilated = Window { dilation: (1, 2), padding: (0, 2), ..plain };
    let both = Window { stride: (2, 3), dilation: (2, 1), padding: (2, 1), kernel: (2, 3) };
    let pointwise = Window::new((1, 1));
    let skipping = Window { stride: (2, 2), ..pointwise };
    [(1, [3, 4], plain), (1, [2, 3], padded), (1, [4, 2], strided), (1, [3, 2], dilated)]
        .into_iter()
        .chain([(1, [2, 5], both), (1, [3, 2], pointwise), (2, [4, 6], pointwise)])
        .chain([(1, [3, 2], skipping), (2, [4, 6], padded), (3, [6, 24], both), (2, [4, 4], plain)])
        .chain([(3, [3, 3], padded), (2, [2, 4], strided)])
        .map(|(groups, channels, window)| Case::new(3, groups, channels, window))
        .collect()
}

/// All types through the choice of rungs, whatever there is to choose from.
pub(crate) fn check_chosen(gpu: &Gpu) {
    for case in cases() {
        for scalar in FLOATS {
            case.check(gpu, scalar, Rung::Chosen);
        }
    }
}

#[test]
fn the_choice_of_rungs_gives_the_definitions_numbers_rounded_once() {
    let Some((gpu, _guard)) = device() else { return };
    check_chosen(&gpu);
}

#[test]
fn the_definition_is_computed_by_the_direct_kernels_even_where_sizes_are_0() {
    let Some((gpu, _guard)) = device() else { return };
    let window = Window::new((2, 2));
    let mut all = cases();
    all.extend([Case::new(0, 1, [2, 3], window), Case::new(2, 1, [0, 3], window)]);
    all.push(Case::new(2, 1, [2, 0], window));
    for case in &all {
        for scalar in FLOATS {
            if case.conv.batch * case.conv.in_channels * case.conv.out_channels > 0 {
                case.check(&gpu, scalar, Rung::Direct);
            } else {
                case.check(&gpu, scalar, Rung::Chosen);
            }
        }
    }
}

#[test]
fn products_of_patches_give_the_same_however_many_images_are_unfolded_at_a_time() {
    let Some((gpu, _guard)) = device() else { return };
    for case in cases() {
        let one = case.conv.groups * case.conv.patch() * case.conv.positions();
        for scalar in FLOATS {
            // One image at a time, though it does not fit; two, and one that is left over; all.
            for bytes in [1, 2 * one * scalar.bytes(), conv::WORKSPACE] {
                case.check(&gpu, scalar, Rung::Unfolded(bytes));
            }
        }
    }
}

#[test]
fn cudnn_takes_most_shapes_and_what_it_refuses_is_asked_about_once() {
    let Some((gpu, _guard)) = device() else { return };
    assert_eq!(gpu.cudnn(), Ok(91_000), "the stand-in");
    let cases = cases();
    let run = || -> Vec<[bool; 3]> {
        let all = cases.iter().flat_map(|case| FLOATS.map(|scalar| (case, scalar)));
        all.map(|(case, scalar)| case.check(&gpu, scalar, Rung::Cudnn)).collect()
    };
    let first = run();
    let done = |map: usize| first.iter().filter(|done| done[map]).count();
    assert!(done(0) >= 28 && done(1) == done(0), "{first:?}");
    assert!(0 < done(2) && done(2) < done(0), "some dW are without a deterministic algorithm");
    let (plans, refused) = gpu.cudnn_plans();
    assert!(refused >= 3 * first.len() - done(0) - done(1) - done(2));
    assert_eq!(run(), first, "what was refused is refused");
    assert_eq!(gpu.cudnn_plans(), (plans, refused), "a plan is looked for once");
}

#[test]
fn a_bias_costs_one_launch_and_patches_none_where_cudnn_computes() {
    let Some((gpu, _guard)) = device() else { return };
    let case = Case::new(2, 1, [2, 3], Window { padding: (1, 1), ..Window::new((3, 3)) });
    case.check(&gpu, Scalar::F32, Rung::Cudnn);
    let before = gpu.launches();
    case.check(&gpu, Scalar::F32, Rung::Chosen);
    assert_eq!(gpu.launches() - before, 2, "a bias for y, one for dx");
    case.check(&gpu, Scalar::F32, Rung::Unfolded(conv::WORKSPACE));
    // Two biases of which one is the folding's, patches twice, folding, g in another order.
    assert_eq!(gpu.launches() - before - 2, 5);
}

#[test]
fn a_captured_convolution_computes_from_what_lies_there_at_its_launch() {
    let Some((gpu, _guard)) = device() else { return };
    let window = Window { padding: (1, 1), ..Window::new((3, 3)) };
    let conv = Conv2d::new(2, 1, 1, 2, (3, 3), window).unwrap();
    let [x, other, w, b] = [(18, 1), (18, 2), (18, 3), (2, 4)].map(|(n, seed)| numbers(n, seed));
    let [x, other, w, b] = [x, other, w, b].map(|x| write(&gpu, Scalar::F32, &x));
    fn of(buffer: &Buffer, n: usize) -> Slice<'_> {
        Slice::new(buffer, Scalar::F32, 0, n)
    }
    for rung in [Rung::Cudnn, Rung::Unfolded(1)] {
        let work = |x: &Buffer| {
            let mut y = gpu.memory().allocate(36 * 4)?;
            let (x, w, b) = (of(x, 18), of(&w, 18), Some(of(&b, 2)));
            let out = SliceMut::new(&mut y, Scalar::F32, 36);
            match rung {
                Rung::Cudnn => assert!(cudnn::forward(&gpu, &conv, x, w, b, &out)?),
                _ => unfolded::forward(&gpu, &conv, 1, x, w, b, &out)?,
            }
            Ok::<_, CudaError>(y)
        };
        let wanted = [&x, &other].map(|x| read::<f32>(&gpu, &work(x).unwrap(), 36));
        assert_ne!(wanted[0], wanted[1]);
        let mut place = write(&gpu, Scalar::F32, &[f64::NAN; 18]);
        let (y, graph) = gpu.capture(|| work(&place)).unwrap();
        for (x, wanted) in [&x, &other].into_iter().zip(&wanted) {
            gpu.refill_from(&SliceMut::new(&mut place, Scalar::F32, 18), of(x, 18)).unwrap();
            graph.launch().unwrap();
            assert_eq!(&read::<f32>(&gpu, &y, 36), wanted, "{rung:?}");
        }
    }
}

/// y = 1 · x for one channel, by a window of 1 × 3 of which the middle counts.
fn through(gpu: &Gpu, rung: Rung, x: &[f32]) -> Vec<f32> {
    let window = Window { padding: (0, 1), ..Window::new((1, 3)) };
    let conv = Conv2d::new(1, 1, 1, 1, (1, x.len()), window).unwrap();
    let (on_x, w) = (gpu.write(x).unwrap(), gpu.write(&[0.0_f32, 1.0, 0.0]).unwrap());
    let mut y = gpu.memory().allocate(x.len() * 4).unwrap();
    let out = SliceMut::new(&mut y, Scalar::F32, x.len());
    let (x, w) = (Slice::new(&on_x, Scalar::F32, 0, x.len()), Slice::new(&w, Scalar::F32, 0, 3));
    let done = match rung {
        Rung::Cudnn => cudnn::forward(gpu, &conv, x, w, None, &out),
        _ => unfolded::forward(gpu, &conv, conv::WORKSPACE, x, w, None, &out).map(|()| true),
    };
    assert_eq!(done, Ok(true));
    read(gpu, &y, x.len())
}

#[test]
fn tf32_rounds_a_convolutions_operands_when_it_is_switched_on_and_only_then() {
    let Some((gpu, _guard)) = device() else { return };
    let (fine, finer) = (1.0 + 2_f32.powi(-10), 1.0 + 2_f32.powi(-12));
    for rung in [Rung::Cudnn, Rung::Unfolded(0)] {
        assert_eq!(through(&gpu, rung, &[fine, finer]), [fine, finer]);
        gpu.allow_tf32(true);
        let rounded = through(&gpu, rung, &[fine, finer]);
        gpu.allow_tf32(false);
        assert_eq!(rounded, [fine, 1.0]);
        assert_eq!(through(&gpu, rung, &[fine, finer]), [fine, finer]);
    }
}

#[test]
fn an_array_that_vectors_cannot_load_is_not_cudnns() {
    let Some((gpu, _guard)) = device() else { return };
    let conv = Conv2d::new(1, 1, 1, 1, (2, 2), Window::new((2, 2))).unwrap();
    let [x, w] = [5, 4].map(|n| gpu.write(&vec![1.0_f32; n]).unwrap());
    let w = Slice::new(&w, Scalar::F32, 0, 4);
    let mut y = gpu.memory().allocate(4).unwrap();
    let y = SliceMut::new(&mut y, Scalar::F32, 1);
    let from =
        |start| cudnn::forward(&gpu, &conv, Slice::new(&x, Scalar::F32, start, 4), w, None, &y);
    assert_eq!((from(0), from(1)), (Ok(true), Ok(false)));
}

/// What cuDNN answers to y = x ⋆ W of one channel, the arrays as long as `shapes` say, described as `x`, `w` and
/// `y`, with a stride down.
fn raw(
    gpu: &Gpu,
    [x, w, y]: [[i32; 4]; 3],
    stride: i32,
    floats: [usize; 3],
) -> Option<&'static str> {
    use sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW as PLANES;
    let float = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;
    let room = gpu.memory().allocate(512).unwrap();
    let arrays = floats.map(|n| gpu.write(&vec![1.0_f32; n]).unwrap());
    let [px, pw, py] = [0, 1, 2].map(|i: usize| arrays[i].pointer() as *mut std::ffi::c_void);
    let algorithm =
        sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
    let (one, zero) = (1.0_f32, 0.0_f32);
    // SAFETY: descriptors, handle and arrays live until the end of the call, which the stand-in has then done.
    let answer = unsafe {
        let handle = result::create_handle().unwrap();
        let [dx, dy] = [(); 2].map(|()| result::create_tensor_descriptor().unwrap());
        let (dw, window) = (
            result::create_filter_descriptor().unwrap(),
            result::create_convolution_descriptor().unwrap(),
        );
        result::set_tensor4d_descriptor(dx, PLANES, float, x).unwrap();
        result::set_tensor4d_descriptor(dy, PLANES, float, y).unwrap();
        result::set_filter4d_descriptor(dw, float, PLANES, w).unwrap();
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        result::set_convolution2d_descriptor(window, 0, 0, stride, 1, 1, 1, mode, float).unwrap();
        result::convolution_forward(
            handle,
            (&raw const one).cast(),
            dx,
            px,
            dw,
            pw,
            window,
            algorithm,
            room.pointer() as *mut std::ffi::c_void,
            512,
            (&raw const zero).cast(),
            dy,
            py,
        )
    };
    answer.err().map(|error| match error.0 {
        sys::cudnnStatus_t::CUDNN_STATUS_BAD_PARAM => "bad",
        _ => "other",
    })
}

#[test]
fn the_stand_in_notices_wrong_strides_wrong_sizes_and_arrays_that_are_too_short() {
    let Some((gpu, _guard)) = device() else { return };
    gpu.memory().set_caching(false).unwrap();
    let (x, w, y) = ([1, 1, 4, 4], [1, 1, 2, 2], [1, 1, 3, 3]);
    assert_eq!(raw(&gpu, [x, w, y], 1, [16, 4, 9]), None, "the call is right");
    assert_eq!(raw(&gpu, [x, w, y], 2, [16, 4, 9]), Some("bad"), "a stride that y does not have");
    assert_eq!(raw(&gpu, [x, w, [1, 1, 2, 3]], 2, [16, 4, 6]), None, "that stride, and its y");
    assert_eq!(raw(&gpu, [x, [1, 2, 2, 1], y], 1, [16, 4, 9]), Some("bad"), "another weight");
    assert_eq!(
        raw(&gpu, [[1, 1, 4, 5], w, [1, 1, 3, 4]], 1, [16, 4, 12]),
        Some("bad"),
        "x ends early"
    );
    assert_eq!(raw(&gpu, [x, w, y], 1, [16, 4, 8]), Some("bad"), "y ends early");
    gpu.memory().set_caching(true).unwrap();
}
