//! Certificates: who is refused, and why, on both sides; what changes while links stand.

use palisade_domain::Refusal;
use palisade_wire::frame::Versions;
use palisade_world::{Link as _, LinkState, TurnedAway};

use super::bed::{
    Bed, EPOCH, Office, address, node, numbers, pause, peer, send, send_slowly, simulated, until, until_linked,
};
use crate::authority;

/// What a refused dialler and the one that it dialled say.
async fn refused(a: &crate::Links, name: &str, b: &crate::Links) -> (LinkState, Vec<TurnedAway>) {
    let here = until(a, name, |state| matches!(state, LinkState::Refused { .. })).await;
    pause(0.1).await;
    (here, b.turned_away())
}

fn said(state: &LinkState) -> (Refusal, bool, &str) {
    let LinkState::Refused { why, by_us, said, .. } = state else { panic!("not refused: {state:?}") };
    (*why, *by_us, said)
}

#[test]
fn unit_link_refuses_an_expired_certificate_and_both_sides_say_so() {
    simulated(async {
        let (bed, office) = (Bed::new(1), Office::new(7));
        // Good for no day: its time ends when the world begins.
        let expired = office.papers_of(&office.issue("a", 0));
        let b = bed.start(2, &office.papers("b"), &[]);
        pause(1.0).await;
        let a = bed.start(1, &expired, &[("b", 2)]);
        let (here, there) = refused(&a, "b", &b).await;
        assert_eq!((said(&here).0, said(&here).1), (Refusal::Expired, false), "{here:?}");
        assert_eq!((there[0].why, there[0].by_us), (Refusal::Expired, true));
        assert!(said(&here).2.contains("expired") && there[0].said.contains("expired"), "{here:?} {there:?}");
        assert!(a.troubles()[0].contains("ended"), "{:?}", a.troubles());
        assert_eq!(b.troubles(), Vec::<String>::new());
        // And of one that is dialled.
        let c = bed.start(3, &office.papers("c"), &[("a", 1)]);
        let (here, there) = refused(&c, "a", &a).await;
        assert_eq!((said(&here).0, said(&here).1), (Refusal::Expired, true));
        assert_eq!((there[0].why, there[0].by_us), (Refusal::Expired, false));
        // Refusals are counted by address and reason, not listed without end.
        pause(60.0).await;
        assert!(b.turned_away().len() == 1 && b.turned_away()[0].times > 2, "{:?}", b.turned_away());
    });
}

#[test]
fn unit_link_refuses_a_certificate_of_another_authority_and_both_sides_say_so() {
    simulated(async {
        let (bed, office, other) = (Bed::new(2), Office::new(7), Office::new(8));
        let b = bed.start(2, &office.papers("b"), &[]);
        // It trusts our authority, but shows the other's certificate; and the other way round.
        let shows = other.papers("a");
        shows.0.lock().expect("whole")[2] = office.own.certificate.clone();
        let a = bed.start(1, &shows, &[("b", 2)]);
        let (here, there) = refused(&a, "b", &b).await;
        assert_eq!((said(&here).0, said(&here).1), (Refusal::UnknownAuthority, false));
        assert_eq!((there[0].why, there[0].by_us), (Refusal::UnknownAuthority, true));
        let c = bed.start(3, &other.papers("c"), &[("b", 2)]);
        let (here, _) = refused(&c, "b", &b).await;
        assert_eq!((said(&here).0, said(&here).1), (Refusal::UnknownAuthority, true));
        let there = b.turned_away();
        let of_c: Vec<_> = there.iter().filter(|one| one.address.ip() == address(3).ip()).collect();
        assert_eq!((of_c[0].why, of_c[0].by_us), (Refusal::UnknownAuthority, false));
    });
}

#[test]
fn unit_link_refuses_a_node_by_another_name_and_both_sides_say_so() {
    simulated(async {
        let (bed, office) = (Bed::new(3), Office::new(7));
        let b = bed.start(2, &office.papers("b"), &[]);
        let a = bed.start(1, &office.papers("a"), &[("x", 2)]);
        let (here, there) = refused(&a, "x", &b).await;
        assert_eq!((said(&here).0, said(&here).1), (Refusal::WrongName, true));
        assert_eq!((there[0].why, there[0].by_us), (Refusal::WrongName, false));
        for words in [said(&here).2, &there[0].said] {
            assert!(words.contains("the certificate is of b, not of \"x\""), "{words}");
        }
    });
}

