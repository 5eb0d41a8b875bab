//! The authorities of simulated nodes: certificates that are renewed, end and are taken back while nodes run, and authorities that follow
//! one upon the other.
//!
//! Invariant: what a node reads is of files that are replaced whole, each, and may not belong together yet.
//! The world says what it was when it is read, for from then on the node has to go by it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use palisade_domain::{NodeName, UnixNanos};
use palisade_link::{
    CredentialSource, Credentials, Reading as Parts,
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
const DAY_NS: u64 = 86_400_000_000_000;

/// A certificate: of which node, and which of its own.
pub type Certificate = (usize, u32);

/// An authority: the first, the one after it.
pub type Era = u32;

/// What a node finds in its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// Which of its own certificates it has.
    pub own: u32,
    /// Of which authority that is.
    pub era: Era,
    /// When it ends.
    pub ends: UnixNanos,
    /// Whose certificates it believes.
    pub believed: BTreeSet<Era>,
    /// Which of whom are on the lists.
    pub revoked: BTreeSet<Certificate>,
}

/// What a node can read.
struct Held {
    credentials: Credentials,
    reading: Reading,
    is_read: bool,
    /// The certificate is there and its key is not yet: it is still that of these.
    before: Option<Credentials>,
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

    /// All files are written.
    pub(super) fn complete(&self) {
        lock(&self.held).before = None;
    }
}

impl CredentialSource for Papers {
    fn read(&self) -> Parts {
        let (credentials, news) = {
            let mut held = lock(&self.held);
            if let Some(before) = &held.before {
                let credentials = Credentials { key: before.key.clone_key(), ..copy(&held.credentials) };
                drop(held);
                if let Some(teller) = &self.teller {
                    teller.tell(&Event::PapersTorn);
                }
                return credentials.into();
            }
            let is_news = !std::mem::replace(&mut held.is_read, true);
            (copy(&held.credentials), is_news.then(|| held.reading.clone()))
        };
        if let (Some(teller), Some(reading)) = (&self.teller, news) {
            teller.tell(&Event::PapersRead(Box::new(reading)));
        }
        credentials.into()
    }
}

/// A certificate that a node was given.
struct Given {
    number: u32,
    era: Era,
    ends: UnixNanos,
    issued: Issued,
}

struct Authority {
    era: Era,
    issued: Issued,
    list: String,
}

impl Authority {
    /// What it issued is on its list from now on.
    fn revoke(&mut self, issued: &Issued) {
        self.list = made(authority::revoke(&self.issued, &self.list, &issued.certificate, MADE));
    }
}

/// See the module.
pub struct Office {
    rng: SeededRng,
    /// By age.
    authorities: Vec<Authority>,
    /// Which of them gives certificates.
    issues: usize,
    foreign: Issued,
    revoked: BTreeSet<Certificate>,
    /// Each node's last certificate.
    given: Vec<Given>,
    /// Whom each node is told to believe.
    believed: Vec<BTreeSet<Era>>,
    papers: Vec<Arc<Papers>>,
    mutation: Option<Mutation>,
}

/// What is made here is well formed: a failure is a bug of the simulation.
fn made<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| unreachable!("certificates of a simulation: {error:?}"))
}

/// The usual end of a certificate.
const fn usual_end() -> UnixNanos {
    UnixNanos(MADE.0 + DAYS as u64 * DAY_NS)
}

impl Office {
    pub(super) fn new(random: Random, nodes: usize, mutation: Option<Mutation>) -> Self {
        let rng = SeededRng::new(random);
        let (issued, list) = made(authority::authority("simulated nodes", DAYS, MADE, &rng));
        let (foreign, _) = made(authority::authority("somebody else", DAYS, MADE, &rng));
        let first = Authority { era: 0, issued, list };
        let issue = |node| Given {
            number: 0,
            era: 0,
            ends: usual_end(),
            issued: made(authority::issue(&first.issued, &name(node), DAYS, MADE, &rng)),
        };
        let given = (0..nodes).map(issue).collect();
        let believed = vec![[0].into(); nodes];
        let (authorities, revoked, papers) = (vec![first], BTreeSet::new(), Vec::new());
        Self { rng, authorities, issues: 0, foreign, revoked, given, believed, papers, mutation }
    }

    fn credentials(&self, issued: &Issued, believed: &BTreeSet<Era>) -> Credentials {
        let newest = believed.last().copied();
        let is_in_file = |authority: &&Authority| match self.mutation {
            Some(Mutation::KeepsOldAuthorities) => true,
            Some(Mutation::ForgetsOldAuthorities) => Some(authority.era) == newest,
            _ => believed.contains(&authority.era),
        };
        let there: Vec<&Authority> = self.authorities.iter().filter(is_in_file).collect();
        let mut authorities: String = there.iter().map(|authority| authority.issued.certificate.as_str()).collect();
        if self.mutation == Some(Mutation::BelievesAnyAuthority) {
            authorities.push_str(&self.foreign.certificate);
        }
        // No list at all, where the nodes are to forget who is on it.
        let lists: String = match self.mutation {
            Some(Mutation::ForgetsRevocations) => String::new(),
            _ => there.iter().map(|authority| authority.list.as_str()).collect(),
        };
        made(Credentials::of_pem(&issued.certificate, &issued.key, &authorities, &lists))
    }

