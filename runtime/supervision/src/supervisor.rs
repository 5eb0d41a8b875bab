//! Supervisors as seen from outside: declared by a builder, reached by a handle, started as a tree.
//!
//! Invariant: a [`SupervisorHandle`] and every [`Address`] taken from a specification stay valid for the life of the
//! tree, through restarts of the child, of its supervisor and of the supervisors above it.

use crate::{
    address::Address,
    child::{Child, ChildSpec, Entry, Options, sealed::IntoEntry},
    context::Context,
    control::{Control, Ledger, Lineage, Notice, Order, StopReport},
    exit::{Exit, GaveUp},
    overseer::{Overseer, Upward},
    place::PlacedTask,
    plan::Plan,
    policy::{Backoff, Intensity, Jitter, Restart, Strategy},
    tree::{Kind, TreeNode, Vitals},
};
use actix::Actor;
use std::{future::Future, pin::Pin, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

/// Requests that may wait at one supervisor; more callers wait at the channel. Starting and stopping a container's
/// enforcer are the only requests, and a node starts at most about a hundred containers at once.
const REQUESTS: usize = 128;

/// A supervisor to be: policy and children.
pub struct Supervisor {
    name: Arc<str>,
    strategy: Strategy,
    intensity: Intensity,
    backoff: Backoff,
    seed: Option<u64>,
    entries: Vec<Entry>,
    options: Options,
    vitals: Arc<Vitals>,
    requests: (mpsc::Sender<Request>, mpsc::Receiver<Request>),
}

/// Why a dynamic child did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartChildError {
    /// A sibling has that name.
    #[error("{0} already has a child of that name")]
    NameTaken(String),
    /// It ended before it was ever up, and its policy or its supervisor did not try again.
    #[error("it ended before it was up: {0}")]
    Failed(String),
    /// The supervisor is over.
    #[error("the supervisor is over")]
    NoSupervisor,
}

/// Why a child was not stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StopChildError {
    /// No child has that name.
    #[error("{0} has no such child")]
    NoSuchChild(String),
    /// The supervisor is over.
    #[error("the supervisor is over")]
    NoSupervisor,
}

/// How a child that was asked to stop did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopOutcome {
    /// It is down.
    Acknowledged,
    /// It was left behind at its deadline.
    Abandoned,
}

pub(crate) enum Request {
    Start(Entry, oneshot::Sender<Result<(), StartChildError>>),
    Stop(String, oneshot::Sender<Result<StopOutcome, StopChildError>>),
}

