//! Which container has which user of the pool, whose rules the user has, and what of it is in force: state and decisions, without I/O.
//!
//! Invariants: a user has the rules of one container, of the first that was admitted of those that run under it; another is held where its own
//! policy denies the very same, and said not to be where it does not. What is said to be held is what was loaded, and only while SELinux
//! enforces. Before a container runs, it is what its runtime can be asked for.
//!
//! Decision: rules that an earlier runtime left for a user stay until a container of it has a policy from this one, or no process has the
//! user any more: a load in between would be a moment without them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use palisade_domain::{Generation, Slot};
use palisade_kernel_abi::blob::Blob;
use palisade_selinux::{Line, Lowered, UserNumber};

use crate::audit::{Ended, Held};

/// What is denied each user.
pub(super) type Rules = BTreeMap<UserNumber, Arc<Lowered>>;

/// Whether a container is held by its user's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Binding {
    /// It is, or will be once it runs, but for what is left unsaid.
    Bound(Arc<Lowered>),
    /// It is not, and why.
    Unbound(String),
}

/// What the context of its processes is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Label {
    /// Nothing of it runs yet.
    Awaited,
    /// It has a user of the pool.
    Ours(UserNumber),
    /// It is another's, this one.
    Other(String),
    /// The kernel did not tell.
    Unread(String),
}

#[derive(Debug)]
struct Container {
    held: Held,
    /// Its cgroup's directory below the unified mount.
    path: PathBuf,
    /// Its place among all that were admitted.
    order: u64,
    label: Label,
    /// The process that it was read from last; 0 before.
    pid: u32,
    /// The level of its context.
    level: String,
    /// What its policy is lowered to; `None` before the first one.
    lowered: Option<Arc<Lowered>>,
    told: Option<Binding>,
}

#[derive(Debug, Default)]
pub(super) struct Numbers {
    containers: BTreeMap<Slot, Container>,
    admitted: u64,
    /// Of an earlier runtime.
    left: Rules,
    /// `None`: nothing of ours.
    in_force: Option<Rules>,
    /// Why not what is wanted.
    failure: Option<String>,
    /// SELinux denies nothing, and why; as it was seen last.
    permissive: Option<String>,
    ended: Ended<UserNumber, Container>,
}

impl Numbers {
    /// After an earlier runtime: what it left, and whether that is in force.
    pub fn after(left: Rules, stands: bool) -> Self {
        Self { in_force: stands.then(|| left.clone()), left, ..Self::default() }
    }

    /// One that is known already stays as it is.
    pub fn admit(&mut self, slot: Slot, cgroup: u64, path: &Path) {
        self.admitted += 1;
        let order = self.admitted;
        let held = Held { slot, cgroup, generation: Generation::default(), number: 0, blob: None };
        let new = || Container {
            held,
            path: path.to_path_buf(),
            order,
            label: Label::Awaited,
            pid: 0,
            level: String::new(),
            lowered: None,
            told: None,
        };
        self.containers.entry(slot).or_insert_with(new);
    }

    pub fn learn(&mut self, slot: Slot, pid: u32, label: Label, level: &str) {
        let Some(container) = self.containers.get_mut(&slot) else { return };
        let says_nothing = match (&container.label, &label) {
            // A process that is gone takes nothing away from the others of its container.
            (Label::Ours(_), Label::Unread(_)) => true,
            // Where our users are not declared the kernel calls whoever has one unlabelled.
            (Label::Ours(_), Label::Other(_)) => self.in_force.is_none(),
            _ => false,
        };
        if !says_nothing {
            (container.label, container.pid) = (label, pid);
            level.clone_into(&mut container.level);
        }
        self.forget_replaced();
    }

    /// Who seemed to be another's, by which process and with which directory: it may have been read while our users were not declared.
    pub fn others(&self) -> Vec<(Slot, u32, PathBuf)> {
        let others = self.containers.iter().filter(|(_, container)| matches!(container.label, Label::Other(_)));
        others.map(|(slot, container)| (*slot, container.pid, container.path.clone())).collect()
    }

