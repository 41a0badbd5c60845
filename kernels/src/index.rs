//! temporary
/// g
pub fn gather_axis<T: Copy>(
    x: &[T],
    outer: usize,
    n: usize,
    inner: usize,
    index: &[i64],
    k: usize,
    out: &mut [T],
) {
    for o in 0..outer {
        for i in 0..k {
            let s = (o * n + index[i] as usize) * inner;
            out[(o * k + i) * inner..][..inner].copy_from_slice(&x[s..s + inner]);
        }
    }
}
/// s
pub fn scatter_add_axis<T: crate::Float>(
    x: &[T],
    outer: usize,
    k: usize,
    inner: usize,
    index: &[i64],
    n: usize,
    out: &mut [T],
) {
    out.fill(T::ZERO);
    for o in 0..outer {
        for i in 0..k {
            for j in 0..inner {
                out[(o * n + index[i] as usize) * inner + j] += x[(o * k + i) * inner + j];
            }
        }
    }
}
