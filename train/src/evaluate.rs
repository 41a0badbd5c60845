//! Loss and score over a whole data set, with nothing recorded.

use engine::{Result, Tape};

use crate::{Batches, Score, Task};

/// Mean loss over all terms, and the score. Both are NaN over no batches.
///
/// # Errors
/// The model's, the data's and the loss's own.
///
/// # Example
/// ```
/// use alcyon_train::{Supervised, evaluate};
/// use engine::Rng;
/// use nn::{Mlp, data::{self, Loader}};
/// let (_, test) = data::iris()?;
/// let model = Mlp::new(&[4, 3], &mut Rng::new(0));
/// let (loss, accuracy) =
///     evaluate(&model, &Supervised::classification(), &Loader::new(&test, 8)?)?;
/// assert!(loss > 0.0 && (0.0..=1.0).contains(&accuracy));
/// # Ok::<(), engine::Error>(())
/// ```
pub fn evaluate<M>(model: &M, task: &dyn Task<M>, batches: &dyn Batches) -> Result<(f64, f64)> {
    let (mut loss_sum, mut terms, mut right) = (0.0, 0, 0);
    for batch in batches.epoch(0, 0) {
        let batch = batch?;
        let outputs = task.outputs(model, &Tape::off(), &batch)?;
        let loss = task.loss(&batch);
        loss_sum += loss.nll(&outputs)?.item()? * loss.terms() as f64;
        terms += loss.terms();
        if task.score() == Score::Accuracy {
            right += task.right(&outputs.value(), &batch)?;
        }
    }
    let loss = loss_sum / terms as f64;
    let score = match task.score() {
        Score::Accuracy => right as f64 / terms as f64,
        Score::Perplexity => nn::metric::perplexity(loss),
        Score::Loss => loss,
    };
    Ok((loss, score))
}
