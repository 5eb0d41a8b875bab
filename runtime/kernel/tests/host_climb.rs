//! The climb on this kernel's own dentries and mounts: what it names is what the kernel names, and by the learnt mount table
//! copies of the workload's mounts pass and others do not.
//!
//! Every loop is driven past its first iterations; the oracle is the kernel's own `readlink` of `/proc/self/fd/N`.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod kernel_bed;

use std::{
    fs::{self, File},
    io,
    os::fd::{FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use kernel_bed::{Checks, MOVED, NAMED, NAMELESS, TOO_DEEP, TOO_LONG, UNKNOWN_MOUNT, adapter, pin_root};
use palisade_domain::Slot;
use palisade_kernel::{KernelAdapter, fanotify::FailMode};
use palisade_world::{Enforcement as _, Membership};

const HOST: Membership = Membership { slot: Slot::HOST, cgroup: None, cgroup_path: None, pid: 0, root: None };
/// Whether crossings are looked up.
const LEARNT: u64 = 1;
const UNLEARNT: u64 = 0;

fn c(path: &Path) -> std::ffi::CString {
    use std::os::unix::ffi::OsStrExt as _;
    std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn checked(result: libc::c_int, what: &str) {
    assert!(result >= 0, "{what}: {}", io::Error::last_os_error());
}

fn mount(source: &Path, target: &Path, kind: &str, flags: libc::c_ulong) {
    let (source, target, kind) = (c(source), c(target), c(Path::new(kind)));
    // SAFETY: the three strings end with NUL and live over the call; none of the tests' mounts takes data, which may be null.
    checked(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) }, "mount");
}

fn tmpfs(target: &Path) {
    fs::create_dir_all(target).unwrap();
    mount(Path::new("tmpfs"), target, "tmpfs", 0);
}

fn umount(target: &Path) {
    // SAFETY: the string ends with NUL, and the temporary that owns it lives to the end of the statement.
    checked(unsafe { libc::umount2(c(target).as_ptr(), libc::MNT_DETACH) }, "umount");
}

fn unshare(flags: libc::c_int) {
    // SAFETY: takes a number. The tests' flags give this thread mounts and directories of its own, no memory.
    checked(unsafe { libc::unshare(flags) }, "unshare");
}

/// The climb from an open file by plain addresses.
fn climb(checks: &Checks, file: &impl std::os::fd::AsRawFd, checked: u64) -> (u32, Vec<u8>) {
    let descriptor = u64::from(file.as_raw_fd().unsigned_abs());
    assert_eq!(checks.run("check_climb", &[descriptor, 0, checked]), 0);
    let check = checks.get();
    (check.naming, check.path().to_vec())
}

/// The climb from the working directory by typed pointers, as the hooks do it.
fn climb_typed(checks: &Checks, checked: u64) -> (u32, Vec<u8>) {
    assert_eq!(checks.run("check_climb_typed", &[0, checked]), 0);
    let check = checks.get();
    (check.naming, check.path().to_vec())
}

fn named(path: &Path) -> (u32, Vec<u8>) {
    use std::os::unix::ffi::OsStrExt as _;
    (NAMED, path.as_os_str().as_bytes().to_vec())
}

/// Runs in a thread with its own mount namespace, private from the machine's, with a tmpfs at the given place.
fn in_own_mounts(test: impl FnOnce(&Checks, &KernelAdapter, &Path) + Send) {
    let Some(pins) = pin_root() else { return };
    let place = tempfile::tempdir().unwrap();
    let adapter = adapter(&pins.0, FailMode::Refuse);
    adapter.admit(&HOST).unwrap();
    let checks = Checks::load(&pins.0);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            unshare(libc::CLONE_NEWNS | libc::CLONE_FS);
            mount(Path::new("none"), Path::new("/"), "none", libc::MS_REC | libc::MS_PRIVATE);
            tmpfs(place.path());
            test(&checks, &adapter, place.path());
        });
        if let Err(panic) = run.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Learns the mount table of the calling thread's namespace.
fn learn(adapter: &KernelAdapter) {
    // SAFETY: takes nothing, cannot fail, and gives a number.
    let thread = unsafe { libc::gettid() }.unsigned_abs();
    adapter.learn_mounts(Slot::HOST, thread).unwrap();
}