    fn held(&self, node: usize) -> Held {
        let Given { number, era, ends, issued } = &self.given[node];
        let reading = Reading {
            own: *number,
            era: *era,
            ends: *ends,
            believed: self.believed[node].clone(),
            revoked: self.revoked.clone(),
        };
        Held { credentials: self.credentials(issued, &self.believed[node]), reading, is_read: false, before: None }
    }

    /// Of the next node: they are asked for in order.
    pub(super) fn papers(&mut self, teller: &Teller) -> Arc<Papers> {
        let papers = Arc::new(Papers { held: Mutex::new(self.held(teller.node)), teller: Some(teller.clone()) });
        self.papers.push(Arc::clone(&papers));
        papers
    }

    fn deliver(&self, node: usize) {
        if let Some(papers) = self.papers.get(node) {
            *lock(&papers.held) = self.held(node);
        }
    }

    fn deliver_all(&self) {
        (0..self.papers.len()).for_each(|node| self.deliver(node));
    }

    fn give(&mut self, node: usize, made_at: UnixNanos, days: u32) {
        let by = &self.authorities[self.issues];
        let issued = made(authority::issue(&by.issued, &name(node), days, made_at, &self.rng));
        let (number, era) = (self.given[node].number + 1, by.era);
        let ends = UnixNanos(made_at.0 + u64::from(days) * DAY_NS);
        self.given[node] = Given { number, era, ends, issued };
        self.deliver(node);
    }

    pub(super) fn renew(&mut self, node: usize) {
        self.give(node, MADE, DAYS);
    }

    /// The same; the certificate is there, and the key that belongs to it is not, until it is [completed](Papers::complete).
    pub(super) fn begin_renewal(&mut self, node: usize) {
        let Some(papers) = self.papers.get(node).map(Arc::clone) else { return };
        let before = copy(&lock(&papers.held).credentials);
        self.renew(node);
        lock(&papers.held).before = Some(before);
    }

    /// Another certificate, which ends then: certificates are dated by the second.
    pub(super) fn give_until(&mut self, node: usize, ends: UnixNanos) {
        const OLD: u32 = 30;
        let whole = ends.0 - ends.0 % 1_000_000_000;
        self.give(node, UnixNanos(whole - u64::from(OLD) * DAY_NS), OLD);
    }

    pub(super) fn revoke(&mut self, node: usize) {
        let Given { number, era, issued, .. } = &self.given[node];
        if let Some(by) = self.authorities.iter_mut().find(|authority| authority.era == *era) {
            by.revoke(issued);
        }
        self.revoked.insert((node, *number));
        self.deliver_all();
    }

    /// There is another authority, which nobody believes yet and which gives no certificates; and which one it is.
    pub(super) fn found(&mut self) -> Era {
        let era = self.authorities.last().map_or(0, |newest| newest.era + 1);
        let (issued, list) = made(authority::authority("simulated nodes", DAYS, MADE, &self.rng));
        self.authorities.push(Authority { era, issued, list });
        era
    }

    /// Certificates are of the newest authority from now on.
    pub(super) fn issue_by_the_newest(&mut self) {
        self.issues = self.authorities.len() - 1;
    }

    pub(super) fn believe(&mut self, node: usize, era: Era) {
        self.believed[node].insert(era);
        self.deliver(node);
    }

    /// A node believes no authority before this one.
    pub(super) fn believe_only(&mut self, node: usize, era: Era) {
        self.believed[node] = [era].into();
        self.deliver(node);
    }

    /// Of which authority a node's certificate is.
    pub(super) fn era(&self, node: usize) -> Era {
        self.given[node].era
    }

    /// Of another authority by the name of a node; and of this one, on the list from the start, by a name that no node has.
    pub(super) fn strangers(&mut self, nodes: usize) -> Vec<Arc<Papers>> {
        let impostor = made(authority::issue(&self.foreign, &name(nodes - 1), DAYS, MADE, &self.rng));
        // A name that the rules of names allow.
        let gone: NodeName = made("gone".parse());
        let by = &mut self.authorities[self.issues];
        let gone = made(authority::issue(&by.issued, &gone, DAYS, MADE, &self.rng));
        by.revoke(&gone);
        self.deliver_all();
        let nobody = Reading { own: 0, era: 0, ends: usual_end(), believed: [0].into(), revoked: BTreeSet::new() };
        [impostor, gone]
            .into_iter()
            .map(|issued| {
                let credentials = self.credentials(&issued, &nobody.believed);
                let held = Held { credentials, reading: nobody.clone(), is_read: true, before: None };
                Arc::new(Papers { held: Mutex::new(held), teller: None })
            })
            .collect()
    }
}
