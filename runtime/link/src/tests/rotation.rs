//! Certificates and lists that change under links: what is not good changes nothing.

use std::sync::Arc;

use palisade_domain::Refusal;
use palisade_world::{Link as _, LinkState};

use super::bed::{Bed, EPOCH, Office, Papers, node, numbers, pause, peer, send, simulated, until, until_linked};
use crate::{
    Credentials,
    authority::{self, AuthorityError, Issued},
    crypto, examine,
};

fn give(papers: &Papers, issued: Issued) {
    let mut papers = papers.0.lock().expect("whole");
    (papers[0], papers[1]) = (issued.certificate, issued.key);
}

fn set(papers: &Papers, which: usize, text: String) {
    papers.0.lock().expect("whole")[which] = text;
}

#[test]
fn unit_link_stands_while_its_nodes_new_certificate_is_refused() {
    for (which, seed) in [(0, 1), (1, 2)] {
        simulated(async {
            let (bed, old, new) = (Bed::new(seed), Office::new(7), Office::new(8));
            let papers = [old.papers("a"), old.papers("b")];
            let a = bed.start(1, &papers[0], &[("b", 2)]);
            let b = bed.start(2, &papers[1], &[]);
            until_linked(&a, "b").await;
            until_linked(&b, "a").await;
            let since = (peer(&a, "b").state, peer(&b, "a").state);
            let name = ["a", "b"][which];
            give(&papers[which], new.issue(name, 30));
            let sender = Arc::clone(&a);
            let sending = tokio::task::spawn_local(async move {
                for number in 0..600 {
                    send(&sender, "b", number..number + 1, 100).await;
                    pause(0.1).await;
                }
            });
            assert_eq!(numbers(&b, 600).await, (0..600).collect::<Vec<_>>());
            sending.await.expect("sent");
            assert_eq!((peer(&a, "b").state, peer(&b, "a").state), since, "{name}: it was out");
            let linked = (peer(&a, "b").counts.linked, peer(&b, "a").counts.linked);
            assert_eq!(linked, (1, 1), "{name}");
            // Both say it: who dials of the link, who is dialled of who dials it.
            let said = [a.troubles().join("; "), b.troubles().join("; ")];
            let expected = match which {
                0 => ["b refuses this node's certificate (unknown-authority): ", ""],
                _ => [
                    "b shows another certificate, which is refused (unknown-authority): ",
                    "who dials from 10.0.0.1 refuses",
                ],
            };
            assert!(said[0].contains(expected[0]) && said[1].contains(expected[1]), "{name}: {said:?}");
            assert!(said[which].contains("of no authority that this node believes"), "{name}: {said:?}");
            // Once its authority is believed the link moves, and nobody complains.
            for papers in &papers {
                set(papers, 2, format!("{}{}", old.own.certificate, new.own.certificate));
            }
            pause(90.0).await;
            assert_eq!((peer(&a, "b").state, peer(&b, "a").state), since, "{name}: it was out");
            assert_eq!((peer(&a, "b").counts.linked, peer(&b, "a").counts.linked), (2, 2), "{name}");
            assert_eq!([a.troubles(), b.troubles()], [Vec::<String>::new(), Vec::new()], "{name}");
        });
    }
}

#[test]
fn unit_link_does_not_outlive_the_certificate_it_was_made_with() {
    for (which, seed) in [(0, 3), (1, 4)] {
        simulated(async {
            let (bed, old, new) = (Bed::new(seed), Office::new(7), Office::new(8));
            let name = ["a", "b"][which];
            let issue = |node| if node == name { old.issue_for(node, 120) } else { old.issue(node, 90) };
            let papers = ["a", "b"].map(|node| old.papers_of(&issue(node)));
            let a = bed.start(1, &papers[0], &[("b", 2)]);
            let b = bed.start(2, &papers[1], &[]);
            until_linked(&a, "b").await;
            give(&papers[which], new.issue(name, 30));
            let left = 120.0 - bed.clock.0.elapsed().as_secs_f64();
            pause(left - 2.0).await;
            assert!(peer(&a, "b").state.is_linked() && peer(&b, "a").state.is_linked(), "{name}: too early");
            pause(4.0).await;
            assert!(!peer(&a, "b").state.is_linked() && !peer(&b, "a").state.is_linked(), "{name}: too late");
            pause(20.0).await;
            let LinkState::Refused { why, .. } = peer(&a, "b").state else { panic!("{:?}", peer(&a, "b")) };
            assert_eq!(why, Refusal::UnknownAuthority, "{name}: only the new one is shown");
        });
    }
}

