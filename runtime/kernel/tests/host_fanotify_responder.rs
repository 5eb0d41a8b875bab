//! The responder under faults and load: nobody hangs, policy comes back, every record is accounted for.

mod fanotify_bed;

use std::{
    collections::BTreeMap,
    process::{Child, Stdio},
    time::Duration,
};

use fanotify_bed::{
    Bed, below, config, exact, exec,
    faults::{Hangs, eventually, now},
    open,
};
use palisade_domain::{
    Action::{Audit, Block},
    Generation,
};
use palisade_kernel::fanotify::{BlobDecides, Decide, FailMode, Question, ResponderConfig};
use palisade_kernel_abi::{
    blob::{Blob, Decision},
    record::{Body, FailReason, Outcome, PRODUCER_USER, Phase, RecordReader, Tier},
};
use palisade_world::{RecordBatch, RecordSource};

#[test]
#[ignore = "the responder's process, started by the bed"]
fn responder_process() {
    fanotify_bed::responder_process(BlobDecides);
}

#[test]
#[ignore = "a responder with a fault, started by the bed"]
fn responder_that_panics() {
    fanotify_bed::responder_process(Panics);
}

#[test]
#[ignore = "a responder with a fault, started by the bed"]
fn responder_that_hangs() {
    fanotify_bed::responder_process(Hangs);
}

#[test]
#[ignore = "the container's init, started by the bed"]
fn container_init() {
    fanotify_bed::container_init();
}

struct Panics;

impl Decide for Panics {
    fn decide(&self, blob: &Blob, question: &Question<'_>) -> Decision {
        assert!(!question.path.starts_with(b"/etc/trigger"), "an injected fault");
        BlobDecides.decide(blob, question)
    }
}

fn kill(pid: u32, signal: libc::c_int) {
    let pid = libc::pid_t::try_from(pid).expect("a pid");
    // SAFETY: takes two numbers; no memory of this process is concerned, whatever the process does that they name.
    unsafe { libc::kill(pid, signal) };
}

fn end(mut child: Child) {
    child.kill().expect("alive");
    child.wait().expect("mine");
}

const LOOP: &str = "import time,sys\nend=time.time()+float(sys.argv[1])\nopens=denied=0\nworst=0\n\
    while time.time()<end:\n  start=time.time()\n  opens+=1\n  try: open('/etc/open').close()\n  except OSError: denied+=1\n  \
    try: open('/etc/palisade/secret').close(); denied+=1000000\n  except OSError: pass\n  worst=max(worst,time.time()-start)\n\
    print('RESULT',opens,denied,int(worst*1000))\n";

fn bed_with_secret(config: ResponderConfig) -> Bed {
    let bed = Bed::with(config);
    bed.put("/etc/palisade/secret", "hidden\n");
    bed.put("/etc/open", "shown\n");
    bed.put("/opt/loop.py", LOOP);
    bed.install(1, vec![open(Block, below("/etc/palisade/")), exec(Block, exact("/usr/bin/touch"))]);
    bed
}

#[test]
fn host_fanotify_responder_that_is_killed_leaves_nobody_waiting_and_comes_back_with_its_policy() {
    let mut bed = bed_with_secret(config("responder_process"));
    let container = bed.start();
    let worker =
        bed.command(&["/usr/bin/python3", "/opt/loop.py", "2"]).stdout(Stdio::piped()).spawn().expect("starts");
    std::thread::sleep(Duration::from_millis(500));
    let first = bed.responder.health().pid;
    kill(first, libc::SIGKILL);
    eventually("a new responder stands", || {
        bed.responder.health().restarts == 1 && bed.responder.health().pid != first
    });
    let said = bed.sh_in(&container, "cat /etc/palisade/secret; cat /etc/open; touch /made");
    assert!(!said.contains("hidden") && said.contains("shown"), "{said}");
    assert_eq!(said.matches("Operation not permitted").count(), 2, "{said}");
    let output = String::from_utf8(worker.wait_with_output().expect("it ends").stdout).expect("ASCII");
    let line = output.lines().find_map(|line| line.split_once("RESULT ")).expect("it did not hang").1;
    let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().expect("a number")).collect();
    assert!(numbers[2] < 1000, "no open waited a second: {numbers:?}");
    println!("absent for {} us", bed.responder.health().absent_nanos / 1000);
    end(container);
}

#[test]
fn host_fanotify_responder_that_stands_still_is_replaced() {
    let bed = bed_with_secret(config("responder_process"));
    kill(bed.responder.health().pid, libc::SIGSTOP);
    let start = now();
    let said = bed.sh("cat /etc/open");
    assert!(said.contains("shown"), "{said}");
    println!("stopped responder: the container started {} ms later", start.elapsed().as_millis());
    eventually("a new responder stands", || bed.responder.health().restarts == 1);
    assert!(!bed.sh("cat /etc/palisade/secret").contains("hidden"));
}

