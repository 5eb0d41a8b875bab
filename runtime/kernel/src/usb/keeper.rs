//! Who may be used: one look at all devices, and what follows from it.
//!
//! Invariant: while the rules can block, no root hub authorizes anything by itself, so that a device works only after a look has judged it. What
//! the hubs did before is remembered in a file before it is changed, and comes back with [`Keeper::give_back`].
//!
//! Invariant: what was authorized before a policy came stays so, and is told of as unenforceable: a policy must not take the disk from under a
//! host that it is new to. What somebody else had not authorized is left alone.
//!
//! Decision: each look reads the whole tree; an event of the kernel only says that it is time for one. Events are lost when nobody reads, come
//! in another order than the devices, and can be told by others; the tree is what is so.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use palisade_domain::{Action, DeviceClass, DeviceDecision, DeviceRules, UsbDevice, Verdict};
use palisade_world::{BootNanos, DeviceJudged};

use super::{
    memory::Memory,
    tree::{Present, Tree},
};
use crate::sys;

/// What a look found.
#[derive(Debug, Default)]
pub(super) struct Looked {
    pub judged: Vec<DeviceJudged>,
    /// Why the rules are not held.
    pub unheld: Option<String>,
}

/// Whose it is to authorize a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It works, by whoever's word.
    Works,
    /// It came while rules were held, or was taken away by one: ours.
    Ours,
    /// Somebody else did not authorize it.
    Others,
}

#[derive(Debug)]
struct Known {
    number: u32,
    standing: Standing,
    /// It worked before the rules that are held now.
    worked_before: bool,
    /// The last that was told of it: what was to be done, by which rule, and what became of it.
    told: Option<(Action, Option<String>, Verdict)>,
    /// The kernel refused what was to be done: again with the next look.
    unfinished: bool,
    /// And that was said.
    complained: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Keeper {
    tree: Tree,
    file: PathBuf,
    memory: Option<Memory>,
    known: BTreeMap<String, Known>,
    rules: Arc<DeviceRules>,
    /// No look with rules has been before: what works then, worked before them.
    is_first: bool,
}

impl Keeper {
    pub fn new(sysfs: &Path, file: &Path) -> Self {
        Self {
            tree: Tree::new(sysfs),
            file: file.to_path_buf(),
            memory: None,
            known: BTreeMap::new(),
            rules: Arc::default(),
            is_first: true,
        }
    }

    /// Whether something of the kernel is other than it was found.
    pub fn has_taken(&self) -> bool {
        self.memory.is_some()
    }

    /// Judges whoever came since the last look, and everybody anew by rules that are new.
    pub fn look(&mut self, rules: &Arc<DeviceRules>) -> Looked {
        let taken = if rules.deny() { self.take() } else { self.give_back() };
        let mut looked = Looked { unheld: taken.err().map(|error| error.to_string()), judged: Vec::new() };
        let says_else = self.rules.rules != rules.rules || self.rules.posture != rules.posture;
        self.rules = Arc::clone(rules);
        if rules.rules.is_empty() {
            self.known.clear();
            self.is_first = true;
            return looked;
        }
        let present = match self.tree.devices() {
            Ok(present) => present,
            Err(error) => {
                looked.unheld.get_or_insert_with(|| format!("the devices cannot be listed: {error}"));
                return looked;
            }
        };
        let numbers: BTreeMap<&str, u32> = present.iter().map(|one| (one.name.as_str(), one.number)).collect();
        self.known.retain(|name, known| numbers.get(name.as_str()) == Some(&known.number));
        for one in &present {
            let known = match self.known.remove(&one.name) {
                None => self.newcomer(one),
                Some(known) if says_else || known.unfinished => Known {
                    standing: once_more(known.standing, one),
                    worked_before: known.worked_before || (says_else && one.authorized),
                    ..known
                },
                Some(known) => {
                    self.known.insert(one.name.clone(), known);
                    continue;
                }
            };
            self.judge(one, known, &mut looked.judged);
        }
        self.is_first = false;
        looked
    }

