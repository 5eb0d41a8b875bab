//! Compiles each `*.bpf.c` beside it into `OUT_DIR`, for the architecture that the crate is built for.
//!
//! clang and not the Rust BPF target, because CO-RE relocations need `preserve_access_index`. `PALISADE_CLANG` and
//! `PALISADE_LLVM_STRIP` name other tools than `clang-19` and `llvm-strip-19`.

use std::{
    env,
    error::Error,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn main() -> Result<(), Box<dyn Error>> {
    let source = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let arch = target_define(&env::var("CARGO_CFG_TARGET_ARCH")?)?;
    // The whole folder: a new program must be found too.
    println!("cargo:rerun-if-changed={}", source.display());
    for name in ["PALISADE_CLANG", "PALISADE_LLVM_STRIP"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    for entry in fs::read_dir(&source)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".bpf.c"))
        else {
            continue;
        };
        compile(&path, &source, &out.join(format!("{name}.bpf.o")), arch)?;
    }
    Ok(())
}

/// The macro by which libbpf's headers choose register names.
fn target_define(arch: &str) -> Result<&'static str, String> {
    match arch {
        "x86_64" => Ok("-D__TARGET_ARCH_x86"),
        "aarch64" => Ok("-D__TARGET_ARCH_arm64"),
        other => Err(format!("no kernel programs for {other}: only x86_64 and aarch64 are supported")),
    }
}

fn tool(variable: &str, default: &str) -> OsString {
    env::var_os(variable).unwrap_or_else(|| default.into())
}

fn compile(file: &Path, source: &Path, object: &Path, arch: &str) -> Result<(), Box<dyn Error>> {
    let clang = tool("PALISADE_CLANG", "clang-19");
    run(Command::new(&clang)
        .args(["-target", "bpf", arch, "-g", "-O2", "-mcpu=v3", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"])
        // Each object uses its part of the shared headers.
        .arg("-Wno-unused-function")
        .arg("-I")
        .arg(source.join("include"))
        // Source paths would otherwise reach the object's BTF line information.
        .arg(format!("-ffile-prefix-map={}=bpf", source.display()))
        .args(["-c".as_ref(), file.as_os_str(), "-o".as_ref(), object.as_os_str()]))?;
    // DWARF is ten times the code; BTF stays.
    run(Command::new(tool("PALISADE_LLVM_STRIP", "llvm-strip-19")).arg("-g").arg(object))
}

fn run(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .map_err(|error| format!("{program}: {error} (install it, or name another; see bpf/build.rs)"))?;
    if status.success() { Ok(()) } else { Err(format!("{program} failed: {status}").into()) }
}
