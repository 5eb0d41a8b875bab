//! Host ring: what keeps observation within bounds, and that each record which is kept back is counted. Needs root and Linux 6.1.

mod probe_bed;

use std::{collections::BTreeMap, ffi::CString, time::Duration};

use palisade_kernel::{observation::Limits, probes::Probes, records::DEFAULT_RING_BYTES};
use palisade_kernel_abi::record::{Body, Folded, Kind, Record, kind_bit};
use palisade_world::{LossReason, RecordSource as _};
use probe_bed::{ALL_KINDS, Bed, Directory, Records, c, calls, path_of};

fn limited(name: &str, limits: Limits) -> (Bed, Probes, Records) {
    let mut bed = Bed::new(name);
    let probes = Probes::attach(&bed.pins, limits).expect("the object loads");
    let records = bed.records(DEFAULT_RING_BYTES);
    bed.admit(ALL_KINDS);
    (bed, probes, records)
}

/// Long enough that no test ends it by being slow.
const WINDOW: Duration = Duration::from_secs(60);

fn folding() -> Limits {
    Limits { fold_window: WINDOW, ..Limits::NONE }
}

fn counted(records: &mut Records, kind: Kind, reason: LossReason) -> u64 {
    let loss = records.source.loss().expect("the counters can be read");
    loss.counts.get(&(kind.code(), reason)).copied().unwrap_or(0)
}

fn folded(records: &[Record<'_>]) -> Vec<Folded> {
    records.iter().filter_map(|r| if let Body::Folded(folded) = r.body { Some(folded) } else { None }).collect()
}

fn opens<'a>(records: &[Record<'a>], end: &str) -> Vec<Record<'a>> {
    records.iter().filter(|r| r.kind() == Kind::Open && path_of(r).ends_with(end)).copied().collect()
}

#[test]
fn host_probe_equal_opens_are_sent_once_and_their_number_later() {
    let (bed, probes, mut records) = limited("fold", folding());
    let directory = Directory::new("fold");
    let (file, missing) = (c(&directory.file("same", "x")), c(&directory.0.join("missing")));
    let child = bed.start(|| {
        for _ in 0..500 {
            calls::close(calls::open(&file, libc::O_RDONLY));
            calls::open(&missing, libc::O_RDONLY);
        }
        // Not equal: other flags.
        i32::from(calls::open(&file, libc::O_RDWR) < 0)
    });
    let pid = u32::try_from(child.pid).unwrap();
    assert_eq!(child.code(), 0);
    assert_eq!(counted(&mut records, Kind::Open, LossReason::Folded), 2 * 499);
    probes.sweep_folds(Duration::ZERO).unwrap();
    let all = records.all();
    let (same, missing) = (opens(&all, "/same"), opens(&all, "/missing"));
    assert_eq!((same.len(), missing.len()), (2, 1));
    let counts = folded(&all);
    for first in [&same[0], &missing[0]] {
        let of_it: Vec<_> = counts.iter().filter(|folded| folded.of_boot_ns == first.header.boot_ns).collect();
        assert!(matches!(of_it[..], [Folded { of_kind: Kind::Open, repeats: 499, .. }]), "{counts:?}");
    }
    let heads: Vec<_> = all.iter().filter(|r| r.kind() == Kind::Folded).map(|r| r.header.tgid).collect();
    assert!(heads.iter().all(|tgid| *tgid == pid), "{heads:?}");
    assert_eq!(heads.len(), 2, "what was not repeated has no count");
    records.verify();
}

#[test]
fn host_probe_a_renamed_file_another_process_and_a_later_window_are_not_folded() {
    let window = Duration::from_millis(50);
    let (bed, probes, mut records) = limited("unfolded", Limits { fold_window: window, ..Limits::NONE });
    let directory = Directory::new("unfolded");
    let (old, new) = (c(&directory.file("old", "x")), c(&directory.0.join("new")));
    let open_both = || {
        let before = calls::open(&old, libc::O_RDONLY);
        let renamed = std::fs::rename(directory.0.join("old"), directory.0.join("new"));
        let after = calls::open(&new, libc::O_RDONLY);
        i32::from(before < 0 || renamed.is_err() || after < 0)
    };
    assert_eq!(bed.start(open_both).code(), 0);
    let open_again = || {
        let first = calls::open(&new, libc::O_RDONLY);
        std::thread::sleep(2 * window);
        i32::from(first < 0 || calls::open(&new, libc::O_RDONLY) < 0)
    };
    assert_eq!(bed.start(open_again).code(), 0);
    probes.sweep_folds(Duration::ZERO).unwrap();
    let all = records.all();
    assert_eq!((opens(&all, "/old").len(), opens(&all, "/new").len()), (1, 3));
    records.verify();
}

