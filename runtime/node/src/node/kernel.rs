//! The kernel's adapter as this node is configured to use it.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context as _;
use palisade_kernel::{
    Attendant, KernelAdapter, KernelConfig, UsbDevices, UsbPaths,
    audit::{AuditRecords, Denials},
    fanotify::{FailMode, ResponderConfig},
    objects::{ObjectError, Refusal},
    observation::Limits,
    probes::{self, Probes, ProbesError, RefusedProbe, SharedProbes},
    records::{self, KernelRecords},
};
use palisade_world::{Devices as _, Enforcement, Loss, RecordBatch, RecordSource, RecordSourceError, RefusedProgram};

use super::{Kernel, absence};
use crate::arguments::{NodeArguments, PostureArgument};

/// Kernel memory of all rings together, in bytes, shared by the CPUs that this machine may ever have: a VM may tell of 240 and have two.
const RINGS_BYTES: u32 = 64 << 20;
/// A CPU's ring at most, in bytes: at 50,000 records of 200 bytes a second from one CPU it lasts 400 ms, many times the probe's wait.
const RING_BYTES_MAX: u32 = 4 << 20;
/// And at least, whatever that comes to in all: it lasts 25 ms at that rate, five times the probe's wait.
const RING_BYTES_MIN: u32 = 256 << 10;

/// One cause is one line, however many programs it keeps out: by what they need and why they were refused, who they are and what is lost.
fn by_reason(refused: &[Refusal]) -> BTreeMap<(&str, &str), (String, String)> {
    let mut causes = BTreeMap::<_, (String, String)>::new();
    for Refusal { program, needs, without, reason } in refused {
        let (programs, lost) = causes.entry((*needs, reason.as_str())).or_default();
        for (list, item, separator) in [(programs, program, ", "), (lost, without, "; ")] {
            if !list.is_empty() {
                list.push_str(separator);
            }
            list.push_str(item);
        }
    }
    causes
}

/// Loads what this kernel takes.
///
/// # Errors
/// Pins of another version are in the way, or the rings cannot be opened.
pub fn open(arguments: &NodeArguments) -> anyhow::Result<Kernel> {
    let fail_mode = match arguments.on_unknown_path {
        PostureArgument::Block => FailMode::Refuse,
        PostureArgument::Audit => FailMode::Permit,
    };
    let responder = ResponderConfig { fail_mode, ..ResponderConfig::this_binary() };
    let config = KernelConfig {
        pin_root: arguments.pin_root.clone(),
        fail_mode,
        visibility: arguments.visibility,
        host_visibility: arguments.seen_of_host(),
        holds_host: arguments.host_policy,
        holds_unknown: arguments.unknown().is_some(),
        responder: Some(responder),
        selinux: arguments.selinux.base(),
    };
    // Else nothing is said for as long as the verifier takes, which is seconds.
    tracing::info!(pin_root = %arguments.pin_root.display(), "loading programs into the kernel");
    let adapter = Arc::new(KernelAdapter::open(config)?);
    absence::say(adapter.absence());
    // What had lapsed stands again from here on.
    let attendant = Attendant::start(Arc::clone(&adapter) as Arc<dyn Enforcement>, arguments.stands_unattended());
    let attendant = attendant.context("cannot start a thread")?;
    if arguments.stands_unattended().is_some() && (adapter.profiles().is_some() || adapter.users().is_some()) {
        tracing::warn!(
            "--max-unattended: AppArmor profiles and SELinux constraints stand for ever; the kernel's programs lapse"
        );
    }
    for ((needs, reason), (programs, without)) in by_reason(adapter.refused()) {
        tracing::warn!(programs, needs, reason, without, "the kernel refused programs; the rest goes on");
    }
    for (family, held) in &adapter.matrix().families {
        tracing::info!(?family, tier = ?held.tier, "held by");
    }
    let (probes, unseen) = observe(&adapter, arguments)?;
    let mut refused = adapter.refused_programs();
    refused.extend(unseen.iter().map(refused_probe));
    // Whoever loads programs makes the rings; without any, nothing writes to one.
    let rings = if adapter.has_programs() || probes.is_some() { records::rings()? } else { 0 };
    let bytes = ring_bytes(rings);
    tracing::info!(
        rings,
        bytes_each = bytes,
        bytes_at_most = u64::from(rings) * u64::from(bytes),
        "record rings; those of an earlier node stay as they are"
    );
    let fold_window = arguments.fold_window;
    let (of_records, pin_root) = (Arc::clone(&adapter), arguments.pin_root.clone());
    let records = move || -> Result<Box<dyn RecordSource>, palisade_supervision::BuildError> {
        // The probes live as long as somebody can open their records.
        let rings = (rings > 0).then(|| KernelRecords::open(of_records.pin_root(), bytes)).transpose()?;
        let rings = rings.map(|rings| match &probes {
            Some(probes) => rings.swept_by(Arc::clone(probes), fold_window),
            None => rings,
        });
        let responder = of_records.responder().map(|responder| Box::new(responder.records()) as Box<dyn RecordSource>);
        let by_lsm = told(of_records.profiles()).into_iter().chain(told(of_records.users()));
        let rings = rings.map(|rings| Box::new(rings) as Box<dyn RecordSource>);
        Ok(Box::new(Merged { sources: rings.into_iter().chain(responder).chain(by_lsm).collect(), turn: 0 }))
    };
    let devices = Arc::new(UsbDevices::new(UsbPaths::of(&pin_root)));
    if !arguments.host_policy {
        // Nobody will hold what an earlier node held: then devices are the kernel's again.
        devices.hold(&Arc::default());
    }
    let stopped = Arc::clone(&devices);
    let users = adapter.users();
    let unload = move || {
        stopped.stop();
        // Else it would load again what is taken away.
        users.iter().for_each(|users| users.stop());
        palisade_kernel::unload(&pin_root).map_err(anyhow::Error::from)
    };
    Ok(Kernel {
        enforcement: adapter,
        refused,
        devices,
        records: Arc::new(records),
        rings_bytes: u64::from(rings) * u64::from(bytes),
        attendant,
        unload: Box::new(unload),
    })
}

