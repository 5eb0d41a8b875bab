//! The capabilities family: which of Linux's capabilities may be used.
//!
//! Decision: all 41 of Linux, where KubeArmor's schema names 34; with or without `cap_`, in upper or lower case, several with commas
//! between them, as there. KubeArmor's pattern is not anchored at its start, so that it takes `xchown`, and never matches it: refused
//! here, with the nearest name.

use crate::{
    common::Common,
    diagnostic::{Problems, quoted},
    draft::Draft,
    fields::{self, Fields},
    ir::{CapabilityMatch, Matcher},
    suggest,
    yaml::Node,
};

/// `CAP_*` of `include/uapi/linux/capability.h` (Linux 6.18), each at its number.
pub(crate) const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// Lowers `spec.capabilities`.
pub(crate) fn read(spec: &mut Fields<'_>, outer: &Common, draft: &mut Draft<'_>) {
    draft.family(spec, "capabilities", outer, |family, common, draft| {
        draft.items(family, "matchCapabilities", common, |item, draft| {
            let sources = draft.sources(item);
            let place = item.fields.place_of("capability");
            let node = item.fields.require("capability", "write `- capability: net_raw`", draft.problems);
            let Some(node) = node else { return };
            for capability in each_named(node, &place, draft.problems) {
                draft.push(item, Matcher::Capability(capability), sources.clone());
            }
        });
    });
}

/// The capabilities of a field such as `net_raw` or `net_raw,net_admin`, in order, without repetition.
fn each_named(node: &Node, place: &str, problems: &mut Problems) -> Vec<CapabilityMatch> {
    let Some(written) = fields::text(node, place, problems) else { return Vec::new() };
    let mut capabilities: Vec<CapabilityMatch> = Vec::new();
    for name in fields::comma_list(written) {
        let capability = named_so(name, node, place, problems).filter(|one| !capabilities.contains(one));
        capabilities.extend(capability);
    }
    capabilities
}

/// The capability of a name.
pub(crate) fn named(node: &Node, place: &str, problems: &mut Problems) -> Option<CapabilityMatch> {
    let written = fields::text(node, place, problems)?;
    named_so(written, node, place, problems)
}

fn named_so(written: &str, node: &Node, place: &str, problems: &mut Problems) -> Option<CapabilityMatch> {
    let lower = written.to_ascii_lowercase();
    let name = lower.strip_prefix("cap_").unwrap_or(&lower);
    if let Some((number, name)) = (0..).zip(NAMES).find(|(_, known)| *known == name) {
        return Some(CapabilityMatch { name: name.to_owned(), number });
    }
    let instead = match suggest::nearest(name, NAMES) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write one such as `net_raw`: capabilities(7) lists them".to_owned(),
    };
    let what = format!("{} is {}", quoted(place), quoted(written));
    problems.error(node.at, what, "Linux has no such capability", instead);
    None
}
