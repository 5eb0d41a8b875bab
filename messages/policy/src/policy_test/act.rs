//! What a workload does in a case: one act, in the numbers that the kernel uses.

use std::net::IpAddr;

use crate::{
    capability, device,
    diagnostic::{Diagnostic, Problems, quoted},
    dns,
    fields::{self, Fields, listed},
    ir::{CapabilityMatch, Preset},
    path, preset, protocol, syscall,
    yaml::Node,
};

/// One act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Execution of a file.
    Exec(ExecAct),
    /// Opening of a file.
    Open(OpenAct),
    /// Creation of a socket.
    Socket(SocketAct),
    /// Connection to a destination.
    Connect(ConnectAct),
    /// Tracing of a process.
    Ptrace(PtraceAct),
    /// A question to a DNS server.
    Dns(DnsAct),
    /// Use of a capability.
    Capability(CapabilityAct),
    /// A system call.
    Syscall(SyscallAct),
    /// What a preset protects from.
    Preset(PresetAct),
    /// A USB device comes. No compiled policy has it, so that only an explanation can be asked about it.
    Device(DeviceAct),
}

/// Execution of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecAct {
    /// The file.
    pub path: String,
    /// The executable that calls exec, where it is known.
    pub source: Option<String>,
    /// The new process's arguments.
    pub args: Vec<String>,
    /// Who acts.
    pub uid: u32,
    /// Whose the file is.
    pub owner: u32,
    /// The acting process has a controlling terminal.
    pub tty: bool,
}

/// Opening of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenAct {
    /// The file.
    pub path: String,
    /// The acting executable, where it is known.
    pub source: Option<String>,
    /// For writing, or a change of the file or its name: unlink, rename, chmod, a mount over it.
    pub write: bool,
    /// Who acts.
    pub uid: u32,
    /// Whose the file is.
    pub owner: u32,
    /// The acting process has a controlling terminal.
    pub tty: bool,
}

/// Creation of a socket, by the numbers of `socket(2)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketAct {
    /// `AF_*`.
    pub domain: u8,
    /// `SOCK_*`.
    pub kind: u8,
    /// `IPPROTO_*`; 0 is the type's default.
    pub protocol: u8,
    /// The acting executable, where it is known.
    pub source: Option<String>,
    /// The acting process has a controlling terminal.
    pub tty: bool,
}

/// Connection to a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectAct {
    /// Where to.
    pub address: IpAddr,
    /// Which port.
    pub port: u16,
    /// `SOCK_*` of the socket.
    pub kind: u8,
    /// `IPPROTO_*`.
    pub protocol: u8,
    /// The acting executable, where it is known.
    pub source: Option<String>,
    /// The acting process has a controlling terminal.
    pub tty: bool,
}

/// Tracing of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PtraceAct {
    /// The traced process's executable.
    pub target: String,
    /// The acting executable, where it is known.
    pub source: Option<String>,
}

/// A question to a DNS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsAct {
    /// The name, lower case, without a trailing dot.
    pub name: String,
    /// The acting executable, where it is known.
    pub source: Option<String>,
}

/// Use of a capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapabilityAct {
    /// Lower case, without `cap_`.
    pub name: String,
    /// `CAP_*`.
    pub number: u8,
    /// The acting executable, where it is known.
    pub source: Option<String>,
}

/// A system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyscallAct {
    /// Its name.
    pub name: String,
    /// Of x86-64; the call is made by it where there is one.
    pub number: Option<u16>,
    /// Of i386.
    pub number32: Option<u16>,
    /// The file that it is about, if it is about one.
    pub path: Option<String>,
    /// The acting executable, where it is known.
    pub source: Option<String>,
}

/// What a preset protects from, whatever it is done to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresetAct {
    /// Which one.
    pub preset: Preset,
}

/// A USB device, by the numbers of its descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceAct {
    /// Its class, or its interface's.
    pub class: u8,
    /// Its subclass.
    pub sub_class: u8,
    /// Its protocol.
    pub protocol: u8,
    /// Hubs on the way to it, its own port included.
    pub level: u32,
}

/// The last one only of explanations: a case about it is refused.
const ACTS: [&str; 10] =
    ["exec", "open", "socket", "connect", "ptrace", "dns", "capability", "syscall", "preset", "device"];

