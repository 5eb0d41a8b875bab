//! Erlang-style supervision for actix 0.13 actors: a crash costs one message and one state, never an address, a queue
//! or a sibling, unless the declared strategy says so.
//!
//! ```
//! use actix::prelude::{Actor, Handler, Message};
//! use palisade_supervision::{Backoff, ChildSpec, Context, Here, Overflow, Restart, Strategy, Supervisor};
//! use std::time::Duration;
//!
//! struct Tally(u64);
//! impl Actor for Tally {
//!     type Context = Context<Self>; // ours, not actix's: it is what makes counting and rebuilding possible
//! }
//! #[derive(Message)]
//! #[rtype(result = "u64")]
//! struct Add(u64);
//! impl Handler<Add> for Tally {
//!     type Result = u64;
//!     fn handle(&mut self, Add(n): Add, _: &mut Context<Self>) -> u64 {
//!         assert_ne!(n, 13, "a bug");
//!         self.0 += n;
//!         self.0
//!     }
//! }
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
//! # tokio::task::LocalSet::new().block_on(&runtime, async {
//! let mut node = Supervisor::new("node").strategy(Strategy::RestForOne).intensity(5, Duration::from_secs(60));
//! let tally = node.add(ChildSpec::new("tally", |_ctx| Tally(100)).restart(Restart::Permanent).place(Here::place()));
//! // Children that come and go live under a supervisor of their own.
//! let enforcers = Supervisor::new("enforcers").backoff(Backoff::fixed(Duration::from_millis(10)));
//! let containers = enforcers.handle();
//! let tree = node.child(enforcers).start(|gave_up| eprintln!("{gave_up}")).await.unwrap();
//!
//! let patience = Duration::from_secs(5);
//! assert_eq!(tally.ask(Add(1), patience).await, Ok(101));
//! assert!(tally.ask(Add(13), patience).await.is_err()); // lost with the crash, and counted
//! assert_eq!(tally.ask(Add(2), patience).await, Ok(102)); // same address, fresh state
//!
//! let web = containers.start_child(ChildSpec::new("web", |_| Tally(0))).await.unwrap();
//! let outbox = web.outbox::<Add>(Overflow::Refuse);
//! outbox.try_send(Add(1)).unwrap();
//! containers.stop_child("web").await.unwrap();
//!
//! let read = tree.read();
//! assert_eq!(read.at(&["tally"]).unwrap().restarts, 1);
//! assert_eq!(tree.stop().await.stopped, ["node/enforcers", "node/tally"]);
//! # });
//! ```
//!
//! # Semantics
//!
//! | question | answer |
//! |---|---|
//! | order of messages | Those of one task to one actor arrive in order, through restarts and through a stage. Nothing is said about two senders. Timers and `notify` have no order against the mailbox. |
//! | delivery | At most once. [`Address::offer`] and [`Outbox`] say at once whether a message is in; in the mailbox it stays through crashes of the receiver. |
//! | what a panic loses | The message in the handler (`lost_panic`), with as many records as the actor noted by [`Context::at_stake`] (`lost_panic_records`); the actor's state; its timers and spawned futures, with them the answers they owed ([`AskError::Lost`]). |
//! | what survives a panic | The mailbox with all that is queued, in order; every [`Address`], [`Outbox`], [`Asker`], `Addr`, `Recipient`; all siblings that the strategy does not tie to it. |
//! | what a stop loses | What is queued once the child is over (removed, finished, or the tree stopped): `lost_closed`. Later messages: `Closed`. A stop within a group restart loses nothing. |
//! | state after a restart | What the factory builds, at the child's place; nothing of the old state remains, it is dropped before the factory runs. What must outlive it, the factory holds as [`Kept`]. |
//! | started | When the factory and `started` have returned and every future that they `wait` for is done. Before that no message is handled and no later sibling starts. |
//! | start deadline | 10 s ([`ChildSpec::start_deadline`]); then it has failed like one that crashed. |
//! | order of start and stop | Start: as declared, each acknowledged before the next. Stop: in reverse, each acknowledged before the one before it. Restarts of a group likewise, for the members. Children of a running one-for-one supervisor restart and stop independently of each other. |
//! | stop deadline | 5 s, for a supervisor 30 s ([`ChildSpec::stop_deadline`]); then the child is dropped without its consent as soon as its thread allows, and named in [`StopReport::abandoned`]. |
//! | restart policy | Permanent: after every exit nobody asked for. Transient: after failures. Temporary: never, neither when its group restarts. |
//! | delay | `base * 2^failures` up to `max`, less a jitter drawn from the seed. A group comes back when its failed member may. Failures are forgotten after `reset_after` of service. |
//! | intensity | More than `restarts` within `window`: the supervisor stops its children in good order and gives up, which for its parent is a failure of that child; the root calls its hook. A supervisor that is restarted begins with a clean history and all its children, dynamic ones too. |
//! | stale news | A notice of another generation than the current is ignored. |
//! | dead thread | A child whose thread or runtime ended has failed; as it can run nowhere, its supervisor soon gives up. |
//! | blocked thread | Cannot be mended in process: [`Watchdog`] reports the arbiter and the actor from outside. |
//! | a dropped runtime | Drops actors without `stopping` or `stopped`: as a crashed node would. |
//!
//! # Accounting
//!
//! At rest, for each mailbox: `admitted = queued + handled + expired + lost_panic + lost_closed`, and what was offered is
//! `admitted + shed + refused_closed + coalesced + staged`. While an actor handles a message, that one is in none of them.
//! A message sent by a plain actix `Addr` is admitted when it is handled; `ctx.notify` is no mail and not counted.
//! An asynchronous handler counts as handled when it has returned its future. Return `ResponseActFuture`, which ends with
//! its generation; actix spawns a `ResponseFuture` beside the actor, and it outlives a crash.
//!
//! # Parts
//!
//! [`plan`] decides, purely; the overseer task carries out; a shell around each actor catches panics and owns its
//! mailbox; a gate before each mailbox bounds and counts. Where actors run is the port [`Place`]; all supervisors run in
//! one `LocalSet`. Nothing here reads a clock but tokio's, so a paused runtime drives all of it.
#![forbid(unsafe_code)]

mod address;
mod child;
mod context;
mod control;
mod exit;
mod gate;
mod kept;
mod outbox;
mod overseer;
mod place;
pub mod plan;
mod policy;
mod pulse;
mod shell;
mod supervisor;
mod tree;
mod watchdog;

pub use address::{Address, AskError, Refused};
pub use child::{Child, ChildSpec, DEFAULT_CAPACITY, DEFAULT_START_DEADLINE, DEFAULT_STOP_DEADLINE, MailboxOf};
pub use context::Context;
pub use control::StopReport;
pub use exit::{Exit, GaveUp};
pub use gate::MailCounts;
pub use kept::Kept;
pub use outbox::{Asker, Outbox, OutboxCounts, Overflow};
pub use place::{ArbiterThread, Here, Place, PlaceGone, PlacedTask};
pub use policy::{Backoff, ExitKind, Intensity, Jitter, Restart, Strategy};
pub use pulse::Pulse;
pub use shell::BuildError;
pub use supervisor::{StartChildError, StopChildError, StopOutcome, Supervisor, SupervisorHandle, Tree};
pub use tree::{Kind, Mail, State, TreeNode};
pub use watchdog::{Stall, Watchdog};
