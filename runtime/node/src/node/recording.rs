//! The recorder as a node runs it.

use std::{sync::Arc, time::Duration};

use palisade_assembly::{Open, Recording};
use palisade_link::MachineRng;
use palisade_protocol::EndRecording;
use palisade_recorder::state::{AroundAlerts, Settings};
use palisade_store::{TraceFiles, TraceThread};
use palisade_supervision::{AskError, Asker, Kept};
use palisade_wire::trace::Header;
use palisade_world::{Rng as _, TraceStore};

use super::tree;
use crate::{arguments::NodeArguments, processes};

const SECOND: u64 = 1_000_000_000;

/// How long traces may take to end when the node stops: at once but where one waits for its disk. Half of what service managers give a node.
const ENDED_WITHIN: Duration = Duration::from_secs(15);

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

/// The node stops: ends what is recorded, before its readers are let go, so that it is whole. Whether all is.
pub async fn end(recorder: &Asker<EndRecording>) -> bool {
    match recorder.ask(EndRecording { id: None }, ENDED_WITHIN).await {
        // A recorder that is over records nothing.
        Ok(_) | Err(AskError::Closed) => true,
        Err(error) => {
            tracing::warn!(%error, within = ?ENDED_WITHIN, "the node stops, and traces that it was making are not whole");
            false
        }
    }
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
    use actix::{Actor, Handler, ResponseFuture};
    use clap::Parser as _;
    use palisade_protocol::RecordingEnd;
    use palisade_supervision::{ChildSpec, Context, Supervisor};

    use super::*;
    use crate::arguments::{Command, Palisade};

    /// A recorder whose disk takes so long.
    struct Slow(Duration);

    impl Actor for Slow {
        type Context = Context<Self>;
    }

    impl Handler<EndRecording> for Slow {
        type Result = ResponseFuture<RecordingEnd>;

        fn handle(&mut self, _: EndRecording, _: &mut Self::Context) -> Self::Result {
            let takes = self.0;
            Box::pin(async move {
                tokio::time::sleep(takes).await;
                RecordingEnd { ended: true, why: None }
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn unit_node_that_stops_waits_for_the_disk_of_a_trace_and_knows_where_that_took_too_long() {
        let is_whole = async |seconds| {
            let mut node = Supervisor::new("node");
            let takes = Duration::from_secs(seconds);
            let recorder = node.add(ChildSpec::new("recorder", move |_| Slow(takes))).asker();
            let tree = node.start(|gave_up| panic!("{gave_up}")).await.expect("it starts");
            let is_whole = end(&recorder).await;
            drop(tree);
            is_whole
        };
        let all = async { (is_whole(10).await, is_whole(60).await) };
        assert_eq!(tokio::task::LocalSet::new().run_until(all).await, (true, false));
    }

    #[test]
    fn unit_node_numbers_recordings_from_elsewhere_at_each_start_of_their_recorder() {
        let Command::Node(arguments) = Palisade::parse_from(["palisade", "node"]).command else { panic!("node") };
        let open = open(&Kept::new(*arguments));
        let first = || open().expect("it opens").settings.first_id;
        assert_ne!(first(), first());
    }
}
