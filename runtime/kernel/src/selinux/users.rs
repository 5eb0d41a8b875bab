//! The users of the pool, and the policy that is loaded for them: a thread loads what is wanted, one load after the other.
//!
//! Invariants: what an installation asks for is marked, and the installation goes on; what is said to be in force has been loaded
//! ([`Numbers`]). All users are declared in whatever is loaded, from the start on. A load that fails keeps what was in force, is said of whom
//! it would have held, and is tried again; one that is refused where nothing has our users declares them without rules.
//!
//! Decisions:
//! - One thread, which loads the newest that is wanted: a distribution's policy is compiled for seconds, and meanwhile many containers may start.
//! - One node at a time ([`Claim`]).
//! - It looks now and then whether another load, an administrator's, has taken ours away ([`PolicySource::in_force`]), and loads it again. The
//!   kernel tells of it by a socket, too; a count that is read misses nothing.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use palisade_domain::{Generation, Slot};
use palisade_kernel_abi::blob::{Blob, Family};
use palisade_selinux::{Classes, Levels, Line, Lowered, UserNumber, denied_by, level_of, module};
use palisade_world::Membership;

use super::{
    Base, Binding, PolicyError, PolicySource, SeLinux,
    claim::{Claim, ClaimError},
    context_of,
    numbers::{Label, Numbers, Rules, is_below},
    remembered::{Known, Remembered},
    user_of,
};
use crate::{
    audit::{self, Account, Held},
    cgroups::unified_path,
    sys,
};

/// Between two looks at what others do: how long another's load may stand before ours follows it.
const LOOK: Duration = Duration::from_secs(2);
/// Of a burst of changes one is loaded.
const SETTLE: Duration = Duration::from_millis(200);
/// Until what failed is tried again, if nothing changes.
const AGAIN: Duration = Duration::from_secs(60);
/// Blobs whose lowering is kept: a change of a policy set makes hardly more different ones that many containers share.
const RECENT: usize = 16;

/// The users, and who loads their rules.
#[derive(Debug)]
pub struct Users {
    shared: Arc<Shared>,
    worker: Mutex<Option<thread::JoinHandle<()>>>,
    claim: Mutex<Option<Claim>>,
    pub(super) account: Mutex<Account>,
}

#[derive(Debug)]
struct Shared {
    selinux: SeLinux,
    source: PolicySource,
    remembered: Remembered,
    lowering: Mutex<Lowering>,
    numbers: Mutex<Numbers>,
    changed: Condvar,
    stopping: AtomicBool,
}

/// Why what is wanted is not in force.
#[derive(Debug, thiserror::Error)]
enum PutError {
    #[error("its levels cannot be read: {0}")]
    Levels(io::Error),
    #[error("it cannot be remembered in /run/palisade: {0}")]
    Unremembered(io::Error),
    #[error(transparent)]
    Policy(PolicyError),
    #[error("{0}; and what is in force cannot be remembered: {1}")]
    Unkept(PolicyError, io::Error),
}

/// What policies are lowered by, and the last results.
#[derive(Debug)]
struct Lowering {
    /// What nothing else holds.
    families: Vec<Family>,
    classes: Classes,
    recent: VecDeque<([u8; 32], Arc<Lowered>)>,
}

impl Lowering {
    fn of(&mut self, blob: &Blob) -> Arc<Lowered> {
        let digest = blob.digest();
        if let Some((_, known)) = self.recent.iter().find(|(known, _)| *known == digest) {
            return Arc::clone(known);
        }
        let lowered = Arc::new(Lowered::of(blob, &self.families, &self.classes));
        self.recent.truncate(RECENT - 1);
        self.recent.push_front((digest, Arc::clone(&lowered)));
        lowered
    }
}

impl Users {
    /// Of these families constraints hold what can be said by them. What an earlier runtime of the same pins left stands.
    ///
    /// # Errors
    /// Where SELinux is not active, or takes no policy from here, or another node holds containers by it.
    pub(crate) fn open(base: &Base, families: Vec<Family>, pin_root: &Path) -> Result<Self, String> {
        let selinux = SeLinux::open()?;
        let claim = Claim::take(pin_root).map_err(|error| error.to_string())?;
        let classes = selinux.classes().map_err(|error| format!("its classes cannot be read: {error}"))?;
        let source = PolicySource::new(selinux.clone(), base.clone());
        let remembered = Remembered::of(pin_root);
        let numbers = left_behind(&remembered, &source);
        let shared = Arc::new(Shared {
            selinux,
            source,
            remembered,
            lowering: Mutex::new(Lowering { families, classes, recent: VecDeque::new() }),
            numbers: Mutex::new(numbers),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
        });
        // The thread takes no signal: while a node starts, its own thread looks for one that waits.
        let _held = sys::SignalsHeld::new();
        let of_worker = Arc::clone(&shared);
        let worker = thread::Builder::new().name("selinux".to_owned()).spawn(move || of_worker.work());
        let worker = Mutex::new(Some(worker.map_err(|error| format!("cannot start a thread: {error}"))?));
        Ok(Self { shared, worker, claim: Mutex::new(Some(claim)), account: Mutex::new(Account::of(audit::SELINUX)) })
    }

