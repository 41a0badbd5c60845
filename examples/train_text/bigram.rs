//! The model to beat: the next token given the one before it, by counting.

/// exp of the mean of −ln p(b | a) over the pairs held out, where p(b | a) = (n_ab + 1) / (n_a + V):
/// counts in the training part, with one added to each (Laplace), so that no pair is impossible.
pub(crate) fn perplexity(train: &[i64], held_out: &[i64], vocabulary: usize) -> f64 {
    let mut pairs = vec![1.0_f64; vocabulary * vocabulary];
    let mut firsts = vec![vocabulary as f64; vocabulary];
    for pair in train.windows(2) {
        let [a, b] = [pair[0] as usize, pair[1] as usize];
        pairs[a * vocabulary + b] += 1.0;
        firsts[a] += 1.0;
    }
    let surprise = |pair: &[i64]| {
        let [a, b] = [pair[0] as usize, pair[1] as usize];
        (firsts[a] / pairs[a * vocabulary + b]).ln()
    };
    let total: f64 = held_out.windows(2).map(surprise).sum();
    (total / (held_out.len() - 1) as f64).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_alternating_letters_is_hardly_a_surprise() {
        let text: Vec<i64> = (0..2002).map(|i| i % 2).collect();
        // Each letter was followed by the other about 1000 times, and by itself never.
        let expected = 1002.5 / 1001.5;
        assert!((perplexity(&text, &text, 2) - expected).abs() < 1e-3);
        // What was never seen is guessed evenly.
        assert_eq!(perplexity(&[0, 1], &[2, 2, 2], 3), 3.0);
    }
}
