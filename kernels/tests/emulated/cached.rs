//! Programs: compiled, refused, kept on disk.

use alcyon_kernels::cuda::compile::compile;
use alcyon_kernels::cuda::{Arg, CudaError, Grid, Program, Scalar, Text};

use crate::device;

const ONE: Grid = Grid { blocks: 1, threads: 1, shared: 0 };

#[test]
fn a_text_that_does_not_compile_says_where() {
    let Some((gpu, _guard)) = device() else { return };
    let source = "extern \"C\" __global__ void broken(int n) {\n    n = undeclared;\n}";
    let program = Program::new(Text { name: "broken", source }, Scalar::F32);
    // SAFETY: the kernel never comes to be.
    let error = unsafe { gpu.run(&program, "broken", ONE, &[Arg::Int(1)]) }.unwrap_err();
    assert!(
        matches!(&error, CudaError::Compile { program, log } if program == "broken<float>" && log.contains("undeclared")),
        "{error}"
    );
}

#[test]
fn arguments_unlike_the_parameters_are_refused_before_the_launch() {
    let Some((gpu, _guard)) = device() else { return };
    let source = "extern \"C\" __global__ void nothing(int n, double x) {}";
    let program = Program::new(Text { name: "nothing", source }, Scalar::F32);
    for arguments in [&[Arg::Int(1)][..], &[Arg::Double(1.0), Arg::Int(1)], &[Arg::Int(1); 2]] {
        // SAFETY: the kernel touches no memory.
        let answer = unsafe { gpu.run(&program, "nothing", ONE, arguments) };
        assert!(matches!(answer, Err(CudaError::Arguments { .. })), "{answer:?}");
    }
    // SAFETY: as above.
    unsafe { gpu.run(&program, "nothing", ONE, &[Arg::Int(1), Arg::Double(1.0)]) }.unwrap();
}

#[test]
fn a_device_newer_than_the_compiler_gets_its_newest_portable_code_and_an_old_one_an_error() {
    let Some((_gpu, _guard)) = device() else { return };
    let source = "extern \"C\" __global__ void nothing(int n) {}";
    assert!(compile("newer", source, (12, 0), false).is_ok());
    assert!(matches!(compile("older", source, (7, 0), false), Err(CudaError::Compile { .. })));
}
