//! The node's kernel adapter as a backend: each family by whatever tier this kernel has for it, under that tier's name.

use std::sync::Arc;

use palisade_differential::{Act, Backend, BackendError, Case, Said, Told};
use palisade_domain::{Family as PolicyFamily, Generation, Slot, Tier};
use palisade_kernel::{
    KernelAdapter,
    fanotify::Records,
    records::{DEFAULT_RING_BYTES, KernelRecords},
};
use palisade_kernel_abi::{
    blob::{Decision, Family},
    record::RecordReader,
};
use palisade_protocol::CompiledPolicy;
use palisade_world::{Enforcement as _, RecordBatch, RecordSource};

use crate::{Bed, Done};

const SLOT: Slot = Slot(1);

/// A bed that the adapter holds.
pub struct Held {
    bed: Bed,
    adapter: KernelAdapter,
    records: KernelRecords,
    told_by_responder: Option<Records>,
    policy: Option<CompiledPolicy>,
    generation: u32,
    batch: RecordBatch,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Held").field("bed", &self.bed).field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Held {
    /// Admits the bed and starts its actors.
    ///
    /// # Errors
    /// Where something of it fails.
    pub fn new(adapter: KernelAdapter, mut bed: Bed) -> Result<Self, BackendError> {
        let failed = |error: &dyn std::fmt::Display| BackendError(error.to_string());
        adapter.admit(&bed.membership(SLOT)?).map_err(|error| failed(&error))?;
        bed.start()?;
        adapter.learn_mounts(SLOT, bed.pid()).map_err(|error| failed(&error))?;
        let records = KernelRecords::open(adapter.pin_root(), DEFAULT_RING_BYTES).map_err(|error| failed(&error))?;
        let told_by_responder = adapter.responder().map(|responder| responder.records());
        let batch = RecordBatch::default();
        Ok(Self { bed, adapter, records, told_by_responder, policy: None, generation: 0, batch })
    }

    /// The adapter, for what its tiers say of themselves.
    #[must_use]
    pub fn adapter(&self) -> &KernelAdapter {
        &self.adapter
    }

    fn put(&mut self, policy: Option<&CompiledPolicy>) -> Result<(), BackendError> {
        self.generation += 1;
        let blob = policy.map(|policy| Arc::clone(&policy.blob));
        let installed = self.adapter.install(SLOT, Generation(self.generation), blob.as_ref());
        installed.map(drop).map_err(|error| BackendError(error.to_string()))
    }

    /// Who was killed comes back, as long as nothing is in force.
    fn replace_the_dead(&mut self) -> Result<(), BackendError> {
        self.put(None)?;
        self.bed.start()?;
        let policy = self.policy.clone();
        self.put(policy.as_ref())
    }

    /// All decisions of this generation that were told since it was last asked.
    fn told(&mut self) -> Result<Vec<Told>, BackendError> {
        let mut told = Vec::new();
        let Some(policy) = self.policy.clone() else { return Ok(told) };
        let generation = self.generation;
        read(&mut self.records, &mut self.batch, generation, &policy, &mut told)?;
        if let Some(records) = &mut self.told_by_responder {
            read(records, &mut self.batch, generation, &policy, &mut told)?;
        }
        Ok(told)
    }
}

fn read(
    source: &mut dyn RecordSource,
    batch: &mut RecordBatch,
    generation: u32,
    policy: &CompiledPolicy,
    told: &mut Vec<Told>,
) -> Result<(), BackendError> {
    loop {
        let more = source.read(batch).map_err(|error| BackendError(error.to_string()))?;
        for record in RecordReader::new(&batch.bytes) {
            let record = record.map_err(|error| BackendError(error.to_string()))?;
            let Some(taken) = record.decision.filter(|taken| taken.generation == generation) else { continue };
            // What waits for arguments is told where they are not met.
            let decision = Decision::from_word(taken.word).settled(false);
            let how = format!("{:?} {:?} {:?} {:?}", taken.family, taken.tier, taken.outcome, taken.fail_reason);
            told.extend(family_of(taken.family).map(|family| Told { how, ..Told::of(family, decision, policy) }));
        }
        if !more {
            return Ok(());
        }
    }
}

fn family_of(family: palisade_kernel_abi::record::Family) -> Option<Family> {
    Family::ALL.into_iter().find(|known| format!("{known:?}") == format!("{family:?}"))
}

/// The family of the policy language whose tier holds a table.
#[must_use]
pub fn held_as(family: Family) -> PolicyFamily {
    match family {
        Family::Process => PolicyFamily::Process,
        Family::File => PolicyFamily::File,
        Family::Socket | Family::Connect => PolicyFamily::Network,
        Family::Ptrace => PolicyFamily::Ptrace,
        Family::Capability => PolicyFamily::Capabilities,
        Family::Syscall => PolicyFamily::Syscalls,
        Family::Dns => PolicyFamily::Dns,
        Family::Preset => PolicyFamily::Presets,
    }
}

impl Backend for Held {
    fn name(&self, family: Family) -> Option<&'static str> {
        // Nothing acts against a preset here.
        let held = self.adapter.matrix().families.get(&held_as(family)).filter(|_| family != Family::Preset)?;
        match held.tier {
            Tier::BpfLsm => Some("bpf-lsm"),
            Tier::FmodRet => Some("fmod-ret"),
            Tier::CgroupBpf => Some("cgroup-bpf"),
            Tier::Fanotify => Some("fanotify"),
            Tier::Kill => Some("kill"),
            // No profile is on the bed's actors, and no user of ours; what is only seen is not prevented, which the matrix says of the whole family.
            Tier::AppArmor | Tier::SeLinux | Tier::UsbAuthorization | Tier::Audit => None,
        }
    }

    fn prepare(&mut self, case: &Case) -> Result<(), BackendError> {
        Ok(self.bed.fill(case)?)
    }

    fn install(&mut self, policy: &CompiledPolicy) -> Result<(), BackendError> {
        self.policy = Some(policy.clone());
        self.put(Some(policy))?;
        self.told().map(drop)
    }

    fn act(&mut self, act: &Act) -> Result<Said, BackendError> {
        let done = self.bed.act(act)?;
        let mut told = self.told()?;
        told.iter_mut().for_each(|told| told.how += &format!(", {done:?}"));
        if !self.bed.is_whole() {
            self.replace_the_dead()?;
        }
        Ok(Said { denied: done != Done::Permitted, told: Some(told) })
    }
}
