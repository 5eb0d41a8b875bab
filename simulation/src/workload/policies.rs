//! Who writes policies: sound ones, broken ones, half-written ones.

use std::{fmt::Write as _, time::Duration};

use tokio::time::sleep;

use super::{APPS, FILES, NAMESPACES, PROGRAMS, Until};
use crate::{random::Random, world::machine::Machine};

/// Files that there are at most.
const NAMES: [&str; 7] = ["access.yaml", "base.yaml", "database.yaml", "jobs.yaml", "network.yaml", SPACES, "web.yaml"];
/// What namespaces say.
const SPACES: &str = "spaces.yaml";

/// What nobody edits: so that something is denied in every run.
const FLOOR: &str = "floor.yaml";

/// The first files, before the node starts.
pub fn begin(machine: &Machine, random: &mut Random) {
    machine.disk.write(FLOOR, floor().into_bytes());
    for name in NAMES.iter().take(3) {
        machine.disk.write(name, document(name, random).into_bytes());
    }
    machine.disk.flush();
}

/// Edits the directory again and again.
pub async fn edit(machine: Machine, mut random: Random, until: Until) {
    while until.sleep(random.millis(400, 4000)).await {
        let name = *random.pick(&NAMES);
        match random.below(12) {
            0 => machine.disk.remove(name),
            1 => machine.disk.write(name, broken(&mut random)),
            2 => machine.disk.forbid(name),
            3 | 4 => write_in_place(&machine, name, &mut random).await,
            5 => {
                // A storm of writes, as of a tool that writes all files anew.
                for name in NAMES {
                    machine.disk.write(name, document(name, &mut random).into_bytes());
                    sleep(random.millis(0, 60)).await;
                }
            }
            6 => machine.disk.flush(),
            _ => machine.disk.write(name, document(name, &mut random).into_bytes()),
        }
    }
}

/// The first half is there before the second is.
async fn write_in_place(machine: &Machine, name: &str, random: &mut Random) {
    let whole = document(name, random).into_bytes();
    machine.disk.write(name, whole[..whole.len() / 2].to_vec());
    sleep(random.millis(5, 400)).await;
    machine.disk.write(name, whole);
}

/// A rule of each namespace that blocks what most processes try.
fn floor() -> String {
    let of = |namespace: &&str| {
        format!(
            "---\napiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata:\n  name: floor-{namespace}\n  namespace: {namespace}\nspec:\n  severity: 5\n  selector:\n    matchLabels: {{}}\n  file:\n    matchPaths:\n    - path: /etc/shadow\n  process:\n    matchPaths:\n    - path: /usr/bin/nc\n  action: Block\n"
        )
    };
    NAMESPACES.iter().map(of).collect()
}

fn broken(random: &mut Random) -> Vec<u8> {
    let texts: [&[u8]; 4] = [
        b"apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: a\n",
        b"kind: KubeArmorPolicy\nspec: {}\n",
        b"\xff\xfe not text",
        b"apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: b, namespace: shop}\nspec:\n  selector: {}\n  proces: {}\n  action: Block\n",
    ];
    random.pick(&texts).to_vec()
}

/// A sound document of one to three policies.
fn document(file: &str, random: &mut Random) -> String {
    let mut text = String::new();
    if file == SPACES {
        NAMESPACES.iter().for_each(|name| space(&mut text, name, random));
        return text;
    }
    let stem = file.trim_end_matches(".yaml");
    for number in 0..random.between(1, 3) {
        policy(&mut text, &format!("{stem}-{number}"), random);
    }
    text
}

/// A namespace with any of its annotations.
fn space(text: &mut String, name: &str, random: &mut Random) {
    let mut annotations = String::new();
    for kind in ["file", "network", "capabilities"] {
        if random.percent(40) {
            let posture = random.pick(&["audit", "block"]);
            annotations.push_str(&format!("    kubearmor-{kind}-posture: {posture}\n"));
        }
    }
    if random.percent(50) {
        let visibility = random.pick(&["none", "all", "\"process,file\"", "network"]);
        annotations.push_str(&format!("    kubearmor-visibility: {visibility}\n"));
    }
    let head = if annotations.is_empty() { "" } else { "  annotations:\n" };
    text.push_str(&format!("---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n{head}{annotations}"));
}

