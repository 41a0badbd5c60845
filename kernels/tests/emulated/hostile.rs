//! Operands that do not go together, products of sizes that wrap, formulas that are more than formulas: each is a
//! typed error, nothing is launched, and the device goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};

use alcyon_kernels::attention::Attention;
use alcyon_kernels::conv::Conv2d;
use alcyon_kernels::cuda::elementwise::{self, Formulas};
use alcyon_kernels::cuda::gemm::{self, Matrices, Results};
use alcyon_kernels::cuda::memory::Buffer;
use alcyon_kernels::cuda::pairs::{self, Formula};
use alcyon_kernels::cuda::pooling::{self, Pool};
use alcyon_kernels::cuda::step::{self, Curvature, Moving};
use alcyon_kernels::cuda::{
    CudaError, Gpu, Scalar, Slice, SliceMut, affine, along, attention, cast, cholesky, conv,
    dropout, group_norm, index, inner, interpolate, newton_schulz, norm, patches, reduce, running,
    second_moment, softmax, sort, strided,
};
use alcyon_kernels::group_norm::Groups;
use alcyon_kernels::interpolate::Sampling;
use alcyon_kernels::step::{AdaFisher, Sgd};
use alcyon_kernels::unfold::Window;

use crate::{device, read};

/// HALF · HALF wraps to 0.
const HALF: usize = 1 << 32;
/// 2 · WRAP wraps to 2.
const WRAP: usize = (1 << 63) + 1;

const ALL: [Scalar; 5] = Scalar::ALL;

fn of(buffer: &Buffer, scalar: Scalar, n: usize) -> Slice<'_> {
    Slice::new(buffer, scalar, 0, n)
}