#[test]
fn host_probe_more_different_opens_than_places_lose_no_count() {
    let (bed, probes, mut records) = limited("places", folding());
    let directory = Directory::new("places");
    const FILES: usize = 300;
    let files: Vec<CString> = (0..FILES).map(|n| c(&directory.file(&format!("f{n}"), "x"))).collect();
    // Three processes, each with every file, over and over: places are taken from each other.
    let act = || {
        for _ in 0..20 {
            for file in &files {
                calls::close(calls::open(file, libc::O_RDONLY));
            }
        }
        0
    };
    let children: Vec<_> = (0..3).map(|_| bed.start(act)).collect();
    assert!(children.into_iter().all(|child| child.code() == 0));
    probes.sweep_folds(Duration::ZERO).unwrap();
    let in_kernel = counted(&mut records, Kind::Open, LossReason::Folded);
    assert_eq!(counted(&mut records, Kind::Folded, LossReason::RingFull), 0, "the ring holds them");
    let all = records.all();
    let told: u64 = folded(&all).iter().filter(|f| f.of_kind == Kind::Open).map(|f| u64::from(f.repeats)).sum();
    assert_eq!(told, in_kernel, "each that was folded is in one count");
    let sent = opens(&all, "").iter().filter(|r| path_of(r).starts_with(directory.0.to_str().unwrap())).count();
    assert_eq!(sent as u64 + told, 3 * 20 * FILES as u64);
    // Of two that meet in one place each is sent anew every time; of 900 in 8,192 places few do.
    assert!((3 * FILES..3 * 20 * FILES / 2).contains(&sent), "most are folded: {sent} were sent");
    records.verify();
}

#[test]
fn host_probe_a_workload_past_its_rate_is_suppressed_and_its_executions_are_not() {
    const BURST: u32 = 40;
    let limits = Limits { records_per_second: 1, burst: BURST, fold_window: Duration::ZERO };
    let (bed, _probes, mut records) = limited("rate", limits);
    let directory = Directory::new("rate");
    let file = c(&directory.file("file", "x"));
    let program = CString::new("/bin/true").unwrap();
    let child = bed.start(|| {
        for _ in 0..1000 {
            calls::close(calls::open(&file, libc::O_RDONLY));
        }
        calls::exec(&program, std::slice::from_ref(&program))
    });
    let pid = u32::try_from(child.pid).unwrap();
    assert_eq!(child.code(), 0);
    let suppressed = counted(&mut records, Kind::Open, LossReason::Suppressed);
    let all = records.all();
    let sent = all.iter().filter(|r| r.kind() == Kind::Open && r.header.tgid == pid).count();
    // A token a second may have come back meanwhile, and the child's way into the cgroup may have cost one.
    assert!((BURST as usize - 2..BURST as usize + 30).contains(&sent), "{sent} sent");
    // The loader of the program opens libraries too, all past the rate.
    assert!(suppressed >= 1000 - sent as u64, "{suppressed} suppressed");
    assert!(all.iter().any(|r| r.kind() == Kind::Exec && r.header.tgid == pid));
    assert!(all.iter().any(|r| r.kind() == Kind::Exit && r.header.tgid == pid));
    records.verify();
}

#[test]
fn host_probe_the_sum_holds_for_every_kind_under_load_with_folding_limits_and_full_rings() {
    let limits = Limits { records_per_second: 2_000, burst: 3_000, fold_window: Duration::from_millis(20) };
    let mut bed = Bed::new("load");
    let probes = Probes::attach(&bed.pins, limits).expect("the object loads");
    // Rings of a page: they overflow at once.
    let mut records = bed.records(4096);
    bed.admit(ALL_KINDS | kind_bit(Kind::Syscall));
    let directory = Directory::new("load");
    let act = || {
        for n in 0..2_000 {
            let name = c(&directory.0.join(format!("f{}", n % 50)));
            let file = calls::open(&name, libc::O_CREAT | libc::O_RDWR);
            calls::close(file);
            calls::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
            calls::kill(0, 0);
        }
        0
    };
    let children: Vec<_> = (0..4).map(|_| bed.start(act)).collect();
    let mut sweeps = 0;
    for child in children {
        probes.sweep_folds(Duration::from_millis(20)).unwrap();
        records.drain();
        sweeps += 1;
        assert_eq!(child.code(), 0);
    }
    probes.sweep_folds(Duration::ZERO).unwrap();
    records.verify();
    let loss = records.source.loss().unwrap();
    let mut by_reason: BTreeMap<LossReason, u64> = BTreeMap::new();
    for ((_, reason), count) in &loss.counts {
        *by_reason.entry(*reason).or_default() += count;
    }
    println!("{sweeps} sweeps: {by_reason:?}");
    for reason in [LossReason::RingFull, LossReason::Suppressed, LossReason::Folded] {
        assert!(by_reason.get(&reason).is_some_and(|count| *count > 0), "{by_reason:?}");
    }
}
