//! The same sums of a record that is on a device: products of matrices there, of rows that are written down
//! (a convolution's patches for some images at a time). Nothing is read back.

use std::ops::Range;

use engine::{DType, Error, Layer, LayerRecord, Result, Tensor};

use super::{Pattern, Share, as_rows, gathered, scale_shift};
use crate::curvature::numbers::Numbers;

/// The most elements of patches that are written down at a time.
const PATCHES: usize = 1 << 26;

/// Σ a aᵀ (nothing, unless inputs are asked for), the rows, Σ g gᵀ.
pub(super) fn sums(
    record: &LayerRecord,
    share: Share,
    inputs: bool,
    kept: &(Pattern, Pattern),
) -> Result<(Numbers, usize, Numbers)> {
    let (a, rows, g) = match record.layer {
        Layer::Lookup => {
            let (g, rows) = as_rows(&record.output_grad)?;
            (counts(record, inputs)?, rows, gram(&g, &kept.1)?)
        }
        Layer::ScaleShift(norm) => (None, 1, flat(&scale_shift(record, norm)?)?),
        _ => over_rows(record, share, inputs, kept)?,
    };
    Ok((a.map_or_else(Numbers::default, Numbers::There), rows, Numbers::There(g)))
}

/// How often each index occurs.
fn counts(record: &LayerRecord, inputs: bool) -> Result<Option<Tensor>> {
    if !inputs {
        return Ok(None);
    }
    let n = record.input.numel();
    let ones = Tensor::full_on(record.input.device(), [n], 1.0, DType::F64)?;
    ones.scatter_add(0, &record.input.reshape([n])?, record.weight_shape[0]).map(Some)
}

/// The second moments of rows, group by group, added up over runs of images.
fn over_rows(
    record: &LayerRecord,
    share: Share,
    inputs: bool,
    (kept, outputs): &(Pattern, Pattern),
) -> Result<(Option<Tensor>, usize, Tensor)> {
    let (mut a_sum, mut g_sum, mut count) = (None, None, 0);
    for part in parts(record)? {
        let (mut a_groups, mut g_groups, mut rows) = (Vec::new(), Vec::new(), 0);
        for group in part.rows()? {
            let (a, g) = match share {
                Share::Expand => (group.a, group.g),
                Share::Reduce => gathered(&group)?,
            };
            rows = g.shape()[0];
            if inputs {
                a_groups.push(gram(&a, kept)?);
            }
            g_groups.push(gram(&g, outputs)?);
        }
        count += rows;
        add(&mut a_sum, &a_groups)?;
        add(&mut g_sum, &g_groups)?;
    }
    let empty = Error::NoKernel { op: "kfac", device: record.input.device() };
    Ok((a_sum, count, g_sum.ok_or(empty)?))
}

/// A convolution's record in runs of images, others whole.
fn parts(record: &LayerRecord) -> Result<Vec<LayerRecord>> {
    let pixels = match record.layer {
        Layer::Conv2d(_) => &record.output_grad,
        Layer::ConvTranspose2d(_) => &record.input,
        _ => return Ok(vec![record.clone()]),
    };
    let (images, channels) = (pixels.shape()[0], record.weight_shape[0].max(1));
    // Of one image: its positions, each with a patch.
    let patches = pixels.shape()[2] * pixels.shape()[3] * (record.weight_shape.numel() / channels);
    let run = (PATCHES / patches.max(1)).max(1);
    let part = |start: usize| {
        let some = |x: &Tensor| x.narrow(0, start, run.min(images - start));
        let (input, output_grad) = (some(&record.input)?, some(&record.output_grad)?);
        Ok(LayerRecord { input, output_grad, ..record.clone() })
    };
    (0..images).step_by(run).map(part).collect()
}

/// Adds the numbers of all groups, one after another.
fn add(sum: &mut Option<Tensor>, groups: &[Tensor]) -> Result<()> {
    if !groups.is_empty() {
        let all = flat(groups)?;
        *sum = Some(match sum.take() {
            None => all,
            Some(sum) => sum.add(&all)?,
        });
    }
    Ok(())
}

/// What is kept of xᵀx.
fn gram(x: &Tensor, kept: &Pattern) -> Result<Tensor> {
    let Pattern::Blocks(_) = kept else { return flat(&[x.square()?.sum(&[0])?]) };
    let block = |range: Range<usize>| {
        let x = x.narrow(1, range.start, range.len())?;
        x.transpose(0, 1)?.matmul(&x)
    };
    flat(&kept.ranges().into_iter().map(block).collect::<Result<Vec<_>>>()?)
}

/// One after another, as f64.
fn flat(parts: &[Tensor]) -> Result<Tensor> {
    let flat = |part: &Tensor| part.reshape([part.numel()])?.to_dtype(DType::F64);
    let parts: Vec<Tensor> = parts.iter().map(flat).collect::<Result<_>>()?;
    match parts.as_slice() {
        [one] => Ok(one.clone()),
        parts => Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0),
    }
}
