//! Products of images with filters.

use std::rc::Rc;

use alcyon::kernels::conv::{self, Conv2d, depthwise, reference, unfolded, winograd};
use alcyon::kernels::cuda::conv::{WORKSPACE, cudnn, direct, unfolded as patches};
use alcyon::kernels::cuda::{CudaError, Gpu, SliceMut};
use alcyon::kernels::unfold::Window;
use alcyon::kernels::{Float, cuda};
use alcyon::prelude::*;

use crate::case::{At, Case, There, numbers};

/// A convolution with its three arrays.
struct Layer<T> {
    conv: Conv2d,
    x: Vec<T>,
    w: Vec<T>,
    g: Vec<T>,
}

/// A window of 3 × 3 that leaves images as large as they are.
const AROUND: Window = Window { padding: (1, 1), ..Window::new((3, 3)) };

/// Images of some channels with that window.
pub(super) fn layer(at: &At<'_>) -> Result<Conv2d> {
    layer_of(at, AROUND)
}

/// With any window; without a number of outputs, each channel by itself.
fn layer_of(at: &At<'_>, window: Window) -> Result<Conv2d> {
    let conv = match *at.shape {
        [n, c, o, h, w] => Conv2d::new(n, 1, c, o, (h, w), window),
        [n, c, h, w] => Conv2d::new(n, c, c, c, (h, w), window),
        _ => None,
    };
    let (op, name, expected) = ("kernel_bench", "--shape", "images that the window fits in");
    conv.ok_or_else(|| Error::Argument { op, name, expected, got: format!("{:?}", at.shape) })
}

impl<T: Float> Layer<T> {
    fn new(conv: Conv2d) -> Self {
        let x = numbers(conv.batch * conv.in_channels * conv.input.0 * conv.input.1, 0);
        let g = numbers(conv.batch * conv.out_channels * conv.positions(), 1);
        let w = numbers(conv.out_channels * conv.patch(), 2);
        Self { conv, x, w, g }
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

/// A rung of the output.
type Forward<T> = fn(&Conv2d, &[T], &[T], Option<&[T]>, &mut [T]);

pub(crate) fn conv_output<T: Float>(at: &At<'_>) -> Result<Case> {
    outputs::<T>(at, layer(at)?, Some(("winograd", winograd::forward)))
}

pub(crate) fn conv_pointwise<T: Float>(at: &At<'_>) -> Result<Case> {
    outputs::<T>(at, layer_of(at, Window::new((1, 1)))?, None)
}

pub(crate) fn conv_depthwise<T: Float>(at: &At<'_>) -> Result<Case> {
    outputs::<T>(at, layer_of(at, AROUND)?, Some(("depthwise", depthwise::forward)))
}

/// The rungs that all windows have, and one of this window's own.
fn outputs<T: Float>(
    at: &At<'_>,
    conv: Conv2d,
    own: Option<(&'static str, Forward<T>)>,
) -> Result<Case> {
    let layer = Layer::<T>::new(conv);
    let n = layer.g.len();
    let first: [(&str, Forward<T>); 2] =
        [("reference", reference::forward), ("unfolded", unfolded::forward)];
    let last: (&str, Forward<T>) = ("chosen", conv::forward);
    let mut case = layer.case();
    for (name, rung) in first.into_iter().chain(own).chain([last]) {
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
    let layer = Layer::<T>::new(layer(at)?);
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
    let layer = Layer::<T>::new(layer(at)?);
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
