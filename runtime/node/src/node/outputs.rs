//! Where lines go, as the node is told: what its alerts actor writes to at its start, and after a change.
//!
//! Invariant: a file whose bounds alone change goes on as the same file, so that no two threads ever rotate one.

use std::{io, path::Path};

use palisade_alerts::throttle::Limit;
use palisade_sinks::{FileBounds, Queued, RotatingFile, Stdout};
use palisade_world::AlertSink;

use crate::arguments::NodeArguments;

/// Those of alerts, and those of logs.
pub struct Sinks {
    pub sinks: Vec<Box<dyn AlertSink>>,
    pub log_sinks: Vec<Box<dyn AlertSink>>,
}

/// The bounds of both files, which every sink that is made here shares.
#[derive(Debug, Clone)]
pub struct Outputs {
    alerts: FileBounds,
    logs: FileBounds,
}

impl Outputs {
    /// As told at the start.
    pub fn new(arguments: &NodeArguments) -> Self {
        Self {
            alerts: FileBounds::new(arguments.alert_file_bytes, arguments.alert_file_keep),
            logs: FileBounds::new(arguments.log_file_bytes, arguments.log_file_keep),
        }
    }

    /// Bounds from now on.
    pub fn set_bounds(&self, arguments: &NodeArguments) {
        self.alerts.set(arguments.alert_file_bytes, arguments.alert_file_keep);
        self.logs.set(arguments.log_file_bytes, arguments.log_file_keep);
    }

    /// The sinks that are asked for. Files are opened with their first lines.
    ///
    /// # Errors
    /// The operating system makes no thread.
    pub fn sinks(&self, arguments: &NodeArguments) -> io::Result<Sinks> {
        let (alert_file, log_file) = (arguments.alert_file.as_deref(), arguments.log_file.as_deref());
        Ok(Sinks {
            sinks: all(!arguments.no_alert_stdout, alert_file, &self.alerts)?,
            log_sinks: all(arguments.log_stdout, log_file, &self.logs)?,
        })
    }
}

fn all(stdout: bool, path: Option<&Path>, bounds: &FileBounds) -> io::Result<Vec<Box<dyn AlertSink>>> {
    let queued = |sink: Box<dyn AlertSink>| Queued::start(sink).map(|sink| Box::new(sink) as Box<dyn AlertSink>);
    let stdout = stdout.then(|| Box::new(Stdout) as Box<dyn AlertSink>);
    let file = path.map(|path| Box::new(RotatingFile::within(path, bounds.clone())) as Box<dyn AlertSink>);
    stdout.into_iter().chain(file).map(queued).collect()
}

/// When alerts of one workload are too many; `None`: never.
pub fn throttle(arguments: &NodeArguments) -> Option<Limit> {
    let limit = Limit { per_second: arguments.max_alert_per_sec, silence_seconds: arguments.throttle_sec };
    (!arguments.no_alert_throttling).then_some(limit)
}
