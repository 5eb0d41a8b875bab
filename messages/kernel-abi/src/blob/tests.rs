//! Blobs are made by hand here; compiled ones are tested where they are compiled.

use std::net::IpAddr;

use super::*;

/// Classes 2 (any byte but NUL and `a`) and 3 (`a`).
fn classes() -> [u8; 256] {
    let mut class_of = [2; 256];
    class_of[0] = 1;
    class_of[usize::from(b'a')] = 3;
    class_of
}

/// Path: `a` exactly has accept id 1. Rows at 0 (dead), 4 (start), 8 (after `a`). All others: one row each, dead, at even words.
/// File: accept 1 blocks by rule 6, for writers only.
fn parts() -> (BlobHead, Vec<u32>) {
    let mut words = vec![0, 0, 0, 0];
    words.extend([0, 4, 0, 8]);
    words.extend([1, 8, 0, 0]);
    for row in [12, 16, 20, 24, 28] {
        words.resize(row as usize, 0);
        words.extend([0, row, row]);
    }
    let block = Decision { effect: Effect::Block, rule: Some(6), ..Decision::PERMIT }.to_word().unwrap();
    words.extend([0, 0, 0, 0, 0, 0, block, block]);
    let mut one_class = [2; 256];
    one_class[0] = 1;
    let dead = |row| AutomatonHead { start: row, absorbing: row + 3, words: 3, form: 0, class_of: one_class };
    let mut family = [FamilyHead::default(); FAMILIES];
    family[Family::File as usize] = FamilyHead { base: TABLE, accepts: 2, sources: 1, modifiers: 4 };
    let head = BlobHead {
        magic: MAGIC,
        version: VERSION,
        words: 0,
        families: 1 << Family::File as u32,
        automaton: [
            AutomatonHead { start: 4, absorbing: 4, words: 12, form: 0, class_of: classes() },
            dead(12),
            dead(16),
            dead(20),
            dead(24),
            dead(28),
        ],
        family,
        arguments: FamilyHead::default(),
        digest: [0; 32],
    };
    (head, words)
}

/// Where the file table of [`parts`] begins.
const TABLE: u32 = 31;

/// The same with the path automaton in comb form: seven cells, of which the last two are nobody's.
fn comb_parts() -> (BlobHead, Vec<u32>) {
    let (dead, start, after) = (0, 2, 6);
    let (mut head, flat) = parts();
    let mut words = vec![dead, COMB_STATE, dead, COMB_STATE, start, start, dead, COMB_STATE | 1, after, start];
    words.extend([0, COMB_FREE, 0, COMB_FREE]);
    for row in [14, 18, 22, 26, 30] {
        words.resize(row as usize, 0);
        words.extend([0, row, row]);
    }
    words.extend(&flat[TABLE as usize..]);
    head.automaton[0] = AutomatonHead { start, absorbing: 2, words: 14, form: Form::Comb as u32, class_of: classes() };
    for (automaton, row) in head.automaton.iter_mut().skip(1).zip([14, 18, 22, 26, 30]) {
        (automaton.start, automaton.absorbing) = (row, row + 3);
    }
    head.family[Family::File as usize].base = TABLE + 2;
    (head, words)
}

#[test]
fn unit_blob_of_both_forms_matches_the_same() {
    let (head, words) = comb_parts();
    let (comb, flat) = (Blob::from_parts(head, &words).unwrap(), blob());
    for path in [&b"a"[..], b"", b"aa", b"b", b"\0a", b"ba", b"/a", b"\0\0\0\0aa"] {
        assert_eq!(comb.path_accept(path), flat.path_accept(path), "{path:?}");
        for blob in [&comb, &flat] {
            let step = |state, byte: &u8| blob.step(Automaton::Path, state, *byte);
            let end = path.iter().fold(blob.start(Automaton::Path), step);
            assert_eq!(blob.accept_at(Automaton::Path, end), blob.path_accept(path).whole.0, "{path:?} byte by byte");
        }
    }
}

#[test]
fn unit_blob_refuses_every_hostile_word_of_a_comb() {
    for at in 0..14 {
        for word in [1, 3, 13, 14, 33, 1 << 21, COMB_FREE, COMB_STATE | 9, u32::MAX] {
            let (head, mut words) = comb_parts();
            if words[at] == word {
                continue;
            }
            words[at] = word;
            assert!(Blob::from_parts(head, &words).is_err(), "word {at} = {word:#x}");
        }
    }
    type Edit = fn(&mut AutomatonHead);
    let edits: [(&str, Edit); 6] = [
        ("a start that is an edge", |head| head.start = 4),
        ("a start without a cell for NUL", |head| head.start = 6),
        ("absorbing states that lead on", |head| head.absorbing = 8),
        ("columns outside", |head| head.class_of[9] = 9),
        ("an odd length", |head| head.words = 13),
        ("an unknown form", |head| head.form = 2),
    ];
    for (what, edit) in edits {
        let (mut head, words) = comb_parts();
        edit(&mut head.automaton[0]);
        assert!(Blob::from_parts(head, &words).is_err(), "{what}");
    }
}

