//! Compiles the stand-ins with the machine's C++ compiler. Without one, the crate says so.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const LIBRARIES: [(&str, &str); 5] = [
    ("driver.cpp", "libcuda.so.1"),
    ("nvrtc.cpp", "libnvrtc.so.13"),
    ("cublas.cpp", "libcublas.so.13"),
    ("cublaslt.cpp", "libcublasLt.so.13"),
    ("cudnn.cpp", "libcudnn.so.9"),
];

/// If it is set, everything is compiled with AddressSanitizer: scripts/emulator-asan.sh.
const SANITIZE: &str = "ALCYON_EMULATOR_SANITIZE";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=cpp");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CXX");
    println!("cargo::rerun-if-env-changed={SANITIZE}");
    let source = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("cpp");
    // In a folder of its own: tests of another build may be running on what is there.
    let sanitized = env::var_os(SANITIZE).is_some();
    let out =
        PathBuf::from(env::var("OUT_DIR")?).join(if sanitized { "sanitized" } else { "plain" });
    let compiler = env::var("CXX").unwrap_or_else(|_| "g++".into());
    match build(&compiler, &source, &out, sanitized) {
        Ok(()) => {
            println!("cargo::rustc-env=EMULATOR_FOLDER={}", out.join("lib").display());
            if sanitized {
                println!("cargo::rustc-env=EMULATOR_SANITIZED=yes");
            }
        }
        Err(reason) => {
            println!("cargo::warning=no CUDA emulator: {reason}");
            println!("cargo::rustc-env=EMULATOR_MISSING={}", reason.to_string().replace('\n', " "));
        }
    }
    Ok(())
}

fn build(compiler: &str, source: &Path, out: &Path, sanitized: bool) -> Result<(), Box<dyn Error>> {
    let target = env::var("CARGO_CFG_TARGET_OS")? + "-" + &env::var("CARGO_CFG_TARGET_ARCH")?;
    if target != "linux-x86_64" {
        return Err(format!("it is written for linux-x86_64, this is {target}").into());
    }
    // Kernels compiled earlier may be unlike what this shim makes of them.
    let objects = out.join("objects");
    let _ = fs::remove_dir_all(&objects);
    fs::create_dir_all(&objects)?;
    fs::create_dir_all(out.join("lib"))?;
    for header in ["shim.hpp", "shim_types.hpp"] {
        fs::copy(source.join(header), out.join(header))?;
    }
    let sanitize: &[&str] =
        if sanitized { &["-fsanitize=address", "-fno-omit-frame-pointer"] } else { &[] };
    for (file, library) in LIBRARIES {
        let status = Command::new(compiler)
            .args([
                "-std=c++17",
                "-O2",
                "-g",
                "-shared",
                "-fPIC",
                "-fvisibility=hidden",
                "-Wall",
                "-Wextra",
            ])
            .arg(format!("-Wl,-soname,{library}"))
            .arg(format!("-DCOMPILER=\"{compiler}\""))
            .args(sanitize)
            .arg(format!("-DSANITIZE=\"{}\"", sanitize.join(" ")))
            .arg(format!("-DFOLDER=\"{}\"", out.display()))
            .arg("-o")
            .arg(out.join("lib").join(library))
            .arg(source.join(file))
            .args(["-ldl", "-pthread"])
            .status()
            .map_err(|e| format!("{compiler}: {e}"))?;
        if !status.success() {
            return Err(format!("{compiler} does not compile {file}").into());
        }
    }
    Ok(())
}
