//! A long row of tokens as windows: the inputs, and the same moved by one as targets.

use std::sync::Arc;

use engine::{Error, Result, Tensor, room};

use super::augment::below;
use super::{Batch, Draw, Examples};

/// Windows of T tokens with their next tokens.
///
/// # Shape
/// inputs, targets: `[B, T]` (i64), with targets\[b, t\] = inputs\[b, t+1\]
///
/// # Example
/// ```
/// use alcyon_nn::data::{Loader, TokenWindows};
/// // Two streams, 0 1 2 3 4 and 5 6 7 8 9, read side by side, two tokens at a time.
/// let tokens: Vec<i64> = (0..11).collect();
/// let windows = TokenWindows::streams(&tokens, 2, 2)?;
/// let inputs: Vec<Vec<i64>> = Loader::new(&windows, 2)?
///     .in_order()
///     .map(|batch| batch?.inputs.to_vec())
///     .collect::<engine::Result<_>>()?;
/// assert_eq!(inputs, [[0, 1, 5, 6], [2, 3, 7, 8]]);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TokenWindows {
    tokens: Arc<[i64]>,
    /// T
    window: usize,
    /// The number of streams; none for windows anywhere.
    streams: Option<usize>,
}

impl TokenWindows {
    /// Windows that start anywhere, drawn anew for every epoch; an epoch has as many as would cover
    /// the tokens. For models without state.
    ///
    /// # Errors
    /// [`Error::Argument`] for windows of 0, or more than there are tokens for; [`Error::OutOfMemory`].
    pub fn random(tokens: &[i64], window: usize) -> Result<Self> {
        Self::new(tokens, window, None)
    }

    /// The tokens cut into `streams` equal parts that are read side by side, window after window, so
    /// that a recurrent model can go on where the batch before ended (Zaremba et al. 2014). The
    /// loader's batches must be of `streams` examples and in order; tokens that fill no window of
    /// all streams are left out. With one stream: consecutive windows, for evaluation in any batches.
    ///
    /// # Errors
    /// As [`TokenWindows::random`].
    pub fn streams(tokens: &[i64], streams: usize, window: usize) -> Result<Self> {
        Self::new(tokens, window, Some(streams))
    }

    fn new(tokens: &[i64], window: usize, streams: Option<usize>) -> Result<Self> {
        room::expect("token_windows", size_of_val(tokens))?;
        let windows = Self { tokens: tokens.into(), window, streams };
        if window == 0 || streams == Some(0) || windows.is_empty() {
            return Err(Error::Argument {
                op: "token_windows",
                name: "window",
                expected: "at least 1, and at most the tokens of a stream less one",
                got: format!("{window} in {} tokens, streams {streams:?}", tokens.len()),
            });
        }
        Ok(windows)
    }

    /// Tokens of a stream that have a next one.
    fn stream(&self) -> usize {
        self.tokens.len().saturating_sub(1) / self.streams.unwrap_or(1).max(1)
    }
}

impl Examples for TokenWindows {
    fn len(&self) -> usize {
        self.stream() / self.window.max(1) * self.streams.unwrap_or(1)
    }

    fn batch(&self, places: &[usize], draw: Draw) -> Result<Batch> {
        let all = places.len().saturating_mul(self.window);
        let mut inputs = room::empty("token_windows", all)?;
        let mut targets = room::empty("token_windows", all)?;
        for (at, &place) in places.iter().enumerate() {
            if place >= self.len() {
                let (index, bound) = (place as i64, self.len());
                return Err(Error::Index { op: "token_windows", index, at, bound });
            }
            let start = match self.streams {
                Some(streams) => place % streams * self.stream() + place / streams * self.window,
                None => below(&mut draw.example(place), self.tokens.len() - self.window),
            };
            inputs.extend_from_slice(&self.tokens[start..][..self.window]);
            targets.extend_from_slice(&self.tokens[start + 1..][..self.window]);
        }
        let shape = [places.len(), self.window];
        Ok(Batch {
            inputs: Tensor::from_vec(inputs, shape)?,
            targets: Tensor::from_vec(targets, shape)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Loader;

    fn rows(loader: &Loader, epoch: u64) -> Vec<[Vec<i64>; 2]> {
        let batches = loader.epoch_at(1, epoch).map(Result::unwrap);
        batches.map(|b| [b.inputs, b.targets].map(|t| t.to_vec().unwrap())).collect()
    }

    #[test]
    fn streams_go_on_where_the_batch_before_ended() {
        let tokens: Vec<i64> = (0..100).collect();
        let windows = TokenWindows::streams(&tokens, 3, 4).unwrap();
        // 99 / 3 = 33 tokens a stream, 8 windows each.
        assert_eq!(windows.len(), 24);
        let batches: Vec<Batch> =
            Loader::new(&windows, 3).unwrap().in_order().map(Result::unwrap).collect();
        for (step, batch) in batches.iter().enumerate() {
            let [inputs, targets] = [&batch.inputs, &batch.targets].map(|t| t.to_vec::<i64>());
            for (at, (input, target)) in
                inputs.unwrap().into_iter().zip(targets.unwrap()).enumerate()
            {
                assert_eq!(input as usize, at / 4 * 33 + step * 4 + at % 4);
                assert_eq!(target, input + 1);
            }
        }
    }

    #[test]
    fn random_windows_are_somewhere_else_each_epoch_and_reach_both_ends() {
        let tokens: Vec<i64> = (0..9).collect();
        let loader = Loader::new(&TokenWindows::random(&tokens, 4).unwrap(), 1).unwrap();
        assert_eq!(loader.batches(), 2);
        let mut starts = [0; 5];
        for epoch in 0..200 {
            for [inputs, targets] in rows(&loader, epoch) {
                assert!(inputs.iter().zip(&targets).all(|(i, t)| i + 1 == *t));
                starts[inputs[0] as usize] += 1;
            }
        }
        // 400 / 5 = 80, deviation 8: within five of them.
        assert!(starts.iter().all(|n| (40..=120).contains(n)), "{starts:?}");
        assert_eq!(rows(&loader, 3), rows(&loader, 3));
    }

    #[test]
    fn windows_that_do_not_fit_are_refused() {
        let tokens = [1, 2, 3, 4];
        assert!(TokenWindows::random(&tokens, 3).is_ok());
        for (streams, window) in [(None, 4), (None, 0), (Some(2), 2), (Some(0), 1)] {
            let got = TokenWindows::new(&tokens, window, streams);
            assert!(matches!(got, Err(Error::Argument { .. })), "{streams:?} {window}");
        }
        assert!(TokenWindows::random(&[], 1).is_err());
    }
}
