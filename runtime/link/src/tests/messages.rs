//! Messages: order, resumption, back-pressure, determinism.

use palisade_wire::frame::{Digest, LONGEST_MESSAGE};
use palisade_world::{Link as _, LinkState, SendError};

use super::bed::{Bed, Office, address, node, numbers, pause, peer, send, simulated, until, until_linked};

/// Two nodes talk through loss, a partition and a restart; what went over the network, as one number.
fn packets(seed: u64) -> (u64, Digest) {
    simulated(async {
        let (bed, office) = (Bed::new(seed), Office::new(7));
        bed.network.weather.lock().expect("whole").lost = 50;
        let a = bed.start(1, &office.papers("a"), &[("b", 2)]);
        let papers = office.papers("b");
        let b = bed.start(2, &papers, &[("a", 1)]);
        until_linked(&a, "b").await;
        until_linked(&b, "a").await;
        send(&a, "b", 0..200, 300).await;
        send(&b, "a", 0..200, 20).await;
        assert_eq!(numbers(&b, 200).await, (0..200).collect::<Vec<_>>());
        bed.network.weather.lock().expect("whole").cut.insert((address(1), address(2)));
        pause(10.0).await;
        bed.network.weather.lock().expect("whole").cut.clear();
        assert_eq!(numbers(&a, 200).await, (0..200).collect::<Vec<_>>());
        b.close().await;
        drop(b);
        pause(3.0).await;
        let b = bed.start(2, &papers, &[("a", 1)]);
        until_linked(&b, "a").await;
        send(&a, "b", 200..220, 300).await;
        assert_eq!(numbers(&b, 20).await, (200..220).collect::<Vec<_>>());
        let seen = bed.network.seen.lock().expect("whole");
        *seen
    })
}

#[test]
fn unit_link_repeats_its_packets_byte_for_byte_under_a_seed() {
    let (count, digest) = packets(1);
    assert!(count > 100, "{count} packets");
    assert_eq!(packets(1), (count, digest));
    assert_ne!(packets(2).1, digest, "another seed is another run");
}

#[test]
fn unit_link_loses_and_repeats_nothing_through_loss_and_partitions() {
    for seed in 0..4 {
        simulated(async {
            let (bed, office) = (Bed::new(seed), Office::new(7));
            let a = bed.start(1, &office.papers("a"), &[("b", 2)]);
            let b = bed.start(2, &office.papers("b"), &[]);
            bed.network.weather.lock().expect("whole").lost = 20;
            let sender = std::sync::Arc::clone(&a);
            tokio::task::spawn_local(async move { send(&sender, "b", 0..20_000, 100).await });
            let (one, other) = (address(1), address(2));
            let storm = async {
                for pair in [vec![(one, other)], vec![(other, one)], vec![(one, other), (other, one)]] {
                    pause(0.05).await;
                    bed.network.weather.lock().expect("whole").cut.extend(pair);
                    // Longer than a peer may be silent: the connection ends, and what was on its way with it.
                    pause(8.0).await;
                    bed.network.weather.lock().expect("whole").cut.clear();
                    until_linked(&a, "b").await;
                }
            };
            let (came, ()) = tokio::join!(numbers(&b, 20_000), storm);
            assert_eq!(came, (0..20_000).collect::<Vec<_>>(), "seed {seed}");
            let (there, here) = (peer(&b, "a"), peer(&a, "b"));
            assert!(here.counts.linked >= 2, "seed {seed}: no connection ever ended: {here:?}");
            assert_eq!((there.counts.received, there.counts.lost), (20_000, 0));
            pause(1.0).await;
            let here = peer(&a, "b");
            assert_eq!((here.counts.taken_by_peer, here.counts.waiting_bytes), (20_000, 0), "all is acknowledged");
        });
    }
}

