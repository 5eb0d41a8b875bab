//! Certificates while the node runs: reads them again and again, takes new ones into force, and tells what is wrong with the node's own.
//!
//! Invariant: what cannot be read or used changes nothing; what is in force then is said to be. What a node shows of itself and whom it believes
//! wait for nothing of the other: who was taken back is out, though the node's own certificate or key cannot be used as they are now, and a
//! certificate is renewed though a list cannot be read. Only a new authority waits for the lists, on which those may be whom it took back. New
//! ones count for what is linked from then on, and what stands is looked at by its session.
//! Decision: troubles are looked for once in a while and kept, and not when somebody asks, because lists are long and who asks asks often.

use std::{sync::Arc, time::Duration};

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use tokio::time::Instant;

use crate::{
    credentials::{Credentials, CredentialsError, Own, Reading},
    examine,
    links::{Shared, held},
    lists,
    quic::Tls,
    reader::Reader,
};

/// Between two looks at the node's own certificate by its own authorities, where nothing changed but the time.
const EXAMINE_EVERY: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct Renewal {
    reader: Reader,
    /// What of the credentials as they are now is not in force, and why.
    unusable: Vec<String>,
    /// What its own authorities and lists say of the node's certificate, as of when.
    examined: (Arc<Tls>, Instant, Option<String>),
}

fn own_fault(shared: &Shared, tls: &Tls) -> Option<String> {
    examine::own_fault(&tls.credentials, &tls.verifier, shared.now())
}

impl Renewal {
    pub(crate) fn new(shared: &Shared, reader: Reader) -> Self {
        let tls = shared.tls.get();
        let fault = own_fault(shared, &tls);
        Self { reader, unusable: Vec::new(), examined: (tls, Instant::now(), fault) }
    }

    /// Runs for ever.
    pub(crate) async fn run(mut self, shared: &Shared) {
        loop {
            tokio::time::sleep(shared.config.read_every).await;
            let read = self.reader.read(shared.now()).await;
            self.unusable = renew(shared, read);
            self.look(shared);
            let due = held(&shared.strangers).due(Instant::now());
            due.iter().for_each(crate::strangers::Line::log);
        }
    }

    /// Looks for troubles, keeps them for who asks, and says what is new.
    pub(crate) fn look(&mut self, shared: &Shared) {
        let now = self.troubles(shared);
        let before = std::mem::replace(&mut *held(&shared.troubles), now.clone());
        now.iter().filter(|said| !before.contains(said)).for_each(|said| tracing::warn!("{said}"));
        if now.is_empty() && !before.is_empty() {
            tracing::info!("certificates are sound again");
        }
    }

    fn troubles(&mut self, shared: &Shared) -> Vec<String> {
        let (tls, now) = (shared.tls.get(), shared.now());
        let (examined, at, _) = &self.examined;
        if !Arc::ptr_eq(examined, &tls) || at.elapsed() >= EXAMINE_EVERY {
            let fault = own_fault(shared, &tls);
            self.examined = (Arc::clone(&tls), Instant::now(), fault);
        }
        let mut troubles = self.unusable.clone();
        if let Some(ends) = examine::ends_soon(&tls.credentials, now) {
            let text = ends.rfc3339();
            troubles.push(match now >= ends {
                true => format!("this node's certificate ended {text}: no node links to it"),
                false => format!("this node's certificate ends {text}"),
            });
        }
        troubles.extend(self.examined.2.clone());
        troubles.extend(shared.entries().iter().filter_map(|entry| entry.trouble(now)));
        troubles.extend(held(&shared.strangers).refusers(now));
        troubles.extend(examine::doubtful_lists(&tls.verifier, now));
        troubles
    }
}

/// What of it is not in force, in words.
fn renew(shared: &Shared, read: Reading) -> Vec<String> {
    let before = shared.tls.get();
    let in_force = &before.credentials;
    let mut unusable = Vec::new();
    let revocations = read.revocations.unwrap_or_else(|error| {
        unusable.push(kept("revocation lists", &error));
        in_force.revocations.clone()
    });
    let is_new = |authorities: &[CertificateDer<'_>]| authorities.iter().any(|one| !in_force.authorities.contains(one));
    let authorities = match read.authorities {
        Ok(authorities) if !unusable.is_empty() && is_new(&authorities) => {
            // Their own lists, of whom they took back, may be what cannot be read.
            unusable.push(kept("authorities", &"new ones wait for the revocation lists"));
            in_force.authorities.clone()
        }
        Ok(authorities) => authorities,
        Err(error) => {
            unusable.push(kept("authorities", &error));
            in_force.authorities.clone()
        }
    };
    let own = read.own.unwrap_or_else(|error| {
        unusable.insert(0, kept("certificate and key", &error));
        in_force.own()
    });
    unusable.extend(take_what_can_be(shared, &before, own, (authorities, revocations)));
    unusable
}

fn kept(what: &str, why: &dyn std::fmt::Display) -> String {
    format!("{what} as they are now are not in force, the last good ones are: {why}")
}

type Trust = (Vec<CertificateDer<'static>>, Vec<CertificateRevocationListDer<'static>>);

/// All of it; or what a node shows of itself, or whom it believes, with the other as it is in force. What is not taken, in words.
fn take_what_can_be(
    shared: &Shared,
    before: &Tls,
    (chain, key): Own,
    (authorities, revocations): Trust,
) -> Option<String> {
    let in_force = &before.credentials;
    let all = Credentials { chain, key, authorities, revocations };
    let trust = Credentials {
        chain: in_force.chain.clone(),
        key: in_force.key.clone_key(),
        authorities: all.authorities.clone(),
        revocations: all.revocations.clone(),
    };
    let own = Credentials {
        chain: all.chain.clone(),
        key: all.key.clone_key(),
        authorities: in_force.authorities.clone(),
        revocations: in_force.revocations.clone(),
    };
    let error = take(shared, before, all).err()?;
    let Err(other) = take(shared, before, trust) else { return Some(kept("certificate and key", &error)) };
    if take(shared, before, own).is_ok() {
        return Some(kept("authorities and revocation lists", &error));
    }
    let (error, other) = (error.to_string(), other.to_string());
    Some(kept("certificates", &if error == other { error } else { format!("{error}; {other}") }))
}

fn take(shared: &Shared, before: &Tls, read: Credentials) -> Result<(), CredentialsError> {
    if before.credentials == read {
        return Ok(());
    }
    if read.name().as_ref() != Some(&shared.name) {
        let named = read.name().map_or("nobody".into(), |name| name.to_string());
        return Err(CredentialsError::OtherNode { named, runs: shared.name.clone() });
    }
    let tls = Arc::new(shared.making.tls(read)?);
    if let Some(said) = lists::going_back(&before.verifier.lists, &tls.verifier.lists, &tls.credentials.authorities) {
        return Err(CredentialsError::Revocations(said));
    }
    if let (Some(endpoint), true) = (shared.endpoint(), shared.config.listens) {
        endpoint.set_server_config(Some(tls.server.clone()));
    }
    shared.tls.set(tls);
    tracing::info!("other certificates are in force");
    Ok(())
}
