//! What was done: the body of a record in words, ours and KubeArmor's.

use palisade_domain::{KubeArmorOperation, Operation, Subject, text::lossless};
use palisade_kernel_abi::record::{Body, CallNumber, Exec, Open, Ptrace, Record, Script, Text};

use super::{files, kernel, network};
use crate::{names, processes::command_line};

/// The detail that names the call.
const SYSCALL: &str = "syscall";

/// An act in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Ours.
    pub subject: Subject,
    /// KubeArmor's.
    pub operation: KubeArmorOperation,
    /// KubeArmor's name of what was acted on.
    pub resource: String,
    /// The call, or the hook, and what it was given: keys as in KubeArmor's `data`.
    pub details: Vec<(&'static str, String)>,
    /// What the call returned, where that is told: 0 and up is success.
    pub result: Option<i64>,
}

impl Act {
    /// An act whose resource is called the same by both.
    pub(super) fn new(operation: Operation, theirs: KubeArmorOperation, resource: String) -> Self {
        let subject = Subject { operation, resource: resource.clone(), resource_cut: false };
        Self { subject, operation: theirs, resource, details: Vec::new(), result: None }
    }

    pub(super) fn on(operation: Operation, theirs: KubeArmorOperation, path: &Text<'_>) -> Self {
        Self::new(operation, theirs, lossless(path.bytes)).cut(path.cut)
    }

    pub(super) fn cut(mut self, cut: bool) -> Self {
        self.subject.resource_cut |= cut;
        self
    }

    pub(super) fn called(self, syscall: &str) -> Self {
        self.with(SYSCALL, format!("SYS_{syscall}"))
    }

    /// In the place of the call that stands for all of its kind.
    fn called_exactly(mut self, call: CallNumber) -> Self {
        if let Some((_, name)) = self.details.iter_mut().find(|(key, _)| *key == SYSCALL) {
            *name = names::syscall(call.number.into(), call.is_compat);
        }
        self
    }

    pub(super) fn with(mut self, key: &'static str, value: String) -> Self {
        self.details.push((key, value));
        self
    }

    /// With a string of the record: left out where it is empty, and said where it could not be read.
    pub(super) fn with_text(self, key: &'static str, text: &Text<'_>) -> Self {
        match text {
            Text { unreadable: true, .. } => self.with(key, "(unreadable)".to_owned()),
            Text { bytes: [], .. } => self,
            _ => self.with(key, lossless(text.bytes)),
        }
    }

    pub(super) fn returned(mut self, result: impl Into<i64>) -> Self {
        self.result = Some(result.into());
        self
    }
}

/// The act of a record; `None` for those that are about processes only. `unix_minus_boot_ns` turns the record's clock into wall-clock time.
/// Which of the calls that do the same it was, the record's head tells where anything does; else it is the one that stands for all of them.
#[must_use]
pub fn act(record: &Record<'_>, unix_minus_boot_ns: u64) -> Option<Act> {
    let act = of_body(&record.body, unix_minus_boot_ns)?;
    Some(match record.header.call {
        Some(call) => act.called_exactly(call),
        None => act,
    })
}

fn of_body(body: &Body<'_>, unix_minus_boot_ns: u64) -> Option<Act> {
    Some(match body {
        Body::Exec(exec) => executed(exec),
        Body::Open(open) => opened(open),
        Body::Socket(network) => network::socket(network),
        Body::Connect(network) => network::connect(network),
        Body::Ptrace(ptrace) => traced(ptrace),
        Body::FileChange(change) => files::change(change),
        Body::Bind(network) => network::bind(network),
        Body::Accept(network) => network::at_endpoint(Operation::Accept, "ACCEPT", network),
        Body::Send(network) => network::at_endpoint(Operation::Send, "SENDTO", network),
        Body::Mount(mount) => files::mount(mount),
        Body::Credentials(credentials) => kernel::credentials(credentials),
        Body::Signal(signal) => kernel::signal(signal),
        Body::Module(module) => kernel::module(module),
        Body::Bpf(bpf) => kernel::bpf(bpf),
        Body::Namespace(namespace) => kernel::namespace(namespace),
        Body::Memfd(memfd) => files::memfd(memfd),
        Body::IoUring(ring) => kernel::io_uring(ring),
        Body::ProcessAccess(access) => kernel::process_access(access),
        Body::Dns(dns) => kernel::dns(dns),
        Body::Capability(capability) => kernel::capability(capability),
        Body::Syscall(call) => kernel::syscall(call),
        Body::Folded(folded) => kernel::folded(folded, unix_minus_boot_ns),
        Body::Fork(_) | Body::Exit(_) => return None,
    })
}

/// KubeArmor's resource of an exec has the arguments behind the path.
fn executed(exec: &Exec<'_>) -> Act {
    let mut act = Act::on(Operation::Exec, KubeArmorOperation::Process, &exec.path).called("EXECVE");
    let arguments: Vec<String> = exec.arguments().skip(1).map(lossless).collect();
    act.resource = command_line(&act.resource, arguments.iter().map(String::as_str));
    if exec.argument_bytes.cut {
        act = act.with("argumentsCut", "true".to_owned());
    }
    interpreted(act, exec.script)
}

/// The act is the interpreter's: what it interprets, and whether that is the file's path or what the caller called it.
fn interpreted(act: Act, script: Script<'_>) -> Act {
    let Script::Interpreted { path, count } = script else { return act };
    let act = act.with_text("script", &path);
    let act = if path.user { act.with("scriptFrom", "caller".to_owned()) } else { act };
    let act = if path.cut { act.with("scriptCut", "true".to_owned()) } else { act };
    if count > 1 { act.with("scripts", count.to_string()) } else { act }
}

fn opened(open: &Open<'_>) -> Act {
    let act = Act::on(Operation::Open, KubeArmorOperation::File, &open.path).called("OPENAT");
    let act = if open.path.user { act.with("pathFrom", "caller".to_owned()) } else { act };
    act.with("flags", names::open_flags(open.flags)).returned(open.result)
}

fn traced(ptrace: &Ptrace<'_>) -> Act {
    let resource = format!("pid {} ({})", ptrace.target_tgid, lossless(ptrace.target_exe.bytes));
    Act::new(Operation::Ptrace, KubeArmorOperation::Syscall, resource)
        .cut(ptrace.target_exe.cut)
        .called("PTRACE")
        .with("request", names::ptrace(ptrace.request))
        .with("pid", ptrace.target_tgid.to_string())
}
