//! One scalar formula, applied everywhere: out\[i\] = f(x\[i\], …).
//!
//! The formula is a closure, so the compiler writes (and vectorises) one loop per formula. Strided
//! and broadcasting versions are in [`strided`](crate::strided) and re-exported here.

use crate::parallel;

pub use crate::strided::{copy_strided, map2_strided};

/// out\[i\] = f(x\[i\])
///
/// # Example
/// ```
/// let mut y = [0.0; 3];
/// alcyon_kernels::elementwise::map(&[1.0, 2.0, 3.0], &mut y, |x| x * x);
/// assert_eq!(y, [1.0, 4.0, 9.0]);
/// ```
pub fn map<A: Copy + Sync, T: Send>(x: &[A], out: &mut [T], f: impl Fn(A) -> T + Sync) {
    assert_eq!(x.len(), out.len(), "map: lengths");
    parallel::pieces(out, 1, |start, out| {
        let x = &x[start..start + out.len()];
        for (out, &x) in out.iter_mut().zip(x) {
            *out = f(x);
        }
    });
}

/// out\[i\] = f(a\[i\], b\[i\])
///
/// # Example
/// ```
/// let mut y = [0.0; 2];
/// alcyon_kernels::elementwise::map2(&[1.0, 2.0], &[3.0, 4.0], &mut y, |a, b| a * b);
/// assert_eq!(y, [3.0, 8.0]);
/// ```
pub fn map2<A: Copy + Sync, B: Copy + Sync, T: Send>(
    a: &[A],
    b: &[B],
    out: &mut [T],
    f: impl Fn(A, B) -> T + Sync,
) {
    assert_eq!((a.len(), b.len()), (out.len(), out.len()), "map2: lengths");
    parallel::pieces(out, 1, |start, out| {
        let (a, b) = (&a[start..start + out.len()], &b[start..start + out.len()]);
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *out = f(a, b);
        }
    });
}

/// out\[i\] = f(a\[i\], b\[i\], c\[i\])
///
/// # Example
/// ```
/// let mut y = [0.0];
/// alcyon_kernels::elementwise::map3(&[1.0], &[3.0], &[4.0], &mut y, |a, b, c| a + b * c);
/// assert_eq!(y, [13.0]);
/// ```
pub fn map3<A: Copy + Sync, B: Copy + Sync, C: Copy + Sync, T: Send>(
    a: &[A],
    b: &[B],
    c: &[C],
    out: &mut [T],
    f: impl Fn(A, B, C) -> T + Sync,
) {
    let n = out.len();
    assert_eq!((a.len(), b.len(), c.len()), (n, n, n), "map3: lengths");
    parallel::pieces(
        out,
        1,
        #[inline(always)]
        |start, out| {
            let end = start + out.len();
            let (a, b, c) = (&a[start..end], &b[start..end], &c[start..end]);
            for (((out, &a), &b), &c) in out.iter_mut().zip(a).zip(b).zip(c) {
                *out = f(a, b, c);
            }
        },
    );
}

/// x\[i\] = f(x\[i\])
///
/// # Example
/// ```
/// let mut x = [1.0, 2.0];
/// alcyon_kernels::elementwise::update(&mut x, |x| 10.0 * x);
/// assert_eq!(x, [10.0, 20.0]);
/// ```
pub fn update<T: Copy + Send>(x: &mut [T], f: impl Fn(T) -> T + Sync) {
    parallel::pieces(x, 1, |_, x| {
        for x in x {
            *x = f(*x);
        }
    });
}

/// x\[i\] = f(x\[i\], y\[i\])
///
/// # Example
/// ```
/// let mut x = [1.0, 2.0];
/// alcyon_kernels::elementwise::update2(&mut x, &[5.0, 6.0], |x, y| x + y);
/// assert_eq!(x, [6.0, 8.0]);
/// ```
pub fn update2<T: Copy + Send, A: Copy + Sync>(x: &mut [T], y: &[A], f: impl Fn(T, A) -> T + Sync) {
    assert_eq!(x.len(), y.len(), "update2: lengths");
    parallel::pieces(x, 1, |start, x| {
        let y = &y[start..start + x.len()];
        for (x, &y) in x.iter_mut().zip(y) {
            *x = f(*x, y);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{noise, unwritten};
    use crate::parallel::GRAIN;

    #[test]
    fn every_element_is_mapped_with_its_partners_at_its_own_index() {
        for n in (0..12).chain([2 * GRAIN + 3]) {
            let (a, b, c) = (noise::<f32>(n, 1), noise::<f32>(n, 2), noise::<f32>(n, 3));
            let mut out = unwritten(n);
            map(&a, &mut out, |a| a + 1.0);
            assert!((0..n).all(|i| out[i] == a[i] + 1.0));
            map2(&a, &b, &mut out, |a, b| a - 2.0 * b);
            assert!((0..n).all(|i| out[i] == a[i] - 2.0 * b[i]));
            map3(&a, &b, &c, &mut out, |a, b, c| a * b - c);
            assert!((0..n).all(|i| out[i] == a[i] * b[i] - c[i]));
            update(&mut out, |x| -x);
            assert!((0..n).all(|i| out[i] == -(a[i] * b[i] - c[i])));
            out.copy_from_slice(&a);
            update2(&mut out, &b, |x, y| x / 2.0 - y);
            assert!((0..n).all(|i| out[i] == a[i] / 2.0 - b[i]));
        }
    }

    #[test]
    #[should_panic(expected = "map2: lengths")]
    fn different_lengths_are_refused() {
        map2(&[1.0], &[1.0, 2.0], &mut [0.0], |a: f32, b: f32| a + b);
    }
}
