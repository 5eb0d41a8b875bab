//! What the tests share: one containerd, one kernel adapter, and one container that policies are put in force for.
//!
//! Started by the first test that needs them; if that fails, each test that needs them fails with the reason.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use libtest_mimic::Failed;
use palisade_domain::{CgroupId, Generation, Posture, Slot, Workload, WorkloadKind};
use palisade_kernel::{
    KernelAdapter, KernelConfig,
    records::{DEFAULT_RING_BYTES, KernelRecords},
};
use palisade_kernel_abi::record::{self, Record, RecordReader};
use palisade_policy::{PolicySet, ir::Postures};
use palisade_policy_compiler::{automaton::AutomatonLimits, compile};
use palisade_protocol::CompiledPolicy;
use palisade_world::{Enforcement, Membership, RecordBatch, RecordSource as _};

use super::{Checked, ensure};
use crate::{
    act::{Act, Outcome},
    containerd::{Container, Containerd},
};

/// Where the guest mounts the unified hierarchy.
const CGROUPS: &str = "/sys/fs/cgroup";
/// Of the suite's adapter.
pub const PIN_ROOT: &str = "/sys/fs/bpf/suite";

/// The guest's containerd.
pub fn containerd() -> Result<&'static Containerd, Failed> {
    static SHARED: OnceLock<Result<Containerd, String>> = OnceLock::new();
    SHARED.get_or_init(|| Containerd::start().map_err(|error| error.to_string())).as_ref().map_err(Failed::from)
}

/// The guest's kernel adapter: what the node itself uses.
pub fn kernel() -> Result<&'static KernelAdapter, Failed> {
    static SHARED: OnceLock<Result<KernelAdapter, String>> = OnceLock::new();
    let open = || KernelAdapter::open(config(Path::new(PIN_ROOT))).map_err(|error| error.to_string());
    SHARED.get_or_init(open).as_ref().map_err(Failed::from)
}

/// What the kernel's records have said since the last question, of those that `of` takes.
pub fn told<T>(of: impl Fn(&Record<'_>) -> Option<T>) -> Result<Vec<T>, Failed> {
    static SOURCE: OnceLock<Result<Mutex<KernelRecords>, String>> = OnceLock::new();
    kernel()?;
    let open =
        || KernelRecords::open(Path::new(PIN_ROOT), DEFAULT_RING_BYTES).map(Mutex::new).map_err(|e| e.to_string());
    let source = SOURCE.get_or_init(open).as_ref().map_err(Failed::from)?;
    let mut source = source.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut batch, mut all) = (RecordBatch::default(), Vec::new());
    loop {
        let more = source.read(&mut batch)?;
        for record in RecordReader::new(&batch.bytes) {
            all.extend(of(&record?));
        }
        if !more {
            return Ok(all);
        }
    }
}

/// An adapter's configuration; in the guest the LSM holds files, so no responder is wanted.
pub fn config(pin_root: &Path) -> KernelConfig {
    KernelConfig { pin_root: pin_root.to_owned(), responder: None, ..KernelConfig::default() }
}

/// By what means programs judge on the hooks in this boot: by BPF LSM, or before the functions where `bpf` is not in `lsm=`.
pub fn hooks() -> Result<palisade_domain::Tier, Failed> {
    let active = fs::read_to_string("/sys/kernel/security/lsm")?;
    let listed = active.trim().split(',').any(|lsm| lsm == "bpf");
    Ok(if listed { palisade_domain::Tier::BpfLsm } else { palisade_domain::Tier::FmodRet })
}

/// The same as records have it.
pub fn by_hooks() -> Result<record::Tier, Failed> {
    Ok(if hooks()? == palisade_domain::Tier::BpfLsm { record::Tier::BpfLsm } else { record::Tier::FmodRet })
}

/// A container that is admitted and whose mount table is learnt.
pub struct Subject {
    pub container: Container,
    slot: Slot,
}

/// The container that most tests share: each puts its own policy in force.
pub fn subject() -> Result<&'static Subject, Failed> {
    static SHARED: OnceLock<Result<Subject, String>> = OnceLock::new();
    let start = || Subject::start("subject", &[]).map_err(|failed| failed.message().unwrap_or("no subject").to_owned());
    SHARED.get_or_init(start).as_ref().map_err(Failed::from)
}

