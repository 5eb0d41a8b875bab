//! Certificates and lists that change under links: what is not good changes nothing.

use palisade_domain::Refusal;
use palisade_world::{Link as _, LinkState};

use super::bed::{Bed, EPOCH, Office, Papers, node, numbers, pause, peer, send_slowly, simulated, until, until_linked};
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
            let sending = send_slowly(&a, "b", 600, 0.1);
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
fn unit_link_moves_from_an_authority_to_its_new_key_of_the_same_name_without_a_drop() {
    for seed in 0..4 {
        simulated(async {
            let (bed, old) = (Bed::new(seed), Office::new(7));
            let new = old.made_anew();
            let papers = [old.papers("a"), old.papers("b")];
            let a = bed.start(1, &papers[0], &[("b", 2)]);
            let b = bed.start(2, &papers[1], &[]);
            until_linked(&a, "b").await;
            until_linked(&b, "a").await;
            let since = (peer(&a, "b").state, peer(&b, "a").state);
            let sending = send_slowly(&a, "b", 1200, 0.1);
            let both = |one: &str, other: &str| format!("{one}{other}");
            let changing = async {
                // Both believe both, one after the other, and so it is with the lists, whatever their order; then each gets its new pair.
                for node in [0, 1] {
                    set(&papers[node], 2, both(&old.own.certificate, &new.own.certificate));
                    pause(4.0).await;
                    set(&papers[node], 3, both(&new.list, &old.list));
                    pause(4.0).await;
                    assert_eq!([a.troubles(), b.troubles()], [Vec::<String>::new(), Vec::new()], "{node}");
                }
                for (node, name) in [(1, "b"), (0, "a")] {
                    give(&papers[node], new.issue(name, 30));
                    pause(20.0).await;
                    assert_eq!([a.troubles(), b.troubles()], [Vec::<String>::new(), Vec::new()], "{name}");
                }
                // And nobody believes the old one any more. Between the two files its list is nobody's, which is said and no more.
                for node in [0, 1] {
                    set(&papers[node], 2, new.own.certificate.clone());
                    pause(4.0).await;
                    let said = [&a, &b][node].troubles().join("; ");
                    assert!(said.contains("by a key that no authority of this name has"), "{said}");
                    set(&papers[node], 3, new.list.clone());
                    pause(4.0).await;
                    assert_eq!([&a, &b][node].troubles(), Vec::<String>::new());
                }
            };
            let (came, ()) = tokio::join!(numbers(&b, 1200), changing);
            assert_eq!(came, (0..1200).collect::<Vec<_>>());
            sending.await.expect("sent");
            assert_eq!((peer(&a, "b").state, peer(&b, "a").state), since, "it was out");
            assert_eq!(peer(&a, "b").counts.linked, 3, "each new certificate moved it once");
            // Whom the old one issued is out, and is told so.
            let c = bed.start(3, &old.papers("c"), &[("b", 2)]);
            let state = until(&c, "b", |state| !matches!(state, LinkState::Connecting)).await;
            assert!(matches!(state, LinkState::Refused { why: Refusal::UnknownAuthority, .. }), "{state:?}");
        });
    }
}

#[test]
fn unit_link_goes_for_each_key_of_an_authority_by_the_list_that_this_key_signed() {
    let old = Office::new(7);
    let new = old.made_anew();
    let (by_old, by_new) = (old.issue("a", 90), new.issue("a", 90));
    let second = |n: u64| palisade_domain::UnixNanos(EPOCH.0 + n * 1_000_000_000);
    let revoked = |office: &Office, issued: &Issued, at| {
        authority::revoke(&office.own, &office.list, &issued.certificate, at).expect("revoked")
    };
    // The other key's list is the newer one, or the older one, or there is none of it; the same number is of two scopes.
    let (old_revokes, new_revokes) = (revoked(&old, &by_old, second(1)), revoked(&new, &by_new, second(1)));
    let later = |office: &Office| authority::renew_list(&office.own, &office.list, second(9)).expect("signed");
    let cases = [
        (&old_revokes, &later(&new), &by_old, true),
        (&old_revokes, &later(&new), &by_new, false),
        (&later(&old), &new_revokes, &by_new, true),
        (&later(&old), &new_revokes, &by_old, false),
        (&old_revokes, &String::new(), &by_old, true),
        (&old_revokes, &String::new(), &by_new, false),
        (&String::new(), &new_revokes, &by_old, false),
        (&String::new(), &new_revokes, &by_new, true),
    ];
    for (number, (of_old, of_new, shown, is_revoked)) in cases.into_iter().enumerate() {
        for turned in [false, true] {
            let [lists, authorities] = [[of_old, of_new], [&old.own.certificate, &new.own.certificate]]
                .map(|[one, other]| if turned { format!("{other}{one}") } else { format!("{one}{other}") });
            simulated(async {
                let (bed, b_papers, a_papers) = (Bed::new(5), new.papers("b"), old.papers_of(shown));
                for (which, text) in [(2, authorities.clone()), (3, lists)] {
                    set(&b_papers, which, text);
                }
                set(&a_papers, 2, authorities);
                let b = bed.start(2, &b_papers, &[]);
                let a = bed.start(1, &a_papers, &[("b", 2)]);
                let state = until(&a, "b", |state| !matches!(state, LinkState::Connecting)).await;
                match is_revoked {
                    true => {
                        assert!(
                            matches!(state, LinkState::Refused { why: Refusal::Revoked, .. }),
                            "{number}: {state:?}"
                        );
                    }
                    false => assert!(state.is_linked(), "{number}: {state:?}"),
                }
                assert_eq!(b.troubles(), Vec::<String>::new(), "{number}");
            });
        }
    }
}