impl Supervisor {
    /// A supervisor without children: one-for-one, default intensity and backoff.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let name: Arc<str> = Arc::from(name);
        let mut options = Options::default();
        // Time enough for children that use theirs; who has more of them says so.
        options.rules.start_deadline = Duration::from_secs(60);
        options.rules.stop_deadline = Duration::from_secs(30);
        Self {
            vitals: Vitals::new(name.clone(), Kind::Supervisor(Strategy::OneForOne), None),
            name,
            strategy: Strategy::OneForOne,
            intensity: Intensity::default(),
            backoff: Backoff::default(),
            seed: None,
            entries: Vec::new(),
            options,
            requests: mpsc::channel(REQUESTS),
        }
    }

    /// Which children share the fate of one that failed.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self.vitals.supervises_by(strategy);
        self
    }

    /// Tolerates this many restarts within the window; one more and it gives up.
    #[must_use]
    pub fn intensity(mut self, restarts: u32, window: Duration) -> Self {
        self.intensity = Intensity { restarts, window };
        self
    }

    /// Delays before restarts.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// The seed of the jitter. Without it, it follows from the parent's seed and the name; the root's default is 0.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// As a child: which of its exits lead to a restart (default: permanent). It only exits by giving up.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.options.rules.restart = restart;
        self
    }

    /// As a child: how long all its children together may take to start (default 60 s).
    #[must_use]
    pub fn start_deadline(mut self, deadline: Duration) -> Self {
        self.options.rules.start_deadline = deadline;
        self
    }

    /// As a child: how long all its children together may take to stop (default 30 s).
    #[must_use]
    pub fn stop_deadline(mut self, deadline: Duration) -> Self {
        self.options.rules.stop_deadline = deadline;
        self
    }

    /// Declares the next child: an actor or a supervisor. Children start in this order.
    ///
    /// # Panics
    /// A child of that name is declared already, which is an error in the program.
    #[must_use]
    pub fn child(mut self, child: impl Child) -> Self {
        self.push(child.into_entry());
        self
    }

    /// Declares the next child, an actor, and returns its address.
    ///
    /// # Panics
    /// A child of that name is declared already, which is an error in the program.
    pub fn add<A: Actor<Context = Context<A>>>(&mut self, child: ChildSpec<A>) -> Address<A> {
        let address = child.address();
        self.push(child.into_entry());
        address
    }

    fn push(&mut self, entry: Entry) {
        let name = entry.vitals.name();
        let taken = self.entries.iter().any(|other| other.vitals.name() == name);
        assert!(!taken, "supervisor {}: two children are called {name}", self.name);
        self.entries.push(entry);
    }

    /// The handle to start and stop children at run time; valid before the start.
    #[must_use]
    pub fn handle(&self) -> SupervisorHandle {
        SupervisorHandle { vitals: self.vitals.clone(), requests: self.requests.0.clone() }
    }

    /// Starts the tree below this supervisor, each child acknowledged before the next, in the current `LocalSet` (an
    /// actix system's main thread, a simulated node, a test).
    ///
    /// `on_give_up` is called when this supervisor gives up, after its children have been stopped in good order, now
    /// or later: the place for `std::process::exit`.
    ///
    /// # Errors
    /// [`GaveUp`]: a child failed too often during the start. The hook has been called.
    pub async fn start(self, on_give_up: impl FnOnce(GaveUp) + Send + 'static) -> Result<Tree, GaveUp> {
        let handle = self.handle();
        let ledger = Arc::new(Ledger::default());
        let control = Arc::new(Control::default());
        let (outcome, mut state) = watch::channel(RootState::Booting);
        let report = root_report(self.name.to_string(), outcome, on_give_up);
        let lineage = Lineage { path: self.name.clone(), seed: self.seed.unwrap_or(0), ledger: ledger.clone() };
        self.vitals.settle_in("here", None);
        self.vitals.starting(ROOT_GENERATION);
        control.give(Order::Run(ROOT_GENERATION));
        let vitals = self.vitals.clone();
        let upward = Upward { control: control.clone(), report: Box::new(root_vitals(vitals, report)) };
        tokio::task::spawn_local(self.into_overseer(lineage, upward).run());
        let settled = state.wait_for(|state| *state != RootState::Booting).await.map(|state| state.clone());
        match settled {
            Ok(RootState::GaveUp(gave_up)) => Err(gave_up),
            _ => Ok(Tree { handle, control, state, ledger }),
        }
    }

    fn into_overseer(self, lineage: Lineage, upward: Upward) -> Overseer {
        let seed = self.seed.unwrap_or_else(|| Jitter::seed_for(lineage.seed, &self.name));
        let plan = Plan::new(self.strategy, self.intensity, self.backoff, seed);
        Overseer::new(plan, self.entries, Lineage { seed, ..lineage }, upward, self.vitals, self.requests.1)
    }
}

/// The root is started once.
const ROOT_GENERATION: u64 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
enum RootState {
    Booting,
    Up,
    GaveUp(GaveUp),
    Stopped,
}

/// What the root's parent would do: pass on the outcome, and call the hook.
fn root_report(
    name: String,
    outcome: watch::Sender<RootState>,
    on_give_up: impl FnOnce(GaveUp) + Send + 'static,
) -> impl FnMut(&Notice) {
    let mut hook = Some(on_give_up);
    move |notice| {
        let state = match notice {
            Notice::Started(_) => RootState::Up,
            Notice::Exited(_, Exit::Stopped | Exit::Normal) => RootState::Stopped,
            Notice::Exited(_, Exit::GaveUp(gave_up)) => RootState::GaveUp(gave_up.clone()),
            Notice::Exited(_, other) => RootState::GaveUp(GaveUp {
                supervisor: name.clone(),
                child: "(itself)".to_owned(),
                last_error: other.to_string(),
            }),
        };
        if let RootState::GaveUp(gave_up) = &state
            && let Some(hook) = hook.take()
        {
            tracing::error!(%gave_up, "the root supervisor gave up");
            hook(gave_up.clone());
        }
        outcome.send_replace(state);
    }
}

