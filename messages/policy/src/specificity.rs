//! Where a rule stands in the verdict order, computed from its own fields only.
//!
//! Units of `length`: bytes of literal prefix for paths, 0 for bare names (two different ones never match the same path).
//! For a destination, 64 x prefix bits + 2 x port (17 for one port, one less for each doubling of the range, 0 without) + 1
//! with a protocol, so that they count in this order. For a socket, 8 for each fixed field (family, type, protocol), of the
//! least specific of its shapes. For a domain its bytes: of two that hold one name, one ends in the other. For a USB device
//! KubeArmor's sum: 100 for the level, 100 for the class, 10 for the subclass, 1 for the protocol.

use crate::{
    ir::{DestinationMatch, DeviceMatch, Matcher, PathMatch, Rule, SocketMatch, SocketShape, Specificity},
    pattern::literal_prefix_bytes,
};

const EXACT: u8 = 2;
const NAME: u8 = 1;
const SCALED: u8 = 0;

impl Rule {
    /// Where the rule stands among rules that match the same act. On a tie the greater [`palisade_domain::Action`] wins.
    #[must_use]
    pub fn specificity(&self) -> Specificity {
        let (kind, length) = match &self.matcher {
            Matcher::Process(rule) | Matcher::File(rule) => of_path(&rule.path),
            Matcher::Ptrace(path) => of_path(path),
            Matcher::Socket(socket) => (SCALED, of_socket(socket)),
            Matcher::Destination(destination) => (EXACT, of_destination(destination)),
            Matcher::Capability(_) | Matcher::Preset(_) => (EXACT, 0),
            // A call about a named path is said more exactly than the call alone.
            Matcher::Syscall(syscall) => syscall.path.as_ref().map_or((SCALED, 0), of_path),
            Matcher::Dns(dns) => (SCALED, u32::try_from(dns.domain.len()).unwrap_or(u32::MAX)),
            Matcher::Device(device) => (SCALED, of_device(device)),
        };
        Specificity { has_source: !self.sources.is_empty() || !self.source_directories.is_empty(), kind, length }
    }
}

fn of_path(path: &PathMatch) -> (u8, u32) {
    let (kind, bytes) = match path {
        PathMatch::Exact(path) => (EXACT, path.len()),
        PathMatch::Name(_) => (NAME, 0),
        PathMatch::Directory { directory, .. } => (SCALED, directory.len()),
        PathMatch::Pattern(pattern) => (SCALED, literal_prefix_bytes(pattern)),
        PathMatch::Any => (SCALED, 0),
    };
    (kind, u32::try_from(bytes).unwrap_or(u32::MAX))
}

fn of_socket(socket: &SocketMatch) -> u32 {
    let fixed = |shape: &SocketShape| {
        8 * [shape.domain, shape.kind, shape.protocol].iter().map(|field| u32::from(field.is_some())).sum::<u32>()
    };
    socket.any_of.iter().map(fixed).min().unwrap_or(0)
}

fn of_destination(destination: &DestinationMatch) -> u32 {
    let prefix_bits = destination.cidr.map_or(0, |(_, bits)| u32::from(bits));
    let port = destination.ports.map_or(0, |(low, high)| 1 + high.saturating_sub(low).leading_zeros());
    64 * prefix_bits + 2 * port + u32::from(destination.protocol.is_some())
}

fn of_device(device: &DeviceMatch) -> u32 {
    100 + 100 * u32::from(device.level.is_some())
        + 10 * u32::from(device.sub_class.is_some())
        + u32::from(device.protocol.is_some())
}