#[test]
fn unit_blob_refuses_argument_sets_that_are_not_there() {
    let with = |arguments: FamilyHead, sets: u32, family: Family| {
        let (mut head, mut words) = parts();
        let file = std::mem::take(&mut head.family[Family::File as usize]);
        head.families = 1 << family as u32;
        head.family[family as usize] = file;
        *words.last_mut().unwrap() |= sets << 4;
        head.arguments = FamilyHead { base: words.len() as u32, ..arguments };
        words.extend([0, 1, 1]);
        Blob::from_parts(head, &words).map(|_| ())
    };
    let good = FamilyHead { base: 0, accepts: 1, sources: 3, modifiers: 1 };
    assert_eq!(with(good, 2, Family::Process), Ok(()));
    assert!(with(good, 3, Family::Process).is_err(), "a word names a third set");
    assert!(with(good, 1, Family::File).is_err(), "opens have no arguments");
    for bad in [
        FamilyHead { accepts: 2, ..good },
        FamilyHead { accepts: 0, ..good },
        FamilyHead { sources: 1, ..good },
        FamilyHead { sources: 257, ..good },
        FamilyHead { modifiers: 4, ..good },
    ] {
        assert!(with(bad, 1, Family::Process).is_err(), "{bad:?}");
    }
}

#[test]
fn unit_domain_path_reads_from_the_last_label_and_lets_no_label_pass_for_two() {
    for (name, path) in [
        (&b"www.Example.com"[..], &b"/com/example/www"[..]),
        (b"example.com.", b"/com/example"),
        (b"com", b"/com"),
        (b"example/x.com", b"/com/example\xffx"),
        (b"exam\0ple.com", b"/com/exam\xffple"),
    ] {
        assert_eq!(domain_path(name), path, "{name:?}");
    }
}

#[test]
fn unit_last_component_is_read_as_far_as_a_name_may_be_long() {
    let path = |length: usize| [b"/d/".as_slice(), &vec![b'n'; length]].concat();
    assert_eq!(walk::last_component(&path(255)).len(), 255);
    assert_eq!(walk::last_component(&path(256)), b"");
    assert_eq!(walk::last_component(b"/a/b"), b"b");
    assert_eq!(walk::last_component(b"no slash"), b"");
    assert_eq!(walk::last_component(b"/a/"), b"");
}

fn blob() -> Blob {
    let (head, words) = parts();
    Blob::from_parts(head, &words).unwrap()
}

#[test]
fn unit_blob_walk_matches_only_the_whole_path() {
    let blob = blob();
    for (path, accept) in [(&b"a"[..], 1), (b"", 0), (b"aa", 0), (b"b", 0), (b"a\0\0", 1), (b"\0a", 1), (b"ba", 0)] {
        assert_eq!(blob.path_accept(path), AcceptId(accept).into(), "{path:?}");
    }
}

#[test]
fn unit_blob_decides_by_modifier_and_takes_unknown_ids_as_zero() {
    let blob = blob();
    let file = |accept, source, modifiers| blob.decide(Family::File, AcceptId(accept), SourceId(source), modifiers);
    assert_eq!(file(1, 0, Modifiers::NONE), Decision::PERMIT);
    let blocked = Decision { effect: Effect::Block, rule: Some(6), ..Decision::PERMIT };
    assert_eq!(file(1, 0, Modifiers::WRITE), blocked);
    assert_eq!(file(1, 9, Modifiers::new(true, true)), blocked);
    assert_eq!(file(u32::MAX, u32::MAX, Modifiers::WRITE), Decision::PERMIT);
    assert_eq!(blob.decide(Family::Process, AcceptId(1), SourceId(0), Modifiers::WRITE), Decision::PERMIT);
}

#[test]
fn unit_blob_survives_bytes_with_and_without_padding() {
    let blob = blob();
    assert_eq!(blob.as_bytes().len(), SizeClass::K16.value_bytes());
    for bytes in [blob.as_bytes(), blob.content()] {
        let read = Blob::from_bytes(bytes).unwrap();
        assert_eq!(read.as_bytes(), blob.as_bytes());
        assert_eq!(read.digest(), blob.digest());
    }
}

