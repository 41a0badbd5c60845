//! What counting pairs achieves: the figure that a language model has to beat.

use std::collections::HashMap;

use engine::{Error, Result, room};

/// Weights tried for the prior.
const WEIGHTS: [f64; 12] = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4];

/// Perplexity of a bigram model on the tokens of `validation`, each but the first predicted from
/// the one before it, with the counts c of `train`:
///
/// p(w | v) = (c(v w) + β p(w)) / (c(v) + β),  p(w) = (c(w) + 1) / (N + V)
///
/// A pair that was never seen falls back on the word, a word never seen on 1 / V. The weight β is
/// that of twelve, from 0.1 to 30,000, which is best on the last tenth of `train` with the counts
/// of the rest; nothing is fitted to `validation`.
///
/// # Units
/// exp of the mean negative log-probability in nats. For words or pairs it is a figure for that
/// vocabulary and no other.
///
/// # Errors
/// [`Error::Index`] for a token outside `0..vocabulary`, [`Error::Argument`] when either part has
/// fewer than two tokens, [`Error::OutOfMemory`] for a vocabulary that does not fit.
///
/// # Source
/// MacKay & Peto 1995, "A hierarchical Dirichlet language model", equation 10, with one β for all.
///
/// # Example
/// ```
/// use alcyon_nn::data::bigram_perplexity;
/// // After 0 always comes 1, after 1 always 0: all but certain, where single tokens give 2.
/// let tokens: Vec<i64> = (0..1000).map(|i| i % 2).collect();
/// let perplexity = bigram_perplexity(&tokens, &tokens[..100], 2)?;
/// assert!((1.0..1.01).contains(&perplexity));
/// # Ok::<(), engine::Error>(())
/// ```
pub fn bigram_perplexity(train: &[i64], validation: &[i64], vocabulary: usize) -> Result<f64> {
    for tokens in [train, validation] {
        if tokens.len() < 2 {
            return Err(Error::Argument {
                op: "bigram_perplexity",
                name: "tokens",
                expected: "at least 2 in each part",
                got: tokens.len().to_string(),
            });
        }
        let outside = |&t: &i64| usize::try_from(t).map_or(true, |t| t >= vocabulary);
        if let Some(at) = tokens.iter().position(outside) {
            let (index, bound) = (tokens[at], vocabulary);
            return Err(Error::Index { op: "bigram_perplexity", index, at, bound });
        }
    }
    let (most, last) = train.split_at(train.len() - train.len().div_ceil(10));
    let counts = Counts::of(most, vocabulary)?;
    let loss = |weight: f64| counts.loss(last, weight);
    let best = WEIGHTS.into_iter().min_by(|a, b| loss(*a).total_cmp(&loss(*b)));
    let weight = best.unwrap_or(1.0);
    Ok(Counts::of(train, vocabulary)?.loss(validation, weight).exp())
}

struct Counts {
    pairs: HashMap<(i64, i64), u32>,
    /// c(w), and c(v) as the first of a pair.
    words: Vec<u32>,
    firsts: Vec<u32>,
    /// N
    total: usize,
}

impl Counts {
    fn of(tokens: &[i64], vocabulary: usize) -> Result<Self> {
        let mut pairs = HashMap::new();
        let zeros = || room::zeros("bigram_perplexity", vocabulary);
        let (mut words, mut firsts) = (zeros()?, zeros()?);
        tokens.iter().for_each(|&word| words[word as usize] += 1);
        for pair in tokens.windows(2) {
            *pairs.entry((pair[0], pair[1])).or_default() += 1;
            firsts[pair[0] as usize] += 1;
        }
        Ok(Self { pairs, words, firsts, total: tokens.len() })
    }

    /// p(w | v)
    fn probability(&self, v: i64, w: i64, weight: f64) -> f64 {
        let pair = self.pairs.get(&(v, w)).copied().map_or(0.0, f64::from);
        let vocabulary = self.words.len() as f64;
        let word = (f64::from(self.words[w as usize]) + 1.0) / (self.total as f64 + vocabulary);
        (pair + weight * word) / (f64::from(self.firsts[v as usize]) + weight)
    }

    /// The mean of −ln p over the pairs; 0 if there is none.
    fn loss(&self, tokens: &[i64], weight: f64) -> f64 {
        let pairs = tokens.windows(2);
        let count = pairs.len().max(1) as f64;
        -pairs.map(|pair| self.probability(pair[0], pair[1], weight).ln()).sum::<f64>() / count
    }
}

#[cfg(test)]
mod tests {
    use engine::Rng;
    use rand::Rng as _;

    use super::*;

    #[test]
    fn probabilities_of_all_next_words_sum_to_one() {
        let counts = Counts::of(&[0, 1, 2, 1, 0, 1], 4).unwrap();
        for v in 0..4 {
            let sum: f64 = (0..4).map(|w| counts.probability(v, w, 0.7)).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{v}: {sum}");
        }
        // c(0 1) = 2 of c(0 ·) = 2; p(1) = (3 + 1) / (6 + 4).
        let expected = (2.0 + 0.7 * 0.4) / 2.7;
        assert!((counts.probability(0, 1, 0.7) - expected).abs() < 1e-12);
    }

    #[test]
    fn a_chain_gives_the_exponential_of_its_entropy_and_noise_its_vocabulary() {
        // The next token is the same with 3/4, another with 1/4.
        let mut rng = Rng::new(0);
        let mut now = 0;
        let mut chain = |stay: u32| -> Vec<i64> {
            let step = |_| {
                now = if rng.next_u32() % 4 < stay { now } else { 1 - now };
                now
            };
            (0..40_000).map(step).collect()
        };
        let tokens = chain(3);
        // Four standard errors of 10,000 tokens: 1.75 · 0.48 / 100 each.
        let entropy = -(0.75_f64 * 0.75_f64.ln() + 0.25 * 0.25_f64.ln());
        let got = bigram_perplexity(&tokens[..30_000], &tokens[30_000..], 2).unwrap();
        assert!((got - entropy.exp()).abs() < 0.04, "{got} for {}", entropy.exp());
        let noise = chain(2);
        let got = bigram_perplexity(&noise[..30_000], &noise[30_000..], 2).unwrap();
        assert!((got - 2.0).abs() < 0.01, "{got}");
    }

    #[test]
    fn tokens_outside_and_parts_too_short_are_refused() {
        let of = |train: &[i64], validation: &[i64]| bigram_perplexity(train, validation, 3);
        assert!(matches!(of(&[0, 3], &[0, 1]), Err(Error::Index { index: 3, at: 1, .. })));
        assert!(matches!(of(&[0, 1], &[-1, 1]), Err(Error::Index { index: -1, at: 0, .. })));
        assert!(matches!(of(&[0, 1], &[0]), Err(Error::Argument { .. })));
        assert!(of(&[0, 1], &[2, 2]).unwrap().is_finite());
    }
}
