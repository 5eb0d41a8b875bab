//! Compiles the attacking program and the two that it executes: C, because they make system calls that safe code cannot, and because a
//! static program needs nothing that a policy could forbid.

use std::{env, fs, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=program");
    println!("cargo::rerun-if-env-changed=CC");
    let out = env::var("OUT_DIR").expect("Cargo sets it");
    if env::var("CARGO_CFG_TARGET_ARCH").as_deref() != Ok("x86_64") {
        // The library compiles everywhere, and attacks nowhere else (`Place::new`).
        for program in ["attack", "dynamic", "plain", "alien"] {
            fs::write(Path::new(&out).join(program), "").expect("Cargo made the directory");
        }
        return;
    }
    let sources = ["main", "names", "mounts", "programs", "rings", "calls", "writes", "sockets", "processes", "race"];
    let files: Vec<String> = sources.iter().map(|name| format!("program/{name}.c")).collect();
    let attack: Vec<&str> = ["-static", "-pthread"].into_iter().chain(files.iter().map(String::as_str)).collect();
    compile(&Path::new(&out).join("attack"), &attack);
    compile(&Path::new(&out).join("dynamic"), &["program/dynamic/dynamic.c"]);
    compile(&Path::new(&out).join("plain"), &["-static", "-nostdlib", "program/dynamic/plain.c"]);
    // Its ELF interpreter is the program that must not run.
    let alien = ["-pie", "-nostdlib", "-Wl,--dynamic-linker=/kept/plain", "program/dynamic/alien.c"];
    compile(&Path::new(&out).join("alien"), &alien);
}

fn compile(to: &Path, arguments: &[&str]) {
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let status =
        Command::new(&compiler).args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(to).args(arguments).status();
    assert!(status.as_ref().is_ok_and(std::process::ExitStatus::success), "{compiler}: {status:?}");
}
