//! From an event to an answer.
//!
//! The order of the questions, cheapest first: whose cgroup (nobody's: permitted), the second event of an exec (permitted),
//! is there a table for the family (no: permitted), runtime or workload, the file's name, then the blob. What goes wrong in
//! between takes the fail mode, which stands only where the policy could have refused the act.
//!
//! What the file family cannot know here: the open's mode. What the process family cannot: the arguments; a decision that waits for
//! them permits, and is held by the kernel's own programs before the new image's first instruction. Decisions are taken from the table's *read* column.
//!
//! Invariant: nothing here opens a file of a watched file system; everything is read from procfs and from the event's own
//! descriptor, which raises no events.

use std::os::fd::AsRawFd;

use palisade_kernel_abi::{
    blob::{Blob, Decision, Effect, Family, Modifiers, SourceId},
    record::FailReason,
};

use super::{
    execs::{self, ExecStep},
    group::{Act, Answer, PendingEvent},
    mounts::{ProcName, without_deleted},
    reporter::{Deed, Reporter},
    slots::{Live, SlotState, Slots, Unnamed},
    sys::{self, FileStatus},
    tasks::{Credentials, FileKey, Phase, Stat, Tasks},
};
use crate::cgroups::unified_path;

/// Room for a thread's `/proc/<tid>/cgroup`: 14 hierarchies, each with the longest path that the kernel shows. The unified one comes
/// last, and a workload may make long names in the others.
const CGROUP_TEXT_BYTES: usize = 64 * 1024;

/// What a policy is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// [`Family::Process`] or [`Family::File`].
    pub family: Family,
    /// The file, as the container saw it.
    pub path: &'a [u8],
    /// The acting executable, if rules of the family name executables and it has a name.
    pub source: Option<&'a [u8]>,
    /// The acting user owns the file.
    pub owner: bool,
    /// The acting process has a controlling terminal.
    pub tty: bool,
}

/// Answers a question from a blob. Production has one, [`BlobDecides`]; tests inject faults with others.
pub trait Decide {
    /// The decision.
    fn decide(&self, blob: &Blob, question: &Question<'_>) -> Decision;
}

/// The blob's own walker.
#[derive(Debug, Clone, Copy, Default)]
pub struct BlobDecides;

impl Decide for BlobDecides {
    fn decide(&self, blob: &Blob, question: &Question<'_>) -> Decision {
        let source = question.source.map_or(SourceId::NONE, |path| blob.source_id(path));
        let accept = blob.path_accept(question.path);
        blob.decide(question.family, accept, source, Modifiers::new(question.owner, false).at_terminal(question.tty))
    }
}

/// Everything that the answering thread owns.
pub(super) struct Judge<D> {
    tasks: Tasks,
    reporter: Reporter,
    decide: D,
    refuse_on_failure: bool,
    path: Vec<u8>,
    source: Vec<u8>,
    cgroups: Vec<u8>,
}

impl<D: Decide> Judge<D> {
    pub(super) fn new(tasks: Tasks, reporter: Reporter, decide: D, refuse_on_failure: bool) -> Self {
        let cgroups = vec![0; CGROUP_TEXT_BYTES];
        Self { tasks, reporter, decide, refuse_on_failure, path: Vec::new(), source: Vec::new(), cgroups }
    }

    /// The counters, for the loop that catches what goes wrong here.
    pub(super) fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    /// Sets the event's answer; the caller drops the event, which gives it.
    pub(super) fn judge(&mut self, slots: &mut Slots, event: &mut PendingEvent<'_>) {
        let (at, text) = match self.tasks.look_up(event.tid(), &mut self.cgroups) {
            Ok(found) => found,
            // A thread that has ended waits no more. Number 0 would be outside this PID namespace: the tier is only used in the first.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) => return,
            Err(_) => return event.set(self.on_failure()),
        };
        let Some(slot) = unified_path(text).and_then(|path| slots.of_cgroup(path)) else { return };
        let opening = self.tasks.task(at).and_then(|task| task.opening.take());
        let Some(state) = slots.get_mut(slot) else { return };
        let family = match event.act() {
            Act::Exec => Family::Process,
            Act::Open => Family::File,
        };
        if family == Family::File && opening.is_none() && !state.policy.as_ref().is_some_and(|p| p.has(Family::File)) {
            return;
        }
        if state.policy.as_ref().is_some_and(|policy| policy.refuses(family)) {
            event.set(self.on_failure());
        }
        let Ok(file) = sys::status_of(event.file()) else { return };
        if family == Family::File && opening == Some(FileKey::from(&file)) {
            event.set(Answer::Permit);
            return;
        }
        let scene = Scene { slot, at, tid: event.tid(), file };
        match family {
            Family::Process => self.judge_exec(slots, event, &scene),
            _ => self.judge_open(slots, event, &scene),
        }
    }

