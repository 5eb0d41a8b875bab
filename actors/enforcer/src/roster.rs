//! The roster: which enforcer has which slot.
//!
//! Invariant: an enforcer exists for each workload that appeared and is not gone; each hears every set that is newer than what it heard
//! before, since it asks for the newest when it starts. What must not be lost (an admission, a removal) goes by backpressure, not by chance;
//! of sets and starts only the newest matters, and it waits for room. What happens to one slot happens in turn ([`crate::slots`]).
//!
//! Decision: a slot that the kernel does not let go is asked for again for as long as it takes ([`RELEASE_MIN`] doubling to
//! [`RELEASE_MAX`]), and its next workload waits, because two workloads in one slot would be held to one policy. Its container does not
//! start meanwhile; the condition of the slot says why.

use std::{collections::BTreeMap, num::NonZeroUsize, sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt as _, AsyncContext as _, Handler, WrapFuture as _};
use palisade_domain::{OnUnknownWorkload, Slot};
use palisade_protocol::{
    Condition, ConditionReported, PolicySetChanged, SetVisibility, WorkloadAppeared, WorkloadGone, WorkloadStarted,
};
use palisade_supervision::{ChildSpec, Context, Outbox, Overflow, Place, SupervisorHandle};
use palisade_world::Membership;

use crate::{
    Enforcer, Wiring,
    actor::{AwaitAdmission, EnforcerStarted},
    slots::{Effect, Input, Slots},
    unknown,
};

/// Messages that may wait for one enforcer: an admission, a start, what is seen, and two sets; the rest coalesces before it.
const MAILBOX: usize = 16;

/// First wait after a release that failed.
pub const RELEASE_MIN: Duration = Duration::from_millis(200);
/// Longest wait after releases that failed.
pub const RELEASE_MAX: Duration = Duration::from_secs(30);
/// A release that failed this long (its waits added up) is a failure of the node: longer than a slot rests before it is given again.
const RELEASE_PATIENCE: Duration = Duration::from_secs(12);

/// No child is called so.
const NOBODY: &str = "";

/// The last enforcer of a slot, and what it is to hear again when it starts again.
struct Member {
    name: String,
    sets: Outbox<PolicySetChanged>,
    visibility: Outbox<SetVisibility>,
    starts: Outbox<WorkloadStarted>,
}

/// Who has a slot, as the last workload that appeared in it.
#[derive(Default)]
struct Occupant {
    membership: Option<palisade_world::Membership>,
    running: Option<u32>,
}

/// See the crate's doc.
pub struct Roster {
    enforcers: SupervisorHandle,
    place: Arc<dyn Place>,
    wiring: Wiring,
    newest: Option<PolicySetChanged>,
    /// What is seen where no set says otherwise.
    visibility: SetVisibility,
    slots: Slots<WorkloadAppeared>,
    occupants: BTreeMap<Slot, Occupant>,
    members: BTreeMap<Slot, Member>,
    /// Held from the start on.
    first: Vec<WorkloadAppeared>,
    on_unknown: OnUnknownWorkload,
}

impl Roster {
    /// Starts enforcers as children of `enforcers` at `place`.
    #[must_use]
    pub fn new(enforcers: SupervisorHandle, place: Arc<dyn Place>, wiring: Wiring) -> Self {
        Self {
            visibility: SetVisibility { visibility: wiring.visibility, host: wiring.host_visibility },
            enforcers,
            place,
            wiring,
            newest: None,
            slots: Slots::default(),
            occupants: BTreeMap::new(),
            members: BTreeMap::new(),
            first: Vec::new(),
            on_unknown: OnUnknownWorkload::default(),
        }
    }

    /// Holds a workload that nobody else tells of: the host.
    #[must_use]
    pub fn holding(mut self, workload: WorkloadAppeared) -> Self {
        self.first.push(workload);
        self
    }

    /// Holds those whom nobody has admitted.
    #[must_use]
    pub fn holding_unknown(self, on: OnUnknownWorkload) -> Self {
        let membership = Membership { slot: Slot::UNKNOWN, cgroup: None, cgroup_path: None, pid: 0, root: None };
        let workload = Arc::new(unknown::workload());
        let held = self.holding(WorkloadAppeared { workload, membership, admission: None });
        Self { on_unknown: on, ..held }
    }

    /// Where no set says otherwise, this is seen, whatever the kernel was told at its start.
    #[must_use]
    pub fn seeing(mut self, visibility: SetVisibility) -> Self {
        self.visibility = visibility;
        self
    }

