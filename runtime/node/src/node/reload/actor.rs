//! The shell: looks at the file, and tells who owns what changed.

use std::{io, sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt as _, AsyncContext as _, Handler, Message, WrapFuture as _};
use palisade_alerts::actor::{SetSinks, SetThrottle};
use palisade_assembly::{Live, Outlets, host_appeared};
use palisade_domain::Slot;
use palisade_link::Links;
use palisade_protocol::{
    AlertSettingsChanged, Condition, ConditionReported, SetPolicyInterval, SetPostures, WorkloadNamed,
};
use palisade_supervision::{Context, Kept};
use tokio::time::timeout;

use super::state::State;
use crate::{
    arguments::NodeArguments,
    configuration::{command_line::CommandLine, file},
    log::LogLevel,
    node::{
        outputs::{self, Outputs, Sinks},
        tree,
    },
};

/// The condition's name.
pub const CONDITION: &str = "configuration";
/// Between two looks at the file. A change is taken over at the second look that finds it, for who writes a file in place is not done when
/// its first bytes are there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A file system that does not answer for so long hangs.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the condition is said again, so that a report that was lost is made good.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Read the file now, and take it over at once.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ReloadConfiguration;

/// Who owns what can change.
#[derive(Clone)]
pub struct Wiring {
    /// The actors.
    pub outlets: Outlets,
    /// The bounds of its files, and what sinks are made of.
    pub outputs: Outputs,
    /// The runtime's own log.
    pub level: LogLevel,
    /// What sinks that are opened again are made from.
    pub arguments: Kept<NodeArguments>,
    /// What actors that start again are built from.
    pub live: Kept<Live>,
    /// Where there are any.
    pub links: Option<Arc<Links>>,
}

/// The file as it was found, or why it could not be read.
type Content = Result<Vec<u8>, (io::ErrorKind, String)>;

/// See the module's parent.
pub struct Configuration {
    state: Kept<State>,
    line: CommandLine,
    wiring: Wiring,
    /// As of the last reading that was taken over; nothing before the first look, which takes over what changed since the start.
    taken: Option<Content>,
    /// As of the last look.
    noticed: Option<Content>,
    looking: bool,
    hangs: bool,
    told: Option<Condition>,
}

impl Configuration {
    /// Looks at the file of `line`, with which the node started.
    #[must_use]
    pub fn new(line: CommandLine, wiring: Wiring, state: Kept<State>) -> Self {
        Self { state, line, wiring, taken: None, noticed: None, looking: false, hangs: false, told: None }
    }

    fn look(&mut self, at_once: bool, ctx: &mut Context<Self>) {
        if self.looking {
            return;
        }
        self.looking = true;
        let path = self.line.file.path.clone();
        let mut reading =
            tokio::task::spawn_blocking(move || file::content(&path).map_err(|e| (e.kind(), e.to_string())));
        let soon = async move {
            let read = timeout(PATIENCE, &mut reading).await;
            (reading, read)
        };
        ctx.spawn(soon.into_actor(self).map(move |(reading, read), configuration, ctx| match read {
            Ok(read) => configuration.looked(read, at_once),
            Err(_) => configuration.wait_on(reading, at_once, ctx),
        }));
    }

    /// No second look before the first one is back: threads that hang must not pile up.
    fn wait_on(&mut self, reading: tokio::task::JoinHandle<Content>, at_once: bool, ctx: &mut Context<Self>) {
        self.hangs = true;
        tracing::warn!(path = %self.line.file.path.display(), "reading the configuration hangs");
        self.report(false);
        ctx.spawn(reading.into_actor(self).map(move |read, configuration, _| configuration.looked(read, at_once)));
    }

    fn looked(&mut self, read: Result<Content, tokio::task::JoinError>, at_once: bool) {
        (self.looking, self.hangs) = (false, false);
        // A reading that panicked found nothing.
        let Ok(content) = read else { return };
        let settled = self.noticed.as_ref() == Some(&content);
        if self.taken.as_ref() != Some(&content) && (settled || at_once) {
            self.take(content.clone());
        }
        self.noticed = Some(content);
        self.report(false);
    }

    fn take(&mut self, content: Content) {
        self.taken = Some(content.clone());
        let named = self.line.file.named;
        let content = match content {
            Err((io::ErrorKind::NotFound, _)) if !named => Ok(Vec::new()),
            other => other.map_err(|(kind, said)| io::Error::new(kind, said)),
        };
        let read = match self.line.over(content) {
            Err(error) => Err(vec![error.to_string()]),
            Ok(line) if line.file.is_sound() => Ok(line),
            Ok(line) => Err(line.file.complaints()),
        };
        let effective = read.as_ref().map(CommandLine::effective).map_err(Clone::clone);
        let outcome = self.state.lock().read(effective);
        for problem in &outcome.broken {
            tracing::warn!(%problem, "configuration; the last good one stays in force");
        }
        if !outcome.waiting.is_empty() {
            tracing::warn!(settings = ?outcome.waiting, "these settings need a restart of the node to take effect");
        }
        if let (Ok(line), false) = (read, outcome.applied.is_empty())
            && let Some(wanted) = line.node()
        {
            self.apply(&wanted, &outcome.applied);
            tracing::info!(settings = ?outcome.applied, "configuration changed");
        }
    }