    fn on_failure(&self) -> Answer {
        if self.refuse_on_failure { Answer::Refuse } else { Answer::Permit }
    }

    fn judge_exec(&mut self, slots: &mut Slots, event: &mut PendingEvent<'_>, scene: &Scene) {
        let interpreter = self.tasks.task(scene.at).and_then(|task| task.interpreter.take());
        let key = FileKey::from(&scene.file);
        let step = execs::step(self.tasks.proc(), scene.tid);
        let loads = step == ExecStep::LoadsInterpreter || (step == ExecStep::Unknown && interpreter == Some(key));
        if !loads {
            let phase = self.phase(slots, scene);
            let Some(state) = slots.get_mut(scene.slot) else { return };
            // A host's process in the container's cgroup has the host's mounts: neither are they the container's, nor has the
            // container run.
            let own = state.running || self.tasks.has_other_mounts(scene.tid);
            if own && phase == Phase::Runtime && !state.names.learnt() {
                self.learn(state, scene.tid);
            }
            if self.decide(state, event, scene, Family::Process, phase) == Answer::Refuse {
                return;
            }
            state.running |= own;
        } else if self.phase(slots, scene) == Phase::Runtime && self.tasks.is_inside(scene.tid) {
            self.begin_workload(slots, scene);
        }
        event.set(Answer::Permit);
        let next = (step == ExecStep::Unknown && !loads)
            .then(|| execs::interpreter_of(event.file(), self.tasks.proc(), scene.tid))
            .flatten();
        if let Some(task) = self.tasks.task(scene.at) {
            task.opening = Some(key);
            task.interpreter = next;
        }
    }

    fn judge_open(&mut self, slots: &mut Slots, event: &mut PendingEvent<'_>, scene: &Scene) {
        if self.phase(slots, scene) == Phase::Runtime {
            event.set(Answer::Permit);
            return;
        }
        let Some(state) = slots.get_mut(scene.slot) else { return };
        let answer = self.decide(state, event, scene, Family::File, Phase::Workload);
        event.set(answer);
    }

    /// The container's first exec: the runtime has made all mounts, the workload has had no chance to make any.
    fn learn(&self, state: &mut SlotState, tid: u32) {
        let proc = self.tasks.proc();
        if let Err(error) = Live::of(proc, tid).and_then(|live| state.names.learn(proc, live, None)) {
            tracing::warn!(tid, %error, "mount table not learnt: paths are named by the climb alone");
        }
    }

    /// See the module `tasks`.
    fn phase(&mut self, slots: &mut Slots, scene: &Scene) -> Phase {
        if self.tasks.task(scene.at).is_some_and(|task| task.workload) {
            return Phase::Workload;
        }
        if self.tasks.image_was_replaced(scene.tid) {
            self.begin_workload(slots, scene);
            return Phase::Workload;
        }
        let phase = self.phase_of_unseen(slots, scene);
        if phase == Phase::Runtime && self.tasks.is_inside(scene.tid) {
            self.tasks.keep_image(scene.tid);
        }
        if let (Phase::Workload, Some(task)) = (phase, self.tasks.task(scene.at)) {
            task.workload = true;
        }
        phase
    }

    /// The thread has executed a file that is not watched, inside the container.
    fn begin_workload(&mut self, slots: &mut Slots, scene: &Scene) {
        if let Some(task) = self.tasks.task(scene.at) {
            task.workload = true;
        }
        let Some(state) = slots.get_mut(scene.slot) else { return };
        state.running = true;
        if !state.names.learnt() {
            self.learn(state, scene.tid);
        }
    }

    fn phase_of_unseen(&mut self, slots: &mut Slots, scene: &Scene) -> Phase {
        let Ok(executable) = self.tasks.executable(scene.tid) else { return Phase::Workload };
        let Some(state) = slots.get_mut(scene.slot) else { return Phase::Workload };
        if !state.names.learnt() {
            return if state.running { Phase::Workload } else { Phase::Runtime };
        }
        if state.names.shows(self.tasks.proc(), executable.mount) {
            return Phase::Workload;
        }
        let (proc, tid) = (self.tasks.proc(), scene.tid);
        if self.tasks.has_other_mounts(tid) && state.names.other_shows(proc, tid, executable.mount) {
            return Phase::Workload;
        }
        if !state.running {
            return Phase::Runtime;
        }
        let Ok(parent) = self.tasks.parent(scene.tid) else { return Phase::Workload };
        let parents_slot = match self.tasks.look_up(parent, &mut self.cgroups) {
            Ok((_, text)) => unified_path(text).and_then(|path| slots.of_cgroup(path)),
            Err(_) => return Phase::Workload,
        };
        if parents_slot != Some(scene.slot) && self.tasks.same_program(scene.tid, parent) {
            Phase::Runtime
        } else {
            Phase::Workload
        }
    }

