//! The compiled objects: their layouts are those of the Rust twins, and the verifier takes them within a budget.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod elf;
mod kernel_bed;

use std::{collections::BTreeMap, mem::offset_of};

use elf::{section, text, word};
use kernel_bed::{CHECKS, Checks, pin_root};
use palisade_kernel::{
    layout,
    objects::{self, Hook, PinRoot, ProgramSpec},
};
use palisade_kernel_abi::{
    blob::{AutomatonHead, BlobHead, FamilyHead, HEAD_BYTES, SizeClass},
    record::LAYOUTS,
};

/// Size and field offsets in bytes, by the structure's name.
type Structures = BTreeMap<String, (usize, BTreeMap<String, usize>)>;

/// Bytes that follow a type's 12-byte head, by its kind and number of members.
fn trailing_bytes(kind: usize, members: usize) -> usize {
    match kind {
        1 | 14 | 17 => 4,
        3 => 12,
        4 | 5 | 15 | 19 => 12 * members,
        6 | 13 => 8 * members,
        _ => 0,
    }
}

/// The structures that an object's BTF describes.
fn structures(object: &[u8]) -> Structures {
    const STRUCT: usize = 4;
    let btf = section(object, ".BTF");
    let head = word(btf, 4);
    let (types, types_length, strings) = (head + word(btf, 8), word(btf, 12), head + word(btf, 16));
    let mut found = Structures::new();
    let mut at = types;
    while at < types + types_length {
        let info = word(btf, at + 4);
        let (kind, members, bitfields) = (info >> 24 & 31, info & 0xffff, info >> 31 == 1);
        if kind == STRUCT {
            let member = |index: usize| {
                let member = at + 12 + 12 * index;
                let bits = word(btf, member + 8) & if bitfields { 0x00ff_ffff } else { usize::MAX };
                (text(btf, strings + word(btf, member)), bits / 8)
            };
            let name = text(btf, strings + word(btf, at));
            found.insert(name, (word(btf, at + 8), (0..members).map(member).collect()));
        }
        at += 12 + trailing_bytes(kind, members);
    }
    found
}

macro_rules! twin {
    ($c:literal, $rust:ty, [$($field:ident),+ $(,)?]) => {
        ($c, size_of::<$rust>(), vec![$((stringify!($field), offset_of!($rust, $field))),+])
    };
}

/// A C structure's name, size and field offsets, as Rust has them.
type Twin = (&'static str, usize, Vec<(&'static str, usize)>);

fn twins() -> Vec<Twin> {
    vec![
        twin!("pal_slot", layout::Slot, [installed, incarnation, flags, visibility, released_ns]),
        twin!(
            "pal_attendance",
            layout::Attendance,
            [deadline_ns, beat_ns, span_ns, decided, denied, lapsed, unregistered]
        ),
        twin!("pal_observation", layout::Observation, [anywhere, interval_ns, tolerance_ns, fold_window_ns, fold_key]),
        twin!(
            "pal_task",
            layout::Task,
            [cgroup, slot, incarnation, phase, source, source_digest, runtime_mnt_ns, entered, found_ns]
        ),
        twin!("pal_permitted", layout::Permitted, [decided_by, execution, endpoint, modifiers]),
        twin!("pal_mounts", layout::Mounts, [crossings]),
        twin!("pal_guarded", layout::Guarded, [id, kind, device]),
        twin!("pal_asked", layout::Asked, [execution, policy, count, words, argc]),
        twin!("pal_blob_head", BlobHead, [magic, version, words, families, automaton, family, arguments, digest]),
        twin!("pal_automaton_head", AutomatonHead, [start, absorbing, words, form, class_of]),
        twin!("pal_family_head", FamilyHead, [base, accepts, sources, modifiers]),
    ]
}

fn objects() -> Vec<(&'static str, &'static [u8])> {
    let others = [
        ("arguments", palisade_bpf::ARGUMENTS),
        ("syscalls", palisade_bpf::SYSCALLS),
        ("check", palisade_bpf::CHECK),
        ("cgroup", palisade_bpf::CGROUP),
        ("kill", palisade_bpf::KILL),
    ];
    others.into_iter().chain(objects::on_hooks().map(|object| (object.name, object.bytes))).collect()
}

#[test]
fn unit_objects_have_the_layouts_of_the_rust_twins() {
    let all: Vec<_> = objects().into_iter().map(|(name, object)| (name, structures(object))).collect();
    let mut compared = 0;
    for (c, size, fields) in twins() {
        for (object, found) in all.iter().filter(|(_, found)| found.contains_key(c)) {
            let wanted: BTreeMap<String, usize> = fields.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect();
            assert_eq!(found[c], (size, wanted), "struct {c} in {object}");
            compared += 1;
        }
    }
    for layout in LAYOUTS {
        let (object, found) = all.iter().find(|(_, found)| found.contains_key(layout.name)).expect(layout.name);
        let wanted: BTreeMap<String, usize> =
            layout.fields.iter().map(|field| (field.name.to_owned(), field.offset)).collect();
        assert_eq!(found[layout.name], (layout.size, wanted), "struct {} in {object}", layout.name);
        compared += 1;
    }
    // Each twin in one LSM object at least: together they read them all.
    assert!(compared >= twins().len() + LAYOUTS.len(), "{compared} compared");
}

