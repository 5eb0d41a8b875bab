//! A container that opens 200,000 files a second, all of it visible, with the whole node behind it: every record is accounted for, from the
//! kernel to the log file, and what that costs is printed beside the same load without a runtime.
//!
//! The second test is about recording: a node at 10,000 acts a second without a ring, with one, and with a recording that goes to a file, in turn.
//!
//! Five seconds a load; `PALISADE_STRESS_SECONDS` replaces them (the bench ring asks for 60, in a release build, where less than one CPU is
//! also required). CPU time is the node's with all of its threads and its responder's, and what the load itself takes longer.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node_bed;

use std::{fs, path::Path, process::Command};

use node_bed::{NodeBed, Pod, eventually, succeed};

/// Opens a second.
const RATE: u64 = 200_000;
const FILES: u64 = 10_000;
/// `sysconf(_SC_CLK_TCK)` on every architecture that Linux has now.
const TICKS_A_SECOND: f64 = 100.0;
/// So that no line is rotated away before it is counted.
const LOG_FILE_BYTES: &str = "40000000000";

/// `load FILES RATE SECONDS`: opens files in turn, as many by now as should have been; prints opens and CPU nanoseconds.
const LOAD: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
static unsigned long long now(clockid_t clock)
{
	struct timespec time;
	clock_gettime(clock, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}
int main(int count, char **words)
{
	unsigned long long files, rate, end, start, cpu, opens = 0;
	char name[64];
	if (count != 4)
		return 2;
	files = atoll(words[1]), rate = atoll(words[2]);
	for (unsigned long long n = 0; n < files; n++) {
		snprintf(name, sizeof(name), "/tmp/load-%llu", n);
		close(open(name, O_CREAT | O_WRONLY, 0600));
	}
	start = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
	end = start + atoll(words[3]) * 1000000000ull;
	for (unsigned long long time; (time = now(CLOCK_MONOTONIC)) < end; usleep(1000)) {
		for (unsigned long long due = (time - start) / 1000 * rate / 1000000; opens < due; opens++) {
			int file;
			snprintf(name, sizeof(name), "/tmp/load-%llu", opens % files);
			file = open(name, O_RDONLY | O_CLOEXEC);
			if (file < 0)
				return 1;
			close(file);
			if (opens % 64 == 0 && now(CLOCK_MONOTONIC) >= end)
				break;
		}
	}
	printf("%llu %llu\n", opens, now(CLOCK_PROCESS_CPUTIME_ID) - cpu);
	return 0;
}
"#;

/// What a load did.
#[derive(Debug, Clone, Copy)]
struct Done {
    opens: u64,
    cpu_s: f64,
}

/// What became of a node's records.
#[derive(Debug)]
struct Account {
    produced: u64,
    delivered: u64,
    lost: u64,
    suppressed: u64,
    folded: u64,
    missing: u64,
    refused: u64,
    malformed: u64,
    logs: u64,
    unwritten: u64,
}

impl Account {
    fn of(bed: &NodeBed) -> Self {
        let metric = |name: &str| bed.metric(&format!("palisade_{name}")).unwrap_or_default() as u64;
        Self {
            produced: metric("records_produced_total"),
            delivered: metric("records_delivered_total"),
            lost: metric("records_lost_total"),
            suppressed: metric("records_suppressed_total"),
            folded: metric("records_folded_total"),
            missing: metric("records_missing"),
            refused: metric("records_refused_total"),
            malformed: metric("records_malformed_total"),
            logs: metric("logs_total"),
            unwritten: metric("alerts_unwritten_total"),
        }
    }

    fn is_whole(&self) -> bool {
        self.produced > 0 && self.produced == self.delivered + self.lost + self.suppressed + self.folded
    }
}

fn seconds() -> u64 {
    std::env::var("PALISADE_STRESS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5)
}

fn install_load(bed: &NodeBed, pod: &Pod) {
    let (source, program) = (bed.path("load.c"), bed.path("load"));
    fs::write(&source, LOAD).unwrap();
    succeed(Command::new("cc").args(["-static", "-O2", "-o"]).arg(&program).arg(&source));
    fs::copy(program, pod.file("/tmp/load")).unwrap();
}

fn load(bed: &NodeBed, pod: &Pod, name: &str) -> Done {
    load_at(bed, pod, name, RATE)
}

fn load_at(bed: &NodeBed, pod: &Pod, name: &str, rate: u64) -> Done {
    let words = format!("exec /tmp/load {FILES} {rate} {} >/tmp/{name}", seconds());
    assert!(bed.run_in(pod, name, &["/bin/sh", "-c", &words]), "the load failed");
    let text = fs::read_to_string(pod.file(&format!("/tmp/{name}"))).unwrap();
    let (opens, cpu_ns) = text.trim().split_once(' ').unwrap();
    Done { opens: opens.parse().unwrap(), cpu_s: cpu_ns.parse::<f64>().unwrap() / 1e9 }
}

/// CPU seconds of a process and its children, all threads.
fn cpu_s(pid: u32) -> f64 {
    let own = |pid: u32| -> f64 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS_A_SECOND
    };
    let children = fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.unwrap().path().join("children")).ok());
    let children: Vec<u32> =
        children.flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).collect();
    own(pid) + children.into_iter().map(own).sum::<f64>()
}

