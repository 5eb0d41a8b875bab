//! The profiles of admitted containers: which policy each is lowered from, and whether its container runs under it.
//!
//! Invariants: a container that was admitted has a profile of its name in the kernel, also without a policy (one that permits everything), for its
//! runtime asks for it by name before the first instruction; a profile changes by one write. Once a container runs, what is said to be
//! held of it by its profile was read from one of its processes; before, it is what its runtime can be asked for: a word about every
//! container that starts, taken back a moment later, would hide the true ones.
//!
//! Decision: what was lowered of the last blobs is kept ([`RECENT`]): of a change that is about many containers, which come one after the other,
//! it is done once. Not one of each blob for ever: a profile is as large as its blob.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use palisade_apparmor::{LowerError, Lowered, PREFIX, ProfileName, Share, Weakened, permissive};
use palisade_domain::{Generation, Slot};
use palisade_kernel_abi::blob::{Blob, Family};
use palisade_world::Membership;

use super::{AppArmor, Confinement, confinement};
use crate::{
    audit::{self, Account, Ended, Held},
    sys,
};

/// Of these a profile denies what the policy blocks. Sockets and tracing are held by other means wherever those are: who is killed at the
/// call's entry must not be told of a second time.
const HELD: [Family; 3] = [Family::Process, Family::File, Family::Capability];
/// Of these only a profile tells what is audited.
const TOLD: [Family; 1] = [Family::Capability];
const SHARE: Share<'static> = Share { held: &HELD, told: &TOLD };
/// Blobs whose lowering is kept: a change of a policy set makes hardly more different ones that many containers share.
const RECENT: usize = 16;

/// What is known of one container.
#[derive(Debug)]
struct Confined {
    held: Held,
    binding: Binding,
    weakened: BTreeSet<Weakened>,
    /// Why the policy in force has no profile, whatever the container runs under.
    too_large: Option<String>,
    /// What was said at the last installation is not so any more.
    told_otherwise: bool,
}

impl Confined {
    /// What its profile holds, by what the container runs under and by what could be lowered of its policy.
    fn bound(&self) -> Binding {
        match (&self.too_large, &self.binding) {
            (Some(reason), _) => Binding::Unbound(reason.clone()),
            (None, Binding::Bound(_)) => Binding::Bound(self.weakened.clone()),
            (None, other) => other.clone(),
        }
    }
}

/// Whether a container is held by its profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Binding {
    /// Nothing of it runs yet.
    Awaited,
    /// It is; but for what the profile is weaker in than the policy.
    Bound(BTreeSet<Weakened>),
    /// It is not, and why.
    Unbound(String),
}

/// A blob's digest, and what was lowered of it.
type Recent = ([u8; 32], Result<Arc<Lowered>, LowerError>);

/// The profiles, and the account of what was told about them.
#[derive(Debug)]
pub struct Profiles {
    apparmor: AppArmor,
    confined: Mutex<BTreeMap<ProfileName, Confined>>,
    recent: Mutex<VecDeque<Recent>>,
    ended: Mutex<Ended<ProfileName, Held>>,
    pub(super) account: Mutex<Account>,
}

impl Profiles {
    /// # Errors
    /// Where AppArmor is not active, or takes no policy from here.
    pub(crate) fn open() -> Result<Self, String> {
        Ok(Self::of(AppArmor::open()?))
    }

    fn of(apparmor: AppArmor) -> Self {
        Self {
            apparmor,
            confined: Mutex::default(),
            recent: Mutex::default(),
            ended: Mutex::default(),
            account: Mutex::new(Account::of(audit::APPARMOR)),
        }
    }