#[test]
fn unit_link_two_nodes_that_dial_each_other_have_one_link_that_stays() {
    for seed in 0..20 {
        simulated(async {
            let (bed, office) = (Bed::new(seed), Office::new(7));
            let a = bed.start(1, &office.papers("a"), &[("b", 2)]);
            let b = bed.start(2, &office.papers("b"), &[("a", 1)]);
            pause(3.0).await;
            let linked = (peer(&a, "b").counts.linked, peer(&b, "a").counts.linked);
            assert!(peer(&a, "b").state.is_linked() && peer(&b, "a").state.is_linked(), "seed {seed}");
            send(&a, "b", 0..100, 100).await;
            send(&b, "a", 0..100, 100).await;
            assert_eq!(numbers(&b, 100).await.len() + numbers(&a, 100).await.len(), 200);
            pause(60.0).await;
            assert_eq!((peer(&a, "b").counts.linked, peer(&b, "a").counts.linked), linked, "seed {seed}: it flaps");
        });
    }
}

#[test]
fn unit_link_holds_a_burst_to_a_slow_peer_within_its_bound_and_delivers_all_of_it() {
    const QUEUE: usize = 32 << 10;
    const INBOX: usize = 16 << 10;
    const WINDOW: u32 = 16 << 10;
    simulated(async {
        let (bed, office) = (Bed::new(3), Office::new(7));
        let small = |config: &mut crate::LinkConfig| {
            (config.queue_bytes, config.inbox_bytes, config.transport.window_bytes) = (QUEUE, INBOX, WINDOW);
        };
        let a = bed.start_with(1, &office.papers("a"), &[("b", 2)], small);
        let b = bed.start_with(2, &office.papers("b"), &[], small);
        until_linked(&a, "b").await;
        // Nobody reads at b. What it and the network take on the way is bounded as well.
        let (mut taken, mut refused) = (0u64, 0u64);
        while taken < 1000 && refused < 10_000 {
            match a.try_send(&node("b"), vec![0; 200].into()) {
                Ok(()) => taken += 1,
                Err(error) => {
                    assert_eq!(error, SendError::Full);
                    refused += 1;
                    pause(0.001).await;
                }
            }
        }
        let most = (QUEUE + INBOX + WINDOW as usize) / 200 + 2 * (64 << 10) / 200;
        assert!(taken < 1000 && taken as usize <= most, "{taken} were taken of 1000, {most} at most");
        let counts = peer(&a, "b").counts;
        assert!(counts.most_waiting_bytes <= QUEUE as u64 && counts.refused == refused, "{counts:?}");
        // A sender that waits goes on as the peer reads.
        let rest = async { send(&a, "b", taken..1000, 200).await };
        let (came, ()) = tokio::join!(numbers(&b, 1000), rest);
        assert_eq!(came[taken as usize..], (taken..1000).collect::<Vec<_>>());
        assert!(peer(&a, "b").counts.most_waiting_bytes <= QUEUE as u64);
    });
}

#[test]
fn unit_link_goes_on_with_a_peer_that_was_killed_and_comes_back() {
    simulated(async {
        let (bed, office) = (Bed::new(4), Office::new(7));
        let a = bed.start(1, &office.papers("a"), &[("b", 2)]);
        let papers = office.papers("b");
        let b = {
            // A process of its own, as far as a LocalSet can be one: dropping it is the kill.
            let process = tokio::task::LocalSet::new();
            let b = process.run_until(async { bed.start(2, &papers, &[]) }).await;
            let linked = async { until_linked(&a, "b").await };
            process.run_until(linked).await;
            drop(process);
            b
        };
        drop(b);
        let since = tokio::time::Instant::now();
        let LinkState::Out { why, since: out } = until(&a, "b", |state| !state.is_linked()).await else {
            panic!("out")
        };
        assert_eq!(why, "it does not answer");
        assert!(since.elapsed().as_secs() <= 7, "{:?}", since.elapsed());
        send(&a, "b", 0..10, 100).await;
        pause(20.0).await;
        let LinkState::Out { since: still, .. } = peer(&a, "b").state else { panic!("out") };
        assert_eq!(still, out, "it has been out since it went, whatever was tried");
        let b = bed.start(2, &papers, &[]);
        assert_eq!(numbers(&b, 10).await, (0..10).collect::<Vec<_>>(), "what was sent meanwhile waited");
        assert!(peer(&a, "b").state.is_linked());
    });
}

