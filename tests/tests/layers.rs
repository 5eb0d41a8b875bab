//! The workspace held to its own rules: who may depend on whom, and what each crate must have.
//!
//! The rules are those of README.md, "Code map". They are read from `cargo metadata` (declared dependencies, development ones
//! apart) and from the files, so that a new crate is held to them without being named here.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "a workspace that cannot be read is a failed test, and the panic names the place"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::Value;

/// The only crates that may hold unsafe code.
const UNSAFE_CRATES: [&str; 2] = ["messages/kernel-abi", "runtime/kernel"];
/// Lines that no source file may exceed.
const LONGEST_FILE: usize = 800;
/// Third-party crates that one adapter alone knows; benchmarks may use them as baselines.
const KNOWN_TO_ONE: [(&str, &[&str]); 7] = [
    ("aya", &["runtime/kernel"]),
    ("aya-obj", &["runtime/kernel"]),
    ("containerd-client", &["runtime/containers"]),
    ("kube", &["runtime/cluster"]),
    ("quinn", &["runtime/link"]),
    ("rcgen", &["runtime/link"]),
    ("rdkafka", &["runtime/sinks"]),
];

struct Crate {
    /// Folder below the workspace root: `actors/alerts`.
    folder: String,
    /// Folders of the workspace's crates that it needs to be built (not those of its tests).
    uses: BTreeSet<String>,
    /// Packages of a registry, development ones included.
    packages: BTreeSet<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn crates() -> &'static [Crate] {
    static CRATES: OnceLock<Vec<Crate>> = OnceLock::new();
    CRATES.get_or_init(|| {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let crates: Vec<Crate> = metadata["packages"].as_array().unwrap().iter().map(parse).collect();
        assert!(crates.len() >= 20, "the workspace's crates were not found");
        crates
    })
}

fn parse(package: &Value) -> Crate {
    let mut parsed = Crate {
        folder: folder_of(Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap()),
        uses: BTreeSet::new(),
        packages: BTreeSet::new(),
    };
    for dependency in package["dependencies"].as_array().unwrap() {
        match dependency["path"].as_str() {
            Some(path) if dependency["kind"] != "dev" => {
                parsed.uses.insert(folder_of(Path::new(path)));
            }
            Some(_) => {}
            None => {
                parsed.packages.insert(dependency["name"].as_str().unwrap().to_owned());
            }
        }
    }
    parsed
}

fn folder_of(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned()
}

/// What the crates of a folder may use, by folder or by crate; `None`: anything (the binary wires, the tests look everywhere).
fn allowed(folder: &str) -> Option<Vec<&'static str>> {
    const SHARED: [&str; 2] = ["runtime/world", "runtime/supervision"];
    match folder {
        "runtime/node" => None,
        folder if folder == "tests" || folder.starts_with("tests/") => None,
        "bpf" => Some(vec!["messages/kernel-abi"]),
        "messages/kernel-abi" => Some(vec![]),
        "messages/protocol" => Some(vec!["messages", "runtime/world"]),
        "runtime/world" | "runtime/supervision" => Some(vec!["messages"]),
        "runtime/kernel" => Some(vec!["messages", "runtime/world", "bpf"]),
        "runtime/assembly" => Some([vec!["messages", "actors"], SHARED.to_vec()].concat()),
        "simulation" => {
            Some([vec!["messages", "actors", "runtime/assembly", "runtime/link"], SHARED.to_vec()].concat())
        }
        folder if folder.starts_with("messages/") => Some(vec!["messages"]),
        folder if folder.starts_with("actors/") => Some([vec!["messages"], SHARED.to_vec()].concat()),
        folder if folder.starts_with("runtime/") => Some([vec!["messages"], SHARED.to_vec()].concat()),
        folder => panic!("{folder} is in no layer: give it one here and in README.md"),
    }
}

/// Why `user` may not use `used`, if it may not.
fn objection(user: &str, used: &str) -> Option<String> {
    let allowed = allowed(user)?;
    let permitted = allowed
        .iter()
        .any(|layer| used == *layer || used.strip_prefix(layer).is_some_and(|rest| rest.starts_with('/')));
    (!permitted).then(|| format!("{user} uses {used}; it may use only {allowed:?}"))
}

fn sources_below(folder: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                sources_below(&path, extensions, found);
            }
        } else if path.extension().is_some_and(|extension| extensions.contains(&extension.to_str().unwrap())) {
            found.push(path);
        }
    }
}

