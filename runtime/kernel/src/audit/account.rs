//! How many records were made of what an LSM told in the audit stream, and how many that should have been are not.
//!
//! Invariant: it outlives whoever reads the stream: numbers go on where a broken reader left off.

use std::collections::BTreeMap;

use palisade_kernel_abi::record::{Kind, PRODUCER_USER};
use palisade_world::{Loss, LossReason};

/// Of AppArmor's denials; apart from the responders', of which each start has a number from [`PRODUCER_USER`] on.
pub(crate) const APPARMOR: u32 = PRODUCER_USER + 0x4000_0000;
/// Of SELinux's.
pub(crate) const SELINUX: u32 = APPARMOR + 1;

/// The account.
#[derive(Debug)]
pub struct Account {
    producer: u32,
    next: u64,
    lost: u64,
    malformed: u64,
    /// What the kernel had no room for: its number when it was first asked, and now.
    dropped: Option<(u32, u32)>,
}

impl Account {
    /// Of this producer.
    pub fn of(producer: u32) -> Self {
        Self { producer, next: 0, lost: 0, malformed: 0, dropped: None }
    }

    /// The producer and the number of the next record.
    pub fn number(&mut self) -> (u32, u64) {
        self.next += 1;
        (self.producer, self.next - 1)
    }

    /// The kernel dropped some, and does not say how many: one number stands for them.
    pub fn count_lost(&mut self) {
        self.next += 1;
        self.lost += 1;
    }

    /// The kernel's own number of what it had no room for. What it says is of all subsystems: none of them is told to be this producer's.
    pub fn set_dropped(&mut self, dropped: u32) {
        let (first, _) = self.dropped.unwrap_or((dropped, dropped));
        self.dropped = Some((first, dropped));
    }

    /// One of ours could not be read, so that it has no record. Whether it is to be said: of many, ever fewer are.
    #[must_use]
    pub fn count_malformed(&mut self) -> bool {
        self.next += 1;
        self.uncount()
    }

    /// The record of the last number could not be made. Whether it is to be said.
    #[must_use]
    pub fn uncount(&mut self) -> bool {
        self.malformed += 1;
        self.malformed.is_power_of_two()
    }

    /// For the port.
    pub fn loss(&self) -> Loss {
        let dropped = u64::from(self.dropped.map_or(0, |(first, now)| now.wrapping_sub(first)));
        let counts = [(LossReason::SocketFull, self.lost + dropped), (LossReason::Malformed, self.malformed)];
        let counts = counts.into_iter().filter(|(_, count)| *count > 0);
        Loss {
            counts: counts.map(|(reason, count)| ((Kind::Open.code(), reason), count)).collect(),
            produced: BTreeMap::from([(self.producer, self.next + dropped)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_audit_account_numbers_what_is_lost_as_what_is_delivered() {
        let mut account = Account::of(APPARMOR);
        assert_eq!([account.number(), account.number()], [(APPARMOR, 0), (APPARMOR, 1)]);
        account.count_lost();
        assert!(account.count_malformed(), "the first is said");
        assert_eq!(account.number(), (APPARMOR, 4));
        let loss = account.loss();
        assert_eq!(loss.produced, BTreeMap::from([(APPARMOR, 5)]));
        assert_eq!(loss.counts.values().sum::<u64>(), 2);
        // Of before it was asked, nothing is known.
        account.set_dropped(7);
        assert_eq!(account.loss(), loss);
        account.set_dropped(10);
        let after = account.loss();
        assert_eq!((after.produced[&APPARMOR], after.counts.values().sum::<u64>()), (8, 5));
    }

    #[test]
    fn unit_audit_account_says_ever_fewer_of_many_that_do_not_read() {
        let mut account = Account::of(APPARMOR);
        let said = (0..1000).filter(|_| account.count_malformed()).count();
        assert_eq!((said, account.loss().counts.values().sum::<u64>()), (10, 1000));
    }
}