#[test]
fn unit_link_refuses_a_revoked_certificate_at_the_handshake_and_while_it_is_linked() {
    simulated(async {
        let (bed, office) = (Bed::new(4), Office::new(7));
        let a_issued = office.issue("a", 90);
        let (a_papers, b_papers) = (office.papers_of(&a_issued), office.papers("b"));
        let a = bed.start(1, &a_papers, &[("b", 2)]);
        let b = bed.start(2, &b_papers, &[]);
        let c = bed.start(3, &office.papers("c"), &[("b", 2)]);
        until_linked(&a, "b").await;
        until_linked(&c, "b").await;
        let list = authority::revoke(&office.own, &office.list, &a_issued.certificate, EPOCH).expect("revoked");
        b_papers.0.lock().expect("whole")[3] = list;
        let here = until(&a, "b", |state| !state.is_linked()).await;
        assert_eq!((said(&here).0, said(&here).1), (Refusal::Revoked, false), "while linked");
        let there = until(&b, "a", |state| !state.is_linked()).await;
        assert_eq!((said(&there).0, said(&there).1), (Refusal::Revoked, true));
        assert!(said(&here).2.to_lowercase().contains("revoked") && said(&there).2.to_lowercase().contains("revoked"));
        // It comes again, and is refused at the handshake now.
        pause(30.0).await;
        assert_eq!(said(&peer(&a, "b").state).0, Refusal::Revoked);
        assert!(b.turned_away().iter().any(|one| one.why == Refusal::Revoked && one.by_us), "{:?}", b.turned_away());
        assert!(peer(&c, "b").state.is_linked() && peer(&c, "b").counts.linked == 1, "others are not touched");
        // A new certificate of the same name is taken.
        let again = office.issue("a", 90);
        {
            let mut papers = a_papers.0.lock().expect("whole");
            (papers[0], papers[1]) = (again.certificate, again.key);
        }
        until_linked(&a, "b").await;
    });
}

#[test]
fn unit_link_takes_a_new_certificate_without_dropping_a_link() {
    for (which, seed) in [("a", 5), ("b", 6), ("a and b", 7)] {
        simulated(async {
            let (bed, office) = (Bed::new(seed), Office::new(7));
            let papers = [office.papers("a"), office.papers("b")];
            let a = bed.start(1, &papers[0], &[("b", 2)]);
            let b = bed.start(2, &papers[1], &[]);
            until_linked(&a, "b").await;
            until_linked(&b, "a").await;
            let since = (peer(&a, "b").state, peer(&b, "a").state);
            let sending = send_slowly(&a, "b", 300, 0.01);
            for (papers, name) in papers.iter().zip(["a", "b"]).filter(|(_, name)| which.contains(name)) {
                let again = office.issue(name, 30);
                let mut papers = papers.0.lock().expect("whole");
                (papers[0], papers[1]) = (again.certificate, again.key);
            }
            assert_eq!(numbers(&b, 300).await, (0..300).collect::<Vec<_>>());
            sending.await.expect("sent");
            assert_eq!((peer(&a, "b").state, peer(&b, "a").state), since, "{which}: never out");
            let linked = (peer(&a, "b").counts.linked, peer(&b, "a").counts.linked);
            assert!(
                linked.0 > 1 && linked.0 == linked.1,
                "{which}: no new connection shows the new certificate: {linked:?}"
            );
            pause(60.0).await;
            assert_eq!((peer(&a, "b").counts.linked, peer(&b, "a").counts.linked), linked, "{which}: it does not end");
        });
    }
}

#[test]
fn unit_link_moves_to_another_authority_without_dropping_a_link() {
    simulated(async {
        let (bed, old, new) = (Bed::new(8), Office::new(7), Office::new(8));
        let papers = [old.papers("a"), old.papers("b")];
        let a = bed.start(1, &papers[0], &[("b", 2)]);
        let b = bed.start(2, &papers[1], &[]);
        until_linked(&a, "b").await;
        until_linked(&b, "a").await;
        let since = (peer(&a, "b").state, peer(&b, "a").state);
        // First both are believed, then certificates are of the new one, then the old one goes.
        for papers in &papers {
            let mut papers = papers.0.lock().expect("whole");
            (papers[2], papers[3]) =
                (format!("{}{}", old.own.certificate, new.own.certificate), format!("{}{}", old.list, new.list));
        }
        pause(3.0).await;
        for (papers, name) in papers.iter().zip(["a", "b"]) {
            let again = new.issue(name, 30);
            let mut papers = papers.0.lock().expect("whole");
            (papers[0], papers[1]) = (again.certificate, again.key);
        }
        pause(5.0).await;
        for papers in &papers {
            let mut papers = papers.0.lock().expect("whole");
            (papers[2], papers[3]) = (new.own.certificate.clone(), new.list.clone());
        }
        pause(5.0).await;
        assert_eq!((peer(&a, "b").state, peer(&b, "a").state), since, "never out");
        send(&a, "b", 0..10, 100).await;
        assert_eq!(numbers(&b, 10).await.len(), 10);
        // Who still shows the old one is refused from now on.
        let c = bed.start(3, &old.papers("c"), &[("a", 1)]);
        c.troubles();
        let here = until(&c, "a", |state| matches!(state, LinkState::Refused { .. })).await;
        assert_eq!(said(&here).0, Refusal::UnknownAuthority);
    });
}