/// Source files of the workspace with their text.
fn sources(extensions: &[&str]) -> BTreeMap<String, String> {
    let mut found = Vec::new();
    sources_below(&root(), extensions, &mut found);
    found.into_iter().map(|path| (folder_of(&path), fs::read_to_string(&path).unwrap())).collect()
}

#[test]
fn unit_layers_no_crate_depends_against_the_direction() {
    let objections: Vec<String> =
        crates().iter().flat_map(|user| user.uses.iter().filter_map(|used| objection(&user.folder, used))).collect();
    assert!(objections.is_empty(), "{}", objections.join("\n"));
}

/// Marked points of actors do nothing in what is shipped: only the simulation's own feature, which no crate asks for, arms them.
#[test]
fn unit_layers_nothing_but_the_simulation_can_arm_the_marked_points() {
    let naming: Vec<(String, usize)> = sources(&["toml"])
        .into_iter()
        .map(|(name, text)| (name, text.lines().filter(|line| line.contains("fault-points")).count()))
        .filter(|(_, lines)| *lines > 0)
        .collect();
    let expected = [("runtime/world/Cargo.toml".to_owned(), 1), ("simulation/Cargo.toml".to_owned(), 1)];
    assert_eq!(naming, expected, "a crate that asks for the feature would arm them in the binary");
    let simulation = fs::read_to_string(root().join("simulation/Cargo.toml")).unwrap();
    assert!(!simulation.lines().any(|line| line.starts_with("default")), "nor is it a default");
}

#[test]
fn unit_layers_the_rule_objects_to_what_it_must() {
    for (user, used) in [
        ("actors/alerts", "actors/probe"),
        ("actors/alerts", "runtime/kernel"),
        ("runtime/sinks", "runtime/kernel"),
        ("messages/domain", "runtime/world"),
        ("runtime/world", "runtime/supervision"),
        ("simulation", "runtime/kernel"),
        ("runtime/assembly", "runtime/kernel"),
        ("runtime/sinks", "runtime/assembly"),
        ("runtime/worldly", "runtime/node"),
    ] {
        assert!(objection(user, used).is_some(), "{user} may use {used}");
    }
    for (user, used) in [
        ("actors/alerts", "messages/protocol"),
        ("actors/alerts", "runtime/world"),
        ("runtime/kernel", "bpf"),
        ("runtime/node", "actors/alerts"),
        ("simulation", "runtime/link"),
        ("simulation", "runtime/assembly"),
        ("runtime/assembly", "actors/alerts"),
    ] {
        assert_eq!(objection(user, used), None);
    }
}

#[test]
fn unit_layers_one_adapter_alone_knows_each_heavy_package() {
    for (package, knowing) in KNOWN_TO_ONE {
        for user in crates().iter().filter(|user| user.packages.contains(package)) {
            let may = knowing.contains(&user.folder.as_str()) || user.folder.starts_with("tests/");
            assert!(may, "{} uses {package}, which only {knowing:?} may know", user.folder);
        }
    }
}

#[test]
fn unit_layers_every_crate_takes_the_workspace_lints() {
    for user in crates() {
        let manifest = fs::read_to_string(root().join(&user.folder).join("Cargo.toml")).unwrap();
        let inherits =
            manifest.split("[lints]").nth(1).is_some_and(|rest| rest.trim_start().starts_with("workspace = true"));
        assert!(inherits, "{}/Cargo.toml has no `[lints] workspace = true`", user.folder);
    }
}

#[test]
fn unit_layers_unsafe_code_is_forbidden_outside_the_two_kernel_crates() {
    for user in crates().iter().filter(|user| !UNSAFE_CRATES.contains(&user.folder.as_str())) {
        let mut roots: Vec<PathBuf> = ["src/lib.rs", "src/main.rs"]
            .iter()
            .map(|file| root().join(&user.folder).join(file))
            .filter(|path| path.exists())
            .collect();
        for folder in ["src/bin", "tests", "benches"] {
            let folder = root().join(&user.folder).join(folder);
            let files = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
            roots.extend(files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")));
        }
        assert!(!roots.is_empty(), "{} has no crate root", user.folder);
        for path in roots {
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains("#![forbid(unsafe_code)]"), "{} has no #![forbid(unsafe_code)]", folder_of(&path));
        }
    }
}

#[test]
fn unit_layers_every_unsafe_block_says_why_it_is_sound() {
    for (file, text) in sources(&["rs"]) {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !code.contains(concat!("unsafe", " {")) && !code.contains(concat!("unsafe", " impl")) {
                continue;
            }
            let reason = lines[number.saturating_sub(6)..=number].iter().any(|line| line.contains("SAFETY:"));
            assert!(reason, "{file}:{}: an unsafe block without its SAFETY: comment", number + 1);
        }
    }
}