    fn tell_visibility(&self, member: &Member) {
        if member.visibility.try_send(self.visibility).is_err() {
            tracing::debug!(enforcer = member.name, "what is to be seen finds its enforcer over");
        }
    }

    fn tell_set(&self, member: &Member) {
        if let Some(newest) = &self.newest
            && member.sets.try_send(newest.clone()).is_err()
        {
            // It is over: its slot is being given up, or its supervisor is.
            tracing::debug!(enforcer = member.name, "a policy set finds its enforcer over");
        }
    }

    fn appeared(&mut self, appeared: WorkloadAppeared, ctx: &mut Context<Self>) {
        let slot = appeared.membership.slot;
        let occupant = self.occupants.entry(slot).or_default();
        let moves_in = occupant.membership.as_ref().is_some_and(|before| before.cgroup != appeared.membership.cgroup);
        *occupant = Occupant { membership: Some(appeared.membership.clone()), running: None };
        self.input(slot, Input::Appeared { who: appeared, moves_in }, ctx);
    }

    fn input(&mut self, slot: Slot, input: Input<WorkloadAppeared>, ctx: &mut Context<Self>) {
        let mut out = Vec::new();
        self.slots.step(slot, input, &mut out);
        palisade_world::fault_point("roster: between a step and its effects");
        for effect in out {
            match effect {
                Effect::Start(who) => self.start(who, ctx),
                Effect::Stop => self.stop(slot, ctx),
                Effect::Release => self.release(slot, RELEASE_MIN, ctx),
            }
        }
    }

    fn start(&mut self, who: WorkloadAppeared, ctx: &mut Context<Self>) {
        let WorkloadAppeared { workload, membership, admission } = who;
        let slot = membership.slot;
        let name = format!("{slot}:{}/{}/{}", workload.namespace, workload.name, workload.container);
        let started = ctx.own_address().outbox(Overflow::ShedOldest(NonZeroUsize::MIN));
        let (wiring, on_unknown) = (self.wiring.clone(), self.on_unknown);
        let factory = move |ctx: &mut Context<Enforcer>| {
            let enforcer = Enforcer::new(Arc::clone(&workload), membership.clone(), wiring.clone(), started.clone());
            let enforcer = if slot == Slot::UNKNOWN { enforcer.holding_unknown(on_unknown) } else { enforcer };
            if ctx.generation() > 1 { enforcer.again() } else { enforcer }
        };
        let spec = ChildSpec::new(&name, factory).capacity(MAILBOX).place(Arc::clone(&self.place));
        let enforcer = spec.address();
        if let Some(admission) = admission {
            // An empty mailbox of MAILBOX places takes it.
            let _ = enforcer.try_tell(AwaitAdmission(admission));
        }
        let newest_only = NonZeroUsize::MIN;
        let sets = enforcer.outbox(Overflow::Coalesce(newest_only, |_: &PolicySetChanged| 0));
        let starts = enforcer.outbox(Overflow::Coalesce(newest_only, |_: &WorkloadStarted| 0));
        let visibility = enforcer.outbox(Overflow::Coalesce(newest_only, |_: &SetVisibility| 0));
        self.members.insert(slot, Member { name, sets, visibility, starts });
        let supervisor = self.enforcers.clone();
        let start = async move { supervisor.start_child(spec).await };
        ctx.spawn(start.into_actor(self).map(move |result, roster, ctx| {
            if let Err(error) = &result {
                tracing::error!(slot = slot.0, %error, "no enforcer for this workload");
                roster.members.remove(&slot);
                roster.report(slot, Some(Condition::Failed(format!("it has no enforcer: {error}"))));
            }
            roster.input(slot, Input::Started(result.is_ok()), ctx);
        }));
    }

    fn stop(&mut self, slot: Slot, ctx: &mut Context<Self>) {
        let name = self.members.remove(&slot).map_or_else(|| NOBODY.to_owned(), |member| member.name);
        let supervisor = self.enforcers.clone();
        let stop = async move { supervisor.stop_child(&name).await };
        ctx.spawn(stop.into_actor(self).map(move |result, roster, ctx| {
            if let Err(error) = result {
                tracing::warn!(slot = slot.0, %error, "the enforcer did not stop in good order");
            }
            roster.input(slot, Input::Stopped, ctx);
        }));
    }

