//! Runs an op's CUDA part: memory, contiguous inputs, kernel.

use std::sync::Arc;

use kernels::cuda::{Gpu, strided};

use super::{Op, Saved};
use crate::storage::{CudaStorage, CudaView};
use crate::tensor::{History, Tensor};
use crate::{DType, Result, Shape, Storage};

/// The output and what the kernel saved. `gpu` is the inputs' device; checks have been made.
pub(super) fn run<H: History>(
    op: &dyn Op,
    gpu: &Arc<Gpu>,
    inputs: &[&Tensor<H>],
    dtype: DType,
    shape: Shape,
) -> Result<(Tensor, Saved)> {
    let mut out = CudaStorage::unspecified(gpu, dtype, shape.numel())?;
    let plain: Vec<Tensor> = inputs
        .iter()
        .map(|t| if op.takes_strides() { Ok(t.value()) } else { super::contiguous(t) })
        .collect::<Result<_>>()?;
    let views: Vec<CudaView<'_>> = plain.iter().filter_map(view).collect();
    let saved = op.cuda(&views, &mut out)?;
    Ok((Tensor::from_cuda(out, shape), saved))
}

/// A strided tensor's elements, row-major without gaps.
pub(super) fn contiguous<H: History>(t: &Tensor<H>, storage: &CudaStorage) -> Result<Tensor> {
    let layout = t.layout();
    let mut out = CudaStorage::unspecified(storage.gpu(), t.dtype(), t.numel())?;
    let from = CudaView::new(storage, layout).strided();
    strided::copy(storage.gpu(), layout.shape(), layout.strides(), from, &out.slice_mut())?;
    Ok(Tensor::from_cuda(out, *layout.shape()))
}

fn view(t: &Tensor) -> Option<CudaView<'_>> {
    match t.storage() {
        Storage::Cuda(storage) => Some(CudaView::new(storage, t.layout())),
        Storage::Cpu(_) | Storage::Meta(_) | Storage::Refused(_) => None,
    }
}