/// Enters `count` new directories of the given name, one below the other, from the working directory.
fn descend(name: &str, count: usize) {
    for _ in 0..count {
        fs::create_dir(name).unwrap();
        std::env::set_current_dir(name).unwrap();
    }
}

#[test]
fn host_climb_names_deep_and_long_paths_to_the_last_byte() {
    in_own_mounts(|checks, _, place| {
        let mut compared = 0;
        for (name, count) in [("d", 120), ("directory-of-forty-bytes-or-thereabouts-", 90), (&*"n".repeat(255), 15)] {
            std::env::set_current_dir(place).unwrap();
            for _ in 0..count {
                descend(name, 1);
                let expected = named(&std::env::current_dir().unwrap());
                assert_eq!(climb_typed(checks, UNLEARNT), expected);
                let here = File::open(".").unwrap();
                assert_eq!(climb(checks, &here, UNLEARNT), expected);
                compared += 1;
            }
        }
        println!("{compared} directories named alike by both climbs and the kernel");
    });
}

#[test]
fn host_climb_refuses_what_is_too_long_or_too_deep() {
    in_own_mounts(|checks, _, place| {
        std::env::set_current_dir(place).unwrap();
        descend(&"n".repeat(255), 16);
        assert_eq!(climb_typed(checks, UNLEARNT).0, TOO_LONG);
        assert_eq!(climb(checks, &File::open(".").unwrap(), UNLEARNT).0, TOO_LONG);
        std::env::set_current_dir(place).unwrap();
        descend("d", 400);
        assert_eq!(climb_typed(checks, UNLEARNT).0, TOO_DEEP);
        assert_eq!(climb(checks, &File::open(".").unwrap(), UNLEARNT).0, TOO_DEEP);
    });
}

#[test]
fn host_climb_names_the_root_and_the_path_of_every_length_around_the_longest() {
    in_own_mounts(|checks, _, place| {
        std::env::set_current_dir("/").unwrap();
        assert_eq!(climb_typed(checks, UNLEARNT), named(Path::new("/")));
        let mut lengths = Vec::new();
        for total in 4090..=4100_usize {
            std::env::set_current_dir(place).unwrap();
            let mut left = total - place.as_os_str().len();
            let parent = format!("t{total}");
            fs::create_dir(&parent).unwrap();
            std::env::set_current_dir(&parent).unwrap();
            left -= parent.len() + 1;
            while left > 0 {
                // The last component takes what is left, and is never empty.
                let name = if left <= 256 { left - 1 } else { 199.min(left - 2) };
                descend(&"x".repeat(name.max(1)), 1);
                left -= name.max(1) + 1;
            }
            let (naming, path) = climb_typed(checks, UNLEARNT);
            lengths.push((total, naming, path.len()));
        }
        let expected: Vec<_> = (4090..=4100)
            .map(|total| if total <= 4096 { (total, NAMED, total) } else { (total, TOO_LONG, 0) })
            .collect();
        let seen: Vec<_> = lengths
            .into_iter()
            .map(|(total, naming, length)| (total, naming, if naming == NAMED { length } else { 0 }))
            .collect();
        assert_eq!(seen, expected);
    });
}

/// Nested mounts, each with a file: as many crossings as mounts.
fn nested(place: &Path, count: usize) -> Vec<PathBuf> {
    let mut at = place.to_path_buf();
    (0..count)
        .map(|_| {
            at.push("m");
            tmpfs(&at);
            fs::write(at.join("file"), "x").unwrap();
            at.join("file")
        })
        .collect()
}

#[test]
fn host_climb_crosses_many_mounts_by_the_learnt_table_and_in_unshared_copies() {
    in_own_mounts(|checks, adapter, place| {
        let files = nested(place, 40);
        let unknown = File::open(&files[39]).unwrap();
        assert_eq!(climb(checks, &unknown, LEARNT).0, UNKNOWN_MOUNT, "nothing is learnt yet");
        learn(adapter);
        let all = |checks: &Checks| {
            for file in &files {
                let file_ = File::open(file).unwrap();
                assert_eq!(climb(checks, &file_, LEARNT), named(file));
                assert_eq!(climb(checks, &file_, UNLEARNT), named(file));
                std::env::set_current_dir(file.parent().unwrap()).unwrap();
                assert_eq!(climb_typed(checks, LEARNT), named(file.parent().unwrap()));
            }
        };
        all(checks);
        unshare(libc::CLONE_NEWNS);
        all(checks);
        mount(Path::new("none"), &place.join("m"), "none", libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY);
        all(checks);
    });
}

