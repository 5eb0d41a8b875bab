//! What the tests of the decision core share: an adapter with pins of its own, the check programs, and random blobs.
#![expect(dead_code, reason = "each test binary uses its part")]
#![expect(unreachable_pub, reason = "a module of several test binaries")]

pub mod cgroups;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use aya::{
    Ebpf, Pod, TestRun as _,
    maps::{Array, MapData},
    programs::{Program, RawTracePointRunOptions},
};
use palisade_kernel::{
    KernelAdapter, KernelConfig,
    fanotify::FailMode,
    objects::{self, PinRoot},
    unload,
};
use palisade_kernel_abi::blob::{
    Automaton, AutomatonHead, Blob, BlobHead, FAMILIES, Family, FamilyHead, Form, MAGIC, VERSION,
};
use palisade_policy_compiler::automaton::{Comb, Dfa};

/// Says why the test is skipped, or gives the root that pins go to.
pub fn pin_root() -> Option<Pins> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // SAFETY: takes nothing, cannot fail, and gives a number.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: needs root");
        return None;
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Some(Pins(PathBuf::from(format!("/sys/fs/bpf/palisade-test-{}-{number}", std::process::id()))))
}

/// Pins of one test; removed with it.
pub struct Pins(pub PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = unload(&self.0) {
            eprintln!("pins stay: {error}");
        }
    }
}

/// An adapter without a responder.
pub fn adapter(pins: &Path, fail_mode: FailMode) -> KernelAdapter {
    let config = KernelConfig { pin_root: pins.to_path_buf(), fail_mode, responder: None, ..KernelConfig::default() };
    KernelAdapter::open(config).expect("the adapter opens")
}

/// From now on no program can be pinned for cgroups, so that none is attached: a test that puts random policies in force for the host
/// would take the machine's networks from it.
pub fn without_networks(pins: &Path) {
    std::fs::create_dir_all(pins).expect("a BPF file system");
    // Something else is where their links would be pinned.
    let parameters = aya_obj::Map::new_from_params(2, 4, 4, 1, 0);
    let other = MapData::create(parameters, "other", None).expect("an array");
    other.pin(pins.join("cgroup")).expect("it can be pinned");
}

/// A program that tests drive, of the object in `bpf/check.bpf.c`.
pub const CHECKS: &[&str] = &[
    "check_decision",
    "check_other_decision",
    "check_argument",
    "check_below",
    "check_climb",
    "check_climb_typed",
    "check_own_executable",
];

/// `struct pal_check`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Check {
    pub length: u32,
    pub naming: u32,
    pub accept: u32,
    pub source: u32,
    pub word: u32,
    pub accept_name: u32,
    pub bytes: [u8; 4096],
}

// SAFETY: six u32 and 4,096 bytes in C's layout: 4,120 bytes, no padding that would be read uninitialised; every bit pattern is a
// value; `Copy`, no drop.
unsafe impl Pod for Check {}

impl Check {
    pub fn new(bytes: &[u8], source: u32) -> Self {
        let mut check = Self {
            length: u32::try_from(bytes.len()).expect("at most 4096"),
            naming: 0,
            accept: 0,
            source,
            word: 0,
            accept_name: 0,
            bytes: [0; 4096],
        };
        check.bytes[..bytes.len()].copy_from_slice(bytes);
        check
    }

    /// What a climb gave: the bytes are right-aligned as in scratch memory.
    pub fn path(&self) -> &[u8] {
        &self.bytes[4096 - self.length as usize..]
    }
}

/// `enum pal_naming`.
pub const NAMED: u32 = 1;
pub const UNKNOWN_MOUNT: u32 = 2;
pub const TOO_LONG: u32 = 3;
pub const TOO_DEEP: u32 = 4;
pub const MOVED: u32 = 5;
pub const NAMELESS: u32 = 6;

/// The loaded check programs.
pub struct Checks {
    object: Ebpf,
}

impl Checks {
    pub fn load(pins: &Path) -> Self {
        let btf = palisade_kernel::KernelTypes::shared().expect("BTF");
        let pins = PinRoot::create(pins).expect("pin root");
        let mut object = objects::load("check", palisade_bpf::CHECK, &btf, &pins, &[]).expect("check object");
        for name in CHECKS {
            let spec =
                objects::ProgramSpec { name, hook: objects::Hook::Driven, needs: "Linux 5.17", without: "no test" };
            objects::load_program(&mut object, &spec, &btf).expect(name);
        }
        Self { object }
    }

    pub fn object(&self) -> &Ebpf {
        &self.object
    }

    pub fn set(&mut self, check: &Check) {
        let map = self.object.map_mut("check").expect("the map");
        let mut map: Array<&mut MapData, Check> = Array::try_from(map).expect("an array");
        map.set(0, check, 0).expect("set");
    }

    pub fn get(&self) -> Check {
        let map = self.object.map("check").expect("the map");
        let map: Array<&MapData, Check> = Array::try_from(map).expect("an array");
        map.get(&0, 0).expect("get")
    }

    pub fn run(&self, name: &str, arguments: &[u64]) -> i32 {
        let Some(Program::RawTracePoint(program)) = self.object.program(name) else { panic!("no {name}") };
        let mut options = RawTracePointRunOptions::new();
        options.args[..arguments.len()].copy_from_slice(arguments);
        program.test_run(options).expect(name).return_value.cast_signed()
    }
}