    fn lowered(&self, blob: &Blob) -> Result<Arc<Lowered>, LowerError> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = blob.digest();
        if let Some((_, known)) = recent.iter().find(|(known, _)| *known == digest) {
            return known.clone();
        }
        let lowered = Lowered::of(blob, SHARE).map(Arc::new);
        recent.truncate(RECENT - 1);
        recent.push_front((digest, lowered.clone()));
        lowered
    }

    fn confined(&self) -> MutexGuard<'_, BTreeMap<ProfileName, Confined>> {
        self.confined.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes away profiles that an earlier runtime left of containers which are gone.
    ///
    /// # Errors
    /// What the kernel said.
    pub(crate) fn sweep(&self) -> io::Result<usize> {
        self.apparmor.remove_unused()
    }

    /// Makes the profile that the container's runtime will ask for; one that an earlier runtime left in force stays so.
    ///
    /// # Errors
    /// What the kernel said, or that the cgroup names no container.
    pub(crate) fn admit(&self, membership: &Membership) -> Result<(), String> {
        let Some(path) = &membership.cgroup_path else { return Ok(()) };
        let Some(id) = container_of(path) else { return Ok(()) };
        let name = ProfileName::of_container(id).map_err(|error| error.to_string())?;
        let mut confined = self.confined();
        if let Some(known) = confined.get(&name).filter(|known| known.held.slot == membership.slot) {
            tracing::debug!(%name, slot = %known.held.slot, "its profile is there already");
            return Ok(());
        }
        let is_loaded = self.apparmor.ours().is_ok_and(|ours| ours.contains(&name));
        if !is_loaded {
            let profile = permissive(&name).map_err(|error| error.to_string())?;
            self.apparmor.replace(&profile).map_err(|error| format!("profile {name}: {error}"))?;
        }
        let held = Held {
            slot: membership.slot,
            cgroup: membership.cgroup.map_or(0, |cgroup| cgroup.0),
            generation: Generation::default(),
            number: 0,
            blob: None,
        };
        let binding = Binding::Awaited;
        let admitted = Confined { held, binding, weakened: BTreeSet::new(), too_large: None, told_otherwise: false };
        confined.insert(name, admitted);
        Ok(())
    }

    /// Reads from a process of the container under which profile it runs.
    pub(crate) fn learn(&self, slot: Slot, pid: u32) {
        let mut confined = self.confined();
        let Some((name, confined)) = of_slot(&mut confined, slot) else { return };
        let binding = match confinement(pid) {
            Ok(Confinement::Ours(found)) if found == *name => Binding::Bound(BTreeSet::new()),
            Ok(Confinement::Ours(found)) => Binding::Unbound(format!("it runs under the profile {found} of another")),
            Ok(Confinement::Others(label)) => Binding::Unbound(format!(
                "it runs under `{label}` and not under its own profile {name}: start it by deploy/hooks/runc-with-hook"
            )),
            Err(error) => Binding::Unbound(format!("its profile cannot be read: {error}")),
        };
        let as_awaited = confined.binding == Binding::Awaited && is_bound(&binding);
        confined.told_otherwise |= confined.binding != binding && !as_awaited;
        confined.binding = binding;
    }

    /// Puts the policy in the profile's place.
    ///
    /// # Errors
    /// What the kernel said; the previous profile stays.
    pub(crate) fn install(
        &self,
        slot: Slot,
        generation: Generation,
        number: u32,
        blob: Option<&Arc<Blob>>,
    ) -> Result<(), String> {
        let mut confined = self.confined();
        let Some((name, confined)) = of_slot(&mut confined, slot) else { return Ok(()) };
        let lowered = match blob {
            Some(blob) => self.lowered(blob).map(|lowered| lowered.named(name)),
            None => permissive(name),
        };
        let (profile, too_large) = match lowered {
            Ok(profile) => (profile, None),
            // What it would have held goes to the other means, and is said not to be held by this one.
            Err(error) => (permissive(name).map_err(|error| error.to_string())?, Some(error.to_string())),
        };
        self.apparmor.replace(&profile).map_err(|error| format!("profile {name}: {error}"))?;
        (confined.weakened, confined.too_large) = (profile.weakened, too_large);
        confined.held = Held { generation, number, blob: blob.cloned(), ..confined.held };
        confined.told_otherwise = false;
        Ok(())
    }

    /// Whether and why the container is held by its profile; `None` where it has none.
    pub(crate) fn binding(&self, slot: Slot) -> Option<Binding> {
        of_slot(&mut self.confined(), slot).map(|(_, confined)| confined.bound())
    }

    /// Whether what the last installation said is not so any more; asked once.
    pub(crate) fn told_otherwise(&self, slot: Slot) -> bool {
        let mut confined = self.confined();
        of_slot(&mut confined, slot).is_some_and(|(_, confined)| std::mem::take(&mut confined.told_otherwise))
    }

    /// Takes the container's profile away.
    ///
    /// # Errors
    /// What the kernel said.
    pub(crate) fn release(&self, slot: Slot) -> io::Result<()> {
        let mut confined = self.confined();
        let Some(name) = of_slot(&mut confined, slot).map(|(name, _)| name.clone()) else { return Ok(()) };
        self.apparmor.remove(&name)?;
        if let Some(released) = confined.remove(&name) {
            self.ended().keep(sys::boot_time(), name, released.held);
        }
        Ok(())
    }

    fn ended(&self) -> MutexGuard<'_, Ended<ProfileName, Held>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a line's profile is of, also a moment after its container was released.
    pub(super) fn find(&self, name: &ProfileName) -> Option<Held> {
        let runs = self.confined().get(name).map(|confined| confined.held.clone());
        runs.or_else(|| self.ended().find(sys::boot_time(), name, |_| true).cloned())
    }
}

fn of_slot(all: &mut BTreeMap<ProfileName, Confined>, slot: Slot) -> Option<(&ProfileName, &mut Confined)> {
    all.iter_mut().find(|(_, confined)| confined.held.slot == slot)
}

/// As was expected of a container that had not begun to run.
fn is_bound(binding: &Binding) -> bool {
    matches!(binding, Binding::Bound(_))
}

