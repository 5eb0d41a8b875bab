//! Packed tables against the tables that they were packed from, and lines. What a profile of a policy says is tested where
//! policies are compiled (`palisade-policy-compiler`).

use super::*;
use crate::{
    reading::Packed,
    table::{Accept, Table},
};

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as u32) % bound
    }
}

/// `states` more states with random moves, some rows nearly all of one target and some of all kinds.
fn table(random: &mut Random, classes: u32, states: u32) -> Table {
    let class_of = std::array::from_fn(|byte| (byte as u32 % classes) as u8);
    let mut table = if classes == 256 { Table::of_bytes() } else { Table::new(classes as usize, class_of) };
    let all = states + 2;
    for _ in 0..states {
        let accept = Accept { allow: random.below(1 << 28), audit: random.below(1 << 28) };
        table.add(accept, random.below(all));
    }
    for state in 1..all {
        for _ in 0..random.below(if state % 3 == 0 { 2 * classes } else { 3 }) {
            table.set(state, random.below(256) as u8, random.below(all));
        }
    }
    table
}

#[test]
fn unit_packed_automaton_moves_as_the_table_that_it_was_packed_from() {
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut moved = 0;
    for round in 0..60 {
        let classes = [2, 3, 17, 60, 256][round % 5];
        let count = 1 + random.below(300);
        let table = table(&mut random, classes, count);
        let packed = Packed::read(&table.pack().unwrap()).unwrap();
        for state in 0..table.states() as u32 {
            assert_eq!(packed.accept(state), (table.accept[state as usize].allow, table.accept[state as usize].audit));
            for byte in 0..=255u8 {
                let class = usize::from(table.class_of[usize::from(byte)]);
                let wanted = table.rows[state as usize * table.classes + class];
                assert_eq!(packed.next(state, byte), wanted, "state {state}, byte {byte}, {classes} classes");
                moved += usize::from(wanted != table.rows[state as usize * table.classes]);
            }
        }
    }
    assert!(moved > 100_000, "rows of one target only: {moved}");
}

#[test]
fn unit_merged_automaton_says_the_same_of_every_input_with_fewer_states() {
    let mut random = Random(0x9876_5432_1234_5671);
    let mut fewer = 0;
    for _ in 0..200 {
        let mut table = Table::new(3, std::array::from_fn(|byte| (byte % 3) as u8));
        let all = 2 + 2 + random.below(12);
        for state in 2..all {
            // Two words only, and moves forward or to itself: many states are alike.
            let accept = Accept { allow: random.below(2), audit: 0 };
            table.add(accept, if random.below(2) == 0 { state } else { state + random.below(all - state) });
            table.set(state, random.below(3) as u8, 2 + random.below(all - 2));
        }
        (0..3).for_each(|byte| table.set(1, byte, 2 + random.below(all - 2)));
        let merged = table.merged();
        fewer += usize::from(merged.states() < table.states());
        let walk = |table: &Table, input: u32| {
            let step = |state: u32, place: u32| table.rows[state as usize * 3 + (input / 3u32.pow(place) % 3) as usize];
            table.accept[(0..7).fold(1, step) as usize]
        };
        for input in 0..3u32.pow(7) {
            assert_eq!(walk(&merged, input), walk(&table, input));
        }
    }
    assert!(fewer > 40, "{fewer} of 200 had states alike");
}

#[test]
fn unit_packed_automaton_of_long_tails_takes_some_bytes_a_state() {
    let mut table = Table::new(40, std::array::from_fn(|byte| (byte % 40) as u8));
    for state in 2..20_002 {
        table.add(Accept::default(), 0);
        table.set(state - 1, (state * 7) as u8, state);
    }
    let bytes = table.pack().unwrap().len();
    assert!(bytes < 20 * table.states(), "{bytes} bytes for {} states", table.states());
}

#[test]
fn unit_automaton_of_more_states_than_the_form_can_name_is_refused_with_their_number() {
    let mut table = Table::new(1, [0; 256]);
    while table.states() < MAX_STATES {
        table.add(Accept::default(), 0);
    }
    assert!(Packed::read(&table.pack().unwrap()).is_ok(), "as many as it can name");
    table.add(Accept::default(), 0);
    assert_eq!(table.pack().unwrap_err(), LowerError::States { states: MAX_STATES + 1 });
}

#[test]
fn unit_profile_name_is_ours_or_none() {
    let name = ProfileName::of_container("k8s_0-a.b").unwrap();
    assert_eq!((name.as_str(), name.container()), ("palisade-k8s_0-a.b", "k8s_0-a.b"));
    for id in ["", "a b", "a//b", "a\"", "ä", "a&b", &"x".repeat(MAX_NAME_BYTES)] {
        assert!(ProfileName::of_container(id).is_err(), "{id}");
    }
    for name in ["cri-containerd.apparmor.d", "palisade-", "/usr/bin/palisade-x"] {
        assert_eq!(ProfileName::parse(name), None);
    }
}

