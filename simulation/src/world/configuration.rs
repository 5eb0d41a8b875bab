//! The node's configuration file, and the actor that looks at it while the node runs.
//!
//! Invariant: what is set is in force for a process that starts after it, and for one that runs within [`LOOK_EVERY`] and the time that a
//! message takes. Only what production changes at once is here; anything else needs a restart there, too.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::{Actor, AsyncContext as _};
use palisade_alerts::{
    actor::{SetSinks, SetThrottle},
    throttle::Limit,
};
use palisade_assembly::{Live, Outlets};
use palisade_domain::Visibility;
use palisade_policy::ir::Postures;
use palisade_protocol::{AlertSettingsChanged, Condition, ConditionReported, SetPostures, SetVisibility};
use palisade_supervision::{Context, Kept};
use palisade_world::AlertSink;

use super::mutation::Mutation;
use crate::event::{Event, Teller, lock};

/// The condition that production's actor of this place reports.
pub const CONDITION: &str = "configuration";
/// As production's.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Configured {
    /// The global postures.
    pub postures: Postures,
    /// What is seen where a namespace says nothing, and of the host.
    pub visibility: Visibility,
    /// When alerts are too many.
    pub throttle: Option<Limit>,
    /// Which file alerts go to.
    pub sink: u32,
}

/// A machine's file.
#[derive(Clone)]
pub struct ConfigurationFile {
    content: Arc<Mutex<Configured>>,
    teller: Teller,
}

impl ConfigurationFile {
    /// A file that says this.
    #[must_use]
    pub fn new(teller: Teller, configured: Configured) -> Self {
        Self { content: Arc::new(Mutex::new(configured)), teller }
    }

    /// What it says.
    #[must_use]
    pub fn read(&self) -> Configured {
        *lock(&self.content)
    }

    /// Somebody edits it.
    pub fn edit(&self, change: impl FnOnce(&mut Configured)) {
        let configured = {
            let mut content = lock(&self.content);
            change(&mut content);
            *content
        };
        self.teller.tell(&Event::Configured(configured));
    }
}

/// Opens the sink that the file names.
pub type OpenSink = Arc<dyn Fn(u32) -> Box<dyn AlertSink> + Send + Sync>;

/// See the module.
pub struct Configuration {
    /// The file.
    pub file: ConfigurationFile,
    /// What actors that start again are built from.
    pub live: Kept<Live>,
    /// Whom to tell.
    pub outlets: Outlets,
    /// For another alert file.
    pub open_sink: OpenSink,
    /// What was told.
    pub told: Configured,
    /// Broken on purpose.
    pub mutation: Option<Mutation>,
}

impl Actor for Configuration {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.report();
        ctx.run_interval(LOOK_EVERY, |configuration, _| configuration.look());
    }
}

impl Configuration {
    fn look(&mut self) {
        let wanted = self.file.read();
        let before = std::mem::replace(&mut self.told, wanted);
        let seen = SetVisibility { visibility: wanted.visibility, host: wanted.visibility };
        {
            let mut live = self.live.lock();
            (live.postures, live.seen) = (wanted.postures, seen);
            (live.alerts.throttle, live.alerts.visibility) = (wanted.throttle, wanted.visibility);
        }
        if self.mutation == Some(Mutation::KeepsItsPostures) {
            return;
        }
        // Who is over takes it over from `live` when it starts again.
        if wanted.postures != before.postures {
            let _ = self.outlets.postures.try_send(SetPostures { postures: wanted.postures });
        }
        if wanted.visibility != before.visibility {
            for hearer in &self.outlets.visibility {
                let _ = hearer.try_send(seen);
            }
        }
        if wanted.throttle != before.throttle {
            let _ = self.outlets.throttle.try_send(SetThrottle(wanted.throttle));
        }
        if (wanted.visibility, wanted.throttle) != (before.visibility, before.throttle)
            && let Some(recorder) = &self.outlets.recorded
        {
            let throttle = wanted.throttle.map(|limit| (limit.per_second, limit.silence_seconds));
            let _ = recorder.try_send(AlertSettingsChanged { visibility: wanted.visibility, throttle });
        }
        if wanted.sink != before.sink {
            let sinks = vec![(self.open_sink)(wanted.sink)];
            let _ = self.outlets.sinks.try_send(SetSinks { sinks, log_sinks: Vec::new() });
        }
        self.report();
    }

    fn report(&self) {
        let report = ConditionReported { name: CONDITION.to_owned(), condition: Some(Condition::Good) };
        // One that finds no room is superseded by the next.
        let _ = self.outlets.conditions.try_send(report);
    }
}
