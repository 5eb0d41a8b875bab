//! The recorder as a node runs it.

use std::sync::Arc;

use palisade_domain::Slot;
use palisade_protocol::{ConditionReported, RecordAccountOf};
use palisade_recorder::{
    Recorder, Wiring,
    state::{AroundAlerts, Settings},
};
use palisade_store::TraceFiles;
use palisade_supervision::{Asker, ChildSpec, Kept, MailboxOf, Outbox};
use palisade_wire::trace::{Fact, Header, Picture, What};
use palisade_world::TraceStore;

use super::tree;
use crate::{arguments::NodeArguments, clock::MachineClock, processes};

const SECOND: u64 = 1_000_000_000;

/// The recorder; what is so now outlives it, since it is said once.
pub fn recorder(
    arguments: &NodeArguments,
    mailbox: MailboxOf<Recorder>,
    account: Asker<RecordAccountOf>,
    conditions: Outbox<ConditionReported>,
) -> ChildSpec<Recorder> {
    let mut picture = Picture::default();
    let host = What::WorkloadNamed(Slot::HOST, Arc::new(tree::host_workload(arguments)));
    picture.fact(&Fact { boot_ns: 0, what: host });
    let (now, arguments) = (Kept::new(picture), arguments.clone());
    ChildSpec::with_mailbox(mailbox, move |_| {
        let files = |path: &std::path::PathBuf| {
            Box::new(TraceFiles::new(path, arguments.trace_directory_bytes)) as Box<dyn TraceStore>
        };
        let wiring = Wiring {
            account: account.clone(),
            store: arguments.trace_directory.as_ref().map(files),
            conditions: conditions.clone(),
            clock: Arc::new(MachineClock),
        };
        Ok(Recorder::new(settings(&arguments), wiring, now.clone(), processes::list()))
    })
}

/// Each minute of the past in memory is worth a minute before an alert.
fn settings(arguments: &NodeArguments) -> Settings {
    let minutes = u64::from(arguments.trace_minutes);
    let around = AroundAlerts { before_ns: minutes * 60 * SECOND, after_ns: 10 * SECOND };
    Settings {
        header: header(arguments),
        ring_bytes: arguments.trace_memory_bytes,
        ring_ns: minutes * 60 * SECOND,
        arguments: arguments.trace_arguments,
        around_alerts: arguments.trace_directory.is_some().then_some(around),
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