#[test]
fn unit_link_ends_when_the_certificate_of_a_peer_does() {
    simulated(async {
        let (bed, office) = (Bed::new(9), Office::new(7));
        let short = office.papers_of(&office.issue("b", 1));
        let a = bed.start(1, &office.papers("a"), &[("b", 2)]);
        let b = bed.start(2, &short, &[]);
        until_linked(&a, "b").await;
        assert!(b.troubles()[0].contains("ends 2026-01-02"), "{:?}", b.troubles());
        pause(24.0 * 3600.0 - 120.0).await;
        assert!(peer(&a, "b").state.is_linked());
        pause(300.0).await;
        assert_eq!(said(&peer(&a, "b").state).0, Refusal::Expired);
        // It comes back with a new one.
        let again = office.issue("b", 90);
        {
            let mut papers = short.0.lock().expect("whole");
            (papers[0], papers[1]) = (again.certificate, again.key);
        }
        until_linked(&a, "b").await;
    });
}

#[test]
fn unit_link_keeps_the_last_good_certificates_and_says_what_is_wrong_with_the_new() {
    simulated(async {
        let (bed, office) = (Bed::new(10), Office::new(7));
        let papers = office.papers("a");
        let a = bed.start(1, &papers, &[("b", 2)]);
        let b = bed.start(2, &office.papers("b"), &[]);
        until_linked(&a, "b").await;
        let good = papers.0.lock().expect("whole").clone();
        let (other, stranger) = (office.issue("a", 30), office.issue("c", 30));
        for (certificate, key, says) in [
            (&other.certificate, &good[1], "certificate"),
            (&stranger.certificate, &stranger.key, "runs as a"),
            (&"rubbish".to_owned(), &good[1], "no certificate in it"),
        ] {
            {
                let mut papers = papers.0.lock().expect("whole");
                (papers[0], papers[1]) = (certificate.clone(), key.clone());
            }
            pause(2.5).await;
            assert!(a.troubles()[0].contains(says), "{says}: {:?}", a.troubles());
            assert!(peer(&a, "b").state.is_linked() && peer(&b, "a").counts.linked == 1);
        }
        *papers.0.lock().expect("whole") = good;
        pause(2.5).await;
        assert_eq!(a.troubles(), Vec::<String>::new());
    });
}

#[test]
fn unit_link_takes_who_is_revoked_out_though_its_own_new_pair_cannot_be_used() {
    for which in 0..3 {
        simulated(async {
            let (bed, office) = (Bed::new(10), Office::new(7));
            let (issued, papers) = (office.issue("a", 90), office.papers("b"));
            let a = bed.start(1, &office.papers_of(&issued), &[("b", 2)]);
            let b = bed.start(2, &papers, &[]);
            until_linked(&a, "b").await;
            let broken = [
                office.issue("b", 30).certificate,
                office.issue("c", 30).certificate,
                "-----BEGIN CERTIFICATE-----\nMIIB\n".to_owned(),
            ][which]
                .clone();
            let list = authority::revoke(&office.own, &office.list, &issued.certificate, EPOCH).expect("revoked");
            let set = |which: usize, text: String| papers.0.lock().expect("whole")[which] = text;
            set(0, broken);
            set(3, list);
            pause(2.5).await;
            let state = peer(&a, "b").state;
            assert!(matches!(state, LinkState::Refused { why: Refusal::Revoked, .. }), "{which}: {state:?}");
            let said = b.troubles();
            let pair = "certificate and key as they are now are not in force";
            assert!(said.len() == 1 && said[0].starts_with(pair), "{which}: {said:?}");
            // A list that goes back is as little taken as with a good pair.
            set(3, office.list.clone());
            pause(2.5).await;
            let said = b.troubles().join("; ");
            assert!(said.contains("an older one is not taken"), "{which}: {said}");
            pause(30.0).await;
            assert!(!peer(&a, "b").state.is_linked(), "{which}");
        });
    }
}

