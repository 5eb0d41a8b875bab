//! The verdict semantics once more, rule by rule and byte by byte: the oracle that compiled blobs are held against.
//!
//! Invariant: this shares no code with the compiler nor with a walker: neither globs, nor specificity, nor the canonical order, nor where
//! an address leads; only the types of rules and answers (a test holds it to them). It is slow and made to be read next to the crate's
//! documentation. Differential tests (here, and those of the kernel's walker) use it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use palisade_domain::{Action, Posture};
use palisade_kernel_abi::blob::{Effect, Endpoint, Family, Modifiers};
use palisade_policy::ir::{
    DestinationMatch, Matcher, PathMatch, PathRule, Postures, Preset, Rule, SocketMatch, SourceDirectory, Transport,
    WorkloadRules,
};

/// What is done, and to what.
#[derive(Debug, Clone, Copy)]
pub struct Act<'a> {
    /// Which table decides.
    pub family: Family,
    /// To what.
    pub object: Object<'a>,
    /// The acting executable's path, where it is known.
    pub executable: Option<&'a [u8]>,
    /// Circumstances.
    pub modifiers: Modifiers,
    /// Of an exec, after `argv[0]`.
    pub arguments: &'a [&'a str],
}

/// What an act is done to.
#[derive(Debug, Clone, Copy)]
pub enum Object<'a> {
    /// A file, or the executable of a traced process.
    Path(&'a [u8]),
    /// A socket or a destination.
    Endpoint(Endpoint),
    /// `CAP_*`.
    Capability(u8),
    /// A system call of x86-64, or of i386 where `compat`.
    Syscall {
        /// Its number.
        number: u16,
        /// By the 32-bit entry.
        compat: bool,
    },
    /// What a DNS server is asked for.
    Domain(&'a str),
    /// A protection by name.
    Preset(Preset),
}

/// What should happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// What happens.
    pub effect: Effect,
    /// The default posture decides.
    pub by_posture: bool,
    /// The rules that agree on it: any of them may be named. Empty where none decides.
    pub rules: Vec<Arc<Rule>>,
}

/// The rules that match the act, of which the highest in rank decide.
#[must_use]
pub fn candidates<'a>(rules: &'a WorkloadRules, act: &Act<'_>) -> Vec<&'a Arc<Rule>> {
    let counted = rules.rules.iter().filter(|rule| counts(&rule.matcher, act.family));
    counted.filter(|rule| source_matches(rule, act) && object_matches(&rule.matcher, act)).collect()
}

/// Of the candidates those of the highest rank.
#[must_use]
pub fn deciding<'a>(rules: &'a WorkloadRules, act: &Act<'_>) -> Vec<&'a Arc<Rule>> {
    let candidates = candidates(rules, act);
    let best = candidates.iter().map(|rule| rank(rule)).max();
    candidates.into_iter().filter(|rule| Some(rank(rule)) == best).collect()
}

/// What the rules say of the act.
#[must_use]
pub fn evaluate(rules: &WorkloadRules, act: &Act<'_>) -> Expected {
    let is_allow_list = !matches!(act.family, Family::Syscall | Family::Preset)
        && rules.rules.iter().any(|rule| rule.action == Action::Allow && counts(&rule.matcher, act.family));
    let deciding = deciding(rules, act);
    let named = |wanted: Says| -> Vec<Arc<Rule>> {
        deciding.iter().filter(|rule| says(rule, act) == wanted).map(|rule| Arc::clone(rule)).collect()
    };
    for (wanted, effect) in [(Says::Block, Effect::Block), (Says::Audit, Effect::Audit), (Says::Permit, Effect::Permit)]
    {
        let rules = named(wanted);
        if !rules.is_empty() {
            return Expected { effect, by_posture: false, rules };
        }
    }
    undecided(is_allow_list, act.family, &rules.postures)
}

fn undecided(is_allow_list: bool, family: Family, postures: &Postures) -> Expected {
    let posture = match family {
        Family::Process | Family::File => postures.file,
        Family::Socket | Family::Connect | Family::Dns => postures.network,
        // The last two are never allow-lists.
        Family::Ptrace | Family::Capability | Family::Syscall | Family::Preset => postures.capabilities,
    };
    let effect = match (is_allow_list, posture) {
        (false, _) => Effect::Permit,
        (true, Posture::Audit) => Effect::Audit,
        (true, Posture::Block) => Effect::Block,
    };
    Expected { effect, by_posture: is_allow_list, rules: Vec::new() }
}

