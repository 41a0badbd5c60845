//! Numbers of many small tensors, brought to the host together: each read of a device waits for it.

use engine::{Device, Result, Tensor};

/// The numbers of each tensor, in f64; with one read of a device for all that are on it in a row and of one
/// dtype.
pub(crate) fn together(tensors: &[&Tensor]) -> Result<Vec<Vec<f64>>> {
    let mut all = Vec::with_capacity(tensors.len());
    let alike = |a: &&Tensor, b: &&Tensor| (a.device(), a.dtype()) == (b.device(), b.dtype());
    for run in tensors.chunk_by(alike) {
        if run.len() == 1 || run[0].device() == Device::Cpu {
            for x in run {
                all.push(x.to_f64_vec()?);
            }
            continue;
        }
        let flat = run.iter().map(|x| x.reshape([x.numel()])).collect::<Result<Vec<_>>>()?;
        let joined = Tensor::concat(&flat.iter().collect::<Vec<_>>(), 0)?.to_f64_vec()?;
        let mut rest = joined.as_slice();
        for x in &flat {
            let (own, others) = rest.split_at(x.numel());
            all.push(own.to_vec());
            rest = others;
        }
    }
    Ok(all)
}
