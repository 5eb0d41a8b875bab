//! What the node runs with and what its file says: the pure part.
//!
//! Invariant: a broken file changes nothing. What can change while a node runs ([`LIVE`]) is taken over as a whole; all else stays as it was
//! at the start and is named until the file says again what the node runs with, or the node is restarted.

use palisade_protocol::Condition;

use crate::configuration::command_line::Effective;

/// Settings that take effect while the node runs.
pub const LIVE: [&str; 19] = [
    "alertFile",
    "alertFileBytes",
    "alertFileKeep",
    "defaultCapabilitiesPosture",
    "defaultFilePosture",
    "defaultNetworkPosture",
    "hostDefaultDevicePosture",
    "hostLabels",
    "logFile",
    "logFileBytes",
    "logFileKeep",
    "logLevel",
    "logStdout",
    "maxAlertPerSec",
    "noAlertStdout",
    "noAlertThrottling",
    "policyInterval",
    "throttleSec",
    "visibility",
];

/// A setting that takes effect while the node runs, where it has links; where it has none it has no socket for them either.
pub const LIVE_WITH_LINKS: &str = "linkPeers";

/// Problems that a condition names; `palisade config validate` tells all.
const NAMED: usize = 3;

/// What a reading of the file led to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Settings that are to take effect now, by name.
    pub applied: Vec<String>,
    /// Settings that differ and need a restart, if that is news.
    pub waiting: Vec<String>,
    /// Problems, if they are news.
    pub broken: Vec<String>,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct State {
    running: Effective,
    has_links: bool,
    waiting: Vec<String>,
    broken: Vec<String>,
}

impl State {
    /// The node started with this.
    #[must_use]
    pub fn new(running: Effective, has_links: bool) -> Self {
        Self { running, has_links, waiting: Vec::new(), broken: Vec::new() }
    }

    /// The file was read: what the node would run with, or what is wrong.
    pub fn read(&mut self, read: Result<Effective, Vec<String>>) -> Outcome {
        let mut outcome = Outcome::default();
        match read {
            Err(problems) => {
                if self.broken != problems {
                    self.broken = problems;
                    outcome.broken.clone_from(&self.broken);
                }
            }
            Ok(wanted) => {
                self.broken.clear();
                let before = std::mem::take(&mut self.waiting);
                for (name, value) in wanted {
                    let Some(running) = self.running.get_mut(&name).filter(|running| running.0 != value.0) else {
                        continue;
                    };
                    if LIVE.contains(&name.as_str()) || self.has_links && name == LIVE_WITH_LINKS {
                        *running = value;
                        outcome.applied.push(name);
                    } else {
                        self.waiting.push(name);
                    }
                }
                if self.waiting != before {
                    outcome.waiting.clone_from(&self.waiting);
                }
            }
        }
        outcome
    }

