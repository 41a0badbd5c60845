//! Buffer updates that a forward pass proposes and a model applies: running statistics.

use crate::{Buffer, Error, ParamId, Result, Tensor};

/// New values for buffers, in the order they were proposed.
#[derive(Debug, Default)]
pub struct Staged(Vec<(ParamId, Tensor)>);

impl Staged {
    pub(super) fn push(&mut self, buffer: ParamId, value: Tensor) {
        self.0.push((buffer, value));
    }

    pub(super) fn get(&self, buffer: ParamId) -> Option<Tensor> {
        self.0.iter().rev().find(|(id, _)| *id == buffer).map(|(_, value)| value.clone())
    }

    /// Writes each buffer's last proposed value into it.
    pub(crate) fn apply(self, buffers: Vec<(String, &mut Buffer)>) -> Result<()> {
        for (path, buffer) in buffers {
            let Some(value) = self.get(buffer.id()) else { continue };
            if value.shape() != buffer.value().shape() {
                return Err(Error::shape(
                    "commit",
                    "the buffer's shape",
                    &[buffer.value().shape(), value.shape()],
                )
                .in_layer(&path));
            }
            *buffer.value_mut() = value;
        }
        Ok(())
    }
}