    /// Only while no enforcer of the slot runs: it could admit the slot again. `wait`: how long until the next try, if this one fails.
    fn release(&mut self, slot: Slot, wait: Duration, ctx: &mut Context<Self>) {
        if let Err(error) = self.wiring.enforcement.release(slot) {
            tracing::error!(%error, ?wait, "the slot is not released; tried again");
            let reason = format!("its workload ended and the kernel did not let it go: {error}; tried again");
            // The waits before this one are together as long as it, but for the first.
            let lasting = wait > RELEASE_PATIENCE;
            self.report(slot, Some(if lasting { Condition::Failed(reason) } else { Condition::Degraded(reason) }));
            ctx.run_later(wait, move |roster, ctx| roster.release(slot, (wait * 2).min(RELEASE_MAX), ctx));
            return;
        }
        if self.wiring.released.iter().filter(|to| to.try_send(WorkloadGone { slot }).is_err()).count() > 0 {
            tracing::warn!(slot = slot.0, "a released slot cannot be told: its policy is shown on");
        }
        self.report(slot, None);
        self.input(slot, Input::Released, ctx);
    }

    fn report(&self, slot: Slot, condition: Option<Condition>) {
        let report = ConditionReported { name: format!("slot {slot}"), condition };
        if self.wiring.conditions.try_send(report).is_err() {
            tracing::warn!(slot = slot.0, "the condition of a slot cannot be told: it is shown as it was");
        }
    }
}

impl Actor for Roster {
    type Context = Context<Self>;

    /// Enforcers that a roster before this one left are stopped first: their workloads are about to be told anew. Their slots are not
    /// released: what stands in the kernel stands on until the workload is told again, or told gone.
    fn started(&mut self, ctx: &mut Self::Context) {
        let enforcers = self.enforcers.clone();
        let stop_all = async move {
            // Requests are served in turn: once this is refused, what the earlier roster asked for has been done, and is seen.
            let _ = enforcers.stop_child(NOBODY).await;
            for left in enforcers.read().children {
                if let Err(error) = enforcers.stop_child(&left.name).await {
                    tracing::warn!(enforcer = left.name, %error, "an enforcer of before did not stop in good order");
                }
            }
        };
        ctx.wait(stop_all.into_actor(self).map(|(), roster, ctx| {
            for first in std::mem::take(&mut roster.first) {
                roster.appeared(first, ctx);
            }
        }));
    }
}

impl Handler<WorkloadAppeared> for Roster {
    type Result = ();

    fn handle(&mut self, message: WorkloadAppeared, ctx: &mut Self::Context) {
        self.appeared(message, ctx);
    }
}

impl Handler<EnforcerStarted> for Roster {
    type Result = ();

    fn handle(&mut self, message: EnforcerStarted, _: &mut Self::Context) {
        if let Some(member) = self.members.get(&message.0) {
            self.tell_visibility(member);
            self.tell_set(member);
            if let Some(pid) = self.occupants.get(&message.0).and_then(|occupant| occupant.running) {
                // It is over: its slot is being given up.
                let _ = member.starts.try_send(WorkloadStarted { slot: message.0, pid });
            }
        }
    }
}

impl Handler<WorkloadStarted> for Roster {
    type Result = ();

    fn handle(&mut self, message: WorkloadStarted, _: &mut Self::Context) {
        if let Some(occupant) = self.occupants.get_mut(&message.slot) {
            occupant.running = Some(message.pid);
        }
        if let Some(member) = self.members.get(&message.slot) {
            // It is over: the next enforcer of the slot hears it when it starts.
            let _ = member.starts.try_send(message);
        }
    }
}

impl Handler<WorkloadGone> for Roster {
    type Result = ();

    fn handle(&mut self, message: WorkloadGone, ctx: &mut Self::Context) {
        self.occupants.remove(&message.slot);
        self.input(message.slot, Input::Gone, ctx);
    }
}

impl Handler<SetVisibility> for Roster {
    type Result = ();

    fn handle(&mut self, message: SetVisibility, _: &mut Self::Context) {
        self.visibility = message;
        self.members.values().for_each(|member| self.tell_visibility(member));
    }
}

impl Handler<PolicySetChanged> for Roster {
    type Result = ();

    fn handle(&mut self, message: PolicySetChanged, _: &mut Self::Context) {
        self.newest = Some(message);
        self.members.values().for_each(|member| self.tell_set(member));
    }
}
