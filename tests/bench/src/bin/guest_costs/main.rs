//! Counts instructions inside the guest, where a nanosecond is an instruction (`palisade_bench::opens` starts it).
//!
//! Three roles of one program: *director* (no argument) changes what the kernel holds and asks for counts; *workload* enters the
//! cgroup and pivots into an overlayfs, as a container runtime does; *counter* is what it then executes inside, so that the
//! counting process is the container's own code. Director and counter talk by lines: a question on the counter's standard
//! input, a number on its standard output. `budget` as the argument makes it the director of fewer and shorter counts ([`budget`]).
#![forbid(unsafe_code)]

mod acts;
mod budget;

use std::{
    env,
    error::Error,
    fs::{self, File},
    hint::black_box,
    io::{self, BufRead, BufReader, Write},
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    sync::Arc,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    unistd::{chdir, getppid, pivot_root},
};
use palisade_bench::{
    rules::{FORMS, Random, SIZES, path_matches, path_matches_of, workload_rules},
    stopwatch::nanoseconds_each,
};
use palisade_domain::{CgroupId, Generation, Slot};
use palisade_kernel::{KernelAdapter, KernelConfig, observation::Limits, probes::Probes, unload};
use palisade_kernel_abi::blob::Blob;
use palisade_policy::ir::PathMatch;
use palisade_policy_compiler::{automaton::AutomatonLimits, compile};
use palisade_world::{Enforcement, Membership};

const CGROUP: &str = "/sys/fs/cgroup/bench";
const BED: &str = "/bed";
/// Seven components; the rules' generator makes directories of such names.
const FILE: &str = "/usr-1/lib-2/share-0/nginx-1/conf-2/cache-3/file-7";
/// A rule forbids it, so that the automaton reads the other's path to its last byte.
const FORBIDDEN: &str = "/usr-1/lib-2/share-0/nginx-1/conf-2/cache-3/file-8";
const SLOT: Slot = Slot(1);
/// Another workload's cgroup, empty but under policy.
const NEIGHBOUR: &str = "/sys/fs/cgroup/neighbour";
const NEIGHBOUR_SLOT: Slot = Slot(2);
const CALLS: usize = 400;
const SEED: u64 = 0x5eed_0003;
/// A count is settled once that many more in a row were no lower.
const SETTLED: u32 = 8;

/// Where the next process' number begins: the kernel's tree of them has as many levels as the highest number asks for, so each count
/// begins with the same.
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";
const PIDS_FROM: &str = "1000";
/// `0`: stack and mappings of each execution lie where those of the last one did, and take as many page tables.
const RANDOM_PLACES: &str = "/proc/sys/kernel/randomize_va_space";

type Done = Result<(), Box<dyn Error>>;

