//! Who exchanges the authority of all nodes while they run, as the documentation of links says to: first everybody believes both, then
//! everybody has a certificate of the new one, then nobody believes the old one any more.

use std::{cell::RefCell, rc::Rc};

use super::office::{Era, Office};
use crate::event::{Event, Teller};

/// See the module.
pub struct Registrar {
    office: Rc<RefCell<Office>>,
    tellers: Vec<Teller>,
}

impl Registrar {
    pub(super) fn new(office: Rc<RefCell<Office>>, tellers: &[Teller]) -> Self {
        Self { office, tellers: tellers.to_vec() }
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.tellers.len()
    }

    /// Says that this happened.
    pub fn say(&self, event: &Event) {
        self.tellers[0].tell(event);
    }

    /// There is another authority, which nobody believes yet.
    #[must_use]
    pub fn found(&self) -> Era {
        self.office.borrow_mut().found()
    }

    /// A node is told to believe it as well.
    pub fn believe(&self, node: usize, era: Era) {
        self.office.borrow_mut().believe(node, era);
    }

    /// Who gets a certificate from now on gets one of the newest authority.
    pub fn issue_by_the_newest(&self) {
        self.office.borrow_mut().issue_by_the_newest();
    }

    /// A node gets a certificate of the one that issues.
    pub fn give(&self, node: usize) {
        self.office.borrow_mut().renew(node);
        self.tellers[node].tell(&Event::CertificateRenewed);
    }

    /// Nodes whose certificate is of an authority before this one; each is told to be out from when it is no longer believed.
    #[must_use]
    pub fn left_behind(&self, era: Era) -> Vec<usize> {
        let left: Vec<usize> = (0..self.nodes()).filter(|node| self.office.borrow().era(*node) < era).collect();
        left.iter().for_each(|node| self.tellers[*node].tell(&Event::CertificateUnbelieved));
        left
    }

    /// A node is told to believe no authority before this one.
    pub fn believe_only(&self, node: usize, era: Era) {
        self.office.borrow_mut().believe_only(node, era);
    }

    /// Gives a node a certificate of the one that issues, where it has still none.
    pub fn catch_up(&self, node: usize, era: Era) {
        let is_behind = self.office.borrow().era(node) < era;
        if is_behind {
            self.give(node);
        }
    }
}