    pub fn install(
        &mut self,
        slot: Slot,
        generation: Generation,
        number: u32,
        blob: Option<&Arc<Blob>>,
        lowered: Arc<Lowered>,
    ) {
        let Some(container) = self.containers.get_mut(&slot) else { return };
        container.held = Held { generation, number, blob: blob.cloned(), ..container.held.clone() };
        container.lowered = Some(lowered);
        self.forget_replaced();
    }

    /// After the classes of the policy in force have changed.
    pub fn lower_again(&mut self, lower: impl Fn(&Arc<Blob>) -> Arc<Lowered>) {
        for container in self.containers.values_mut() {
            if let Some(blob) = &container.held.blob {
                container.lowered = Some(lower(blob));
            }
        }
    }

    fn forget_replaced(&mut self) {
        let mut left = std::mem::take(&mut self.left);
        left.retain(|user, _| self.owner(*user).is_none_or(|owner| owner.lowered.is_none()));
        self.left = left;
    }

    /// Users whose rules an earlier runtime left stay where a process has them.
    pub fn forget_unused(&mut self, has_processes: impl Fn(UserNumber) -> bool) {
        self.left.retain(|user, _| has_processes(*user));
    }

    pub fn has_left(&self) -> bool {
        !self.left.is_empty()
    }

    /// Whose rules the user has: the first of those that run under it.
    fn owner(&self, user: UserNumber) -> Option<&Container> {
        let of_user = self.containers.values().filter(|container| container.label == Label::Ours(user));
        of_user.min_by_key(|container| container.order)
    }

    /// What is to be in force.
    pub fn wanted(&self) -> Rules {
        let mut rules = self.left.clone();
        for container in self.containers.values() {
            let Label::Ours(user) = container.label else { continue };
            let owner = self.owner(user).and_then(|owner| owner.lowered.clone());
            rules.extend(owner.filter(|lowered| !lowered.is_empty()).map(|lowered| (user, lowered)));
        }
        rules
    }

    /// Whether it would have to be loaded.
    pub fn is_in_force(&self, wanted: &Rules) -> bool {
        self.in_force.as_ref().is_some_and(|in_force| same(in_force, wanted))
    }

    /// How a load went.
    pub fn loaded(&mut self, rules: Rules, result: Result<(), String>) {
        match result {
            Ok(()) => (self.in_force, self.failure) = (Some(rules), None),
            Err(reason) => self.failure = Some(reason),
        }
    }

    /// Of what is wanted the users alone were loaded; why stays the failure.
    pub fn declared(&mut self) {
        self.in_force = Some(Rules::new());
    }

    /// Another policy was loaded in the place of ours.
    pub fn replaced(&mut self) {
        self.in_force = None;
    }

    pub fn set_permissive(&mut self, permissive: Option<String>) {
        self.permissive = permissive;
    }

    /// Why what is in force is not what is wanted, for whom any of it matters: also of a container that no policy selects and that is denied
    /// what another's does.
    pub fn impairment(&self) -> Option<String> {
        let any = self.containers.values().any(|container| matches!(container.label, Label::Ours(_)));
        let permissive = self.permissive.as_ref().filter(|_| any);
        self.failure.as_ref().or(permissive).cloned().or_else(|| {
            let stranger =
                |container: &Container| Some(format!("{}: {}", container.path.display(), self.otherwise(container)?));
            self.containers.values().find_map(stranger)
        })
    }

    /// Why a user's rules are not the container's, if they are another's and others.
    fn otherwise(&self, container: &Container) -> Option<String> {
        let Label::Ours(user) = container.label else { return None };
        let owner = self.owner(user).filter(|owner| owner.held.slot != container.held.slot)?;
        let are_others = !same_rules(owner.lowered.as_deref(), container.lowered.as_deref());
        let path = owner.path.display();
        are_others
            .then(|| format!("{user} has the rules of {path}, which are others: give each policy a user of its own"))
    }

