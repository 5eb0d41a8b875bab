//! Lines of all kinds in all forms, with whatever bytes in whatever field.

use std::sync::LazyLock;

use palisade_alerts::compose;
use palisade_domain::text::lossless;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

#[test]
fn unit_render_shows_time_of_day() {
    assert_eq!(time(86_400_000_000_000 + 3_723_004_000_000), "01:02:03.004Z");
}

fn workload_fields() -> Value {
    json!({ "name": "web-1", "namespace": "shop", "container": "main", "containerId": "c0ffee" })
}

fn merged(own: Value, theirs: &Value) -> Value {
    let mut all = theirs.clone();
    let (Value::Object(own), Some(all_fields)) = (own, all.as_object_mut()) else { panic!("objects") };
    all_fields.extend(own);
    all
}

/// One line of each kind with every field that it can have.
fn samples() -> Vec<Line> {
    let theirs = json!({
        "timestamp": 6, "updatedTime": "1970-01-01T00:00:06.000000Z", "clusterName": "prod", "hostName": "n1", "nodeID": "abcd",
        "namespaceName": "shop", "owner": { "ref": "Deployment", "name": "web", "namespace": "shop" }, "podName": "web-1",
        "labels": "app=web", "containerID": "c0ffee", "containerName": "main", "containerImage": "registry/web:1",
        "hostPPid": 10, "hostPid": 11, "ppid": 1, "pid": 7, "uid": 33, "username": "www-data", "parentProcessName": "/sbin/init",
        "processName": "/bin/sh", "cwd": "/tmp", "tty": "pts3", "execEvent": { "ExecID": "7-1", "ExecutableName": "/bin/sh" },
        "enforcer": "BPFLSM", "policyName": "no-shadow", "severity": "5", "tags": "a,b", "atags": ["a", "b"], "message": "no",
        "type": "MatchedPolicy", "source": "/bin/sh -c x", "operation": "File", "resource": "/etc/shadow", "data": "lsm=FILE_OPEN",
        "eventData": { "Lsm": "FILE_OPEN" }, "result": "Permission denied",
    });
    let act = json!({
        "time": 6_000_000_000_u64, "node": "n1", "workload": workload_fields(),
        "processChain": [
            { "pid": 11, "executable": "/bin/sh", "arguments": ["sh", "-c"], "argumentsCut": true, "uid": 33 },
            { "pid": 10, "executable": "", "arguments": ["init"], "uid": 0 },
        ],
        "subject": { "operation": "open", "resource": "/etc/shadow", "resourceCut": true },
    });
    let rule = json!({
        "policy": "KubeArmorPolicy/shop/no-shadow", "policyName": "no-shadow", "place": "file.matchPaths[0]", "severity": 5,
        "tags": ["a"], "message": "no",
    });
    let decided = json!({
        "rule": rule, "action": "Block", "family": "file", "generation": 3, "tier": "bpf-lsm", "verdict": "denied", "reason": "because",
    });
    let held_back = json!({
        "time": 6, "node": "n1", "workload": workload_fields(), "MaxAlertsPerSec": 10, "DroppingAlertsInterval": 30, "heldBackTotal": 4,
        "heldBack": [{ "policyName": "no-shadow", "place": "file", "family": "file", "verdict": "denied", "count": 4 }],
    });
    let not_held = json!({
        "time": 6, "node": "n1", "workload": workload_fields(), "rule": rule, "what": "apparmor", "reason": "no tier", "count": 1,
        "generation": 3, "verdict": "unenforceable",
    });
    let log = merged(act.clone(), &theirs);
    let lines = [merged(decided, &log), merged(held_back, &theirs), merged(not_held, &theirs), log];
    let lines: Vec<Line> = lines.into_iter().map(|line| serde_json::from_value(line).expect("a line")).collect();
    let kinds: Vec<u8> = lines.iter().map(kind).collect();
    assert_eq!(kinds, [0, 1, 2, 3], "one of each");
    lines
}

fn kind(line: &Line) -> u8 {
    match line {
        Line::Alert(_) => 0,
        Line::Throttling(_) => 1,
        Line::NotHeld(_) => 2,
        Line::Log(_) => 3,
    }
}

static SAMPLES: LazyLock<Vec<(Line, Vec<String>)>> =
    LazyLock::new(|| samples().into_iter().map(|line| (line.clone(), open_places(&line))).collect());

/// Where text stands in a document.
fn texts(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(at.to_owned()),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, item)| texts(item, &format!("{at}/{n}"), found));
        }
        Value::Object(entries) => entries.iter().for_each(|(name, value)| texts(value, &format!("{at}/{name}"), found)),
        _ => {}
    }
}

/// The places of a line that take any text: those with words of their own (verdict, tier) refuse it.
fn open_places(line: &Line) -> Vec<String> {
    let (document, mut places) = (json!(line), Vec::new());
    texts(&document, "", &mut places);
    places.retain(|place| {
        let mut document = document.clone();
        *document.pointer_mut(place).expect("found there") = json!("x");
        serde_json::from_value::<Line>(document).is_ok_and(|with| kind(&with) == kind(line))
    });
    places
}

