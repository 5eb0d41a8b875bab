//! The observation programs on this kernel: its verifier takes them all, within the budget that keeps room for others' verifiers.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use libtest_mimic::{Failed, Trial};
use palisade_domain::{Slot, Visibility};
use palisade_kernel::{
    observation::Limits,
    probes::{self, Probes},
};
use palisade_kernel_abi::record::{Body, Kind, ModuleOperation, Record, Script, kind_bit};
use palisade_world::Enforcement as _;

use super::{Checked, ensure, fixture};

/// See the objects' own test.
const VERIFIER_BUDGET: u32 = 100_000;

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("vm_probes_are_all_taken_by_the_verifier_within_its_budget", all_are_taken),
        Trial::test("vm_probes_tell_the_file_of_a_script_and_not_what_the_caller_called_it", scripts),
        Trial::test("vm_probes_tell_the_name_of_a_module_that_is_loaded_and_of_one_that_is_not_only_the_call", modules),
    ]
}

/// What of the host is seen, of one kind of records, and of nothing else afterwards.
struct Seen(Probes);

impl Seen {
    fn of_host(kind: Kind) -> Result<Self, Failed> {
        let kernel = fixture::kernel()?;
        let probes = Probes::attach(Path::new(fixture::PIN_ROOT), Limits::NONE)?;
        fixture::told(|_| None::<()>)?;
        kernel.set_visibility(Slot::HOST, Visibility::NONE, kind_bit(kind));
        Ok(Self(probes))
    }

    fn told<T>(self, of: impl Fn(&Record<'_>) -> Option<T>) -> Result<Vec<T>, Failed> {
        let all = fixture::told(of);
        fixture::kernel()?.set_visibility(Slot::HOST, Visibility::NONE, 0);
        drop(self.0);
        all
    }
}

/// A module that nobody uses, and its file.
fn idle_module() -> Result<(String, PathBuf), Failed> {
    let loaded = fs::read_to_string("/proc/modules")?;
    let idle =
        loaded.lines().map(|line| line.split(' ').collect::<Vec<_>>()).filter(|fields| fields.get(2) == Some(&"0"));
    let named = |name: &str| Path::new("/modules").join(format!("{name}.ko"));
    let found = idle.map(|fields| fields[0].to_owned()).find(|name| named(name).exists());
    let name = found.ok_or_else(|| format!("no module can be taken away: {loaded}"))?;
    Ok((name.clone(), named(&name)))
}

/// (operation, name, whether it succeeded)
type Told = (ModuleOperation, String, bool);

fn modules() -> Checked {
    let (name, file) = idle_module()?;
    let seen = Seen::of_host(Kind::Module)?;
    let module = file.display().to_string();
    for (program, argument) in [("rmmod", &name), ("insmod", &module), ("insmod", &module)] {
        Command::new(program).arg(argument).stderr(Stdio::null()).status()?;
    }
    let told: Vec<Told> = seen.told(|record| match &record.body {
        Body::Module(act) => {
            Some((act.operation, String::from_utf8_lossy(act.name.bytes).into_owned(), act.result == 0))
        }
        _ => None,
    })?;
    let called = |told: &&Told| matches!(told.0, ModuleOperation::Init | ModuleOperation::Finit);
    let calls: Vec<bool> = told.iter().filter(called).map(|told| told.2).collect();
    let loaded: Vec<&Told> = told.iter().filter(|told| told.0 == ModuleOperation::Loaded).collect();
    let taken = told.iter().any(|told| (told.0, told.1.as_str(), told.2) == (ModuleOperation::Delete, &name, true));
    let good = taken && calls.iter().filter(|succeeded| **succeeded).count() == 1 && calls.contains(&false);
    ensure(good && matches!(loaded[..], [one] if one.1 == name), || format!("{name}: {told:?}"))
}

/// By the LSM hook, for this kernel has no tracepoint before the old image is gone.
fn scripts() -> Checked {
    let folder = Path::new("/tmp/suite-scripts");
    fs::create_dir_all(folder)?;
    let make = |name: &str, text: &str| -> Result<PathBuf, Failed> {
        let path = folder.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    };
    let run = make("run.sh", "#!/bin/busybox sh\nexit 0\n")?;
    let twice = make("twice", &format!("#!{}\n", run.display()))?;
    // It fails behind the hook, where an execution of a script has been noted: the next one is none.
    let broken = make("broken", &format!("#!{}\n", make("nothing", "")?.display()))?;
    std::os::unix::fs::symlink(&run, folder.join("link"))?;
    let seen = Seen::of_host(Kind::Exec)?;
    let _fails = Command::new(&broken).status();
    for program in [run.as_path(), Path::new("./link"), &twice, Path::new("/bin/true")] {
        ensure(Command::new(program).current_dir(folder).arg("mark").status()?.success(), || {
            program.display().to_string()
        })?;
    }
    let mut told = seen.told(|record| match &record.body {
        Body::Exec(act) if act.arguments().last() == Some(b"mark") => {
            let path = String::from_utf8_lossy(act.path.bytes).into_owned();
            Some(match act.script {
                Script::Interpreted { path: script, count } => {
                    (path, String::from_utf8_lossy(script.bytes).into_owned(), count, script.user)
                }
                none => (path, format!("{none:?}"), 0, false),
            })
        }
        _ => None,
    })?;
    fs::remove_dir_all(folder)?;
    told.sort();
    let shell = "/bin/busybox".to_owned();
    let of = |script: &Path, count| (shell.clone(), script.display().to_string(), count, false);
    let mut expected = vec![of(&run, 1), of(&run, 1), of(&twice, 2), (shell.clone(), "None".to_owned(), 0, false)];
    expected.sort();
    ensure(told == expected, || format!("{told:?} {expected:?}"))
}

fn all_are_taken() -> Checked {
    let _kernel = fixture::kernel()?;
    let here = probes::refused_here()?;
    let left: Vec<_> = fs::read_dir("/sys/fs/bpf")?.flatten().map(|entry| entry.file_name()).collect();
    ensure(!left.iter().any(|name| name.to_string_lossy().contains("palisade-try")), || format!("{left:?}"))?;
    let probes = Probes::attach(Path::new(fixture::PIN_ROOT), Limits::default())?;
    // 6.1 does not tell of capabilities that are used; a kernel that does is to take that program too.
    let btf = std::fs::read("/sys/kernel/btf/vmlinux")?;
    let tells = |tracepoint: &str| btf.windows(tracepoint.len()).any(|name| name == tracepoint.as_bytes());
    // Scripts are noted before the old image goes, for which 6.1 has only a hook of BPF LSM.
    let notes_scripts = tells("btf_trace_sched_prepare_exec") || fixture::hooks()? == palisade_domain::Tier::BpfLsm;
    let expected = [(tells("btf_trace_cap_capable"), "observe_capability"), (notes_scripts, "note_script")];
    let expected: Vec<&str> = expected.iter().filter(|(taken, _)| !taken).map(|(_, program)| *program).collect();
    let refused: Vec<&str> = probes.refused().iter().map(|refused| refused.program).collect();
    ensure(refused == expected && here == probes.refused(), || format!("{here:#?}; {:#?}", probes.refused()))?;
    let counts: Vec<(String, u32)> = probes.verified_instructions().collect();
    for (program, count) in &counts {
        println!("{program:24} {count:>7} instructions verified");
    }
    probes.sweep_folds(std::time::Duration::ZERO)?;
    ensure(counts.len() > 20 && counts.iter().all(|(_, count)| *count < VERIFIER_BUDGET), || format!("{counts:?}"))
}