fn counts(matcher: &Matcher, family: Family) -> bool {
    match matcher {
        Matcher::Process(_) => family == Family::Process,
        Matcher::File(_) => family == Family::File,
        Matcher::Ptrace(_) => family == Family::Ptrace,
        Matcher::Socket(_) => family == Family::Socket || family == Family::Connect,
        Matcher::Destination(_) => family == Family::Connect,
        Matcher::Capability(_) => family == Family::Capability,
        // Calls on a path are seen in records, and are no act of this family.
        Matcher::Syscall(call) => family == Family::Syscall && call.path.is_none(),
        Matcher::Dns(_) => family == Family::Dns,
        Matcher::Preset(_) => family == Family::Preset,
        Matcher::Device(_) => false,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Nothing,
    Permit,
    Audit,
    Block,
}

fn says(rule: &Rule, act: &Act<'_>) -> Says {
    let is = |modifier: Modifiers| act.modifiers.0 & modifier.0 != 0;
    // Each modifier that the rule has: is it met?
    let mut conditions = Vec::new();
    if let Matcher::Process(path) | Matcher::File(path) = &rule.matcher {
        if path.owner_only {
            conditions.push(is(Modifiers::OWNER));
        }
        if path.read_only {
            conditions.push(!is(Modifiers::WRITE));
        }
        if path.pts == Some(false) {
            conditions.push(!is(Modifiers::TTY));
        }
        if !path.allowed_arguments.is_empty() {
            // Without any argument there is none of the listed ones.
            let mut listed = 0;
            for argument in act.arguments {
                listed += usize::from(path.allowed_arguments.contains(*argument));
            }
            conditions.push(listed > 0 && listed == act.arguments.len());
        }
    }
    if let Matcher::Socket(socket) = &rule.matcher
        && socket.pts == Some(false)
    {
        conditions.push(!is(Modifiers::TTY));
    }
    let met = conditions.iter().all(|condition| *condition);
    match rule.action {
        Action::Allow if met => Says::Permit,
        Action::Allow => Says::Nothing,
        _ if met && !conditions.is_empty() => Says::Permit,
        Action::Block if !matches!(rule.matcher, Matcher::Syscall(_)) => Says::Block,
        _ => Says::Audit,
    }
}

/// Source; kind; then prefix, port and protocol, or only a length.
type Rank = (bool, u8, [u32; 3]);

fn rank(rule: &Rule) -> Rank {
    let path = |path: &PathMatch| match path {
        PathMatch::Exact(path) => (2, [path.len() as u32, 0, 0]),
        PathMatch::Name(_) => (1, [0; 3]),
        PathMatch::Directory { directory, .. } => (0, [directory.len() as u32, 0, 0]),
        PathMatch::Pattern(pattern) => (0, [prefix(pattern.as_bytes()), 0, 0]),
        PathMatch::Any => (0, [0; 3]),
    };
    let (kind, length) = match &rule.matcher {
        Matcher::Process(PathRule { path: target, .. })
        | Matcher::File(PathRule { path: target, .. })
        | Matcher::Ptrace(target) => path(target),
        Matcher::Socket(socket) => {
            let fixed = |field: Option<u8>| u32::from(field.is_some());
            let shapes = socket.any_of.iter().map(|s| fixed(s.domain) + fixed(s.kind) + fixed(s.protocol));
            (0, [shapes.min().unwrap_or(0), 0, 0])
        }
        Matcher::Destination(d) => {
            let ports = d.ports.map_or(0, |(first, last)| {
                // 16 for one port, one less for each time that the count doubles, never 0.
                let mut count = u32::from(last - first) + 1;
                let mut bits = 16;
                while count > 1 {
                    count /= 2;
                    bits -= 1;
                }
                std::cmp::max(bits, 1)
            });
            (2, [d.cidr.map_or(0, |cidr| u32::from(cidr.1)), ports, u32::from(d.protocol.is_some())])
        }
        Matcher::Capability(_) | Matcher::Preset(_) => (2, [0; 3]),
        Matcher::Dns(dns) => (0, [dns.domain.len() as u32, 0, 0]),
        Matcher::Syscall(_) | Matcher::Device(_) => (0, [0; 3]),
    };
    (!rule.sources.is_empty() || !rule.source_directories.is_empty(), kind, length)
}

fn prefix(pattern: &[u8]) -> u32 {
    match pattern {
        [] | [b'*' | b'?' | b'[' | b'{', ..] | [b'\\'] => 0,
        [b'\\', _, rest @ ..] | [_, rest @ ..] => 1 + prefix(rest),
    }
}

fn source_matches(rule: &Rule, act: &Act<'_>) -> bool {
    if rule.sources.is_empty() && rule.source_directories.is_empty() {
        return true;
    }
    let Some(path) = act.executable else { return false };
    let lies_in = |source: &SourceDirectory| {
        let (directory, recursive) = (source.directory.clone(), source.recursive);
        path_matches(&PathMatch::Directory { directory, recursive }, path)
    };
    rule.sources.iter().any(|source| source.as_bytes() == path) || rule.source_directories.iter().any(lies_in)
}

fn object_matches(matcher: &Matcher, act: &Act<'_>) -> bool {
    match (matcher, act.object) {
        (Matcher::Process(rule) | Matcher::File(rule), Object::Path(path)) => path_matches(&rule.path, path),
        (Matcher::Ptrace(target), Object::Path(path)) => path_matches(target, path),
        (Matcher::Socket(socket), Object::Endpoint(endpoint)) => socket_matches(socket, &endpoint),
        (Matcher::Destination(destination), Object::Endpoint(endpoint)) => destination_matches(destination, &endpoint),
        (Matcher::Capability(capability), Object::Capability(number)) => capability.number == number,
        (Matcher::Syscall(call), Object::Syscall { number, compat }) => {
            if compat {
                call.numbers32.contains(&number)
            } else {
                call.numbers.contains(&number)
            }
        }
        (Matcher::Dns(dns), Object::Domain(name)) => domain_matches(&dns.domain, name),
        (Matcher::Preset(preset), Object::Preset(act)) => *preset == act,
        _ => false,
    }
}

/// The domain itself, or below it. Names are asked for in any case, with or without the root's dot.
fn domain_matches(domain: &str, name: &str) -> bool {
    let name = name.to_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    name == domain || name.ends_with(&format!(".{domain}"))
}

/// Does the path match?
#[must_use]
pub fn path_matches(matcher: &PathMatch, path: &[u8]) -> bool {
    match matcher {
        PathMatch::Exact(exact) => exact.as_bytes() == path,
        PathMatch::Name(name) => {
            path.rsplit(|byte| *byte == b'/').next() == Some(name.as_bytes())
                && path.contains(&b'/')
                && path.starts_with(b"/")
        }
        PathMatch::Directory { directory, recursive } => {
            let itself = directory.trim_end_matches('/').as_bytes();
            let inside = path.strip_prefix(directory.as_bytes());
            (path == itself && !itself.is_empty()) || inside.is_some_and(|rest| *recursive || !rest.contains(&b'/'))
        }
        PathMatch::Pattern(pattern) => without_braces(pattern.as_bytes()).iter().any(|glob| glob_matches(glob, path)),
        PathMatch::Any => true,
    }
}

/// The first brace group of a pattern taken apart, and so on.
fn without_braces(pattern: &[u8]) -> Vec<Vec<u8>> {
    let mut at = 0;
    let mut open = None;
    let mut depth = 0;
    let mut cuts = Vec::new();
    while at < pattern.len() {
        match pattern[at] {
            b'\\' => at += 1,
            b'[' => at = class_end(pattern, at) - 1,
            b'{' => {
                depth += 1;
                open = open.or(Some(at));
            }
            b',' if depth == 1 => cuts.push(at),
            b'}' if depth == 1 => {
                let open = open.unwrap_or(0);
                cuts.push(at);
                let mut start = open + 1;
                return cuts
                    .into_iter()
                    .flat_map(|cut| {
                        let one = [&pattern[..open], &pattern[start..cut], &pattern[at + 1..]].concat();
                        start = cut + 1;
                        without_braces(&one)
                    })
                    .collect();
            }
            b'}' if depth > 1 => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    vec![pattern.to_vec()]
}

/// The byte after the `]` of the class at `at`.
fn class_end(pattern: &[u8], at: usize) -> usize {
    let mut end = at + 1 + usize::from(matches!(pattern.get(at + 1), Some(b'!' | b'^')));
    let first = end;
    while end < pattern.len() && (pattern[end] != b']' || end == first) {
        end += if pattern[end] == b'\\' { 2 } else { 1 };
    }
    end + 1
}

/// A glob without braces.
fn glob_matches(glob: &[u8], path: &[u8]) -> bool {
    match glob {
        [] => path.is_empty(),
        // A component of exactly two stars: none, or all up to some later slash.
        [b'/', b'*', b'*', b'/', rest @ ..] => {
            let Some(path) = path.strip_prefix(b"/") else { return false };
            let rest = [b"/", rest].concat();
            let after = |at: usize| glob_matches(&rest, &[b"/", &path[at..]].concat());
            after(0) || (0..path.len()).filter(|at| path[*at] == b'/').any(|at| after(at + 1))
        }
        [b'*', b'*', rest @ ..] => (0..=path.len()).any(|at| glob_matches(rest, &path[at..])),
        [b'*', rest @ ..] => {
            let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
            (0..=end).any(|at| glob_matches(rest, &path[at..]))
        }
        [b'?', rest @ ..] => matches!(path, [byte, tail @ ..] if *byte != b'/' && glob_matches(rest, tail)),
        [b'[', ..] => {
            let end = class_end(glob, 0);
            matches!(path, [byte, tail @ ..] if in_class(&glob[1..end - 1], *byte) && glob_matches(&glob[end..], tail))
        }
        [b'\\', byte, rest @ ..] | [byte, rest @ ..] => path.first() == Some(byte) && glob_matches(rest, &path[1..]),
    }
}

fn in_class(class: &[u8], byte: u8) -> bool {
    let (negated, mut members) = match class {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, class),
    };
    let mut found = false;
    while let Some((low, rest)) = member(members) {
        members = rest;
        let mut high = low;
        if let [b'-', rest @ ..] = rest
            && let Some((to, rest)) = member(rest)
        {
            (high, members) = (to, rest);
        }
        found |= (low..=high).contains(&byte);
    }
    byte != b'/' && byte != 0 && found != negated
}

fn member(class: &[u8]) -> Option<(u8, &[u8])> {
    match class {
        [b'\\', byte, rest @ ..] | [byte, rest @ ..] => Some((*byte, rest)),
        [] => None,
    }
}

fn socket_matches(socket: &SocketMatch, endpoint: &Endpoint) -> bool {
    let domain = match endpoint.destination.map(|(address, _)| reached(address)) {
        None => endpoint.domain,
        // `AF_INET` and `AF_INET6`.
        Some(IpAddr::V4(_)) => 2,
        Some(IpAddr::V6(_)) => 10,
    };
    let is = |wanted: Option<u8>, found: u8| wanted.is_none_or(|wanted| wanted == found);
    socket
        .any_of
        .iter()
        .any(|shape| is(shape.domain, domain) && is(shape.kind, endpoint.kind) && is(shape.protocol, endpoint.protocol))
}

fn destination_matches(destination: &DestinationMatch, endpoint: &Endpoint) -> bool {
    let Some((address, port)) = endpoint.destination else { return false };
    let transport = match destination.protocol {
        None => true,
        Some(Transport::Tcp) => endpoint.kind == 1 && [0, 6].contains(&endpoint.protocol),
        Some(Transport::Udp) => endpoint.kind == 2 && [0, 17].contains(&endpoint.protocol),
        Some(Transport::Sctp) => [1, 5].contains(&endpoint.kind) && endpoint.protocol == 132,
    };
    transport
        && destination.ports.is_none_or(|(first, last)| (first..=last).contains(&port))
        && destination.cidr.is_none_or(|(network, prefix)| network_contains(network, prefix, reached(address)))
}

/// Where a connection to the address arrives: a mapped address is IPv4's, and nowhere in particular is this machine.
fn reached(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V6(v6) if v6.octets().starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]) => {
            let [.., a, b, c, d] = v6.octets();
            reached(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
        }
        other => other,
    }
}

fn network_contains(network: IpAddr, prefix: u8, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let network = if prefix == 32 && network.is_unspecified() { 0x7f00_0001 } else { network.to_bits() };
            (network ^ address.to_bits()).checked_shr(32 - u32::from(prefix)).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let network = if prefix == 128 && network.is_unspecified() { 1 } else { network.to_bits() };
            (network ^ address.to_bits()).checked_shr(128 - u32::from(prefix)).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V4(address)) if prefix >= 96 => network
            .to_ipv4_mapped()
            .is_some_and(|network| network_contains(IpAddr::V4(network), prefix - 96, IpAddr::V4(address))),
        _ => false,
    }
}