#[test]
fn unit_link_takes_no_older_list_of_a_key_and_none_of_a_key_that_it_does_not_know() {
    simulated(async {
        let (bed, old) = (Bed::new(5), Office::new(7));
        let new = old.made_anew();
        let issued = new.issue("a", 90);
        let second = |n: u64| palisade_domain::UnixNanos(EPOCH.0 + n * 1_000_000_000);
        let revoked = authority::revoke(&new.own, &new.list, &issued.certificate, second(1)).expect("revoked");
        let renewed = authority::renew_list(&old.own, &old.list, second(9)).expect("signed");
        let both = format!("{}{}", old.own.certificate, new.own.certificate);
        let papers = old.papers("b");
        let b = bed.start(2, &papers, &[]);
        // A list of a key that is not believed yet counts for nothing, and takes nobody's place.
        set(&papers, 3, format!("{revoked}{}", old.list));
        pause(2.5).await;
        assert!(b.troubles().len() == 1 && b.troubles()[0].contains("counts for nothing"), "{:?}", b.troubles());
        set(&papers, 3, revoked.clone());
        pause(2.5).await;
        assert!(b.troubles().join("; ").contains("is believed still"), "{:?}", b.troubles());
        // From when it is believed, its list stands by itself.
        set(&papers, 2, both.clone());
        for (lists, says) in [
            (format!("{renewed}{revoked}"), None),
            (format!("{renewed}{}", new.list), Some("an older one is not taken")),
            (renewed.clone(), Some("is believed still")),
            (format!("{}{revoked}", old.list), Some("an older one is not taken")),
            (format!("{revoked}{renewed}"), None),
        ] {
            set(&papers, 3, lists);
            pause(2.5).await;
            match says {
                Some(says) => assert!(b.troubles().join("; ").contains(says), "{says}: {:?}", b.troubles()),
                None => assert_eq!(b.troubles(), Vec::<String>::new()),
            }
            let a_papers = new.papers_of(&issued);
            set(&a_papers, 2, both.clone());
            let a = bed.start(1, &a_papers, &[("b", 2)]);
            let state = until(&a, "b", |state| !matches!(state, LinkState::Connecting)).await;
            assert!(matches!(state, LinkState::Refused { why: Refusal::Revoked, .. }), "{says:?}: {state:?}");
            a.close().await;
        }
        // One certificate twice is one key.
        set(&papers, 2, format!("{both}{both}"));
        pause(2.5).await;
        assert_eq!(b.troubles(), Vec::<String>::new());
    });
}

#[test]
fn unit_link_takes_what_can_be_used_of_files_of_which_one_cannot_be_read() {
    simulated(async {
        let (bed, office) = (Bed::new(6), Office::new(7));
        let (issued, broken) = (office.issue("a", 90), "-----BEGIN X509 CRL-----\nMIIB\n".to_owned());
        let (papers, a_papers) = (office.papers("b"), office.papers_of(&issued));
        let b = bed.start(2, &papers, &[]);
        let a = bed.start(1, &a_papers, &[("b", 2)]);
        until_linked(&a, "b").await;
        // A certificate is renewed though the lists cannot be read; a new authority waits for them, one that goes does not.
        let other = Office::new(8);
        set(&papers, 3, broken.clone());
        set(&papers, 2, format!("{}{}", office.own.certificate, other.own.certificate));
        give(&papers, office.issue("b", 30));
        pause(20.0).await;
        assert_eq!((peer(&a, "b").state.is_linked(), peer(&a, "b").counts.linked), (true, 2), "the new pair is shown");
        let said = b.troubles();
        assert!(
            said.len() == 2 && said[0].starts_with("revocation lists as they are now are not in force"),
            "{said:?}"
        );
        assert!(said[1].contains("new ones wait for the revocation lists"), "{said:?}");
        let c = bed.start(3, &other.papers("c"), &[("b", 2)]);
        let state = until(&c, "b", |state| !matches!(state, LinkState::Connecting)).await;
        assert!(!state.is_linked(), "{state:?}");
        // Whom a list takes back is out though the authorities cannot be read.
        set(&papers, 2, "-----BEGIN CERTIFICATE-----\nMIIB\n".to_owned());
        set(&papers, 3, authority::revoke(&office.own, &office.list, &issued.certificate, EPOCH).expect("revoked"));
        pause(2.5).await;
        let state = peer(&b, "a").state;
        assert!(matches!(state, LinkState::Refused { why: Refusal::Revoked, .. }), "{state:?}");
        assert!(b.troubles()[0].starts_with("authorities as they are now are not in force"), "{:?}", b.troubles());
    });
}

/// The last line of its signature is another.
fn tampered(list: &str) -> String {
    let mut lines: Vec<String> = list.lines().map(Into::into).collect();
    let last = lines.len() - 2;
    let other = if lines[last].starts_with('A') { "B" } else { "A" };
    lines[last].replace_range(..1, other);
    lines.join("\n") + "\n"
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
        let changed = tampered(&authority::renew_list(&office.own, &office.list, EPOCH).expect("signed"));
        for (list, says) in [
            (format!("{revoked}{changed}"), "is not signed by it"),
            (format!("{revoked}{forged}"), "counts for nothing"),
            (forged, "is believed still"),
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
