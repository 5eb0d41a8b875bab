//! One workload and its policy: the pure part.
//!
//! Invariant: at any time either the policy of `in_force` stands in the kernel or none has been installed yet; a failure never takes
//! away what stands. The newest policy set wins: a compilation that answers for an older generation is dropped. The container's
//! admission is answered once, after its first policy is in force (or with the reason why it is not). [`State::condition`] is a function
//! of what is so now: nothing that failed is called good before it succeeded.
//!
//! Decision: a panic over a set is caught here and refuses that set for this workload. Left to the supervisor, one set that its selection
//! stumbles over would crash every enforcer at each start, until the restarts of the whole node are used up.
//!
//! Units: retries back off from [`RETRY_MIN`] to [`RETRY_MAX`], doubling; those of the policy and those of the mount table apart.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use palisade_domain::{DeviceRules, Family, Generation, Slot, Visibility, Workload};
use palisade_policy::{
    PolicySet,
    ir::{Matcher, Postures, WorkloadRules},
};
use palisade_protocol::{CompiledPolicy, Condition, NotHeld, PolicyRefused, observed_calls};
use palisade_world::{HeldFamily, Installed};

use crate::{EnforcementFailed, unheld::not_held};

/// First wait after a failure.
pub const RETRY_MIN: Duration = Duration::from_millis(200);
/// Longest wait after failures.
pub const RETRY_MAX: Duration = Duration::from_secs(30);

/// What the state hears.
#[derive(Debug, Clone)]
pub enum Input {
    /// A policy set is in force.
    SetChanged(Generation, Arc<PolicySet>),
    /// What is seen where no set says otherwise.
    SeeByDefault(Visibility),
    /// The kernel took the workload's membership, or not.
    Admitted(Result<(), EnforcementFailed>),
    /// The compiler answered for a generation.
    Compiled(Generation, Result<Arc<CompiledPolicy>, PolicyRefused>),
    /// The compiler did not answer for a generation: it crashed, or had no time.
    CompilerSilent(Generation, String),
    /// The kernel took a policy, or not.
    Installed(Generation, Result<Installed, EnforcementFailed>),
    /// The container's first process runs.
    Running(u32),
    /// The mount table was learnt, or not.
    MountsLearnt(Result<(), EnforcementFailed>),
    /// What was said to be held at the last installation is not so any more.
    HoldsOtherwise,
    /// How the rules about devices are held, as it is now.
    DevicesHeld(HeldFamily),
    /// A wait asked for by [`Effect::RetryAfter`] is over.
    RetryDue,
    /// A wait asked for by [`Effect::LearnAgainAfter`] is over.
    LearnDue,
}

/// What the state asks its shell to do.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Make the cgroup belong to the slot.
    Admit,
    /// Learn the mount table through this process.
    LearnMounts(u32),
    /// Ask whether what is held has changed by what was learnt.
    AskWhatHolds,
    /// Let these classes of acts be seen from now on, and these kinds of records come besides, because rules are decided by them.
    See(Visibility, u64),
    /// Judge devices by these rules from now on, and feed [`Input::DevicesHeld`].
    HoldDevices(Arc<DeviceRules>),
    /// Compile.
    Compile(Generation, Arc<WorkloadRules>),
    /// Put in force.
    Install(Generation, Option<Arc<CompiledPolicy>>),
    /// Say that a policy is in force.
    SayInstalled {
        /// Of which set.
        generation: Generation,
        /// What; none where no policy selects the workload.
        policy: Option<Arc<CompiledPolicy>>,
        /// By what means.
        installed: Installed,
        /// What of it is not held.
        not_held: Arc<[NotHeld]>,
    },
    /// Say that it is not, and why; the one before it stands.
    SayFailed(Generation, String),
    /// Answer the admission, if one is open.
    Answer(Result<(), String>),
    /// Feed [`Input::RetryDue`] after a while, and not what an earlier one asked for.
    RetryAfter(Duration),
    /// Feed [`Input::LearnDue`] after a while, and not what an earlier one asked for.
    LearnAgainAfter(Duration),
}

