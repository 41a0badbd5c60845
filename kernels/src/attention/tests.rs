//! Blocks against the definition, gradients against finite differences.

use super::*;
use crate::oracle::{
    assert_close, assert_same_bits_for_any_number_of_threads, finite_differences, inner_product,
    noise, unwritten,
};

fn inputs<T: Float>(sizes: &Attention) -> [Vec<T>; 3] {
    let Attention { heads, queries, keys, width, values, .. } = *sizes;
    [
        noise(heads * queries * width, 1),
        noise(heads * keys * width, 2),
        noise(heads * keys * values, 3),
    ]
}

fn forward<T: Float>(sizes: &Attention, [q, k, v]: [&[T]; 3]) -> [Vec<T>; 2] {
    let rows = sizes.heads * sizes.queries;
    let mut out = [unwritten(rows * sizes.values), unwritten(rows)];
    let [o, log_sums] = &mut out;
    attention(sizes, q, k, v, o, log_sums);
    out
}

fn backward<T: Float>(sizes: &Attention, [q, k, v]: [&[T]; 3], g: &[T]) -> [Vec<T>; 3] {
    let [out, log_sums] = forward(sizes, [q, k, v]);
    let mut grads = [unwritten(q.len()), unwritten(k.len()), unwritten(v.len())];
    let [dq, dk, dv] = &mut grads;
    attention_backward(sizes, (q, k, v), &out, &log_sums, g, (dq, dk, dv));
    grads
}

/// Every size around the edge of a block, causal and not, more keys than queries.
fn sizes() -> Vec<Attention> {
    let mut all = Vec::new();
    for causal in [false, true] {
        for (queries, keys) in [(1, 1), (3, 3), (1, 5), (2, 7), (63, 64), (65, 65), (130, 131)] {
            let [heads, width, values] = [2, 3, 4];
            all.push(Attention { heads, queries, keys, width, values, causal, scale: 0.6 });
        }
    }
    all
}

#[test]
fn blocks_agree_with_the_definition() {
    for sizes in sizes() {
        let x = inputs::<f64>(&sizes);
        let [got, _] = forward(&sizes, x.each_ref().map(|x| &x[..]));
        let mut want = unwritten(got.len());
        reference::attention(&sizes, &x[0], &x[1], &x[2], &mut want);
        assert_close(&got, &want, 1e-14);
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    for sizes in sizes().into_iter().filter(|s| s.queries < 9 || s.queries == 65) {
        let sizes = if sizes.queries == 65 {
            Attention { heads: 1, width: 1, values: 1, ..sizes }
        } else {
            sizes
        };
        let [q, k, v] = inputs::<f64>(&sizes);
        let g = noise::<f64>(sizes.heads * sizes.queries * sizes.values, 4);
        let [dq, dk, dv] = backward(&sizes, [&q, &k, &v], &g);
        let loss = |x: [&[f64]; 3]| inner_product(&forward(&sizes, x)[0], &g);
        assert_close(&dq, &finite_differences(&q, |q| loss([q, &k, &v])), 1e-8);
        assert_close(&dk, &finite_differences(&k, |k| loss([&q, k, &v])), 1e-8);
        assert_close(&dv, &finite_differences(&v, |v| loss([&q, &k, v])), 1e-8);
    }
}

#[test]
fn scores_of_any_size_give_finite_outputs_and_gradients() {
    let sizes =
        Attention { heads: 1, queries: 2, keys: 2, width: 1, values: 1, causal: false, scale: 1.0 };
    let inputs: [&[f32]; 3] = [&[1e4, -1e4], &[1e4, -1e4], &[1.0, 3.0]];
    assert_eq!(forward(&sizes, inputs)[0], [1.0, 3.0]);
    for grad in backward(&sizes, inputs, &[1.0, 1.0]) {
        assert!(grad.iter().all(|x| x.is_finite()), "{grad:?}");
    }
}

#[test]
fn threads_do_not_change_outputs_or_gradients() {
    let [heads, queries, width] = [6, 150, 16];
    let sizes = Attention {
        heads,
        queries,
        keys: queries,
        width,
        values: width,
        causal: true,
        scale: 0.25,
    };
    let x = inputs::<f32>(&sizes);
    let g = noise::<f32>(heads * queries * width, 4);
    assert_same_bits_for_any_number_of_threads(|| {
        let x = x.each_ref().map(|x| &x[..]);
        let mut all = forward(&sizes, x).concat();
        all.extend(backward(&sizes, x, &g).concat());
        all
    });
}
