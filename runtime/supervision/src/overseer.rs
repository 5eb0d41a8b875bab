//! The task of one supervisor: carries [`Plan`]'s steps out and feeds it what happens. Decides nothing.
//!
//! Invariant: everything it waits for is one of four: an order from above, a notice from a child, a request, a deadline of
//! the plan. It never waits for a child directly, so no child can hold it up.

use crate::{
    child::Entry,
    control::{Control, Inbox, Line, Lineage, Notice, Order},
    exit::{Exit, GaveUp, panic_text},
    plan::{ChildId, Input, Phase, Plan, Step},
    policy::ExitKind,
    supervisor::{Request, StartChildError, StopChildError, StopOutcome},
    tree::{State, Vitals},
};
use futures_util::FutureExt;
use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::Poll,
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

/// The supervisor's end of the wires to what is above it.
pub(crate) struct Upward {
    pub(crate) control: Arc<Control>,
    pub(crate) report: Box<dyn FnMut(Notice)>,
}

struct Member {
    entry: Entry,
    control: Arc<Control>,
}

impl Member {
    fn give(&self, order: Order) {
        match order {
            Order::Shut | Order::Close => self.entry.vitals.close_mail(),
            Order::Run(_) => self.entry.vitals.open_mail(),
            Order::Wait | Order::Stop(_) | Order::Kill(_) => {}
        }
        self.control.give(order);
    }
}

type StartReply = oneshot::Sender<Result<(), StartChildError>>;
type StopReply = oneshot::Sender<Result<StopOutcome, StopChildError>>;

/// See the module.
pub(crate) struct Overseer {
    plan: Plan,
    members: BTreeMap<ChildId, Member>,
    inbox: Arc<Inbox>,
    lineage: Lineage,
    upward: Upward,
    vitals: Arc<Vitals>,
    requests: Option<mpsc::Receiver<Request>>,
    starting: BTreeMap<ChildId, StartReply>,
    stopping: Vec<(ChildId, StopReply)>,
    abandoned: BTreeSet<ChildId>,
    /// Dynamic children that never came up, to be forgotten.
    unborn: Vec<ChildId>,
    epoch: Instant,
    generation: u64,
    seen_order: u64,
    closing: bool,
    /// Reused for each input.
    steps: Vec<Step>,
}

/// What ended a wait.
enum Woken {
    Look,
    Asked(Option<Request>),
}

impl Overseer {
    pub(crate) fn new(
        plan: Plan,
        entries: Vec<Entry>,
        lineage: Lineage,
        upward: Upward,
        vitals: Arc<Vitals>,
        requests: mpsc::Receiver<Request>,
    ) -> Self {
        let mut overseer = Self {
            plan,
            members: BTreeMap::new(),
            inbox: Arc::default(),
            lineage,
            upward,
            vitals,
            requests: Some(requests),
            starting: BTreeMap::new(),
            stopping: Vec::new(),
            abandoned: BTreeSet::new(),
            unborn: Vec::new(),
            epoch: Instant::now(),
            generation: 0,
            seen_order: 0,
            closing: false,
            steps: Vec::new(),
        };
        for entry in entries {
            overseer.adopt(entry);
        }
        overseer
    }

    fn adopt(&mut self, entry: Entry) -> ChildId {
        let id = self.plan.add(entry.options.rules);
        self.vitals.adopt(entry.vitals.clone());
        self.members.insert(id, Member { entry, control: Arc::default() });
        id
    }

    /// Runs until it is closed. A panic here is a bug of this crate; it is reported upward as a failure, and as nobody
    /// answers the next start, it goes on upward until the root's hook ends the process.
    pub(crate) async fn run(mut self) {
        let ran = AssertUnwindSafe(self.serve()).catch_unwind().await;
        if let Err(payload) = ran {
            let exit = Exit::Panicked(format!("supervisor: {}", panic_text(&*payload)));
            (self.upward.report)(Notice::Exited(self.generation, exit));
        }
    }

    async fn serve(&mut self) {
        loop {
            if self.upward.control.version() != self.seen_order {
                self.obey();
            }
            while let Some((id, notice)) = self.inbox.take() {
                self.note(id, notice);
            }
            self.feed(Input::Wake);
            if self.closing {
                return;
            }
            if let Woken::Asked(request) = self.wait().await {
                match request {
                    Some(request) => self.serve_request(request),
                    None => self.requests = None, // no handle is left
                }
            }
        }
    }

