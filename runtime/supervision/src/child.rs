//! What a supervisor is told about a child, and the mailbox that exists before the child does.
//!
//! Invariant: the address is fixed when the specification is made, so two children can know each other before either
//! runs, and what is sent before the start waits.

use crate::{
    address::Address,
    context::Context,
    control::Line,
    gate::Gate,
    place::{Here, Place, PlacedTask},
    plan::ChildRules,
    policy::Restart,
    shell::{BuildError, Factory, Shell},
    tree::{Kind, Vitals},
};
use actix::{
    Actor,
    dev::channel::{AddressReceiver, channel},
};
use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

/// Messages that a mailbox holds unless the specification says otherwise: at 4096 a mailbox of boxed messages costs at
/// most a few hundred kilobytes beside the messages themselves, and 50 ms of a sender at 80,000 messages a second.
pub const DEFAULT_CAPACITY: usize = 4096;
/// How long a child may take to acknowledge its start.
pub const DEFAULT_START_DEADLINE: Duration = Duration::from_secs(10);
/// How long a child may take to acknowledge its stop.
pub const DEFAULT_STOP_DEADLINE: Duration = Duration::from_secs(5);

/// A mailbox without an actor yet: for children that must know each other's addresses.
pub struct MailboxOf<A: Actor<Context = Context<A>>> {
    address: Address<A>,
    receiver: AddressReceiver<A>,
}

impl<A: Actor<Context = Context<A>>> MailboxOf<A> {
    /// A mailbox for the child of that name, which holds at most `capacity` messages (at least 1).
    #[must_use]
    pub fn new(name: &str, capacity: usize) -> Self {
        let capacity = capacity.max(1);
        // One more than the gate lets in, so that actix never parks a sender that came by the gate.
        let (sender, receiver) = channel(capacity + 1);
        Self { address: Address::new(sender, Arc::new(Gate::new(capacity)), Arc::from(name)), receiver }
    }

    /// The stable address.
    #[must_use]
    pub fn address(&self) -> Address<A> {
        self.address.clone()
    }
}

/// A child actor: name, factory, policy, place, mailbox, deadlines.
pub struct ChildSpec<A: Actor<Context = Context<A>>> {
    mailbox: MailboxOf<A>,
    factory: Factory<A>,
    options: Options,
}

pub(crate) struct Options {
    pub(crate) rules: ChildRules,
    pub(crate) place: Arc<dyn Place>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rules: ChildRules {
                restart: Restart::Permanent,
                start_deadline: DEFAULT_START_DEADLINE,
                stop_deadline: DEFAULT_STOP_DEADLINE,
            },
            place: Here::place(),
        }
    }
}

impl<A: Actor<Context = Context<A>>> ChildSpec<A> {
    /// A child whose factory cannot fail. The factory runs at the child's place, once for each generation.
    #[must_use]
    pub fn new(name: &str, mut factory: impl FnMut(&mut Context<A>) -> A + Send + 'static) -> Self {
        Self::fallible(name, move |ctx| Ok(factory(ctx)))
    }

    /// A child whose factory may fail; a failure counts as a crash.
    #[must_use]
    pub fn fallible(
        name: &str,
        factory: impl FnMut(&mut Context<A>) -> Result<A, BuildError> + Send + 'static,
    ) -> Self {
        Self::with_mailbox(MailboxOf::new(name, DEFAULT_CAPACITY), factory)
    }

    /// A child with a mailbox (and name) made before.
    #[must_use]
    pub fn with_mailbox(
        mailbox: MailboxOf<A>,
        factory: impl FnMut(&mut Context<A>) -> Result<A, BuildError> + Send + 'static,
    ) -> Self {
        Self { mailbox, factory: Box::new(factory), options: Options::default() }
    }

    /// Messages that may wait. Must come before [`ChildSpec::address`]: the mailbox is made anew.
    #[must_use]
    pub fn capacity(mut self, messages: usize) -> Self {
        self.mailbox = MailboxOf::new(self.mailbox.address.name(), messages);
        self
    }

    /// Which exits lead to a restart (default: permanent).
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.options.rules.restart = restart;
        self
    }

    /// Where it runs (default: where the supervisors run).
    #[must_use]
    pub fn place(mut self, place: Arc<dyn Place>) -> Self {
        self.options.place = place;
        self
    }

    /// How long the start may take, everything that `started` waits for included (default 10 s).
    #[must_use]
    pub fn start_deadline(mut self, deadline: Duration) -> Self {
        self.options.rules.start_deadline = deadline;
        self
    }

    /// How long the stop may take (default 5 s).
    #[must_use]
    pub fn stop_deadline(mut self, deadline: Duration) -> Self {
        self.options.rules.stop_deadline = deadline;
        self
    }

    /// The stable address.
    #[must_use]
    pub fn address(&self) -> Address<A> {
        self.mailbox.address()
    }
}

/// What can be a child: a [`ChildSpec`] or a [`Supervisor`](crate::Supervisor).
pub trait Child: sealed::IntoEntry {}
impl<A: Actor<Context = Context<A>>> Child for ChildSpec<A> {}

pub(crate) mod sealed {
    /// Becomes what a supervisor keeps of a child.
    pub trait IntoEntry {
        #[doc(hidden)]
        fn into_entry(self) -> super::Entry;
    }
}

impl<A: Actor<Context = Context<A>>> sealed::IntoEntry for ChildSpec<A> {
    fn into_entry(self) -> Entry {
        let Self { mailbox: MailboxOf { address, receiver }, factory, options } = self;
        let name = address.name().clone();
        let kind = Kind::Actor(short_type_name::<A>().to_owned());
        let vitals = Vitals::new(name.clone(), kind, Some(address.gate().clone()));
        vitals.settle_in(options.place.name(), Some(options.rules.restart));
        let pulse = options.place.pulse();
        let launch = Box::new(move |line: Line| -> PlacedTask {
            Box::new(move || {
                let shell: Pin<Box<dyn Future<Output = ()>>> =
                    Box::pin(Shell::new(line, address, receiver, factory, pulse, &name));
                shell
            })
        });
        Entry { vitals, options, launch: Some(launch) }
    }
}

/// `Probe` of `palisade_probe::actor::Probe`.
fn short_type_name<A>() -> &'static str {
    let full = std::any::type_name::<A>();
    let plain = full.split('<').next().unwrap_or(full);
    plain.rsplit("::").next().unwrap_or(plain)
}

type Launch = Box<dyn FnOnce(Line) -> PlacedTask + Send>;

/// A child of any type, actor or supervisor, as its supervisor keeps it.
#[doc(hidden)]
pub struct Entry {
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) options: Options,
    /// Taken at the first start.
    pub(crate) launch: Option<Launch>,
}
