//! Random rules that overlap, and acts near them, in no place in particular: any path, any executable, any circumstance. For walkers, which
//! need no file; [`crate::ground`] moves the same sets to where real acts happen.
//!
//! Invariant: a function of its seed, the same on every machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use palisade_domain::{Action, Posture};
use palisade_kernel_abi::blob::{Endpoint, Family, Modifiers};
use palisade_policy::ir::*;

use palisade_policy_compiler::naive::{Act, Object, candidates};

use crate::{rule, workload};

/// xorshift64*: the same numbers everywhere.
pub struct Random(u64);

impl Random {
    /// Of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below the bound.
    pub fn below(&mut self, bound: usize) -> usize {
        ((self.number() >> 33) as usize) % bound
    }

    /// True once in so many times.
    pub fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    /// One of them.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

/// `PALISADE_TEST_SEED`, or the usual one; printed.
#[must_use]
pub fn seed() -> u64 {
    let seed = std::env::var("PALISADE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261);
    println!("PALISADE_TEST_SEED={seed}");
    seed
}

/// Few and alike, so that rules meet.
const COMPONENTS: [&str; 9] = ["a", "ab", "b", "etc", "x", "a.so", "b.so", "...", "-"];
/// That rules list.
pub const ARGUMENTS: [&str; 4] = ["-a", "-ab", "x", ""];
/// That rules name.
pub const DOMAINS: [&str; 6] = ["com", "a.com", "www.a.com", "b.a.com", "aa.com", "a.org"];
/// That rules name.
pub const CAPABILITIES: [u8; 4] = [0, 13, 21, 40];
/// That rules name.
pub const SYSCALLS: [u16; 5] = [0, 1, 59, 257, 450];
const SOURCES: [&str; 4] = ["/a", "/ab", "/etc/x", "/b/a"];

/// A path of few components.
pub fn path(random: &mut Random) -> String {
    let depth = 1 + random.below(4);
    (0..depth).map(|_| format!("/{}", random.pick(&COMPONENTS))).collect()
}

/// A path with some of its parts made general.
pub fn glob(random: &mut Random) -> String {
    let mut glob: String = path(random);
    for _ in 0..1 + random.below(3) {
        let components: Vec<&str> = glob[1..].split('/').collect();
        let at = random.below(components.len());
        let old = components[at];
        let new = match random.below(9) {
            0 => "*".to_owned(),
            1 => "**".to_owned(),
            2 => format!("{}*", &old[..old.len().min(1)]),
            3 => "*.so".to_owned(),
            4 => "?".to_owned(),
            5 => random.pick(&["[ab]", "[!a]", "[a-c]*", "[^]b]", "[\\]a-]"]).to_owned(),
            6 => random.pick(&["{a,ab}", "{a,{b,x}*}", "{,a}b", "{,x}", "{**,x}", "{[{,],a}"]).to_owned(),
            7 => random.pick(&["**/a", "a**", "**b", "\\*", "\\a", "**/**", "***"]).to_owned(),
            _ => format!("{old}/**"),
        };
        // One replacement must not split what another made.
        if old.contains(['{', '}', '[', ']', '\\']) {
            continue;
        }
        let mut components: Vec<String> = components.into_iter().map(str::to_owned).collect();
        components[at] = new;
        glob = components.iter().map(|component| format!("/{component}")).collect();
    }
    glob
}

/// Paths of any form.
pub fn path_match(random: &mut Random) -> PathMatch {
    match random.below(10) {
        0..3 => PathMatch::Exact(path(random)),
        3 => PathMatch::Name(random.pick(&COMPONENTS).to_owned()),
        4..6 => {
            let directory = if random.one_in(8) { "/".to_owned() } else { path(random) + "/" };
            PathMatch::Directory { directory, recursive: random.one_in(2) }
        }
        6 if random.one_in(4) => PathMatch::Any,
        _ => PathMatch::Pattern(glob(random)),
    }
}

fn address(random: &mut Random) -> IpAddr {
    let low = random.pick(&[0u8, 1, 2, 5, 127, 128, 255]);
    match random.below(8) {
        0 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        1 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        2 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        3 => IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, u16::from(low))),
        4 => IpAddr::V6(Ipv4Addr::new(10, 0, 0, low).to_ipv6_mapped()),
        5 => IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1)),
        _ => IpAddr::V4(Ipv4Addr::new(10, random.pick(&[0, 16, 31]), 0, low)),
    }
}

const PORTS: [u16; 10] = [0, 1, 79, 80, 81, 443, 4096, 5000, 5015, 65535];

