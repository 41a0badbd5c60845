//! What is taken from a file, and what of it stays as it is.

use std::collections::BTreeMap;

use alcyon::nn::Checkpoint;
use alcyon::prelude::*;

/// Reads all tensors of the file that have the place and the shape of one of the model's; says which
/// members are left as they were.
pub(crate) fn body(checkpoint: &Checkpoint, model: &mut dyn Parameters) -> Result<Vec<String>> {
    let parameters = model.parameters().into_iter().map(|(path, p)| (path, *p.value().shape()));
    let buffers = model.buffers().into_iter().map(|(path, b)| (path, *b.value().shape()));
    let shapes: BTreeMap<String, Shape> = parameters.chain(buffers).collect();
    let fitting = checkpoint.clone().translate(|name, value| {
        let fits = shapes.get(name).is_some_and(|shape| shape == value.shape());
        Ok(fits.then(|| (name.to_owned(), value)))
    })?;
    fitting.restore_part(model)
}

/// Trains only these. (Batch norm goes on averaging its statistics: those are not parameters.)
pub(crate) fn freeze_all_but(paths: &[String], model: &mut dyn Parameters) {
    for (path, parameter) in model.parameters_mut() {
        parameter.set_trainable(paths.contains(&path));
    }
}
