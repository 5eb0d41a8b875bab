//! Working memory of programs that are under way: threads that are set aside in the middle of one keep theirs, and the others
//! find some all the same, up to the bound; at the bound acts are counted and take the fail mode.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod kernel_bed;

use std::path::Path;

use aya::{
    Pod,
    maps::{Array, Map, MapData},
};
use kernel_bed::{
    Checks, Random, adapter,
    cgroups::{Cgroup, alone, blob, own_slot},
    pin_root,
};
use palisade_domain::{Generation, Slot};
use palisade_kernel::{
    fanotify::FailMode,
    layout::{Counter, SCRATCH_BYTES},
};
use palisade_world::Enforcement as _;

/// `PAL_SCRATCH_STRIDE` and `PAL_SCRATCH_TRIES`.
const STRIDE: u32 = 8;
const TRIES: u32 = 64;

const REST: usize = SCRATCH_BYTES as usize / 4 - 1;

/// `struct pal_scratch` as far as it is of interest.
#[derive(Clone, Copy)]
#[repr(C)]
struct Scratch {
    busy: u32,
    rest: [u32; REST],
}

// SAFETY: u32s without padding; every bit pattern is a value; `Copy`, no drop.
unsafe impl Pod for Scratch {}

/// Takes or gives back what programs on this CPU try first, as threads do that are set aside in the middle of one.
fn occupy(pins: &Path, cpu: u32, count: u32, busy: u32) {
    let map = Map::Array(MapData::from_pin(pins.join("scratch")).unwrap());
    let mut map: Array<MapData, Scratch> = Array::try_from(map).unwrap();
    for number in 0..count {
        map.set((cpu * STRIDE + number) % map.len(), Scratch { busy, rest: [0; REST] }, 0).unwrap();
    }
}

/// From now on this thread runs on the CPU that it is on, whose number is returned.
fn stay() -> u32 {
    // SAFETY: takes nothing and gives a number.
    let cpu = unsafe { libc::sched_getcpu() };
    pin_to(cpu.unsigned_abs());
    cpu.unsigned_abs()
}

fn pin_to(cpu: u32) {
    // SAFETY: a set of bits, for which zero is a value; the kernel reads it during the call.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu as usize, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn host_scratch_is_found_beside_all_threads_that_are_set_aside_in_a_program() {
    let Some(pins) = pin_root() else { return };
    let (_alone, mut random) = (alone(), Random::seeded());
    let adapter = adapter(&pins.0, FailMode::Refuse);
    let (workload, checks) = (Cgroup::new("scratch"), Checks::load(&pins.0));
    adapter.admit(&workload.membership(5)).unwrap();
    adapter.install(Slot(5), Generation(1), Some(&blob(&mut random))).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let cpu = stay();
            workload.enter();
            let exhausted = || adapter.counters()[&Counter::ScratchExhausted];
            let judged = || {
                assert_eq!(own_slot(&checks), 5);
                checks.get().naming == kernel_bed::NAMED
            };
            assert!(judged());
            for others in [1, 8, 9, TRIES - 1] {
                occupy(&pins.0, cpu, others, 1);
                assert!(judged(), "beside {others} others");
                assert_eq!(exhausted(), 0);
            }
            occupy(&pins.0, cpu, TRIES, 1);
            assert!(!judged(), "it is bounded");
            assert_eq!(exhausted(), 1, "and counted");
            occupy(&pins.0, cpu, TRIES, 0);
            assert!(judged(), "what was given back is taken again");
        });
    });
    adapter.release(Slot(5)).unwrap();
}

#[test]
fn host_scratch_suffices_for_a_hundred_threads_on_one_cpu() {
    let Some(pins) = pin_root() else { return };
    let (_alone, mut random) = (alone(), Random::seeded());
    let adapter = adapter(&pins.0, FailMode::Refuse);
    let (workload, checks) = (Cgroup::new("threads"), Checks::load(&pins.0));
    adapter.admit(&workload.membership(6)).unwrap();
    adapter.install(Slot(6), Generation(1), Some(&blob(&mut random))).unwrap();
    workload.enter();
    let cpu = std::thread::spawn(stay).join().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                pin_to(cpu);
                for _ in 0..50 {
                    assert_eq!(own_slot(&checks), 6);
                }
            });
        }
    });
    assert!(adapter.counters()[&Counter::Decided] >= 5_000);
    assert_eq!(adapter.counters()[&Counter::ScratchExhausted], 0);
    adapter.release(Slot(6)).unwrap();
}
