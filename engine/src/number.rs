//! `Number`: one number given to a constructor, and how it is rounded to 16 bits.
//!
//! A number is rounded once, to the nearest of its new type and of two the one with an even last bit. By
//! way of a third type it would be rounded twice, unless the first rounding is *to odd*: what cannot be
//! held takes the neighbour whose last bit is 1, which is no tie of a type with two bits fewer. (Boldo &
//! Melquiond 2008, "Emulation of a FMA and correctly rounded sums: proved algorithms using rounding to odd".)

/// A number that a tensor can be filled with: every `f64` and every `i64`, exactly.
///
/// # Example
/// ```
/// use alcyon_engine::{DType, Tensor};
/// let x = Tensor::full([1], 9_007_199_254_740_993_i64, DType::I64); // 2⁵³ + 1, which is no f64
/// assert_eq!(x.to_vec::<i64>()?, [9_007_199_254_740_993]);
/// assert_eq!(Tensor::scalar(0.5, DType::F32).item()?, 0.5);
/// # Ok::<(), alcyon_engine::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A floating point number.
    Float(f64),
    /// An integer.
    Integer(i64),
}

impl From<f64> for Number {
    fn from(x: f64) -> Self {
        Self::Float(x)
    }
}

impl From<f32> for Number {
    fn from(x: f32) -> Self {
        Self::Float(f64::from(x))
    }
}

impl From<i64> for Number {
    fn from(x: i64) -> Self {
        Self::Integer(x)
    }
}

impl From<i32> for Number {
    fn from(x: i32) -> Self {
        Self::Integer(i64::from(x))
    }
}

/// x as an `f32`, rounded to odd.
pub(crate) fn to_odd(x: f64) -> f32 {
    let near = x as f32;
    let back = f64::from(near);
    if back == x || x.is_nan() || near.to_bits() & 1 == 1 {
        return near;
    }
    // The neighbour on x's side: a larger magnitude is a larger word.
    let word = near.to_bits();
    f32::from_bits(if back.abs() < x.abs() { word + 1 } else { word - 1 })
}

/// x as an `f64`, rounded to odd.
pub(crate) fn integer_to_odd(x: i64) -> f64 {
    if x.unsigned_abs() <= 1 << 53 {
        return x as f64;
    }
    // The lower 11 bits are cut, and leave a 1 if there was one.
    ((x >> 11) | i64::from(x & 0x7ff != 0)) as f64 * 2048.0
}

/// The word of a 16-bit number's neighbour, above or below; of 0 it is the least number.
pub(crate) const fn neighbour(word: u16, above: bool) -> u16 {
    match (word & 0x7fff, word & 0x8000 != 0, above) {
        (0, _, true) => 1,
        (0, _, false) => 0x8001,
        (_, negative, above) if negative == above => word - 1,
        _ => word + 1,
    }
}

#[cfg(test)]
mod tests {
    use crate::{DType, Element, Tensor};
    use half::{bf16, f16};

    /// The nearest by comparing distances in f64, which are exact for neighbours: of two the even one.
    fn nearest(x: f64, below: f64, above: f64, below_is_even: bool) -> f64 {
        let (down, up) = (x - below, above - x);
        if down < up || (down == up && below_is_even) { below } else { above }
    }

    /// Every pair of finite neighbours, and their tie: at it, and one `f64` to either side.
    fn every_tie<T: Element>(of: impl Fn(u16) -> T, infinite: u16) {
        for word in 0..infinite - 1 {
            let (below, above) = (of(word).to_f64(), of(word + 1).to_f64());
            let tie = below + (above - below) / 2.0;
            for x in [tie.next_down(), tie, tie.next_up()] {
                let want = nearest(x, below, above, word % 2 == 0);
                assert_eq!(T::from_f64(x).to_f64(), want, "{x}");
                assert_eq!(T::from_f64(-x).to_f64(), -want, "-{x}");
            }
        }
    }