#[test]
fn host_fanotify_responder_whose_decision_hangs_is_replaced() {
    let bed = bed_with_secret(config("responder_that_hangs"));
    bed.put("/etc/trigger", "x");
    let start = now();
    let said = bed.sh("cat /etc/trigger; cat /etc/open");
    assert!(said.contains("shown"), "{said}");
    assert!(start.elapsed() < Duration::from_secs(20));
    println!("hanging decision: over after {} ms", start.elapsed().as_millis());
    eventually("a new responder stands", || bed.responder.health().restarts >= 1);
}

#[test]
fn host_fanotify_decision_that_panics_is_answered_by_the_fail_mode() {
    for (fail_mode, refused) in [(FailMode::Refuse, true), (FailMode::Permit, false)] {
        let bed = bed_with_secret(ResponderConfig { fail_mode, ..config("responder_that_panics") });
        bed.put("/etc/trigger", "reached\n");
        let said = bed.sh("cat /etc/trigger; cat /etc/palisade/secret; cat /etc/open");
        assert_eq!(said.contains("reached"), !refused, "{fail_mode:?}: {said}");
        assert!(!said.contains("hidden") && said.contains("shown"), "later decisions are sound: {said}");
        let health = bed.responder.health();
        assert_eq!((health.panics, health.restarts), (1, 0), "{health:?}");
        assert_eq!(health.taken, health.answered);
    }
}

#[test]
fn host_fanotify_asks_nothing_about_a_workload_before_its_first_policy_and_holds_it_from_then_on() {
    let mut bed = Bed::with(config("responder_process"));
    bed.put("/etc/palisade/secret", "hidden\n");
    let container = bed.start();
    assert!(bed.sh_in(&container, "cat /etc/palisade/secret").contains("hidden"));
    assert_eq!(bed.responder.health().taken, 0, "no open of it waited for an answer");
    let rules = || vec![open(Block, below("/etc/palisade/"))];
    bed.install(1, rules());
    assert!(!bed.sh_in(&container, "cat /etc/palisade/secret").contains("hidden"));
    assert_ne!(bed.responder.health().taken, 0);
    // What an earlier responder was told to watch, the next one is told as well, whether there is a policy at that moment or not.
    bed.responder.install(bed.slot, Generation(2), None).expect("taken away");
    let before = bed.responder.health();
    kill(before.pid, libc::SIGKILL);
    eventually("another responder", || {
        let now = bed.responder.health();
        now.restarts > before.restarts && now.pid != before.pid && now.unrestored == 0
    });
    bed.install(3, rules());
    assert!(!bed.sh_in(&container, "cat /etc/palisade/secret").contains("hidden"));
    end(container);
}

#[test]
fn host_fanotify_denials_end_with_the_responder() {
    let mut bed = bed_with_secret(config("responder_process"));
    let container = bed.start();
    assert!(!bed.sh_in(&container, "cat /etc/palisade/secret").contains("hidden"));
    bed.responder.install(bed.slot, Generation(2), None).expect("taken away");
    assert!(
        bed.sh_in(&container, "cat /etc/palisade/secret").contains("hidden"),
        "a policy taken away is gone at once"
    );
    bed.install(3, vec![open(Block, below("/etc/palisade/"))]);
    assert!(!bed.sh_in(&container, "cat /etc/palisade/secret").contains("hidden"), "and back at once");
    bed.responder.release(bed.slot).expect("released");
    bed.responder.release(bed.slot).expect("harmless");
    assert!(bed.sh_in(&container, "cat /etc/palisade/secret").contains("hidden"), "a released slot has no policy");
    end(container);
}

#[test]
fn host_fanotify_records_say_who_did_what_and_what_became_of_it() {
    let bed = Bed::new();
    bed.put("/etc/audited", "shown\n");
    bed.install(9, vec![exec(Block, exact("/usr/bin/touch")), open(Audit, exact("/etc/audited"))]);
    let said = bed.sh("echo pid=$$; cd /opt; /usr/bin/touch /made; cat /etc/audited");
    assert!(said.contains("shown"), "{said}");
    let pid: u32 = said.split_once("pid=").and_then(|(_, rest)| rest.lines().next()?.parse().ok()).expect("a pid");
    let mut source = bed.responder.records();
    let mut batch = RecordBatch::default();
    assert!(!source.read(&mut batch).expect("readable"), "all of it in one batch");
    let records: Vec<_> = RecordReader::new(&batch.bytes).map(|record| record.expect("well formed")).collect();
    assert_eq!(records.len(), 2);
    for (number, record) in (0u64..).zip(&records) {
        let taken = record.decision.expect("a decision");
        assert_eq!(
            (taken.policy, taken.generation, taken.tier, taken.fail_reason),
            (7, 9, Tier::Fanotify, FailReason::None)
        );
        assert_eq!((record.header.sequence, record.header.producer), (number, PRODUCER_USER));
        assert_eq!((record.header.slot, record.header.phase), (bed.slot.0, Phase::Workload));
        assert_eq!(record.header.parent_tgid, pid, "both are forked by the shell");
        assert!(record.header.task_start_ns > 0 && record.header.boot_ns >= record.header.task_start_ns);
        assert!(Decision::from_word(taken.word).rule.is_some());
    }
    assert!(
        matches!(records[0].body, Body::Exec(exec) if exec.path.bytes == b"/usr/bin/touch" && exec.cwd.bytes == b"/opt")
    );
    assert_eq!(records[0].decision.map(|taken| taken.outcome), Some(Outcome::Denied));
    assert!(matches!(records[1].body, Body::Open(open) if open.path.bytes == b"/etc/audited" && open.result == 0));
    assert_eq!(records[1].decision.map(|taken| taken.outcome), Some(Outcome::Observed));
}