/// A socket, or a destination.
pub fn endpoint(random: &mut Random) -> Endpoint {
    let destination = (!random.one_in(4)).then(|| (address(random), random.pick(&PORTS)));
    Endpoint {
        domain: random.pick(&[1, 2, 10, 16]),
        kind: random.pick(&[1, 2, 3, 5]),
        protocol: random.pick(&[0, 6, 17, 132]),
        destination,
    }
}

/// Any, or one that a destination is about: few of all addresses are of one network, and hardly one of them is one address.
pub fn endpoint_near(random: &mut Random, matcher: &Matcher) -> Endpoint {
    let any = endpoint(random);
    let Matcher::Destination(destination) = matcher else { return any };
    if random.one_in(3) {
        return any;
    }
    let (any_address, any_port) = (address(random), random.pick(&PORTS));
    let address = destination.cidr.map_or(any_address, |(network, _)| network);
    let port = destination.ports.map_or(any_port, |(low, high)| random.pick(&[low, high]));
    let (kind, protocol) = match destination.protocol {
        None => (any.kind, any.protocol),
        Some(Transport::Tcp) => (1, random.pick(&[0, 6])),
        Some(Transport::Udp) => (2, random.pick(&[0, 17])),
        Some(Transport::Sctp) => (random.pick(&[1, 5]), 132),
    };
    Endpoint { kind, protocol, destination: Some((address, port)), ..any }
}

fn socket(random: &mut Random) -> SocketMatch {
    let mut field = |values: &[u8]| (!random.one_in(2)).then(|| random.pick(values));
    let mut shape =
        || SocketShape { domain: field(&[2, 10, 16]), kind: field(&[1, 2, 3]), protocol: field(&[0, 6, 17]) };
    SocketMatch { name: "random".into(), any_of: vec![shape(), shape()], pts: pts(random) }
}

fn destination(random: &mut Random) -> DestinationMatch {
    let cidr = (!random.one_in(4)).then(|| {
        let address = address(random).to_canonical();
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (address, if random.one_in(2) { bits } else { random.below(usize::from(bits) + 1) as u8 })
    });
    let ports = random.one_in(2).then(|| {
        let (one, other) = (random.pick(&PORTS), random.pick(&PORTS));
        if random.one_in(2) { (one, one) } else { (one.min(other), one.max(other)) }
    });
    let protocol = random.pick(&[None, Some(Transport::Tcp), Some(Transport::Udp), Some(Transport::Sctp)]);
    DestinationMatch { cidr, ports, protocol }
}

/// Rules of all families; two thirds of them lie on or around another one.
pub fn rules(random: &mut Random, count: usize) -> WorkloadRules {
    let mut rules: Vec<Rule> = Vec::new();
    while rules.len() < count {
        let matcher = match random.below(14) {
            0..3 => Matcher::Process(path_rule(random, false)),
            3..6 => Matcher::File(path_rule(random, true)),
            6 => Matcher::Ptrace(path_match(random)),
            7 => Matcher::Socket(socket(random)),
            8..10 => Matcher::Destination(destination(random)),
            10 => capability(random),
            11 => syscall(random),
            12 => Matcher::Dns(DnsMatch { domain: random.pick(&DOMAINS).to_owned() }),
            _ => Matcher::Preset(random.pick(&Preset::ALL)),
        };
        let matcher = match rules.len() {
            0 => matcher,
            _ if random.one_in(3) => matcher,
            known => {
                let other = rules[random.below(known)].matcher.clone();
                overlapping(random, other)
            }
        };
        let action = random.pick(&[Action::Allow, Action::Audit, Action::Block, Action::Block]);
        let sources: Vec<&str> = (0..random.below(3)).map(|_| random.pick(&SOURCES)).collect();
        let mut rule = rule(action, matcher, if random.one_in(2) { &sources } else { &[] });
        if random.one_in(6) {
            rule.source_directories.insert(source_directory(random));
        }
        rules.push(rule);
    }
    let mut posture = || random.pick(&[Posture::Audit, Posture::Block]);
    let postures = Postures { file: posture(), network: posture(), capabilities: posture(), ..Postures::default() };
    WorkloadRules { postures, ..workload(rules) }
}

fn path_rule(random: &mut Random, is_file: bool) -> PathRule {
    let (owner_only, read_only) = (random.one_in(4), is_file && random.one_in(4));
    let mut rule = PathRule { owner_only, read_only, pts: pts(random), ..PathRule::of(path_match(random)) };
    if !is_file && random.one_in(4) {
        rule.allowed_arguments = (0..1 + random.below(3)).map(|_| random.pick(&ARGUMENTS).to_owned()).collect();
    }
    rule
}