    /// Whether and why the container is held; `None` where it was not admitted.
    pub fn binding(&self, slot: Slot) -> Option<Binding> {
        let container = self.containers.get(&slot)?;
        let mine = container.lowered.clone().unwrap_or_default();
        let unbound = |reason: String| Some(Binding::Unbound(reason));
        let user = match &container.label {
            Label::Other(context) => {
                return unbound(format!(
                    "it runs as `{context}`, whose user is none of ours: start it under one (a pod's seLinuxOptions.user: palisade_7_u, or \
                     the file `selinux` of deploy/hooks/runc-with-hook)"
                ));
            }
            Label::Unread(error) => return unbound(format!("its context cannot be read: {error}")),
            Label::Awaited => None,
            Label::Ours(user) => Some(*user),
        };
        if let Some(reason) = &self.permissive {
            return unbound(reason.clone());
        }
        let Some(user) = user else { return Some(Binding::Bound(mine)) };
        if let Some(reason) = self.otherwise(container) {
            return unbound(reason);
        }
        let in_force = self.in_force.as_ref().map(|rules| rules.get(&user).map(Arc::as_ref));
        if in_force.is_some_and(|rules| same_rules(rules, Some(&mine))) {
            return Some(Binding::Bound(mine));
        }
        unbound(match &self.failure {
            Some(reason) => format!("the SELinux policy with its rules is not loaded: {reason}"),
            None => "the SELinux policy with its rules is not in force yet: it is being compiled".to_owned(),
        })
    }

    /// The same, as it will be said.
    pub fn tell(&mut self, slot: Slot) -> Option<Binding> {
        let binding = self.binding(slot)?;
        self.containers.get_mut(&slot)?.told = Some(binding.clone());
        Some(binding)
    }

    /// Whether what was told last is not so any more; asked once a change.
    pub fn told_otherwise(&mut self, slot: Slot) -> bool {
        let now = self.binding(slot);
        let Some(container) = self.containers.get_mut(&slot) else { return false };
        let changed = container.told.is_some() && container.told != now;
        if changed {
            container.told = now;
        }
        changed
    }

    pub fn release(&mut self, slot: Slot, now: Duration) {
        let Some(released) = self.containers.remove(&slot) else { return };
        if let Label::Ours(user) = released.label {
            self.ended.keep(now, user, released);
        }
    }

    /// Whose line it is, of those that run under the user, or have just ended. `None`, too, where no rule denies it, neither the container's nor
    /// what is in force of its user's: the distribution's policy does.
    pub fn find(&self, line: &Line, cgroup: Option<&Path>, now: Duration) -> Option<Held> {
        let found = self.of_line(line, cgroup, now)?;
        let in_force = self.in_force.as_ref().and_then(|rules| rules.get(&line.user));
        let mut rules = in_force.into_iter().chain(&found.lowered);
        rules.any(|rules| rules.denies(line.class, line.permission)).then(|| found.held.clone())
    }

    /// Of who has the cgroup, else the first that has the level, else one that had it and has just ended. Only of whom the cgroup is not known,
    /// the first or the last of the user: who is in a cgroup that is none of theirs is none of them.
    fn of_line(&self, line: &Line, cgroup: Option<&Path>, now: Duration) -> Option<&Container> {
        // One that has just started may be denied something before its context is read.
        let may_be = |container: &&Container| match container.label {
            Label::Ours(user) => user == line.user,
            Label::Awaited => true,
            Label::Other(_) | Label::Unread(_) => false,
        };
        let in_cgroup = |cgroup| {
            let mut who_may = self.containers.values().filter(may_be);
            who_may.find(|container| is_below(cgroup, &container.path))
        };
        let has_level = |container: &Container| container.level == line.level;
        let of_level = || {
            let of_user = self.containers.values().filter(|container| container.label == Label::Ours(line.user));
            of_user.filter(|container| has_level(container)).min_by_key(|container| container.order)
        };
        let ended = |is_meant: &dyn Fn(&Container) -> bool| self.ended.find(now, &line.user, is_meant);
        let found = cgroup.and_then(in_cgroup).or_else(of_level).or_else(|| ended(&has_level));
        match cgroup {
            None => found.or_else(|| self.owner(line.user)).or_else(|| ended(&|_| true)),
            Some(_) => found,
        }
    }
}

/// Both below the unified mount, with or without the slash.
pub(super) fn is_below(cgroup: &Path, directory: &Path) -> bool {
    let relative = |path: &Path| path.strip_prefix("/").unwrap_or(path).to_path_buf();
    relative(cgroup).starts_with(relative(directory))
}

/// No rules and none that deny anything are the same.
fn same_rules(one: Option<&Lowered>, other: Option<&Lowered>) -> bool {
    match (one.filter(|one| !one.is_empty()), other.filter(|other| !other.is_empty())) {
        (None, None) => true,
        (Some(one), Some(other)) => one.denies_as(other),
        _ => false,
    }
}

