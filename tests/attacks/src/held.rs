//! The node's own kernel adapter as a means: each family by whatever tier this kernel has for it.

use std::{path::Path, sync::Arc, thread, time::Duration};

use palisade_apparmor::ProfileName;
use palisade_domain::{Family, Generation, Slot, Tier};
use palisade_kernel::{
    KernelAdapter,
    audit::AuditRecords,
    fanotify::Records,
    layout::Counter,
    records::{DEFAULT_RING_BYTES, KernelRecords, SequenceCheck},
};
use palisade_kernel_abi::record::{Record, RecordReader};
use palisade_protocol::CompiledPolicy;
use palisade_selinux::UserNumber;
use palisade_world::{Enforcement as _, RecordBatch, RecordSource};

use crate::{Failed, Means, Place, Told, table::Column};

const SLOT: Slot = Slot(1);
/// The kernel's audit hands its records on by a thread of its own, late on a busy machine: how often they are looked for, and how long after
/// each other.
const LOOKS: u32 = 500;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
/// How often it is asked whether a policy of SELinux is loaded: a minute of looks.
const LOADING: u32 = 3000;

/// An adapter with what it tells.
pub struct Held {
    adapter: KernelAdapter,
    records: KernelRecords,
    told_by_responder: Option<Records>,
    told_by_lsm: Option<Box<dyn RecordSource>>,
    profile: String,
    /// Each workload has a user of its own: what the one before was denied is taken away by and by.
    user: u8,
    generation: u32,
    batch: RecordBatch,
    column: Column,
    sum: SequenceCheck,
}

impl Held {
    /// Of an adapter that holds nobody yet.
    ///
    /// # Errors
    /// Where its records cannot be read, or no tier of it is one of the table.
    pub fn new(adapter: KernelAdapter) -> Result<Self, Failed> {
        let column = match adapter.matrix().families.get(&Family::File).map(|held| held.tier) {
            Some(Tier::BpfLsm) => Column::BpfLsm,
            Some(Tier::FmodRet) => Column::FmodRet,
            Some(Tier::Fanotify) if adapter.profiles().is_some() => Column::Profile,
            Some(Tier::Fanotify) if adapter.users().is_some() => Column::SeLinux,
            Some(Tier::Fanotify) => Column::Fanotify,
            other => return Err(Failed(format!("files are held by {other:?}"))),
        };
        let records = KernelRecords::open(adapter.pin_root(), DEFAULT_RING_BYTES)?;
        let told_by_responder = adapter.responder().map(|responder| responder.records());
        let told_by_lsm = match (adapter.profiles(), adapter.users()) {
            (Some(profiles), _) => Some(Box::new(AuditRecords::open(profiles)?) as Box<dyn RecordSource>),
            (None, Some(users)) => Some(Box::new(AuditRecords::open(users)?) as Box<dyn RecordSource>),
            (None, None) => None,
        };
        Ok(Self {
            adapter,
            records,
            told_by_responder,
            told_by_lsm,
            profile: String::new(),
            user: 0,
            generation: 0,
            batch: RecordBatch::default(),
            column,
            sum: SequenceCheck::default(),
        })
    }

    /// What holds.
    #[must_use]
    pub fn adapter(&self) -> &KernelAdapter {
        &self.adapter
    }

    /// Of the policy that was last put in force.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Acts that programs on hooks denied.
    #[must_use]
    pub fn denied(&self) -> u64 {
        self.adapter.counters().get(&Counter::Denied).copied().unwrap_or_default()
    }