fn pts(random: &mut Random) -> Option<bool> {
    random.pick(&[None, None, Some(true), Some(false)])
}

fn capability(random: &mut Random) -> Matcher {
    let number = random.pick(&CAPABILITIES);
    Matcher::Capability(CapabilityMatch { name: number.to_string(), number })
}

fn syscall(random: &mut Random) -> Matcher {
    let mut numbers = || (0..random.below(3)).map(|_| random.pick(&SYSCALLS)).collect();
    Matcher::Syscall(SyscallMatch {
        names: vec!["random".into()],
        numbers: numbers(),
        numbers32: numbers(),
        path: None,
    })
}

fn source_directory(random: &mut Random) -> SourceDirectory {
    SourceDirectory { directory: random.pick(&["/", "/etc/", "/a/", "/b/"]).to_owned(), recursive: random.one_in(2) }
}

/// Rules of process or file that meet on one path, which is given too: an Allow and a Block of it at least, one with a source, one by
/// a pattern and one by a name; and some others.
pub fn contested(random: &mut Random) -> (WorkloadRules, String) {
    let target = path(random);
    let (parent, name) = target.rsplit_once('/').unwrap_or_default();
    let pattern = random.pick(&[format!("{parent}/*"), "/**".to_owned(), format!("/**/{name}"), format!("{target}*")]);
    let directory = PathMatch::Directory { directory: format!("{parent}/"), recursive: random.one_in(2) };
    let matches =
        [PathMatch::Name(name.to_owned()), PathMatch::Pattern(pattern), PathMatch::Exact(target.clone()), directory];
    let is_file = random.one_in(2);
    let mut actions = vec![Action::Allow, Action::Block, Action::Audit, Action::Allow, Action::Block];
    let mut rules = self::rules(random, 4);
    for (number, path) in matches.into_iter().enumerate() {
        let modified = PathRule { path, ..path_rule(random, is_file) };
        let matcher = if is_file { Matcher::File(modified) } else { Matcher::Process(modified) };
        let action = actions.remove(if number < 2 { 0 } else { random.below(actions.len()) });
        let sources: &[&str] = if number == 2 || random.one_in(4) { &SOURCES } else { &[] };
        rules.rules.push(std::sync::Arc::new(rule(action, matcher, sources)));
    }
    (rules, target)
}

/// Another rule on the same, or on what holds it.
fn overlapping(random: &mut Random, matcher: Matcher) -> Matcher {
    match matcher {
        Matcher::Process(rule) => {
            Matcher::Process(PathRule { path: wider(random, rule.path), ..path_rule(random, false) })
        }
        Matcher::File(rule) => Matcher::File(PathRule { path: wider(random, rule.path), ..path_rule(random, true) }),
        Matcher::Ptrace(path) => Matcher::Ptrace(wider(random, path)),
        Matcher::Socket(socket) => Matcher::Socket(socket),
        Matcher::Destination(rule) => {
            let cidr = rule.cidr.map(|(address, prefix)| (address, random.below(usize::from(prefix) + 1) as u8));
            Matcher::Destination(DestinationMatch { cidr, ports: rule.ports.filter(|_| random.one_in(2)), ..rule })
        }
        other => other,
    }
}

fn wider(random: &mut Random, path: PathMatch) -> PathMatch {
    let text = match &path {
        PathMatch::Exact(path) => path.clone(),
        PathMatch::Directory { directory, .. } => directory.trim_end_matches('/').to_owned(),
        PathMatch::Name(_) | PathMatch::Pattern(_) | PathMatch::Any => return path,
    };
    let (parent, name) = text.rsplit_once('/').unwrap_or_default();
    match random.below(5) {
        0 => PathMatch::Directory { directory: format!("{parent}/"), recursive: random.one_in(2) },
        1 => PathMatch::Pattern(format!("{parent}/**")),
        2 if !name.is_empty() => PathMatch::Name(name.to_owned()),
        3 => PathMatch::Pattern(format!("/**/{name}*")),
        _ => path,
    }
}

