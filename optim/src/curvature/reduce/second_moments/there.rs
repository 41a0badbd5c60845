//! The same sums of a record that is on a device: products of matrices there, of rows that are written down
//! (a convolution's patches for some images at a time). Nothing is read back.

use std::ops::Range;

use engine::{DType, Layer, LayerRecord, Result, Tensor};

use super::{Pattern, as_rows, gathered, scale_shift};
use crate::curvature::form::Share;
use crate::curvature::reduce::numbers::Numbers;

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
        _ => over_rows(&parts(record, PATCHES)?, share, inputs, kept)?,
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
    parts: &[LayerRecord],
    share: Share,
    inputs: bool,
    (kept, outputs): &(Pattern, Pattern),
) -> Result<(Option<Tensor>, usize, Tensor)> {
    let (mut a_sum, mut g_sum, mut count) = (None, None, 0);
    for part in parts {
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
    let none = Tensor::zeros([outputs.numbers()], DType::F64);
    Ok((a_sum, count, g_sum.unwrap_or(none)))
}

/// A convolution's record in runs of images with at most so many numbers of patches, others whole.
fn parts(record: &LayerRecord, most: usize) -> Result<Vec<LayerRecord>> {
    let (pixels, groups) = match record.layer {
        Layer::Conv2d(geometry) => (&record.output_grad, geometry.groups),
        Layer::ConvTranspose2d(geometry) => (&record.input, geometry.groups),
        _ => return Ok(vec![record.clone()]),
    };
    let (images, channels) = (pixels.shape()[0], record.weight_shape[0].max(1));
    // Of one image: its positions, each with a patch of every group.
    let patches =
        groups * pixels.shape()[2] * pixels.shape()[3] * (record.weight_shape.numel() / channels);
    let run = (most / patches.max(1)).max(1);
    let part = |start: usize| {
        let some = |x: &Tensor| x.narrow(0, start, run.min(images - start));
        let (input, output_grad) = (some(&record.input)?, some(&record.output_grad)?);
        Ok(LayerRecord { input, output_grad, ..record.clone() })
    };
    (0..images.max(1)).step_by(run).map(part).collect()
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

#[cfg(test)]
mod tests {
    use engine::{Geometry, Parameter, Rng, Window};

    use super::*;

    #[test]
    fn runs_of_images_add_up_to_what_kernels_make_of_all() {
        let rng = &mut Rng::new(1);
        let window = Window { padding: (1, 0), ..Window::new((3, 2)) };
        let mut normal = |shape: [usize; 4]| Tensor::normal(shape, 0.0, 1.0, DType::F64, rng);
        let record = LayerRecord {
            layer: Layer::Conv2d(Geometry { window, groups: 2 }),
            weight: Parameter::new(Tensor::zeros([1], DType::F64)).id(),
            weight_shape: [6, 2, 3, 2].into(),
            bias: Some(Parameter::new(Tensor::zeros([1], DType::F64)).id()),
            input: normal([5, 4, 4, 5]),
            moments: None,
            output_grad: normal([5, 6, 4, 4]),
            is_last: false,
        };
        for kept in [
            (Pattern::whole(13), Pattern::whole(3)),
            (Pattern::Blocks(vec![6, 7]), Pattern::Blocks(vec![2, 1])),
            (Pattern::Diagonal(13), Pattern::Diagonal(3)),
        ] {
            let (a, rows, g) =
                crate::curvature::reduce::second_moments::sums(&record, Share::Expand, true, &kept)
                    .unwrap();
            // Of an image, 2 · 16 · 12 numbers: one at a time, two, all.
            for (most, runs) in [(1, 5), (800, 3), (1 << 20, 1)] {
                let parts = parts(&record, most).unwrap();
                assert_eq!(parts.len(), runs);
                let (there_a, there_rows, there_g) =
                    over_rows(&parts, Share::Expand, true, &kept).unwrap();
                assert_eq!(there_rows, rows);
                for (here, there) in [(&a, there_a.unwrap()), (&g, there_g)] {
                    let there = there.to_vec::<f64>().unwrap();
                    assert_eq!(here.len(), there.len());
                    let close = |(x, y): (&f64, &f64)| (x - y).abs() <= 1e-12 * x.abs().max(1.0);
                    assert!(here.iter().zip(&there).all(close), "{most}");
                }
            }
        }
    }
}