#[test]
fn host_climb_refuses_mounts_that_are_not_of_the_learnt_table() {
    in_own_mounts(|checks, adapter, place| {
        let at = |name: &str| place.join(name);
        for name in ["known", "moved"] {
            tmpfs(&at(name));
            fs::write(at(name).join("file"), "x").unwrap();
        }
        for name in ["bound", "new", "there"] {
            fs::create_dir(at(name)).unwrap();
        }
        learn(adapter);
        let naming = |path: PathBuf| climb(checks, &File::open(path).unwrap(), LEARNT).0;
        assert_eq!(naming(at("known/file")), NAMED);
        assert_eq!(naming(at("moved/file")), NAMED);

        mount(&at("known"), &at("bound"), "none", libc::MS_BIND);
        assert_eq!(naming(at("bound/file")), UNKNOWN_MOUNT, "a bind of a known mount elsewhere");
        fs::write(at("known/other"), "x").unwrap();
        mount(&at("known/other"), &at("known/file"), "none", libc::MS_BIND);
        assert_eq!(naming(at("known/file")), UNKNOWN_MOUNT, "a bind of a file over a file");
        umount(&at("known/file"));
        assert_eq!(naming(at("known/file")), NAMED, "the bind is gone");

        tmpfs(&at("new"));
        fs::write(at("new/file"), "x").unwrap();
        assert_eq!(naming(at("new/file")), UNKNOWN_MOUNT, "a new mount");
        mount(&at("moved"), &at("there"), "none", libc::MS_MOVE);
        assert_eq!(naming(at("there/file")), UNKNOWN_MOUNT, "a known mount that was moved");
        tmpfs(&at("moved"));
        fs::write(at("moved/file"), "x").unwrap();
        assert_eq!(naming(at("moved/file")), UNKNOWN_MOUNT, "another mount in its old place");

        mount(place, &at("bound"), "none", libc::MS_BIND | libc::MS_REC);
        assert_eq!(naming(at("bound/known/file")), UNKNOWN_MOUNT, "a known child below a recursive bind");
        learn(adapter);
        assert_eq!(naming(at("there/file")), NAMED, "learnt again");
        assert_eq!(naming(at("known/file")), NAMED, "still known");
    });
}

#[test]
fn host_climb_names_by_the_namespace_and_not_by_the_processs_root() {
    in_own_mounts(|checks, adapter, place| {
        tmpfs(&place.join("jail"));
        fs::write(place.join("jail/file"), "x").unwrap();
        learn(adapter);
        let root = c(&place.join("jail"));
        // SAFETY: `root` ends with NUL and lives over the call; the thread has unshared its directories, so that the others keep theirs.
        checked(unsafe { libc::chroot(root.as_ptr()) }, "chroot");
        let file = File::open("/file").unwrap();
        assert_eq!(climb(checks, &file, LEARNT), named(&place.join("jail/file")));
    });
}

#[test]
fn host_climb_tells_files_without_a_name_from_those_on_unknown_mounts() {
    in_own_mounts(|checks, adapter, _| {
        learn(adapter);
        // SAFETY: the name is a literal that ends with NUL.
        let memory = unsafe { libc::memfd_create(c"palisade".as_ptr(), 0) };
        checked(memory, "memfd_create");
        // SAFETY: the call above made the descriptor (`checked` has seen that it is one), and its number goes nowhere else.
        let memory = unsafe { OwnedFd::from_raw_fd(memory) };
        for checked in [LEARNT, UNLEARNT] {
            assert_eq!(climb(checks, &memory, checked).0, NAMELESS);
            let (reader, _writer) = io::pipe().unwrap();
            assert_eq!(climb(checks, &reader, checked).0, NAMELESS);
        }
    });
}

