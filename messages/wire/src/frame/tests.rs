//! Frames and messages: round trips, bounds, refusals, and bytes that nobody wrote.

use bytes::Bytes;
use palisade_domain::{NodeName, Refusal};
use proptest::prelude::*;

use super::*;

fn name(text: &str) -> NodeName {
    text.parse().expect("a name")
}

fn place(run: u64, sequence: u64) -> Place {
    Place { run: Run(run), sequence, digest: Digest(run ^ sequence) }
}

fn bytes_of(frame: &Frame) -> Vec<u8> {
    let mut out = Vec::new();
    frame.write(&mut out);
    out
}

/// The body that a stream's reader would hand on.
fn body(written: &[u8]) -> Bytes {
    let (prefix, body) = written.split_at(LENGTH_BYTES);
    assert_eq!(length(prefix.try_into().expect("four bytes")), Ok(body.len()));
    Bytes::copy_from_slice(body)
}

fn frames() -> impl Strategy<Value = Frame> {
    let places = (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(run, sequence, digest)| Place {
        run: Run(run),
        sequence,
        digest: Digest(digest),
    });
    let taken = prop::option::of(places.clone());
    let names = "[a-z0-9]([a-z0-9-]{0,20}[a-z])?".prop_filter_map("a name", |text| text.parse::<NodeName>().ok());
    prop_oneof![
        (any::<u32>(), any::<u32>(), names.clone(), taken.clone()).prop_map(|(a, b, name, taken)| Frame::Hello(
            Hello { versions: Versions { oldest: a.min(b), newest: a.max(b) }, name, taken }
        )),
        (any::<u32>(), names, taken).prop_map(|(version, name, taken)| Frame::Welcome(Welcome {
            version,
            name,
            taken
        })),
        places.prop_map(Frame::Begin),
        (1u64..1 << 62, prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 1..40), any::<u64>())
            .prop_map(|(first, messages, digest)| Frame::Batch(Batch {
                first,
                messages: messages.into_iter().map(Bytes::from).collect(),
                digest: Digest(digest)
            })),
        (any::<u64>(), any::<u64>()).prop_map(|(run, sequence)| Frame::Taken(Taken { run: Run(run), sequence })),
        Just(Frame::Renew),
    ]
}

fn rows() -> impl Strategy<Value = TreeRow> {
    (
        any::<u32>(),
        ".{0,300}",
        ".{0,20}",
        any::<u64>(),
        prop::option::of(any::<[u64; 4]>()),
        prop::option::of(".{0,600}"),
    )
        .prop_map(|(level, name, kind, restarts, mail, last_error)| TreeRow {
            level,
            name,
            state: kind.clone(),
            kind,
            restarts,
            uptime_ms: mail.map(|mail| mail[0]),
            mail,
            last_error,
        })
}

