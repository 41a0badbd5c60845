//! Products: of matrices, of images with filters, of queries with keys.

use std::rc::Rc;

use alcyon::kernels::attention::{self, Attention};
use alcyon::kernels::conv::{self, Conv2d, reference, unfolded, winograd};
use alcyon::kernels::cuda::conv::{WORKSPACE, cudnn, direct, unfolded as patches};
use alcyon::kernels::cuda::{CudaError, Gpu, SliceMut};
use alcyon::kernels::gemm::{self, Matrix};
use alcyon::kernels::unfold::Window;
use alcyon::kernels::{Float, cuda};
use alcyon::prelude::*;

use crate::case::{At, Case, There, numbers};

pub(crate) fn gemm<T: Float>(at: &At<'_>) -> Result<Case> {
    let &[m, k, n] = at.shape else { return Ok(Case::new::<T>(0, 0)) };
    let (a, b) = (numbers::<T>(m * k, 0), numbers::<T>(k * n, 1));
    let there = [There::new(at, &a)?, There::new(at, &b)?];
    let mut case = Case::new::<T>(2 * m * k * n, m * k + k * n + m * n);
    type Rung<T> = for<'a, 'b> fn(T, Matrix<'a, T>, Matrix<'b, T>, T, &mut [T]);
    let rungs: [(&str, Rung<T>); 5] = [
        ("reference", gemm::reference::gemm),
        ("blocked", gemm::blocked::gemm),
        ("packed", gemm::packed::gemm),
        ("sequential", gemm::sequential),
        ("library", gemm::gemm),
    ];
    for (name, rung) in rungs {
        let (a, b) = (a.clone(), b.clone());
        case = case.cpu(name, m * n, move |c| {
            rung(T::ONE, Matrix::new(&a, m, k), Matrix::new(&b, k, n), T::ZERO, c);
        });
    }
    case.cuda::<T>(at, m * n, move |gpu, c| {
        let a = cuda::gemm::Matrices::new(there[0].slice(), m, k);
        let b = cuda::gemm::Matrices::new(there[1].slice(), k, n);
        cuda::gemm::gemm(gpu, 1, 1.0, a, b, 0.0, c)
    })
}

/// A layer of 3 × 3 filters: its sizes, and a convolution's usual three arrays.
struct Layer<T> {
    conv: Conv2d,
    x: Vec<T>,
    w: Vec<T>,
    g: Vec<T>,
}

/// Images of some channels with a window of 3 × 3 and padding 1.
pub(super) fn layer(at: &At<'_>) -> Result<Conv2d> {
    let window = Window { padding: (1, 1), ..Window::new((3, 3)) };
    let conv = match at.shape {
        &[n, c, o, h, w] => Conv2d::new(n, 1, c, o, (h, w), window),
        _ => None,
    };
    let (op, name, expected) = ("kernel_bench", "--shape", "images that the window fits in");
    conv.ok_or_else(|| Error::Argument { op, name, expected, got: format!("{:?}", at.shape) })
}

impl<T: Float> Layer<T> {
    fn new(at: &At<'_>) -> Result<Self> {
        let conv = layer(at)?;
        let x = numbers(conv.batch * conv.in_channels * conv.input.0 * conv.input.1, 0);
        let g = numbers(conv.batch * conv.out_channels * conv.positions(), 1);
        let w = numbers(conv.out_channels * conv.patch(), 2);
        Ok(Self { conv, x, w, g })
    }

    fn case(&self) -> Case {
        let moved = self.x.len() + self.w.len() + self.g.len();
        Case::new::<T>(2 * self.g.len() * self.conv.patch(), moved)
    }
}

/// How a device computes a convolution.
#[derive(Debug, Clone, Copy)]
enum Way {
    Direct,
    Patches,
    Cudnn,
    Chosen,
}

