//! Loops over elements and rows: formulas, reductions, softmax, norms, indices, updates.

use alcyon_kernels::group_norm::{Groups, group_norm, group_norm_backward};
use alcyon_kernels::index::{gather_rows, scatter_add_axis, scatter_add_rows};
use alcyon_kernels::interpolate::{Sampling, interpolate, interpolate_backward};
use alcyon_kernels::norm::{
    batch_moments, batch_norm, batch_norm_apply, batch_norm_backward, layer_norm,
    layer_norm_backward,
};
use alcyon_kernels::reduce::{dot, max_axis, square_sum_axis, sum, sum_axis};
use alcyon_kernels::rms_norm::{rms_norm, rms_norm_backward};
use alcyon_kernels::softmax::{
    cross_entropy, cross_entropy_backward, log_softmax, log_softmax_backward, softmax,
    softmax_backward,
};
use alcyon_kernels::step::{AdaFisher, Adam, Curvature, Sgd, adafisher, adam, sgd};
use alcyon_kernels::strided::{copy_strided, map2_strided};
use alcyon_kernels::{along, elementwise, transpose};

use super::{Case, bits, case, noise, unwritten};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![formulas(), indices(), images(), first_order(), curved()];
    let axes = [(1, 200_000, 1), (1, 30_000, 7), (1, 300, 1000), (300, 700, 1), (30, 11, 900)];
    cases.extend(axes.map(reductions));
    cases.extend([(2000, 77), (3, 60_000)].map(|(rows, width)| softmaxes(rows, width)));
    cases.extend([(2000, 77), (3, 60_000)].map(|(rows, width)| norms_of_rows(rows, width)));
    cases.extend([(40, 24, 150), (5000, 24, 1)].map(norms_of_channels));
    cases
}

fn formulas() -> Case {
    let (n, m) = (401, 397);
    let (x, y) = (noise::<f32>(n * m, 1), noise::<f32>(n * m, 2));
    case("formulas, views and transposes", move || {
        let mut out = [(); 4].map(|()| unwritten::<f32>(n * m));
        elementwise::map2(&x, &y, &mut out[0], |x, y| x.exp() * y + x);
        copy_strided(&x, &[m, n], &[1, m], 0, &mut out[1]);
        map2_strided(&[n, m], &x, &[m, 1], 0, &y, &[0, 1], 0, &mut out[2], |x, y| x - y);
        transpose::transpose(&x, (m, n), m, &mut out[3]);
        bits(&out.each_ref().map(|out| &out[..]))
    })
}

fn reductions((outer, n, inner): (usize, usize, usize)) -> Case {
    let (x, y) = (noise::<f32>(outer * n * inner, 1), noise::<f32>(outer * n * inner, 2));
    case(format!("reductions {outer} {n} {inner}"), move || {
        let mut out = [(); 3].map(|()| unwritten::<f32>(outer * inner));
        let mut at = vec![-7; outer * inner];
        sum_axis(&x, outer, n, inner, &mut out[0]);
        square_sum_axis(&x, outer, n, inner, &mut out[1]);
        max_axis(&x, outer, n, inner, &mut out[2], &mut at);
        bits(&[&[sum(&x), dot(&x, &y)], &out[0], &out[1], &out[2]])
    })
}

fn softmaxes(rows: usize, width: usize) -> Case {
    let (x, g) = (noise::<f32>(rows * width, 1), noise::<f32>(rows * width, 2));
    let labels: Vec<i64> = (0..rows).map(|r| (7 * r % width) as i64).collect();
    case(format!("softmax {rows} {width}"), move || {
        let mut out = [(); 6].map(|()| unwritten::<f32>(rows * width));
        let [y, dx, log_y, log_dx, log_p, dlogits] = &mut out;
        softmax(&x, width, y);
        softmax_backward(y, &g, width, dx);
        log_softmax(&x, width, log_y);
        log_softmax_backward(log_y, &g, width, log_dx);
        let loss = cross_entropy(&x, &labels, width, log_p);
        cross_entropy_backward(log_p, &labels, width, 0.3, dlogits);
        bits(&[&[loss], y, dx, log_y, log_dx, log_p, dlogits])
    })
}