/// Reads all that is there; counts by producer, and checks that numbers only grow.
fn drain(source: &mut impl RecordSource, seen: &mut BTreeMap<u32, (u64, u64)>) {
    let mut batch = RecordBatch::default();
    loop {
        let more = source.read(&mut batch).expect("readable");
        for record in RecordReader::new(&batch.bytes) {
            let header = record.expect("well formed").header;
            let (count, next) = seen.entry(header.producer).or_default();
            assert!(header.sequence >= *next, "numbers only grow");
            (*count, *next) = (*count + 1, header.sequence + 1);
        }
        if !more {
            return;
        }
    }
}

#[test]
fn host_fanotify_fifty_processes_lose_no_answer_and_every_record_is_accounted_for() {
    let bed = bed_with_secret(config("responder_process"));
    let workers: Vec<Child> = (0..50)
        .map(|_| {
            bed.command(&["/usr/bin/python3", "/opt/loop.py", "3"]).stdout(Stdio::piped()).spawn().expect("starts")
        })
        .collect();
    let mut opens = 0;
    for worker in workers {
        let output = String::from_utf8(worker.wait_with_output().expect("it ends").stdout).expect("ASCII");
        let line = output.lines().find_map(|line| line.split_once("RESULT ")).expect("none hangs").1;
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().expect("a number")).collect();
        assert_eq!(numbers[1], 0, "each open was decided rightly: {numbers:?}");
        opens += numbers[0];
    }
    let health = bed.responder.health();
    assert_eq!((health.taken, health.restarts, health.panics), (health.answered, 0, 0), "{health:?}");
    assert!(health.refused >= opens, "{health:?}");
    let mut source = bed.responder.records();
    let mut seen = BTreeMap::new();
    drain(&mut source, &mut seen);
    let loss = source.loss().expect("readable");
    let delivered = seen.get(&PRODUCER_USER).map_or(0, |(count, _)| *count);
    let lost: u64 = loss.counts.values().sum();
    assert_eq!(loss.produced.get(&PRODUCER_USER), Some(&(delivered + lost)), "produced = delivered + lost");
    println!("{opens} pairs of opens by 50 processes in 3 s; {delivered} records delivered, {lost} counted as lost");
}

#[test]
fn host_fanotify_latency_of_an_open() {
    let mut bed = Bed::new();
    let container = bed.start();
    let script = "import time,os,sys\nn=20000\nfor round in range(2):\n  start=time.perf_counter_ns()\n  for i in range(n):\n    \
        os.close(os.open(sys.argv[1],os.O_RDONLY))\nprint((time.perf_counter_ns()-start)//n)\n";
    bed.put("/etc/open", "shown\n");
    bed.put("/opt/latency.py", script);
    let measure = |path: &str| bed.sh_in(&container, &format!("python3 /opt/latency.py {path}")).trim().to_owned();
    let nested = "mkdir -p /vol/data/u /vol/data/w /vol/data/m; mount -t overlay o -o \
        lowerdir=/etc,upperdir=/vol/data/u,workdir=/vol/data/w /vol/data/m && echo mounted";
    assert_eq!(bed.sh_in(&container, nested).trim(), "mounted");
    let unwatched = measure("/vol/data/m/open");
    let never = measure("/etc/open");
    bed.install(1, vec![open(Block, exact("/etc/other"))]);
    let decided = measure("/etc/open");
    bed.responder.install(bed.slot, Generation(2), None).expect("taken away");
    let unfiltered = measure("/etc/open");
    let mut by_source = open(Block, exact("/etc/other"));
    by_source.sources.insert("/usr/bin/cat".to_owned());
    bed.install(3, vec![by_source]);
    let with_source = measure("/etc/open");
    bed.responder.release(bed.slot).expect("released");
    let foreign = measure("/etc/open");
    println!(
        "open+close, ns: overlay not watched {unwatched}, no policy yet {never}, watched: no policy {unfiltered}, decided {decided}, by source {with_source}, of no slot {foreign}"
    );
    for number in [unwatched, never, unfiltered, decided, with_source, foreign] {
        assert!(number.parse::<u64>().is_ok_and(|ns| ns < 1_000_000), "{number}");
    }
    end(container);
}