    async fn wait(&mut self) -> Woken {
        let wake = self.plan.next_wake(self.now()).map(|at| self.epoch + at);
        let (control, seen) = (&self.upward.control, self.seen_order);
        let ordered = poll_fn(|task| {
            control.register(task.waker());
            if control.version() == seen { Poll::Pending } else { Poll::Ready(()) }
        });
        // While it is down, requests wait in their channel: after a restart they are served, and no answer is a lie.
        let requests = if self.plan.serves() { &mut self.requests } else { &mut None };
        let asked = async {
            match requests {
                Some(requests) => requests.recv().await,
                None => std::future::pending().await,
            }
        };
        let due = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = ordered => Woken::Look,
            () = self.inbox.arrived() => Woken::Look,
            request = asked => Woken::Asked(request),
            () = due => Woken::Look,
        }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn obey(&mut self) {
        let (version, order) = self.upward.control.read();
        self.seen_order = version;
        match order {
            Order::Wait => {}
            Order::Run(generation) if generation == self.generation => {}
            Order::Run(generation) => {
                self.generation = generation;
                // Whoever is still there is of a generation that was given up from above: as an actor is dropped by its next run, so are
                // these. First the plan, whose stops would replace the kills; it starts nobody while somebody is there.
                let left = !self.plan.is_quiet();
                self.feed(Input::Boot);
                if left {
                    self.order_all(Order::Kill);
                }
            }
            Order::Stop(generation) => {
                self.generation = generation;
                self.feed(Input::Halt);
            }
            Order::Kill(_) => {
                // In this order: the stop that the plan begins with would replace a kill given before it.
                self.feed(Input::Halt);
                self.order_all(Order::Kill);
            }
            Order::Shut => self.order_all(|_| Order::Shut),
            Order::Close => {
                self.order_all(|_| Order::Close);
                self.closing = true;
            }
        }
    }

    fn order_all(&self, order: impl Fn(u64) -> Order) {
        for (id, member) in self.members.iter().rev() {
            member.give(order(self.plan.generation(*id).unwrap_or(0)));
        }
    }

    fn note(&mut self, id: ChildId, notice: Notice) {
        let Some(member) = self.members.get(&id) else { return };
        let vitals = member.entry.vitals.clone();
        let current = self.plan.generation(id);
        match notice {
            Notice::Started(generation) if current == Some(generation) => {
                vitals.running(Instant::now());
                if let Some(reply) = self.starting.remove(&id) {
                    let _ = reply.send(Ok(())); // the caller may have stopped waiting
                }
                self.feed(Input::Started(id, generation));
            }
            Notice::Exited(generation, exit) if current == Some(generation) => {
                self.note_exit(id, &vitals, &exit);
                self.feed(Input::Exited(id, generation, exit.kind()));
            }
            Notice::Started(_) | Notice::Exited(..) => {}
        }
        self.refresh(id, &vitals);
    }

    fn note_exit(&self, id: ChildId, vitals: &Vitals, exit: &Exit) {
        let path = self.path_of(vitals);
        match self.plan.phase(id) {
            Some(Phase::Stopping { .. }) => self.lineage.ledger.stopped(path),
            Some(Phase::Starting { .. } | Phase::Up { .. }) if exit.kind() == ExitKind::Normal => {
                tracing::info!(child = path, "child ended by itself");
            }
            Some(Phase::Starting { .. } | Phase::Up { .. }) => tracing::warn!(child = path, %exit, "child failed"),
            _ => {}
        }
        if exit.kind() == ExitKind::Failed {
            vitals.failed(exit.to_string());
        }
    }

    fn path_of(&self, vitals: &Vitals) -> String {
        format!("{}/{}", self.lineage.path, vitals.name())
    }

    /// The tree shows phases that no step announces.
    fn refresh(&self, id: ChildId, vitals: &Vitals) {
        match self.plan.phase(id) {
            Some(Phase::Down) if self.plan.wanted(id) => vitals.becomes(State::BackingOff),
            Some(Phase::Down) => vitals.becomes(State::Stopped),
            _ => {}
        }
    }

    fn feed(&mut self, input: Input) {
        let mut steps = std::mem::take(&mut self.steps);
        let mut next = Some(input);
        while let Some(input) = next {
            self.plan.step(self.now(), input, &mut steps);
            for step in steps.drain(..) {
                self.carry_out(step);
            }
            // A child whose `start_child` failed is forgotten: the caller was told that there is none.
            next = self.unborn.pop().map(Input::Remove);
        }
        self.steps = steps;
    }

    fn carry_out(&mut self, step: Step) {
        match step {
            Step::Start(id, generation) => self.start(id, generation),
            Step::Stop(id, generation) => self.order(id, Order::Stop(generation), State::Stopping),
            Step::Kill(id, generation) => self.order(id, Order::Kill(generation), State::Stopping),
            Step::Abandoned(id) => self.abandon(id),
            Step::StartTimedOut(id) => self.start_timed_out(id),
            Step::Restarting(id, delay) => self.restarting(id, delay),
            Step::Finished(id) => self.finished(id),
            Step::Forget(id) => self.forget(id),
            Step::Booted => (self.upward.report)(Notice::Started(self.generation)),
            Step::Halted => self.concluded(Exit::Stopped),
            Step::GaveUp(id) => {
                let gave_up = self.gave_up(id);
                self.concluded(Exit::GaveUp(gave_up));
            }
        }
    }

