//! Files of weights, in the safetensors format.

use std::collections::BTreeMap;
use std::path::Path;

use alcyon::nn::{Checkpoint, Linear, checkpoint};
use alcyon::prelude::{Parameters, Rng, Sequential, Tensor};

use super::{accepted, read_again};

/// What is read can be written, and is then read and written to the same bytes; and a model takes all of a file or
/// nothing.
pub fn weights(bytes: &[u8]) -> bool {
    let file = Path::new("model.safetensors");
    let Some(read) = accepted(Checkpoint::decoded(file, bytes), file) else { return false };
    let written = encoded(file, &read);
    let again = read_again(Checkpoint::decoded(file, &written));
    assert_eq!((&again.metadata, again.extra.len()), (&read.metadata, tensors(&read).len()));
    let nothing = Sequential::new();
    let twice = checkpoint::encoded(file, &nothing, &again.extra, &again.metadata);
    assert!(read_again(twice) == written, "the same tensors and text are other bytes");

    let mut model = Linear::new(3, 2, &mut Rng::new(0));
    let before = numbers(&model);
    match read.restore(&mut model) {
        Ok(()) => assert_eq!(tensors(&read)["m/weight"].shape()[..], [2, 3]),
        Err(_) => assert_eq!(numbers(&model), before),
    }
    true
}

/// All tensors of a file as what is not a model's, with its text.
fn encoded(file: &Path, read: &Checkpoint) -> Vec<u8> {
    read_again(checkpoint::encoded(file, &Sequential::new(), &tensors(read), &read.metadata))
}

/// The model's and the others, by names that differ.
fn tensors(read: &Checkpoint) -> BTreeMap<String, Tensor> {
    let mut all: BTreeMap<String, Tensor> =
        read.extra.iter().map(|(name, tensor)| (format!("e/{name}"), tensor.clone())).collect();
    read_again(read.clone().translate(|name, tensor| {
        all.insert(format!("m/{name}"), tensor);
        Ok(None)
    }));
    all
}

/// The bits of a model's members.
pub(crate) fn numbers(model: &dyn Parameters) -> Vec<(String, Vec<u8>)> {
    let members = model.parameters().into_iter();
    let bits =
        |t: &Tensor| t.to_vec::<f32>().unwrap().iter().flat_map(|x| x.to_le_bytes()).collect();
    members.map(|(path, parameter)| (path, bits(parameter.value()))).collect()
}