    /// Where nothing is loaded, and nobody would: for what is only looked up.
    #[cfg(test)]
    pub(super) fn idle(numbers: Numbers) -> Self {
        let nowhere = Path::new("/proc/self/no-selinux");
        let shared = Shared::idle(nowhere, nowhere, Remembered::of(nowhere), numbers);
        let account = Mutex::new(Account::of(audit::SELINUX));
        Self { shared: Arc::new(shared), worker: Mutex::default(), claim: Mutex::default(), account }
    }

    /// Nothing is loaded any more once this returns; what is in force stays so.
    pub fn stop(&self) {
        self.shared.source.give_up();
        {
            // Who is about to wait sees it, who waits hears of it.
            let _numbers = self.shared.numbers();
            self.shared.stopping.store(true, Ordering::Relaxed);
        }
        self.shared.changed.notify_all();
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if worker.is_some_and(|worker| worker.join().is_err()) {
            tracing::error!("who loads SELinux policies panicked");
        }
        drop(self.claim.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    pub(crate) fn admit(&self, membership: &Membership) {
        let (Some(cgroup), Some(path)) = (membership.cgroup, &membership.cgroup_path) else { return };
        self.shared.numbers().admit(membership.slot, cgroup.0, path);
    }

    /// Reads from a process of the container under which user it runs.
    pub(crate) fn learn(&self, slot: Slot, pid: u32) {
        {
            // Read with the lock: what is read before a load is there when the load is over, and is asked for again.
            let mut numbers = self.shared.numbers();
            let (label, level) = label_of(pid);
            numbers.learn(slot, pid, label, &level);
        }
        self.shared.changed.notify_all();
    }

    /// Marks what the policy asks for: it is loaded by and by, and [`Self::tell`] says when it is.
    pub(crate) fn install(&self, slot: Slot, generation: Generation, number: u32, blob: Option<&Arc<Blob>>) {
        let lowered = blob.map(|blob| self.shared.lowering().of(blob)).unwrap_or_default();
        self.shared.numbers().install(slot, generation, number, blob, lowered);
        self.shared.changed.notify_all();
    }

    /// Whether and why the container is held by its user's rules; `None` where it was not admitted.
    pub(crate) fn binding(&self, slot: Slot) -> Option<Binding> {
        self.shared.numbers().binding(slot)
    }

    /// The same, as it will be said.
    pub(crate) fn tell(&self, slot: Slot) -> Option<Binding> {
        self.shared.numbers().tell(slot)
    }

    /// Whether what was told last is not so any more; asked once a change.
    pub(crate) fn told_otherwise(&self, slot: Slot) -> bool {
        self.shared.numbers().told_otherwise(slot)
    }

    pub(crate) fn release(&self, slot: Slot) {
        self.shared.numbers().release(slot, sys::boot_time());
        self.shared.changed.notify_all();
    }

    /// Why less is held than is wanted.
    pub(crate) fn impairment(&self) -> Option<String> {
        self.shared.numbers().impairment()
    }

    /// Of which container a line is, also a moment after its release, if rules of ours deny what it is about.
    pub(super) fn find(&self, line: &Line) -> Option<Held> {
        self.shared.numbers().find(line, cgroup_of(line.pid).as_deref(), sys::boot_time())
    }

    /// Whether the policy in force has a class for each kind of sockets: what a line's class says depends on it.
    pub(super) fn has_extended_sockets(&self) -> bool {
        self.shared.lowering().classes.extended_sockets
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    #[cfg(test)]
    fn idle(root: &Path, base: &Path, remembered: Remembered, numbers: Numbers) -> Self {
        let selinux = SeLinux { root: root.to_path_buf() };
        let classes = Classes { extended_sockets: true, ..Classes::default() };
        Self {
            source: PolicySource::new(selinux.clone(), Base::Cil(base.to_path_buf())),
            selinux,
            remembered,
            lowering: Mutex::new(Lowering { families: Vec::new(), classes, recent: VecDeque::new() }),
            numbers: Mutex::new(numbers),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
        }
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lowering(&self) -> MutexGuard<'_, Lowering> {
        self.lowering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        // What failed last, and until when it is not tried again.
        let mut failed: Option<(Rules, Duration)> = None;
        let mut unused_at = sys::boot_time() + AGAIN;
        loop {
            self.look();
            if sys::boot_time() >= unused_at {
                self.forget_unused();
                unused_at = sys::boot_time() + AGAIN;
            }
            let numbers = self.numbers();
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
            let wanted = numbers.wanted();
            let waits = failed.as_ref().is_some_and(|(rules, until)| *rules == wanted && sys::boot_time() < *until);
            if waits || numbers.is_in_force(&wanted) {
                let waited = self.changed.wait_timeout(numbers, LOOK);
                let changed = waited.is_ok_and(|(numbers, timeout)| {
                    drop(numbers);
                    !timeout.timed_out()
                });
                if changed {
                    thread::sleep(SETTLE);
                }
                continue;
            }
            drop(numbers);
            let is_loaded = self.load(&wanted);
            failed = (!is_loaded).then(|| (wanted, sys::boot_time() + AGAIN));
        }
    }

    /// At what others may have changed.
    fn look(&self) {
        let permissive = match self.selinux.is_enforcing() {
            Ok(true) => None,
            Ok(false) => Some("SELinux is permissive: it tells of what it would deny, and denies nothing".to_owned()),
            Err(error) => Some(format!("whether SELinux enforces cannot be read: {error}")),
        };
        let replaced = self.source.in_force().is_none();
        let mut numbers = self.numbers();
        numbers.set_permissive(permissive);
        if replaced {
            numbers.replaced();
        }
    }

    fn load(&self, rules: &Rules) -> bool {
        let result = self.put(rules);
        let is_stopping = self.stopping.load(Ordering::Relaxed);
        if let Err(error) = &result
            && !is_stopping
        {
            tracing::warn!(%error, "the SELinux policy is not loaded; what was in force stays");
        }
        let is_refused = matches!(&result, Err(PutError::Policy(PolicyError::Refused { .. } | PolicyError::Load(_))));
        let is_loaded = result.is_ok();
        self.numbers().loaded(rules.clone(), result.map_err(|error| error.to_string()));
        let is_declared = is_refused && !is_stopping && self.lacks_users() && self.declare();
        if is_loaded || is_declared {
            self.learn_again();
        }
        self.renew_classes();
        is_loaded
    }

    /// Whether nothing in force has our users; a store keeps what it had.
    fn lacks_users(&self) -> bool {
        let is_cil = matches!(self.source.base(), Base::Cil(_));
        is_cil && self.source.in_force().is_none() && !self.selinux.has_our_users()
    }

    /// The users alone, so that containers' labels are valid whatever of the rules is refused; why they are goes on being said.
    fn declare(&self) -> bool {
        let declared = self.selinux.levels().map_err(PutError::Levels).and_then(|levels| {
            // The base may know other levels than the policy in force.
            let without = self.put_module(&module(levels, []));
            without.or_else(|_| self.put_module(&module(Levels::default(), [])))
        });
        match declared {
            Ok(()) => {
                tracing::warn!(base = %self.source.base(), "SELinux policy loaded with our users, and without their rules");
                self.numbers().declared();
                true
            }
            Err(error) => {
                tracing::warn!(%error, "nor is one with our users alone: containers under one of them have no label");
                false
            }
        }
    }

    /// While our users were not declared, whoever has one was unlabelled.
    fn learn_again(&self) {
        let mut numbers = self.numbers();
        for (slot, pid, path) in numbers.others() {
            let (label, level) = label_of(pid);
            // Else the number is another process's by now.
            let is_its = cgroup_of(pid).is_some_and(|cgroup| is_below(&cgroup, &path));
            if is_its && !matches!(label, Label::Unread(_)) {
                numbers.learn(slot, pid, label, &level);
            }
        }
    }

    fn put(&self, rules: &Rules) -> Result<(), PutError> {
        let levels = self.selinux.levels().map_err(PutError::Levels)?;
        let text = module(levels, rules.iter().map(|(user, lowered)| (*user, lowered.as_ref())));
        self.put_module(&text)?;
        tracing::info!(users = rules.len(), base = %self.source.base(), "SELinux policy loaded");
        Ok(())
    }

    fn put_module(&self, text: &str) -> Result<(), PutError> {
        let base = self.source.base();
        let before = self.remembered.read().ok().flatten();
        self.remembered.write(base, 0, text).map_err(PutError::Unremembered)?;
        if let Err(error) = self.source.load(text) {
            // The store's tool runs on: what it was given may come into force.
            let may_come = *base == Base::Store && matches!(error, PolicyError::TimedOut(_));
            let kept = match &before {
                _ if may_come => Ok(()),
                Some(known) => self.remembered.write(&known.base, known.loads, &known.module),
                None => self.remembered.forget(),
            };
            return Err(match kept {
                Ok(()) => PutError::Policy(error),
                Err(unkept) => PutError::Unkept(error, unkept),
            });
        }
        // The number alone is not remembered: whoever comes later loads it once more.
        if let Err(error) = self.remembered.write(base, self.source.in_force().unwrap_or_default(), text) {
            tracing::warn!(%error, "the SELinux policy is loaded, and its number cannot be remembered in /run/palisade");
        }
        Ok(())
    }

    /// The policy in force may know other permissions than the one before.
    fn renew_classes(&self) {
        let Ok(classes) = self.selinux.classes() else { return };
        let mut lowering = self.lowering();
        if lowering.classes == classes {
            return;
        }
        lowering.classes = classes;
        lowering.recent.clear();
        let lowering = std::cell::RefCell::new(lowering);
        self.numbers().lower_again(|blob| lowering.borrow_mut().of(blob));
    }

    fn forget_unused(&self) {
        if self.numbers().has_left()
            && let Some(in_use) = in_use()
        {
            self.numbers().forget_unused(|user| in_use.contains(&user));
        }
    }
}

/// What an earlier runtime left, whether or not it is in force still. A store has it after a reboot, too, when nothing is remembered.
fn left_behind(remembered: &Remembered, source: &PolicySource) -> Numbers {
    let known = match remembered.read() {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(%error, "what an earlier runtime loaded into SELinux is not known, and is replaced");
            return Numbers::default();
        }
    };
    let is_same_base = known.as_ref().is_none_or(|known| known.base == *source.base());
    let took_over = |known: &Known| is_same_base && source.take_over(&known.module, known.loads);
    let is_as_remembered = known.as_ref().is_some_and(took_over);
    // What was about to be loaded may be in the store, and not in force.
    let asks_store = !is_as_remembered && is_same_base && known.as_ref().is_none_or(|known| known.loads != 0);
    let in_store = if asks_store { source.take_stored() } else { None };
    let stands = is_as_remembered || in_store.is_some();
    let Some(module) = in_store.or_else(|| known.map(|known| known.module)) else { return Numbers::default() };
    let Some(rules) = denied_by(&module) else {
        tracing::warn!("rules of an earlier version in SELinux are replaced");
        return Numbers::default();
    };
    let rules: Rules = rules.into_iter().map(|(user, lowered)| (user, Arc::new(lowered))).collect();
    tracing::info!(users = rules.len(), stands, "an earlier runtime left rules in SELinux");
    Numbers::after(rules, stands)
}

/// Users of ours that any process has; `None` where not all processes are to be seen.
fn in_use() -> Option<Vec<UserNumber>> {
    let processes = fs::read_dir("/proc").ok().filter(|_| audit::sees_all_processes())?;
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Some(pids.filter_map(|pid| user_of(pid).ok()?.ok()).collect())
}

/// What is learnt of a process, and its level.
fn label_of(pid: u32) -> (Label, String) {
    match context_of(pid) {
        Ok(context) => {
            let level = level_of(&context).to_owned();
            (UserNumber::of_context(&context).map_or_else(|| Label::Other(context), Label::Ours), level)
        }
        Err(error) => (Label::Unread(error.to_string()), String::new()),
    }
}

/// Of a process, below the unified mount.
fn cgroup_of(pid: u32) -> Option<PathBuf> {
    let text = fs::read(format!("/proc/{pid}/cgroup")).ok()?;
    unified_path(&text).map(|path| OsStr::from_bytes(path).into())
}

/// How many processes run under users of ours, which stay declared for them; `None` where the policy in force has none, or not all processes
/// are to be seen.
/// Of a node that runs they are denied what it denies them: `None`, too.
#[must_use]
pub fn count_in_use() -> Option<usize> {
    if Claim::is_held() {
        return None;
    }
    SeLinux::open().ok().filter(SeLinux::has_our_users).and(in_use()).map(|users| users.len())
}

/// Takes away what a node with this pin root left of rules in SELinux, and the module of a store. While processes run under them the users stay, for
/// a task whose user is gone would have no label.
///
/// # Errors
/// What kept them, or the node that runs with these pins; they deny on then.
pub(crate) fn unload(pin_root: &Path) -> io::Result<()> {
    let remembered = Remembered::of(pin_root);
    let known = remembered.read()?;
    let selinux = match SeLinux::open() {
        Ok(selinux) => selinux,
        // What is in a store is in force again with the next boot that has SELinux.
        Err(reason) if known.as_ref().is_some_and(|known| known.base == Base::Store) => {
            return Err(io::Error::other(format!("the module palisade may be in the store: {reason}")));
        }
        Err(_) => return remembered.forget(),
    };
    // What nobody remembers may be of a node with other pins that does not run at the moment.
    if known.is_none() && (!selinux.has_our_users() || remembered.has_others()) {
        return Ok(());
    }
    let _claim = match Claim::take(pin_root) {
        // Its policy has replaced what was left here.
        Err(ClaimError::Held(other)) if other != pin_root => return remembered.forget(),
        Err(ClaimError::Held(_)) => {
            return Err(io::Error::other(
                "the node with these pins runs and holds containers by SELinux until it stops",
            ));
        }
        claim => claim.map_err(io::Error::other)?,
    };
    let levels = selinux.levels()?;
    let base = known.as_ref().map_or(Base::Store, |known| known.base.clone());
    let source = PolicySource::new(selinux, base);
    // What denies nothing already is not loaded again.
    if let Some(known) = &known {
        source.take_over(&known.module, known.loads);
    }
    if *source.base() == Base::Store {
        take_from_store(&source, known.is_some(), levels)?;
        return remembered.forget();
    }
    if !remembered.has_others() {
        take_from_store_of_before(source.selinux(), levels)?;
    }
    source.load(&module(levels, [])).map_err(io::Error::other)?;
    remembered.forget()
}

/// A node that was told `store` before it was told another base left its module there: the next policy that is made of the store would have it in
/// it.
fn take_from_store_of_before(selinux: &SeLinux, levels: Levels) -> io::Result<()> {
    let source = PolicySource::new(selinux.clone(), Base::Store);
    match source.is_in_store() {
        Ok(true) => take_from_store(&source, true, levels),
        Ok(false) => Ok(()),
        Err(error) => {
            tracing::warn!(%error, "whether the module store has a module of ours is not known");
            Ok(())
        }
    }
}

/// A boot leaves a module there of which nobody knows. What is in it is not asked: an administrator's shell may not be told.
fn take_from_store(source: &PolicySource, is_known: bool, levels: Levels) -> io::Result<()> {
    if !is_known && !source.is_in_store().map_err(io::Error::other)? {
        return Ok(());
    }
    if in_use().is_some_and(|users| users.is_empty()) {
        return source.remove_stored().map_err(io::Error::other);
    }
    source.load(&module(levels, [])).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            numbers::tests::{user, without},
            policy::tests::{BASE, has_secilc},
        },
        *,
    };