    /// Asks the policy, reports what is worth a record, and returns the answer.
    fn decide(
        &mut self,
        state: &mut SlotState,
        event: &PendingEvent<'_>,
        scene: &Scene,
        family: Family,
        phase: Phase,
    ) -> Answer {
        if !state.policy.as_ref().is_some_and(|policy| policy.has(family)) {
            return Answer::Permit;
        }
        let link = ProcName::of_fd(event.file().as_raw_fd().unsigned_abs());
        let named = state.names.name(self.tasks.proc(), &link, scene.file.mount, scene.tid, &mut self.path);
        let with_source = phase == Phase::Workload && state.policy.as_ref().is_some_and(|p| p.names_sources(family));
        let source = with_source && self.name_executable(state, scene.tid);
        let Some(policy) = &state.policy else { return Answer::Permit };
        let owner = policy.names_owner(family)
            && Credentials::read(self.tasks.proc(), scene.tid).is_ok_and(|who| who.fsuid == scene.file.uid);
        // A thread that has ended waits for no answer.
        let tty =
            policy.names_terminal(family) && Stat::read(self.tasks.proc(), scene.tid).is_ok_and(|stat| stat.tty != 0);
        let source = source.then_some(self.source.as_slice());
        let (decision, reason) = match named {
            Ok(()) => (
                stricter_of(&self.decide, &policy.blob, Question { family, path: &self.path, source, owner, tty }),
                FailReason::None,
            ),
            Err(unnamed) => {
                self.reporter.count_unnamed();
                read_name_for_people(self.tasks.proc(), &link, &mut self.path);
                (self.unnamed(policy.refuses(family)), fail_reason(unnamed))
            }
        };
        if decision.arguments != 0 {
            // No verdict yet: `bpf/arguments.bpf.c` holds it once the arguments are laid out.
            return Answer::Permit;
        }
        let answer = if decision.effect == Effect::Block { Answer::Refuse } else { Answer::Permit };
        if decision.effect != Effect::Permit {
            let deed = Deed { slot: scene.slot, cgroup: state.cgroup, tid: scene.tid, family, phase, path: &self.path };
            self.reporter.report(self.tasks.proc(), &deed, policy, decision, reason);
        }
        answer
    }

    /// What becomes of an act on a file without a name. Where the family can block, it is never passed over in silence.
    fn unnamed(&self, refuses: bool) -> Decision {
        let effect = match (refuses, self.refuse_on_failure) {
            (false, _) => Effect::Permit,
            (true, false) => Effect::Audit,
            (true, true) => Effect::Block,
        };
        Decision { effect, ..Decision::PERMIT }
    }

    fn name_executable(&mut self, state: &mut SlotState, tid: u32) -> bool {
        let Ok(executable) = self.tasks.executable(tid) else { return false };
        let link = ProcName::of(tid, "exe");
        let named = state.names.name(self.tasks.proc(), &link, executable.mount, tid, &mut self.source).is_ok();
        // A running program whose file was removed or replaced is still what it was when it was started.
        if let Some(len) = without_deleted(&self.source).map(<[u8]>::len) {
            self.source.truncate(len);
        }
        named
    }
}

/// One act, as far as it is known without names.
struct Scene {
    slot: u32,
    at: usize,
    tid: u32,
    file: FileStatus,
}

/// A name that ends in ` (deleted)` is of a removed file, or really ends so: whichever the policy treats more strictly.
fn stricter_of(decide: &impl Decide, blob: &Blob, question: Question<'_>) -> Decision {
    let decision = decide.decide(blob, &question);
    let Some(path) = without_deleted(question.path) else { return decision };
    let other = decide.decide(blob, &Question { path, ..question });
    if other.effect > decision.effect { other } else { decision }
}

fn fail_reason(unnamed: Unnamed) -> FailReason {
    match unnamed {
        Unnamed::UnknownMount => FailReason::UnknownMount,
        Unnamed::TooLong => FailReason::PathTooLong,
    }
}

/// The kernel's own name, for the record only.
fn read_name_for_people(proc: std::os::fd::BorrowedFd<'_>, link: &ProcName, out: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    out.clear();
    if let Ok(name) = sys::read_link(proc, link.as_c_str(), &mut buffer) {
        out.extend_from_slice(name);
    }
}
