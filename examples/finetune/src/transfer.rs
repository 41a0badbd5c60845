//! What is taken from a file, and what of it stays as it is.

use std::collections::BTreeMap;

use alcyon::nn::Checkpoint;
use alcyon::prelude::*;

/// What became of a file's tensors and a model's members.
pub(crate) struct Taken {
    /// Members that are left as they were.
    pub(crate) fresh: Vec<String>,
    /// Tensors of the file that are not used.
    pub(crate) unused: Vec<String>,
}

/// Reads all tensors of the file that have the place and the shape of one of the model's.
pub(crate) fn body(checkpoint: &Checkpoint, model: &mut dyn Parameters) -> Result<Taken> {
    let parameters = model.parameters().into_iter().map(|(path, p)| (path, *p.value().shape()));
    let buffers = model.buffers().into_iter().map(|(path, b)| (path, *b.value().shape()));
    let shapes: BTreeMap<String, Shape> = parameters.chain(buffers).collect();
    let mut unused = Vec::new();
    let fitting = checkpoint.clone().translate(|name, value| {
        let fits = shapes.get(name).is_some_and(|shape| shape == value.shape());
        unused.extend((!fits).then(|| format!("{name} ({} {})", value.dtype(), value.shape())));
        Ok(fits.then(|| (name.to_owned(), value)))
    })?;
    let fresh = fitting.restore_part(model)?;
    // And what could not be read at all.
    unused.extend(fitting.unused(model));
    Ok(Taken { fresh, unused })
}

/// Trains only these. (Batch norm goes on averaging its statistics: those are not parameters.)
pub(crate) fn freeze_all_but(paths: &[String], model: &mut dyn Parameters) {
    for (path, parameter) in model.parameters_mut() {
        parameter.set_trainable(paths.contains(&path));
    }
}