fn policy(text: &mut String, name: &str, random: &mut Random) {
    let namespace = random.pick(&NAMESPACES);
    let app = random.pick(&APPS);
    let action = ["Block", "Block", "Audit", "Allow"][usize::try_from(random.below(4)).unwrap_or(0)];
    let selector =
        if random.percent(70) { format!("matchLabels: {{app: {app}}}") } else { "matchLabels: {}".to_owned() };
    let mut spec = String::new();
    for _ in 0..random.between(1, 3) {
        rule(&mut spec, random);
    }
    // Each family once: a second key of the same name would be a broken document.
    let spec = once_each(&spec);
    let written = write!(
        text,
        "---\napiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata:\n  name: {name}\n  namespace: {namespace}\nspec:\n  severity: 5\n  selector:\n    {selector}\n{spec}  action: {action}\n"
    );
    debug_assert!(written.is_ok(), "text grows");
}

fn rule(spec: &mut String, random: &mut Random) {
    let directory = random.pick(&["/etc/", "/data/", "/opt/app/", "/usr/bin/"]);
    let source = random.pick(&PROGRAMS);
    let rule = match random.below(8) {
        0 => format!("  process:\n    matchPaths:\n    - path: {}\n", random.pick(&PROGRAMS)),
        1 => format!("  process:\n    matchDirectories:\n    - dir: {directory}\n      recursive: true\n"),
        2 => format!(
            "  file:\n    matchPaths:\n    - path: {}\n      readOnly: {}\n",
            random.pick(&FILES),
            random.percent(40)
        ),
        3 => {
            format!("  file:\n    matchDirectories:\n    - dir: {directory}\n      recursive: {}\n", random.percent(70))
        }
        4 => format!(
            "  file:\n    matchPaths:\n    - path: {}\n      fromSource:\n      - path: {source}\n",
            random.pick(&FILES)
        ),
        5 => format!("  network:\n    matchProtocols:\n    - protocol: {}\n", random.pick(&["tcp", "udp", "icmp"])),
        6 => format!(
            "  capabilities:\n    matchCapabilities:\n    - capability: {}\n",
            random.pick(&["net_raw", "sys_admin"])
        ),
        _ => format!("  file:\n    matchPatterns:\n    - pattern: /data/*{}*\n", random.pick(&["a", "b", "secret"])),
    };
    spec.push_str(&rule);
}

/// The first of each family.
fn once_each(spec: &str) -> String {
    let mut kept = String::new();
    let mut seen: Vec<&str> = Vec::new();
    let mut keeps = true;
    for line in spec.lines() {
        if line.starts_with("  ") && !line.starts_with("   ") {
            keeps = !seen.contains(&line);
            seen.push(line);
        }
        if keeps {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// How long an edit takes at most to be read: two intervals, the settling, and a failed reading.
pub const READ_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use palisade_policy::PolicyFile;

    use super::{broken, document};
    use crate::random::Random;

    #[test]
    fn unit_workload_writes_sound_documents_and_broken_ones() {
        let floor = PolicyFile::parse("floor.yaml", super::floor().as_bytes());
        assert!(floor.is_sound() && floor.policies.len() == super::NAMESPACES.len(), "{:?}", floor.diagnostics);
        let mut random = Random::stream(1, "policies");
        for number in 0..300 {
            let text = document("web.yaml", &mut random);
            let file = PolicyFile::parse("web.yaml", text.as_bytes());
            assert!(file.is_sound() && !file.policies.is_empty(), "{number}: {:?}\n{text}", file.diagnostics);
            let text = document(super::SPACES, &mut random);
            let file = PolicyFile::parse(super::SPACES, text.as_bytes());
            assert!(file.is_sound() && file.namespaces.len() == 2, "{number}: {:?}\n{text}", file.diagnostics);
        }
        for _ in 0..20 {
            assert!(!PolicyFile::parse("web.yaml", &broken(&mut random)).is_sound());
        }
    }
}
