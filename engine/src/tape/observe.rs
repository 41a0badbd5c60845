//! What an observer is told of one record on its way back: a layer's use, or parameters used outside layers.

use super::{Layer, LayerObserver, LayerRecord, NodeId, Recording};
use crate::op::halves::widened;
use crate::tensor::{Tensor, Var};
use crate::{DType, Error, ParamId, Result};

/// Reports one record to the observer: a layer's use, or parameters used outside layers. The observer gets
/// copies and may read the tape; what it records there is refused.
pub(super) fn observe(
    recording: &Recording,
    id: NodeId,
    (grad, is_last): (&Var, bool),
    observer: &mut dyn LayerObserver,
) -> Result<()> {
    let seen = seen(recording, id, (grad, is_last))?;
    let records = recording.nodes.borrow().len();
    for (param, op) in seen.unlayered {
        observer.unlayered(param, op)?;
    }
    for record in &seen.records {
        observer.observe(record)?;
    }
    match recording.nodes.borrow().len() == records {
        true => Ok(()),
        false => Err(Error::TapeSwept { op: "observe" }),
    }
}

/// What an observer is told of one record.
#[derive(Default)]
struct Seen {
    unlayered: Vec<(ParamId, &'static str)>,
    /// None, a layer's, or a transposed convolution's and its bias's.
    records: Vec<LayerRecord>,
}

fn seen(recording: &Recording, id: NodeId, (grad, is_last): (&Var, bool)) -> Result<Seen> {
    let mut seen = Seen::default();
    let nodes = &recording.nodes.borrow();
    let node = &nodes[id];
    // A parameter that is cast is not used yet.
    let Some(op) = node.op.as_ref().filter(|_| node.param.is_none()) else { return Ok(seen) };
    let param = |i: usize| node.inputs.get(i).and_then(|&n| nodes[n].param);
    let wants = |i: usize| nodes[node.inputs[i]].needs_grad;
    let (layer, weight) = (op.layer(), param(1));
    let is_layer = layer.is_some() && weight.is_some();
    for i in 0..node.inputs.len() {
        let in_layer = is_layer && (i == 1 || i == 2);
        if let (Some(used), false, true) = (param(i), in_layer, wants(i)) {
            seen.unlayered.push((used, op.name()));
        }
    }
    let (Some(layer), Some(weight)) = (layer, weight) else { return Ok(seen) };
    let trained = param(2).filter(|_| wants(2));
    let (bias, apart) = match layer {
        Layer::ConvTranspose2d(_) => (None, trained),
        _ => (param(2), None),
    };
    if !wants(1) && trained.is_none() {
        return Ok(seen);
    }
    let output_grad = as_image(layer, &recording.unscaled(widened(&grad.value())?)?)?;
    if wants(1) || bias.is_some() {
        let moments = match (layer, node.saved.as_slice()) {
            (Layer::ScaleShift(_), [mean, rstd, ..]) => Some((mean.clone(), rstd.clone())),
            _ => None,
        };
        let input = as_image(layer, &widened(&nodes[node.inputs[0]].seen())?)?;
        debug_assert!(layer != Layer::Lookup || input.dtype() == DType::I64);
        seen.records.push(LayerRecord {
            layer,
            weight,
            weight_shape: nodes[node.inputs[1]].shape,
            bias,
            input,
            moments,
            output_grad: output_grad.clone(),
            is_last,
        });
    }
    if let Some(bias) = apart {
        seen.records.push(LayerRecord {
            layer: Layer::Bias,
            weight: bias,
            weight_shape: nodes[node.inputs[2]].shape,
            bias: None,
            input: Tensor::meta([output_grad.shape()[0], 1], output_grad.dtype()),
            moments: None,
            output_grad,
            is_last,
        });
    }
    Ok(seen)
}

/// A convolved line, as the image one pixel high that it is.
fn as_image(layer: Layer, x: &Tensor) -> Result<Tensor> {
    match (layer, &**x.shape()) {
        (Layer::Conv2d(_), &[n, c, length]) => x.reshape([n, c, 1, length]),
        _ => Ok(x.clone()),
    }
}
