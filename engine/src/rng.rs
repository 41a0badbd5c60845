//! Philox: random numbers from a counter, so that position is state.
//!
//! Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", Philox4x32-10.
//! The same (seed, stream, position) gives the same number on every device and for any number of
//! threads, and a generator is saved and resumed as three integers.

use std::convert::Infallible;

use kernels::vector::vectorized;
use rand_distr::{Distribution as _, StandardNormal};

/// A counter-based random generator. It implements `rand`'s traits, so every distribution and
/// shuffle of that library works with it.
///
/// # Example
/// ```
/// use alcyon_engine::Rng;
/// use rand::Rng as _;
/// let mut a = Rng::new(7);
/// let first = a.next_u64();
/// let saved = a.state();
/// let second = a.next_u64();
/// assert_eq!(Rng::from_state(saved).next_u64(), second);
/// assert_ne!(first, second);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rng {
    seed: u64,
    stream: u64,
    /// The number of 32-bit words drawn.
    position: u64,
    /// The words around it.
    words: [u32; WORDS],
}

/// The blocks that are computed side by side: the rounds of one wait for each other, those of eight do not.
const BLOCKS: usize = 8;

/// Their words.
const WORDS: usize = 4 * BLOCKS;

impl Rng {
    /// The generator of a seed, at its beginning.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::stream(seed, 0)
    }

    /// One of 2⁶⁴ independent streams of a seed.
    #[must_use]
    pub fn stream(seed: u64, stream: u64) -> Self {
        Self::from_state([seed, stream, 0])
    }

    /// Seed, stream, position: all there is to save.
    #[must_use]
    pub const fn state(&self) -> [u64; 3] {
        [self.seed, self.stream, self.position]
    }

    /// The generator that [`Rng::state`] described.
    #[must_use]
    pub fn from_state([seed, stream, position]: [u64; 3]) -> Self {
        let mut rng = Self { seed, stream, position, words: [0; WORDS] };
        if !position.is_multiple_of(WORDS as u64) {
            rng.refill();
        }
        rng
    }

    /// Independent draws from the standard normal distribution.
    ///
    /// # Example
    /// ```
    /// let mut z = [0.0; 1000];
    /// alcyon_engine::Rng::new(1).fill_normal(&mut z);
    /// assert!((z.iter().map(|z| z * z).sum::<f64>() / 1000.0 - 1.0).abs() < 0.1);
    /// ```
    pub fn fill_normal(&mut self, out: &mut [f64]) {
        out.iter_mut().for_each(|z| *z = StandardNormal.sample(self));
    }

    /// The words around the position.
    fn refill(&mut self) {
        let first = self.position / WORDS as u64 * BLOCKS as u64;
        vectorized(
            #[inline(always)]
            || {
                let blocks = philox::<BLOCKS>(self.seed, first, self.stream);
                for (i, words) in self.words.chunks_exact_mut(4).enumerate() {
                    words.iter_mut().zip(&blocks).for_each(|(word, of_each)| *word = of_each[i]);
                }
            },
        );
    }

    #[inline]
    fn word(&mut self) -> u32 {
        let at = (self.position % WORDS as u64) as usize;
        if at == 0 {
            self.refill();
        }
        self.position = self.position.wrapping_add(1);
        self.words[at]
    }
}

impl rand::TryRng for Rng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.word())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let low = u64::from(self.word());
        Ok(low | u64::from(self.word()) << 32)
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        for chunk in dst.chunks_mut(4) {
            chunk.copy_from_slice(&self.word().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// The `i`-th uniform number in [0, 1) of a stream, with 24 random bits: for masks that are drawn
/// in parallel.
#[must_use]
pub fn uniform_at(seed: u64, stream: u64, i: u64) -> f32 {
    uniform_block(seed, stream, i / 4)[(i % 4) as usize]
}

/// [`uniform_at`] for `i` = 4 `block`, …, 4 `block` + 3: one round of the generator gives four.
#[must_use]
pub fn uniform_block(seed: u64, stream: u64, block: u64) -> [f32; 4] {
    philox(seed, block, stream).map(|[word]| (word >> 8) as f32 / (1 << 24) as f32)
}

/// Ten rounds of Philox4x32 on 128-bit counters, `first`, `first` + 1, … in their low halves, under a 64-bit key:
/// the four words of each.
#[inline(always)]
fn philox<const BLOCKS: usize>(key: u64, first: u64, high: u64) -> [[u32; BLOCKS]; 4] {
    const M: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const W: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    let halves = |x: u64| [x as u32, (x >> 32) as u32];
    let mut k = halves(key);
    // A word is the lower half of a u64, whose upper half is anything: products are of lower halves, and vectors
    // have an instruction for them.
    let product = |m: u32, c: u64| u64::from(m) * u64::from(c as u32);
    let (mut c0, mut c1) = ([0; BLOCKS], [0; BLOCKS]);
    let (mut c2, mut c3) = ([high; BLOCKS], [high >> 32; BLOCKS]);
    for (i, (c0, c1)) in c0.iter_mut().zip(&mut c1).enumerate() {
        let counter = first.wrapping_add(i as u64);
        (*c0, *c1) = (counter, counter >> 32);
    }
    for _ in 0..10 {
        for (((c0, c1), c2), c3) in c0.iter_mut().zip(&mut c1).zip(&mut c2).zip(&mut c3) {
            let (p0, p1) = (product(M[0], *c0), product(M[1], *c2));
            (*c0, *c1) = ((p1 >> 32) ^ *c1 ^ u64::from(k[0]), p1);
            (*c2, *c3) = ((p0 >> 32) ^ *c3 ^ u64::from(k[1]), p0);
        }
        k = [k[0].wrapping_add(W[0]), k[1].wrapping_add(W[1])];
    }
    [c0, c1, c2, c3].map(|words| words.map(|word| word as u32))
}

#[cfg(test)]
mod tests {
    use rand::Rng as _;

    use super::*;

    #[test]
    fn philox_gives_the_published_known_answers() {
        // Random123's kat_vectors for philox4x32-10.
        let one = |key, counter| philox(key, counter, counter).map(|[word]| word);
        assert_eq!(one(0, 0), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(one(u64::MAX, u64::MAX), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn a_generator_resumes_from_any_position_and_its_words_are_those_of_single_blocks() {
        // Over a carry from the counter's low word, and from its last block to its first.
        for start in [0, 3, (1 << 34) - 70, u64::MAX - 40] {
            let mut rng = Rng::from_state([3, 5, start]);
            for at in (0..80).map(|i| start.wrapping_add(i)) {
                let mut copy = Rng::from_state(rng.state());
                let word = rng.next_u32();
                assert_eq!(copy.next_u32(), word);
                assert_eq!(philox(3, at / 4, 5)[(at % 4) as usize], [word], "{at}");
            }
        }
    }

    #[test]
    fn streams_differ() {
        assert_ne!(Rng::stream(1, 0).next_u64(), Rng::stream(1, 1).next_u64());
    }
}