#[test]
fn unit_layers_every_source_file_says_what_it_is() {
    for (file, text) in sources(&["rs"]) {
        let documented = text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| line.starts_with("//!"));
        assert!(documented, "{file} does not start with its `//!` documentation");
    }
}

#[test]
fn unit_layers_no_source_file_is_too_long_to_read() {
    for (file, text) in sources(&["rs", "c", "h", "sh", "js", "css", "html"]) {
        let lines = text.lines().count();
        assert!(lines <= LONGEST_FILE, "{file} has {lines} lines, {LONGEST_FILE} at most");
    }
}

#[test]
fn unit_layers_only_simulations_draw_keys_from_a_seed() {
    let may = ["runtime/link/", "simulation/", "tests/"];
    // Not written out, or this file would be one of them.
    let seeded = ["crypto", "seeded"].join("::");
    let calls: Vec<String> =
        sources(&["rs"]).into_iter().filter(|(_, text)| text.contains(&seeded)).map(|(path, _)| path).collect();
    assert!(calls.iter().any(|path| path.starts_with("simulation/")), "the call was not found: {calls:?}");
    let others: Vec<&String> = calls.iter().filter(|path| !may.iter().any(|may| path.starts_with(may))).collect();
    assert!(others.is_empty(), "{others:?}");
}

/// The names of the ports: the traits of `runtime/world`.
fn ports() -> BTreeSet<String> {
    let of_world = sources(&["rs"]).into_iter().filter(|(path, _)| path.starts_with("runtime/world/src/"));
    let lines: Vec<String> =
        of_world.flat_map(|(_, text)| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let names = lines.iter().filter_map(|line| line.strip_prefix("pub trait "));
    names.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric()).collect()).collect()
}

/// Rows of the list in the conformance crate: a port, and what holds it.
fn held_ports() -> BTreeMap<String, String> {
    let list = fs::read_to_string(root().join("tests/conformance/src/lib.rs")).unwrap();
    let rows = list.lines().filter_map(|line| line.strip_prefix("//! | `")?.strip_suffix(" |"));
    rows.map(|row| row.split_once("` | ").unwrap()).map(|(port, by)| (port.to_owned(), by.to_owned())).collect()
}

/// Why what a row says of a port is not so, if it is not.
fn unheld(port: &str, by: &str) -> Option<String> {
    if let Some(reason) = by.strip_prefix("none: ") {
        return (reason.split(' ').count() < 5).then(|| format!("{port}: no reason why there are no bodies"));
    }
    let path = by.strip_prefix('`').and_then(|rest| rest.split_once('`')).map_or("", |(path, _)| path);
    let Ok(text) = fs::read_to_string(root().join(path)) else { return Some(format!("{port}: there is no {path:?}")) };
    let bodies = text.lines().filter(|line| line.contains("fn ") && line.contains("_conformance_")).count();
    let folder = path.strip_suffix("main.rs").unwrap_or(path);
    let names_it = sources(&["rs"]).iter().any(|(of, text)| of.starts_with(folder) && text.contains(port));
    (bodies == 0 || !names_it).then(|| format!("{port}: {path} has {bodies} bodies, and its name there: {names_it}"))
}

#[test]
fn unit_layers_every_port_is_held_to_the_real_one_or_says_why_not() {
    let (ports, held) = (ports(), held_ports());
    assert!(ports.contains("Clock") && ports.contains("TraceStore"), "the ports were not found: {ports:?}");
    assert_eq!(ports, held.keys().cloned().collect(), "the ports, and the list in tests/conformance/src/lib.rs");
    let objections: Vec<String> = held.iter().filter_map(|(port, by)| unheld(port, by)).collect();
    assert!(objections.is_empty(), "{}", objections.join("\n"));
    for by in ["none: later", "`simulation/tests/nowhere.rs`", "`simulation/tests/runs.rs`", "a file"] {
        assert!(unheld("Clock", by).is_some(), "{by} holds nothing");
    }
}

#[test]
fn unit_layers_every_program_finds_its_policy_in_the_one_place_that_lets_it_lapse() {
    let readers: Vec<String> = sources(&["c", "h"])
        .into_iter()
        .filter(|(_, text)| text.contains("->installed") || text.contains(".installed"))
        .map(|(file, _)| file)
        .collect();
    assert!(readers.len() == 1 && readers[0].ends_with("bpf/include/identity.h"), "{readers:?}");
}
