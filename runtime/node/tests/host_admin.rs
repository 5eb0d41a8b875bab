//! A real node, asked as users and machines ask it: answers against their stated schema, reload, log, and the terminal's commands.
//!
//! As root, with pins, sockets and policies of its own; no containers, and no policy that blocks anything on this machine.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lone_node;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Command, Output, Stdio},
};

use lone_node::Node;
use serde_json::{Value, json};

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Every object of a schema takes no field that it does not state: an answer with one more is news that belongs into the schema.
fn closed(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.contains_key("properties") && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".into(), false.into());
            }
            fields.values_mut().for_each(closed);
        }
        Value::Array(items) => items.iter_mut().for_each(closed),
        _ => {}
    }
}

#[test]
fn host_node_answers_each_route_as_its_openapi_document_states() {
    let node = Node::start("openapi", "adminAddress: '127.0.0.1:0'\n");
    let policy = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\nmetadata: { name: p }\nspec:\n  \
                  nodeSelector: { matchLabels: { kubernetes.io/hostname: here } }\n  file: { matchPaths: [{ path: /no/such }] }\n  action: Audit\n";
    fs::write(node.path("policies/p.yaml"), policy).unwrap();
    fs::write(node.path("policies/wrong.yaml"), "kind: 3\n").unwrap();
    node.until("the policy is in force", |node| node.get("/v1/workloads").1["workloads"][0]["policy"]["rules"] == 1);
    let (status, mut openapi) = node.get("/v1/openapi.json");
    assert_eq!(status, 200);
    closed(&mut openapi["components"]["schemas"]);
    let routes: Vec<String> = openapi["paths"].as_object().unwrap().keys().cloned().collect();
    let mut validated = 0;
    for route in routes {
        let content = &openapi["paths"][&route]["get"]["responses"]["200"]["content"];
        let Some(schema) = content.get("application/json").map(|content| &content["schema"]) else { continue };
        // The one route that has to be asked for something.
        let asked = if route == "/v1/processes" { "/v1/processes?workload=host" } else { &route };
        let (status, body) = node.get(asked);
        assert_eq!(status, 200, "{asked}: {body}");
        let schema = json!({ "allOf": [schema], "components": openapi["components"] });
        if let Err(error) = jsonschema::validator_for(&schema).unwrap().validate(&body) {
            panic!("{route}: {error} at {}: {body}", error.instance_path());
        }
        validated += 1;
    }
    assert!(validated >= 7, "only {validated} routes have a schema");
    // What a route answers when it is asked for all nodes has a schema of its own.
    let schema = json!({ "$ref": "#/components/schemas/Trees", "components": openapi["components"] });
    let trees = node.get("/v1/tree?nodes=all").1;
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(validator.is_valid(&trees) && !validator.is_valid(&node.get("/v1/tree").1), "{trees}");
    let problems = node.get("/v1/policies").1;
    assert_eq!(problems["diagnostics"][0]["file"], "wrong.yaml", "{problems}");
}

#[test]
fn host_node_takes_over_what_can_change_and_names_what_cannot() {
    let node = Node::start("reload", "");
    let generation = |node: &Node| node.get("/v1/policies").1["generation"].as_u64().unwrap();
    let before = generation(&node);
    node.change("nodeName: here\n", "nodeName: here\ndefaultFilePosture: block\nlogLevel: debug\nmaxWorkloads: 9\n");
    node.until("the postures are of a new generation", |node| generation(node) > before);
    node.until("what needs a restart is named", |node| {
        node.condition("configuration")["reason"] == "needs a restart to take effect: maxWorkloads"
    });
    assert!(node.log().contains("configuration changed"), "{}", node.log());
    let doctor = text(&node.palisade(&["doctor"]));
    assert!(doctor.contains("configuration is degraded: needs a restart"), "{doctor}");

    let good = generation(&node);
    node.change("defaultFilePosture: block", "defaultFilePosture: blokc");
    node.signal(rustix::process::Signal::HUP);
    node.until("the broken file degrades", |node| {
        let reason = node.condition("configuration")["reason"].to_string();
        reason.contains("the last good configuration stays in force") && reason.contains("did you mean `block`?")
    });
    assert_eq!(node.get("/readyz").0, 200, "degraded is ready");
    assert_eq!(generation(&node), good, "nothing changed");

    node.change("defaultFilePosture: blokc", "defaultFilePosture: audit");
    node.change("maxWorkloads: 9\n", "");
    node.signal(rustix::process::Signal::HUP);
    node.until("all is well again", |node| node.condition("configuration")["state"] == "good");
    node.until("the postures are those of before", |node| generation(node) > good);
    fs::remove_file(node.path("config.yaml")).unwrap();
    node.until("a file that somebody named is missed", |node| {
        node.condition("configuration")["reason"].to_string().contains("No such file")
    });
}