/// Lines of a log file and the ones before it.
fn lines(log: &Path) -> u64 {
    let older = (1..).map(|n| format!("{}.{n}", log.display())).map_while(|name| fs::read(name).ok());
    let newest = fs::read(log).unwrap_or_default();
    older.chain([newest]).map(|bytes| bytes.iter().filter(|byte| **byte == b'\n').count() as u64).sum()
}

/// The node's cost of one load with these arguments; the pod runs already and no node does.
fn observe(bed: &mut NodeBed, pod: &Pod, name: &str, arguments: &[&str], bare: Done) {
    let log = bed.path(&format!("{name}.jsonl"));
    let file = ["--visibility", "all", "--log-file", log.to_str().unwrap(), "--log-file-bytes", LOG_FILE_BYTES];
    bed.node_arguments = file.iter().chain(arguments).map(|word| (*word).to_owned()).collect();
    bed.start_node();
    let before = cpu_s(bed.node_pid());
    let seen = load(bed, pod, name);
    // A second for the counts of what was folded, and for what is on its way.
    let mut account = Account::of(bed);
    eventually("nothing more comes", || {
        std::thread::sleep(std::time::Duration::from_millis(1500));
        let now = Account::of(bed);
        let still = now.produced == account.produced && now.logs == account.logs;
        account = now;
        still && account.is_whole()
    });
    let node = cpu_s(bed.node_pid()) - before;
    let longer = (seen.cpu_s - bare.cpu_s * seen.opens as f64 / bare.opens as f64).max(0.0);
    let cores = (node + longer) / seconds() as f64;
    println!(
        "{name}: {} opens a second (without a runtime {}), {cores:.2} CPUs: node {:.2}, in the load's calls {:.2}; {account:?}",
        seen.opens / seconds(),
        bare.opens / seconds(),
        node / seconds() as f64,
        longer / seconds() as f64
    );
    // Of what was last on a ring no later number tells.
    assert!(account.missing <= account.lost + account.suppressed + account.folded, "{account:?}");
    assert_eq!((account.refused, account.malformed), (0, 0), "{account:?}");
    assert!(account.produced >= seen.opens, "{} opens, {account:?}", seen.opens);
    let written = lines(&log);
    assert_eq!(written + account.unwritten, account.logs, "{written} lines were written: {account:?}");
    assert!(cfg!(debug_assertions) || cores < 1.0, "{cores:.2} CPUs");
    bed.stop_node();
}