/// Keeps the root's own node of the tree up to date, which for others their parent does.
fn root_vitals(vitals: Arc<Vitals>, mut report: impl FnMut(&Notice)) -> impl FnMut(Notice) {
    use crate::tree::State;
    move |notice| {
        match &notice {
            Notice::Started(_) => vitals.running(Instant::now()),
            Notice::Exited(_, Exit::Stopped | Exit::Normal) => vitals.becomes(State::Stopped),
            Notice::Exited(_, exit) => {
                vitals.failed(exit.to_string());
                vitals.becomes(State::GaveUp);
            }
        }
        report(&notice);
    }
}

impl Child for Supervisor {}

impl IntoEntry for Supervisor {
    fn into_entry(mut self) -> Entry {
        let options = std::mem::take(&mut self.options);
        let vitals = self.vitals.clone();
        vitals.settle_in(options.place.name(), Some(options.rules.restart));
        let launch = Box::new(move |line: crate::control::Line| -> PlacedTask {
            Box::new(move || {
                let (id, inbox) = (line.id, line.inbox);
                let upward = Upward { control: line.control, report: Box::new(move |notice| inbox.put(id, notice)) };
                let task: Pin<Box<dyn Future<Output = ()>>> = Box::pin(self.into_overseer(line.lineage, upward).run());
                task
            })
        });
        Entry { vitals, options, launch: Some(launch) }
    }
}

/// A running tree. Dropping it does not stop the tree.
pub struct Tree {
    handle: SupervisorHandle,
    control: Arc<Control>,
    state: watch::Receiver<RootState>,
    ledger: Arc<Ledger>,
}

impl Tree {
    /// The root's handle.
    #[must_use]
    pub fn handle(&self) -> SupervisorHandle {
        self.handle.clone()
    }

    /// The live tree, read now.
    #[must_use]
    pub fn read(&self) -> TreeNode {
        self.handle.read()
    }

    /// Resolves when the root has given up.
    pub async fn gave_up(&self) -> GaveUp {
        let mut state = self.state.clone();
        loop {
            if let RootState::GaveUp(gave_up) = &*state.borrow_and_update() {
                return gave_up.clone();
            }
            if state.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Stops all children in reverse order and closes their mailboxes. Resolves when each has acknowledged or been left
    /// behind at its deadline.
    pub async fn stop(&self) -> StopReport {
        self.ledger.begin();
        let mut state = self.state.clone();
        if *state.borrow() != RootState::Stopped {
            self.control.give(Order::Stop(ROOT_GENERATION));
            // An error means that the root's task is gone with its runtime: then all is stopped.
            let _ = state.wait_for(|state| *state == RootState::Stopped).await;
        }
        self.control.give(Order::Close);
        self.ledger.report()
    }
}

/// Reaches a supervisor at run time, from any thread; stable across restarts.
#[derive(Clone)]
pub struct SupervisorHandle {
    vitals: Arc<Vitals>,
    requests: mpsc::Sender<Request>,
}

impl SupervisorHandle {
    /// The live tree from here down, read now.
    #[must_use]
    pub fn read(&self) -> TreeNode {
        self.vitals.read(Instant::now())
    }

    /// Starts a child at run time, as the last one. Resolves when it has acknowledged its first start; failures before
    /// that are restarted by the policies. Not to wait for the answer does not take the request back.
    ///
    /// # Errors
    /// [`StartChildError`].
    pub async fn start_child<A: Actor<Context = Context<A>>>(
        &self,
        child: ChildSpec<A>,
    ) -> Result<Address<A>, StartChildError> {
        let address = child.address();
        let (reply, answer) = oneshot::channel();
        let request = Request::Start(child.into_entry(), reply);
        self.requests.send(request).await.map_err(|_| StartChildError::NoSupervisor)?;
        answer.await.unwrap_or(Err(StartChildError::NoSupervisor))?;
        Ok(address)
    }

    /// Stops and forgets a child. Resolves when it is down, or left behind at its deadline.
    ///
    /// # Errors
    /// [`StopChildError`].
    pub async fn stop_child(&self, name: &str) -> Result<StopOutcome, StopChildError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Stop(name.to_owned(), reply);
        self.requests.send(request).await.map_err(|_| StopChildError::NoSupervisor)?;
        answer.await.unwrap_or(Err(StopChildError::NoSupervisor))
    }
}