proptest! {
    #[test]
    fn unit_frame_comes_back_as_it_was_written(frame in frames()) {
        let written = bytes_of(&frame);
        prop_assert_eq!(Frame::read(&body(&written)), Ok(frame));
        // Others can read it: a general decoder finds a map whose keys are whole numbers.
        let value: ciborium::Value = ciborium::from_reader(&written[LENGTH_BYTES..]).expect("CBOR");
        prop_assert!(value.as_map().is_some_and(|map| map.iter().all(|(key, _)| key.is_integer())));
    }

    #[test]
    fn unit_frame_that_is_cut_anywhere_is_refused(frame in frames(), at in any::<prop::sample::Index>()) {
        let written = bytes_of(&frame);
        let whole = written.len() - LENGTH_BYTES;
        let cut = at.index(whole);
        prop_assert!(Frame::read(&Bytes::copy_from_slice(&written[LENGTH_BYTES..LENGTH_BYTES + cut])).is_err());
    }

    #[test]
    fn unit_frame_of_any_bytes_is_read_or_refused_and_nothing_else(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let read = Frame::read(&Bytes::from(bytes.clone()));
        if let Ok(frame) = &read {
            prop_assert_eq!(Frame::read(&body(&bytes_of(frame))), read.clone());
        }
        if let Ok(message) = Message::read(&bytes) {
            prop_assert_eq!(Message::read(&message.write()), Ok(message));
        }
    }

    #[test]
    fn unit_frame_with_a_flipped_bit_does_not_come_back_as_another_batch_of_the_same_digest(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 1..10), bit in any::<prop::sample::Index>(),
    ) {
        let digest = |messages: &[Bytes]| messages.iter().fold(Digest::default(), |digest, message| digest.after(message));
        let messages: Vec<Bytes> = messages.into_iter().map(Bytes::from).collect();
        let mut written = bytes_of(&Frame::Batch(Batch { first: 1, digest: digest(&messages), messages: messages.clone() }));
        let bit = LENGTH_BYTES * 8 + bit.index((written.len() - LENGTH_BYTES) * 8);
        written[bit / 8] ^= 1 << (bit % 8);
        if let Ok(Frame::Batch(batch)) = Frame::read(&body(&written)) {
            let same = batch.messages == messages && batch.first == 1 && batch.digest == digest(&messages);
            let honest = batch.first == 1 && batch.digest == digest(&batch.messages);
            prop_assert!(same || !honest, "{batch:?}");
        }
    }

    #[test]
    fn unit_message_comes_back_as_it_was_written_and_fits(rows in prop::collection::vec(rows(), 0..40), question in any::<u64>(), lines in prop::collection::vec("[ -~\u{80}-\u{10ffff}]{0,100}", 0..300)) {
        for message in [
            Message::AskTree { question },
            Message::tree(question, rows),
            Message::AskAlerts { question, recent: question },
            Message::alerts(question, lines.clone()),
            Message::FollowAlerts { question, recent: question },
            Message::followed(question, lines.clone(), question, FollowedLines::First),
            Message::followed(question, lines, 0, FollowedLines::Last),
        ] {
            let written = message.write();
            prop_assert!(written.len() <= LONGEST_MESSAGE);
            prop_assert_eq!(Message::read(&written), Ok(message));
        }
    }

    #[test]
    fn unit_versions_agree_on_the_newest_that_both_speak(a in 0u32..6, b in 0u32..6, c in 0u32..6, d in 0u32..6) {
        let (one, other) = (Versions { oldest: a.min(b), newest: a.max(b) }, Versions { oldest: c.min(d), newest: c.max(d) });
        let newest = (0..6).rev().find(|version| one.contain(*version) && other.contain(*version));
        prop_assert_eq!(one.common(other), newest);
        prop_assert_eq!(other.common(one), newest);
    }
}

#[test]
fn unit_frame_says_no_to_a_length_past_its_bound_before_it_reads() {
    let most = u32::try_from(LONGEST_FRAME).expect("fits");
    assert_eq!(length(most.to_be_bytes()), Ok(LONGEST_FRAME));
    assert_eq!(length((most + 1).to_be_bytes()), Err(FrameError::TooLong(u64::from(most) + 1)));
    assert_eq!(length([0xff; 4]), Err(FrameError::TooLong(u64::from(u32::MAX))));
}

/// The body of a frame from a general value.
fn written(value: &ciborium::Value) -> Bytes {
    let mut out = Vec::new();
    ciborium::into_writer(value, &mut out).expect("written");
    out.into()
}

fn map(pairs: &[(u64, ciborium::Value)]) -> ciborium::Value {
    ciborium::Value::Map(pairs.iter().map(|(key, value)| ((*key).into(), value.clone())).collect())
}

#[test]
fn unit_frame_refuses_what_it_does_not_know_by_its_number() {
    let unknown = map(&[(0, 99.into())]);
    assert_eq!(Frame::read(&written(&unknown)), Err(FrameError::UnknownKind(99)));
    let taken = map(&[(0, 6.into()), (1, 1.into()), (2, 1.into()), (3, 1.into())]);
    assert_eq!(Frame::read(&written(&taken)), Err(FrameError::UnknownKey { frame: "taken", key: 3 }));
    let renew = map(&[(0, 7.into()), (1, 1.into())]);
    assert_eq!(Frame::read(&written(&renew)), Err(FrameError::UnknownKey { frame: "renew", key: 1 }));
    let twice = map(&[(0, 6.into()), (1, 1.into()), (1, 1.into())]);
    assert_eq!(Frame::read(&written(&twice)), Err(FrameError::Order(1)));
}

#[test]
fn unit_frame_hello_of_a_later_version_is_still_read() {
    let later = map(&[
        (0, 1.into()),
        (1, 1.into()),
        (2, 9.into()),
        (3, "b".into()),
        (12, ciborium::Value::Array(vec![ciborium::Value::Text("x".into()), ciborium::Value::Null])),
    ]);
    let hello = Hello { versions: Versions { oldest: 1, newest: 9 }, name: name("b"), taken: None };
    assert_eq!(Frame::read(&written(&later)), Ok(Frame::Hello(hello)));
}