impl Act {
    /// Reads one act as a case writes it: `exec: {path: /bin/sh, source: /bin/bash}`. `file` is what messages call the text.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Diagnostic>> {
        let mut problems = Problems::new(file);
        let mut acts = Vec::new();
        crate::policy_file::for_each_document(text.as_bytes(), &mut problems, |document, problems| {
            let Some(mut fields) = Fields::of(&document, "", problems) else { return };
            acts.extend(read(&mut fields, problems));
            fields.close(problems);
        });
        let refused = problems.refusals() > 0;
        match acts.pop() {
            Some(act) if !refused && acts.is_empty() => Ok(act),
            _ => Err(problems.into_diagnostics()),
        }
    }
}

/// Reads the case's one act.
pub(super) fn read(case: &mut Fields<'_>, problems: &mut Problems) -> Option<Act> {
    let written: Vec<(&str, &Node)> = ACTS.iter().filter_map(|name| case.get(name).map(|node| (*name, node))).collect();
    let (name, node) = match written.as_slice() {
        [one] => *one,
        [] => {
            let what = format!("{} has no act", quoted(&case.place));
            problems.error(case.at, what, "a case is about one act", format!("write one of {}", listed(&ACTS[..9])));
            return None;
        }
        [_, (second, node), ..] => {
            let what = format!("`{second}` is a second act");
            problems.error(node.at, what, "a case is about one act", "write another case for it");
            return None;
        }
    };
    let mut fields = Fields::of(node, case.place_of(name), problems)?;
    let act = match name {
        "exec" => exec(&mut fields, problems).map(Act::Exec),
        "open" => open(&mut fields, problems).map(Act::Open),
        "socket" => socket(&mut fields, problems).map(Act::Socket),
        "connect" => connect(&mut fields, problems).map(Act::Connect),
        "ptrace" => ptrace(&mut fields, problems).map(Act::Ptrace),
        "dns" => dns(&mut fields, problems).map(Act::Dns),
        "capability" => capability(&mut fields, problems).map(Act::Capability),
        "syscall" => syscall(&mut fields, problems).map(Act::Syscall),
        "preset" => preset(&mut fields, problems).map(Act::Preset),
        _ => device(&mut fields, problems).map(Act::Device),
    };
    fields.close(problems);
    act
}