#[test]
fn unit_link_that_ends_with_a_nodes_own_certificate_is_no_refusal_of_its_peers() {
    for seed in 0..8 {
        simulated(async {
            let (bed, office) = (Bed::new(seed), Office::new(7));
            // Who is dialled runs out; who dials it is in order.
            let b_papers = office.papers_of(&office.issue_for("b", 120));
            let a = bed.start(1, &office.papers("a"), &[("b", 2)]);
            let _b = bed.start(2, &b_papers, &[("c", 3)]);
            // And one that only dials, and runs out as well.
            let c = bed.start(3, &office.papers("c"), &[]);
            until_linked(&a, "b").await;
            until_linked(&c, "b").await;
            for _ in 0..1300 {
                pause(0.1).await;
                for one in [&a, &c] {
                    let state = peer(one, "b").state;
                    assert!(!matches!(state, LinkState::Refused { by_us: false, .. }), "{seed}: {state:?}");
                    assert!(!one.troubles().iter().any(|said| said.starts_with("b refuses")), "{:?}", one.troubles());
                }
            }
            assert!(!peer(&a, "b").state.is_linked() && !peer(&c, "b").state.is_linked(), "{seed}: too late");
        });
    }
}

#[test]
fn unit_link_goes_by_the_newest_list_of_an_authority_whatever_their_order() {
    let office = Office::new(7);
    let issued = office.issue("a", 90);
    let revoked = authority::revoke(&office.own, &office.list, &issued.certificate, EPOCH).expect("revoked");
    for lists in [format!("{}{revoked}", office.list), format!("{revoked}{}", office.list)] {
        simulated(async {
            let (bed, b_papers) = (Bed::new(5), office.papers("b"));
            set(&b_papers, 3, lists);
            let _b = bed.start(2, &b_papers, &[]);
            let a = bed.start(1, &office.papers_of(&issued), &[("b", 2)]);
            let state = until(&a, "b", |state| !matches!(state, LinkState::Connecting)).await;
            assert!(matches!(state, LinkState::Refused { why: Refusal::Revoked, .. }), "{state:?}");
        });
    }
}

#[test]
fn unit_link_goes_by_the_newest_list_whether_it_is_of_all_certificates_or_of_a_part() {
    let office = Office::new(7);
    let issued = office.issue("a", 90);
    let later = palisade_domain::UnixNanos(EPOCH.0 + 1_000_000_000);
    let of_all = |now| authority::revoke(&office.own, &office.list, &issued.certificate, now).expect("revoked");
    let of_part = |revoked: &[&str], number, now| authority::list_of_users(&office.own, revoked, number, now);
    // An authority begins to publish by parts, or ends it; numbers begin anew with it.
    for (old, new) in [
        (
            authority::renew_list(&office.own, &office.list, EPOCH).expect("signed"),
            of_part(&[&issued.certificate], 1, later),
        ),
        (of_part(&[], 99, EPOCH), of_all(later)),
    ] {
        for lists in [format!("{old}{new}"), format!("{new}{old}")] {
            simulated(async {
                let (bed, b_papers) = (Bed::new(5), office.papers("b"));
                set(&b_papers, 3, lists);
                let _b = bed.start(2, &b_papers, &[]);
                let a = bed.start(1, &office.papers_of(&issued), &[("b", 2)]);
                let state = until(&a, "b", |state| !matches!(state, LinkState::Connecting)).await;
                assert!(matches!(state, LinkState::Refused { why: Refusal::Revoked, .. }), "{state:?}");
            });
        }
    }
}

#[test]
fn unit_link_takes_a_list_of_all_for_one_of_a_part_and_says_what_the_other_way_round_would_lose() {
    simulated(async {
        let (bed, office) = (Bed::new(5), Office::new(7));
        let second = |n: u64| palisade_domain::UnixNanos(EPOCH.0 + n * 1_000_000_000);
        let issued = office.issue("a", 90);
        let of_part = |number, now| authority::list_of_users(&office.own, &[&issued.certificate], number, now);
        let papers = office.papers("b");
        set(&papers, 3, of_part(99, second(5)));
        let b = bed.start(2, &papers, &[]);
        let older = authority::revoke(&office.own, &office.list, &issued.certificate, second(4)).expect("revoked");
        let of_all = authority::revoke(&office.own, &office.list, &issued.certificate, second(6)).expect("revoked");
        for (lists, says) in [
            (older, Some("is believed still")),
            (of_all.clone(), None),
            (of_part(100, second(7)), Some("leave both in the file")),
            (format!("{}{of_all}", of_part(100, second(7))), None),
        ] {
            set(&papers, 3, lists);
            pause(2.5).await;
            let said = b.troubles();
            match says {
                Some(says) => assert!(said.len() == 1 && said[0].contains(says), "{says}: {said:?}"),
                None => assert_eq!(said, Vec::<String>::new()),
            }
        }
    });
}

