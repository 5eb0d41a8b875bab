//! Whom nobody invited: who stalls, floods and forges.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use palisade_domain::Refusal;
use palisade_world::{Link as _, LinkState};
use quinn::VarInt;

use super::bed::{Bed, Office, address, node, pause, peer, simulated, until, until_linked};
use crate::{Cause, Links};

/// Dials b again and again, as a node that shakes hands and then says nothing: so many connections at a time.
fn stalls(links: &Arc<Links>, at_a_time: usize, shaken: &Arc<AtomicU64>) {
    for _ in 0..at_a_time {
        let (links, shaken) = (Arc::clone(links), Arc::clone(shaken));
        tokio::task::spawn_local(async move {
            loop {
                let (endpoint, tls) = (links.shared.endpoint().expect("open"), links.shared.tls.get());
                let connecting = endpoint.connect_with(tls.client.clone(), address(2), "b").expect("dialled");
                if let Ok(connection) = connecting.await {
                    shaken.fetch_add(1, Ordering::Relaxed);
                    connection.closed().await;
                }
                pause(0.4).await;
            }
        });
    }
}

#[test]
fn unit_link_takes_up_others_while_some_stall_their_handshakes() {
    for (attackers, seed) in [(1, 1), (6, 2)] {
        simulated(async {
            let (bed, office) = (Bed::new(seed), Office::new(7));
            let b = bed.start(2, &office.papers("b"), &[]);
            let shaken = Arc::new(AtomicU64::new(0));
            let hostile: Vec<_> =
                (0..attackers).map(|n| bed.start(100 + n, &office.papers(&format!("m{n}")), &[])).collect();
            pause(0.1).await;
            hostile.iter().for_each(|one| stalls(one, 14, &shaken));
            pause(1.5).await;
            let begun = tokio::time::Instant::now();
            let a = bed.start(1, &office.papers("a"), &[("b", 2)]);
            until_linked(&a, "b").await;
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(2), "{attackers} keep others out: {took:?}");
            assert!(shaken.load(Ordering::Relaxed) >= 8, "nobody attacks");
            let counts = b.turned_away_counts();
            let counted = |cause| counts.iter().any(|(counted, times)| *counted == cause && *times > 3);
            let cause = if attackers == 1 { Cause::ManyOfOne } else { Cause::Stalled };
            assert!(counted(cause), "{counts:?}");
        });
    }
}

#[test]
fn unit_link_wants_proof_of_an_address_once_one_was_refused_without() {
    simulated(async {
        let (bed, office, other) = (Bed::new(3), Office::new(7), Office::new(8));
        let b = bed.start(2, &other.papers("b"), &[]);
        let a = bed.start(1, &office.papers("a"), &[("b", 2)]);
        until(&a, "b", |state| matches!(state, LinkState::Refused { .. })).await;
        pause(0.1).await;
        assert_eq!(b.turned_away().len(), 1);
        pause(1.1).await;
        // It came again from where it says: then it is worth a word in the condition.
        let said = b.troubles().join("; ");
        assert!(said.contains("who dials from 10.0.0.1 refuses this node's certificate (unknown-authority)"), "{said}");
        let refused = Cause::Refused { why: Refusal::UnknownAuthority, by_us: false };
        let times = b.turned_away()[0].times;
        assert!(times >= 2 && b.turned_away_counts() == [(refused, times)], "{:?}", b.turned_away_counts());
        a.close().await;
        pause(62.0).await;
        assert_eq!(b.troubles(), Vec::<String>::new(), "it is gone");
    });
}

#[test]
fn unit_link_is_closed_by_a_peer_in_words() {
    simulated(async {
        let (bed, office) = (Bed::new(4), Office::new(7));
        let a = bed.start(1, &office.papers("a"), &[("b", 2)]);
        let b = bed.start(2, &office.papers("b"), &[]);
        until_linked(&a, "b").await;
        b.shared.endpoint().expect("open").close(VarInt::from_u32(0), b"");
        let LinkState::Out { why, .. } = until(&a, "b", |state| !state.is_linked()).await else { panic!("out") };
        assert_eq!(why, "it closed the link");
    });
}

#[test]
fn unit_link_dials_where_a_peer_is_now_though_it_was_being_dialled_elsewhere() {
    simulated(async {
        let (bed, office) = (Bed::new(5), Office::new(7));
        let b = bed.start(2, &office.papers("b"), &[]);
        let a = bed.start(1, &office.papers("a"), &[("b", 77)]);
        pause(0.5).await;
        a.set_peers(&[(node("b"), address(2))].into()).expect("taken");
        pause(1.0).await;
        assert!(peer(&a, "b").state.is_linked(), "{:?}", a.peers());
        // And where the dial was at its first words: those to the old place are waited for, and then it is dialled anew.
        let again = bed.start(3, &office.papers("b"), &[]);
        let cut = (address(2), address(1));
        bed.network.weather.lock().expect("whole").cut.insert(cut);
        a.set_peers(&[(node("b"), address(3))].into()).expect("taken");
        pause(2.0).await;
        bed.network.weather.lock().expect("whole").cut.remove(&cut);
        assert_eq!(peer(&a, "b").address, Some(address(3)));
        until_linked(&again, "a").await;
        drop(b);
    });
}
