//! The recorder as a node runs it.

use std::sync::Arc;

use palisade_assembly::{Open, Recording};
use palisade_link::MachineRng;
use palisade_recorder::state::{AroundAlerts, Settings};
use palisade_store::{TraceFiles, TraceThread};
use palisade_supervision::Kept;
use palisade_wire::trace::Header;
use palisade_world::{Rng as _, TraceStore};

use super::tree;
use crate::{arguments::NodeArguments, processes};

const SECOND: u64 = 1_000_000_000;

/// What a recorder is built from, at each of its starts.
pub fn open(kept: &Kept<NodeArguments>) -> Open<Recording> {
    let kept = kept.clone();
    Arc::new(move || {
        let arguments = kept.lock().clone();
        let files = |path: &std::path::PathBuf| {
            let store = TraceThread::start(TraceFiles::new(path, arguments.trace_directory_bytes));
            store.map(|store| Box::new(store) as Box<dyn TraceStore>)
        };
        let store = arguments.trace_directory.as_ref().map(files).transpose()?;
        Ok(Recording { settings: settings(&arguments), store, processes: processes::list() })
    })
}

/// Each minute of the past in memory is worth a minute before an alert.
fn settings(arguments: &NodeArguments) -> Settings {
    let minutes = u64::from(arguments.trace_minutes);
    let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    // A trace that is as large as the directory would drive every other one out of it.
    let (ring, directory) = (arguments.trace_memory_bytes, arguments.trace_directory_bytes);
    let limit_bytes = (directory / 4).max(ring.saturating_mul(2)).min(directory);
    if arguments.trace_directory.is_some() && ring > directory / 2 {
        tracing::warn!(
            ring,
            directory,
            "traces around alerts may end before their alert: give the directory twice the bytes of the memory"
        );
    }
    let around = AroundAlerts {
        before_ns: minutes * 60 * SECOND,
        after_ns: nanos(arguments.trace_alert_after),
        pause_ns: nanos(arguments.trace_alert_pause),
        limit_bytes,
        severity: arguments.trace_alert_severity,
        policies: arguments.trace_alert_policies.clone(),
    };
    Settings {
        header: header(arguments),
        ring_bytes: arguments.trace_memory_bytes,
        ring_ns: minutes * 60 * SECOND,
        arguments: arguments.trace_arguments,
        around_alerts: arguments.trace_directory.is_some().then_some(around),
        first_id: MachineRng.below(u64::MAX),
    }
}

fn header(arguments: &NodeArguments) -> Header {
    let alerts = tree::alert_settings(arguments);
    let machine = rustix::system::uname();
    Header {
        node: alerts.names.node,
        cluster: alerts.names.cluster,
        node_id: alerts.names.node_id,
        kernel: machine.release().to_string_lossy().into_owned(),
        architecture: machine.machine().to_string_lossy().into_owned(),
        little_endian: cfg!(target_endian = "little"),
        record_version: palisade_kernel_abi::record::VERSION,
        visibility: alerts.visibility,
        throttle: alerts.throttle.map(|limit| (limit.per_second, limit.silence_seconds)),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        ..Header::default()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::{Command, Palisade};

    #[test]
    fn unit_node_numbers_recordings_from_elsewhere_at_each_start_of_their_recorder() {
        let Command::Node(arguments) = Palisade::parse_from(["palisade", "node"]).command else { panic!("node") };
        let open = open(&Kept::new(*arguments));
        let first = || open().expect("it opens").settings.first_id;
        assert_ne!(first(), first());
    }
}
