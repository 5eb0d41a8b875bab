//! What came from a peer: the last message that was taken of it. The pure part of receiving.
//!
//! Invariant: messages are handed on once and in order, or the connection ends: a number that does not follow, or a digest that is not that
//! of what came, is a bug or a lie.

use palisade_wire::frame::{Batch, Digest, Place};

/// Why a frame cannot follow the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InboundError {
    /// Messages before the first word on which follow.
    #[error("messages before their beginning was said")]
    NoBeginning,
    /// Numbers that were taken already.
    #[error("messages from {begins} on, of which {taken} are taken already")]
    Backwards {
        /// As the sender says.
        begins: u64,
        /// As is remembered.
        taken: u64,
    },
    /// A gap within a connection.
    #[error("message {came} after {taken}")]
    Gap {
        /// The number that came.
        came: u64,
        /// The last before.
        taken: u64,
    },
    /// Not the messages that the sender meant.
    #[error("the digest up to message {0} is not that of what came")]
    Diverged(u64),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    taken: Option<Place>,
    /// A beginning was said on this connection.
    begun: bool,
    /// Messages that a sender no longer had for us.
    pub(crate) lost: u64,
}

impl Inbound {
    /// A new connection. What is taken, for its other end.
    pub(crate) fn connected(&mut self) -> Option<Place> {
        self.begun = false;
        self.taken
    }

    /// All that follows is after this.
    pub(crate) fn begin(&mut self, begins: Place) -> Result<(), InboundError> {
        if let Some(taken) = self.taken.filter(|taken| taken.run == begins.run) {
            match begins.sequence.checked_sub(taken.sequence) {
                None => return Err(InboundError::Backwards { begins: begins.sequence, taken: taken.sequence }),
                Some(0) if begins.digest != taken.digest => return Err(InboundError::Diverged(taken.sequence)),
                Some(gap) => self.lost = self.lost.saturating_add(gap),
            }
        }
        self.taken = Some(begins);
        self.begun = true;
        Ok(())
    }

    /// Whether a batch follows, and where it leads.
    pub(crate) fn after(&self, batch: &Batch) -> Result<Place, InboundError> {
        let Some(taken) = self.taken.filter(|_| self.begun) else { return Err(InboundError::NoBeginning) };
        if batch.first != taken.sequence + 1 {
            return Err(InboundError::Gap { came: batch.first, taken: taken.sequence });
        }
        let digest = batch.messages.iter().fold(taken.digest, |digest: Digest, message| digest.after(message));
        let sequence = taken.sequence + batch.messages.len() as u64;
        if digest != batch.digest {
            return Err(InboundError::Diverged(sequence));
        }
        Ok(Place { run: taken.run, sequence, digest })
    }

    /// It was handed on.
    pub(crate) fn take(&mut self, place: Place) {
        self.taken = Some(place);
    }

    pub(crate) const fn taken(&self) -> Option<Place> {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use palisade_wire::frame::Run;

    use super::*;

    fn batch(after: Place, texts: &[&'static str]) -> Batch {
        let messages: Vec<Bytes> = texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect();
        let digest = messages.iter().fold(after.digest, |digest, message| digest.after(message));
        Batch { first: after.sequence + 1, messages, digest }
    }

    fn place(run: u64, sequence: u64) -> Place {
        Place { run: Run(run), sequence, digest: Digest::default() }
    }

    #[test]
    fn unit_link_inbound_takes_messages_in_order_and_nothing_else() {
        let mut inbound = Inbound::default();
        let begins = place(1, 0);
        assert_eq!(inbound.after(&batch(begins, &["a"])), Err(InboundError::NoBeginning));
        inbound.begin(begins).expect("new");
        let first = batch(begins, &["a", "b"]);
        let taken = inbound.after(&first).expect("follows");
        inbound.take(taken);
        assert_eq!(taken.sequence, 2);
        assert_eq!(inbound.after(&first), Err(InboundError::Gap { came: 1, taken: 2 }));
        let wrong = Batch { digest: Digest(1), ..batch(taken, &["c"]) };
        assert_eq!(inbound.after(&wrong), Err(InboundError::Diverged(3)));
        assert!(inbound.after(&batch(taken, &["c"])).is_ok());
        assert_eq!(inbound.connected(), Some(taken));
        assert_eq!(inbound.after(&batch(taken, &["c"])), Err(InboundError::NoBeginning), "on the new connection");
    }

    #[test]
    fn unit_link_inbound_counts_what_a_sender_no_longer_has() {
        let mut inbound = Inbound::default();
        inbound.begin(place(1, 0)).expect("new");
        inbound.take(place(1, 5));
        assert_eq!(inbound.begin(place(1, 4)), Err(InboundError::Backwards { begins: 4, taken: 5 }));
        let other = Place { digest: Digest(3), ..place(1, 5) };
        assert_eq!(inbound.begin(other), Err(InboundError::Diverged(5)));
        inbound.begin(place(1, 5)).expect("goes on");
        assert_eq!(inbound.lost, 0);
        inbound.begin(place(1, 9)).expect("a gap");
        assert_eq!(inbound.lost, 4);
        inbound.begin(place(2, 70)).expect("a sender that began anew");
        assert_eq!((inbound.lost, inbound.taken()), (4, Some(place(2, 70))));
    }
}
