//! The place where acts are real: which files are there and whose, who acts, who is traced, which sockets there are; and the corpus' rules
//! moved to it.
//!
//! Invariant: nothing that the acting programs need for themselves lies below [`BELOW`], and none of them opens anything while rules are in
//! force, so that a posture may block all files.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use palisade_policy::{
    PolicyFile,
    ir::{CapabilityMatch, DestinationMatch, Matcher, PathMatch, PathRule, Rule, SocketMatch, WorkloadRules},
};

use crate::corpus::Random;

/// Where files of the rules are.
pub const BELOW: &str = "/gen";
/// An executable that acts.
pub const ONE: &str = "/acting/one";
/// Another.
pub const OTHER: &str = "/acting/other";
/// Executables of processes that are traced.
pub const TRACED: [&str; 2] = ["/acting/traced", "/acting/deep/traced"];
/// A file that no rule names, given away to try [`CAPABILITIES`].
pub const OWNED: &str = "/acting/owned";
/// Whose every other file is; the acting user is root.
pub const OTHER_USER: u32 = 4321;
/// What acts can use alone: `CAP_CHOWN` and `CAP_SYS_CHROOT`.
pub const CAPABILITIES: [u8; 2] = [0, 18];
/// Domain, type and protocol of sockets that any kernel makes for root.
pub const SOCKETS: [(u8, u8, u8); 15] = [
    (1, 1, 0),
    (1, 2, 0),
    (1, 5, 0),
    (2, 1, 0),
    (2, 1, 6),
    (2, 2, 0),
    (2, 2, 17),
    (2, 3, 1),
    (2, 3, 17),
    (10, 1, 0),
    (10, 2, 17),
    (10, 3, 58),
    (16, 3, 0),
    (17, 3, 0),
    (17, 2, 0),
];
/// As policies name sockets.
const PROTOCOLS: [&str; 11] =
    ["tcp", "udp", "icmp", "icmpv6", "raw", "stream", "dgram", "seqpacket", "packet", "all", "TCP,UDP"];

/// Whether the acting user owns a file of this name.
#[must_use]
pub fn is_own(path: &str) -> bool {
    path.bytes().fold(0_u8, u8::wrapping_add).is_multiple_of(2)
}

/// Whether such a socket takes `CAP_NET_RAW`.
#[must_use]
pub const fn is_raw(domain: u8, kind: u8) -> bool {
    domain == 17 || (kind == 3 && matches!(domain, 2 | 10))
}

/// The rules of files and executions, below [`BELOW`].
#[must_use]
pub fn of_paths(generated: &WorkloadRules) -> WorkloadRules {
    let each = |known: &Rule| {
        let whole = |path: &PathRule| PathRule { path: below(&path.path), ..path.clone() };
        match &known.matcher {
            Matcher::Process(path) => Some(Matcher::Process(whole(path))),
            Matcher::File(path) => Some(Matcher::File(whole(path))),
            _ => None,
        }
    };
    moved(generated, each)
}

/// The rules of everything else that can be done for real.
#[must_use]
pub fn of_others(generated: &WorkloadRules) -> WorkloadRules {
    let each = |known: &Rule| match &known.matcher {
        Matcher::Ptrace(path) => Some(Matcher::Ptrace(traced(path))),
        Matcher::Socket(socket) => {
            let any: usize = socket
                .any_of
                .iter()
                .flat_map(|shape| [shape.domain, shape.kind, shape.protocol])
                .flatten()
                .map(usize::from)
                .sum();
            let named = &NAMED_SOCKETS[any % NAMED_SOCKETS.len()];
            Some(Matcher::Socket(SocketMatch { pts: socket.pts, ..named.clone() }))
        }
        Matcher::Destination(destination) => {
            let cidr = destination.cidr.map(|(address, bits)| (near(address), bits));
            Some(Matcher::Destination(DestinationMatch { cidr, ..destination.clone() }))
        }
        Matcher::Capability(capability) => {
            let number = [0, 13, 18][usize::from(capability.number) % 3];
            Some(Matcher::Capability(CapabilityMatch { name: number.to_string(), number }))
        }
        Matcher::Dns(_) => Some(known.matcher.clone()),
        _ => None,
    };
    moved(generated, each)
}

fn moved(generated: &WorkloadRules, each: impl Fn(&Rule) -> Option<Matcher>) -> WorkloadRules {
    let rules = generated.rules.iter().filter_map(|known| {
        let sources = known.sources.iter().map(|source| acting(source)).collect();
        // Only rules on system calls have directories of sources.
        Some(Rule { matcher: each(known)?, sources, source_directories: BTreeSet::new(), ..(**known).clone() }.into())
    });
    WorkloadRules { rules: rules.collect(), unheld: Vec::new(), postures: generated.postures }
}