#[test]
fn unit_objects_have_scratch_of_the_size_that_the_adapter_checks() {
    let (size, _) = structures(palisade_bpf::LSM_FILE)["pal_scratch"];
    assert_eq!(size, layout::SCRATCH_BYTES as usize);
}

#[test]
fn unit_objects_have_blob_values_of_the_size_classes() {
    let found = structures(palisade_bpf::LSM_FILE);
    for (class, name) in SizeClass::ALL.into_iter().zip(["16k", "128k", "1m", "8m"]) {
        let (size, fields) = &found[&format!("pal_blob_{name}")];
        assert_eq!((*size, fields["words"]), (class.value_bytes(), HEAD_BYTES), "{class:?}");
    }
}

/// 6.1 gives a program and all that it calls, callbacks of loops included, so many bytes together. Newer kernels give more to
/// callbacks, so that this machine's own verifier need not notice.
const STACK_BYTES: usize = 512;

#[test]
fn unit_objects_fit_every_chain_of_calls_into_the_stack_of_6_1() {
    let all = [
        ("capability", palisade_bpf::CAPABILITY),
        ("arguments", palisade_bpf::ARGUMENTS),
        ("syscalls", palisade_bpf::SYSCALLS),
        ("cgroup", palisade_bpf::CGROUP),
        ("check", palisade_bpf::CHECK),
        ("dns", palisade_bpf::DNS),
        ("identity", palisade_bpf::IDENTITY),
        ("kill", palisade_bpf::KILL),
        ("learn", palisade_bpf::LEARN),
        ("probes", palisade_bpf::PROBES),
        ("probes_file", palisade_bpf::PROBES_FILE),
        ("probes_kernel", palisade_bpf::PROBES_KERNEL),
        ("probes_network", palisade_bpf::PROBES_NETWORK),
        ("probes_process", palisade_bpf::PROBES_PROCESS),
    ];
    let mut climbs = 0;
    let lsm = objects::on_hooks().map(|object| (object.name, object.bytes));
    for (object, bytes) in all.into_iter().chain(lsm) {
        for (program, chain) in elf::deepest_chains(bytes) {
            let depth: usize = chain.iter().map(|(_, bytes)| bytes).sum();
            println!("{object:10} {program:24} {depth:>4} bytes");
            assert!(depth <= STACK_BYTES, "{object} {program}: {depth} bytes: {chain:?}");
            climbs += usize::from(chain.iter().any(|(name, _)| name == "pal_find_crossing"));
        }
    }
    assert!(climbs > 10, "callbacks are followed");
}

/// Instructions that the verifier may process for one program. Its limit is a million; versions differ by a factor of ten, so
/// a tenth of it leaves room for kernels that we have not met.
const VERIFIER_BUDGET: u32 = 100_000;

#[test]
fn host_verifier_takes_every_program_within_its_budget() {
    let Some(pins) = pin_root() else { return };
    let mut counts = Vec::new();
    for (name, count) in objects::verify(&pins.0, &[]).unwrap() {
        match count {
            Ok(count) => counts.push((name, count)),
            // On kernels without BPF LSM trampolines; where they load, they are held to the budget too.
            Err(reason) if objects::on_hooks().flat_map(|spec| spec.programs).any(|spec| spec.name == name) => {
                println!("{name:24} refused here: {reason}");
            }
            Err(reason) => panic!("{name}: {reason}"),
        }
    }
    let checks = Checks::load(&pins.0);
    let verified = |name| objects::program_info(checks.object(), name).expect(name).verified_instruction_count();
    counts.extend(CHECKS.iter().map(|name| (*name, verified(name).expect("a kernel of 5.16 or newer"))));
    for (name, count) in &counts {
        println!("{name:24} {count:>7} instructions verified");
    }
    assert!(counts.iter().all(|(_, count)| (1..VERIFIER_BUDGET).contains(count)), "{counts:?}");
}

#[test]
fn host_a_refused_program_is_told_with_the_verifiers_last_lines() {
    let Some(pins) = pin_root() else { return };
    let btf = palisade_kernel::KernelTypes::shared().expect("BTF");
    let root = PinRoot::create(&pins.0).unwrap();
    let mut object = objects::load("identity", palisade_bpf::IDENTITY, &btf, &root, &[]).unwrap();
    let wrong = ProgramSpec {
        name: "inherit_task",
        // A tracepoint with fewer arguments: the verifier must refuse what reads the second.
        hook: Hook::BtfTracepoint("sched_process_free"),
        needs: "",
        without: "",
    };
    let reason = objects::load_program(&mut object, &wrong, &btf).unwrap_err();
    assert!(reason.contains("verifier: ") && reason.contains("invalid bpf_context access"), "{reason}");
    let absent = ProgramSpec { hook: Hook::BtfTracepoint("no_such_tracepoint"), ..wrong };
    assert!(objects::load_program(&mut object, &absent, &btf).is_err());
}