fn main() -> ExitCode {
    let role = env::args().nth(1);
    let done = match role.as_deref() {
        None => direct(),
        Some("budget") => budget::direct(),
        Some("workload") => become_workload(),
        Some("counter") => answer(),
        Some(other) => Err(format!("no role '{other}'").into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn direct() -> Done {
    make_bed()?;
    let mut counter = Counter::start()?;
    counter.print("open", "open")?;
    counter.print("getppid", "getppid")?;
    let idle = Probes::attach_idle_open()?;
    counter.print("open under an idle program", "open")?;
    drop(idle);
    let adapter = KernelAdapter::open(KernelConfig { responder: None, ..KernelConfig::default() })?;
    if let Some(refusal) = adapter.refused().first() {
        return Err(refusal.to_string().into());
    }
    adapter.admit(&membership(SLOT, CGROUP)?)?;
    adapter.learn_mounts(SLOT, counter.process.id())?;
    counter.print("open without policy", "open")?;
    counter.print("getppid without policy", "getppid")?;
    fs::create_dir(NEIGHBOUR)?;
    adapter.admit(&membership(NEIGHBOUR_SLOT, NEIGHBOUR)?)?;
    adapter.install(NEIGHBOUR_SLOT, Generation(1), Some(&policy(10)?))?;
    counter.print("open beside a policy", "open")?;
    adapter.release(NEIGHBOUR_SLOT)?;
    for (rules, generation) in [10, 100, 1000].into_iter().zip(1..) {
        adapter.install(SLOT, Generation(generation), Some(&policy(rules)?))?;
        // What decides nothing costs nothing.
        if counter.ask("is denied")? != "yes" {
            return Err(format!("{FORBIDDEN} can be opened under {rules} rules").into());
        }
        counter.print(&format!("open under {rules} rules"), "open")?;
    }
    let forms = FORMS.into_iter().flat_map(|form| SIZES.map(|rules| (form, rules)));
    for ((form, rules), generation) in forms.zip(4..) {
        let matches = path_matches_of(form, rules - 1, &mut Random::from_seed(SEED));
        adapter.install(SLOT, Generation(generation), Some(&policy_of(matches)?))?;
        if counter.ask("is denied")? != "yes" {
            return Err(format!("{FORBIDDEN} can be opened under {rules} rules of the form {form}").into());
        }
        counter.print(&format!("open under {rules} {form}"), "open")?;
    }
    adapter.install(SLOT, Generation(100), None)?;
    let probes = Probes::attach(adapter.pin_root(), Limits::default())?;
    counter.print("open under probes", "open")?;
    counter.print("getppid under probes", "getppid")?;
    drop(probes);
    drop(adapter);
    unload(&KernelConfig::default().pin_root)?;
    counter.print("open afterwards", "open")?;
    Ok(())
}

/// The lower directory of the overlay: this program with its libraries, and the two files. And what else every count needs.
fn make_bed() -> io::Result<()> {
    for directory in ["lower", "upper", "work", "root"] {
        fs::create_dir_all(Path::new(BED).join(directory))?;
    }
    let lower = Path::new(BED).join("lower");
    for directory in ["/bin", "/lib", "/lib64"].into_iter().filter(|directory| Path::new(directory).exists()) {
        let copied = Command::new("cp").arg("-a").arg(directory).arg(&lower).status()?;
        if !copied.success() {
            return Err(io::Error::other(format!("cp {directory}: {copied}")));
        }
    }
    fs::create_dir(lower.join("old"))?;
    acts::make_programs(&lower)?;
    for file in [FILE, FORBIDDEN] {
        let path = lower.join(file.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap_or(&lower))?;
        fs::write(path, "x")?;
    }
    fs::write(RANDOM_PLACES, "0")?;
    fs::create_dir(CGROUP)
}

/// That many rules, one of which forbids [`FORBIDDEN`].
fn policy(rules: usize) -> Result<Arc<Blob>, Box<dyn Error>> {
    policy_of(path_matches(rules - 1, &mut Random::from_seed(SEED)))
}

fn policy_of(mut matches: Vec<PathMatch>) -> Result<Arc<Blob>, Box<dyn Error>> {
    matches.push(PathMatch::Exact(FORBIDDEN.to_owned()));
    Ok(compile(&workload_rules(&matches), &AutomatonLimits::default(), &mut || false)?.blob)
}

fn membership(slot: Slot, cgroup: &str) -> io::Result<Membership> {
    Ok(Membership {
        slot,
        cgroup: Some(CgroupId(fs::metadata(cgroup)?.ino())),
        cgroup_path: Some(PathBuf::from("/").join(cgroup.trim_start_matches("/sys/fs/cgroup/"))),
        pid: 0,
        root: None,
    })
}

struct Counter {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Counter {
    fn start() -> Result<Self, Box<dyn Error>> {
        let mut process =
            Command::new("/proc/self/exe").arg("workload").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let questions = process.stdin.take().ok_or("no standard input")?;
        let answers = BufReader::new(process.stdout.take().ok_or("no standard output")?);
        Ok(Self { process, questions, answers })
    }

    fn ask(&mut self, question: &str) -> Result<String, Box<dyn Error>> {
        writeln!(self.questions, "{question}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        if answer.is_empty() { Err(format!("no answer to '{question}'").into()) } else { Ok(answer.trim().to_owned()) }
    }

    /// Prints the least count of a question ([`Self::counts`]).
    fn print(&mut self, name: &str, question: &str) -> Done {
        println!("{name}: {}", self.counts(question)?.0);
        Ok(())
    }

    /// The least count of a question, asked until it falls no further: what a change of maps and links leaves to do in the
    /// background (grace periods, freed pages) is charged to whoever runs, for the better part of a second. With it the median of the
    /// middle counts, where the answers have them.
    fn counts(&mut self, question: &str) -> Result<(u32, Option<u32>), Box<dyn Error>> {
        let (mut least, mut middles) = (u32::MAX, Vec::new());
        let mut asked_in_vain = 0;
        while asked_in_vain < SETTLED {
            fs::write(LAST_PID, PIDS_FROM)?;
            let answer = self.ask(question)?;
            let mut counts = answer.split(' ').map(str::parse);
            let next = counts.next().ok_or("no count")??;
            middles.extend(counts.next().transpose()?);
            asked_in_vain = if next < least { 0 } else { asked_in_vain + 1 };
            least = least.min(next);
        }
        middles.sort_unstable();
        Ok((least, middles.get(middles.len() / 2).copied()))
    }
}

fn become_workload() -> Done {
    fs::write(Path::new(CGROUP).join("cgroup.procs"), "0")?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let root = Path::new(BED).join("root");
    let layers = format!("lowerdir={BED}/lower,upperdir={BED}/upper,workdir={BED}/work");
    mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(layers.as_str()))?;
    pivot_root(&root, &root.join("old"))?;
    chdir("/")?;
    umount2("/old", MntFlags::MNT_DETACH)?;
    // Comes back only where it failed.
    Err(Command::new("/bin/guest_costs").arg("counter").exec().into())
}

fn answer() -> Done {
    for question in io::stdin().lock().lines() {
        let question = question?;
        if let Some(act) = question.strip_suffix(" briefly") {
            let counts: Vec<String> = acts::cost(act)?.iter().map(|count| format!("{count:.0}")).collect();
            println!("{}", counts.join(" "));
            continue;
        }
        let answer = match question.as_str() {
            "open" => cost(|| drop(black_box(File::open(FILE))))?,
            "getppid" => cost(|| _ = black_box(getppid()))?,
            "all are denied" => acts::denied()?.to_owned(),
            "is denied" => match File::open(FORBIDDEN) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => "yes".to_owned(),
                other => format!("{other:?}"),
            },
            other => return Err(format!("no question '{other}'").into()),
        };
        println!("{answer}");
    }
    Ok(())
}

fn cost(mut call: impl FnMut()) -> Result<String, io::Error> {
    // An open that fails is cheap.
    File::open(FILE)?;
    let instructions = nanoseconds_each(CALLS, || (0..CALLS).for_each(|_| call()));
    Ok(format!("{instructions:.0}"))
}