#[test]
fn unit_frame_refuses_numbers_that_cannot_be() {
    let hello = |oldest: u64, newest: u64, name: &str| {
        Frame::read(&written(&map(&[(0, 1.into()), (1, oldest.into()), (2, newest.into()), (3, name.into())])))
    };
    assert_eq!(hello(2, 1, "a"), Err(FrameError::Impossible { frame: "hello", key: "versions" }));
    assert_eq!(hello(1, 1 << 40, "a"), Err(FrameError::Impossible { frame: "hello", key: "newest version" }));
    assert_eq!(hello(1, 1, "no name"), Err(FrameError::Impossible { frame: "hello", key: "name" }));
    assert!(matches!(hello(1, 1, &"a".repeat(300)), Err(FrameError::Cbor(CborError::TooLong { .. }))));
    let batch = |first: u64, messages: usize| {
        let messages = vec![ciborium::Value::Bytes(vec![1]); messages];
        Frame::read(&written(&map(&[(0, 5.into()), (1, first.into()), (2, messages.into()), (3, 1.into())])))
    };
    assert!(batch(1, 1).is_ok());
    assert!(batch(1, 0).is_err() && batch(0, 1).is_err() && batch(u64::MAX, 2).is_err());
}

#[test]
fn unit_frame_makes_no_room_for_what_is_only_announced() {
    // A batch of 65,536 messages, of which none is there; and a nest of a thousand arrays.
    let announced = [0xa4, 0x00, 0x05, 0x01, 0x01, 0x02, 0x9a, 0x00, 0x01, 0x00, 0x00];
    assert!(matches!(Frame::read(&Bytes::copy_from_slice(&announced)), Err(FrameError::Cbor(CborError::Ends(_)))));
    let mut nest = vec![0xa5, 0x00, 0x01, 0x01, 0x01, 0x02, 0x01, 0x03, 0x61, b'a', 0x0c];
    nest.extend(vec![0x81; 1000]);
    nest.push(0);
    assert!(matches!(Frame::read(&nest.into()), Err(FrameError::Cbor(CborError::Deep(_)))));
    // Strings and arrays without a length.
    for endless in [&[0xbf, 0x00, 0x07, 0xff][..], &[0xa1, 0x1f]] {
        assert!(Frame::read(&Bytes::copy_from_slice(endless)).is_err());
    }
}

#[test]
fn unit_message_refuses_a_line_that_would_be_two() {
    let forged = Message::alerts(1, vec!["{}\n{\"node\":\"another\"}".into()]).write();
    assert_eq!(Message::read(&forged), Err(MessageError::Control));
    let of_a_path = Message::alerts(1, vec!["{\"resource\":\"/tmp/\u{85}\u{7f}\"}".into()]);
    assert_eq!(
        Message::read(&of_a_path.write()),
        Ok(of_a_path),
        "JSON leaves these as they are, and workloads name files so"
    );
}

#[test]
fn unit_message_answer_leaves_out_what_does_not_fit_and_counts_it() {
    let row = |n: usize| TreeRow { name: format!("{n}-{}", "x".repeat(400)), ..TreeRow::default() };
    let Message::Tree { rows, omitted, .. } = Message::tree(1, (0..600).map(row)) else { panic!("a tree") };
    assert_eq!((rows.len(), omitted), (MOST_ROWS, 600 - MOST_ROWS as u64));
    assert!(rows.iter().all(|row| row.name.len() <= LONGEST_NAME_OF_A_ROW && row.name.ends_with('…')));
    let long = "y".repeat(LONGEST_ANSWER / 2 + 1);
    let Message::Alerts { lines, omitted, .. } =
        Message::alerts(1, vec!["old".into(), long.clone(), long.clone(), "new".into()])
    else {
        panic!("alerts")
    };
    assert_eq!((lines, omitted), (vec![long, "new".to_owned()], 2), "the newest stay");
}

