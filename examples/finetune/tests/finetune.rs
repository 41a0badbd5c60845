//! `finetune` as a program: what it says about a file that another program wrote.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

use std::fs;
use std::process::Command;

use safetensors::tensor::{Dtype, TensorView};

#[test]
fn whatever_a_file_has_and_the_network_does_not_take_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("theirs.safetensors");
    let view = |dtype, shape: &[usize], bytes: &'static [u8]| {
        TensorView::new(dtype, shape.to_vec(), bytes).unwrap()
    };
    let tensors = [
        ("steps", view(Dtype::I32, &[1], &[7, 0, 0, 0])),
        ("scale", view(Dtype::F8_E4M3, &[2], &[0, 0])),
        ("seven", view(Dtype::U8, &[1; 9], &[7])),
        ("mean", view(Dtype::F32, &[1], &[0; 4])),
    ];
    fs::write(&file, safetensors::serialize(tensors, None).unwrap()).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_finetune"));
    program.args(["--model", "mlp", "--epochs", "1", "--quick", "--checkpoint"]).arg(&file);
    let said = program.output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let said = String::from_utf8(said.stdout).unwrap();
    let unused = said.lines().find_map(|line| line.strip_prefix("in the file and not used: "));
    let unused = unused.unwrap_or_default();
    for told in ["steps (i64 [1])", "scale (F8_E4M3 [2])", "seven (U8 [1, 1,", "mean (f32 [1])"] {
        assert!(unused.contains(told), "{told} in {said}");
    }
}