/// Two of the corpus' sources act, the others never do.
fn acting(source: &str) -> String {
    match source {
        "/a" => ONE.to_owned(),
        "/ab" => OTHER.to_owned(),
        other => format!("{BELOW}{other}"),
    }
}

/// The same paths, below [`BELOW`].
#[must_use]
pub fn below(path: &PathMatch) -> PathMatch {
    match path {
        PathMatch::Exact(path) => PathMatch::Exact(format!("{BELOW}{path}")),
        PathMatch::Directory { directory, recursive } => {
            PathMatch::Directory { directory: format!("{BELOW}{directory}"), recursive: *recursive }
        }
        PathMatch::Pattern(pattern) => PathMatch::Pattern(format!("{BELOW}{pattern}")),
        PathMatch::Any => PathMatch::Pattern(format!("{BELOW}/**")),
        PathMatch::Name(name) => PathMatch::Name(name.clone()),
    }
}

/// Paths of the same form that traced executables may have.
fn traced(path: &PathMatch) -> PathMatch {
    let pick = |text: &str, from: [&str; 4]| from[text.bytes().map(usize::from).sum::<usize>() % 4].to_owned();
    match path {
        PathMatch::Exact(path) => PathMatch::Exact(pick(path, [TRACED[0], TRACED[1], ONE, "/acting/deep"])),
        PathMatch::Directory { directory, recursive } => {
            let directory = pick(directory, ["/acting/", "/acting/deep/", "/acting/", "/gen/"]);
            PathMatch::Directory { directory, recursive: *recursive }
        }
        PathMatch::Pattern(pattern) => {
            PathMatch::Pattern(pick(pattern, ["/acting/*", "/acting/**", "/**/tr[a-c]ced", "/acting/{deep,x}/t*"]))
        }
        PathMatch::Name(name) => PathMatch::Name(pick(name, ["traced", "traced", "one", "deep"])),
        PathMatch::Any => PathMatch::Any,
    }
}

/// An address of this machine for any of the corpus'.
#[must_use]
pub fn near(address: IpAddr) -> IpAddr {
    let of = |v4: Ipv4Addr| {
        let [_, second, third, last] = v4.octets();
        // All zeros is a broadcast of the network, which sockets are refused for another reason.
        Ipv4Addr::new(127, second, third, last.max(1))
    };
    match address {
        IpAddr::V4(v4) if v4.is_unspecified() => address,
        IpAddr::V4(v4) => IpAddr::V4(of(v4)),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V6(of(v4).to_ipv6_mapped()),
            None if v6.is_unspecified() => address,
            None => IpAddr::V6(Ipv6Addr::LOCALHOST),
        },
    }
}

/// What the policy language makes of each name.
static NAMED_SOCKETS: LazyLock<Vec<SocketMatch>> = LazyLock::new(|| {
    let each = PROTOCOLS.iter().flat_map(|name| {
        let text = format!(
            "apiVersion: palisade.dev/v1alpha1\nkind: PalisadePolicy\nmetadata: {{name: p}}\nspec:\n  selector: {{}}\n  \
             network: {{matchProtocols: [{{protocol: \"{name}\"}}]}}\n"
        );
        let policies = PolicyFile::parse("f", text.as_bytes()).policies;
        policies.iter().flat_map(|policy| policy.rules.clone()).collect::<Vec<_>>()
    });
    let matches: Vec<SocketMatch> = each
        .filter_map(|rule| match &rule.matcher {
            Matcher::Socket(socket) => Some(socket.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(matches.len(), PROTOCOLS.len() + 1, "each name is read, two of the last: {matches:?}");
    matches
});

/// Whether a file may have this name beside those: no component is none, and no file is a directory.
#[must_use]
pub fn can_be(path: &str, files: &BTreeSet<String>) -> bool {
    let Some(rest) = path.strip_prefix(BELOW).and_then(|rest| rest.strip_prefix('/')) else { return false };
    let sound = rest.split('/').all(|component| {
        !component.is_empty()
            && component != "."
            && component != ".."
            && component.len() <= 255
            && !component.contains('\u{1f}')
    });
    let lies_in = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    sound && files.iter().all(|known| known == path || (!lies_in(path, known) && !lies_in(known, path)))
}

/// A directory that is there because the file is.
pub(crate) fn directory_of(random: &mut Random, path: &str) -> String {
    let cuts: Vec<usize> = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0).collect();
    path[..random.pick(&cuts)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_differential_names_of_files_leave_room_for_each_other() {
        let files: BTreeSet<String> = ["/gen/a/b".to_owned()].into();
        assert!(can_be("/gen/a/c", &files) && can_be("/gen/a/b", &files) && can_be("/gen/...", &files));
        for not in ["/gen/a", "/gen/a/b/c", "/gen/", "/gen//x", "/gen/../x", "/etc/x", "/gen/a/"] {
            assert!(!can_be(not, &files), "{not}");
        }
    }
}
