//! A kernel and a container runtime that fail as they are told, and that notice what must never be.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use palisade_domain::{CgroupId, ContainerId, Generation, Slot, UnixNanos, Workload, WorkloadKind};
use palisade_kernel_abi::blob::Blob;
use palisade_world::{
    Admission, BootNanos, Clock, Container, ContainerChange, Containers, ContainersError, Enforcement,
    EnforcementError, Installed, KernelMatrix, KernelMemory, Membership, PolicyDirectory, PolicyDirectoryError,
    PolicyFile, PolicyReading,
};
use tokio::sync::Notify;

/// SplitMix64.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// What goes wrong, in so many calls of a hundred.
#[derive(Default)]
pub struct Faults {
    pub refuse: u64,
    pub panic: u64,
}

pub struct Model {
    dice: Dice,
    pub faults: Faults,
    pub slots: BTreeMap<Slot, CgroupId>,
    pub policies: BTreeMap<Slot, Generation>,
    pub violations: Vec<String>,
    /// Installations that were tried.
    pub installs: u64,
}

impl Model {
    /// The policy that holds a cgroup.
    pub fn holds(&self, cgroup: CgroupId) -> Option<Generation> {
        let slot = self.slots.iter().find(|(_, held)| **held == cgroup)?.0;
        self.policies.get(slot).copied()
    }

    fn fault(&mut self, slot: Slot, what: &'static str) -> Result<(), EnforcementError> {
        let roll = self.dice.below(100);
        if roll < self.faults.panic {
            // Not `panic!`: what is printed for it would drown a failure.
            std::panic::resume_unwind(Box::new(format!("as told, in {what}")));
        }
        if roll < self.faults.panic + self.faults.refuse {
            return Err(EnforcementError::Refused { slot, what, reason: "as told".into() });
        }
        Ok(())
    }
}

pub struct Kernel {
    model: Mutex<Model>,
    matrix: KernelMatrix,
}