/// What is being done for the newest set.
#[derive(Debug, Clone)]
enum Work {
    Idle,
    Compiling,
    Installing(Option<Arc<CompiledPolicy>>),
    /// Failed; a retry is under way.
    Waiting,
}

/// The mount table of the workload's first process.
#[derive(Debug, PartialEq, Eq)]
enum Mounts {
    /// No process runs yet, or the kernel has not been asked.
    Unknown,
    /// Learnt through this process. Not again: a workload may have changed its mounts since.
    Learnt(u32),
    Failed(String),
}

/// What a set says for one workload.
type Select = fn(&PolicySet, &Workload, Postures) -> Arc<WorkloadRules>;
/// What a set says is seen of one workload; `None`: nothing, so that the node's default holds.
pub type SelectVisibility = fn(&PolicySet, &Workload) -> Option<Visibility>;

/// One workload's enforcement.
#[derive(Debug)]
pub struct State {
    select: Select,
    select_visibility: SelectVisibility,
    /// What the kernel adapter takes at an admission.
    admitted_visibility: Visibility,
    /// Where no set says anything: the same, until somebody says otherwise.
    default_visibility: Visibility,
    /// What the newest set says of it.
    said_visibility: Option<Visibility>,
    /// What the kernel was told last.
    visible: (Visibility, u64),
    slot: Slot,
    workload: Arc<Workload>,
    postures: Postures,
    admitted: bool,
    wanted: Option<(Generation, Arc<PolicySet>)>,
    in_force: Option<Generation>,
    work: Work,
    retry: Duration,
    /// Why the newest set is not in force.
    failure: Option<String>,
    /// What the newest set says: for what of it is not held once it is in force.
    rules: Arc<WorkloadRules>,
    /// How devices are held, where rules are about them.
    devices: Option<HeldFamily>,
    pid: Option<u32>,
    mounts: Mounts,
    learn_retry: Duration,
}

impl State {
    /// A workload that the kernel does not know yet.
    #[must_use]
    pub fn new(slot: Slot, workload: Arc<Workload>, postures: Postures) -> Self {
        Self {
            select: |set, workload, postures| set.rules_for(workload, &BTreeMap::new(), postures),
            select_visibility: |_, _| None,
            admitted_visibility: Visibility::NONE,
            default_visibility: Visibility::NONE,
            said_visibility: None,
            visible: (Visibility::NONE, 0),
            slot,
            workload,
            postures,
            admitted: false,
            wanted: None,
            in_force: None,
            work: Work::Idle,
            retry: RETRY_MIN,
            failure: None,
            rules: Arc::default(),
            devices: None,
            pid: None,
            mounts: Mounts::Unknown,
            learn_retry: RETRY_MIN,
        }
    }

    /// What is seen of the workload: by what its set says, or this.
    #[must_use]
    pub fn seeing(self, default_visibility: Visibility, select_visibility: SelectVisibility) -> Self {
        let admitted_visibility = default_visibility;
        Self { admitted_visibility, default_visibility, select_visibility, visible: (default_visibility, 0), ..self }
    }

    pub(crate) fn selecting(mut self, select: Select) -> Self {
        self.select = select;
        self
    }

    /// An enforcer before this one crashed: until a set is in force anew, that is how it is.
    pub fn again(&mut self) {
        self.failure = Some("its enforcer crashed; what stood in the kernel stands on".into());
    }

    /// The global postures of a generation that is about to be told; those of an older one than the newest are of no interest.
    pub fn hold_to(&mut self, generation: Generation, postures: Postures) {
        if self.wanted.as_ref().is_none_or(|(newest, _)| *newest < generation) {
            self.postures = postures;
        }
    }

    /// How it is; `None` while there is nothing to say yet.
    #[must_use]
    pub fn condition(&self) -> Option<Condition> {
        if let Some(reason) = &self.failure {
            let of = self.wanted.as_ref().map_or_else(|| "no set".into(), |(newest, _)| format!("generation {newest}"));
            return Some(Condition::Degraded(format!("{of} is not in force: {reason}")));
        }
        if let Mounts::Failed(reason) = &self.mounts {
            return Some(Condition::Degraded(format!("paths are named without its mount table: {reason}")));
        }
        self.in_force.map(|_| Condition::Good)
    }