    #[test]
    fn a_double_beside_a_tie_goes_to_the_nearest_16_bit_number() {
        every_tie(f16::from_bits, 0x7c00);
        every_tie(bf16::from_bits, 0x7f80);
        assert_eq!(<bf16 as Element>::from_f64(3.226_563_016_645_226).to_f64(), 3.234_375);
    }

    /// The machine's own conversion, in vectors and in what is left after them.
    #[test]
    fn a_float_beside_a_tie_goes_to_the_nearest_16_bit_number() {
        let ties = |of: fn(u16) -> f32, infinite: u16| -> (Vec<f32>, Vec<f64>) {
            let at = |word: u16| {
                let (below, above) = (f64::from(of(word)), f64::from(of(word + 1)));
                let tie = (below + (above - below) / 2.0) as f32;
                let near =
                    move |x: f32| nearest(f64::from(x), below, above, word.is_multiple_of(2));
                [tie.next_down(), tie, tie.next_up()].map(|x| (x, near(x)))
            };
            (0..infinite - 1).flat_map(at).unzip()
        };
        let f16s = ties(|word| f16::from_bits(word).to_f32(), 0x7c00);
        let bf16s = ties(|word| bf16::from_bits(word).to_f32(), 0x7f80);
        for ((x, want), dtype) in [(f16s, DType::F16), (bf16s, DType::BF16)] {
            let n = x.len();
            let got = Tensor::from_vec(x, [n]).unwrap().to_dtype(dtype).unwrap();
            assert_eq!(got.to_f64_vec().unwrap(), want, "{dtype}");
        }
    }

    #[test]
    fn beyond_the_largest_number_a_double_is_infinite_from_the_tie_on() {
        // The next number would be 65536, or 2¹²⁸.
        let ties =
            [(DType::F16, 65_520.0), (DType::BF16, (2.0 - 2_f64.powi(-8)) * 2_f64.powi(127))];
        for (dtype, tie) in ties {
            let of = |x: f64| Tensor::scalar(x, dtype).item().unwrap();
            assert!(of(tie.next_down()).is_finite() && of(tie) == f64::INFINITY, "{dtype}");
            assert!(of(-tie) == f64::NEG_INFINITY && of(1e300) == f64::INFINITY, "{dtype}");
            assert!(of(f64::NAN).is_nan() && of(f64::INFINITY) == f64::INFINITY, "{dtype}");
        }
    }

    #[test]
    fn every_way_from_a_double_to_16_bits_rounds_once() {
        let x = 3.226_563_016_645_226;
        let wide = Tensor::from_slice(&[x], [1]).unwrap();
        let ways = [
            wide.to_dtype(DType::BF16).unwrap(),
            Tensor::full([1], x, DType::BF16),
            Tensor::from_fn([1], DType::BF16, |_| x),
        ];
        assert!(ways.iter().all(|way| way.item().unwrap() == 3.234_375), "{ways:?}");
    }

    #[test]
    fn an_integer_beside_a_tie_is_rounded_once_to_every_type() {
        // 2⁶⁰ + 2⁵² is a tie of bf16, 2⁶⁰ + 2³⁶ one of f32; f64 cannot hold the 1 beside them.
        for (tie, step, dtype) in
            [(1_i64 << 52, 1_i64 << 53, DType::BF16), (1 << 36, 1 << 37, DType::F32)]
        {
            let base = 1_i64 << 60;
            for sign in [1, -1] {
                let x = sign * (base + tie + 1);
                let want = (sign * (base + step)) as f64;
                let cast = Tensor::from_slice(&[x], [1]).unwrap().to_dtype(dtype).unwrap();
                assert_eq!(cast.item().unwrap(), want, "{dtype}");
                assert_eq!(Tensor::scalar(x, dtype).item().unwrap(), want, "{dtype}");
            }
        }
    }
}