    /// How it is.
    #[must_use]
    pub fn condition(&self) -> Condition {
        if let [first, ..] = self.broken.as_slice() {
            let named: Vec<&str> = self.broken.iter().take(NAMED).map(String::as_str).collect();
            let more = self.broken.len() - named.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            debug_assert!(!first.is_empty(), "a problem has words");
            return Condition::Degraded(format!(
                "the last good configuration stays in force: {}{more}; mend it, and look by `palisade config validate`",
                named.join("; ")
            ));
        }
        if self.waiting.is_empty() {
            Condition::Good
        } else {
            Condition::Degraded(format!("needs a restart to take effect: {}", self.waiting.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::{command_line::Source, definition::definitions};

    fn effective(settings: &[(&str, &str)]) -> Effective {
        settings.iter().map(|(name, value)| ((*name).to_owned(), (vec![(*value).to_owned()], Source::File))).collect()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn unit_reload_names_only_settings_that_there_are() {
        let all = definitions();
        for live in LIVE {
            assert!(all.iter().any(|definition| definition.name == live), "{live}");
        }
    }

    /// What no message changes while a node runs: it is built into the kernel's maps, or is an address that is taken at the start.
    #[test]
    fn unit_reload_knows_of_every_setting_whether_it_needs_a_restart() {
        let needs_restart = [
            "adminAddress",
            "adminSocket",
            "adminTokenFile",
            "byCgroups",
            "clusterName",
            "containerd",
            "criSocket",
            "foldWindow",
            "hookSocket",
            "hostPolicy",
            "hostVisibility",
            "keepEnforcing",
            // The files that these name are looked at while the node runs.
            "linkCa",
            "linkCertificate",
            "linkKey",
            "linkListen",
            "linkRevoked",
            "logFormat",
            "maxUnattended",
            "maxWorkloads",
            "noContainers",
            "nodeName",
            "nriHook",
            "nriSocket",
            "observationBurst",
            "observationRate",
            "onUnknownPath",
            "onUnknownWorkload",
            "pinRoot",
            "policyDir",
            "selinux",
            "stateDir",
            "traceAlertAfter",
            "traceAlertPause",
            "traceAlertPolicies",
            "traceAlertSeverity",
            "traceArguments",
            "traceDirectory",
            "traceDirectoryBytes",
            "traceMemoryBytes",
            "traceMinutes",
        ];
        let mut known: Vec<&str> = LIVE.iter().chain(&needs_restart).chain([&LIVE_WITH_LINKS]).copied().collect();
        let mut all: Vec<String> = definitions().into_iter().map(|definition| definition.name).collect();
        known.sort_unstable();
        all.sort_unstable();
        assert_eq!(all, known);
    }

    #[test]
    fn unit_reload_takes_over_what_can_change_and_names_what_needs_a_restart() {
        let mut state =
            State::new(effective(&[("defaultFilePosture", "audit"), ("policyDir", "/a"), ("logLevel", "info")]), false);
        let wanted = effective(&[("defaultFilePosture", "block"), ("policyDir", "/b"), ("logLevel", "info")]);
        let outcome = state.read(Ok(wanted.clone()));
        assert_eq!((outcome.applied, outcome.waiting), (names(&["defaultFilePosture"]), names(&["policyDir"])));
        assert!(
            matches!(state.condition(), Condition::Degraded(reason) if reason == "needs a restart to take effect: policyDir")
        );
        assert_eq!(state.read(Ok(wanted)), Outcome::default(), "said once");
        let back = effective(&[("defaultFilePosture", "block"), ("policyDir", "/a"), ("logLevel", "info")]);
        assert_eq!(state.read(Ok(back)), Outcome::default());
        assert_eq!(state.condition(), Condition::Good, "the file says again what the node runs with");
    }

    #[test]
    fn unit_reload_takes_over_peers_where_there_are_links() {
        for has_links in [true, false] {
            let mut state = State::new(effective(&[("linkPeers", "b=10.0.0.2:7117")]), has_links);
            let outcome = state.read(Ok(effective(&[("linkPeers", "b=10.0.0.3:7117")])));
            assert_eq!(outcome.applied.is_empty(), !has_links, "{outcome:?}");
            assert_eq!(state.condition() == Condition::Good, has_links, "{:?}", state.condition());
        }
    }

    #[test]
    fn unit_reload_keeps_the_last_good_configuration_while_the_file_is_broken() {
        let mut state = State::new(effective(&[("logLevel", "info")]), false);
        let problems = names(&["c.yaml:1:1: a", "c.yaml:2:1: b", "c.yaml:3:1: c", "c.yaml:4:1: d"]);
        assert_eq!(state.read(Err(problems.clone())).broken, problems);
        let Condition::Degraded(reason) = state.condition() else { panic!("degraded") };
        assert!(
            reason.starts_with("the last good configuration stays in force: c.yaml:1:1: a; ")
                && reason.ends_with(" and 1 more; mend it, and look by `palisade config validate`"),
            "{reason}"
        );
        assert_eq!(state.read(Err(problems)), Outcome::default(), "said once");
        assert_eq!(state.read(Ok(effective(&[("logLevel", "debug")]))).applied, ["logLevel"]);
        assert_eq!(state.condition(), Condition::Good);
    }
}