    #[test]
    fn unit_selinux_rules_that_are_refused_leave_the_users_declared_and_the_refusal_said() {
        if !has_secilc() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let (root, base) = (directory.path().join("selinuxfs"), directory.path().join("base.cil"));
        fs::create_dir(&root).unwrap();
        for (file, bytes) in [("status", &[0; 16][..]), ("mls", b"0"), ("load", b"")] {
            fs::write(root.join(file), bytes).unwrap();
        }
        fs::write(&base, format!("{BASE} (allow kernel_t self (capability (chown)))")).unwrap();
        let remembered = Remembered::at(directory.path().join("run/selinux"));
        let shared = Shared::idle(&root, &base, remembered, Numbers::default());
        let rules = Rules::from([(user(7), without("kill"))]);
        assert!(!shared.load(&rules), "the base does not know the permission");
        assert!(shared.numbers().is_in_force(&Rules::new()) && !shared.numbers().is_in_force(&rules));
        assert!(shared.numbers().impairment().is_some_and(|reason| reason.contains("secilc failed")));
        assert_eq!(shared.remembered.read().unwrap().unwrap().module, module(Levels::default(), []));
        let loaded = fs::read(root.join("load")).unwrap();
        assert!(loaded.windows(14).any(|bytes| bytes == b"palisade_127_u"), "labels are valid");
    }
}