#[test]
fn unit_link_says_that_two_nodes_show_one_certificate_and_they_take_the_link_ever_less_often() {
    simulated(async {
        let (bed, office) = (Bed::new(6), Office::new(7));
        let x = bed.start(2, &office.papers("x"), &[]);
        let papers = office.papers("a");
        let one = bed.start(1, &papers, &[("x", 2)]);
        until_linked(&one, "x").await;
        pause(20.0).await;
        assert_eq!(peer(&x, "a").doubled, None);
        let other = bed.start(3, &papers, &[("x", 2)]);
        let LinkState::Out { why, .. } = until(&one, "x", |state| !state.is_linked()).await else { panic!("out") };
        let said =
            "a newer connection took over, from 10.0.0.3:7000: another node has a copy of this node's certificate";
        assert_eq!(why, said);
        pause(10.0).await;
        let doubled = peer(&x, "a").doubled.expect("seen when the first came back");
        let mut addresses = doubled.addresses;
        addresses.sort_unstable();
        assert_eq!(addresses, [address(1), address(3)]);
        // Whoever is linked has a link that works.
        pause(1000.0).await;
        let before = peer(&x, "a").counts.linked;
        pause(3600.0).await;
        let taken = peer(&x, "a").counts.linked - before;
        assert!((5..=50).contains(&taken), "{taken} times in an hour");
        assert!(peer(&x, "a").doubled.is_some_and(|now| now.times > doubled.times));
        // The copy goes: the other comes back and stays, and after a while nothing is said of it.
        other.close().await;
        pause(400.0).await;
        until_linked(&one, "x").await;
        let linked = peer(&x, "a").counts.linked;
        pause(1000.0).await;
        assert_eq!((peer(&x, "a").counts.linked, peer(&x, "a").doubled), (linked, None));
    });
}

#[test]
fn unit_link_sees_two_nodes_of_one_name_though_only_one_of_them_dials() {
    simulated(async {
        let (bed, office) = (Bed::new(8), Office::new(7));
        let papers = office.papers("c");
        let x = bed.start(2, &office.papers("x"), &[("c", 1)]);
        let one = bed.start(1, &papers, &[]);
        until_linked(&x, "c").await;
        pause(15.0).await;
        let copy = bed.start(3, &papers, &[("x", 2)]);
        until_linked(&copy, "x").await;
        pause(8.0).await;
        let doubled = peer(&x, "c").doubled.expect("the first still answers");
        assert_eq!(doubled.addresses, [address(1), address(3)]);
        let LinkState::Out { why, .. } = peer(&one, "x").state else { panic!("out") };
        assert!(why.contains("another node has a copy"), "{why}");
        assert!(peer(&x, "c").state.is_linked() && peer(&copy, "x").state.is_linked());
    });
}

#[test]
fn unit_link_takes_a_node_that_began_anew_or_moved_for_one() {
    simulated(async {
        let (bed, office) = (Bed::new(9), Office::new(7));
        let papers = office.papers("a");
        let x = bed.start(2, &office.papers("x"), &[]);
        for at in [1, 1, 3] {
            // A process of its own: dropping it is the kill, and its connection is not closed.
            let process = tokio::task::LocalSet::new();
            let a = process.run_until(async { bed.start(at, &papers, &[("x", 2)]) }).await;
            process.run_until(async { until_linked(&a, "x").await }).await;
            process.run_until(pause(1.0)).await;
            drop(process);
            drop(a);
        }
        let a = bed.start(1, &papers, &[("x", 2)]);
        until_linked(&a, "x").await;
        pause(20.0).await;
        assert!(peer(&x, "a").counts.linked >= 4);
        assert_eq!(peer(&x, "a").doubled, None);
    });
}