#[test]
fn unit_blob_refuses_every_corrupted_byte() {
    let blob = blob();
    let content = blob.content().to_vec();
    for at in 0..content.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = content.clone();
            bytes[at] ^= flip;
            assert!(Blob::from_bytes(&bytes).is_err(), "byte {at} ^ {flip:#x}");
        }
    }
    for length in 0..content.len() {
        assert!(Blob::from_bytes(&content[..length]).is_err(), "cut to {length}");
    }
    let mut padded = blob.as_bytes().to_vec();
    *padded.last_mut().unwrap() = 1;
    assert_eq!(Blob::from_bytes(&padded), Err(BlobError::NotZero("padding")));
}

#[test]
fn unit_blob_refuses_rows_that_lead_out_even_with_a_right_digest() {
    let (_, good) = parts();
    // Every word of a row but the accept ids: 3 is no row, 31 is a table's, the last is no word at all.
    for at in (0..31).filter(|at| at % 4 != 0 && ![15, 19, 23, 27].contains(at)) {
        for target in [3, 31, 1 << 21, u32::MAX] {
            let (head, mut words) = parts();
            words[at] = target;
            assert!(Blob::from_parts(head, &words).is_err(), "word {at} = {target}");
        }
    }
    let (head, mut words) = parts();
    words[8] = 2;
    assert!(matches!(Blob::from_parts(head, &words), Err(BlobError::Table { family: Some(Family::File), .. })));
    let (head, mut words) = parts();
    words[TABLE as usize] = 3;
    assert!(matches!(Blob::from_parts(head, &words), Err(BlobError::Table { .. })));
    assert!(Blob::from_parts(head, &good[..38]).is_err());
}

#[test]
fn unit_blob_refuses_heads_out_of_range() {
    type Edit = fn(&mut BlobHead);
    let edits: [(&str, Edit); 14] = [
        ("start past the rows", |h| h.automaton[0].start = 12),
        ("start between rows", |h| h.automaton[0].start = 5),
        ("absorbing between rows", |h| h.automaton[0].absorbing = 5),
        ("absorbing that is not", |h| h.automaton[0].absorbing = 8),
        ("no states", |h| h.automaton[1].words = 0),
        ("huge states", |h| h.automaton[2].words = u32::MAX),
        ("class 0", |h| h.automaton[0].class_of[7] = 0),
        ("NUL with a class", |h| h.automaton[0].class_of[0] = 2),
        ("more columns than words", |h| h.automaton[2].class_of[9] = 255),
        ("table over the rows", |h| h.family[1].base = 0),
        ("table size overflows", |h| h.family[1].accepts = u32::MAX),
        ("three modifiers", |h| h.family[1].modifiers = 3),
        ("no sources", |h| h.family[1].sources = 0),
        ("unknown family", |h| h.families |= 1 << FAMILIES),
    ];
    for (what, edit) in edits {
        let (mut head, words) = parts();
        edit(&mut head);
        assert!(Blob::from_parts(head, &words).is_err(), "{what}");
    }
}

#[test]
fn unit_endpoint_is_what_connect_reaches() {
    let encode = |address: &str| {
        let address: IpAddr = address.parse().unwrap();
        Endpoint { domain: AF_INET6, kind: 1, protocol: 6, destination: Some((address, 0x1388)) }.encode()
    };
    let v4 = encode("10.0.0.1");
    assert_eq!(v4.as_ref(), [1, 3, 1, 2, 1, 7, 2, 4, 9, 9, 1, 11, 1, 1, 1, 1, 1, 2]);
    assert_eq!(encode("::ffff:10.0.0.1"), v4);
    assert_eq!(encode("0.0.0.0"), encode("127.0.0.1"));
    assert_eq!(encode("::ffff:0.0.0.0"), encode("127.0.0.1"));
    assert_eq!(encode("::"), encode("::1"));
    assert_eq!(encode("fe80::1").as_ref().len(), MAX_SYMBOLS);
    let socket = Endpoint { domain: AF_INET, kind: 2, protocol: 0, destination: None }.encode();
    assert_eq!(socket.as_ref(), [1, 3, 1, 3, 1, 1]);
    assert_eq!(socket.as_ref().len(), SOCKET_SYMBOLS);
}

#[test]
fn unit_decision_word_keeps_what_it_can_and_refuses_the_rest() {
    for effect in [Effect::Permit, Effect::Audit, Effect::Block] {
        for by_posture in [false, true] {
            for rule in [None, Some(0), Some(1), Some(MAX_RULES as u32 - 1)] {
                let decision = Decision { effect, by_posture, rule, arguments: 0 };
                assert_eq!(Decision::from_word(decision.to_word().unwrap()), decision);
            }
        }
    }
    assert_eq!(Decision { rule: Some(MAX_RULES as u32), ..Decision::PERMIT }.to_word(), None);
}
