//! A real node, asked as users and machines ask it: answers against their stated schema, reload, log, and the terminal's commands.
//!
//! As root, with pins, sockets and policies of its own; no containers, and no policy that blocks anything on this machine.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lone_node;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::Output,
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