impl Subject {
    /// Starts a container, then admits it and learns its mounts.
    pub fn start(id: &str, options: &[&str]) -> Result<Self, Failed> {
        let container = containerd()?.hold(id, options)?;
        let slot = next_slot();
        kernel()?.admit(&membership(slot, &container.cgroup()?, container.pid)?)?;
        kernel()?.learn_mounts(slot, container.pid)?;
        Ok(Self { container, slot })
    }

    /// Does the acts in the container, under the policy.
    pub fn under(&self, policy: &CompiledPolicy, acts: &[Act]) -> Result<Vec<Outcome>, Failed> {
        let mut outcomes = Ok(Vec::new());
        self.meanwhile(policy, || outcomes = self.container.exec(acts))?;
        Ok(outcomes?)
    }

    /// Does something while the policy is in force for the container.
    pub fn meanwhile(&self, policy: &CompiledPolicy, something: impl FnOnce()) -> Checked {
        kernel()?.install(self.slot, next_generation(), Some(&policy.blob))?;
        something();
        kernel()?.install(self.slot, next_generation(), None)?;
        Ok(())
    }

    /// Under the policy the first are denied and the others go on.
    pub fn ensure(&self, policy: &CompiledPolicy, denied: &[Act], permitted: &[Act]) -> Checked {
        let acts: Vec<Act> = denied.iter().chain(permitted).cloned().collect();
        let outcomes = self.under(policy, &acts)?;
        ensure_outcomes(&acts, &outcomes, denied.len())
    }

    /// Removes the container and what the kernel knows of it.
    pub fn remove(self) -> Checked {
        kernel()?.release(self.slot)?;
        self.container.remove()?;
        Ok(())
    }
}

/// The first `denied` acts must be denied, the others permitted; a failure shows all.
pub fn ensure_outcomes(acts: &[Act], outcomes: &[Outcome], denied: usize) -> Checked {
    let as_wanted = |(number, outcome): (usize, &Outcome)| {
        if number < denied { outcome.is_denied() } else { outcome.is_permitted() }
    };
    ensure(outcomes.iter().enumerate().all(as_wanted), || {
        let line = |(number, (act, outcome)): (usize, (&Act, &Outcome))| {
            let act = act.to_string();
            // Deep paths would fill the log.
            let shown: String = act.chars().take(100).collect();
            format!(
                "{} {shown} ({} bytes): {outcome}",
                if number < denied { "to be denied:   " } else { "to be permitted:" },
                act.len()
            )
        };
        acts.iter().zip(outcomes).enumerate().map(line).collect::<Vec<_>>().join("\n")
    })
}

/// The membership of a cgroup whose first process is `pid` (0: it has none yet).
pub fn membership(slot: Slot, cgroup: &Path, pid: u32) -> io::Result<Membership> {
    Ok(Membership {
        slot,
        cgroup: Some(CgroupId(fs::metadata(cgroup)?.ino())),
        cgroup_path: Some(PathBuf::from("/").join(cgroup.strip_prefix(CGROUPS).map_err(io::Error::other)?)),
        pid,
        root: None,
    })
}

/// A slot that no test had.
pub fn next_slot() -> Slot {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    Slot(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A generation that no test had.
pub fn next_generation() -> Generation {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    Generation(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The `spec` of a PalisadePolicy (without its selector), compiled as a node compiles it, with blocking postures.
pub fn policy(spec: &str) -> Result<CompiledPolicy, Failed> {
    let indented: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    let document = format!(
        "apiVersion: palisade.dev/v1alpha1\nkind: PalisadePolicy\nmetadata: {{ name: suite, namespace: default }}\nspec:\n  \
         selector: {{ matchLabels: {{ app: suite }} }}\n{indented}"
    );
    let set = PolicySet::parse([("suite.yaml", document.as_bytes())]).map_err(|diagnostics| {
        let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        format!("{}\n{document}", lines.join("\n"))
    })?;
    let postures =
        Postures { file: Posture::Block, network: Posture::Block, capabilities: Posture::Block, ..Postures::default() };
    let rules = set.rules_for(&workload(), &BTreeMap::new(), postures);
    Ok(compile(&rules, &AutomatonLimits::default(), &mut || false)?)
}

fn workload() -> Workload {
    Workload {
        kind: WorkloadKind::Container,
        name: "suite".to_owned(),
        namespace: "default".to_owned(),
        container: "suite".to_owned(),
        container_id: None,
        image: String::new(),
        labels: BTreeMap::from([("app".to_owned(), "suite".to_owned())]),
    }
}