    fn order(&self, id: ChildId, order: Order, state: State) {
        if let Some(member) = self.members.get(&id) {
            member.entry.vitals.becomes(state);
            member.give(order);
        }
    }

    fn start(&mut self, id: ChildId, generation: u64) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.entry.vitals.starting(generation);
        member.give(Order::Run(generation));
        self.abandoned.remove(&id);
        let Some(launch) = member.entry.launch.take() else {
            if member.control.is_deaf() {
                self.inbox.put(id, Notice::Exited(generation, Exit::PlaceGone));
            }
            return;
        };
        let path = Arc::from(format!("{}/{}", self.lineage.path, member.entry.vitals.name()));
        let line = Line {
            id,
            lineage: Lineage { path, ..self.lineage.clone() },
            control: member.control.clone(),
            inbox: self.inbox.clone(),
        };
        if member.entry.options.place.run(launch(line)).is_err() {
            member.control.deafen();
            self.inbox.put(id, Notice::Exited(generation, Exit::PlaceGone));
        }
    }

    fn abandon(&mut self, id: ChildId) {
        self.abandoned.insert(id);
        let Some(member) = self.members.get(&id) else { return };
        let path = self.path_of(&member.entry.vitals);
        member.entry.vitals.becomes(State::Abandoned);
        member.entry.vitals.failed("did not acknowledge its stop in time".to_owned());
        tracing::error!(child = path, "child did not stop by its deadline and is left behind");
        self.lineage.ledger.abandoned(path);
    }

    fn start_timed_out(&self, id: ChildId) {
        let Some(member) = self.members.get(&id) else { return };
        member.entry.vitals.failed(Exit::StartTimedOut.to_string());
        tracing::warn!(child = self.path_of(&member.entry.vitals), "child did not start by its deadline");
    }

    fn restarting(&self, id: ChildId, delay: Duration) {
        let Some(member) = self.members.get(&id) else { return };
        member.entry.vitals.becomes(State::BackingOff);
        tracing::info!(child = self.path_of(&member.entry.vitals), ?delay, "child restarts");
    }

    fn finished(&mut self, id: ChildId) {
        self.order(id, Order::Shut, State::Finished);
        self.fail_start(id);
    }

    fn fail_start(&mut self, id: ChildId) {
        let Some(reply) = self.starting.remove(&id) else { return };
        self.unborn.push(id);
        let why = self.members.get(&id).and_then(|member| member.entry.vitals.last_error());
        let _ = reply.send(Err(StartChildError::Failed(why.unwrap_or_else(|| "stopped".to_owned()))));
    }

    fn forget(&mut self, id: ChildId) {
        self.fail_start(id);
        let Some(member) = self.members.remove(&id) else { return };
        let state = if self.abandoned.remove(&id) { State::Abandoned } else { State::Stopped };
        member.entry.vitals.becomes(state);
        member.give(Order::Close);
        self.vitals.disown(&member.entry.vitals);
        let outcome = if state == State::Abandoned { StopOutcome::Abandoned } else { StopOutcome::Acknowledged };
        for (_, reply) in self.stopping.extract_if(.., |(stopping, _)| *stopping == id) {
            let _ = reply.send(Ok(outcome));
        }
    }

    fn gave_up(&self, id: ChildId) -> GaveUp {
        let child = self.members.get(&id).map(|member| &member.entry.vitals);
        GaveUp {
            supervisor: self.lineage.path.to_string(),
            child: child.map_or_else(String::new, |vitals| vitals.name().to_string()),
            last_error: child.and_then(|vitals| vitals.last_error()).unwrap_or_else(|| Exit::Normal.to_string()),
        }
    }

    fn concluded(&mut self, exit: Exit) {
        let waiting: Vec<_> = self.starting.keys().copied().collect();
        for id in waiting {
            self.fail_start(id);
        }
        (self.upward.report)(Notice::Exited(self.generation, exit));
    }

    fn serve_request(&mut self, request: Request) {
        match request {
            Request::Start(entry, reply) => {
                if self.find(entry.vitals.name()).is_some() {
                    let _ = reply.send(Err(StartChildError::NameTaken(self.lineage.path.to_string())));
                    return;
                }
                let id = self.adopt(entry);
                self.starting.insert(id, reply);
                self.feed(Input::Wake);
            }
            Request::Stop(name, reply) => {
                let Some(id) = self.find(&name) else {
                    let _ = reply.send(Err(StopChildError::NoSuchChild(self.lineage.path.to_string())));
                    return;
                };
                self.stopping.push((id, reply));
                self.feed(Input::Remove(id));
            }
        }
    }

    fn find(&self, name: &str) -> Option<ChildId> {
        self.members.iter().find(|(_, member)| &**member.entry.vitals.name() == name).map(|(id, _)| *id)
    }
}