    /// Its slot.
    #[must_use]
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// The generation in force.
    #[must_use]
    pub fn in_force(&self) -> Option<Generation> {
        self.in_force
    }

    /// The first effects: membership comes before policy.
    pub fn start(&self, out: &mut Vec<Effect>) {
        out.push(Effect::Admit);
    }

    /// One step.
    pub fn step(&mut self, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::SetChanged(generation, set) => {
                if self.wanted.as_ref().is_some_and(|(newest, _)| *newest >= generation) {
                    return;
                }
                self.wanted = Some((generation, set));
                self.retry = RETRY_MIN;
                self.begin(out);
            }
            Input::Admitted(Ok(())) => {
                self.admitted = true;
                self.visible = (self.admitted_visibility, 0);
                self.learn(out);
                self.begin(out);
            }
            Input::SeeByDefault(visibility) => {
                self.default_visibility = visibility;
                // Before the first set nothing is said of it: that comes with it.
                if self.admitted && self.wanted.is_some() {
                    self.see(self.visible.1, out);
                }
            }
            Input::Admitted(Err(failed)) => self.fail(failed.to_string(), out),
            Input::Compiled(generation, result) if self.is_newest(generation) => match result {
                Ok(policy) => self.install(generation, Some(policy), out),
                // Compiling again would fail again: the set must change first, unless it was time that was wanting.
                Err(refused) => {
                    self.give_up(refused.to_string(), out);
                    if let Some(wait) = refused.retry_after {
                        self.work = Work::Waiting;
                        out.push(Effect::RetryAfter(wait));
                    }
                }
            },
            Input::Installed(generation, result) if self.is_newest(generation) => {
                self.installed(generation, result, out);
            }
            Input::CompilerSilent(generation, reason) if self.is_newest(generation) => self.fail(reason, out),
            Input::Compiled(..) | Input::CompilerSilent(..) | Input::Installed(..) => {}
            Input::DevicesHeld(held) => self.devices_held(held, out),
            Input::Running(pid) => {
                self.pid = Some(pid);
                self.learn_retry = RETRY_MIN;
                self.learn(out);
            }
            Input::MountsLearnt(Ok(())) => {
                self.mounts = self.pid.map_or(Mounts::Unknown, Mounts::Learnt);
                out.push(Effect::AskWhatHolds);
            }
            // The same set once more: what is said of it is not what it was.
            Input::HoldsOtherwise => self.begin(out),
            Input::MountsLearnt(Err(failed)) => {
                self.mounts = Mounts::Failed(failed.to_string());
                out.push(Effect::LearnAgainAfter(self.learn_retry));
                self.learn_retry = (self.learn_retry * 2).min(RETRY_MAX);
            }
            Input::LearnDue => self.learn(out),
            Input::RetryDue => {
                if matches!(self.work, Work::Waiting) {
                    self.work = Work::Idle;
                    if self.admitted { self.begin(out) } else { out.push(Effect::Admit) }
                }
            }
        }
    }

    fn is_newest(&self, generation: Generation) -> bool {
        self.wanted.as_ref().is_some_and(|(newest, _)| *newest == generation)
    }

    fn learn(&self, out: &mut Vec<Effect>) {
        if let Some(pid) = self.pid.filter(|pid| self.admitted && self.mounts != Mounts::Learnt(*pid)) {
            out.push(Effect::LearnMounts(pid));
        }
    }

    fn begin(&mut self, out: &mut Vec<Effect>) {
        let Some((generation, set)) = self.wanted.as_ref().filter(|_| self.admitted) else { return };
        let generation = *generation;
        // It changes nothing, so nothing is left half changed. What the panic said is in the log already.
        let selected = catch_unwind(AssertUnwindSafe(|| {
            let visibility = (self.select_visibility)(set, &self.workload);
            ((self.select)(set, &self.workload, self.postures), visibility)
        }));
        let Ok((rules, visibility)) = selected else {
            let reason = "selecting its policies failed by a fault of palisade, which the log describes";
            return self.give_up(reason.into(), out);
        };
        self.rules = Arc::clone(&rules);
        // At once: seeing needs no rules in force, and holds whether or not they can be put there.
        self.said_visibility = visibility;
        self.see(kinds_by_which(&rules), out);
        if self.slot == Slot::HOST {
            // At once, as what is seen: no table of the kernel has them.
            out.push(Effect::HoldDevices(Arc::new(rules.devices(generation))));
        }
        if rules.rules.is_empty() {
            self.install(generation, None, out);
        } else {
            self.work = Work::Compiling;
            out.push(Effect::Compile(generation, rules));
        }
    }

    /// What is seen, and `also` what rules are decided by.
    fn see(&mut self, also: u64, out: &mut Vec<Effect>) {
        let visible = (self.said_visibility.unwrap_or(self.default_visibility), also);
        if self.visible != visible {
            self.visible = visible;
            out.push(Effect::See(visible.0, visible.1));
        }
    }

    fn install(&mut self, generation: Generation, policy: Option<Arc<CompiledPolicy>>, out: &mut Vec<Effect>) {
        self.work = Work::Installing(policy.clone());
        out.push(Effect::Install(generation, policy));
    }

    fn installed(
        &mut self,
        generation: Generation,
        result: Result<Installed, EnforcementFailed>,
        out: &mut Vec<Effect>,
    ) {
        let Work::Installing(policy) = std::mem::replace(&mut self.work, Work::Idle) else { return };
        match result {
            Ok(mut installed) => {
                let has_devices = self.rules.rules.iter().any(|rule| rule.matcher.family() == Family::Device);
                if let Some(held) = self.devices.as_ref().filter(|_| has_devices) {
                    installed.families.insert(Family::Device, held.clone());
                }
                self.in_force = Some(generation);
                self.failure = None;
                self.retry = RETRY_MIN;
                // Of the unknown nobody wrote a policy: which families are held of them is in the status, and no line.
                let unknown = self.slot == Slot::UNKNOWN;
                let not_held = if unknown { Arc::default() } else { not_held(&self.rules, &installed.families).into() };
                out.push(Effect::SayInstalled { generation, policy, installed, not_held });
                out.push(Effect::Answer(Ok(())));
            }
            Err(failed) => self.fail(failed.to_string(), out),
        }
    }

    /// What was said of them may not be so any more: the set is put in force, and told, once more.
    fn devices_held(&mut self, held: HeldFamily, out: &mut Vec<Effect>) {
        let is_news = self.devices.as_ref().is_some_and(|before| *before != held);
        self.devices = Some(held);
        if is_news && matches!(self.work, Work::Idle) && self.in_force.is_some() {
            self.begin(out);
        }
    }

    /// The kernel may yet take it.
    fn fail(&mut self, reason: String, out: &mut Vec<Effect>) {
        self.give_up(reason, out);
        self.work = Work::Waiting;
        out.push(Effect::RetryAfter(self.retry));
        self.retry = (self.retry * 2).min(RETRY_MAX);
    }

    fn give_up(&mut self, reason: String, out: &mut Vec<Effect>) {
        self.work = Work::Idle;
        self.failure = Some(reason.clone());
        let generation = self.wanted.as_ref().map_or_else(Generation::default, |(generation, _)| *generation);
        out.push(Effect::SayFailed(generation, reason.clone()));
        // A container never starts without the policy that its user wrote for it.
        out.push(Effect::Answer(Err(reason)));
    }
}

/// The kinds of records by which rules of these are decided: those on system calls on a path.
fn kinds_by_which(rules: &WorkloadRules) -> u64 {
    let on_path = rules.rules.iter().filter_map(|rule| match &rule.matcher {
        Matcher::Syscall(call) if call.path.is_some() => Some(&call.names),
        _ => None,
    });
    on_path.flatten().fold(0, |kinds, call| kinds | observed_calls::kinds_of(call))
}