/// The container's id in the last component of its cgroup's path: the whole of it, or of a systemd scope (`docker-ID.scope`) what follows
/// the runtime's name.
fn container_of(cgroup: &Path) -> Option<&str> {
    let name = cgroup.file_name()?.to_str()?;
    let id = match name.strip_suffix(".scope") {
        Some(scope) => scope.rsplit_once('-').map_or(scope, |(_, id)| id),
        None => name,
    };
    (!id.is_empty() && !id.starts_with(PREFIX)).then_some(id)
}

#[cfg(test)]
impl Profiles {
    /// Where nothing can be loaded: for what is only looked up.
    pub(crate) fn without_apparmor() -> Self {
        Self::of(AppArmor { interface: std::path::PathBuf::from("/proc/self/no-apparmor") })
    }
}

#[cfg(test)]
mod tests {
    use palisade_domain::{Action, PolicyKind, PolicyRef, Posture};
    use palisade_policy::ir::{Matcher, PathMatch, PathRule, Postures, Rule, WorkloadRules};
    use palisade_policy_compiler::{automaton::AutomatonLimits, compile};

    use super::*;

    fn confined(slot: u32) -> Confined {
        Confined {
            held: Held { slot: Slot(slot), cgroup: 7, generation: Generation(1), number: 1, blob: None },
            binding: Binding::Bound(BTreeSet::new()),
            weakened: BTreeSet::new(),
            too_large: None,
            told_otherwise: false,
        }
    }

    #[test]
    fn unit_profile_of_a_container_that_ended_a_moment_ago_is_found_but_one_that_runs_before_it() {
        let name = |number: usize| ProfileName::of_container(&format!("c{number}")).unwrap();
        let profiles = Profiles::without_apparmor();
        profiles.confined().insert(name(1), confined(5));
        profiles.ended().keep(sys::boot_time(), name(0), confined(1).held);
        profiles.ended().keep(sys::boot_time(), name(1), confined(1).held);
        let slot = |number| profiles.find(&name(number)).map(|held| held.slot);
        assert_eq!([slot(0), slot(1), slot(2)], [Some(Slot(1)), Some(Slot(5)), None]);
    }

    #[test]
    fn unit_a_policy_too_large_for_a_profile_is_not_held_until_a_smaller_one_is_in_force() {
        let weakened = BTreeSet::from([Weakened::Protocol]);
        let too_large = Some("65537 states".to_owned());
        let mut confined = Confined { weakened: weakened.clone(), too_large, ..confined(1) };
        assert_eq!(confined.bound(), Binding::Unbound("65537 states".to_owned()));
        confined.too_large = None;
        assert_eq!(confined.bound(), Binding::Bound(weakened));
        confined.binding = Binding::Unbound("another profile".to_owned());
        assert_eq!(confined.bound(), Binding::Unbound("another profile".to_owned()));
    }

    fn blob_of(action: Action, matcher: Matcher) -> Arc<Blob> {
        let policy = PolicyRef { kind: PolicyKind::PalisadePolicy, namespace: "default".into(), name: "test".into() };
        let rule = Rule {
            policy: Arc::new(policy),
            place: "test".into(),
            matcher,
            sources: BTreeSet::default(),
            source_directories: BTreeSet::default(),
            action,
            severity: None,
            tags: Vec::new(),
            message: None,
        };
        let postures = Postures {
            file: Posture::Audit,
            network: Posture::Audit,
            capabilities: Posture::Audit,
            ..Postures::default()
        };
        let rules = WorkloadRules { rules: vec![Arc::new(rule)], postures, ..WorkloadRules::default() };
        compile(&rules, &AutomatonLimits::default(), &mut || false).unwrap().blob
    }

    #[test]
    fn unit_profile_says_that_it_tells_no_audits_of_files() {
        let weakened = |action| {
            let file = Matcher::File(PathRule::of(PathMatch::Exact("/etc/shadow".into())));
            Lowered::of(&blob_of(action, file), SHARE).unwrap().named(&ProfileName::of_container("c").unwrap()).weakened
        };
        assert_eq!(weakened(Action::Audit), BTreeSet::from([Weakened::Audit(Family::File)]));
        assert_eq!(weakened(Action::Block), BTreeSet::new());
    }

    #[test]
    fn unit_container_is_named_by_the_end_of_its_cgroup() {
        for (path, id) in [
            ("/default/c-1", Some("c-1")),
            ("/kubepods/burstable/podx/0123ab", Some("0123ab")),
            ("/kubepods.slice/kubepods-podx.slice/cri-containerd-0123ab.scope", Some("0123ab")),
            ("/system.slice/docker-0123ab.scope", Some("0123ab")),
            ("/", None),
        ] {
            assert_eq!(container_of(Path::new(path)), id, "{path}");
        }
    }
}