/// splitmix64: small, and the same on every machine.
pub struct Random(pub u64);

impl Random {
    /// From `PALISADE_SEED`, or a fixed seed; printed.
    pub fn seeded() -> Self {
        let seed = std::env::var("PALISADE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x0070_a115_ade0);
        println!("PALISADE_SEED={seed}");
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.next() % u64::from(bound)).expect("below a u32")
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| u8::try_from(self.below(255) + 1).expect("at most 255")).collect()
    }
}

/// A valid blob of random automata and tables: any graph of states, so that walks go everywhere, with few absorbing ones, so
/// that they go on for long. `states` is of the path automaton.
pub fn random_blob(random: &mut Random, states: u32) -> Blob {
    let mut words = Vec::new();
    let below = [50, 8, 20, 30, 12, 40];
    let accepts = below.map(|bound| 1 + random.below(bound));
    let sizes = [states, 5 + states / 10, 40, 30, 20, 30];
    let automaton = [0, 1, 2, 3, 4, 5].map(|at| random_automaton(random, &mut words, sizes[at], accepts[at]));
    let arguments = FamilyHead {
        base: u32::try_from(words.len()).expect("below the largest class"),
        accepts: accepts[Automaton::Argument as usize],
        sources: 2 + random.below(6),
        modifiers: 1,
    };
    words.extend((0..arguments.accepts * arguments.sources).map(|_| random.below(4)));
    let mut family = [FamilyHead::default(); FAMILIES];
    let mut families = 0;
    for kind in Family::ALL {
        // The system calls' table alone is a quarter of the smallest class.
        if random.below(8) == 0 || (states < 100 && kind == Family::Syscall) {
            continue;
        }
        let modifiers = [1, 4, 8][random.below(3) as usize];
        let is_small = modifiers == 1 || states >= 5_000;
        let sources = if random.below(2) == 0 || !is_small { 1 } else { accepts[1] };
        let rows = match kind.automaton() {
            Some(Automaton::Path) => accepts[Automaton::Path as usize].max(accepts[Automaton::Basename as usize]),
            Some(automaton) => accepts[automaton as usize],
            None => kind.fixed_accepts().expect("its rows are fixed"),
        };
        let base = u32::try_from(words.len()).expect("below the largest class");
        let table = FamilyHead { base, accepts: rows, sources, modifiers };
        families |= 1 << kind as u32;
        family[kind as usize] = table;
        let sets = if kind == Family::Process { arguments.sources } else { 1 };
        let word = |_| {
            let (effect, by_posture) = (random.below(3), random.below(2) << 2);
            effect | by_posture | random.below(sets) << 4 | random.below(1000) << 12 | random.below(7) << 29
        };
        words.extend((0..table.accepts * sources * modifiers).map(word));
    }
    let head =
        BlobHead { magic: MAGIC, version: VERSION, words: 0, families, automaton, family, arguments, digest: [0; 32] };
    Blob::from_parts(head, &words).expect("a valid blob")
}

/// In one of the two forms.
fn random_automaton(random: &mut Random, words: &mut Vec<u32>, states: u32, accepts: u32) -> AutomatonHead {
    let dfa = random_dfa(random, states, accepts);
    words.resize(words.len().next_multiple_of(2), 0);
    let first = u32::try_from(words.len()).expect("below the largest class");
    let mut class_of = dfa.class_of.map(|class| class + 2);
    class_of[0] = 1;
    let last = u32::from(class_of.iter().copied().max().expect("256 bytes"));
    let (start, absorbing, form) = if random.below(2) == 0 {
        let comb = Comb::of(&dfa);
        comb.append(first, |accept| accept, words);
        (first + 2 * comb.place_of(dfa.start), first + 2 * dfa.absorbing, Form::Comb)
    } else {
        let offset = |state: u32| first + state * (last + 1);
        for ((row, accept), state) in dfa.rows.chunks_exact(dfa.classes).zip(&dfa.accept).zip(0..) {
            words.extend([*accept, offset(state)]);
            words.extend((2..=last).map(|column| offset(row[column as usize - 2])));
        }
        (offset(dfa.start), offset(dfa.absorbing), Form::Flat)
    };
    let end = u32::try_from(words.len()).expect("below the largest class");
    AutomatonHead { start, absorbing, words: end - first, form: form as u32, class_of }
}

fn random_dfa(random: &mut Random, states: u32, accepts: u32) -> Dfa {
    let classes = 2 + random.below(30);
    let mut class_of = [(); 256].map(|()| u8::try_from(random.below(classes)).expect("at most 32"));
    class_of[255] = u8::try_from(classes - 1).expect("at most 32");
    let absorbing = random.below(3).min(states - 1);
    let mut rows = Vec::new();
    for row in 0..states {
        // What most classes do is what the comb form leaves out.
        let common = random.below(states);
        rows.extend((0..classes).map(|_| {
            if row < absorbing {
                return row;
            }
            // Mostly not into absorbing rows: long walks.
            let target = if random.below(2) == 0 { common } else { random.below(states) };
            if target < absorbing && random.below(20) > 0 { states - 1 } else { target }
        }));
    }
    Dfa {
        classes: classes as usize,
        class_of,
        start: absorbing.max(random.below(states)),
        absorbing,
        rows,
        accept: (0..states).map(|_| random.below(accepts)).collect(),
    }
}