fn norms_of_rows(rows: usize, width: usize) -> Case {
    let (x, g) = (noise::<f32>(rows * width, 1), noise::<f32>(rows * width, 2));
    let (scale, shift) = (noise::<f32>(width, 3), noise::<f32>(width, 4));
    case(format!("norms of rows {rows} {width}"), move || {
        let some = (Some(&scale[..]), Some(&shift[..]));
        let [mut y, mut dx] = [(); 2].map(|()| unwritten(x.len()));
        let [mut mean, mut rstd] = [(); 2].map(|()| unwritten(rows));
        let [mut dscale, mut dshift] = [(); 2].map(|()| unwritten(width));
        layer_norm(&x, width, 1e-5, some.0, some.1, &mut y, &mut mean, &mut rstd);
        let parameters = (Some(&mut dscale[..]), Some(&mut dshift[..]));
        layer_norm_backward(
            &x,
            &g,
            width,
            &mean,
            &rstd,
            some.0,
            &mut dx,
            parameters.0,
            parameters.1,
        );
        let mut all = bits(&[&y, &mean, &rstd, &dx, &dscale, &dshift]);
        rms_norm(&x, width, 1e-5, some.0, &mut y, &mut rstd);
        rms_norm_backward(&x, &g, width, &rstd, some.0, &mut dx, Some(&mut dscale));
        all.extend(bits(&[&y, &rstd, &dx, &dscale]));
        all
    })
}

fn norms_of_channels((n, c, s): (usize, usize, usize)) -> Case {
    let (x, g) = (noise::<f32>(n * c * s, 1), noise::<f32>(n * c * s, 2));
    let (scale, shift) = (noise::<f32>(c, 3), noise::<f32>(c, 4));
    case(format!("norms of channels {n} {c} {s}"), move || {
        let [mut y, mut dx] = [(); 2].map(|()| unwritten(x.len()));
        let mut moments = [(); 5].map(|()| unwritten(c));
        let [mean, rstd, variance, dscale, dshift] = &mut moments;
        batch_moments(&x, n, c, s, mean, variance);
        let mut all = bits(&[mean, variance]);
        batch_norm(&x, n, c, s, 1e-5, &scale, &shift, &mut y, [mean, rstd, variance]);
        all.extend(bits(&[&y, mean, rstd, variance]));
        batch_norm_apply(&x, n, c, s, mean, rstd, Some(&scale), None, &mut y);
        batch_norm_backward(&x, &g, n, c, s, mean, rstd, Some(&scale), &mut dx, dscale, dshift);
        all.extend(bits(&[&y, &dx, dscale, dshift]));
        let sizes = Groups { n, c, s, groups: 4 };
        let [mut mean, mut rstd] = [(); 2].map(|()| unwritten(n * 4));
        let some = (Some(&scale[..]), Some(&shift[..]));
        group_norm(&sizes, &x, 1e-5, some.0, some.1, &mut y, &mut mean, &mut rstd);
        group_norm_backward(&sizes, &x, &g, &mean, &rstd, some.0, &mut dx, dscale, dshift);
        all.extend(bits(&[&y, &mean, &rstd, &dx, dscale, dshift]));
        all
    })
}

