//! Certificates while the node runs: reads them again and again, takes new ones into force, and tells what is wrong with the node's own.
//!
//! Invariant: what cannot be used changes nothing; what is in force then is said to be. Authorities and lists wait for no pair: who was taken
//! back is out, though the node's own certificate or key cannot be used as they are now. New ones count for what is linked from then on, and what
//! stands is looked at by its session.
//! Decision: troubles are looked for once in a while and kept, and not when somebody asks, because lists are long and who asks asks often.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    credentials::{Credentials, CredentialsError},
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
    /// Why the credentials as they are now are not in force.
    unusable: Option<String>,
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
        Self { reader, unusable: None, examined: (tls, Instant::now(), fault) }
    }

    /// Runs for ever.
    pub(crate) async fn run(mut self, shared: &Shared) {
        loop {
            tokio::time::sleep(shared.config.read_every).await;
            let read = self.reader.read().await;
            self.unusable = renew(shared, read).err();
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
        let mut troubles: Vec<String> = self.unusable.clone().into_iter().collect();
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
        troubles.extend(examine::doubtful_lists(&tls.verifier.lists, now));
        troubles
    }
}

/// What of it is not in force, in words.
fn renew(shared: &Shared, read: Result<Credentials, CredentialsError>) -> Result<(), String> {
    let before = shared.tls.get();
    let (error, trust) = match read {
        Ok(read) if before.credentials == read => return Ok(()),
        Ok(read) => {
            let trust = read.trust();
            match take(shared, &before, read) {
                Ok(()) => return Ok(()),
                Err(error) => (error, Some(trust)),
            }
        }
        Err(CredentialsError::OwnPair { why, trust }) => (*why, Some(*trust)),
        Err(error) => (error, None),
    };
    let kept = "are not in force, the last good ones are";
    match trust.map(|trust| take(shared, &before, before.credentials.with(trust))) {
        Some(Ok(())) => Err(format!("certificate and key as they are now {kept}: {error}")),
        Some(Err(other)) if other.to_string() != error.to_string() => {
            Err(format!("certificates as they are now {kept}: {error}; {other}"))
        }
        _ => Err(format!("certificates as they are now {kept}: {error}")),
    }
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