    /// What actors that start again are built from.
    fn remember(&self, wanted: &NodeArguments) {
        let mut live = self.wiring.arguments.lock();
        live.default_file_posture = wanted.default_file_posture;
        live.default_network_posture = wanted.default_network_posture;
        live.default_capabilities_posture = wanted.default_capabilities_posture;
        live.host_default_device_posture = wanted.host_default_device_posture;
        live.host_labels.clone_from(&wanted.host_labels);
        live.policy_interval = wanted.policy_interval;
        live.log_level.clone_from(&wanted.log_level);
        live.visibility = wanted.visibility;
        live.max_alert_per_sec = wanted.max_alert_per_sec;
        live.throttle_sec = wanted.throttle_sec;
        live.no_alert_throttling = wanted.no_alert_throttling;
        live.alert_file.clone_from(&wanted.alert_file);
        live.alert_file_bytes = wanted.alert_file_bytes;
        live.alert_file_keep = wanted.alert_file_keep;
        live.no_alert_stdout = wanted.no_alert_stdout;
        live.log_file.clone_from(&wanted.log_file);
        live.log_file_bytes = wanted.log_file_bytes;
        live.log_file_keep = wanted.log_file_keep;
        live.log_stdout = wanted.log_stdout;
        *self.wiring.live.lock() = tree::live(&live);
    }

    /// Tells each owner; one that is over is told by its factory, which reads `live`.
    fn apply(&self, wanted: &NodeArguments, names: &[String]) {
        let changed = |one_of: &[&str]| names.iter().any(|name| one_of.contains(&name.as_str()));
        self.remember(wanted);
        let mut told = true;
        if changed(&[
            "defaultFilePosture",
            "defaultNetworkPosture",
            "defaultCapabilitiesPosture",
            "hostDefaultDevicePosture",
        ]) {
            told &= self.wiring.outlets.postures.try_send(SetPostures { postures: tree::postures(wanted) }).is_ok();
        }
        if changed(&["policyInterval"]) {
            told &= self
                .wiring
                .outlets
                .policy_interval
                .try_send(SetPolicyInterval { interval: wanted.policy_interval })
                .is_ok();
        }
        if changed(&["visibility"]) {
            let message = self.wiring.live.lock().seen;
            for hearer in &self.wiring.outlets.visibility {
                told &= hearer.try_send(message).is_ok();
            }
        }
        if changed(&["maxAlertPerSec", "throttleSec", "noAlertThrottling"]) {
            told &= self.wiring.outlets.throttle.try_send(SetThrottle(outputs::throttle(wanted))).is_ok();
        }
        if changed(&["visibility", "maxAlertPerSec", "throttleSec", "noAlertThrottling"])
            && let Some(recorder) = &self.wiring.outlets.recorded
        {
            let live = self.wiring.live.lock();
            let throttle = live.alerts.throttle.map(|limit| (limit.per_second, limit.silence_seconds));
            told &= recorder.try_send(AlertSettingsChanged { visibility: live.alerts.visibility, throttle }).is_ok();
        }
        // Before files are begun that they hold for.
        self.wiring.outputs.set_bounds(wanted);
        if changed(&["alertFile", "noAlertStdout", "logFile", "logStdout"]) {
            told &= self.tell_sinks(wanted);
        }
        if changed(&["hostLabels"]) {
            let host = tree::host_workload(wanted);
            let workload = Arc::new(host.clone());
            for named in &self.wiring.outlets.named {
                let workload = Arc::clone(&workload);
                told &= named.try_send(WorkloadNamed { slot: Slot::HOST, workload }).is_ok();
            }
            if let Some(roster) = &self.wiring.outlets.host {
                told &= roster.try_send(host_appeared(&host)).is_ok();
            }
        }
        if changed(&["logLevel"])
            && let Err(error) = self.wiring.level.set(&wanted.log_level)
        {
            tracing::warn!(%error, "the log stays as it is");
        }
        if changed(&["linkPeers"])
            && let Err(error) = self.set_link_peers(wanted)
        {
            tracing::error!(%error, "the peers stay who they were");
        }
        if !told {
            tracing::error!("an actor is over: it takes the configuration over when it starts again");
        }
    }

    fn set_link_peers(&self, wanted: &NodeArguments) -> anyhow::Result<()> {
        let Some(links) = &self.wiring.links else { return Ok(()) };
        Ok(links.set_peers(&wanted.link.peers()?.into_iter().collect())?)
    }

    /// Those that stay what they are go on; lines that others were handed already are written by them.
    fn tell_sinks(&self, wanted: &NodeArguments) -> bool {
        match self.wiring.outputs.sinks(wanted) {
            Ok(Sinks { sinks, log_sinks }) => self.wiring.outlets.sinks.try_send(SetSinks { sinks, log_sinks }).is_ok(),
            Err(error) => {
                tracing::error!(%error, "no thread for another sink: lines go where they went until the alerts actor starts again");
                true
            }
        }
    }

    fn condition(&self) -> Condition {
        if self.hangs {
            let path = self.line.file.path.display();
            return Condition::Degraded(format!("reading {path} hangs; the last good configuration stays in force"));
        }
        self.state.lock().condition()
    }

    fn report(&mut self, again: bool) {
        let condition = self.condition();
        if again || self.told.as_ref() != Some(&condition) {
            let report = ConditionReported { name: CONDITION.into(), condition: Some(condition.clone()) };
            if self.wiring.outlets.conditions.try_send(report).is_ok() {
                self.told = Some(condition);
            }
        }
    }
}

impl Actor for Configuration {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.report(true);
        ctx.run_interval(LOOK_EVERY, |configuration, ctx| configuration.look(false, ctx));
        ctx.run_interval(REPORT_EVERY, |configuration, _| configuration.report(true));
    }
}

impl Handler<ReloadConfiguration> for Configuration {
    type Result = ();

    fn handle(&mut self, _: ReloadConfiguration, ctx: &mut Self::Context) {
        tracing::info!(path = %self.line.file.path.display(), "told to reload the configuration");
        self.look(true, ctx);
    }
}
