//! What a crate outside of this checkout gets that depends on it: no file of this one but the crates themselves.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

use std::fs;
use std::path::Path;
use std::process::Command;

/// A crate elsewhere that depends on Alcyon, and what cargo says of its dependencies' features.
fn features_of(dependency: &str, of: &str, folder: &Path) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    let manifest = format!(
        "[package]\nname = \"outside\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n{dependency}\n"
    );
    let manifest = manifest.replace("ROOT", &root.replace('\\', "/"));
    fs::create_dir_all(folder.join("src")).unwrap();
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    fs::write(folder.join("src/lib.rs"), "").unwrap();
    // The versions that are here already: nothing is looked for elsewhere.
    fs::copy(Path::new(root).join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--offline", "--edges", "features", "--invert", of, "--depth", "1"]);
    let said = tree.current_dir(folder).env_remove("CUDARC_CUDA_VERSION").output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap()
}

#[test]
fn a_crate_outside_of_this_checkout_gets_the_cuda_bindings_of_one_version() {
    let dir = tempfile::tempdir().unwrap();
    let said = features_of("alcyon = { path = \"ROOT\" }", "cudarc", dir.path());
    let chosen = said.matches("cudarc feature \"cuda-1").count();
    assert_eq!((chosen, said.contains("from-build-system")), (1, false), "{said}");
    assert!(said.contains("fallback-dynamic-loading"), "{said}");
}
