//! Convolutions by every rung that can do them, second moments of patches, and pooling.

use alcyon_kernels::conv::{self, Conv2d, depthwise, unfolded, winograd};
use alcyon_kernels::pooling::{
    adaptive_avg_pool, adaptive_avg_pool_backward, adaptive_max_pool, avg_pool, avg_pool_backward,
    max_pool, max_pool_backward,
};
use alcyon_kernels::second_moment::{patch_gram, patch_squares};
use alcyon_kernels::unfold::{Window, fold_acc, unfold};

use super::{Case, bits, case, noise, unwritten};

const AROUND: Window = Window { padding: (1, 1), ..Window::new((3, 3)) };

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // Few images and many, few channels and many, groups, a stride, a window of one pixel.
    let halved = Window { stride: (2, 2), ..AROUND };
    for (batch, groups, inputs, outputs, window) in [
        (1, 1, 40, 36, AROUND),
        (2, 1, 20, 70, AROUND),
        (37, 1, 17, 18, AROUND),
        (9, 1, 3, 20, halved),
        (1, 2, 32, 32, halved),
        (5, 1, 48, 64, Window::new((1, 1))),
        (3, 24, 24, 24, AROUND),
        (2, 24, 24, 24, halved),
    ] {
        let Some(conv) = Conv2d::new(batch, groups, inputs, outputs, (19, 21), window) else {
            continue;
        };
        let planned = (conv::forward as Forward, conv::backward_input as Backward);
        cases.push(maps("planned", conv, planned.0, [planned.1, conv::backward_weight]));
        let backward = [unfolded::backward_input, unfolded::backward_weight as Backward];
        cases.push(maps("unfolded", conv, unfolded::forward, backward));
        if winograd::fits(&conv) {
            let backward = [winograd::backward_input, winograd::backward_weight as Backward];
            cases.push(maps("winograd", conv, winograd::forward, backward));
        }
        if groups == inputs {
            let backward = [depthwise::backward_input, depthwise::backward_weight as Backward];
            cases.push(maps("depthwise", conv, depthwise::forward, backward));
        }
        cases.push(moments(conv));
    }
    let two = |side| Window { stride: (side, side), ..Window::new((side, side)) };
    cases.extend([two(2), two(3), AROUND, halved].map(pools));
    cases.push(adaptive_pools());
    cases.push(patches());
    cases
}

type Forward = fn(&Conv2d, &[f32], &[f32], Option<&[f32]>, &mut [f32]);
type Backward = fn(&Conv2d, &[f32], &[f32], &mut [f32]);

fn pixels(conv: &Conv2d) -> usize {
    conv.in_channels * conv.input.0 * conv.input.1
}

fn maps(
    rung: &str,
    conv: Conv2d,
    forward: Forward,
    [backward_input, backward_weight]: [Backward; 2],
) -> Case {
    let x = noise::<f32>(conv.batch * pixels(&conv), 1);
    let w = noise::<f32>(conv.out_channels * conv.patch(), 2);
    let g = noise::<f32>(conv.batch * conv.out_channels * conv.positions(), 3);
    let bias = noise::<f32>(conv.out_channels, 4);
    case(format!("{rung} {conv:?}"), move || {
        let [mut y, mut dx, mut dw] = [&g, &x, &w].map(|like| unwritten(like.len()));
        forward(&conv, &x, &w, Some(&bias), &mut y);
        backward_input(&conv, &g, &w, &mut dx);
        backward_weight(&conv, &x, &g, &mut dw);
        bits(&[&y, &dx, &dw])
    })
}

fn moments(conv: Conv2d) -> Case {
    let x = noise::<f32>(conv.batch * pixels(&conv), 1);
    case(format!("moments of patches {conv:?}"), move || {
        let (d, side) = (conv.patch(), conv.patch() + 1);
        let (mut squares, mut gram) =
            (unwritten(conv.groups * d), unwritten(conv.groups * side * side));
        patch_squares(&conv, &x, &mut squares);
        patch_gram(&conv, &x, true, &mut gram);
        bits(&[&squares, &gram])
    })
}

/// The planes that are pooled: \[60, 40, 41\].
const PLANES: (usize, usize, usize) = (60, 40, 41);

fn pools(window: Window) -> Case {
    let (planes, h, w) = PLANES;
    let outputs = window.output((h, w)).map_or(0, |(oh, ow)| oh * ow);
    let (x, g) = (noise::<f32>(planes * h * w, 1), noise::<f32>(planes * outputs, 2));
    case(format!("pools {window:?}"), move || {
        let [mut max, mut average] = [(); 2].map(|()| unwritten(g.len()));
        let [mut routed, mut spread] = [(); 2].map(|()| unwritten(x.len()));
        let mut at = vec![-7; g.len()];
        max_pool(&x, planes, h, w, &window, &mut max, &mut at);
        max_pool_backward(&g, &at, planes, h * w, outputs, &mut routed);
        avg_pool(&x, planes, h, w, &window, false, &mut average);
        avg_pool_backward(&g, planes, h, w, &window, false, &mut spread);
        bits(&[&max, &routed, &average, &spread])
    })
}

fn adaptive_pools() -> Case {
    let (planes, h, w) = PLANES;
    let (oh, ow) = (7, 6);
    let (x, g) = (noise::<f32>(planes * h * w, 1), noise::<f32>(planes * oh * ow, 2));
    case("adaptive pools", move || {
        let [mut max, mut average] = [(); 2].map(|()| unwritten(g.len()));
        let mut spread = unwritten(x.len());
        let mut at = vec![-7; g.len()];
        adaptive_max_pool(&x, planes, h, w, oh, ow, &mut max, &mut at);
        adaptive_avg_pool(&x, planes, h, w, oh, ow, &mut average);
        adaptive_avg_pool_backward(&g, planes, h, w, oh, ow, &mut spread);
        bits(&[&max, &average, &spread])
    })
}

fn patches() -> Case {
    let (planes, h, w) = PLANES;
    let x = noise::<f32>(planes * h * w, 1);
    case("patches, unfolded and folded", move || {
        let mut columns = unwritten(planes * 9 * h * w);
        unfold(&x, planes, h, w, &AROUND, &mut columns);
        let mut image = x.clone();
        fold_acc(&columns, planes, h, w, &AROUND, &mut image);
        bits(&[&columns, &image])
    })
}
