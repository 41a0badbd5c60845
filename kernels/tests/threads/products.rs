//! Matrix products, what is made of them, and the fixed order of long sums over examples.

use alcyon_kernels::Float;
use alcyon_kernels::attention::{Attention, attention, attention_backward};
use alcyon_kernels::gemm::{self, Matrix};
use alcyon_kernels::linalg;
use alcyon_kernels::second_moment::{
    channel_gram, channel_squares, column_squares, gram, gram_with_ones,
};

use super::{Case, bits, case, noise, unwritten};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (m, k, n) in
        [(300, 301, 302), (64, 4096, 64), (1, 1500, 1501), (1501, 1500, 1), (2000, 9, 129)]
    {
        for transposed in [[false, false], [false, true], [true, false], [true, true]] {
            cases.push(product::<f32>((m, k, n), transposed));
            cases.push(product::<f64>((m, k, n), transposed));
        }
    }
    cases.extend([batch(40, 70), batch(3, 130)]);
    cases.extend([(5000, 40), (700, 300)].map(|(rows, width)| grams(rows, width)));
    cases.extend([(40, 24, 100), (3000, 24, 1)].map(channels));
    cases.extend([false, true].map(attentions));
    cases.push(case("inverse roots", || {
        let n = 150;
        let x = noise::<f64>(n * n, 1);
        let mut a = unwritten(n * n);
        gram(&x, n, n, &mut a);
        (0..n).for_each(|i| a[i * n + i] += 1.0);
        let newton = linalg::coupled_newton(&a, n, 4, 1e-9).unwrap();
        bits(&[&newton.root, &linalg::power(&a, n, -0.25, 0.0).unwrap()])
    }));
    cases
}

fn product<T: Float>((m, k, n): (usize, usize, usize), [turn_a, turn_b]: [bool; 2]) -> Case {
    let (a, b, c) = (noise::<T>(m * k, 1), noise::<T>(k * n, 2), noise::<T>(m * n, 3));
    let name = format!("gemm {m} {k} {n} {turn_a} {turn_b}, {} bytes", size_of::<T>());
    case(name, move || {
        let stored = |x, rows, cols, turned| {
            if turned { Matrix::new(x, cols, rows).t() } else { Matrix::new(x, rows, cols) }
        };
        let (a, b) = (stored(&a, m, k, turn_a), stored(&b, k, n, turn_b));
        let (mut fresh, mut added) = (unwritten(m * n), c.clone());
        gemm::gemm(T::ONE, a, b, T::ZERO, &mut fresh);
        gemm::gemm(T::of(0.7), a, b, T::of(-1.3), &mut added);
        bits(&[&fresh, &added])
    })
}

fn batch(count: usize, side: usize) -> Case {
    let size = side * side;
    let (a, b) = (noise::<f32>(count * size, 1), noise::<f32>(count * size, 2));
    case(format!("gemm::batch {count} {side}"), move || {
        let mut c = unwritten(count * size);
        gemm::batch(&mut c, size, size * side, |i| {
            let one = |x| Matrix::new(x, side, side);
            (one(&a[i * size..(i + 1) * size]), one(&b[i * size..(i + 1) * size]).t())
        });
        bits(&[&c])
    })
}

fn grams(rows: usize, width: usize) -> Case {
    let x = noise::<f32>(rows * width, 1);
    case(format!("grams {rows} {width}"), move || {
        let side = width + 1;
        let mut out = [width, width * width, side * side].map(unwritten::<f32>);
        column_squares(&x, rows, width, &mut out[0]);
        gram(&x, rows, width, &mut out[1]);
        gram_with_ones(&x, rows, width, &mut out[2]);
        bits(&out.each_ref().map(|out| &out[..]))
    })
}

fn channels((n, c, s): (usize, usize, usize)) -> Case {
    let g = noise::<f32>(n * c * s, 1);
    case(format!("moments of channels {n} {c} {s}"), move || {
        let (mut squares, mut product) = (unwritten(c), unwritten(c * c));
        channel_squares(&g, n, c, s, &mut squares);
        channel_gram(&g, n, c, s, &mut product);
        bits(&[&squares, &product])
    })
}

fn attentions(causal: bool) -> Case {
    let (heads, tokens, width) = (6, 200, 24);
    let sizes = Attention {
        heads,
        queries: tokens,
        keys: tokens,
        width,
        values: width,
        causal,
        scale: 0.2,
    };
    let [q, k, v, g] = [1, 2, 3, 4].map(|seed| noise::<f32>(heads * tokens * width, seed));
    case(format!("attention, causal: {causal}"), move || {
        let [mut out, mut dq, mut dk, mut dv] = [(); 4].map(|()| unwritten(q.len()));
        let mut log_sums = unwritten(heads * tokens);
        attention(&sizes, &q, &k, &v, &mut out, &mut log_sums);
        let gradients = (&mut dq[..], &mut dk[..], &mut dv[..]);
        attention_backward(&sizes, (&q, &k, &v), &out, &log_sums, &g, gradients);
        bits(&[&out, &log_sums, &dq, &dk, &dv])
    })
}
