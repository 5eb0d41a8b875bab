//! The policy set in force: the pure part.
//!
//! Bounds: ten diagnostics of a file, [`MAX_RULE_BYTES`] of rules in all; a file that is too much beside those before it (by name) is a
//! broken one, without a last sound version.
//!
//! Invariant: the set in force is made of sound files only. A file that is not sound, or cannot be read, counts with its last sound
//! version, if there was one, and is named; a file that is gone counts no more. A generation is given out only for a set that differs from the one before it, so that a
//! rewritten comment reaches no kernel. A panic over one file, or over one file beside the others, makes that file a broken one like any
//! other; one that no single file is to blame for leaves the set of before, and is said.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use palisade_domain::Generation;
use palisade_policy::{Diagnostic, PolicyFile, PolicySet, Severity, ir::Postures};
use palisade_protocol::{Condition, PolicySetChanged, PolicySetStatus};
use palisade_world::PolicyReading;

/// What one reading led to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// A new set is in force.
    pub changed: Option<PolicySetChanged>,
    /// Diagnostics that were not there after the reading before, to be said once.
    pub news: Vec<Diagnostic>,
    /// Files with new sound versions, to be kept for a process after this one.
    pub to_keep: Vec<palisade_world::PolicyFile>,
    /// Files that are gone, to be forgotten.
    pub to_forget: Vec<String>,
}

/// A file as it was last read, and as it counts.
#[derive(Debug)]
struct Held {
    /// None where it could not be read.
    content: Option<Arc<[u8]>>,
    current: PolicyFile,
    sound: Option<PolicyFile>,
    /// What the sound version was read from.
    sound_content: Option<Arc<[u8]>>,
}

/// Diagnostics of one file that are kept: 10,000 files with so many take some 50 MB, and nobody reads more of one in a status.
const SAID: usize = 10;

/// Most bytes that the rules of all files take together: twice what one file may, room for 200,000 ordinary rules.
pub const MAX_RULE_BYTES: usize = 128 << 20;

/// Files that a condition names; the status names them all.
const NAMED: usize = 8;

/// Reads one file.
type Parse = fn(&str, &[u8]) -> PolicyFile;

/// Puts files together.
type Assemble = fn(&[&PolicyFile]) -> (PolicySet, Vec<Diagnostic>);

/// The set in force and what it was made of.
#[derive(Debug)]
pub struct State {
    parse: Parse,
    assemble: Assemble,
    files: BTreeMap<String, Arc<Held>>,
    in_force: Option<(Generation, Arc<PolicySet>)>,
    postures: Postures,
    status: PolicySetStatus,
}

impl Default for State {
    /// Nothing read yet.
    fn default() -> Self {
        let assemble: Assemble = |files| PolicySet::assemble(files.iter().copied());
        let (files, status, postures) = (BTreeMap::new(), PolicySetStatus::default(), Postures::default());
        Self { parse: PolicyFile::parse, assemble, files, in_force: None, postures, status }
    }
}

impl State {
    #[cfg(test)]
    pub(crate) fn parsing(parse: fn(&str, &[u8]) -> PolicyFile) -> Self {
        Self { parse, ..Self::default() }
    }

    #[cfg(test)]
    pub(crate) fn assembling(assemble: fn(&[&PolicyFile]) -> (PolicySet, Vec<Diagnostic>)) -> Self {
        Self { assemble, ..Self::default() }
    }

    /// Nothing read yet, with these global postures.
    #[must_use]
    pub fn with_postures(postures: Postures) -> Self {
        Self { postures, ..Self::default() }
    }

    /// The first set has a number after this one, which a process before this one gave.
    #[must_use]
    pub fn after(mut self, last: Generation) -> Self {
        self.status.generation = last;
        self
    }