    fn newcomer(&self, present: &Present) -> Known {
        let standing = match &self.memory {
            _ if present.authorized => Standing::Works,
            Some(memory) if !memory.left.contains(&(present.name.clone(), present.number)) => Standing::Ours,
            _ => Standing::Others,
        };
        let worked_before = present.authorized && self.is_first;
        Known { number: present.number, standing, worked_before, told: None, unfinished: false, complained: false }
    }

    fn judge(&mut self, present: &Present, mut known: Known, out: &mut Vec<DeviceJudged>) {
        let (device, broken) = match self.tree.read(present) {
            Ok(device) => (device, None),
            // It is gone again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => (nameless(present), Some(format!("what it is cannot be read: {error}"))),
        };
        let decision = if broken.is_some() { of_nameless(&self.rules) } else { self.rules.decide(&device) };
        known.unfinished = false;
        if let Some((verdict, reason)) = self.carry_out(present, &decision, &mut known, broken) {
            let rule = decision.rule.map(|index| self.rules.rules[index].rule.place.clone());
            let told = Some((decision.action, rule, verdict));
            if known.told != told {
                known.told = told;
                let at = BootNanos(u64::try_from(sys::boot_time().as_nanos()).unwrap_or(u64::MAX));
                out.push(DeviceJudged { rules: Arc::clone(&self.rules), device, decision, verdict, reason, at });
            }
        }
        self.known.insert(present.name.clone(), known);
    }

    /// What becomes of it, where that is to be told.
    fn carry_out(
        &self,
        present: &Present,
        decision: &DeviceDecision,
        known: &mut Known,
        broken: Option<String>,
    ) -> Option<(Verdict, Option<String>)> {
        if known.standing == Standing::Others {
            return None;
        }
        if decision.action != Action::Block {
            if known.standing == Standing::Ours && (decision.rule.is_some() || self.authorizes_by_itself(present)) {
                self.authorize(present, known);
            }
            return (decision.action == Action::Audit).then_some((Verdict::Observed, broken));
        }
        if known.standing == Standing::Ours {
            return Some((Verdict::Denied, broken));
        }
        if known.worked_before {
            let reason = "it was authorized before the policy came: it is judged when it is plugged in again";
            return Some((Verdict::Unenforceable, Some(reason.to_owned())));
        }
        Some(match self.tree.authorize(&present.name, false) {
            Ok(()) => {
                known.standing = Standing::Ours;
                let reason = "its root hub had authorized it by itself: it worked until it was judged";
                (Verdict::Denied, Some(reason.to_owned()))
            }
            Err(error) => {
                known.unfinished = true;
                (Verdict::Unenforceable, Some(format!("the kernel goes on with it: {error}")))
            }
        })
    }

    fn authorize(&self, present: &Present, known: &mut Known) {
        match self.tree.authorize(&present.name, true) {
            Ok(()) => known.standing = Standing::Works,
            Err(error) => {
                if !known.complained {
                    tracing::warn!(device = present.name, %error, "a USB device that may be used is not authorized");
                }
                (known.unfinished, known.complained) = (true, true);
            }
        }
    }

    /// What the device's root hub would have done with it.
    fn authorizes_by_itself(&self, present: &Present) -> bool {
        let Some(memory) = &self.memory else { return true };
        match memory.default_of(&hub_of(&present.name)) {
            0 => false,
            2 => self.tree.is_hardwired(&present.name),
            _ => true,
        }
    }