/// Calls `queue` with operands of every type for each of some places, one of them unlike what is right there.
fn refuses_other_types<const N: usize>(
    gpu: &Gpu,
    right: [Scalar; N],
    queue: impl Fn([Slice<'_>; N], &SliceMut<'_>) -> Result<(), CudaError>,
) {
    let buffers = [(); N].map(|()| gpu.write(&[1_i64, 0]).unwrap());
    let mut out = gpu.write(&[0_i64; 8]).unwrap();
    let mut call = |types: [Scalar; N], to: Scalar| {
        let slices = std::array::from_fn(|i| of(&buffers[i], types[i], 2));
        queue(slices, &SliceMut::new(&mut out, to, 2))
    };
    for wrong in ALL {
        for place in 0..N {
            let mut types = right;
            types[place] = wrong;
            if types != right {
                let got = call(types, right[0]);
                let typed =
                    matches!(got, Err(CudaError::Arguments { .. } | CudaError::Scalar { .. }));
                assert!(typed, "operand {place} as {wrong:?}: {got:?}");
            }
        }
    }
}

#[test]
fn slices_beyond_their_buffer_are_refused_however_large_the_sizes() {
    let Some((gpu, _guard)) = device() else { return };
    let mut buffer = gpu.write(&[1.0_f32; 8]).unwrap();
    for (start, len) in [(0, 9), (0, 1 << 62), (1 << 62, 0), (usize::MAX, 1), (usize::MAX - 3, 4)] {
        for scalar in ALL {
            let new = || Slice::new(&buffer, scalar, start, len.max(1)).len();
            let past = start.saturating_add(len.max(1)).saturating_mul(scalar.bytes()) > 32;
            assert_eq!(catch_unwind(AssertUnwindSafe(new)).is_err(), past);
        }
        let part = || of(&buffer, Scalar::F32, 8).part(start, len.max(1)).len();
        assert!(catch_unwind(AssertUnwindSafe(part)).is_err(), "{start}, {len}");
    }
    for len in [9, 1 << 62, usize::MAX] {
        let new = || SliceMut::new(&mut buffer, Scalar::F32, len).len();
        assert!(catch_unwind(AssertUnwindSafe(new)).is_err(), "{len}");
    }
    for offset in [1, 33, usize::MAX, usize::MAX - 31] {
        let got = gpu.read(&buffer, offset, &mut [0.0_f32; 8]);
        assert!(matches!(got, Err(CudaError::Range { have: 32, .. })), "{got:?}");
    }
    for bytes in [usize::MAX, usize::MAX - (1 << 21), 1 << 62] {
        let got = gpu.memory().allocate(bytes).map(drop);
        assert!(matches!(got, Err(CudaError::OutOfMemory { wanted, .. }) if wanted == bytes));
    }
    let got = gpu.memory().numbers(Scalar::F64, &[HALF, HALF]).map(drop);
    assert!(matches!(got, Err(CudaError::OutOfMemory { .. })), "{got:?}");
    let got = gpu.refill(&SliceMut::new(&mut buffer, Scalar::F32, 8), &[2.0_f32; 9]);
    assert!(matches!(got, Err(CudaError::Length { got: 36, .. })), "{got:?}");
    assert_eq!(read::<f32>(&gpu, &buffer, 8), [1.0; 8]);
}

#[test]
fn operands_of_other_types_are_refused_before_they_are_read() {
    let Some((gpu, _guard)) = device() else { return };
    let f = Scalar::F32;
    let formulas = Formulas { name: "f", formulas: ["x", "y", "x"], constants: [0.0; 2] };
    refuses_other_types(&gpu, [f], |[x], y| elementwise::forward(&gpu, &formulas, x, y));
    refuses_other_types(&gpu, [f; 3], |all, y| elementwise::derivative(&gpu, &formulas, 1, all, y));
    let sum = Formula("sum", "a + b");
    let copied = |x: Slice<'_>, y: &SliceMut<'_>| strided::copy(&gpu, &[2], &[1], x, y);
    refuses_other_types(&gpu, [f], |[x], y| copied(x, y));
    refuses_other_types(&gpu, [f; 2], |[a, b], y| {
        // The type of a is the formula's, and y may be of another.
        copied(a, y).and_then(|()| pairs::alike(&gpu, sum, a, b, y))
    });
    refuses_other_types(&gpu, [f; 2], |[a, b], y| {
        copied(a, y)?;
        pairs::broadcast(&gpu, sum, &[2], (a, &[1]), (b, &[0]), y)
    });
    refuses_other_types(&gpu, [f, Scalar::I64], |[x, at], y| {
        index::gather(&gpu, x, (1, 2, 1), at, y)
    });
    refuses_other_types(&gpu, [f, Scalar::I64], |[x, at], y| {
        index::scatter_add(&gpu, x, (1, 2, 1), at, y)
    });
    refuses_other_types(&gpu, [f, Scalar::I64], |[x, at], y| {
        along::take(&gpu, x, (1, 2, 1), at, y)
    });
    refuses_other_types(&gpu, [f, Scalar::I64], |[x, at], y| along::add(&gpu, x, (1, 2, 1), at, y));
    refuses_other_types(&gpu, [f], |[x], y| along::running(&gpu, x, (1, 2, 1), false, y));
    refuses_other_types(&gpu, [f, Scalar::I64], |[g, at], dx| {
        pooling::scatter(&gpu, (1, 2, 2), g, at, dx)
    });
    refuses_other_types(&gpu, [f, Scalar::I64], |[x, at], y| pooling::pick(&gpu, (2, 2), x, at, y));
    let pool = Pool { planes: 1, input: (1, 2), output: (1, 2), window: None };
    refuses_other_types(&gpu, [f], |[x], y| pooling::avg(&gpu, &pool, true, x, y));
    refuses_other_types(&gpu, [f], |[x], y| pooling::avg_backward(&gpu, &pool, true, x, y));
    refuses_other_types(&gpu, [f], |[x], y| softmax::forward(&gpu, false, 2, x, y));
    refuses_other_types(&gpu, [f; 2], |[y, g], dx| softmax::backward(&gpu, true, 2, y, g, dx));
    let linear = Sampling::Linear;
    refuses_other_types(&gpu, [f], |[x], y| {
        interpolate::forward(&gpu, linear, [(1, 2), (1, 2)], x, y)
    });
    refuses_other_types(&gpu, [f], |[x], y| second_moment::column_squares(&gpu, x, y));
    refuses_other_types(&gpu, [f; 2], |[x, g], y| {
        norm::rms_norm_input(&gpu, 1, [x, g, x], None, y)
    });
    refuses_other_types(&gpu, [f, Scalar::I64, f], |[a, c, b], y| {
        strided::choose(&gpu, c, a, b, y)
    });
    refuses_other_types(&gpu, [f; 2], |[x, w], y| {
        affine::affine(&gpu, [1, 1, 2], x.part(0, 1), w, w, y)
    });
    refuses_other_types(&gpu, [f; 2], |[a, b], c| {
        copied(a, c)?;
        gemm::gemm(&gpu, 1, 1.0, Matrices::new(a, 2, 1), Matrices::new(b.part(0, 1), 1, 1), 0.0, c)
    });
    let window = Window::new((1, 1));
    let conv = Conv2d::new(1, 1, 1, 1, (1, 2), window).unwrap();
    refuses_other_types(&gpu, [f; 2], |[x, w], y| {
        conv::forward(&gpu, &conv, x, w.part(0, 1), None, y)
    });
    refuses_other_types(&gpu, [f; 2], |[x, b], y| {
        conv::direct::backward_input(&gpu, &conv, x, x.part(0, 1), Some(b.part(0, 1)), y)
    });
    refuses_other_types(&gpu, [f], |[x], y| patches::patches(&gpu, &conv, x, y));
    refuses_other_types(&gpu, [f; 2], |[g, s], theta| {
        let mut state = gpu.write(&[0.0_f32; 2])?;
        let state = SliceMut::new(&mut state, f, 2);
        let p = Moving { theta, grad: g, state: vec![&state], step: 1, verdict: None };
        step::adafisher(&gpu, &[p], &[Curvature::Product(s, s)], &RULE)
    });
    let sizes =
        Attention { heads: 1, queries: 2, keys: 2, width: 1, values: 1, causal: false, scale: 1.0 };
    refuses_other_types(&gpu, [f; 3], |inputs, y| {
        let mut sums = gpu.write(&[0.0_f32; 2])?;
        attention::forward(&gpu, &sizes, inputs, y, &SliceMut::new(&mut sums, f, 2))
    });
    let mut total = gpu.write(&[0.0_f64]).unwrap();
    let pair = gpu.write(&[1_i64, 1]).unwrap();
    let (a, b) = (of(&pair, f, 2), of(&pair, Scalar::F64, 2));
    let got = inner::inner(&gpu, &[(a, b)], &SliceMut::new(&mut total, Scalar::F64, 1));
    assert!(matches!(got, Err(CudaError::Scalar { .. })), "{got:?}");
    let got = running::look(&gpu, a, &SliceMut::new(&mut total, Scalar::F64, 1));
    assert!(matches!(got, Err(CudaError::Arguments { .. })), "{got:?}");
    assert_eq!(read::<i64>(&gpu, &pair, 2), [1; 2]);
}

const RULE: AdaFisher = AdaFisher {
    rate: 1.0,
    beta: 0.5,
    damping: 1.0,
    coupled_decay: 0.0,
    decoupled_decay: 0.0,
    step: 1,
    root: false,
};

#[test]
fn lengths_whose_sizes_wrap_are_refused_before_anything_is_queued() {
    let Some((gpu, _guard)) = device() else { return };
    let (x, mut y, mut z) = {
        let two = || gpu.write(&[1.0_f32; 2]).unwrap();
        (two(), two(), two())
    };
    let at = gpu.write(&[0_i64; 2]).unwrap();
    let (x, at) = (of(&x, Scalar::F32, 2), of(&at, Scalar::I64, 2));
    let (y, z) = (SliceMut::new(&mut y, Scalar::F32, 2), SliceMut::new(&mut z, Scalar::F32, 2));
    let none = x.part(0, 0);
    let launches = gpu.launches();
    let window = Window::new((1, 1));
    let far =
        Window { kernel: (HALF, HALF), stride: (HALF, HALF), padding: (HALF, HALF), ..window };
    let conv = Conv2d::new(WRAP, 1, 2, 2, (1, 1), window).unwrap();
    let pool = Pool { planes: WRAP, input: (1, 2), output: (1, 2), window: None };
    let taps = Pool { planes: 1, input: (1, 2), output: (2, 1), window: Some(far) };
    let groups = Groups { n: 1, c: 2, s: WRAP, groups: 1 };
    let heads = Attention {
        heads: WRAP,
        queries: 2,
        keys: 2,
        width: 1,
        values: 1,
        causal: false,
        scale: 1.0,
    };
    let one = Matrices { row: 0, column: 1, batch: 0, ..Matrices::new(x, HALF, 1) };
    let column = Matrices { row: 1, column: 0, batch: 0, ..Matrices::new(x, 1, HALF) };
    let huge = Results { data: &y, start: usize::MAX, batch: 2 };
    let (a, b) = (Matrices::new(x, 2, 1), Matrices::new(x.part(0, 1), 1, 1));
    let sgd = Sgd {
        rate: 1.0,
        momentum: 0.0,
        dampening: 0.0,
        weight_decay: 0.0,
        nesterov: false,
        first: true,
    };
    let short = || Moving { theta: &y, grad: none, state: Vec::new(), step: 1, verdict: None };
    let window_of = |stride| Pool {
        planes: 2,
        input: (1, 1),
        output: (1, 1),
        window: Some(Window { stride, ..window }),
    };
    let got: Vec<(&str, Result<(), CudaError>)> = vec![
        ("copy", strided::copy(&gpu, &[2, WRAP], &[0, 0], x, &y)),
        ("copy past", strided::copy(&gpu, &[2], &[usize::MAX], x, &y)),
        ("copy of seven axes", strided::copy(&gpu, &[1, 1, 1, 1, 1, 1, 2], &[1; 7], x, &y)),
        ("copy of fewer strides", strided::copy(&gpu, &[2], &[], x, &y)),
        ("lay", strided::lay(&gpu, 1, WRAP, usize::MAX, x, &y)),
        ("lay of none", strided::lay(&gpu, 0, 1, 0, x, &y)),
        (
            "broadcast",
            pairs::broadcast(
                &gpu,
                Formula("sum", "a + b"),
                &[2, WRAP],
                (x, &[0, 0]),
                (x, &[0, 0]),
                &y,
            ),
        ),
        ("sum", reduce::sum(&gpu, x, (1, 2, WRAP), 1.0, &y)),
        ("max", reduce::max(&gpu, x, (2, WRAP, 1), false, &y, &z)),
        ("gather", index::gather(&gpu, x, (1, 2, WRAP), at, &y)),
        ("scatter", index::scatter_add(&gpu, x, (1, 2, WRAP), at, &y)),
        ("take", along::take(&gpu, x, (2, WRAP, 1), at, &y)),
        ("take of none", along::take(&gpu, none, (HALF, 0, HALF), at, &y)),
        ("running", along::running(&gpu, x, (2, WRAP, 1), false, &y)),
        ("argsort", sort::argsort(&gpu, x, (2, WRAP, 1), false, &y)),
        ("softmax", softmax::forward(&gpu, false, 0, x, &y)),
        ("softmax of a part", softmax::forward(&gpu, false, 3, x, &y)),
        ("cross-entropy", softmax::cross_entropy(&gpu, WRAP, x, at, &y, &z)),
        ("layer norm", norm::layer_norm(&gpu, WRAP, 0.0, x, [None; 2], &y, [&z, &z])),
        ("rms norm", norm::rms_norm(&gpu, WRAP, 0.0, x, None, &y, &z)),
        ("batch norm", norm::batch_moments(&gpu, (1, 2, WRAP), 0.0, x, [&y, &z, &z])),
        ("group norm", group_norm::forward(&gpu, &groups, 0.0, x, [None; 2], &y, [&z, &z])),
        (
            "no groups",
            group_norm::forward(
                &gpu,
                &Groups { groups: 0, s: 1, ..groups },
                0.0,
                x,
                [None; 2],
                &y,
                [&z, &z],
            ),
        ),
        ("dropout", dropout::dropout(&gpu, 0.5, [0; 2], none, &y, &z)),
        ("cast", cast::cast(&gpu, none, &y)),
        ("cholesky", cholesky::inverse_factor(&gpu, HALF, &y)),
        ("newton schulz", newton_schulz::newton_schulz(&gpu, &y, (2, WRAP), [1.0; 3], 1)),
        (
            "interpolate",
            interpolate::forward(&gpu, Sampling::Nearest, [(HALF, HALF), (1, 1)], none, &y),
        ),
        ("channel squares", second_moment::channel_squares(&gpu, (WRAP, 2, 1), x, &y)),
        ("column squares", second_moment::column_squares(&gpu, x.part(0, 1), &y)),
        ("affine", affine::affine(&gpu, [WRAP, 1, 2], x, x, x, &y)),
        ("gemm", gemm::gemm(&gpu, 1, 1.0, one, column, 0.0, &y)),
        ("gemm into", gemm::gemm_into(&gpu, 1, 1.0, a, b, 0.0, huge)),
        (
            "gemm of a batch",
            gemm::gemm(
                &gpu,
                WRAP,
                1.0,
                Matrices { batch: 0, ..a },
                Matrices { batch: 0, ..b },
                0.0,
                &y,
            ),
        ),
        ("attention", attention::forward(&gpu, &heads, [x; 3], &y, &z)),
        ("pooling", pooling::avg(&gpu, &pool, true, x, &y)),
        ("pooling of far taps", pooling::avg(&gpu, &taps, true, x, &y)),
        (
            "pooling of a stride",
            pooling::avg_backward(&gpu, &window_of((usize::MAX, 1)), true, x, &y),
        ),
        ("pooling scatter", pooling::scatter(&gpu, (2, 1, WRAP), x, at, &y)),
        ("pooling pick", pooling::pick(&gpu, (WRAP, 1), x, at, &y)),
        ("conv", conv::forward(&gpu, &conv, x, x, None, &y)),
        ("conv direct", conv::direct::forward(&gpu, &conv, x, x, None, &y)),
        ("conv unfolded", conv::unfolded::forward(&gpu, &conv, 1, x, x, None, &y)),
        ("conv cudnn", conv::cudnn::forward(&gpu, &conv, x, x, None, &y).map(drop)),
        ("patches", patches::patches(&gpu, &conv, x, &y)),
        ("patch squares", second_moment::patch_squares(&gpu, &conv, x, &y)),
        ("sgd", step::sgd(&gpu, &[short()], &sgd)),
        ("adafisher", step::adafisher(&gpu, &[short()], &[], &RULE)),
    ];
    for (name, got) in got {
        let typed = matches!(
            got,
            Err(CudaError::Length { .. }
                | CudaError::View { .. }
                | CudaError::Sizes { .. }
                | CudaError::Scalar { .. })
        );
        assert!(typed, "{name}: {got:?}");
    }
    assert_eq!(gpu.launches(), launches, "nothing has been queued");
    // On the rungs on which no size may be 0.
    let empty = Conv2d::new(0, 1, 2, 1, (1, 1), window).unwrap();
    for got in [
        conv::unfolded::forward(
            &gpu,
            &empty,
            1,
            none,
            x,
            None,
            &SliceMut::new(&mut gpu.write(&[0.0_f32]).unwrap(), Scalar::F32, 0),
        ),
        conv::cudnn::forward(
            &gpu,
            &empty,
            none,
            x,
            None,
            &SliceMut::new(&mut gpu.write(&[0.0_f32]).unwrap(), Scalar::F32, 0),
        )
        .map(drop),
    ] {
        assert!(matches!(got, Err(CudaError::Sizes { .. })), "{got:?}");
    }
}

#[test]
fn a_formula_that_is_more_than_an_expression_is_refused_and_never_compiled() {
    let Some((gpu, _guard)) = device() else { return };
    let (x, mut y) = (gpu.write(&[1.0_f32; 2]).unwrap(), gpu.write(&[5.0_f32; 2]).unwrap());
    let y = SliceMut::new(&mut y, Scalar::F32, 2);
    for text in [
        "*(int*)0 = 1",
        "xs[1 << 20]",
        "((T*)xs)[i + 1000000]",
        "x, ys[-64] = T(1), x",
        "x) ; } extern \"C\" __global__ void other(long long n) {",
        "shim->barrier(1), x",
        "1 / 0",
        "x\n#include \"/etc/passwd\"\n",
    ] {
        let formulas = Formulas { name: "f", formulas: [text, "", ""], constants: [0.0; 2] };
        let got = elementwise::forward(&gpu, &formulas, of(&x, Scalar::F32, 2), &y);
        assert!(matches!(got, Err(CudaError::Formula { .. })), "{text}: {got:?}");
        let x = of(&x, Scalar::F32, 2);
        let got = pairs::alike(&gpu, Formula("f", text), x, x, &y);
        assert!(matches!(got, Err(CudaError::Formula { .. })), "{text}: {got:?}");
    }
    let mut values = [0.0_f32; 2];
    strided::copy(&gpu, &[2], &[1], of(&x, Scalar::F32, 2), &y).unwrap();
    gpu.read(&x, 0, &mut values).unwrap();
    assert_eq!(values, [1.0; 2]);
}

#[test]
fn a_place_outside_of_its_plane_is_none() {
    let Some((gpu, _guard)) = device() else { return };
    let (x, mut y) = (gpu.write(&[3.0_f32, 4.0]).unwrap(), gpu.write(&[0.0_f32; 2]).unwrap());
    let at = gpu.write(&[1_i64 << 20, 1]).unwrap();
    let (x, at) = (of(&x, Scalar::F32, 2), of(&at, Scalar::I64, 2));
    let out = SliceMut::new(&mut y, Scalar::F32, 2);
    pooling::scatter(&gpu, (1, 2, 2), x, at, &out).unwrap();
    pooling::pick(
        &gpu,
        (2, 2),
        out.read(),
        at,
        &SliceMut::new(&mut gpu.write(&[0.0_f32; 2]).unwrap(), Scalar::F32, 2),
    )
    .unwrap();
    assert_eq!(read::<f32>(&gpu, &y, 2), [0.0, 4.0]);
}
