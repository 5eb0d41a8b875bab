//! Two nodes over real sockets, real time and real randomness, with certificates in files.

use std::{net::UdpSocket, sync::Arc, time::Duration};

use palisade_domain::UnixNanos;
use palisade_supervision::Here;
use palisade_world::{BootNanos, Clock, Link as _};

use super::bed::{node, numbers, send};
use crate::{CredentialFiles, LinkConfig, Links, MachineRng, Ports, Socket, authority, crypto};

struct Fixed;

impl Clock for Fixed {
    fn boot(&self) -> BootNanos {
        BootNanos(0)
    }
    fn unix(&self) -> UnixNanos {
        super::bed::EPOCH
    }
}

#[test]
fn unit_link_over_real_sockets_delivers_all_in_order_with_certificates_from_files() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (own, list) = authority::authority("test", 1, super::bed::EPOCH, &MachineRng).expect("made");
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let (authorities, revoked) = (write("ca.pem", &own.certificate), write("ca.crl", &list));
    let start = |name: &str, socket: UdpSocket, peers| {
        let issued = authority::issue(&own, &node(name), 1, super::bed::EPOCH, &MachineRng).expect("issued");
        let files = CredentialFiles {
            certificate: write(&format!("{name}.pem"), &issued.certificate),
            key: write(&format!("{name}.key"), &issued.key),
            authorities: authorities.clone(),
            revoked: Some(revoked.clone()),
        };
        let ports = Ports {
            place: Here::place(),
            clock: Arc::new(Fixed),
            rng: Arc::new(MachineRng),
            provider: crypto::machine(),
            credentials: Arc::new(files),
        };
        Links::start(LinkConfig { peers, ..LinkConfig::default() }, ports, Socket::Machine(socket)).expect("starts")
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("made");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let bind = || UdpSocket::bind("127.0.0.1:0").expect("bound");
        let (one, other) = (bind(), bind());
        let address = other.local_addr().expect("bound");
        let b = start("b", other, [].into());
        let a = start("a", one, [(node("b"), address)].into());
        let all = async { tokio::join!(send(&a, "b", 0..50_000, 200), numbers(&b, 50_000)) };
        let ((), came) = tokio::time::timeout(Duration::from_secs(60), all).await.expect("in time");
        assert_eq!(came, (0..50_000).collect::<Vec<_>>());
        a.close().await;
        b.close().await;
        while b.next().await.is_some() {}
    });
}