fn same(one: &Rules, other: &Rules) -> bool {
    let users = one.keys().chain(other.keys());
    users.into_iter().all(|user| same_rules(one.get(user).map(Arc::as_ref), other.get(user).map(Arc::as_ref)))
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use palisade_domain::{Workload, WorkloadKind};
    use palisade_kernel_abi::blob::Family;
    use palisade_policy::{PolicySet, ir::Postures};
    use palisade_policy_compiler::{automaton::AutomatonLimits, compile};
    use palisade_selinux::Classes;

    use super::*;

    /// Of a policy for every container.
    pub fn blob_of(spec: &str) -> Arc<Blob> {
        let document = format!(
            "apiVersion: palisade.dev/v1alpha1\nkind: PalisadePolicy\nmetadata: {{name: p, namespace: default}}\nspec:\n  selector: {{}}\n  \
             {spec}\n"
        );
        let set = PolicySet::parse([("p.yaml", document.as_bytes())]).expect("sound");
        let workload = Workload {
            kind: WorkloadKind::Container,
            name: "pod".into(),
            namespace: "default".into(),
            container: "main".into(),
            container_id: None,
            image: String::new(),
            labels: BTreeMap::new(),
        };
        let rules = set.rules_for(&workload, &BTreeMap::new(), Postures::default());
        compile(&rules, &AutomatonLimits::default(), &mut || false).expect("small").blob
    }

    pub fn without(capability: &str) -> Arc<Lowered> {
        let names = ["chown", "kill"].map(str::to_owned).into_iter().collect();
        let classes = Classes { permissions: BTreeMap::from([("capability".to_owned(), names)]), ..Classes::default() };
        let spec = format!("capabilities: {{matchCapabilities: [{{capability: {capability}, action: Block}}]}}");
        Arc::new(Lowered::of(&blob_of(&spec), &[Family::Capability], &classes))
    }

    pub fn user(number: u8) -> UserNumber {
        UserNumber::new(number).expect("of the pool")
    }

    const SLOT: Slot = Slot(1);
    const NEXT: Slot = Slot(2);
    const PID: u32 = 77;

    /// Admitted, running under the user, with this policy.
    fn put(numbers: &mut Numbers, slot: Slot, number: u8, lowered: Option<&Arc<Lowered>>) {
        numbers.admit(slot, slot.0.into(), Path::new(&format!("/pods/{slot}")));
        numbers.learn(slot, PID, Label::Ours(user(number)), "s0");
        let lowered = lowered.cloned().unwrap_or_default();
        numbers.install(slot, Generation(1), 1, None, lowered);
    }

    fn load(numbers: &mut Numbers) {
        let wanted = numbers.wanted();
        numbers.loaded(wanted, Ok(()));
    }

    fn reason(numbers: &Numbers, slot: Slot) -> String {
        match numbers.binding(slot) {
            Some(Binding::Unbound(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn is_bound(numbers: &Numbers, slot: Slot) -> bool {
        matches!(numbers.binding(slot), Some(Binding::Bound(_)))
    }

    #[test]
    fn unit_selinux_container_is_held_when_what_it_wants_is_loaded_and_not_before() {
        let (mut numbers, chown) = (Numbers::default(), without("chown"));
        assert_eq!(numbers.binding(SLOT), None);
        assert!(!numbers.is_in_force(&numbers.wanted()), "without rules the users are to be declared all the same");
        load(&mut numbers);
        numbers.admit(SLOT, 7, Path::new("/pods/1"));
        numbers.install(SLOT, Generation(1), 1, None, Arc::clone(&chown));
        assert!(is_bound(&numbers, SLOT) && numbers.wanted().is_empty(), "nothing of it runs: its user is not known");
        assert!(numbers.tell(SLOT).is_some() && !numbers.told_otherwise(SLOT));
        numbers.learn(SLOT, PID, Label::Ours(user(7)), "s0");
        assert!(reason(&numbers, SLOT).contains("not in force yet"));
        assert!(numbers.told_otherwise(SLOT) && !numbers.told_otherwise(SLOT), "asked once a change");
        let wanted = numbers.wanted();
        assert!(wanted[&user(7)].denies_as(&chown) && !numbers.is_in_force(&wanted));
        numbers.loaded(wanted.clone(), Err("secilc: no".to_owned()));
        assert!(reason(&numbers, SLOT).contains("secilc: no"), "in the error's own words");
        assert_eq!(numbers.impairment().as_deref(), Some("secilc: no"));
        numbers.told_otherwise(SLOT);
        numbers.loaded(wanted, Ok(()));
        assert!(is_bound(&numbers, SLOT) && numbers.told_otherwise(SLOT) && numbers.impairment().is_none());
        numbers.replaced();
        assert!(reason(&numbers, SLOT).contains("not in force"), "another's load took it away");
        assert!(!numbers.is_in_force(&numbers.wanted()));
        numbers.loaded(numbers.wanted(), Err("secilc: no".to_owned()));
        numbers.declared();
        assert!(reason(&numbers, SLOT).contains("secilc: no"), "the users alone hold nobody");
        assert!(!numbers.is_in_force(&numbers.wanted()) && numbers.impairment().as_deref() == Some("secilc: no"));
    }

    #[test]
    fn unit_selinux_user_of_several_containers_has_the_rules_of_the_first() {
        let (chown, kill) = (without("chown"), without("kill"));
        let mut numbers = Numbers::default();
        // The slot says nothing about who was first.
        put(&mut numbers, NEXT, 7, Some(&chown));
        put(&mut numbers, SLOT, 7, Some(&chown));
        load(&mut numbers);
        assert!(is_bound(&numbers, SLOT) && is_bound(&numbers, NEXT), "replicas have one policy");
        numbers.tell(SLOT);
        numbers.tell(NEXT);
        numbers.install(SLOT, Generation(2), 2, None, Arc::clone(&kill));
        assert!(reason(&numbers, SLOT).contains("palisade_7_u has the rules of /pods/2"));
        assert!(numbers.told_otherwise(SLOT) && !numbers.told_otherwise(NEXT) && is_bound(&numbers, NEXT));
        numbers.install(SLOT, Generation(2), 0, None, Arc::default());
        assert!(reason(&numbers, SLOT).contains("are others"), "it is denied what its policy does not deny");
        assert!(numbers.impairment().is_some_and(|reason| reason.starts_with("/pods/1: palisade_7_u has the rules")));
        numbers.install(SLOT, Generation(2), 2, None, Arc::clone(&kill));
        numbers.release(NEXT, Duration::ZERO);
        assert!(reason(&numbers, SLOT).contains("not in force yet"), "it is the first now");
        load(&mut numbers);
        assert!(is_bound(&numbers, SLOT) && numbers.told_otherwise(SLOT));
        numbers.release(SLOT, Duration::ZERO);
        assert!(numbers.wanted().is_empty(), "the next of the user is not held to it");
    }

    #[test]
    fn unit_selinux_container_without_a_user_or_under_a_permissive_system_is_not_held() {
        let mut numbers = Numbers::default();
        put(&mut numbers, SLOT, 7, Some(&without("chown")));
        load(&mut numbers);
        numbers.tell(SLOT);
        numbers.set_permissive(Some("SELinux is permissive".to_owned()));
        assert!(reason(&numbers, SLOT).contains("permissive") && numbers.told_otherwise(SLOT));
        assert_eq!(numbers.impairment().as_deref(), Some("SELinux is permissive"));
        assert!(numbers.is_in_force(&numbers.wanted()), "it holds again as soon as SELinux enforces");
        numbers.set_permissive(None);
        assert!(is_bound(&numbers, SLOT) && numbers.told_otherwise(SLOT));
        numbers.learn(SLOT, PID, Label::Unread("gone".to_owned()), "");
        assert!(is_bound(&numbers, SLOT), "a process that is gone says nothing of the others");
        numbers.admit(NEXT, 2, Path::new("/pods/2"));
        numbers.learn(NEXT, PID, Label::Unread("gone".to_owned()), "");
        assert!(reason(&numbers, NEXT).contains("gone"));
        numbers.learn(NEXT, PID, Label::Other("system_u:system_r:container_t:s0".to_owned()), "s0");
        let said = reason(&numbers, NEXT);
        assert!(said.contains("`system_u:system_r:container_t:s0`") && said.contains("seLinuxOptions.user"), "{said}");
    }

    #[test]
    fn unit_selinux_context_that_was_read_while_no_user_was_declared_is_asked_for_again() {
        let mut numbers = Numbers::default();
        let unlabelled = || Label::Other("system_u:object_r:unlabeled_t:s0".to_owned());
        put(&mut numbers, SLOT, 7, Some(&without("chown")));
        put(&mut numbers, Slot(3), 8, None);
        numbers.learn(SLOT, PID + 1, unlabelled(), "s0");
        assert!(reason(&numbers, SLOT).contains("not in force yet"), "it keeps its user");
        numbers.admit(NEXT, 2, Path::new("/pods/2"));
        assert!(numbers.others().is_empty(), "nothing of it is read");
        numbers.learn(NEXT, PID, unlabelled(), "s0");
        assert_eq!(numbers.others(), [(NEXT, PID, PathBuf::from("/pods/2"))]);
        load(&mut numbers);
        numbers.learn(NEXT, PID, Label::Ours(user(9)), "s0");
        assert!(numbers.others().is_empty() && is_bound(&numbers, NEXT), "what it has is told once it is declared");
        numbers.learn(SLOT, PID + 1, unlabelled(), "s0");
        assert_eq!(numbers.others().len(), 1, "another's, for ours are declared");
    }

    #[test]
    fn unit_selinux_rules_that_an_earlier_runtime_left_stay_until_its_containers_have_their_own_again() {
        let (chown, kill) = (without("chown"), without("kill"));
        let left = Rules::from([(user(7), Arc::clone(&chown)), (user(8), Arc::clone(&kill))]);
        let mut numbers = Numbers::after(left.clone(), true);
        assert!(numbers.is_in_force(&left) && numbers.is_in_force(&numbers.wanted()));
        numbers.admit(SLOT, 1, Path::new("/pods/1"));
        numbers.learn(SLOT, PID, Label::Ours(user(7)), "s0");
        assert!(numbers.is_in_force(&numbers.wanted()), "it has no policy of this runtime yet");
        numbers.install(SLOT, Generation(1), 1, None, Arc::clone(&chown));
        assert!(numbers.is_in_force(&numbers.wanted()) && is_bound(&numbers, SLOT), "the same one: nothing is loaded");
        numbers.install(SLOT, Generation(2), 0, None, Arc::default());
        assert_eq!(numbers.wanted(), Rules::from([(user(8), kill)]), "its policy is gone");
        assert!(numbers.has_left());
        numbers.forget_unused(|user| user != UserNumber::new(8).expect("of the pool"));
        assert!(numbers.wanted().is_empty() && !numbers.has_left(), "no process has the user any more");
        assert!(!Numbers::after(left.clone(), false).is_in_force(&left), "another policy was loaded since");
    }

    fn line(number: u8, permission: &str) -> Line {
        let context = format!("{}:system_r:container_t:s0", user(number));
        let capability = if permission == "chown" { 0 } else { 5 };
        let text = format!(
            "avc:  denied  {{ {permission} }} for  pid=7 comm=\"x\" capability={capability}  scontext={context} tcontext={context} \
             tclass=capability permissive=0"
        );
        Line::parse(text.as_bytes()).expect("as the kernel writes it")
    }

    #[test]
    fn unit_selinux_line_is_of_who_has_its_cgroup_else_of_the_first_and_of_who_ended_for_a_moment() {
        let (mut numbers, chown) = (Numbers::default(), without("chown"));
        put(&mut numbers, SLOT, 7, Some(&chown));
        put(&mut numbers, NEXT, 7, Some(&chown));
        put(&mut numbers, Slot(3), 8, Some(&chown));
        let now = Duration::from_secs(100);
        let found = |numbers: &Numbers, cgroup: Option<&str>, now| {
            numbers.find(&line(7, "chown"), cgroup.map(Path::new), now).map(|held| held.slot)
        };
        assert_eq!(found(&numbers, Some("/pods/2/below"), now), Some(NEXT));
        assert_eq!(found(&numbers, Some("pods/1"), now), Some(SLOT), "as either side writes it");
        for unknown in [None, Some("/pods/22"), Some("/pods/3")] {
            assert_eq!(found(&numbers, unknown, now), Some(SLOT), "the first of its level: {unknown:?}");
        }
        numbers.admit(Slot(4), 4, Path::new("/pods/4"));
        numbers.install(Slot(4), Generation(1), 1, None, Arc::clone(&chown));
        assert_eq!(found(&numbers, Some("/pods/4"), now), Some(Slot(4)), "its context is not read yet");
        numbers.learn(Slot(4), PID, Label::Ours(user(8)), "s0");
        assert_eq!(found(&numbers, Some("/pods/4"), now), Some(SLOT), "another's");
        numbers.release(SLOT, now);
        assert_eq!(found(&numbers, None, now), Some(NEXT), "one that runs before one that ended");
        numbers.release(NEXT, now);
        assert_eq!(found(&numbers, None, now), Some(NEXT));
        assert_eq!(found(&numbers, None, now + Duration::from_secs(5)), None, "its slot may be another's by now");
    }

    #[test]
    fn unit_selinux_line_of_a_process_that_has_ended_is_of_who_has_its_level_or_had_it_a_moment_ago() {
        let (mut numbers, chown) = (Numbers::default(), without("chown"));
        for (slot, level) in [(SLOT, "s0:c1,c2"), (NEXT, "s0:c3,c4"), (Slot(3), "s0:c3,c4")] {
            put(&mut numbers, slot, 7, Some(&chown));
            numbers.learn(slot, PID, Label::Ours(user(7)), level);
        }
        let now = Duration::from_secs(100);
        let in_cgroup = |numbers: &Numbers, level: &str, cgroup: Option<&str>| {
            let line = Line { level: level.to_owned(), ..line(7, "chown") };
            numbers.find(&line, cgroup.map(Path::new), now).map(|held| held.slot)
        };
        let found = |numbers: &Numbers, level: &str| in_cgroup(numbers, level, None);
        assert_eq!(found(&numbers, "s0:c3,c4"), Some(NEXT), "the first of its level");
        assert_eq!(found(&numbers, "s0:c5,c6"), Some(SLOT), "the first of its user");
        assert_eq!(in_cgroup(&numbers, "s0:c5,c6", Some("/pods/9")), None, "nobody's that is known");
        assert_eq!(in_cgroup(&numbers, "s0:c3,c4", Some("/pods/9")), Some(NEXT), "by its level all the same");
        numbers.release(NEXT, now);
        assert_eq!(found(&numbers, "s0:c3,c4"), Some(Slot(3)));
        numbers.release(Slot(3), now);
        for cgroup in [None, Some("/pods/9")] {
            let found = in_cgroup(&numbers, "s0:c3,c4", cgroup);
            assert_eq!(found, Some(Slot(3)), "it ended, and the one that runs has another level: {cgroup:?}");
        }
        numbers.release(SLOT, now);
        assert_eq!(found(&numbers, "s0:c5,c6"), Some(SLOT), "the last of its user");
        assert_eq!(in_cgroup(&numbers, "s0:c5,c6", Some("/pods/9")), None);
    }

    #[test]
    fn unit_selinux_line_is_ours_only_where_a_rule_of_its_container_or_one_that_is_in_force_denies_it() {
        let (mut numbers, chown) = (Numbers::default(), without("chown"));
        put(&mut numbers, SLOT, 7, Some(&chown));
        put(&mut numbers, NEXT, 8, None);
        let now = Duration::from_secs(100);
        let is_ours =
            |numbers: &Numbers, number, permission| numbers.find(&line(number, permission), None, now).is_some();
        assert!(is_ours(&numbers, 7, "chown"), "its rule is being loaded");
        assert!(!is_ours(&numbers, 7, "kill") && !is_ours(&numbers, 8, "chown"), "of the distribution's policy");
        load(&mut numbers);
        numbers.install(SLOT, Generation(2), 2, None, without("kill"));
        assert!(is_ours(&numbers, 7, "chown"), "what was in force denies until the next is loaded");
        load(&mut numbers);
        assert!(is_ours(&numbers, 7, "kill") && !is_ours(&numbers, 7, "chown"));
        numbers.release(SLOT, now);
        load(&mut numbers);
        assert!(is_ours(&numbers, 7, "kill"), "it ended a moment ago, and its rules with it");
    }
}
