//! What the cryptography of a cluster alone costs: a handshake of TLS for each two nodes, both ends of it, with certificates of both held to
//! their authority, one after the other and in memory: no packet, no timer, no acknowledgement. No simulation with real TLS is quicker.

use std::{sync::Arc, time::Duration};

use palisade_link::Credentials;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{ServerName, UnixTime},
    quic::{ClientConnection, Connection, ServerConnection, Version},
    server::WebPkiClientVerifier,
    time_provider::TimeProvider,
    version::TLS13,
};

use super::nodes::{Cluster, epoch, name};

type Failure = Box<dyn std::error::Error>;

/// Both ends have said all that they say, within so many turns.
const TURNS: usize = 8;

#[derive(Debug)]
struct AtStart;

impl TimeProvider for AtStart {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_nanos(epoch().0)))
    }
}

/// Each node with each other one. How many handshakes there were.
///
/// # Errors
/// One fails.
pub fn all_with_all(cluster: &Cluster, provider: &Arc<CryptoProvider>) -> Result<usize, Failure> {
    let configs = (0..cluster.nodes()).map(|node| configs(cluster.credentials(node)?, provider));
    let configs = configs.collect::<Result<Vec<_>, Failure>>()?;
    let mut done = 0;
    for (number, (client, _)) in configs.iter().enumerate() {
        for (other, (_, server)) in configs.iter().enumerate().skip(number + 1) {
            shake_hands(client, server, other)?;
            done += 1;
        }
    }
    Ok(done)
}

fn configs(
    credentials: Credentials,
    provider: &Arc<CryptoProvider>,
) -> Result<(Arc<ClientConfig>, Arc<ServerConfig>), Failure> {
    let mut roots = RootCertStore::empty();
    for authority in credentials.authorities {
        roots.add(authority)?;
    }
    let roots = Arc::new(roots);
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider)).build()?;
    let client = ClientConfig::builder_with_details(Arc::clone(provider), Arc::new(AtStart))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(credentials.chain.clone(), credentials.key.clone_key())?;
    let mut server = ServerConfig::builder_with_details(Arc::clone(provider), Arc::new(AtStart))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(credentials.chain, credentials.key)?;
    // As links: no tickets.
    server.send_tls13_tickets = 0;
    Ok((Arc::new(client), Arc::new(server)))
}

fn shake_hands(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, other: usize) -> Result<(), Failure> {
    let called = ServerName::try_from(name(other))?;
    let client = ClientConnection::new(Arc::clone(client), Version::V1, called, Vec::new())?;
    let server = ServerConnection::new(Arc::clone(server), Version::V1, Vec::new())?;
    let (mut client, mut server) = (Connection::from(client), Connection::from(server));
    for _ in 0..TURNS {
        say(&mut client, &mut server)?;
        say(&mut server, &mut client)?;
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok(());
        }
    }
    Err("a handshake does not end".into())
}

/// All that one end has to say, at each of its levels of keys.
fn say(from: &mut Connection, to: &mut Connection) -> Result<(), Failure> {
    loop {
        let mut said = Vec::new();
        let goes_on = from.write_hs(&mut said).is_some();
        if !said.is_empty() {
            to.read_hs(&said)?;
        }
        if !goes_on {
            return Ok(());
        }
    }
}
