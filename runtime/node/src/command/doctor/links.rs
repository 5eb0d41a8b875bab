//! What would keep this node from linking to others: its files, its certificate and key, the lists, the port, and each peer.
//!
//! Where a node runs, it says itself how its links are; where none does, its peers are dialled here with its certificate, for as long as a
//! handshake takes. Never both: two that show one certificate take each other's links. And where the node waits for a file that does not
//! answer, nobody waits beside it: the kernel lets a second one that opens it not even be killed.

use std::{collections::BTreeMap, io, net::UdpSocket, sync::Arc, time::Duration};

use palisade_domain::NodeName;
use palisade_link::{
    CredentialFiles, Credentials, LinkConfig, Links, MachineRng, Ports, Socket, crypto,
    examine::{self, Fault},
};
use palisade_supervision::Here;
use palisade_world::{Clock as _, Link as _, LinkState};
use serde_json::Value;

use super::{Check, Health};
use crate::{arguments::LinkArguments, clock::MachineClock};

/// For all peers together.
const WITHIN: Duration = Duration::from_secs(6);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a node says of a file that hangs ([`palisade_link::CredentialsError`]).
const HANGS: &str = "its file system does not answer";

/// Nothing, where no links are asked for. `node`: how the node says that it is, where one runs.
pub async fn checks(arguments: &LinkArguments, node: Option<&Value>) -> Vec<Check> {
    let Ok(peers) = arguments.peers() else { return Vec::new() };
    if arguments.link_listen.is_none() && peers.is_empty() {
        return Vec::new();
    }
    let said = node.and_then(|node| node["conditions"]["links"]["reason"].as_str());
    if let Some(said) = said.filter(|said| said.contains(HANGS)) {
        let advice = "bring the file system back, or put the file elsewhere and restart the node";
        return vec![Check::of("links", Health::Bad, said.to_owned(), advice)];
    }
    let files = arguments.files();
    let credentials = match files.read_in_time(MachineClock.unix()) {
        Ok(credentials) => credentials,
        Err(error) => {
            let advice = "make certificates by `palisade certificate`, or name yours: --link-certificate, --link-key, --link-ca, --link-revoked";
            return vec![Check::of("links", Health::Bad, error.to_string(), advice)];
        }
    };
    let mut checks = of_credentials(&credentials);
    let sound = checks.iter().all(|check| check.health != Health::Bad);
    if node.is_none() {
        checks.extend(arguments.link_listen.and_then(|address| port(address).err()));
        if sound && !peers.is_empty() {
            checks.extend(of_peers(files, peers.into_iter().collect()).await);
        }
    }
    checks
}

fn of_credentials(credentials: &Credentials) -> Vec<Check> {
    let faults = examine::faults(credentials, &crypto::machine(), MachineClock.unix());
    let check = |Fault { grave, said, advice }| {
        Check::of("links", if grave { Health::Bad } else { Health::Weak }, said, advice)
    };
    match credentials.name() {
        Some(name) if faults.is_empty() => {
            let lists = match credentials.revocations.len() {
                0 => "no revocation list".to_owned(),
                count => format!("{count} revocation lists"),
            };
            vec![Check::good("links", format!("certificate, key and authorities of {name} belong together; {lists}"))]
        }
        _ => faults.into_iter().map(check).collect(),
    }
}

fn port(address: std::net::SocketAddr) -> Result<(), Check> {
    UdpSocket::bind(address).map(drop).map_err(|error| {
        let port = address.port();
        let advice = match error.kind() {
            io::ErrorKind::AddrNotAvailable => format!(
                "this machine has no such address: `ip address` shows which it has; name one of them, or all by 0.0.0.0:{port} or [::]:{port}, with --link-listen"
            ),
            io::ErrorKind::PermissionDenied => {
                "run it as root (sudo palisade doctor), or name a port from 1024 on with --link-listen".to_owned()
            }
            _ => format!("`ss -lunp 'sport = :{port}'` shows who has it; name another address with --link-listen"),
        };
        Check::of("links", Health::Bad, format!("{address} cannot be listened at: {error}"), advice)
    })
}