#[test]
fn unit_message_of_more_text_than_an_answer_may_have_is_refused_where_it_is_read() {
    // Each row holds to its bounds; all of them together do not.
    let row = TreeRow { last_error: Some("e".repeat(512)), name: "n".repeat(256), ..TreeRow::default() };
    let rows = |count| Message::Tree { question: 1, rows: vec![row.clone(); count], omitted: 0 }.write();
    let fit = LONGEST_ANSWER / (512 + 256);
    assert!(fit < MOST_ROWS && Message::read(&rows(fit)).is_ok());
    assert!(matches!(Message::read(&rows(fit + 1)), Err(MessageError::Cbor(CborError::TooLong { .. }))));
}

const LONGEST_NAME_OF_A_ROW: usize = 256;

#[test]
fn unit_refusal_codes_come_back_and_a_goodbye_is_none() {
    for refusal in Refusal::ALL {
        assert_eq!(of_close_code(close_code(refusal).into()), Some(refusal));
    }
    assert_eq!(of_close_code(GOODBYE.into()), None);
    assert_eq!(of_close_code(TAKEN_OVER.into()), None);
    assert_eq!(of_close_code(u64::MAX), None);
    assert_eq!(
        (of_tls_alert(45), of_tls_alert(48), of_tls_alert(44)),
        (Some(Refusal::Expired), Some(Refusal::UnknownAuthority), Some(Refusal::Revoked))
    );
    assert_eq!(of_tls_alert(40), None, "a handshake that failed is no refusal");
}

#[test]
fn unit_frame_batch_in_parts_is_the_batch_that_is_written_whole() {
    for lengths in [vec![0], vec![1, 23, 24, 255, 256], vec![65_535, 65_536], vec![3; 300]] {
        let messages: Vec<Bytes> = lengths.iter().map(|length| vec![7; *length].into()).collect();
        let mut encoded = bytes::BytesMut::new();
        messages.iter().for_each(|message| append_message(message, &mut encoded));
        for (first, digest) in [(1, Digest(0)), (u64::MAX / 2, Digest(u64::MAX))] {
            let [head, tail] = around_messages(first, messages.len(), encoded.len(), digest);
            let batch = Frame::Batch(Batch { first, messages: messages.clone(), digest });
            assert!([&head[..], &encoded, &tail].concat() == bytes_of(&batch), "{lengths:?}");
        }
        let back: Vec<Bytes> = encoded_messages(&encoded).map(|(message, _)| Bytes::copy_from_slice(message)).collect();
        assert_eq!(back, messages);
    }
}

#[test]
fn unit_digest_tells_order_boundaries_and_zeros_apart() {
    let digest = |messages: &[&[u8]]| messages.iter().fold(Digest::default(), |digest, message| digest.after(message));
    let all = [
        digest(&[b"a", b"b"]),
        digest(&[b"b", b"a"]),
        digest(&[b"ab"]),
        digest(&[b"ab", b""]),
        digest(&[b"", b"ab"]),
        digest(&[&[0; 8]]),
        digest(&[&[0; 16]]),
        digest(&[&[0; 17]]),
        digest(&[]),
    ];
    for (at, one) in all.iter().enumerate() {
        assert!(!all[at + 1..].contains(one), "{at}");
    }
    // Each byte counts, and where each word stands.
    let long: Vec<u8> = (0..200).collect();
    let whole = digest(&[&long]);
    for at in 0..long.len() {
        let mut other = long.clone();
        other[at] ^= 1;
        assert_ne!(digest(&[&other]), whole, "byte {at}");
    }
    for (one, other) in (0..25).flat_map(|one| (0..one).map(move |other| (one, other))) {
        let mut swapped = long.clone();
        (0..8).for_each(|byte| swapped.swap(8 * one + byte, 8 * other + byte));
        assert_ne!(digest(&[&swapped]), whole, "words {one} and {other}");
    }
    // The same on every machine, for ever: two versions must agree on it.
    assert_eq!(digest(&[b"palisade", b"a message that is longer than a word"]), Digest(12_886_668_370_399_392_286));
}

#[test]
fn unit_frame_place_keys_stand_together_or_not_at_all() {
    let hello = Frame::Hello(Hello { versions: SPOKEN, name: name("a"), taken: Some(place(1, 2)) });
    assert_eq!(Frame::read(&body(&bytes_of(&hello))), Ok(hello));
    let half = map(&[(0, 1.into()), (1, 1.into()), (2, 1.into()), (3, "a".into()), (4, 7.into())]);
    assert!(matches!(Frame::read(&written(&half)), Err(FrameError::Missing { .. })));
}