fn exec(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<ExecAct> {
    let path = required_path(fields, "path", problems);
    let source = optional_path(fields, "source", problems);
    let args = fields.get("args").map(|node| texts(node, &fields.place_of("args"), problems)).unwrap_or_default();
    let (uid, owner) = (user(fields, "uid", problems), user(fields, "owner", problems));
    let tty = fields::flag(fields, "tty", problems);
    Some(ExecAct { path: path?, source, args, uid, owner, tty })
}

fn open(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<OpenAct> {
    let path = required_path(fields, "path", problems);
    let source = optional_path(fields, "source", problems);
    let write = fields::flag(fields, "write", problems);
    let (uid, owner) = (user(fields, "uid", problems), user(fields, "owner", problems));
    let tty = fields::flag(fields, "tty", problems);
    Some(OpenAct { path: path?, source, write, uid, owner, tty })
}

/// The family is `inet` where absent, and the type what the protocol usually has.
fn socket(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<SocketAct> {
    let before = problems.refusals();
    let domain = number(fields, "family", &protocol::FAMILIES, problems).unwrap_or(protocol::AF_INET);
    let kind = number(fields, "type", &protocol::TYPES, problems);
    let protocol = number(fields, "protocol", &protocol::PROTOCOLS, problems).unwrap_or(protocol::IPPROTO_DEFAULT);
    let source = optional_path(fields, "source", problems);
    let tty = fields::flag(fields, "tty", problems);
    let kind = kind.unwrap_or_else(|| protocol::usual_type(protocol));
    (problems.refusals() == before).then_some(SocketAct { domain, kind, protocol, source, tty })
}

/// TCP where no protocol is given.
fn connect(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<ConnectAct> {
    let before = problems.refusals();
    let address = fields.require("address", "write `address: 10.0.0.1`", problems).and_then(|node| {
        let place = fields.place_of("address");
        let written = fields::text(node, &place, problems)?;
        let address = written.parse::<IpAddr>().ok();
        if address.is_none() {
            let what = format!("{} is {}", quoted(&place), quoted(written));
            problems.error(node.at, what, "it is no IP address", "write one such as `10.0.0.1` or `fd00::1`");
        }
        address
    });
    let port = fields
        .require("port", "write `port: 443`", problems)
        .and_then(|node| fields::integer(node, &fields.place_of("port"), 0, u16::MAX.into(), problems));
    let protocol = number(fields, "protocol", &protocol::PROTOCOLS, problems).unwrap_or(protocol::IPPROTO_TCP);
    let source = optional_path(fields, "source", problems);
    let tty = fields::flag(fields, "tty", problems);
    let (address, port) = (address?, u16::try_from(port?).ok()?);
    let kind = protocol::usual_type(protocol);
    (problems.refusals() == before).then_some(ConnectAct { address, port, kind, protocol, source, tty })
}

fn ptrace(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<PtraceAct> {
    let target = required_path(fields, "target", problems);
    let source = optional_path(fields, "source", problems);
    Some(PtraceAct { target: target?, source })
}

fn dns(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<DnsAct> {
    let node = fields.require("name", "write `name: example.com`", problems);
    let name = node.and_then(|node| dns::domain(node, &fields.place_of("name"), problems));
    let source = optional_path(fields, "source", problems);
    Some(DnsAct { name: name?, source })
}

fn capability(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<CapabilityAct> {
    let node = fields.require("name", "write `name: net_raw`", problems);
    let capability = node.and_then(|node| capability::named(node, &fields.place_of("name"), problems));
    let source = optional_path(fields, "source", problems);
    let CapabilityMatch { name, number } = capability?;
    Some(CapabilityAct { name, number, source })
}

fn syscall(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<SyscallAct> {
    let node = fields.require("name", "write `name: ptrace`", problems);
    let call = node.and_then(|node| syscall::named(node, &fields.place_of("name"), problems));
    let path = optional_path(fields, "path", problems);
    let source = optional_path(fields, "source", problems);
    let (name, (number, number32)) = call?;
    Some(SyscallAct { name: name.to_owned(), number, number32, path, source })
}

fn preset(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<PresetAct> {
    let node = fields.require("name", "write `name: filelessExec`", problems);
    let preset = node.and_then(|node| preset::named(node, &fields.place_of("name"), problems));
    Some(PresetAct { preset: preset? })
}

/// Subclass and protocol are 0 where absent, and the device is at the root hub.
fn device(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<DeviceAct> {
    let before = problems.refusals();
    let device = device::read_match(fields, problems);
    let class = device.as_ref().and_then(|device| device.class);
    if class.is_none() && problems.refusals() == before {
        let what = format!("{} is of every class", quoted(&fields.place));
        problems.error(fields.at, what, "a device has one class", "write a name such as `MASS-STORAGE`, or a number");
    }
    let device = device?;
    let (sub_class, protocol) = (device.sub_class.unwrap_or(0), device.protocol.unwrap_or(0));
    Some(DeviceAct { class: class?, sub_class, protocol, level: device.level.unwrap_or(1) })
}

fn required_path(fields: &mut Fields<'_>, name: &'static str, problems: &mut Problems) -> Option<String> {
    let node = fields.require(name, "write an absolute path", problems)?;
    path::absolute(node, &fields.place_of(name), problems)
}

fn optional_path(fields: &mut Fields<'_>, name: &'static str, problems: &mut Problems) -> Option<String> {
    let node = fields.get(name)?;
    path::absolute(node, &fields.place_of(name), problems)
}

fn user(fields: &mut Fields<'_>, name: &'static str, problems: &mut Problems) -> u32 {
    let id = fields.get(name).and_then(|node| {
        let id = fields::integer(node, &fields.place_of(name), 0, u32::MAX.into(), problems)?;
        u32::try_from(id).ok()
    });
    id.unwrap_or(0)
}

/// A name of the table, or a number.
fn number(fields: &mut Fields<'_>, name: &'static str, table: &[(&str, u8)], problems: &mut Problems) -> Option<u8> {
    let node = fields.get(name)?;
    let place = fields.place_of(name);
    if node.noun() == "a number" {
        return fields::integer(node, &place, 0, 255, problems).and_then(|number| u8::try_from(number).ok());
    }
    let written = fields::text(node, &place, problems)?;
    let found = table.iter().find(|(known, _)| known.eq_ignore_ascii_case(written));
    if found.is_none() {
        let names: Vec<&str> = table.iter().map(|(known, _)| *known).collect();
        let what = format!("{} is {}", quoted(&place), quoted(written));
        problems.error(node.at, what, "it is not known", format!("write one of {}, or a number", listed(&names)));
    }
    found.map(|(_, number)| *number)
}

/// Arguments: numbers and booleans are taken as they are written.
fn texts(node: &Node, place: &str, problems: &mut Problems) -> Vec<String> {
    use crate::yaml::Value;
    let mut texts = Vec::new();
    for (index, item) in fields::list(node, place, problems).iter().enumerate() {
        match &item.value {
            Value::Scalar { text, .. } => texts.push(text.clone()),
            _ => fields::wrong_kind(item, &format!("{place}[{index}]"), "text", "write one argument an item", problems),
        }
    }
    texts
}