#[test]
fn unit_link_says_that_two_authorities_share_a_name() {
    simulated(async {
        let (bed, office) = (Bed::new(5), Office::new(7));
        let (anew, its_list) = authority::rekeyed(&office.own, EPOCH, &*super::bed::SeededRng::new(9));
        let papers = office.papers("b");
        let b = bed.start(2, &papers, &[]);
        set(&papers, 3, its_list.clone());
        pause(2.5).await;
        assert!(b.troubles()[0].contains("of another key by the same name"), "{:?}", b.troubles());
        set(&papers, 2, format!("{}{}", office.own.certificate, anew.certificate));
        pause(2.5).await;
        let said = b.troubles().join("; ");
        assert!(said.contains("two authorities of different keys are called CN=links of the test"), "{said}");
        set(&papers, 2, format!("{0}{0}", office.own.certificate));
        set(&papers, 3, office.list.clone());
        pause(2.5).await;
        assert_eq!(b.troubles(), Vec::<String>::new(), "one certificate twice is one key");
    });
}

#[test]
fn unit_link_takes_no_list_that_is_forged_older_or_gone() {
    simulated(async {
        let (bed, office, other) = (Bed::new(6), Office::new(7), Office::new(8));
        let issued = office.issue("a", 90);
        let revoked = authority::revoke(&office.own, &office.list, &issued.certificate, EPOCH).expect("revoked");
        let papers = office.papers("b");
        set(&papers, 3, revoked.clone());
        let b = bed.start(2, &papers, &[]);
        let a = bed.start(1, &office.papers_of(&issued), &[("b", 2)]);
        let forged = authority::forged_list(&office.own, &other.own, 99, EPOCH);
        for (list, says) in [
            (format!("{revoked}{forged}"), "is not signed by it"),
            (office.list.clone(), "an older one is not taken"),
            (other.list.clone(), "is believed still"),
        ] {
            set(&papers, 3, list);
            pause(2.5).await;
            assert!(b.troubles()[0].contains(says), "{says}: {:?}", b.troubles());
            let state = peer(&a, "b").state;
            assert!(matches!(state, LinkState::Refused { why: Refusal::Revoked, .. }), "{says}: {state:?}");
        }
        set(&papers, 3, authority::renew_list(&office.own, &revoked, EPOCH).expect("signed"));
        pause(2.5).await;
        assert!(b.troubles().is_empty(), "{:?}", b.troubles());
    });
}

#[test]
fn unit_link_authority_builds_on_no_list_that_is_not_its_own() {
    let (office, other) = (Office::new(7), Office::new(8));
    let one = office.issue("a", 90);
    let forged = authority::forged_list(&office.own, &other.own, 99, EPOCH);
    for list in [&forged, &other.list] {
        let renewed = authority::renew_list(&office.own, list, EPOCH);
        assert!(matches!(renewed, Err(AuthorityError::ForgedList(_))), "{renewed:?}");
        let revoked = authority::revoke(&office.own, list, &one.certificate, EPOCH);
        assert!(matches!(revoked, Err(AuthorityError::ForgedList(_))), "{revoked:?}");
    }
    let both = format!("{}{}", office.list, other.list);
    let renewed = authority::renew_list(&office.own, &both, EPOCH);
    assert!(matches!(renewed, Err(AuthorityError::ManyLists(2))), "the other's would be lost: {renewed:?}");
    let mixed = Issued { certificate: office.own.certificate.clone(), key: other.own.key.clone() };
    let issued = authority::issue(&mixed, &node("a"), 1, EPOCH, &*super::bed::SeededRng::new(1)).map(|_| ());
    assert!(issued.expect_err("not its key").to_string().contains("not that of its certificate"));
}

#[test]
fn unit_link_says_what_is_wrong_with_certificates_in_words() {
    let (office, other) = (Office::new(7), Office::new(8));
    let (one, two) = (office.issue("a", 90), office.issue("a", 90));
    let list = authority::revoke(&office.own, &office.list, &one.certificate, EPOCH).expect("revoked");
    let (own, strange) = (&office.own.certificate, &other.own.certificate);
    let says = |certificate: &str, key: &str, authority: &str, list: &str, days: u64| {
        let credentials = Credentials::of_pem(certificate, key, authority, list).expect("PEM");
        let now = palisade_domain::UnixNanos(EPOCH.0 + days * 24 * 3600 * 1_000_000_000);
        let faults = examine::faults(&credentials, &crypto::machine(), now);
        faults.into_iter().map(|fault| fault.said).collect::<Vec<_>>().join("; ")
    };
    for (said, words) in [
        (says(&one.certificate, &two.key, own, &office.list, 1), "the key is not that of the certificate"),
        (says(&two.certificate, &two.key, own, &list, 91), "the certificate expired 2026-04-01T00:00:00"),
        (says(&one.certificate, &one.key, own, &list, 1), "the certificate was revoked"),
        (says(&one.certificate, &one.key, strange, &other.list, 1), "is of no authority that is believed"),
    ] {
        assert!(said.contains(words), "{words}: {said}");
        for internal in ["unexpected error", "UNIX", "UnknownIssuer", "Revoked", "KeyMismatch", "OtherError", "[4"] {
            assert!(!said.contains(internal), "{internal}: {said}");
        }
    }
}