/// What an LSM denies by policies of ours, where it is a means.
fn told<D: Denials + Send + Sync + 'static>(denials: Option<Arc<D>>) -> Option<Box<dyn RecordSource>> {
    let records = denials.map(AuditRecords::open).transpose().unwrap_or_else(|error| {
        tracing::warn!(%error, tier = ?D::TIER, "denials are not told: the kernel's audit cannot be heard");
        None
    });
    records.map(|records| Box::new(records) as Box<dyn RecordSource>)
}

/// Attaches what observes, and says what of it this kernel refuses. A kernel that refuses all of it is no reason not to hold workloads.
fn observe(
    adapter: &KernelAdapter,
    arguments: &NodeArguments,
) -> anyhow::Result<(Option<SharedProbes>, Vec<RefusedProbe>)> {
    match Probes::attach(adapter.pin_root(), limits(arguments)) {
        Ok(probes) => {
            let refused = probes.refused().to_vec();
            Ok((Some(Arc::new(probes)), refused))
        }
        Err(error @ (ProbesError::Btf(_) | ProbesError::Object(_))) => {
            tracing::warn!(%error, "nothing is observed on this kernel: there are no logs, and alerts know no chains of processes");
            Ok((None, probes::all_refused(&error)))
        }
        // None of the kernel's: what is in the way goes when it is named.
        Err(error) => Err(error).context("probes"),
    }
}

fn refused_probe(probe: &RefusedProbe) -> RefusedProgram {
    let RefusedProbe { program, needs, without, reason } = probe;
    let without = format!("not seen: {without}");
    RefusedProgram { program: (*program).to_owned(), needs: (*needs).to_owned(), without, reason: reason.clone() }
}

/// Whether loading was given up for a signal that stops the node.
#[must_use]
pub fn was_told_to_stop(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(ObjectError::ToldToStop(_)))
            || matches!(cause.downcast_ref(), Some(ProbesError::ToldToStop(_)))
    })
}

fn limits(arguments: &NodeArguments) -> Limits {
    Limits {
        records_per_second: arguments.observation_rate,
        burst: arguments.observation_burst,
        fold_window: arguments.fold_window,
    }
}

/// The size of each of so many rings: a power of two, as the kernel wants it.
fn ring_bytes(rings: u32) -> u32 {
    let share = (RINGS_BYTES / rings.max(1)).clamp(RING_BYTES_MIN, RING_BYTES_MAX);
    // The largest power of two up to it.
    1 << share.ilog2()
}

/// The rings and the responder as one source; each in turn, so that neither starves the other.
struct Merged {
    sources: Vec<Box<dyn RecordSource>>,
    turn: usize,
}

impl RecordSource for Merged {
    fn read(&mut self, batch: &mut RecordBatch) -> Result<bool, RecordSourceError> {
        let mut more = false;
        for _ in 0..self.sources.len() {
            self.turn = (self.turn + 1) % self.sources.len();
            more |= self.sources[self.turn].read(batch)?;
            if batch.records > 0 {
                // The others may have something too: ask again at once.
                return Ok(true);
            }
        }
        Ok(more)
    }

    fn loss(&mut self) -> Result<Loss, RecordSourceError> {
        let mut total = Loss::default();
        for source in &mut self.sources {
            let Loss { counts, produced } = source.loss()?;
            for (key, count) in counts {
                *total.counts.entry(key).or_default() += count;
            }
            let own: BTreeMap<u32, u64> = produced;
            total.produced.extend(own);
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_node_says_one_cause_of_refusal_once_with_all_that_it_costs() {
        let refusal = |program, reason: &str, without| {
            let reason = reason.to_owned();
            Refusal { program, needs: "bpf", without, reason }
        };
        let refused = [
            refusal("judge_exec", "EPERM", "exec falls"),
            refusal("judge_map", "no such hook", "maps fall"),
            refusal("judge_open", "EPERM", "open falls"),
        ];
        let causes: Vec<_> = by_reason(&refused).into_iter().collect();
        let expected = [
            (("bpf", "EPERM"), ("judge_exec, judge_open".to_owned(), "exec falls; open falls".to_owned())),
            (("bpf", "no such hook"), ("judge_map".to_owned(), "maps fall".to_owned())),
        ];
        assert_eq!(causes, expected);
    }

    #[test]
    fn unit_node_rings_share_their_memory_between_bounds() {
        let sizes = [1, 2, 16, 17, 32, 100, 240, 256, 257, 1024].map(ring_bytes);
        let (kib, mib) = (1 << 10, 1 << 20);
        let expected =
            [4 * mib, 4 * mib, 4 * mib, 2 * mib, 2 * mib, 512 * kib, 256 * kib, 256 * kib, 256 * kib, 256 * kib];
        assert_eq!(sizes, expected);
        for rings in 0..=256 {
            let bytes = ring_bytes(rings);
            assert!(bytes.is_power_of_two() && rings * bytes <= RINGS_BYTES, "{rings} rings of {bytes} bytes");
        }
    }
}