#[test]
fn unit_link_takes_other_peers_while_it_runs_and_loses_nothing_of_those_that_stay() {
    simulated(async {
        let (bed, office) = (Bed::new(10), Office::new(7));
        let a = bed.start(1, &office.papers("a"), &[("b", 2), ("c", 3)]);
        let b = bed.start(2, &office.papers("b"), &[]);
        let c = bed.start(3, &office.papers("c"), &[]);
        until_linked(&a, "b").await;
        until_linked(&a, "c").await;
        pause(1.0).await;
        let linked = peer(&a, "b").counts.linked;
        // c goes, d comes, b stays.
        let d = bed.start(4, &office.papers("d"), &[]);
        a.set_peers(&[(node("b"), address(2)), (node("d"), address(4))].into()).expect("taken");
        until_linked(&a, "d").await;
        let LinkState::Out { why, .. } = until(&c, "a", |state| !state.is_linked()).await else { panic!("out") };
        assert_eq!((why.as_str(), a.peers().len()), ("it is no longer a peer there", 2));
        assert_eq!(a.try_send(&node("c"), vec![1].into()), Err(SendError::UnknownPeer));
        assert_eq!(peer(&a, "b").counts.linked, linked, "who stays is not touched");
        // b moves to another address, with what waits for it.
        send(&a, "b", 0..10, 100).await;
        assert_eq!(numbers(&b, 10).await.len(), 10);
        pause(1.0).await;
        bed.network.weather.lock().expect("whole").cut.insert((address(1), address(2)));
        send(&a, "b", 10..20, 100).await;
        b.close().await;
        let moved = bed.start(5, &office.papers("b"), &[]);
        a.set_peers(&[(node("b"), address(5)), (node("d"), address(4))].into()).expect("taken");
        assert_eq!(numbers(&moved, 10).await, (10..20).collect::<Vec<_>>());
        assert_eq!(peer(&a, "b").address, Some(address(5)));
        for (peers, said) in [
            (vec![(node("a"), address(9))], "own name"),
            ((0..65).map(|n| (node(&format!("n{n}")), address(9))).collect(), "65 peers, of at most 64"),
        ] {
            let refused = a.set_peers(&peers.into_iter().collect()).expect_err("refused").to_string();
            assert!(refused.contains(said), "{refused}");
        }
        assert!(peer(&a, "b").state.is_linked() && peer(&a, "d").state.is_linked(), "what is refused changes nothing");
        drop(d);
    });
}

#[test]
fn unit_link_refuses_messages_that_cannot_be_sent() {
    simulated(async {
        let (bed, office) = (Bed::new(5), Office::new(7));
        let a = bed.start(1, &office.papers("a"), &[("b", 2)]);
        pause(0.1).await;
        assert_eq!(a.try_send(&node("c"), vec![1].into()), Err(SendError::UnknownPeer));
        assert_eq!(a.try_send(&node("b"), vec![1; LONGEST_MESSAGE + 1].into()), Err(SendError::TooLong));
        assert_eq!(a.try_send(&node("b"), vec![1; LONGEST_MESSAGE].into()), Ok(()));
        let b = bed.start(2, &office.papers("b"), &[]);
        until_linked(&a, "b").await;
        let longest = loop {
            if let palisade_world::LinkEvent::Received { messages, .. } = b.next().await.expect("open") {
                break messages[0].len();
            }
        };
        assert_eq!(longest, LONGEST_MESSAGE, "the longest goes through");
        a.close().await;
        assert_eq!(a.try_send(&node("b"), vec![1].into()), Err(SendError::Closed));
        while a.next().await.is_some() {}
        let LinkState::Out { why, .. } = until(&b, "a", |state| !state.is_linked()).await else { panic!("out") };
        assert_eq!(why, "the node stopped");
    });
}