/// Another thread renames the lower and the upper directory, so that the lower one has its other name only while the upper one
/// has: one of the four paths never is. Returns how often, once the test is over.
fn in_a_storm_of_renames(upper: [&Path; 2], lower: [&str; 2], between: &Path, test: impl FnOnce()) -> u64 {
    let over = std::sync::atomic::AtomicBool::new(false);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    let rename = |from: &Path, to: &Path| {
        let (from, to) = (c(from), c(to));
        // SAFETY: NUL-terminated strings that outlive the call.
        move || checked(unsafe { libc::rename(from.as_ptr(), to.as_ptr()) }, "rename")
    };
    let below = |name: &str| upper[1].join(between).join(name);
    let (there, back) = (rename(upper[0], upper[1]), rename(upper[1], upper[0]));
    let (down, up) = (rename(&below(lower[0]), &below(lower[1])), rename(&below(lower[1]), &below(lower[0])));
    std::thread::scope(|scope| {
        let storm = scope.spawn(|| {
            let mut rounds = 0;
            while !over.load(relaxed) {
                there();
                down();
                up();
                back();
                rounds += 1;
            }
            rounds
        });
        test();
        over.store(true, relaxed);
        storm.join().unwrap()
    })
}

#[test]
fn host_climb_in_a_storm_of_renames_names_what_was_there() {
    const ROUNDS: u32 = 15_000;
    in_own_mounts(|checks, _, place| {
        let upper = [place.join("upper"), place.join("other")];
        // So many that several renames fit into one climb.
        let between = PathBuf::from(vec!["d"; 100].join("/"));
        fs::create_dir_all(upper[0].join(&between).join("lower")).unwrap();
        std::env::set_current_dir(upper[0].join(&between).join("lower")).unwrap();
        let file = File::open(".").unwrap();
        let path = |upper: &Path, lower: &str| named(&upper.join(&between).join(lower));
        let known = [path(&upper[0], "lower"), path(&upper[1], "lower"), path(&upper[1], "changed")];
        let (mut seen, mut moved, mut never) = ([0; 3], 0, 0);
        let rounds = in_a_storm_of_renames([&upper[0], &upper[1]], ["lower", "changed"], &between, || {
            for round in 0..ROUNDS {
                let said = if round % 2 == 0 { climb_typed(checks, UNLEARNT) } else { climb(checks, &file, UNLEARNT) };
                match known.iter().position(|known| *known == said) {
                    Some(which) => seen[which] += 1,
                    None if said.0 == MOVED => moved += 1,
                    None => never += 1,
                }
            }
        });
        println!("{rounds} rounds of 4 renames; named {seen:?}, {moved} not named, {never} as they never were");
        assert!(seen.iter().all(|count| *count > 0), "the storm was no storm");
        // Single climbs give some thirty in a storm like this, two that agree in names alone a dozen.
        assert_eq!(never, 0, "of {ROUNDS}");
        // The price of that: what changes during each of the climbs is not named, and takes the fail mode.
        assert!(moved < ROUNDS / 3, "a name that changes is found all the same: {moved} of {ROUNDS} were not");
    });
}

#[test]
fn host_climb_does_not_name_by_a_mount_that_was_taken_off_the_tree() {
    in_own_mounts(|checks, adapter, place| {
        tmpfs(&place.join("gone"));
        fs::write(place.join("gone/secret"), "x").unwrap();
        learn(adapter);
        let file = File::open(place.join("gone/secret")).unwrap();
        assert_eq!(climb(checks, &file, UNLEARNT), named(&place.join("gone/secret")));
        umount(&place.join("gone"));
        // "/secret" would be a wrong answer.
        assert_eq!([LEARNT, UNLEARNT].map(|checked| climb(checks, &file, checked).0), [UNKNOWN_MOUNT; 2]);
    });
}

#[test]
fn host_climb_finds_message_queues_without_a_name() {
    in_own_mounts(|checks, adapter, _| {
        learn(adapter);
        let name = c(Path::new(&format!("/palisade-test-{}", std::process::id())));
        // SAFETY: a NUL-terminated name; the descriptor is new and ours.
        let queue = unsafe {
            let queue =
                libc::mq_open(name.as_ptr(), libc::O_RDWR | libc::O_CREAT, 0o600, std::ptr::null::<libc::mq_attr>());
            checked(queue, "mq_open");
            libc::mq_unlink(name.as_ptr());
            OwnedFd::from_raw_fd(queue)
        };
        assert_eq!([LEARNT, UNLEARNT].map(|checked| climb(checks, &queue, checked).0), [NAMELESS; 2]);
    });
}
