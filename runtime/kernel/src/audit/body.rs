//! What LSMs tell alike of acts, in words of records.

use palisade_kernel_abi::{
    blob::Endpoint,
    record::{Body, Capability, Network, NetworkOperation, Ptrace, STRING_MAX, Syscall, Text},
};

/// What no line has.
pub(crate) const UNREAD: Text<'static> = Text { bytes: &[], cut: false, user: false, unreadable: true };
/// `PTRACE_ATTACH`: which request it was, no line says.
const PTRACE_ATTACH: u32 = 16;

/// What the call returned.
pub(crate) fn result(denied: bool, errno: i32) -> i32 {
    if denied { -errno } else { 0 }
}

pub(crate) fn socket(made: Endpoint, denied: bool) -> Body<'static> {
    Body::Socket(Network {
        operation: NetworkOperation::Socket,
        domain: made.domain,
        socket_type: made.kind,
        protocol: made.protocol,
        destination: None,
        user: false,
        result: result(denied, libc::EACCES),
    })
}

pub(crate) fn capability(number: u8, denied: bool) -> Body<'static> {
    Body::Capability(Capability { capability: u32::from(number), result: result(denied, libc::EPERM) })
}

pub(crate) fn trace() -> Body<'static> {
    Body::Ptrace(Ptrace { target_exe: UNREAD, request: PTRACE_ATTACH, ..Ptrace::default() })
}

/// Memory was to become executable, by the call with this number.
pub(crate) fn memory(number: libc::c_long, denied: bool) -> Body<'static> {
    let mut arguments = [0; 6];
    arguments[2] = libc::PROT_EXEC.cast_unsigned().into();
    let number = u32::try_from(number).unwrap_or_default();
    let result = result(denied, libc::EACCES).into();
    Body::Syscall(Syscall { number, compat: false, x32: false, result, arguments })
}

/// A path keeps its end.
pub(crate) fn path(bytes: &[u8]) -> Text<'_> {
    let start = bytes.len().saturating_sub(STRING_MAX);
    Text { bytes: &bytes[start..], cut: start > 0, ..Text::default() }
}