#[test]
fn host_node_under_200_000_opens_a_second_accounts_for_every_one() {
    let mut bed = NodeBed::new(&[]);
    bed.start_node();
    let pod = bed.pod("busy", "sleep 100000");
    install_load(&bed, &pod);
    bed.stop_node();
    let bare = load(&bed, &pod, "bare");
    observe(&mut bed, &pod, "as-set-up", &[], bare);
    let all = ["--observation-rate", "0", "--fold-window", "0"];
    observe(&mut bed, &pod, "each-sent", &all, bare);
}

/// Opens a second at which recording is to cost little.
const RECORDED_RATE: u64 = 10_000;
/// How often each side is measured, in turn: what else the machine does falls on both. A debug build measures nothing that counts, if it is
/// not asked to.
fn rounds() -> usize {
    let asked = std::env::var("PALISADE_STRESS_ROUNDS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(if cfg!(debug_assertions) { 1 } else { 3 })
}

/// CPU seconds of a whole node for one load of [`RECORDED_RATE`], and how many records it delivered.
fn recorded(bed: &mut NodeBed, pod: &Pod, name: &str, ring: &str, record: bool) -> (f64, u64) {
    let fixed = ["--visibility", "file", "--observation-rate", "0", "--fold-window", "0", "--trace-memory-bytes", ring];
    bed.node_arguments = fixed.map(str::to_owned).into();
    bed.start_node();
    let out = bed.path(&format!("{name}.paltrace"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_palisade"));
    command.args(["record", "--force", "--admin-socket"]).arg(bed.path("admin.sock")).arg("--out").arg(&out);
    let recording = record.then(|| command.spawn().unwrap());
    let (before, delivered) = (cpu_s(bed.node_pid()), Account::of(bed).delivered);
    load_at(bed, pod, name, RECORDED_RATE);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let (spent, delivered) = (cpu_s(bed.node_pid()) - before, Account::of(bed).delivered - delivered);
    if let Some(mut recording) = recording {
        succeed(Command::new("kill").args(["-s", "INT", &recording.id().to_string()]));
        assert!(recording.wait().unwrap().success());
        let bytes = fs::metadata(&out).unwrap().len();
        println!("{name}: {bytes} bytes on the disk, {:.1} a record", bytes as f64 / delivered as f64);
        assert!(bytes as f64 / (delivered as f64) < 25.0);
    }
    bed.stop_node();
    (spent, delivered)
}

#[test]
fn host_node_that_records_10_000_acts_a_second_takes_little_more_than_one_that_does_not() {
    let mut bed = NodeBed::new(&[]);
    bed.start_node();
    let pod = bed.pod("busy", "sleep 100000");
    install_load(&bed, &pod);
    bed.stop_node();
    let (mut without, mut kept, mut with) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds() {
        without.push(recorded(&mut bed, &pod, &format!("without-{round}"), "0", false));
        kept.push(recorded(&mut bed, &pod, &format!("kept-{round}"), "8388608", false));
        with.push(recorded(&mut bed, &pod, &format!("with-{round}"), "8388608", true));
    }
    // The least of each: what others took from it is no cost of its own.
    let least = |all: &[(f64, u64)]| all.iter().map(|(cpu_s, _)| *cpu_s).fold(f64::INFINITY, f64::min);
    let percent = |all: &[(f64, u64)]| (least(all) - least(&without)) / seconds() as f64 * 100.0;
    println!(
        "a node at {RECORDED_RATE} records a second: {:.2} % of a core; keeping the last minutes {:+.2} %, recording to a file {:+.2} %; {:?}",
        least(&without) / seconds() as f64 * 100.0,
        percent(&kept),
        percent(&with),
        (&without, &kept, &with)
    );
    for (_, delivered) in without.iter().chain(&kept).chain(&with) {
        assert!(*delivered >= RECORDED_RATE * seconds() * 8 / 10, "{delivered} records: the load was no load");
    }
    // A debug build says nothing about what a release costs.
    assert!(cfg!(debug_assertions) || percent(&with) < 3.0, "{:.2} % of a core", percent(&with));
}
