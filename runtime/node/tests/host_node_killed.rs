//! What is pinned stands while the node does not: it is killed at random points of its life, again and again, while policies change, and a
//! container tries all the time what it may not.
//!
//! `PALISADE_SEED` replaces the seed, which is printed.
#![forbid(unsafe_code)]

mod node_bed;

use std::{fs, thread, time::Duration};

use node_bed::{FORBIDS_5000, NodeBed, Pod, eventually};

/// How often the node is killed.
const KILLS: u64 = 12;

/// The container tries both ports all the time, and writes a line for each try.
const TRIES: &str = "until [ -e /tmp/go ]; do sleep 0.05; done
    while [ ! -e /tmp/stop ]; do
        act connect 127.0.0.1 5000 >>/tmp/forbidden
        act connect 127.0.0.1 5001 >>/tmp/permitted
    done
    echo done >/tmp/stopped
    sleep 1000";

/// Numbers that repeat under a seed: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// A policy that changes with `number` and says nothing about ports.
fn another(number: u64) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: other, namespace: example}}\nspec:\n  \
         selector: {{matchLabels: {{app: client}}}}\n  file: {{matchPaths: [{{path: /nowhere/{number}}}]}}\n"
    )
}

/// The lines of a report, the last one left out where it is being written.
fn lines(pod: &Pod, path: &str) -> Vec<String> {
    let text = fs::read_to_string(pod.file(path)).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(str::to_owned).collect()
}

#[test]
fn host_node_killed_at_random_points_leaves_what_is_pinned_in_force() {
    let seed = std::env::var("PALISADE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_264);
    println!("PALISADE_SEED={seed}");
    let mut random = Random(seed);
    let mut bed = NodeBed::new(&[("no-port-5000.yaml", FORBIDS_5000), ("other.yaml", &another(0))]);
    bed.start_node();
    let pod = bed.pod("client", TRIES);
    bed.serve(&pod, 5000);
    bed.serve(&pod, 5001);
    fs::write(pod.file("/tmp/go"), "").unwrap();
    eventually("both ports were tried", || {
        !lines(&pod, "/tmp/forbidden").is_empty() && !lines(&pod, "/tmp/permitted").is_empty()
    });
    for kill in 1..=KILLS {
        // Anywhere from its first instruction to well after it is ready, with a policy that changes at about that time.
        thread::sleep(Duration::from_millis(random.below(900)));
        bed.write_policy("other.yaml", &another(kill));
        thread::sleep(Duration::from_millis(random.below(400)));
        assert!(bed.kill_node(), "kill {kill}: the node had ended by itself\n{}", bed.log_end("node"));
        thread::sleep(Duration::from_millis(random.below(300)));
        bed.spawn_node();
    }
    bed.wait_ready();
    fs::write(pod.file("/tmp/stop"), "").unwrap();
    eventually("the container stopped trying", || pod.file("/tmp/stopped").exists());

    let (forbidden, permitted) = (lines(&pod, "/tmp/forbidden"), lines(&pod, "/tmp/permitted"));
    println!("{KILLS} kills, {} forbidden tries, {} permitted ones", forbidden.len(), permitted.len());
    assert!(forbidden.len() as u64 > 2 * KILLS, "only {} tries", forbidden.len());
    let passed: Vec<&String> = forbidden.iter().filter(|line| *line != "result=EPERM effect=absent").collect();
    assert!(
        passed.is_empty(),
        "{} of {} forbidden tries were not denied: {:?}",
        passed.len(),
        forbidden.len(),
        passed[0]
    );
    let failed: Vec<&String> = permitted.iter().filter(|line| *line != "result=ok effect=present").collect();
    assert!(failed.is_empty(), "{} of {} permitted tries failed: {:?}", failed.len(), permitted.len(), failed[0]);

    // And in the end it is a node like any other: an ordered stop takes everything away.
    bed.stop_node();
    assert!(!bed.path("bpf/palisade").exists(), "pins were left behind");
    assert!(
        bed.run_in(&pod, "after", &["sh", "-c", "act connect 127.0.0.1 5000 | grep -q result=ok"]),
        "denied after the stop"
    );
}
