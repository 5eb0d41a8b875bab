//! Frames from looks, and their drawing into a buffer.

use std::collections::BTreeMap;

use palisade_admin::answers::{
    Activity, ConditionAnswer, FamilyAnswer, KindAnswer, MailAnswer, Policies, PolicyAnswer, Readiness, RecordCounts,
    TreeNodeAnswer, WorkloadActivity, WorkloadAnswer, WorkloadRow, Workloads,
};
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::{
    model::{Look, Options, frame},
    screen::{Next, Screen},
    text,
};
use crate::arguments::SortArgument;

fn actor(name: &str, depth: u64, restarts: u64, children: Vec<TreeNodeAnswer>) -> TreeNodeAnswer {
    let mail = MailAnswer {
        capacity: 64,
        depth,
        high_water: depth,
        handled: 9,
        handled_per_second: 2.5,
        shed: 0,
        coalesced: 0,
        expired: 0,
        lost_panic: 0,
        lost_panic_records: 0,
        lost_closed: 0,
    };
    TreeNodeAnswer {
        name: name.into(),
        kind: KindAnswer::Actor("X".into()),
        state: "running".into(),
        restart: None,
        place: "here".into(),
        generation: 1,
        uptime_ms: Some(1),
        restarts,
        last_error: None,
        mail: children.is_empty().then_some(mail),
        children,
    }
}

fn workload(slot: u32, name: &str) -> WorkloadRow {
    let family = |family: &str, tier: &str| FamilyAnswer { family: family.into(), tier: tier.into(), gaps: vec![] };
    WorkloadRow {
        slot,
        workload: WorkloadAnswer {
            kind: "container".into(),
            name: Some(name.into()),
            namespace: Some("shop".into()),
            container: Some("main".into()),
            container_id: None,
            image: None,
            labels: None,
        },
        policy: Some(PolicyAnswer {
            generation: 7,
            blob: Some("b".into()),
            blob_bytes: Some(1),
            rules: 1,
            not_held: vec![],
            families: vec![family("network", "cgroup-bpf"), family("file", "bpf-lsm"), family("process", "bpf-lsm")],
        }),
    }
}

fn verdicts(denied: u64, observed: u64) -> BTreeMap<String, u64> {
    BTreeMap::from([("denied".into(), denied), ("observed".into(), observed)])
}

/// At `at_ms`; the busy workload has had `events` events and a tenth of that as denials.
fn look(at_ms: u64, events: u64) -> Look {
    let of = |slot, events, denied| WorkloadActivity { slot, events, alerts: verdicts(denied, 1) };
    Look {
        activity: Activity {
            at_ms,
            records: RecordCounts {
                delivered: events,
                missing: 1_020,
                lost: BTreeMap::from([("RingFull".into(), 12), ("Folded".into(), 1_000), ("Suppressed".into(), 7)]),
                ..RecordCounts::default()
            },
            alerts: verdicts(events / 10, 2),
            held_back: verdicts(4, 0),
            workloads: vec![of(1, events, events / 10), of(2, 5, 0)],
            ..Activity::default()
        },
        workloads: Workloads {
            synchronized: true,
            workloads: vec![workload(1, "web-\u{1b}[2J\u{202e}"), workload(2, "api")],
        },
        tree: actor("palisade", 0, 0, vec![actor("probe", 3, 1, vec![]), actor("alerts", 0, 0, vec![])]),
        readiness: Readiness {
            ready: true,
            conditions: BTreeMap::from([
                ("policies".into(), ConditionAnswer { state: "good".into(), reason: None }),
                ("slot 2".into(), ConditionAnswer { state: "degraded".into(), reason: Some("no \u{9b}1m".into()) }),
            ]),
        },
        policies: Policies {
            generation: 7,
            policies: vec!["a".into()],
            diagnostics: vec![],
            held_back: vec![],
            unreadable: None,
        },
    }
}

fn options(sort: SortArgument, filter: &str) -> Options {
    Options { sort, filter: filter.into() }
}