/// The line with `text` in each of these places.
fn with_everywhere(line: &Line, text: &str, places: &[String]) -> Line {
    let mut document = json!(line);
    places.iter().for_each(|place| *document.pointer_mut(place).expect("found there") = json!(text));
    serde_json::from_value(document).expect("a line still")
}

/// Pieces that end a line, a string, an escape or a field, and any bytes between them.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let nasty: [&[u8]; 12] = [
        b"\x1b[2J\x1b]0;owned\x07",
        b"\n12:00:00.000Z observed      shop/web-1 ? open /x by good file, generation 1\n",
        b"\xff\xfe\xc2",
        "\u{202e}\u{2066}gpj.exe".as_bytes(),
        "\u{9b}31m\u{85}\u{2028}\u{2029}".as_bytes(),
        b"\",\"verdict\":\"observed\",\"x\":\"",
        b"\\x1b\\u001b\\\\\"",
        b"\r\x08\x7f\0\t",
        "\u{e0041}\u{200b}\u{feff}".as_bytes(),
        b"%s%n%x",
        b",=cmd|' /C calc'!A0",
        b"\n---\nverdict: observed\n",
    ];
    let part = prop_oneof![
        proptest::sample::select(nasty.to_vec()).prop_map(<[u8]>::to_vec),
        proptest::collection::vec(any::<u8>(), 0..24),
        Just(vec![b'A'; 600]),
    ];
    proptest::collection::vec(part, 0..5).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn unit_render_shows_whatever_bytes_in_every_field_as_one_line_of_text_and_json_that_is_the_same(name in any_bytes()) {
        for (line, places) in SAMPLES.iter() {
            prop_assert!(places.len() >= 15, "{places:?} of {line:?}");
            let hostile = with_everywhere(line, &lossless(&name), places);
            let text = self::line(&hostile);
            prop_assert_eq!((text.matches('\n').count(), text.ends_with('\n')), (1, true), "one line: {:?}", text);
            prop_assert!(!text.trim_end_matches('\n').chars().any(palisade_domain::text::hostile), "{:?}", text);

            let json = compose::line(&hostile);
            prop_assert_eq!((json.matches('\n').count(), json.ends_with('\n')), (1, true), "one line: {:?}", json);
            prop_assert!(!json.trim_end_matches('\n').chars().any(palisade_domain::text::hostile), "{:?}", json);
            prop_assert_eq!(&serde_json::from_str::<Line>(&json).expect("JSON"), &hostile);
            for output in [Output::Json, Output::Yaml] {
                let document = document(output, &json!(hostile));
                prop_assert!(!document.chars().any(|c| c != '\n' && palisade_domain::text::hostile(c)), "{:?}", document);
                prop_assert!(!document.lines().any(|line| line.starts_with("---")), "{:?}", document);
            }
            let pretty: Value = serde_json::from_str(&document(Output::Json, &json!(hostile))).expect("JSON");
            prop_assert_eq!(pretty, json!(hostile));
        }
    }
}

/// What of a line is ours stands outside of quotes; what a workload chose is a word, or in quotes.
#[test]
fn unit_render_lets_no_name_forge_an_ancestor_a_rule_or_a_verdict() {
    let Some(Line::Alert(mut alert)) = samples().into_iter().next() else { panic!("an alert") };
    alert.process_chain[0].executable = "/tmp/x[1] < /usr/sbin/sshd".into();
    alert.process_chain[1].arguments = vec!["/usr/sbin/sshd".into()];
    alert.subject.resource = "/tmp/a\" by good file.matchPaths[0], generation 3".into();
    let text = line(&Line::Alert(alert.clone()));
    let expected = "00:00:06.000Z denied        shop/web-1 \"/tmp/x[1] < /usr/sbin/sshd\"[11] < (/usr/sbin/sshd)[10] open \
                    \"/tmp/a\\\" by good file.matchPaths[0], generation 3\" by no-shadow file.matchPaths[0], generation 3 (because)\n";
    assert_eq!(text, expected, "a process that was never seen to execute anything is called as it calls itself");
    let (shell, script) = ("/bin/sh".to_owned(), Some("/a) b".to_owned()));
    (alert.process_chain[0].executable, alert.process_chain[0].script) = (shell, script);
    assert!(line(&Line::Alert(alert.clone())).contains(" /bin/sh(\"/a) b\")[11] < "), "the file of a script");
    alert.process_chain[0].script_from_caller = true;
    assert!(line(&Line::Alert(alert.clone())).contains(" /bin/sh(\"/a) b\"?)[11] < "), "what the caller called it");
    alert.subject =
        Subject { operation: Operation::Connect, resource: "tcp 10.0.0.1:5000".into(), resource_cut: false };
    assert!(line(&Line::Alert(alert)).contains(" connect tcp 10.0.0.1:5000 by "), "our own words are as they were");
    for (name, shown) in
        [("/usr/bin/[", "\"/usr/bin/[\""), ("", "\"\""), ("/étc/ü-1_2.x", "/étc/ü-1_2.x"), ("a\\", "\"a\\\\\"")]
    {
        assert_eq!(word(name), shown);
    }
}