#[test]
fn unit_link_refuses_a_peer_of_no_common_version_and_both_sides_say_so() {
    simulated(async {
        let (bed, office) = (Bed::new(11), Office::new(7));
        let b = bed.start(2, &office.papers("b"), &[]);
        let later = Versions { oldest: 3, newest: 4 };
        let a = bed.start_with(1, &office.papers("a"), &[("b", 2)], |config| config.spoken = later);
        let (here, there) = refused(&a, "b", &b).await;
        assert_eq!((said(&here).0, said(&here).1), (Refusal::Version, false));
        assert_eq!((there[0].why, there[0].by_us), (Refusal::Version, true));
        assert!(
            said(&here).2 == there[0].said && there[0].said == "b speaks version 1 to 2, a version 3 to 4",
            "{there:?}"
        );
    });
}

#[test]
fn unit_link_to_a_peer_of_an_older_version_stands_in_that_one_and_says_which() {
    simulated(async {
        let (bed, office) = (Bed::new(13), Office::new(7));
        let b = bed.start(2, &office.papers("b"), &[]);
        let older = Versions { oldest: 1, newest: 1 };
        let a = bed.start_with(1, &office.papers("a"), &[("b", 2)], |config| config.spoken = older);
        let c = bed.start(3, &office.papers("c"), &[("b", 2)]);
        until_linked(&a, "b").await;
        until_linked(&c, "b").await;
        let speaks = |links, name| peer(links, name).speaks;
        assert_eq!([speaks(&a, "b"), speaks(&b, "a")], [Some(1), Some(1)]);
        assert_eq!([speaks(&c, "b"), speaks(&b, "c")], [Some(2), Some(2)]);
    });
}

#[test]
fn unit_link_refuses_itself_and_more_peers_than_there_is_room_for() {
    simulated(async {
        let (bed, office) = (Bed::new(12), Office::new(7));
        let b = bed.start_with(2, &office.papers("b"), &[], |config| config.most_peers = 1);
        let c = bed.start(3, &office.papers("c"), &[("b", 2)]);
        until_linked(&c, "b").await;
        let d = bed.start(4, &office.papers("d"), &[("b", 2)]);
        let (here, there) = refused(&d, "b", &b).await;
        assert_eq!((said(&here).0, said(&here).1, there[0].why), (Refusal::Full, false, Refusal::Full));
        // Once one is gone there is room.
        c.close().await;
        until_linked(&d, "b").await;
        assert_eq!(b.peers().iter().map(|peer| peer.name.clone()).collect::<Vec<_>>(), [node("d")]);
        // A second node of the same name that dials it.
        let twin = bed.start(5, &office.papers("d"), &[("x", 4)]);
        let here = until(&twin, "x", |state| matches!(state, LinkState::Refused { .. })).await;
        assert_eq!(said(&here).0, Refusal::WrongName);
    });
}

#[test]
fn unit_link_authority_makes_lists_that_tell_all_that_were_taken_back_once() {
    let office = Office::new(7);
    let (one, two) = (office.issue("a", 90), office.issue("b", 90));
    let serial = |pem: &str| match &authority::describe(pem.as_bytes()).expect("described")[0] {
        authority::Described::Certificate { serial, names, .. } => (serial.clone(), names.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(serial(&one.certificate).1, ["a"]);
    let mut list = office.list.clone();
    for certificate in [&one.certificate, &two.certificate, &one.certificate] {
        list = authority::revoke(&office.own, &list, certificate, EPOCH).expect("revoked");
    }
    let described = authority::describe(list.as_bytes()).expect("described");
    let [authority::Described::Revocations { serials, .. }] = described.as_slice() else { panic!("{described:?}") };
    assert_eq!(serials, &[serial(&two.certificate).0, serial(&one.certificate).0]);
    let other = Office::new(8);
    let strange = authority::revoke(&other.own, &other.list, &one.certificate, EPOCH);
    assert!(matches!(strange, Err(authority::AuthorityError::NotOurs(_))), "{strange:?}");
    assert!(authority::describe(b"rubbish").is_err());
}
