//! The kernel as enforcers see it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use palisade_domain::{Family, Generation, Slot, Tier, Visibility};
use palisade_kernel_abi::blob::{self, Blob};
use palisade_world::{
    Capability, CapabilityState, Clock as _, Enforcement, EnforcementError, HeldFamily, Installed, KernelMatrix,
    KernelMemory, LeftBehind, Membership, visibility,
};

use super::{
    Kernel, State,
    judge::family_of,
    slots::{InForce, SlotEntry},
};
use crate::{
    event::{Event, Teller, lock},
    world::{clock::SimClock, mutation::Mutation},
};

/// Bytes of a blob, as [`KernelMemory`] tells it.
const BLOB_BYTES: u64 = 1 << 20;
/// Slots of the map.
const SLOTS: u32 = 4096;

/// One process's hold on the kernel.
pub struct SimEnforcement {
    kernel: Arc<Mutex<State>>,
    clock: SimClock,
    teller: Teller,
    matrix: KernelMatrix,
    default_visibility: Visibility,
    last: Generation,
    left: Vec<LeftBehind>,
}

impl SimEnforcement {
    /// Opens it, as a process does that starts: what an earlier one left in force for living cgroups stands.
    #[must_use]
    pub fn open(kernel: &Kernel, default_visibility: Visibility) -> Self {
        let state = Arc::clone(&kernel.state);
        let (last, left) = {
            let mut state = lock(&state);
            let State { slots, living, .. } = &mut *state;
            (Generation(slots.newest()), slots.take_over(kernel.clock.boot(), |cgroup| living.contains(&cgroup)))
        };
        let (clock, teller) = (kernel.clock.clone(), kernel.teller.clone());
        Self { kernel: state, clock, teller, matrix: matrix(), default_visibility, last, left }
    }

    fn stumble(&self, slot: Slot, what: &'static str) -> Result<(), EnforcementError> {
        let (refuses, panics) = {
            let mut state = lock(&self.kernel);
            let (refused, panics) = (state.faults.refused_percent, state.faults.panics_permyriad);
            (state.random.percent(refused), state.random.permyriad(panics))
        };
        if panics {
            self.teller.tell(&Event::PanicInjected("enforcement port"));
            // Not `panic!`: the hook is for those that nobody asked for.
            std::panic::resume_unwind(Box::new("injected: the enforcement port"));
        }
        if !refuses {
            return Ok(());
        }
        self.teller.tell(&Event::KernelRefused(slot, what));
        Err(EnforcementError::Refused { slot, what, reason: "injected: out of memory".to_owned() })
    }

    fn mutated(&self, mutation: Mutation) -> bool {
        lock(&self.kernel).mutation == Some(mutation)
    }
}

/// A kernel that holds every family by BPF LSM.
fn matrix() -> KernelMatrix {
    use Family::{Capabilities, Dns, File, Network, Presets, Process, Ptrace, Syscalls};
    let tier_of = |family| match family {
        Dns => Tier::CgroupBpf,
        Syscalls => Tier::Audit,
        _ => Tier::BpfLsm,
    };
    let families = [Process, File, Network, Ptrace, Capabilities, Syscalls, Dns, Presets];
    KernelMatrix {
        release: "simulated".to_owned(),
        lsms: vec!["bpf".to_owned()],
        capabilities: BTreeMap::from([(Capability::BpfLsm, CapabilityState::Available)]),
        families: families
            .into_iter()
            .map(|family| (family, HeldFamily { tier: tier_of(family), gaps: Vec::new() }))
            .collect(),
    }
}

impl Enforcement for SimEnforcement {
    fn matrix(&self) -> &KernelMatrix {
        &self.matrix
    }

    fn left_behind(&self) -> Vec<LeftBehind> {
        let mut left = self.left.clone();
        left.retain(|left| match left.released {
            Some(_) => !self.mutated(Mutation::ForgetsReleases),
            None => true,
        });
        if self.mutated(Mutation::ForgetsWhatWasLeft) { Vec::new() } else { left }
    }

