//! 01 · Tensors: shape, strides, views, broadcasting; what is copied and what is not.
//!
//! `cargo run --example 01_tensor`
#![allow(clippy::print_stdout, reason = "a lesson prints")]

use alcyon::prelude::*;

fn main() -> Result<()> {
    // 1. Numbers in row-major order, and a shape. The dtype follows the numbers.
    let x = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3])?;
    println!("x =\n{x:.0}\n");

    // 2. A layout says where element (i, j) is: offset + i·stride₀ + j·stride₁.
    let show = |name: &str, t: &Tensor| {
        let l = t.layout();
        println!(
            "{name:<22} shape {:<10} strides {:?} offset {}",
            l.shape(),
            l.strides(),
            l.offset()
        );
    };
    show("x", &x);

    // 3. Views change only the layout. None of these copies a number.
    show("x.transpose(0, 1)", &x.transpose(0, 1)?);
    show("x.narrow(1, 1, 2)", &x.narrow(1, 1, 2)?);
    show("x.reshape([3, 2])", &x.reshape([3, 2])?);
    let row = Tensor::from_slice(&[10.0_f32, 20.0, 30.0], [3])?;
    show("row.broadcast_to(2×3)", &row.broadcast_to([2, 3])?);
    println!("(stride 0: the same row is read twice)\n");

    // 4. Broadcasting aligns shapes at the last axis. A size of 1, or a missing axis, repeats.
    println!("x + row =\n{:.0}\n", x.add(&row)?);
    let column = Tensor::from_slice(&[100.0_f32, 200.0], [2, 1])?;
    println!("x + column =\n{:.0}\n", x.add(&column)?);

    // 5. A product takes transposed views as they are: strides go to the kernel.
    println!("x · xᵀ =\n{:.0}\n", x.matmul(&x.transpose(0, 1)?)?);

    // 6. Reductions take the axes that disappear.
    println!("sum over rows    {:.0}", x.sum(&[0])?);
    println!("mean over columns {:.0}", x.mean(&[1])?);
    println!("sum of all       {:.0}\n", x.sum_all()?);

    // 7. Memory is shared until somebody writes: then the writer gets a copy.
    let mut copy = x.clone();
    copy.make_mut::<f32>()?[0] = -1.0;
    println!("after writing to a clone, x is still\n{x:.0}\n");

    // 8. What does not fit is an error that says what was expected and what came.
    for error in [
        x.matmul(&x).err(),
        x.add(&Tensor::zeros([4], DType::F32)).err(),
        x.add(&Tensor::zeros([3], DType::F64)).err(),
        x.narrow(1, 2, 2).err(),
        x.sum(&[2]).err(),
    ] {
        println!("error: {}", error.map_or_else(String::new, |e| e.to_string()));
    }

    // 9. A tensor on the meta device has a shape and no numbers: a model can be tried for free.
    let huge = Tensor::meta([1_000_000, 4096], DType::F32);
    let weight = Tensor::meta([1024, 4096], DType::F32);
    let y = huge.linear(&weight, None)?;
    println!(
        "\nmeta: [1000000, 4096] through a linear layer gives {} ({} GB, none allocated)",
        y.shape(),
        y.bytes() / 1_000_000_000
    );
    Ok(())
}