fn indices() -> Case {
    let (rows, width, picked) = (700, 60, 5000);
    let (table, g) = (noise::<f32>(rows * width, 1), noise::<f32>(picked * width, 2));
    let number = |x: f64| ((x + 1.0) / 2.0 * rows as f64) as i64;
    let index: Vec<i64> = noise::<f64>(picked, 3).into_iter().map(number).collect();
    let each: Vec<i64> = noise::<f64>(g.len(), 4).into_iter().map(number).collect();
    case("indices", move || {
        let mut there = [(); 2].map(|()| unwritten(g.len()));
        let mut back = [(); 3].map(|()| unwritten(table.len()));
        gather_rows(&table, width, &index, &mut there[0]);
        scatter_add_rows(&g, width, &index, &mut back[0]);
        // The same numbers as ten problems of their own.
        scatter_add_axis(&g, 10, rows / 10 * 10, width / 10, &index, picked, &mut back[1]);
        along::take(&table, 1, rows, width, &each, picked, &mut there[1]);
        along::add(&g, 1, rows, width, &each, picked, &mut back[2]);
        bits(&[&there[0], &there[1], &back[0], &back[1], &back[2]])
    })
}

fn images() -> Case {
    let (planes, h, w) = (50, 30, 31);
    let (rows, columns) = (Sampling::Linear.taps(h, 41), Sampling::LinearAligned.taps(w, 20));
    let (x, g) = (noise::<f32>(planes * h * w, 1), noise::<f32>(planes * 41 * 20, 2));
    case("images at another resolution", move || {
        let (mut y, mut dx) = (unwritten(g.len()), unwritten(x.len()));
        interpolate(&x, (h, w), &rows, &columns, &mut y);
        interpolate_backward(&g, &rows, &columns, (h, w), &mut dx);
        bits(&[&y, &dx])
    })
}

/// The sides of the weight that is updated: enough numbers for four pieces.
const SIDES: (usize, usize) = (401, 397);

fn first_order() -> Case {
    let n = SIDES.0 * SIDES.1;
    let (start, g) = (noise::<f32>(n, 1), noise::<f32>(n, 2));
    case("SGD, Adam, AMSGrad", move || {
        let mut thetas = [(); 4].map(|()| start.clone());
        let [mut b, mut m, mut v, mut top] = [(); 4].map(|()| vec![0.0; n]);
        let momentum = Sgd {
            rate: 0.1,
            momentum: 0.9,
            dampening: 0.1,
            nesterov: true,
            weight_decay: 0.01,
            first: false,
        };
        let rule = Adam {
            rate: 0.1,
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.1,
            decoupled: true,
            step: 3,
        };
        sgd(&mut thetas[0], &g, None, &momentum);
        sgd(&mut thetas[1], &g, Some(&mut b), &momentum);
        adam(&mut thetas[2], &g, &mut m, &mut v, None, &rule);
        adam(&mut thetas[3], &g, &mut m, &mut v, Some(&mut top), &rule);
        let [plain, moved, adam, amsgrad] = &thetas;
        bits(&[plain, moved, adam, amsgrad, &b, &m, &v, &top])
    })
}

fn curved() -> Case {
    let (out, width) = SIDES;
    let n = out * width;
    let (start, g) = (noise::<f32>(n, 1), noise::<f32>(n, 2));
    let square = |seed, len| noise::<f32>(len, seed).iter().map(|x| x * x).collect::<Vec<_>>();
    let (s, h, s_all, h_all) = (square(3, out), square(4, width), square(5, n), square(6, n));
    case("AdaFisher", move || {
        let rule = AdaFisher {
            rate: 0.1,
            beta: 0.9,
            damping: 1e-3,
            coupled_decay: 0.1,
            decoupled_decay: 0.1,
            step: 3,
            root: false,
        };
        let mut all = Vec::new();
        for curvature in [
            Curvature::Outer { s: &s, h: &h },
            Curvature::Product { s: &s_all, h: &h_all },
            Curvature::Column { s: &s_all, h: 0.5 },
            Curvature::Constant(0.5),
        ] {
            let (mut theta, mut m) = (start.clone(), vec![0.0; n]);
            adafisher(&mut theta, &g, &mut m, curvature, &rule);
            all.extend(bits(&[&theta, &m]));
        }
        all
    })
}