fn key(screen: &mut Screen, code: KeyCode) -> Next {
    screen.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn drawn(screen: &Screen, columns: u16, rows: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("made");
    terminal.draw(|canvas| screen.draw(canvas)).expect("drawn");
    let buffer = terminal.backend().buffer();
    (0..rows).map(|y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned()).collect()
}

#[test]
fn unit_top_rates_are_over_the_time_between_two_looks_and_begin_again_with_the_actor() {
    let options = options(SortArgument::Alerts, "");
    let first = frame(None, &look(1_000, 100), &options);
    assert!(first.workloads.iter().all(|line| line.events_per_second == 0.0), "one look has no rate");
    let second = frame(Some(&look(1_000, 100)), &look(3_000, 300), &options);
    let busy = &second.workloads[0];
    assert_eq!((busy.slot, busy.events_per_second, busy.alerts_per_second), (1, 100.0, 10.0));
    assert_eq!((second.node.events_per_second, second.node.alerts_per_second), (100.0, 10.0));
    let restarted = frame(Some(&look(1_000, 300)), &look(2_000, 50), &options);
    assert_eq!(restarted.workloads[0].events_per_second, 50.0, "from zero");
}

#[test]
fn unit_top_sorts_and_filters_by_what_the_user_chose() {
    let (before, now) = (look(1_000, 100), look(2_000, 300));
    let names = |sort, filter| {
        let frame = frame(Some(&before), &now, &options(sort, filter));
        let of = |names: Vec<String>| names.join(" ");
        (
            of(frame.workloads.iter().map(|line| line.slot.to_string()).collect()),
            of(frame.actors.iter().map(|line| line.name.clone()).collect()),
        )
    };
    assert_eq!(names(SortArgument::Alerts, ""), ("1 2".into(), "probe alerts".into()));
    assert_eq!(names(SortArgument::Name, ""), ("2 1".into(), "alerts probe".into()));
    assert_eq!(names(SortArgument::Events, "a"), ("1 2".into(), "alerts".into()));
    assert_eq!(names(SortArgument::Name, "api"), ("2".into(), String::new()));
}

#[test]
fn unit_top_fits_eighty_columns_and_escapes_what_workloads_chose() {
    let mut screen = Screen::new(options(SortArgument::Alerts, ""), true);
    screen.looked(Ok(look(1_000, 100)));
    screen.looked(Ok(look(2_000, 300)));
    let lines = drawn(&screen, 80, 24);
    let expected = [
        "palisade ready  generation 7  policies 1  workloads 2  events/s 200  alerts/s 20",
        "denied 30, observed 2",
        "lost RingFull 12  missing 1  malformed 0  refused 0  held back 4  unwritten 0  m",
        "slot 2: degraded: no \\u{9b}1m",
        "WORKLOAD            ALERTS/S EVENTS/S DENIED KILLED OBSERV UNENF  GEN   TIER",
        "shop/web-\\u{1b}[2J\\ 20.0     200      30     0      1      0      7     lsm+cgr",
        "shop/api/main       0.0      0.0      0      0      1      0      7     lsm+cgr",
        "ACTOR                    STATE       MAILBOX     HIGH   PER S    RESTARTS SHED",
        "probe                    running     3/64        3      2.5      1        0",
        "alerts                   running     0/64        0      2.5      0        0",
    ];
    assert_eq!(lines[..10], expected);
    assert_eq!(lines[23], "q quit  s sort [alerts]  / filter  p pause  Tab, arrows scroll");
    assert!(lines.concat().chars().all(|c| (' '..='~').contains(&c)));
}

#[test]
fn unit_top_draws_on_any_size_of_terminal() {
    let mut screen = Screen::new(options(SortArgument::Alerts, ""), false);
    assert_eq!(drawn(&screen, 80, 2)[0], "asking the node ...");
    screen.looked(Ok(look(1_000, 100)));
    for (columns, rows) in [(1, 1), (10, 3), (80, 5), (80, 24), (300, 100)] {
        drawn(&screen, columns, rows);
    }
    let text = text(&screen, 120).expect("drawn");
    assert!(text.contains("shop/api/main") && text.contains("alerts ") && !text.contains("q quit"), "{text}");
}

#[test]
fn unit_top_keys_quit_sort_filter_pause_and_scroll() {
    let mut screen = Screen::new(options(SortArgument::Alerts, ""), false);
    screen.looked(Ok(look(1_000, 100)));
    key(&mut screen, KeyCode::Char('s'));
    key(&mut screen, KeyCode::Char('p'));
    let before = drawn(&screen, 80, 24);
    assert_eq!(before[23], "q quit  s sort [events]  / filter  p pause PAUSED  Tab, arrows scroll");
    screen.looked(Ok(look(2_000, 900)));
    assert_eq!(drawn(&screen, 80, 24), before, "paused");
    key(&mut screen, KeyCode::Char('p'));
    for c in ['/', 'a', 'p', 'q'] {
        assert_eq!(key(&mut screen, KeyCode::Char(c)), Next::Draw, "typed, not pressed");
    }
    key(&mut screen, KeyCode::Backspace);
    assert!(drawn(&screen, 80, 24)[23].starts_with("filter: ap_"));
    key(&mut screen, KeyCode::Enter);
    assert!(!drawn(&screen, 80, 24).iter().any(|line| line.starts_with("shop/web")));
    key(&mut screen, KeyCode::Char('/'));
    for _ in 0..2 {
        key(&mut screen, KeyCode::Backspace);
    }
    key(&mut screen, KeyCode::Enter);
    key(&mut screen, KeyCode::Down);
    key(&mut screen, KeyCode::Down);
    let scrolled = drawn(&screen, 80, 24);
    assert_eq!(
        scrolled.iter().filter(|line| line.starts_with("shop/")).count(),
        1,
        "one is scrolled away, the last stays"
    );
    assert_eq!(key(&mut screen, KeyCode::Char('q')), Next::Quit);
    assert_eq!(screen.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Next::Quit);
}

#[test]
fn unit_top_says_that_what_it_shows_is_old_while_the_node_does_not_answer() {
    let mut screen = Screen::new(options(SortArgument::Alerts, ""), false);
    screen.looked(Ok(look(1_000, 100)));
    screen.looked(Err("no node serves /x: start one with `palisade node`\u{1b}[2J".into()));
    let lines = drawn(&screen, 100, 24);
    assert_eq!(lines[3], "these are old: no node serves /x: start one with `palisade node`\\u{1b}[2J");
    assert!(lines.iter().any(|line| line.starts_with("shop/api")), "and shows it on");
    screen.looked(Ok(look(2_000, 100)));
    assert!(!drawn(&screen, 100, 24)[3].contains("old"));
}

#[test]
fn unit_top_as_json_has_the_whole_names_and_numbers() {
    let mut screen = Screen::new(options(SortArgument::Name, ""), false);
    assert!(screen.as_json().is_none());
    screen.looked(Ok(look(1_000, 100)));
    let json = screen.as_json().expect("a frame");
    assert_eq!(json["workloads"][0]["name"], "shop/api/main");
    assert_eq!(json["workloads"][1]["alerts"]["denied"], 10);
    assert_eq!(json["node"]["lost"], serde_json::json!({ "RingFull": 12 }), "what was held back by intent is no loss");
    assert_eq!((&json["node"]["suppressed"], &json["node"]["folded"]), (&7.into(), &1_000.into()));
    assert_eq!(json["actors"][1]["restarts"], 1);
}

/// Run by the test below, on a terminal of its own.
#[test]
#[ignore = "it panics, as it is to: the test of what is left of its terminal runs it"]
fn unit_top_panics_on_its_terminal() {
    let shown = super::on_terminal(|terminal| {
        terminal.draw(|canvas| Screen::new(options(SortArgument::Name, ""), false).draw(canvas))?;
        panic!("as a bug would");
    });
    unreachable!("{shown:?}");
}

#[test]
fn unit_top_that_panics_gives_the_terminal_back_before_it_says_why() {
    use std::{fs::File, io::Read as _, process};

    use rustix::{pty, termios};

    let master = pty::openpt(pty::OpenptFlags::RDWR | pty::OpenptFlags::NOCTTY).expect("a terminal");
    pty::grantpt(&master).and_then(|()| pty::unlockpt(&master)).expect("ours");
    let name = pty::ptsname(&master, Vec::new()).expect("named");
    let terminal = File::options().read(true).write(true).open(name.to_str().expect("text")).expect("there");
    let size = termios::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    termios::tcsetwinsize(&terminal, size).expect("sized");
    let before = termios::tcgetattr(&terminal).expect("asked");
    let end = || process::Stdio::from(terminal.try_clone().expect("one more descriptor"));
    let mut child = process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "command::top::tests::unit_top_panics_on_its_terminal", "--ignored", "--nocapture"])
        .env("RUST_BACKTRACE", "0")
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .expect("it runs");
    // What a terminal shows must be read, or its writer waits.
    let shown = std::thread::spawn(move || {
        let (mut master, mut shown) = (File::from(master), Vec::new());
        // The last end of the other side closes it with an error.
        let _ = master.read_to_end(&mut shown);
        String::from_utf8_lossy(&shown).into_owned()
    });
    assert!(!child.wait().expect("it ended").success());
    let after = termios::tcgetattr(&terminal).expect("asked");
    drop(terminal);
    let shown = shown.join().expect("read");
    let at = |what: &str| shown.find(what).unwrap_or_else(|| panic!("no {what:?} in {shown:?}"));
    assert!(at("\u{1b}[?1049h") < at("\u{1b}[?1049l"), "the screen of before is shown again: {shown:?}");
    assert!(at("\u{1b}[?1049l") < at("as a bug would"), "and the panic on it: {shown:?}");
    assert!(shown.rfind("\u{1b}[?25h") > shown.rfind("\u{1b}[?25l"), "the cursor is seen: {shown:?}");
    assert_eq!(
        (after.local_modes, after.input_modes, after.output_modes),
        (before.local_modes, before.input_modes, before.output_modes)
    );
}