    /// The set in force; `None` before the first reading.
    #[must_use]
    pub fn in_force(&self) -> Option<PolicySetChanged> {
        self.in_force.as_ref().map(|(generation, set)| PolicySetChanged {
            generation: *generation,
            set: Arc::clone(set),
            postures: self.postures,
        })
    }

    /// Other global postures: the same policies in a new generation, so that an alert says by which postures it was decided.
    pub fn set_postures(&mut self, postures: Postures) -> Option<PolicySetChanged> {
        if std::mem::replace(&mut self.postures, postures) == postures {
            return None;
        }
        let (generation, _) = self.in_force.as_mut()?;
        generation.0 += 1;
        self.status.generation = *generation;
        self.in_force()
    }

    /// The files that the set in force is made of, by name: what is read again makes the same set.
    #[must_use]
    pub fn documents(&self) -> Arc<[(String, Arc<[u8]>)]> {
        let sound = self.files.iter().filter(|(_, held)| held.sound.is_some());
        sound.filter_map(|(name, held)| Some((name.clone(), held.sound_content.clone()?))).collect()
    }

    /// What is in force and what is wrong.
    #[must_use]
    pub fn status(&self) -> &PolicySetStatus {
        &self.status
    }

    /// The same as a condition of the node.
    #[must_use]
    pub fn condition(&self) -> Condition {
        let refusing: Vec<&str> = self.refusing().collect();
        let refused = refusing.len();
        match (&self.status.unreadable, refused) {
            (Some(reason), _) if self.in_force.is_none() => Condition::Failed(reason.clone()),
            (Some(reason), _) => {
                Condition::Degraded(format!("{reason}; generation {} stays in force", self.status.generation))
            }
            (None, _) if self.in_force.is_none() => Condition::Pending("the policy directory is not read yet".into()),
            (None, 0) => Condition::Good,
            (None, refused) => Condition::Degraded(format!(
                "{refused} problems in policy files ({}); last good versions stay in force of: {}",
                named(refusing),
                named(self.status.held_back.iter().map(String::as_str).collect())
            )),
        }
    }

    /// The file of each problem that keeps a document out, in order of the files.
    fn refusing(&self) -> impl Iterator<Item = &str> {
        self.status.diagnostics.iter().filter(|found| found.severity.refuses()).map(|found| found.file.as_str())
    }

    /// The directory could not be read: everything stays. Whether that is news.
    pub fn unreadable(&mut self, reason: String) -> bool {
        let before = self.status.unreadable.replace(reason);
        before != self.status.unreadable
    }

    /// The last sound versions that a process before this one kept; of no account once a reading was taken.
    pub fn recall(&mut self, kept: Vec<palisade_world::PolicyFile>) {
        if self.in_force.is_some() {
            return;
        }
        for palisade_world::PolicyFile { name, content } in kept {
            let parse = self.parse;
            let parsed = parsed_by(parse, &name, &content);
            if parsed.is_sound() {
                // Without its content: whatever the directory has by now is read.
                let sound_content = Some(Arc::from(content));
                let held = Held { content: None, current: parsed.clone(), sound: Some(parsed), sound_content };
                self.files.insert(name, Arc::new(held));
            }
        }
    }

