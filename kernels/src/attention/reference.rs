//! The definition: for every query the weights of all keys it sees, and the mean of their values.

use super::Attention;
use crate::float::Float;

/// O = softmax(s Q Kᵀ) V, one number at a time. Shapes as in [`super::attention()`].
pub fn attention<T: Float>(sizes: &Attention, q: &[T], k: &[T], v: &[T], out: &mut [T]) {
    let Attention { heads, queries, keys, width, values, causal, scale } = *sizes;
    for head in 0..heads {
        for i in 0..queries {
            let seen = if causal { i + 1 + keys - queries } else { keys };
            let query = &q[(head * queries + i) * width..][..width];
            let weight = |j: usize| {
                let key = &k[(head * keys + j) * width..][..width];
                let score: T = query.iter().zip(key).map(|(&q, &k)| q * k).sum();
                (T::of(scale) * score).exp()
            };
            let total: T = (0..seen).map(weight).sum();
            for c in 0..values {
                let value = |j: usize| weight(j) / total * v[(head * keys + j) * values + c];
                out[(head * queries + i) * values + c] = (0..seen).map(value).sum();
            }
        }
    }
}