impl Kernel {
    pub fn new(seed: u64) -> Arc<Self> {
        let model = Model {
            dice: Dice(seed),
            faults: Faults::default(),
            slots: BTreeMap::new(),
            policies: BTreeMap::new(),
            violations: Vec::new(),
            installs: 0,
        };
        Arc::new(Self { model: Mutex::new(model), matrix: KernelMatrix::default() })
    }

    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Enforcement for Kernel {
    fn matrix(&self) -> &KernelMatrix {
        &self.matrix
    }
    fn admit(&self, membership: &Membership) -> Result<(), EnforcementError> {
        let (slot, mut model) = (membership.slot, self.model());
        let cgroup = membership.cgroup.expect("containers only");
        model.fault(slot, "admit")?;
        if let Some(held) = model.slots.get(&slot).copied().filter(|held| *held != cgroup) {
            model.violations.push(format!("{cgroup:?} is admitted to slot {slot}, which holds {held:?}"));
        }
        if let Some((other, _)) = model.slots.iter().find(|(other, held)| **held == cgroup && **other != slot) {
            let violation = format!("{cgroup:?} is in slots {other} and {slot}");
            model.violations.push(violation);
        }
        model.slots.insert(slot, cgroup);
        Ok(())
    }
    fn learn_mounts(&self, slot: Slot, _: u32) -> Result<(), EnforcementError> {
        self.model().fault(slot, "learn")
    }
    fn install(
        &self,
        slot: Slot,
        generation: Generation,
        _: Option<&Arc<Blob>>,
    ) -> Result<Installed, EnforcementError> {
        let mut model = self.model();
        model.installs += 1;
        model.fault(slot, "install")?;
        if !model.slots.contains_key(&slot) {
            model.violations.push(format!("installed for slot {slot}, which nobody has"));
        }
        let before = model.policies.insert(slot, generation);
        if before.is_some_and(|before| before > generation) {
            model.violations.push(format!("slot {slot} went back from {before:?} to {generation}"));
        }
        Ok(Installed::default())
    }
    fn release(&self, slot: Slot) -> Result<(), EnforcementError> {
        let mut model = self.model();
        model.fault(slot, "release")?;
        model.slots.remove(&slot);
        model.policies.remove(&slot);
        Ok(())
    }
    fn memory(&self) -> KernelMemory {
        KernelMemory::default()
    }
}

#[derive(Default)]
pub struct Runtime {
    pub running: BTreeMap<String, Container>,
    pub starting: BTreeSet<String>,
    pub granted: u64,
    pub refused: u64,
    events: VecDeque<ContainerChange>,
    /// The next call of the port fails, or panics.
    pub cut: bool,
    pub crash: bool,
}

#[derive(Clone, Default)]
pub struct Containerd {
    runtime: Arc<Mutex<Runtime>>,
    heard: Arc<Notify>,
}

impl Containerd {
    pub fn runtime(&self) -> MutexGuard<'_, Runtime> {
        self.runtime.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
    pub fn happens(&self, change: ContainerChange) {
        self.runtime().events.push_back(change);
        self.heard.notify_one();
    }
    pub fn port(&self) -> Port {
        Port { containerd: self.clone(), connected: false, told: VecDeque::new() }
    }
}

pub struct Port {
    containerd: Containerd,
    connected: bool,
    told: VecDeque<ContainerChange>,
}

#[async_trait(?Send)]
impl Containers for Port {
    async fn next(&mut self) -> Result<ContainerChange, ContainersError> {
        loop {
            {
                let mut runtime = self.containerd.runtime();
                if std::mem::take(&mut runtime.crash) {
                    drop(runtime);
                    std::panic::resume_unwind(Box::new("the port, as told"));
                }
                if std::mem::take(&mut runtime.cut) {
                    self.connected = false;
                    return Err(ContainersError::Unreachable { address: "x".into(), reason: "as told".into() });
                }
                if !self.connected {
                    self.connected = true;
                    // Hooks that wait are refused with what is dropped here; ends are told by the list.
                    runtime.events.clear();
                    self.told = runtime.running.values().cloned().map(ContainerChange::Started).collect();
                    self.told.push_back(ContainerChange::Synchronized);
                }
                if let Some(change) = self.told.pop_front().or_else(|| runtime.events.pop_front()) {
                    return Ok(change);
                }
            }
            self.containerd.heard.notified().await;
        }
    }
}

pub fn container(name: &str, number: u64) -> Container {
    Container {
        id: ContainerId(name.into()),
        runtime_namespace: "k8s.io".into(),
        pid: u32::try_from(number).expect("small"),
        cgroup: CgroupId(number),
        cgroup_path: PathBuf::from(format!("/{number}")),
        root: None,
        pod: "pod".into(),
        namespace: "default".into(),
        name: "main".into(),
        image: "image".into(),
        labels: BTreeMap::from([("app".into(), if number.is_multiple_of(2) { "web" } else { "other" }.into())]),
    }
}

/// A workload in the slot of that number, for an enforcer without roster.
pub fn workload(number: u32) -> (Arc<Workload>, Membership) {
    let container = container("alone", u64::from(number));
    let workload = Workload {
        kind: WorkloadKind::Container,
        name: container.pod,
        namespace: container.namespace,
        container: container.name,
        container_id: Some(container.id),
        image: container.image,
        labels: container.labels,
    };
    let (cgroup, cgroup_path) = (Some(container.cgroup), Some(container.cgroup_path));
    (Arc::new(workload), Membership { slot: Slot(number), cgroup, cgroup_path, pid: number, root: None })
}

/// A container's start: what becomes of its admission.
pub async fn start(containerd: Containerd, kernel: Arc<Kernel>, name: String, number: u64) {
    let (answer, answered) = tokio::sync::oneshot::channel();
    let container = container(&name, number);
    containerd.happens(ContainerChange::Starting(container.clone(), Admission(answer)));
    let granted = tokio::time::timeout(std::time::Duration::from_secs(30), answered).await;
    containerd.runtime().starting.remove(&name);
    if matches!(granted, Ok(Ok(Ok(())))) {
        let mut model = kernel.model();
        if model.holds(container.cgroup).is_none() {
            model.violations.push(format!("{name} was let go without a policy"));
        }
        containerd.runtime().granted += 1;
        containerd.runtime().running.insert(name, container.clone());
        containerd.happens(ContainerChange::Started(container));
    } else {
        containerd.runtime().refused += 1;
        containerd.happens(ContainerChange::Stopped(container.id));
    }
}

#[derive(Clone, Default)]
pub struct Policies(pub Arc<Mutex<(u64, bool)>>);

impl PolicyDirectory for Policies {
    fn read(&mut self) -> Result<PolicyReading, PolicyDirectoryError> {
        let (version, crash) = {
            let mut policies = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            (policies.0, std::mem::take(&mut policies.1))
        };
        if crash {
            std::panic::resume_unwind(Box::new("the directory, as told"));
        }
        let content = format!(
            "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: p, namespace: default}}\n\
             spec:\n  selector: {{matchLabels: {{app: web}}}}\n  process: {{matchPaths: [{{path: /bin/x{version}}}]}}\n  \
             action: Block\n"
        );
        let files = vec![PolicyFile { name: "p.yaml".into(), content: content.into_bytes() }];
        Ok(PolicyReading { files, unreadable: Vec::new() })
    }
    fn changed(&mut self) -> bool {
        true
    }
    fn settled(&mut self) -> bool {
        true
    }
}

/// The runtime's own paused clock.
pub struct Virtual(pub tokio::time::Instant);

impl Clock for Virtual {
    fn boot(&self) -> BootNanos {
        BootNanos(u64::try_from(self.0.elapsed().as_nanos()).expect("a short test"))
    }
    fn unix(&self) -> UnixNanos {
        UnixNanos(self.boot().0)
    }
}