/// A rung for each way of the device's, but for those that it has not for this shape.
fn on_device<T: Float>(
    mut case: Case,
    at: &At<'_>,
    n: usize,
    by: impl Fn(&Gpu, Way, &SliceMut<'_>) -> Result<bool, CudaError> + 'static,
) -> Result<Case> {
    let Some(gpu) = at.gpu else { return Ok(case) };
    let by = Rc::new(by);
    let ways = [
        ("direct", Way::Direct),
        ("patches", Way::Patches),
        ("cudnn", Way::Cudnn),
        ("cuda", Way::Chosen),
    ];
    for (name, way) in ways {
        if by(gpu, way, &There::<T>::room(at, n)?.slice_mut())? {
            let by = Rc::clone(&by);
            case = case.cuda_rung::<T>(name, at, n, move |gpu, out| by(gpu, way, out).map(drop))?;
        }
    }
    Ok(case)
}

pub(crate) fn conv_output<T: Float>(at: &At<'_>) -> Result<Case> {
    let layer = Layer::<T>::new(at)?;
    let (conv, n) = (layer.conv, layer.g.len());
    type Rung<T> = fn(&Conv2d, &[T], &[T], Option<&[T]>, &mut [T]);
    let rungs: [(&str, Rung<T>); 4] = [
        ("reference", reference::forward),
        ("unfolded", unfolded::forward),
        ("winograd", winograd::forward),
        ("chosen", conv::forward),
    ];
    let mut case = layer.case();
    for (name, rung) in rungs {
        let (x, w) = (layer.x.clone(), layer.w.clone());
        case = case.cpu(name, n, move |y| rung(&conv, &x, &w, None, y));
    }
    let there = [There::new(at, &layer.x)?, There::new(at, &layer.w)?];
    on_device::<T>(case, at, n, move |gpu, way, y| {
        let (x, w) = (there[0].slice(), there[1].slice());
        match way {
            Way::Direct => direct::forward(gpu, &conv, x, w, None, y)?,
            Way::Patches => patches::forward(gpu, &conv, WORKSPACE, x, w, None, y)?,
            Way::Cudnn => return cudnn::forward(gpu, &conv, x, w, None, y),
            Way::Chosen => cuda::conv::forward(gpu, &conv, x, w, None, y)?,
        }
        Ok(true)
    })
}

/// A rung of one of the two gradients.
type Backward<T> = fn(&Conv2d, &[T], &[T], &mut [T]);

pub(crate) fn conv_input_gradient<T: Float>(at: &At<'_>) -> Result<Case> {
    let layer = Layer::<T>::new(at)?;
    let (conv, n) = (layer.conv, layer.x.len());
    let rungs: [(&str, Backward<T>); 4] = [
        ("reference", reference::backward_input),
        ("unfolded", unfolded::backward_input),
        ("winograd", winograd::backward_input),
        ("chosen", conv::backward_input),
    ];
    let mut case = layer.case();
    for (name, rung) in rungs {
        let (g, w) = (layer.g.clone(), layer.w.clone());
        case = case.cpu(name, n, move |dx| rung(&conv, &g, &w, dx));
    }
    let there = [There::new(at, &layer.g)?, There::new(at, &layer.w)?];
    on_device::<T>(case, at, n, move |gpu, way, dx| {
        let (g, w) = (there[0].slice(), there[1].slice());
        match way {
            Way::Direct => direct::backward_input(gpu, &conv, g, w, None, dx)?,
            Way::Patches => patches::backward_input(gpu, &conv, WORKSPACE, g, w, None, dx)?,
            Way::Cudnn => return cudnn::backward_input(gpu, &conv, g, w, None, dx),
            Way::Chosen => cuda::conv::backward_input(gpu, &conv, g, w, None, dx)?,
        }
        Ok(true)
    })
}

pub(crate) fn conv_weight_gradient<T: Float>(at: &At<'_>) -> Result<Case> {
    let layer = Layer::<T>::new(at)?;
    let (conv, n) = (layer.conv, layer.w.len());
    let rungs: [(&str, Backward<T>); 4] = [
        ("reference", reference::backward_weight),
        ("unfolded", unfolded::backward_weight),
        ("winograd", winograd::backward_weight),
        ("chosen", conv::backward_weight),
    ];
    let mut case = layer.case();
    for (name, rung) in rungs {
        let (x, g) = (layer.x.clone(), layer.g.clone());
        case = case.cpu(name, n, move |dw| rung(&conv, &x, &g, dw));
    }
    let there = [There::new(at, &layer.x)?, There::new(at, &layer.g)?];
    on_device::<T>(case, at, n, move |gpu, way, dw| {
        let (x, g) = (there[0].slice(), there[1].slice());
        match way {
            Way::Direct => direct::backward_weight(gpu, &conv, x, g, dw)?,
            Way::Patches => patches::backward_weight(gpu, &conv, WORKSPACE, x, g, dw)?,
            Way::Cudnn => return cudnn::backward_weight(gpu, &conv, x, g, dw),
            Way::Chosen => cuda::conv::backward_weight(gpu, &conv, x, g, dw)?,
        }
        Ok(true)
    })
}

pub(crate) fn attention<T: Float>(at: &At<'_>) -> Result<Case> {
    let &[heads, tokens, width] = at.shape else { return Ok(Case::new::<T>(0, 0)) };
    let scale = 1.0 / (width as f64).sqrt();
    let (queries, keys, values, causal) = (tokens, tokens, width, true);
    let sizes = Attention { heads, queries, keys, width, values, causal, scale };
    let n = heads * tokens * width;
    let [q, k, v] = [0, 1, 2].map(|seed| numbers::<T>(n, seed));
    let there = [There::new(at, &q)?, There::new(at, &k)?, There::new(at, &v)?];
    let mut log_sums_there = There::<T>::room(at, heads * tokens)?;
    let same = [q.clone(), k.clone(), v.clone()];
    let mut log_sums = vec![T::ZERO; heads * tokens];
    // A causal mask leaves half of the pairs; each costs two products and an exponential.
    let pairs = heads * tokens * (tokens + 1) / 2;
    Case::new::<T>(pairs * (4 * width + 4), 4 * n)
        .cpu("reference", n, move |out| {
            let [q, k, v] = &same;
            attention::reference::attention(&sizes, q, k, v, out);
        })
        .cpu("blocks", n, move |out| {
            attention::attention(&sizes, &q, &k, &v, out, &mut log_sums);
        })
        .cuda::<T>(at, n, move |gpu, out| {
            let inputs = [there[0].slice(), there[1].slice(), there[2].slice()];
            cuda::attention::forward(gpu, &sizes, inputs, out, &log_sums_there.slice_mut())
        })
}