    /// From here on nothing is authorized but by a look.
    fn take(&mut self) -> io::Result<()> {
        let hubs = self.tree.hubs()?;
        let (mut memory, is_begin) = match self.memory.take() {
            Some(memory) => (memory, false),
            None => match Memory::load(&self.file)? {
                Some(memory) => (memory, false),
                None => (self.found()?, true),
            },
        };
        let parameter = self.tree.parameter().ok();
        let mut is_news = is_begin || !self.file.exists();
        memory.parameter = memory.parameter.or(parameter);
        for hub in &hubs {
            if !memory.hubs.contains_key(hub) {
                // One that came since has 0 for its default by our own word to usbcore.
                let found = self.tree.default_of(hub)?;
                let default = if found == 0 && !is_begin { memory.of_new_hub() } else { found };
                memory.hubs.insert(hub.clone(), default);
                is_news = true;
            }
        }
        if is_news {
            memory.save(&self.file)?;
        }
        self.memory = Some(memory);
        if parameter.is_some_and(|value| value != 0) {
            self.tree.set_parameter(0)?;
        }
        for hub in &hubs {
            if self.tree.default_of(hub)? != 0 {
                self.tree.set_default(hub, 0)?;
            }
        }
        Ok(())
    }

    /// As it is before anything was taken.
    fn found(&self) -> io::Result<Memory> {
        let unauthorized = self.tree.devices()?.into_iter().filter(|present| !present.authorized);
        let left = unauthorized.map(|present| (present.name, present.number)).collect();
        Ok(Memory { left, ..Memory::default() })
    }

    /// Everything is as it was found, as far as it is still there; what waits for its authorization gets what its hub would have given.
    pub fn give_back(&mut self) -> io::Result<()> {
        let memory = match self.memory.take() {
            Some(memory) => memory,
            None => match Memory::load(&self.file)? {
                Some(memory) => memory,
                // Of another boot, in which everything is as it was.
                None if self.file.exists() => return fs::remove_file(&self.file),
                None => return Ok(()),
            },
        };
        self.memory = Some(memory.clone());
        let mut result = match memory.parameter {
            Some(value) if self.tree.parameter().is_ok_and(|now| now != value) => self.tree.set_parameter(value),
            _ => Ok(()),
        };
        for hub in self.tree.hubs()? {
            result = result.and(self.tree.set_default(&hub, memory.default_of(&hub)));
        }
        let waits = |present: &Present| {
            let ours = self.known.get(&present.name).is_none_or(|known| known.standing == Standing::Ours);
            !present.authorized && ours && !memory.left.contains(&(present.name.clone(), present.number))
        };
        let waiting: Vec<Present> = self.tree.devices()?.into_iter().filter(waits).collect();
        for present in waiting.iter().filter(|present| self.authorizes_by_itself(present)) {
            // A device that goes away meanwhile wants nothing any more.
            result = result.and(
                self.tree
                    .authorize(&present.name, true)
                    .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }),
            );
        }
        result?;
        fs::remove_file(&self.file)?;
        self.memory = None;
        // What a rule had taken away works now.
        self.known
            .values_mut()
            .filter(|known| known.standing == Standing::Ours)
            .for_each(|known| known.standing = Standing::Works);
        Ok(())
    }
}

/// Of a device that is judged again.
fn once_more(standing: Standing, present: &Present) -> Standing {
    match standing {
        _ if present.authorized => Standing::Works,
        // Somebody took it away that worked.
        Standing::Works => Standing::Others,
        standing => standing,
    }
}

fn hub_of(device: &str) -> String {
    let bus = device.split_once('-').map_or(device, |(bus, _)| bus);
    format!("usb{bus}")
}

fn nameless(present: &Present) -> UsbDevice {
    UsbDevice { name: present.name.clone(), number: present.number, vendor: 0, product: 0, classes: Vec::new() }
}

/// What does not say what it is is used where nothing is blocked, and nowhere else.
fn of_nameless(rules: &DeviceRules) -> DeviceDecision {
    let action = if rules.deny() { Action::Block } else { Action::Audit };
    let class = DeviceClass { class: 0, sub_class: 0, protocol: 0 };
    DeviceDecision { action, rule: None, by_posture: false, class }
}
