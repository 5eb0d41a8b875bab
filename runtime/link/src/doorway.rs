//! Who may knock: handshakes that are not done yet, by where they come from. The pure part of taking up who dials.
//!
//! Invariant: no source keeps another out. Each has [`OF_ONE`] unfinished handshakes at most; where all room is taken, the oldest of the source
//! that has the most makes way for one that has fewer, else the oldest that stalls for who comes: whoever would hold the door shut has to
//! dial faster than others shake hands, from as many addresses of its own as there is room. Addresses can be forged until they are proven, so that what is unproven only ever costs a proof (QUIC's retry, of which
//! nothing is remembered here), and is never refused in the name of its address.
//!
//! Units: an IPv6 source is a network of 64 bits, for one host has all of its addresses.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

/// Unfinished handshakes at a time.
pub(crate) const KNOCKS: usize = 32;
/// Of those, from one source: nodes behind one address that begin at once.
pub(crate) const OF_ONE: usize = 8;
/// Of those, how many until each must prove that it is where it says.
const UNPROVEN: usize = 8;
/// Of one source.
const UNPROVEN_OF_ONE: usize = 2;
/// A handshake takes a few round trips: who has taken longer makes way.
const STALLS: Duration = Duration::from_secs(1);
/// For which all must prove where they are, after one was refused that had not.
const WARY: Duration = Duration::from_secs(60);

/// What becomes of who knocks.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It is taken up, until it is done or told to make way.
    Taken(Knock),
    /// It is to prove where it is, and to come again.
    MustProve,
    /// Its source has too many already.
    ManyOfOne,
    /// There is no room, and nobody who stalls.
    Full,
}

/// One that is taken up.
#[derive(Debug)]
pub(crate) struct Knock {
    pub(crate) number: u64,
    /// It is to make way: its sender is gone.
    pub(crate) makes_way: oneshot::Receiver<()>,
    /// From where one was that made way for it.
    pub(crate) displaced: Option<SocketAddr>,
}

struct Unfinished {
    from: SocketAddr,
    source: IpAddr,
    is_proven: bool,
    since: Instant,
    _stays: oneshot::Sender<()>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Doorway {
    /// In the order in which they came.
    unfinished: BTreeMap<u64, Unfinished>,
    numbers: u64,
    wary_until: Option<Instant>,
}

fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        address => address,
    }
}

impl Doorway {
    pub(crate) fn admit(&mut self, from: SocketAddr, is_proven: bool, now: Instant) -> Admission {
        let source = source(from.ip());
        let is_wary = self.wary_until.is_some_and(|until| now < until);
        let alike = self.unfinished.values().filter(|one| one.is_proven == is_proven);
        let (all, of_source) = alike.fold((0, 0), |(all, of), one| (all + 1, of + usize::from(one.source == source)));
        if !is_proven && (is_wary || all >= UNPROVEN || of_source >= UNPROVEN_OF_ONE || self.unfinished.len() >= KNOCKS)
        {
            return Admission::MustProve;
        }
        if is_proven && of_source >= OF_ONE {
            return Admission::ManyOfOne;
        }
        let mut displaced = None;
        if self.unfinished.len() >= KNOCKS {
            let Some(gone) = self.who_makes_way(source, now) else { return Admission::Full };
            displaced = self.unfinished.remove(&gone).map(|one| one.from);
        }
        self.numbers += 1;
        let (stays, makes_way) = oneshot::channel();
        self.unfinished.insert(self.numbers, Unfinished { from, source, is_proven, since: now, _stays: stays });
        Admission::Taken(Knock { number: self.numbers, makes_way, displaced })
    }

    fn who_makes_way(&self, comes: IpAddr, now: Instant) -> Option<u64> {
        let of = |source| self.unfinished.values().filter(|one| one.source == source).count();
        let heaviest = self.unfinished.iter().map(|(number, one)| (of(one.source), std::cmp::Reverse(*number))).max();
        let (most, std::cmp::Reverse(oldest_of_it)) = heaviest?;
        if most >= of(comes) + 2 {
            return Some(oldest_of_it);
        }
        let (oldest, one) = self.unfinished.first_key_value()?;
        (now.duration_since(one.since) >= STALLS).then_some(*oldest)
    }

    /// It shook hands, or went.
    pub(crate) fn done(&mut self, number: u64) {
        self.unfinished.remove(&number);
    }