    /// A reading of the whole directory.
    pub fn read(&mut self, reading: PolicyReading) -> Outcome {
        let mut files: BTreeMap<String, Arc<Held>> = BTreeMap::new();
        let mut rule_bytes = 0;
        // One after the other: no more than one file is held beyond the bound while it is read.
        for file in reading.files {
            let held = hold(self.parse, &file.name, file.content, self.files.get(&file.name));
            files.insert(file.name.clone(), within(&mut rule_bytes, &file.name, held));
        }
        for file in reading.unreadable {
            let held = unreadable(&file, self.files.get(&file.name));
            files.insert(file.name.clone(), within(&mut rule_bytes, &file.name, held));
        }
        let before = std::mem::take(&mut self.status.diagnostics);
        self.status.unreadable = None;
        let last = std::mem::replace(&mut self.files, files);
        let (set, duplicates) = self.assembled(&last).map_or_else(Default::default, |(set, found)| (Some(set), found));
        self.status.held_back = self
            .files
            .iter()
            .filter(|(_, kept)| kept.sound.is_some() && !kept.current.is_sound())
            .map(|(name, _)| name.clone())
            .collect();
        let found = self.files.values().flat_map(|kept| kept.current.diagnostics.iter().cloned()).chain(duplicates);
        self.status.diagnostics = found.collect();
        let before: BTreeSet<Diagnostic> = before.into_iter().collect();
        let news = self.status.diagnostics.iter().filter(|found| !before.contains(found)).cloned().collect();
        let to_keep = self.files.iter().filter_map(|(name, held)| newly_sound(name, held, last.get(name))).collect();
        let to_forget = last.into_keys().filter(|name| !self.files.contains_key(name)).collect();
        Outcome { changed: set.and_then(|set| self.put_in_force(set)), news, to_keep, to_forget }
    }

    /// The set of all sound files; nothing where they cannot be put together whatever is left out.
    ///
    /// Where they cannot be put together all at once, they are added one by one, and one over which that fails counts as broken from now
    /// on: with its version of `before`, if that one can be put together. This takes a step for each file and is for faults of ours only.
    fn assembled(&mut self, before: &BTreeMap<String, Arc<Held>>) -> Option<(PolicySet, Vec<Diagnostic>)> {
        let assemble = self.assemble;
        let together = |files: &[&PolicyFile]| {
            // It changes nothing but what it makes. What the panic said is in the log already.
            catch_unwind(AssertUnwindSafe(|| assemble(files))).ok()
        };
        let whole = together(&self.files.values().filter_map(|held| held.sound.as_ref()).collect::<Vec<_>>());
        if whole.is_some() {
            return whole;
        }
        let mut kept: Vec<PolicyFile> = Vec::new();
        let mut holds = |file: &PolicyFile| {
            kept.push(file.clone());
            let holds = together(&kept.iter().collect::<Vec<_>>()).is_some();
            if !holds {
                kept.pop();
            }
            holds
        };
        for (name, held) in &mut self.files {
            if held.sound.as_ref().is_none_or(&mut holds) {
                continue;
            }
            let before = before.get(name);
            let last_good = before.and_then(|before| before.sound.clone()).filter(&mut holds);
            let sound_content = before.and_then(|before| before.sound_content.clone()).filter(|_| last_good.is_some());
            let content = held.content.clone();
            *held = Arc::new(Held { content, current: stumbled_over(name), sound: last_good, sound_content });
        }
        together(&kept.iter().collect::<Vec<_>>())
    }

    fn put_in_force(&mut self, set: PolicySet) -> Option<PolicySetChanged> {
        let generation = match &self.in_force {
            Some((_, in_force)) if **in_force == set => return None,
            _ => Generation(self.status.generation.0 + 1),
        };
        self.status.generation = generation;
        self.status.policies = set.iter().map(|policy| policy.reference.to_string()).collect();
        self.in_force = Some((generation, Arc::new(set)));
        self.in_force()
    }
}

/// A version that is sound, and was not read before.
fn newly_sound(name: &str, held: &Arc<Held>, before: Option<&Arc<Held>>) -> Option<palisade_world::PolicyFile> {
    let is_new = before.is_none_or(|before| !Arc::ptr_eq(before, held)) && held.current.is_sound();
    let content = held.content.clone().filter(|_| is_new)?;
    Some(palisade_world::PolicyFile { name: name.to_owned(), content: content.to_vec() })
}