    /// Puts a policy in force in place of the one before.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn put(&mut self, policy: &CompiledPolicy) -> Result<(), Failed> {
        self.generation += 1;
        let installed = self.adapter.install(SLOT, Generation(self.generation), Some(&Arc::clone(&policy.blob)))?;
        let by_constraints = self.adapter.matrix().families.iter().filter(|(_, held)| held.tier == Tier::SeLinux);
        let mut awaited = by_constraints.filter_map(|(family, _)| installed.families.get(family));
        // A constraint is loaded by and by, and then the adapter has more to say.
        if awaited.any(|held| held.tier != Tier::SeLinux) {
            let is_loaded = (0..LOADING).any(|_| {
                thread::sleep(BETWEEN_LOOKS);
                self.adapter.holds_otherwise(SLOT)
            });
            return is_loaded.then_some(()).ok_or_else(|| Failed("its constraints are not loaded".to_owned()));
        }
        Ok(())
    }

    /// Every record that came since.
    ///
    /// # Errors
    /// Where records cannot be read, and of `take`.
    pub fn each(&mut self, mut take: impl FnMut(&Record<'_>) -> Result<(), Failed>) -> Result<(), Failed> {
        while self.some(&mut take)? {}
        Ok(())
    }

    /// A batch of each source, while somebody may produce records faster than they are read here; whether there may be more.
    ///
    /// # Errors
    /// As [`Self::each`].
    pub fn some(&mut self, take: &mut dyn FnMut(&Record<'_>) -> Result<(), Failed>) -> Result<bool, Failed> {
        let (sum, batch) = (&mut self.sum, &mut self.batch);
        let mut more = read(&mut self.records, batch, &mut |record| {
            sum.delivered(&record.header);
            take(record)
        })?;
        if let Some(records) = &mut self.told_by_responder {
            more |= read(records, batch, take)?;
        }
        if let Some(records) = &mut self.told_by_lsm {
            more |= read(records.as_mut(), batch, take)?;
        }
        Ok(more)
    }

    /// Reads what is there, and adds up: what the kernel gave numbers to has come or was counted as lost.
    ///
    /// # Errors
    /// Where the sum does not hold.
    pub fn account(&mut self) -> Result<String, Failed> {
        self.each(|_| Ok(()))?;
        let loss = self.records.loss()?;
        self.sum.verify(&loss)?;
        let (produced, lost): (u64, u64) = (loss.produced.values().sum(), loss.counts.values().sum());
        Ok(format!("{produced} records = {} delivered + {lost} lost", produced - lost))
    }
}

fn read(
    source: &mut dyn RecordSource,
    batch: &mut RecordBatch,
    take: &mut dyn FnMut(&Record<'_>) -> Result<(), Failed>,
) -> Result<bool, Failed> {
    let more = source.read(batch)?;
    for record in RecordReader::new(&batch.bytes) {
        take(&record?)?;
    }
    Ok(more)
}

impl Means for Held {
    fn column(&self) -> Column {
        self.column
    }

    fn admit(&mut self, place: &Place) -> Result<(), Failed> {
        let membership = place.membership(SLOT)?;
        let id = membership.cgroup_path.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
        if let (Column::Profile, Some(id)) = (self.column, id) {
            ProfileName::of_container(id)?.as_str().clone_into(&mut self.profile);
        }
        self.user = (self.user + 1) % palisade_selinux::USERS;
        Ok(self.adapter.admit(&membership)?)
    }

    fn profile(&self) -> String {
        self.profile.clone()
    }

    fn context(&self) -> String {
        let user = UserNumber::new(self.user).filter(|_| self.column == Column::SeLinux);
        user.map(|user| format!("{user}:system_r:container_t:s0")).unwrap_or_default()
    }

    fn started(&mut self, pid: u32) -> Result<(), Failed> {
        Ok(self.adapter.learn_mounts(SLOT, pid)?)
    }

    fn install(&mut self, policy: &CompiledPolicy) -> Result<(), Failed> {
        self.put(policy)?;
        self.each(|_| Ok(()))
    }

    fn told(&mut self, is_awaited: Option<&dyn Fn(&Told) -> bool>) -> Result<Vec<Told>, Failed> {
        let (generation, mut told) = (self.generation, Vec::new());
        let looks = if self.told_by_lsm.is_some() && is_awaited.is_some() { LOOKS } else { 1 };
        for look in 0..looks {
            if look > 0 {
                thread::sleep(BETWEEN_LOOKS);
            }
            self.each(|record| {
                told.extend(Told::of(record, generation));
                Ok(())
            })?;
            if is_awaited.is_some_and(|is_awaited| told.iter().any(is_awaited)) {
                break;
            }
        }
        Ok(told)
    }

    fn release(&mut self) -> Result<(), Failed> {
        Ok(self.adapter.release(SLOT)?)
    }
}
