//! Scaled dot-product attention and its gradients: cuBLAS products, and a kernel between them.
//! Formulas: the module of this name for the CPU.
//!
//! The scores are written down, heads · T · S numbers, and twice as many on the way back; none of them
//! is kept between forward and backward. Of 16-bit operands scores are f32, and what is made of them is
//! rounded on its way into the next product.

use super::cast::cast;
use super::device::Gpu;
use super::error::{CudaError, Result};
use super::gemm::{Matrices, gemm};
use super::launch::{Arg, Grid};
use super::memory::Buffer;
use super::operand::{length, scalar as same};
use super::program::{Program, Text};
use super::slice::{Scalar, Slice, SliceMut};
use crate::attention::Attention;

const TEXT: Text = Text { name: "attention", source: include_str!("../../cuda/attention.cu") };

/// O = softmax(s Q Kᵀ) V; writes ℓ of every query too.
///
/// # Shape
/// q: \[heads, T, d\] · k: \[heads, S, d\] · v: \[heads, S, e\] · out: \[heads, T, e\] ·
/// log sums: \[heads, T\]
///
/// # Errors
/// What the driver, the compiler or cuBLAS refuses (all functions here).
pub fn forward(
    gpu: &Gpu,
    sizes: &Attention,
    [q, k, v]: [Slice<'_>; 3],
    out: &SliceMut<'_>,
    log_sums: &SliceMut<'_>,
) -> Result<()> {
    let Attention { heads, queries, keys, width, values, scale, .. } = *sizes;
    check("attention", sizes, [q, k, v], out.read(), log_sums.read())?;
    if heads == 0 {
        return Ok(());
    }
    let scalar = out.scalar();
    let wide = scalar.computed_in();
    let mut scores = gpu.memory().numbers(wide, &[heads, queries, keys])?;
    let length = heads * queries * keys;
    let scores = SliceMut::new(&mut scores, wide, length);
    let (q, k) = (Matrices::new(q, queries, width), Matrices::new(k, keys, width));
    gemm(gpu, heads, scale, q, k.t(), 0.0, &scores)?;
    let [rows, queries_of, keys_of, causal] = rows(sizes);
    let arguments = [rows, queries_of, keys_of, causal, (&scores).into(), log_sums.into()];
    let program = Program::new(TEXT, scalar);
    gpu.launch(&program, "weights", grid(sizes, wide), &arguments)?;
    let rounded = rounded(gpu, &scores, scalar)?;
    let p = Matrices::new(operand(&scores, rounded.as_ref(), scalar), queries, keys);
    gemm(gpu, heads, 1.0, p, Matrices::new(v, keys, values), 0.0, out)
}

/// The gradients of [`forward`], from its output and ℓ.
///
/// # Shape
/// out, g: \[heads, T, e\] · log sums: \[heads, T\] · dq, dk, dv: as q, k, v
///
/// # Errors
/// As [`forward`].
pub fn backward(
    gpu: &Gpu,
    sizes: &Attention,
    [q, k, v]: [Slice<'_>; 3],
    [out, log_sums, g]: [Slice<'_>; 3],
    [dq, dk, dv]: [&SliceMut<'_>; 3],
) -> Result<()> {
    let Attention { heads, queries, keys, width, values, scale, .. } = *sizes;
    check("attention backward", sizes, [q, k, v], out, log_sums)?;
    let gradients = [dq.read(), dk.read(), dv.read()];
    check("attention backward", sizes, gradients, g, log_sums)?;
    same("attention backward", "dq", dq.scalar(), q.scalar())?;
    if heads == 0 {
        return Ok(());
    }
    let scalar = dq.scalar();
    let wide = scalar.computed_in();
    let mut p = gpu.memory().numbers(wide, &[heads, queries, keys])?;
    let mut ds = gpu.memory().numbers(wide, &[heads, queries, keys])?;
    let length = heads * queries * keys;
    let (p, ds) = (SliceMut::new(&mut p, wide, length), SliceMut::new(&mut ds, wide, length));
    let (q, k) = (Matrices::new(q, queries, width), Matrices::new(k, keys, width));
    let (v, g_rows) = (Matrices::new(v, keys, values), Matrices::new(g, queries, values));
    gemm(gpu, heads, scale, q, k.t(), 0.0, &p)?;
    gemm(gpu, heads, 1.0, g_rows, v.t(), 0.0, &ds)?;
    let [rows, queries_of, keys_of, causal] = rows(sizes);
    let arguments = [
        rows,
        queries_of,
        keys_of,
        values.into(),
        causal,
        out.into(),
        g.into(),
        log_sums.into(),
        (&p).into(),
        (&ds).into(),
    ];
    let program = Program::new(TEXT, scalar);
    gpu.launch(&program, "weight_gradients", grid(sizes, wide), &arguments)?;
    let (rounded_p, rounded_ds) = (rounded(gpu, &p, scalar)?, rounded(gpu, &ds, scalar)?);
    let p = Matrices::new(operand(&p, rounded_p.as_ref(), scalar), queries, keys);
    let ds = Matrices::new(operand(&ds, rounded_ds.as_ref(), scalar), queries, keys);
    gemm(gpu, heads, scale, ds, k, 0.0, dq)?;
    gemm(gpu, heads, scale, ds.t(), q, 0.0, dk)?;
    gemm(gpu, heads, 1.0, p.t(), g_rows, 0.0, dv)
}

/// A copy of what is to be multiplied with numbers of 16 bits, rounded to those; nothing for other types.
fn rounded(gpu: &Gpu, wide: &SliceMut<'_>, scalar: Scalar) -> Result<Option<Buffer>> {
    if wide.scalar() == scalar {
        return Ok(None);
    }
    let mut copy = gpu.memory().numbers(scalar, &[wide.len()])?;
    cast(gpu, wide.read(), &SliceMut::new(&mut copy, scalar, wide.len()))?;
    Ok(Some(copy))
}

/// The copy, if there is one.
fn operand<'a>(wide: &'a SliceMut<'_>, copy: Option<&'a Buffer>, scalar: Scalar) -> Slice<'a> {
    copy.map_or_else(|| wide.read(), |copy| Slice::new(copy, scalar, 0, wide.len()))
}

/// Lengths, and one type for all but the sums.
fn check(
    kernel: &'static str,
    sizes: &Attention,
    inputs: [Slice<'_>; 3],
    out: Slice<'_>,
    log_sums: Slice<'_>,
) -> Result<()> {
    let Attention { heads, queries, keys, width, values, causal, .. } = *sizes;
    let least = if causal { queries } else { 1 };
    if [queries, keys, width, values].contains(&0) || keys < least {
        let sizes = vec![heads, queries, keys, width, values];
        let expected = "no empty head, and for causal queries as many keys at least";
        return Err(CudaError::Sizes {
            what: "heads, queries, keys, width, values",
            sizes,
            expected,
        });
    }
    let of = [[heads, queries, width], [heads, keys, width], [heads, keys, values]];
    for ((name, x), sizes) in ["q", "k", "v"].into_iter().zip(inputs).zip(of) {
        length(kernel, name, x.len(), &sizes)?;
        same(kernel, name, x.scalar(), out.scalar())?;
    }
    length(kernel, "out", out.len(), &[heads, queries, values])?;
    length(kernel, "log sums", log_sums.len(), &[heads, queries])
}

fn rows(sizes: &Attention) -> [Arg; 4] {
    let Attention { heads, queries, keys, causal, .. } = *sizes;
    [(heads * queries).into(), queries.into(), keys.into(), Arg::Int(causal.into())]
}

fn grid(sizes: &Attention, scalar: Scalar) -> Grid {
    Grid::blocks(sizes.heads * sizes.queries).sharing(scalar.bytes())
}