const OPEN: &str = "audit(1700000000.123:45): apparmor=\"DENIED\" operation=\"open\" class=\"file\" profile=\"palisade-c1\" \
    name=\"/etc/secret\" pid=77 comm=\"cat\" requested_mask=\"r\" denied_mask=\"r\" fsuid=0 ouid=0";

#[test]
fn unit_line_of_a_denial_is_read_as_the_act_that_it_is_about() {
    let line = Line::parse(OPEN.as_bytes()).unwrap();
    assert_eq!((line.denied, line.pid, line.comm.as_slice()), (true, 77, &b"cat"[..]));
    assert_eq!((line.profile.container(), line.operation.as_str()), ("c1", "open"));
    let file = |path: &str, executes, writes, is_owner| Subject::File { path: path.into(), executes, writes, is_owner };
    let wanted = [
        (OPEN.to_owned(), file("/etc/secret", false, false, true)),
        (OPEN.replace("denied_mask=\"r\"", "denied_mask=\"wc\""), file("/etc/secret", false, true, true)),
        (OPEN.replace("\"open\"", "\"exec\"").replace("ouid=0", "ouid=5"), file("/etc/secret", true, false, false)),
        (OPEN.replace("/etc/secret", "/etc/dir/"), file("/etc/dir", false, false, true)),
        // As the kernel writes what has a quote or a blank in it.
        (OPEN.replace("\"/etc/secret\"", "2F6120226E616D653D"), file("/a \"name=", false, false, true)),
        (
            "apparmor=\"DENIED\" operation=\"create\" profile=\"palisade-c1\" pid=1 comm=\"x\" family=\"netlink\" \
             sock_type=\"raw\" protocol=15 requested_mask=\"create\" denied_mask=\"create\"\n"
                .to_owned(),
            Subject::Socket { domain: 16, kind: 3, protocol: 15 },
        ),
        (
            "apparmor=\"AUDIT\" operation=\"capable\" profile=\"palisade-c1\" pid=1 comm=\"x\" capability=25  \
             capname=\"sys_time\""
                .to_owned(),
            Subject::Capability(25),
        ),
        (
            "apparmor=\"DENIED\" operation=\"ptrace\" profile=\"palisade-c1\" pid=1 comm=\"x\" requested_mask=\"trace\" \
             denied_mask=\"trace\" peer=\"unconfined\""
                .to_owned(),
            Subject::Trace(b"unconfined".to_vec()),
        ),
    ];
    for (text, subject) in wanted {
        assert_eq!(Line::parse(text.as_bytes()).map(|line| line.subject), Ok(subject), "{text}");
    }
}

#[test]
fn unit_line_that_is_not_ours_or_does_not_read_is_no_act() {
    let refused = |text: &str| Line::parse(text.as_bytes()).unwrap_err();
    assert_eq!(refused("avc: denied { read }"), LineError::Other);
    assert_eq!(refused(&OPEN.replace("DENIED", "STATUS")), LineError::Other);
    assert_eq!(refused(&OPEN.replace("palisade-c1", "docker-default")), LineError::Foreign);
    // A name cannot pass for another field, and not for another profile.
    let sly = OPEN.replace("/etc/secret", "/x profile=palisade-c2 pid=1").replace("palisade-c1", "docker-default");
    assert_eq!(refused(&sly), LineError::Foreign);
    assert_eq!(refused(&OPEN.replace("pid=77", "pid=x")), LineError::Field("pid"));
    assert_eq!(refused(&OPEN.replace("\"/etc/secret\"", "2F6")), LineError::Field("name"));
    assert_eq!(refused(&OPEN.replace(" fsuid=0 ouid=0", "")), LineError::Unknown("open".into()));
    // A workload writes `changeprofile unconfined` to its own attr/current as often as it likes.
    let leaves = "audit(1): apparmor=\"DENIED\" operation=\"change_profile\" class=\"file\" info=\"label not found\" error=-13 \
        profile=\"palisade-c1\" name=\"unconfined\" pid=7 comm=\"sh\" requested_mask=\"\" denied_mask=\"\" target=\"unconfined\"";
    assert_eq!(refused(leaves), LineError::Unknown("change_profile".into()));
    assert_eq!(refused(&format!("{OPEN}{}", "x".repeat(20_000))), LineError::TooLong(OPEN.len() + 20_000));
}