    fn last_generation(&self) -> Generation {
        if self.mutated(Mutation::ForgetsWhatWasLeft) { Generation::default() } else { self.last }
    }

    fn admit(&self, membership: &Membership) -> Result<(), EnforcementError> {
        let slot = membership.slot;
        if slot.0 >= SLOTS {
            return Err(EnforcementError::Full { slot, what: "slots", bound: u64::from(SLOTS) });
        }
        self.stumble(slot, "admit")?;
        let mut put = slot;
        let cgroups = {
            let mut state = lock(&self.kernel);
            if state.mutation == Some(Mutation::SharesSlots)
                && let Some((other, _)) = state.slots.held().first()
            {
                put = *other;
            }
            state.slots.admit(slot, None, visibility::kinds_of(self.default_visibility));
            state.slots.admit(put, membership.cgroup, visibility::kinds_of(self.default_visibility));
            state.slots.held().into_iter().filter(|(of, _)| *of == put).map(|(_, cgroup)| cgroup).collect()
        };
        self.teller.tell(&Event::Admitted { slot: put, cgroups });
        Ok(())
    }

    fn learn_mounts(&self, slot: Slot, pid: u32) -> Result<(), EnforcementError> {
        self.stumble(slot, "learn the mount table")?;
        let state = lock(&self.kernel);
        if !state.slots.is_member(slot) {
            return Err(EnforcementError::UnknownSlot(slot));
        }
        if state.tasks.get(pid).is_none() {
            let reason = "no such process".to_owned();
            return Err(EnforcementError::Refused { slot, what: "learn the mount table", reason });
        }
        Ok(())
    }

    fn set_visibility(&self, slot: Slot, visibility: Visibility, also: u64) {
        let stays = self.mutated(Mutation::ShowsAsBefore);
        if let Some(entry) = lock(&self.kernel).slots.get_mut(slot).filter(|_| !stays) {
            entry.visible = visibility::kinds_of(visibility) | also;
        }
    }

    fn install(
        &self,
        slot: Slot,
        generation: Generation,
        policy: Option<&Arc<Blob>>,
    ) -> Result<Installed, EnforcementError> {
        if !lock(&self.kernel).slots.is_member(slot) {
            return Err(EnforcementError::UnknownSlot(slot));
        }
        self.stumble(slot, "install")?;
        if self.mutated(Mutation::RefusesForEver) {
            return Err(EnforcementError::Full { slot, what: "policies", bound: 0 });
        }
        let stays = self.mutated(Mutation::AcknowledgesWithoutFlip);
        let number = {
            let mut state = lock(&self.kernel);
            let number = policy.map_or(0, |policy| state.slots.number(policy));
            let before = state.slots.get(slot).map(|entry| entry.in_force.clone()).unwrap_or_default();
            if stays && before.installed {
                state.slots.forget_number(number);
            } else if let Some(SlotEntry { in_force, .. }) = state.slots.get_mut(slot) {
                *in_force = InForce { generation: generation.0, number, policy: policy.cloned(), installed: true };
                state.half.insert(slot, before.policy);
                state.slots.forget_number(before.number);
            }
            number
        };
        self.teller.tell(&Event::Installed { slot, generation: generation.0 });
        let tables = policy.map_or(0, |policy| policy.head().families);
        let families =
            blob::Family::ALL.iter().filter(|table| tables >> **table as u32 & 1 == 1).map(|t| family_of(*t));
        let held = families.filter_map(|family| Some((family, self.matrix.families.get(&family)?.clone())));
        Ok(Installed { number, families: held.collect() })
    }

    fn release(&self, slot: Slot) -> Result<(), EnforcementError> {
        self.stumble(slot, "release")?;
        lock(&self.kernel).slots.release(slot, self.clock.boot());
        self.teller.tell(&Event::Released(slot));
        Ok(())
    }

    fn memory(&self) -> KernelMemory {
        KernelMemory { blobs: BLOB_BYTES, blob_count: 1, maps: BLOB_BYTES }
    }
}
