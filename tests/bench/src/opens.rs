//! Instructions that Palisade adds to an open and close, counted in a guest (`tests/vm/boot.sh --counted`).
//!
//! A path of seven components on overlayfs, behind a pivoted root, of a workload whose mount table is learnt: what a file
//! costs in a container. Counts repeat to a few instructions once the kernel has
//! done what a change of maps and links left it to do, so they can be held to a budget wherever they are taken.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Measured,
    rules::{FORMS, SIZES},
    table::{Row, Table, Unit},
};

/// What a container without policy may pay.
const IDLE_BUDGET: f64 = 350.0;
/// What a decision may cost: walk, mount check, automaton, table. From about a hundred rules on the automaton is in its comb form, which
/// takes some 400 instructions more for a path of 50 bytes and a tenth of the memory.
const DECIDED_BUDGET: f64 = 4900.0;
/// The guest's program, a binary of this crate.
const PROGRAM: &str = "guest_costs";

/// Runs the guest and takes over what it counted.
///
/// # Errors
/// Where the guest fails or leaves a count out.
pub fn measure(table: &mut Table) -> Measured {
    let counts = counts(&guest(&[])?);
    let count = |name: &str| counts.get(name).copied().ok_or_else(|| format!("the guest did not count '{name}'"));
    // What is called at all costs this much on every kernel; budgets are for what Palisade does beyond it.
    let (open, called, idle) = (count("open")?, count("open under an idle program")?, count("open without policy")?);
    let (beside, getppid) = (count("open beside a policy")?, count("getppid")?);
    let mut add = |what: &str, value: f64, baseline: (&str, f64), budget: Option<f64>| {
        let baseline = Some((baseline.0.to_owned(), baseline.1));
        table.add(Row { what: what.to_owned(), value, unit: Unit::Instructions, baseline, budget });
    };
    let bare = ("open and close without a runtime", open);
    let empty = ("open and close under a program that does nothing", called);
    add("an open, added by a program that does nothing", called - open, bare, None);
    add("an open, added without policy", idle - called, empty, Some(IDLE_BUDGET));
    let what = "an open, added without policy, where another workload has one";
    add(what, beside - called, empty, Some(IDLE_BUDGET));
    for rules in [10, 100, 1000] {
        let decided = count(&format!("open under {rules} rules"))?;
        let what = format!("an open, added by a decision of {rules} rules");
        add(&what, decided - called, empty, Some(DECIDED_BUDGET));
    }
    for form in FORMS {
        let few = count(&format!("open under {} {form}", SIZES[0]))? - called;
        for rules in SIZES {
            let decided = count(&format!("open under {rules} {form}"))? - called;
            let what = format!("an open, added by a decision of {rules} rules: {form}");
            // Flat: within a fifth of what the fewest rules cost.
            add(&what, decided, empty, Some(few * 1.2));
        }
    }
    add("open and close afterwards, everything unloaded", count("open afterwards")?, bare, Some(open * 1.01));
    add("an open, added by idle probes", count("open under probes")? - idle, ("open without policy", idle), None);
    add("getppid, added by idle probes", count("getppid under probes")? - getppid, ("getppid without", getppid), None);
    Ok(())
}

/// What the guest's program says with these arguments.
///
/// # Errors
/// Where the guest fails.
pub fn guest(arguments: &[&str]) -> Result<String, Box<dyn std::error::Error>> {
    let vm = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vm");
    let folder = Folder::create()?;
    let program = env::current_exe()?.with_file_name(PROGRAM);
    let place = format!("/bin/{PROGRAM}");
    run(Command::new(vm.join("install-program.sh")).arg(&folder.0).arg(program).arg(&place))?;
    let mut boot = Command::new(vm.join("boot.sh"));
    run(boot.args(["--counted", "--timeout", "1500"]).arg(&folder.0).arg(&place).args(arguments))
}

/// Counts by name, of lines like `NAME: NUMBER`.
#[must_use]
pub fn counts(said: &str) -> BTreeMap<String, f64> {
    said.lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<(String, f64)> {
    let (name, count) = line.trim().split_once(": ")?;
    Some((name.to_owned(), count.parse().ok()?))
}

fn run(command: &mut Command) -> Result<String, Box<dyn std::error::Error>> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!("{command:?}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr)).into())
}

/// A temporary folder, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn create() -> std::io::Result<Self> {
        let path = env::temp_dir().join(format!("palisade-bench-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}