#[test]
fn host_node_log_is_json_with_actor_and_generation_where_it_is_asked_for() {
    let node = Node::start("log", "logFormat: json\n");
    node.until("an actor has said something", |node| node.log().contains("policy set in force"));
    let mut of_actors = 0;
    for line in node.log().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        of_actors += usize::from(line["spans"][0]["actor"].is_string() && line["spans"][0]["generation"] == 1);
    }
    assert!(of_actors > 0, "{}", node.log());
}

/// What `palisade top` shows on a terminal of this kind until it ends, `q` being pressed after its first words.
fn shown_by_top(node: &Node, term: &str) -> String {
    use rustix::{pty, termios};
    let master = pty::openpt(pty::OpenptFlags::RDWR | pty::OpenptFlags::NOCTTY).unwrap();
    pty::grantpt(&master).and_then(|()| pty::unlockpt(&master)).unwrap();
    let name = pty::ptsname(&master, Vec::new()).unwrap();
    let terminal = fs::File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    termios::tcsetwinsize(&terminal, termios::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let end = || Stdio::from(terminal.try_clone().unwrap());
    let mut top = Command::new(env!("CARGO_BIN_EXE_palisade"))
        .env("PALISADE_CONFIG", node.path("config.yaml"))
        .env("TERM", term)
        .env("NO_COLOR", "1")
        .args(["top", "--interval", "0.2"])
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap();
    drop(terminal);
    let (mut master, mut shown, mut some) = (fs::File::from(master), Vec::new(), [0; 4096]);
    // Its end closes the terminal's other side, which is an error to who reads.
    while let Ok(bytes @ 1..) = master.read(&mut some) {
        shown.extend_from_slice(&some[..bytes]);
        let _ = master.write_all(b"q");
    }
    assert!(top.wait().unwrap().success());
    String::from_utf8_lossy(&shown).into_owned()
}

#[test]
fn host_top_takes_no_terminal_that_only_prints_and_gives_back_one_that_it_took() {
    let node = Node::start("top", "");
    let dumb = shown_by_top(&node, "dumb");
    assert!(dumb.contains("WORKLOAD") && !dumb.contains('\u{1b}'), "one frame as text: {dumb:?}");
    let taken = shown_by_top(&node, "xterm");
    let (took, gave_back) = (taken.find("\u{1b}[?1049h"), taken.rfind("\u{1b}[?1049l"));
    assert!(took.is_some() && gave_back > took, "{taken:?}");
    let colours = ["\u{1b}[38;5;", "\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m"];
    assert!(!colours.iter().any(|colour| taken.contains(colour)), "NO_COLOR: {taken:?}");
}

#[test]
fn host_node_is_found_by_its_configuration_and_shown_by_every_command() {
    let node = Node::start("commands", "");
    let once = node.palisade(&["top", "--once", "--interval", "0.2"]);
    assert!(
        once.status.success() && text(&once).contains("WORKLOAD") && text(&once).contains("policy-keeper"),
        "{once:?}"
    );
    let json: Value =
        serde_json::from_slice(&node.palisade(&["top", "--output", "json", "--interval", "0.2"]).stdout).unwrap();
    assert_eq!(json["node"]["ready"], true, "{json}");
    assert!(text(&node.palisade(&["tree", "--output", "yaml"])).contains("name: palisade"));
    let logs = node.palisade(&["logs", "--verdict", "denied", "--since", "1h", "--labels", "a=b"]);
    assert_eq!((logs.status.code(), text(&logs).as_str()), (Some(0), ""));
    let wrong = node.palisade(&["logs", "--labels", "a"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("each label is KEY=VALUE"), "{wrong:?}");

    let mut events = BufReader::new(node.ask("/v1/tree/events")).lines();
    let first = events.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("event: "))).unwrap().unwrap();
    assert_eq!(first, "event: tree");
    fs::write(node.path("policies/p.yaml"), "").unwrap();
    let changes = events.find(|line| line.as_ref().is_ok_and(|line| line == "event: changes"));
    assert!(changes.is_some_and(|line| line.is_ok()), "the keeper's timer and the health's mail change the tree");
}