    /// Somebody was refused who had not proven where it is.
    pub(crate) fn be_wary(&mut self, now: Instant) {
        self.wary_until = Some(now + WARY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 7))
    }

    fn taken(admission: Admission) -> Knock {
        let Admission::Taken(knock) = admission else { panic!("not taken up: {admission:?}") };
        knock
    }

    #[tokio::test(start_paused = true)]
    async fn unit_link_door_keeps_one_source_from_taking_the_room_of_others() {
        let (mut door, now) = (Doorway::default(), Instant::now());
        let held: Vec<Knock> = (0..OF_ONE).map(|_| taken(door.admit(v4(1), true, now))).collect();
        assert!(matches!(door.admit(v4(1), true, now), Admission::ManyOfOne));
        let mapped = SocketAddr::from(([0, 0, 0, 0, 0, 0xffff, 0x0a00, 1], 7));
        assert!(matches!(door.admit(mapped, true, now), Admission::ManyOfOne), "the same by another spelling");
        taken(door.admit(v4(2), true, now));
        door.done(held[0].number);
        taken(door.admit(v4(1), true, now));
        // All addresses of a network of IPv6 are one source.
        let v6 = |network, host| SocketAddr::from(([0x2001, 0xdb8, 0, network, 0, 0, 0, host], 7));
        (0..OF_ONE as u16).for_each(|host| drop(taken(door.admit(v6(1, host), true, now))));
        assert!(matches!(door.admit(v6(1, 99), true, now), Admission::ManyOfOne));
        taken(door.admit(v6(2, 1), true, now));
    }

    #[tokio::test(start_paused = true)]
    async fn unit_link_door_lets_who_stalls_make_way_and_nobody_who_does_not() {
        let (mut door, now) = (Doorway::default(), Instant::now());
        let mut held: Vec<Knock> = (0..KNOCKS).map(|n| taken(door.admit(v4(n as u8), true, now))).collect();
        assert!(matches!(door.admit(v4(100), true, now), Admission::Full));
        assert!(matches!(door.admit(v4(100), false, now), Admission::MustProve), "nothing is known of it");
        let later = now + STALLS;
        assert_eq!(taken(door.admit(v4(100), true, later)).displaced, Some(v4(0)), "that one stalled");
        assert!(held[0].makes_way.try_recv() == Err(oneshot::error::TryRecvError::Closed), "the oldest");
        assert!(held[1].makes_way.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        assert_eq!(door.unfinished.len(), KNOCKS);
    }

    #[tokio::test(start_paused = true)]
    async fn unit_link_door_lets_who_has_many_make_way_for_who_has_few() {
        let (mut door, now) = (Doorway::default(), Instant::now());
        let mut held: Vec<Knock> = (0..KNOCKS).map(|n| taken(door.admit(v4((n % 5) as u8), true, now))).collect();
        assert_eq!(taken(door.admit(v4(100), true, now)).displaced, Some(v4(0)), "not who came");
        // Of 0 and 1, which have seven each, the oldest.
        assert!(held[0].makes_way.try_recv() == Err(oneshot::error::TryRecvError::Closed));
        assert!(matches!(door.admit(v4(1), true, now), Admission::Full), "not for one of the heavy ones themselves");
    }

    #[tokio::test(start_paused = true)]
    async fn unit_link_door_refuses_nobody_for_an_address_that_may_be_forged() {
        let (mut door, now) = (Doorway::default(), Instant::now());
        // A flood in the name of one node; then in those of many.
        let admitted = (0..100).filter(|_| matches!(door.admit(v4(1), false, now), Admission::Taken(_))).count();
        assert_eq!(admitted, UNPROVEN_OF_ONE);
        let admitted = (2..200).filter(|n| matches!(door.admit(v4(*n), false, now), Admission::Taken(_))).count();
        assert_eq!(admitted, UNPROVEN - UNPROVEN_OF_ONE);
        assert!(matches!(door.admit(v4(1), false, now), Admission::MustProve));
        taken(door.admit(v4(1), true, now));
        let mut door = Doorway::default();
        door.be_wary(now);
        assert!(matches!(door.admit(v4(1), false, now), Admission::MustProve));
        taken(door.admit(v4(1), false, now + WARY));
    }
}