/// A path that rules are likely to match: one of theirs with its wildcards filled in, or any.
pub fn path_near(random: &mut Random, rules: &WorkloadRules) -> Vec<u8> {
    let mut near = match random.pick(&rules.rules).matcher.clone() {
        Matcher::Process(PathRule { path: target, .. })
        | Matcher::File(PathRule { path: target, .. })
        | Matcher::Ptrace(target) => match target {
            PathMatch::Exact(path) => path,
            PathMatch::Name(name) => format!("{}/{name}", path_or_none(random)),
            PathMatch::Directory { directory, .. } => directory + &path(random)[1..],
            PathMatch::Pattern(pattern) => filled_in(random, &pattern),
            PathMatch::Any => path(random),
        },
        _ => path(random),
    };
    match random.below(8) {
        0 => near = path(random),
        1 => near += &path(random),
        2 => drop(near.pop()),
        3 => near = format!("{}{near}", path(random)),
        _ => {}
    }
    // No path has a component of nothing.
    let components: Vec<&str> = near.split('/').filter(|component| !component.is_empty()).collect();
    format!("/{}", components.join("/")).into_bytes()
}

fn path_or_none(random: &mut Random) -> String {
    if random.one_in(2) { path(random) } else { String::new() }
}

fn filled_in(random: &mut Random, pattern: &str) -> String {
    let mut filled = pattern.replace("/**/", &format!("{}/", path_or_none(random)));
    filled = filled.replace("**", &path(random)[1..]).replace('*', random.pick(&["", "a", "b.so"]));
    filled.replace('?', "a").replace("{a,ab}", "ab").replace("[ab]", "b").replace(['\\', '{', '}', '[', ']', ','], "")
}

/// Who acts.
pub fn executable(random: &mut Random) -> Option<&'static [u8]> {
    random.pick(&[None, Some("/a"), Some("/ab"), Some("/etc/x"), Some("/b/a"), Some("/a/a")]).map(str::as_bytes)
}

/// Of an exec.
pub fn arguments(random: &mut Random) -> &'static [&'static str] {
    random.pick(&[&[][..], &["-a"], &["-a", "-ab"], &["x", "-a", "x"], &["-a", ""], &["-", "x"], &["-abc"], &["x"]])
}

/// An act of some rule's family.
pub fn act<'a>(random: &mut Random, rules: &WorkloadRules, path: &'a [u8]) -> Act<'a> {
    let near = random.pick(&rules.rules);
    let family = random.pick(families_of(&near.matcher));
    let object = match family {
        Family::Process | Family::File | Family::Ptrace => Object::Path(path),
        Family::Socket => Object::Endpoint(Endpoint { destination: None, ..endpoint(random) }),
        Family::Connect => Object::Endpoint(endpoint_near(random, &near.matcher)),
        Family::Capability => Object::Capability(random.pick(&CAPABILITIES)),
        Family::Syscall => Object::Syscall { number: random.pick(&SYSCALLS), compat: random.one_in(2) },
        Family::Dns => Object::Domain(random.pick(&[
            "a.com",
            "A.com.",
            "x.www.a.com",
            "aa.com",
            "com",
            "org",
            "xa.com",
            "b.a.com",
        ])),
        Family::Preset => Object::Preset(random.pick(&Preset::ALL)),
    };
    Act { family, object, executable: executable(random), modifiers: modifiers(random), arguments: arguments(random) }
}

/// The families in which a rule has a say, from the specification.
fn families_of(matcher: &Matcher) -> &'static [Family] {
    match matcher {
        Matcher::Process(_) => &[Family::Process],
        Matcher::File(_) => &[Family::File],
        Matcher::Ptrace(_) => &[Family::Ptrace],
        Matcher::Socket(_) => &[Family::Socket, Family::Connect],
        Matcher::Destination(_) => &[Family::Connect],
        Matcher::Capability(_) => &[Family::Capability],
        Matcher::Syscall(_) => &[Family::Syscall],
        Matcher::Dns(_) => &[Family::Dns],
        Matcher::Preset(_) => &[Family::Preset],
        Matcher::Device(_) => panic!("devices are generated nowhere"),
    }
}

/// Any circumstances.
pub fn modifiers(random: &mut Random) -> Modifiers {
    Modifiers(random.below(8) as u32)
}

/// What the rules are that match one act: an Allow and a Block at once, one with a source, one by a pattern, one by a name.
pub fn overlap_of(rules: &WorkloadRules, act: &Act<'_>) -> [bool; 4] {
    let candidates = candidates(rules, act);
    let by = |is: fn(&PathMatch) -> bool| {
        candidates.iter().any(|rule| match &rule.matcher {
            Matcher::Process(path) | Matcher::File(path) => is(&path.path),
            _ => false,
        })
    };
    let asks = |action| candidates.iter().any(|rule| rule.action == action);
    [
        asks(Action::Allow) && asks(Action::Block),
        candidates.iter().any(|rule| !rule.sources.is_empty()),
        by(|path| matches!(path, PathMatch::Pattern(_))),
        by(|path| matches!(path, PathMatch::Name(_))),
    ]
}
