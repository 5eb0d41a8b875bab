//! What the programs on the cgroups' root add to everybody's datagrams and connects: with rules in nobody's policy, and in another
//! container's. Over loopback, whose packets pass them as any other's do. Needs root and a kernel with BTF.

use std::{net::UdpSocket, sync::Arc};

use palisade_domain::Generation;
use palisade_kernel::{KernelAdapter, KernelConfig};
use palisade_kernel_abi::blob::Blob;
use palisade_policy::ir::{DestinationMatch, DnsMatch, Matcher, PathMatch, Rule};
use palisade_policy_compiler::{automaton::AutomatonLimits, compile};
use palisade_world::Enforcement as _;

use crate::{
    Measured,
    policies::{Cgroups, membership, slot},
    probes::Pins,
    rules::workload_rules,
    stopwatch::nanoseconds_each,
    table::{Row, Table, Unit},
};

/// One round; some 50 ms.
const CALLS: usize = 20_000;
const ROUNDS: usize = 3;

/// Nanoseconds of a datagram that leaves, and of a connect.
#[derive(Debug, Clone, Copy)]
struct Costs {
    datagram: f64,
    connect: f64,
}

impl Costs {
    const NONE: Self = Self { datagram: f64::MAX, connect: f64::MAX };

    fn least(self, other: Self) -> Self {
        Self { datagram: self.datagram.min(other.datagram), connect: self.connect.min(other.connect) }
    }
}

/// What this process pays, which is of no workload.
///
/// # Errors
/// Where the kernel refuses something.
pub fn measure(table: &mut Table) -> Measured {
    let (names, destinations) = (policy(&name())?, policy(&destination()?)?);
    let (pins, cgroups) = (Pins::create()?, Cgroups::create(1)?);
    let other = cgroups.0.first().ok_or("no cgroup")?;
    let [mut bare, mut idle, mut asking, mut connecting] = [Costs::NONE; 4];
    for _ in 0..ROUNDS {
        bare = bare.least(costs()?);
        let config = KernelConfig { pin_root: pins.0.clone(), responder: None, ..KernelConfig::default() };
        let adapter = KernelAdapter::open(config)?;
        adapter.admit(&membership(0, other)?)?;
        idle = idle.least(costs()?);
        adapter.install(slot(0), Generation(1), Some(&names))?;
        asking = asking.least(costs()?);
        adapter.install(slot(0), Generation(2), Some(&destinations))?;
        connecting = connecting.least(costs()?);
        adapter.release(slot(0))?;
    }
    let mut add = |what: &str, value: f64, baseline: f64| {
        let baseline = Some(("without a runtime".to_owned(), baseline));
        table.add(Row { what: what.to_owned(), value, unit: Unit::Nanoseconds, baseline, budget: None });
    };
    add("a datagram where nobody has rules", idle.datagram, bare.datagram);
    add("a datagram where another container has DNS rules", asking.datagram, bare.datagram);
    add("a datagram where another container has network rules", connecting.datagram, bare.datagram);
    add("a connect where nobody has rules", idle.connect, bare.connect);
    add("a connect where another container has DNS rules", asking.connect, bare.connect);
    add("a connect where another container has network rules", connecting.connect, bare.connect);
    Ok(())
}

fn name() -> Matcher {
    Matcher::Dns(DnsMatch { domain: "blocked.example".to_owned() })
}

fn destination() -> Result<Matcher, std::net::AddrParseError> {
    let cidr = Some(("192.0.2.1".parse()?, 32));
    Ok(Matcher::Destination(DestinationMatch { cidr, ports: None, protocol: None }))
}

fn policy(matcher: &Matcher) -> Result<Arc<Blob>, Box<dyn std::error::Error>> {
    let mut rules = workload_rules(&[PathMatch::Any]);
    let model = Rule::clone(rules.rules.first().ok_or("no rule")?);
    rules.rules = vec![Arc::new(Rule { matcher: matcher.clone(), ..model })];
    Ok(compile(&rules, &AutomatonLimits::default(), &mut || false)?.blob)
}

/// Datagrams are not read: what finds no room at the receiver is dropped there, after it has passed what is measured.
fn costs() -> std::io::Result<Costs> {
    let receiver = UdpSocket::bind("127.0.0.1:0")?;
    let (sender, to) = (UdpSocket::bind("127.0.0.1:0")?, receiver.local_addr()?);
    let mut failed = None;
    let datagram = nanoseconds_each(CALLS, || {
        for _ in 0..CALLS {
            failed = sender.send_to(&[0; 64], to).err().or(failed.take());
        }
    });
    let connect = nanoseconds_each(CALLS, || {
        for _ in 0..CALLS {
            failed = sender.connect(to).err().or(failed.take());
        }
    });
    failed.map_or(Ok(Costs { datagram, connect }), Err)
}
