//! How the simulated kernel judges a deed: by the very blob that the compiler made, with the walker that the kernel's is held to.

use palisade_kernel_abi::blob::{AcceptId, Blob, Decision, Family, domain_path};

use crate::deed::Deed;

/// What the blob says of the deed, by this executable.
#[must_use]
pub fn judge(blob: &Blob, deed: &Deed, executable: &str) -> Decision {
    let source = blob.source_id(executable.as_bytes());
    let (family, modifiers) = (deed.family(), deed.modifiers());
    match deed {
        Deed::Exec { path, arguments, .. } => {
            let decision = blob.decide(family, blob.path_accept(path.as_bytes()), source, modifiers);
            let met = blob.arguments_meet(decision.arguments, arguments.iter().map(String::as_bytes));
            decision.settled(met)
        }
        Deed::Open { path, .. } | Deed::Ptrace { target: path } => {
            blob.decide(family, blob.path_accept(path.as_bytes()), source, modifiers)
        }
        Deed::Socket { .. } | Deed::Connect { .. } => {
            let symbols = deed.endpoint().map(|endpoint| endpoint.encode());
            let accept = symbols.map_or_else(AcceptId::default, |symbols| blob.network_accept(symbols.as_ref()));
            blob.decide(family, accept, source, modifiers)
        }
        Deed::Capability(number) => blob.decide(family, AcceptId::of_capability(*number), source, modifiers),
        Deed::Dns(name) => blob.decide(family, blob.name_accept(&domain_path(name.as_bytes())), source, modifiers),
    }
}

/// As policies and the matrix call a table's family.
#[must_use]
pub fn family_of(table: Family) -> palisade_domain::Family {
    use palisade_domain::Family as Named;
    match table {
        Family::Process => Named::Process,
        Family::File => Named::File,
        Family::Socket | Family::Connect => Named::Network,
        Family::Ptrace => Named::Ptrace,
        Family::Capability => Named::Capabilities,
        Family::Syscall => Named::Syscalls,
        Family::Dns => Named::Dns,
        Family::Preset => Named::Presets,
    }
}
