//! The authority of simulated nodes: certificates, renewed and taken back while nodes run.
//!
//! Invariant: what a node reads is one reading, as of files that are replaced whole. The world says what it was when it is read, for from
//! then on the node has to go by it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use palisade_domain::{NodeName, UnixNanos};
use palisade_link::{
    CredentialSource, Credentials, CredentialsError,
    authority::{self, Issued},
};

use super::{SeededRng, name};
use crate::{
    event::{Event, Teller, lock},
    random::Random,
    world::mutation::Mutation,
};

/// 2025-12-01T00:00:00Z: a month before the simulated clocks begin, so that no jump of one is before a certificate.
const MADE: UnixNanos = UnixNanos(1_764_547_200_000_000_000);
const DAYS: u32 = 365;

/// A certificate: of which node, and which of its own.
pub type Certificate = (usize, u32);

/// What a node can read.
struct Held {
    credentials: Credentials,
    own: u32,
    revoked: BTreeSet<Certificate>,
    is_read: bool,
}

/// The files of one node.
pub struct Papers {
    held: Mutex<Held>,
    teller: Option<Teller>,
}

fn copy(of: &Credentials) -> Credentials {
    Credentials {
        chain: of.chain.clone(),
        key: of.key.clone_key(),
        authorities: of.authorities.clone(),
        revocations: of.revocations.clone(),
    }
}

impl Papers {
    pub(super) fn own_name(&self) -> Option<NodeName> {
        lock(&self.held).credentials.name()
    }
}

impl CredentialSource for Papers {
    fn read(&self) -> Result<Credentials, CredentialsError> {
        let (credentials, news) = {
            let mut held = lock(&self.held);
            let is_news = !std::mem::replace(&mut held.is_read, true);
            (copy(&held.credentials), is_news.then(|| (held.own, held.revoked.clone())))
        };
        if let (Some(teller), Some((own, revoked))) = (&self.teller, news) {
            teller.tell(&Event::PapersRead { own, revoked: revoked.into_iter().collect() });
        }
        Ok(credentials)
    }
}

/// See the module.
pub struct Office {
    rng: SeededRng,
    own: Issued,
    list: String,
    foreign: Issued,
    revoked: BTreeSet<Certificate>,
    /// Each node's last certificate.
    issued: Vec<(u32, Issued)>,
    papers: Vec<Arc<Papers>>,
    mutation: Option<Mutation>,
}

/// What is made here is well formed: a failure is a bug of the simulation.
fn made<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| unreachable!("certificates of a simulation: {error:?}"))
}

impl Office {
    pub(super) fn new(random: Random, nodes: usize, mutation: Option<Mutation>) -> Self {
        let rng = SeededRng::new(random);
        let (own, list) = made(authority::authority("simulated nodes", DAYS, MADE, &rng));
        let (foreign, _) = made(authority::authority("somebody else", DAYS, MADE, &rng));
        let issue = |node| (0, made(authority::issue(&own, &name(node), DAYS, MADE, &rng)));
        let issued = (0..nodes).map(issue).collect();
        Self { rng, own, list, foreign, revoked: BTreeSet::new(), issued, papers: Vec::new(), mutation }
    }

    fn credentials(&self, issued: &Issued) -> Credentials {
        let mut authorities = self.own.certificate.clone();
        if self.mutation == Some(Mutation::BelievesAnyAuthority) {
            authorities.push_str(&self.foreign.certificate);
        }
        // One list of nobody, where the nodes are to forget who is on it.
        let list = match self.mutation {
            Some(Mutation::ForgetsRevocations) => "",
            _ => &self.list,
        };
        made(Credentials::of_pem(&issued.certificate, &issued.key, &authorities, list))
    }

    /// Of the next node: they are asked for in order.
    pub(super) fn papers(&mut self, teller: &Teller) -> Arc<Papers> {
        let (own, issued) = &self.issued[teller.node];
        let held =
            Held { credentials: self.credentials(issued), own: *own, revoked: self.revoked.clone(), is_read: false };
        let papers = Arc::new(Papers { held: Mutex::new(held), teller: Some(teller.clone()) });
        self.papers.push(Arc::clone(&papers));
        papers
    }

    fn deliver(&self, node: usize) {
        let (own, issued) = &self.issued[node];
        let Some(papers) = self.papers.get(node) else { return };
        let credentials = self.credentials(issued);
        *lock(&papers.held) = Held { credentials, own: *own, revoked: self.revoked.clone(), is_read: false };
    }

    pub(super) fn renew(&mut self, node: usize) {
        let issued = made(authority::issue(&self.own, &name(node), DAYS, MADE, &self.rng));
        self.issued[node] = (self.issued[node].0 + 1, issued);
        self.deliver(node);
    }

    pub(super) fn revoke(&mut self, node: usize) {
        let (number, issued) = &self.issued[node];
        self.list = made(authority::revoke(&self.own, &self.list, &issued.certificate, MADE));
        self.revoked.insert((node, *number));
        (0..self.papers.len()).for_each(|node| self.deliver(node));
    }

    /// Of another authority by the name of a node; and of this one, on the list from the start, by a name that no node has.
    pub(super) fn strangers(&mut self, nodes: usize) -> Vec<Arc<Papers>> {
        let impostor = made(authority::issue(&self.foreign, &name(nodes - 1), DAYS, MADE, &self.rng));
        // A name that the rules of names allow.
        let gone: NodeName = made("gone".parse());
        let gone = made(authority::issue(&self.own, &gone, DAYS, MADE, &self.rng));
        self.list = made(authority::revoke(&self.own, &self.list, &gone.certificate, MADE));
        (0..self.papers.len()).for_each(|node| self.deliver(node));
        [impostor, gone]
            .into_iter()
            .map(|issued| {
                let held =
                    Held { credentials: self.credentials(&issued), own: 0, revoked: BTreeSet::new(), is_read: true };
                Arc::new(Papers { held: Mutex::new(held), teller: None })
            })
            .collect()
    }
}
