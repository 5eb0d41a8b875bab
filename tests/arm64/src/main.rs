//! `palisade-arm64 IMAGE OBJECT...`: relocates BPF objects against the BTF in a kernel's raw image, as loading them there would.
//!
//! What a compiler cannot find: a field that the other architecture's kernel does not have. A relocation that finds nothing becomes a
//! poisoned instruction, which the verifier refuses wherever it can be reached, so each function that has one is named.
//!
//! Prints as Rust's test harness does, one test an object.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, env, fs, path::Path, process::ExitCode};

use anyhow::Context;
use aya_obj::{Object, btf::Btf};

/// What a relocation without a target leaves in an instruction: libbpf's number, which aya writes as well.
const POISON: i32 = 0x0BAD_2310;
/// Functions whose field of another version stands behind a question whether this kernel has it, so that the verifier never reaches it:
/// where the works of a file that was let go lie since 6.7 and before it (`bpf/include/script.h`).
const ASKED_FIRST: [&str; 11] = [
    "judge_map_write",
    "judge_map_write_asked",
    "judge_protect_write",
    "judge_write",
    "note_interpreter",
    "note_script",
    "observe_exec",
    "pal_find_scripts",
    "pal_is_shared",
    "pal_judge_code",
    "pal_tell_code",
];
/// Little-endian: BTF's magic, its version, no flags, and the length of its header.
const BTF_START: [u8; 8] = [0x9f, 0xeb, 1, 0, 24, 0, 0, 0];

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = env::args().skip(1);
    let image = arguments.next().context("the kernel's image is missing")?;
    let objects: Vec<String> = arguments.collect();
    let btf = btf_of(&fs::read(&image).with_context(|| image.clone())?)?;
    println!("running {} tests", objects.len());
    let mut failed = 0;
    for path in &objects {
        let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = name.split('.').next().unwrap_or_default();
        match poisoned(&fs::read(path).with_context(|| path.clone())?, &btf) {
            Ok(functions) if functions.iter().all(|function| ASKED_FIRST.contains(&function.as_str())) => {
                println!("test arm64_object_{name}_finds_every_field ... ok");
            }
            Ok(functions) => {
                failed += 1;
                println!("test arm64_object_{name}_finds_every_field ... FAILED");
                println!(
                    "    fields that the kernel does not have, in: {}",
                    functions.into_iter().collect::<Vec<_>>().join(", ")
                );
            }
            Err(error) => {
                failed += 1;
                println!("test arm64_object_{name}_finds_every_field ... FAILED\n    {error:#}");
            }
        }
    }
    let passed = objects.len() - failed;
    println!(
        "test result: {}. {passed} passed; {failed} failed; 0 ignored;",
        if failed == 0 { "ok" } else { "FAILED" }
    );
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The kernel's types: the only place of the image where they can begin and be read.
fn btf_of(image: &[u8]) -> anyhow::Result<Btf> {
    let starts =
        image.windows(BTF_START.len()).enumerate().filter(|(_, window)| *window == BTF_START).map(|(at, _)| at);
    let readable = starts.filter_map(|at| {
        let word = |offset: usize| {
            Some(u32::from_le_bytes(image.get(at + offset..at + offset + 4)?.try_into().ok()?) as usize)
        };
        // Header, then what lies furthest behind it of types and strings.
        let end = 24 + (word(8)? + word(12)?).max(word(16)? + word(20)?);
        let btf = Btf::parse(image.get(at..at + end)?, Default::default()).ok()?;
        btf.id_by_type_name_kind("task_struct", aya_obj::btf::BtfKind::Struct).ok().map(|_| btf)
    });
    readable.max_by_key(|btf| btf.to_bytes().len()).context("the image has no BTF with a task_struct in it")
}

/// The functions in which a relocation found nothing.
fn poisoned(object: &[u8], btf: &Btf) -> anyhow::Result<BTreeSet<String>> {
    let mut object = Object::parse(object)?;
    object.relocate_btf(btf)?;
    let is_poisoned =
        |function: &&aya_obj::Function| function.instructions.iter().any(|instruction| instruction.imm == POISON);
    Ok(object.functions.values().filter(is_poisoned).map(|function| function.name.clone()).collect())
}
