//! Makes faults happen on one machine, until the calm.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    event::Event,
    faults::{Fault, Faults},
    random::Random,
    world::{machine::Machine, policies::SLOWEST_MS},
};

/// Injects faults until `calm_at`, each of which is over by then; says so then.
pub async fn inject(machine: Machine, faults: Faults, mut random: Random, calm_at: Instant) {
    let passing = faults.passing();
    // Some nodes have hardly a moment without one.
    let gap_ms = *random.pick(&[600, 2000, 5000]);
    while !passing.is_empty() {
        // A run in which no fault did anything yet has tested nothing yet.
        let gap_ms = if machine.teller.any_fault_took_effect() { gap_ms } else { 600 };
        sleep(random.millis(100, gap_ms)).await;
        let left = calm_at.saturating_duration_since(Instant::now());
        if left < Duration::from_millis(500) {
            break;
        }
        let lasts = random.millis(50, 3000).min(left);
        let fault = *random.pick(&passing);
        machine.teller.tell(&Event::Fault(format!("{} for {} ms", fault.name(), lasts.as_millis())));
        happen(&machine, fault, lasts, &mut random).await;
    }
    tokio::time::sleep_until(calm_at).await;
    machine.calm();
    machine.teller.tell(&Event::Calm);
}

async fn happen(machine: &Machine, fault: Fault, lasts: Duration, random: &mut Random) {
    match fault {
        Fault::Crash => {
            stall_before(machine, random).await;
            machine.kill("injected: SIGKILL");
            sleep(lasts).await;
            machine.start();
        }
        Fault::Power => {
            stall_before(machine, random).await;
            machine.lose_power();
            sleep(lasts).await;
            machine.start();
        }
        Fault::Disk => {
            let how = random.below(3);
            machine.disk.disturb(|disk| match how {
                0 => disk.full = true,
                1 => disk.unreadable_percent = 60,
                _ => disk.slow_ms = SLOWEST_MS,
            });
            sleep(lasts).await;
            machine.disk.disturb(|disk| *disk = Default::default());
        }
        Fault::Kernel => {
            let chance = random.between(5, 70);
            machine.kernel.disturb(|kernel| kernel.refused_percent = chance);
            sleep(lasts).await;
            machine.kernel.disturb(|kernel| kernel.refused_percent = 0);
        }
        Fault::Loss => {
            let bytes = usize::try_from(random.between(300, 4000)).unwrap_or(300);
            machine.kernel.set_rings(bytes, random.below(50));
            sleep(lasts).await;
            machine.kernel.set_rings(machine.traits().ring_bytes, 0);
        }
        Fault::Runtime => {
            machine.runtime.go_down();
            sleep(lasts).await;
            machine.runtime.come_up();
        }
        Fault::Clock => {
            let by = i64::try_from(random.between(1, 7200)).unwrap_or(1);
            machine.set_clock(if random.percent(50) { by } else { -by });
        }
        Fault::Panics => {
            let (ports, reads) = (*random.pick(&[20, 300, 1500]), *random.pick(&[1, 20, 100]));
            machine.kernel.disturb(|kernel| {
                kernel.panics_permyriad = ports;
                kernel.broken_reads_permyriad = reads;
            });
            points::arm(machine, points::Failing { permyriad: *random.pick(&[2, 20, 200, 1000, 5000]), stalls: false });
            sleep(lasts).await;
            points::disarm(machine);
            machine.kernel.disturb(|kernel| {
                kernel.panics_permyriad = 0;
                kernel.broken_reads_permyriad = 0;
            });
        }
        Fault::Stalls => {
            if random.percent(50) || !points::PRESENT {
                machine.stall_any(random, lasts);
                sleep(lasts).await;
            } else {
                // In the midst of what they do, for a moment each.
                points::arm(machine, points::Failing { permyriad: *random.pick(&[200, 1000, 5000]), stalls: true });
                sleep(lasts).await;
                points::disarm(machine);
            }
        }
        // Of the whole run, and of links.
        Fault::Order | Fault::Network | Fault::Partition | Fault::Certificates | Fault::Expiry | Fault::Authority => {}
    }
}

/// What ends had often stalled before: then there is something that nobody has read, or said.
async fn stall_before(machine: &Machine, random: &mut Random) {
    if random.percent(40) {
        let wait = random.millis(20, 800);
        machine.stall_any(random, wait + Duration::from_secs(1));
        sleep(wait).await;
    }
}

/// The marked points of actors, where the build has them.
pub mod points {
    use std::{cell::RefCell, collections::BTreeMap};

    use super::Machine;
    use crate::event::Teller;
    #[cfg(feature = "fault-points")]
    use crate::random::Random;

    /// How points fail.
    #[derive(Debug, Clone, Copy)]
    #[cfg_attr(not(feature = "fault-points"), expect(dead_code, reason = "read where there are points"))]
    pub struct Failing {
        /// How often, of ten thousand.
        pub permyriad: u64,
        /// By a stall of the thread, else by a panic.
        pub stalls: bool,
    }

    /// Machines whose points are armed, and how.
    type Armed = BTreeMap<usize, (Teller, Failing)>;

    /// A thread stalls at a point for at most so long, milliseconds.
    #[cfg(feature = "fault-points")]
    const STALL_MS: u64 = 800;

    thread_local! {
        static ARMED: RefCell<Armed> = const { RefCell::new(BTreeMap::new()) };
    }

    /// Whether this build has marked points.
    pub const PRESENT: bool = cfg!(feature = "fault-points");

    pub fn arm(machine: &Machine, failing: Failing) {
        ARMED.with_borrow_mut(|armed| armed.insert(machine.number, (machine.teller.clone(), failing)));
    }

    pub fn disarm(machine: &Machine) {
        ARMED.with_borrow_mut(|armed| armed.remove(&machine.number));
    }

    /// Arms this thread for a run; without the feature there is nothing to arm.
    pub fn prepare(seed: u64) {
        ARMED.with_borrow_mut(BTreeMap::clear);
        #[cfg(feature = "fault-points")]
        {
            let mut random = crate::random::Random::stream(seed, "marked points");
            palisade_world::fault::arm(Some(Box::new(move |name| point(name, &mut random))));
        }
        #[cfg(not(feature = "fault-points"))]
        let _ = seed;
    }

    #[cfg(feature = "fault-points")]
    fn point(name: &'static str, random: &mut Random) {
        let Some(number) = crate::world::scheduler::current() else { return };
        let Some((teller, failing)) = ARMED.with_borrow(|armed| armed.get(&number).cloned()) else { return };
        if !random.permyriad(failing.permyriad) {
            return;
        }
        if failing.stalls {
            if crate::world::place::stall_current(random.millis(1, STALL_MS)) {
                teller.tell(&crate::event::Event::StallInjected(name));
            }
        } else {
            teller.tell(&crate::event::Event::PanicInjected(name));
            std::panic::resume_unwind(Box::new("injected: a marked point"));
        }
    }
}