/// Reads a file unless its bytes are those of before.
fn hold(parse: Parse, name: &str, content: Vec<u8>, before: Option<&Arc<Held>>) -> Arc<Held> {
    if let Some(before) = before
        && before.content.as_deref() == Some(&content[..])
    {
        return Arc::clone(before);
    }
    let current = parsed_by(parse, name, &content);
    let content: Arc<[u8]> = Arc::from(content);
    let last_good = || before.map(|before| (before.sound.clone(), before.sound_content.clone())).unwrap_or_default();
    let (sound, sound_content) =
        if current.is_sound() { (Some(current.clone()), Some(Arc::clone(&content))) } else { last_good() };
    Arc::new(Held { content: Some(content), current, sound, sound_content })
}

/// The file as it is held beside those before it: a broken one where its rules are too much for all of them.
fn within(rule_bytes: &mut usize, name: &str, held: Arc<Held>) -> Arc<Held> {
    let more = held.sound.as_ref().map_or(0, |sound| sound.rule_bytes);
    if more == 0 || *rule_bytes + more <= MAX_RULE_BYTES {
        *rule_bytes += more;
        return held;
    }
    let why = format!(
        "its rules take {more} bytes, those of the files before it {rule_bytes}, and all together at most {MAX_RULE_BYTES}"
    );
    let current = broken(name, why, "shorten messages and tags that many rules inherit, or remove files".into());
    // Without its content, so that it is read again when there may be room.
    Arc::new(Held { content: None, current, sound: None, sound_content: None })
}

fn parsed_by(parse: Parse, name: &str, content: &[u8]) -> PolicyFile {
    shortened(catch_unwind(|| parse(name, content)).unwrap_or_else(|_| stumbled_over(name)))
}

/// Without the least of its diagnostics past [`SAID`]: those of all files together are bound by it.
fn shortened(mut file: PolicyFile) -> PolicyFile {
    if file.diagnostics.len() <= SAID {
        return file;
    }
    file.diagnostics.sort_by_key(|found| Reverse(found.severity));
    let rest = file.diagnostics.split_off(SAID);
    file.diagnostics.sort_by_key(|found| (found.line, found.column));
    file.diagnostics.extend(rest.first().map(|worst| Diagnostic {
        what: format!("{} more problems at least", rest.len()),
        why: format!("a node keeps {SAID} of a file, the worst"),
        instead: "run `palisade policy validate`, which lists more".into(),
        ..worst.clone()
    }));
    file.diagnostics.shrink_to_fit();
    file
}

/// A file that is there and cannot be read is broken like any other: its last sound version counts.
fn unreadable(file: &palisade_world::UnreadableFile, before: Option<&Arc<Held>>) -> Arc<Held> {
    let instead = "make it readable, or take it out of the policy directory";
    let current = broken(&file.name, file.reason.clone(), instead.into());
    let sound_content = before.and_then(|before| before.sound_content.clone());
    Arc::new(Held { content: None, current, sound: before.and_then(|before| before.sound.clone()), sound_content })
}

/// A few names, each once, and how many more there are: a condition is a line.
fn named(mut names: Vec<&str>) -> String {
    names.dedup();
    match names.as_slice() {
        [] => "none".into(),
        few if few.len() <= NAMED => few.join(", "),
        many => format!("{} and {} more", many[..NAMED].join(", "), many.len() - NAMED),
    }
}

/// A file that the parser panicked over is broken like any other: left to the supervisor, it would be read again at each restart, until
/// the restarts of the whole node are used up. What the panic said is in the log already.
fn stumbled_over(name: &str) -> PolicyFile {
    let why = "its parser failed over it, which is a fault of palisade";
    broken(name, why.into(), "report it with the file and the log, and leave out what was added last".into())
}

fn broken(name: &str, why: String, instead: String) -> PolicyFile {
    let found = Diagnostic {
        file: name.to_owned(),
        line: 1,
        column: 1,
        severity: Severity::Error,
        what: "the file cannot be read".into(),
        why,
        instead,
    };
    PolicyFile {
        name: name.into(),
        policies: Vec::new(),
        namespaces: Vec::new(),
        diagnostics: vec![found],
        rule_bytes: 0,
    }
}
