//! The roster: which enforcer has which slot.
//!
//! Invariant: one enforcer exists for each workload that appeared and is not gone (one that appears anew gets another); each hears every set that is newer than what it heard
//! before, since it asks for the newest when it starts. What must not be lost (an admission, a removal) goes by backpressure, not by chance.

use std::{collections::BTreeMap, num::NonZeroUsize, sync::Arc};

use actix::{Actor, ActorFutureExt as _, AsyncContext as _, Handler, WrapFuture as _};
use palisade_domain::Slot;
use palisade_protocol::{ConditionReported, PolicySetChanged, WorkloadAppeared, WorkloadGone, WorkloadStarted};
use palisade_supervision::{Address, ChildSpec, Context, Overflow, Place, SupervisorHandle};

use crate::{
    Enforcer, Wiring,
    actor::{AwaitAdmission, EnforcerStarted},
};

/// Messages that may wait for one enforcer: an admission, a start and two sets; the rest coalesces at the roster.
const MAILBOX: usize = 16;

struct Member {
    name: String,
    enforcer: Address<Enforcer>,
    running: Option<u32>,
}

/// See the crate's doc.
pub struct Roster {
    enforcers: SupervisorHandle,
    place: Arc<dyn Place>,
    wiring: Wiring,
    newest: Option<PolicySetChanged>,
    members: BTreeMap<Slot, Member>,
}

impl Roster {
    /// Starts enforcers as children of `enforcers` at `place`.
    #[must_use]
    pub fn new(enforcers: SupervisorHandle, place: Arc<dyn Place>, wiring: Wiring) -> Self {
        Self { enforcers, place, wiring, newest: None, members: BTreeMap::new() }
    }

    fn tell_set(&self, member: &Member) {
        if let Some(newest) = &self.newest
            && member.enforcer.try_tell(newest.clone()).is_err()
        {
            // Its mailbox holds older sets; it asks again when it restarts, and the next set coalesces.
            tracing::warn!(enforcer = member.name, "the enforcer does not keep up with policy sets");
        }
    }
}

impl Actor for Roster {
    type Context = Context<Self>;

    /// Enforcers that a roster before this one left are stopped first: their slots are about to be told anew.
    fn started(&mut self, ctx: &mut Self::Context) {
        let enforcers = self.enforcers.clone();
        let stop_all = async move {
            for left in enforcers.read().children {
                if let Err(error) = enforcers.stop_child(&left.name).await {
                    tracing::warn!(enforcer = left.name, %error, "an enforcer of before did not stop in good order");
                }
            }
        };
        ctx.wait(stop_all.into_actor(self));
    }
}

impl Handler<WorkloadAppeared> for Roster {
    type Result = ();

    fn handle(&mut self, message: WorkloadAppeared, ctx: &mut Self::Context) {
        let WorkloadAppeared { workload, membership, admission } = message;
        let slot = membership.slot;
        let name = format!("{slot}:{}/{}/{}", workload.namespace, workload.name, workload.container);
        let started = ctx.own_address().outbox(Overflow::ShedOldest(NonZeroUsize::MIN.saturating_add(63)));
        let wiring = self.wiring.clone();
        let factory = move |_: &mut Context<Enforcer>| {
            Enforcer::new(Arc::clone(&workload), membership.clone(), wiring.clone(), started.clone())
        };
        let spec = ChildSpec::new(&name, factory).capacity(MAILBOX).place(Arc::clone(&self.place));
        let enforcer = spec.address();
        if let Some(admission) = admission {
            // An empty mailbox of MAILBOX places takes it.
            let _ = enforcer.try_tell(AwaitAdmission(admission));
        }
        let before = self.members.insert(slot, Member { name: name.clone(), enforcer, running: None });
        let supervisor = self.enforcers.clone();
        let told_anew = before.is_some();
        let start = async move {
            // Its labels are others now. Not released: what the one before put in force stands until the next has put its own.
            if let Some(before) = before
                && let Err(error) = supervisor.stop_child(&before.name).await
            {
                tracing::warn!(enforcer = before.name, %error, "the enforcer of before did not stop in good order");
            }
            supervisor.start_child(spec).await
        };
        let start = start.into_actor(self).map(move |result, _, _| {
            if let Err(error) = result {
                tracing::error!(enforcer = name, %error, "no enforcer for this workload");
            }
        });
        // Between the two nothing else may be told of the slot.
        if told_anew {
            ctx.wait(start);
        } else {
            ctx.spawn(start);
        }
    }
}

impl Handler<EnforcerStarted> for Roster {
    type Result = ();

    fn handle(&mut self, message: EnforcerStarted, _: &mut Self::Context) {
        if let Some(member) = self.members.get(&message.0) {
            self.tell_set(member);
            if let Some(pid) = member.running {
                let _ = member.enforcer.try_tell(WorkloadStarted { slot: message.0, pid });
            }
        }
    }
}

impl Handler<WorkloadStarted> for Roster {
    type Result = ();

    fn handle(&mut self, message: WorkloadStarted, _: &mut Self::Context) {
        if let Some(member) = self.members.get_mut(&message.slot) {
            member.running = Some(message.pid);
            let _ = member.enforcer.try_tell(message);
        }
    }
}

impl Handler<WorkloadGone> for Roster {
    type Result = ();

    fn handle(&mut self, message: WorkloadGone, ctx: &mut Self::Context) {
        let Some(member) = self.members.remove(&message.slot) else { return };
        let supervisor = self.enforcers.clone();
        let stop = async move { supervisor.stop_child(&member.name).await };
        ctx.spawn(stop.into_actor(self).map(move |result, roster, _| {
            if let Err(error) = result {
                tracing::warn!(slot = message.slot.0, %error, "the enforcer did not stop in good order");
            }
            // Only now: an enforcer that still ran could have admitted the slot again.
            if let Err(error) = roster.wiring.enforcement.release(message.slot) {
                tracing::error!(%error, "the slot is not released");
            }
            let _ = roster.wiring.released.try_send(message);
            let name = format!("slot {}", message.slot);
            let _ = roster.wiring.conditions.try_send(ConditionReported { name, condition: None });
        }));
    }
}

impl Handler<PolicySetChanged> for Roster {
    type Result = ();

    fn handle(&mut self, message: PolicySetChanged, _: &mut Self::Context) {
        self.newest = Some(message);
        self.members.values().for_each(|member| self.tell_set(member));
    }
}