/// Dials each, once.
async fn of_peers(files: CredentialFiles, peers: BTreeMap<NodeName, std::net::SocketAddr>) -> Vec<Check> {
    let any = if peers.values().any(std::net::SocketAddr::is_ipv6) { "[::]:0" } else { "0.0.0.0:0" };
    let ports = Ports {
        place: Here::place(),
        clock: Arc::new(MachineClock),
        rng: Arc::new(MachineRng),
        provider: crypto::machine(),
        credentials: Arc::new(files),
    };
    let config = LinkConfig { peers, listens: false, ..LinkConfig::default() };
    let links = UdpSocket::bind(any)
        .map_err(|error| error.to_string())
        .and_then(|socket| Links::start(config, ports, Socket::Machine(socket)).map_err(|error| error.to_string()));
    let links = match links {
        Ok(links) => links,
        Err(error) => return vec![Check::of("links", Health::Bad, error, "")],
    };
    // A first failure is often one packet; who is not there in the end is not there.
    let _ = tokio::time::timeout(WITHIN, async {
        while links.peers().iter().any(|peer| matches!(peer.state, LinkState::Connecting | LinkState::Out { .. })) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
    .await;
    let checks = links.peers().into_iter().map(|peer| {
        let place = peer.address.map_or_else(String::new, |address| format!(" at {address}"));
        let name = format!("{}{place}", peer.name);
        match peer.state {
            LinkState::Linked { .. } => Check::good("link", format!("{name} takes this node's links")),
            LinkState::Refused { why, said, by_us, .. } => {
                let who = if by_us { "is refused" } else { "refuses this node" };
                let advice =
                    "`palisade certificate show FILE` tells names, authority and dates of either side's certificate";
                Check::of("link", Health::Bad, format!("{name} {who} ({why}): {said}"), advice)
            }
            LinkState::Connecting => unreachable_peer(&name, "no answer yet"),
            LinkState::Out { why, .. } => unreachable_peer(&name, &why),
        }
    });
    let checks = checks.collect();
    links.close().await;
    checks
}

fn unreachable_peer(name: &str, why: &str) -> Check {
    let advice = "see that its node runs with --link-listen at that address, and that nothing between drops UDP";
    Check::of("link", Health::Weak, format!("{name} is not reached: {why}"), advice)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use palisade_domain::UnixNanos;
    use palisade_link::authority::{self, Issued};

    use super::*;

    fn office(directory: &Path) -> Issued {
        let (own, list) = authority::authority("links", 30, MachineClock.unix(), &MachineRng).expect("made");
        std::fs::write(directory.join("ca.pem"), &own.certificate).expect("written");
        std::fs::write(directory.join("revoked.pem"), list).expect("written");
        own
    }

    fn issue(directory: &Path, own: &Issued, name: &str) {
        let issued = authority::issue(own, &name.parse().expect("a name"), 30, MachineClock.unix(), &MachineRng)
            .expect("issued");
        std::fs::write(directory.join(format!("{name}.pem")), issued.certificate).expect("written");
        std::fs::write(directory.join(format!("{name}.key")), issued.key).expect("written");
    }

    fn arguments(directory: &Path, name: &str, peers: &[(&str, std::net::SocketAddr)]) -> LinkArguments {
        LinkArguments {
            link_listen: Some("127.0.0.1:0".parse().expect("an address")),
            link_peers: peers.iter().map(|(name, at)| ((*name).to_owned(), at.to_string())).collect(),
            link_certificate: directory.join(format!("{name}.pem")),
            link_key: directory.join(format!("{name}.key")),
            link_ca: directory.join("ca.pem"),
            link_revoked: Some(directory.join("revoked.pem")),
        }
    }

    async fn found(arguments: &LinkArguments) -> Vec<(Health, String)> {
        checks(arguments, None).await.into_iter().map(|check| (check.health, check.found)).collect()
    }

    #[tokio::test]
    async fn unit_doctor_says_what_keeps_a_node_from_linking() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let (directory, own) = (root.path(), office(root.path()));
        ["a", "b"].iter().for_each(|name| issue(directory, &own, name));
        let none = LinkArguments { link_listen: None, ..arguments(directory, "a", &[]) };
        assert!(checks(&none, None).await.is_empty(), "no links are asked for");
        let good = found(&arguments(directory, "a", &[])).await;
        assert!(matches!(good.as_slice(), [(Health::Good, said)] if said.contains("of a belong together")), "{good:?}");
        let missing = LinkArguments { link_ca: directory.join("none.pem"), ..arguments(directory, "a", &[]) };
        assert!(matches!(found(&missing).await.as_slice(), [(Health::Bad, said)] if said.contains("none.pem")));
        let list = LinkArguments { link_revoked: Some(directory.join("a.key")), ..arguments(directory, "a", &[]) };
        assert!(matches!(found(&list).await.as_slice(), [(Health::Bad, said)] if said.contains("no revocation list")));
        let key = LinkArguments { link_key: directory.join("b.key"), ..arguments(directory, "a", &[]) };
        assert!(matches!(found(&key).await.as_slice(), [(Health::Bad, said)] if said.contains("not that of")));
        let taken = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let address = taken.local_addr().expect("bound");
        let busy = LinkArguments { link_listen: Some(address), ..arguments(directory, "a", &[]) };
        let busy = found(&busy).await;
        assert!(busy.iter().any(|(health, said)| *health == Health::Bad && said.contains("in use")), "{busy:?}");
        // Of another machine: an address that documents use.
        let foreign = port("192.0.2.1:7443".parse().expect("an address")).expect_err("not of this machine");
        assert!(foreign.advice.contains("`ip address`") && foreign.advice.contains("0.0.0.0:7443"), "{foreign:?}");
        assert!(!foreign.advice.contains("ss -lunp"), "nobody has it: {foreign:?}");
        assert!(
            checks(&arguments(directory, "a", &[("b", address)]), Some(&Value::Null)).await.len() == 1,
            "the node says that itself"
        );
    }

    #[tokio::test]
    async fn unit_doctor_opens_no_file_that_the_node_already_waits_for() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let why = palisade_link::CredentialsError::Hangs {
            path: root.path().join("a.key"),
            within: WITHIN,
            since: UnixNanos(0),
        };
        let said = why.to_string();
        let node = serde_json::json!({ "conditions": { "links": { "state": "degraded", "reason": said } } });
        // None of its files is there: it would say so, had it looked.
        let checks = checks(&arguments(root.path(), "a", &[]), Some(&node)).await;
        assert!(checks.len() == 1 && checks[0].health == Health::Bad && checks[0].found == said, "{checks:?}");
    }

    #[tokio::test]
    async fn unit_doctor_dials_the_peers_of_a_node_that_does_not_run() {
        let local = tokio::task::LocalSet::new();
        local.run_until(dials()).await;
    }

    async fn dials() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let (directory, own) = (root.path(), office(root.path()));
        ["a", "b"].iter().for_each(|name| issue(directory, &own, name));
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let address = socket.local_addr().expect("bound");
        let silent = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let ports = Ports {
            place: Here::place(),
            clock: Arc::new(MachineClock),
            rng: Arc::new(MachineRng),
            provider: crypto::machine(),
            credentials: Arc::new(arguments(directory, "b", &[]).files()),
        };
        let b = Links::start(LinkConfig::default(), ports, Socket::Machine(socket)).expect("starts");
        let peers = [("b", address), ("c", silent.local_addr().expect("bound"))];
        let found = found(&arguments(directory, "a", &peers)).await;
        assert!(found[1].0 == Health::Good && found[1].1.contains("b at 127.0.0.1"), "{found:?}");
        assert!(found[2].0 == Health::Weak && found[2].1.contains("c at 127.0.0.1"), "{found:?}");
        // Who is there under another name is no unreachable peer.
        let wrong = self::found(&arguments(directory, "a", &[("c", address)])).await;
        assert!(wrong[1].0 == Health::Bad && wrong[1].1.contains("wrong-name"), "{wrong:?}");
        b.close().await;
    }
}
