//! The state alone: readings in, sets out.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::{Actor, Handler};
use palisade_domain::Generation;
use palisade_policy::ir::Postures;
use palisade_protocol::{Condition, ConditionReported, PolicySetChanged};
use palisade_supervision::{ChildSpec, Context, Kept, Overflow, Supervisor};
use palisade_world::{PolicyDirectory, PolicyDirectoryError, PolicyFile, PolicyReading, UnreadableFile};

use crate::{PolicyKeeper, Wiring, state::State};

fn policy(name: &str, path: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: {name}, namespace: default}}\n\
         spec:\n  selector: {{matchLabels: {{app: web}}}}\n  process: {{matchPaths: [{{path: {path}}}]}}\n  action: Block\n"
    )
}

fn reading(files: &[(&str, &str)]) -> PolicyReading {
    let file = |(name, text): &(&str, &str)| PolicyFile { name: (*name).into(), content: text.as_bytes().to_vec() };
    PolicyReading { files: files.iter().map(file).collect(), unreadable: Vec::new() }
}

fn generation(state: &State) -> Option<Generation> {
    state.in_force().map(|changed| changed.generation)
}

#[test]
fn unit_policy_keeper_gives_a_generation_for_each_set_that_differs() {
    let mut state = State::default();
    assert!(state.read(reading(&[])).changed.is_some(), "no policies is a set as well");
    assert!(state.read(reading(&[("a.yaml", &policy("one", "/bin/x"))])).changed.is_some());
    let commented = format!("# why\n{}", policy("one", "/bin/x"));
    state.read(reading(&[("a.yaml", &commented)]));
    assert!(state.read(reading(&[("a.yaml", &commented)])).changed.is_none());
    let changed = state.read(reading(&[("a.yaml", &policy("one", "/bin/y"))])).changed.expect("it differs");
    assert_eq!(changed.set.len(), 1);
}

#[test]
fn unit_policy_keeper_numbers_its_sets_after_those_of_the_process_before_it() {
    let mut state = State::default().after(Generation(7));
    assert_eq!(generation(&state), None, "nothing is in force before the first reading");
    state.read(reading(&[("a.yaml", &policy("one", "/bin/x"))]));
    assert_eq!(generation(&state), Some(Generation(8)));
    state.read(reading(&[("a.yaml", &policy("one", "/bin/y"))]));
    assert_eq!(generation(&state), Some(Generation(9)));
}

#[test]
fn unit_policy_keeper_keeps_the_last_good_version_of_a_broken_file_and_says_so() {
    let mut state = State::default();
    state.read(reading(&[("a.yaml", &policy("one", "/bin/x")), ("b.yaml", &policy("two", "/bin/y"))]));
    let good = generation(&state);
    let outcome = state.read(reading(&[("a.yaml", &policy("one", "relative")), ("b.yaml", &policy("two", "/bin/y"))]));
    assert!(outcome.changed.is_none());
    assert_eq!(generation(&state), good);
    assert_eq!(state.status().held_back, ["a.yaml"]);
    assert!(outcome.news.iter().any(|found| found.to_string().starts_with("a.yaml:")), "{:?}", outcome.news);
    assert!(matches!(state.condition(), Condition::Degraded(reason) if reason.contains("a.yaml")));
    let again = state.read(reading(&[("a.yaml", &policy("one", "relative")), ("b.yaml", &policy("two", "/bin/y"))]));
    assert!(again.news.is_empty(), "said once");
    let mended = state.read(reading(&[("a.yaml", &policy("one", "/bin/z")), ("b.yaml", &policy("two", "/bin/y"))]));
    assert!(mended.changed.is_some());
    assert_eq!(state.condition(), Condition::Good);
}

#[test]
fn unit_policy_keeper_tells_the_text_that_the_set_in_force_was_read_from() {
    let mut state = State::default();
    let (one, two) = (policy("one", "/bin/x"), policy("two", "/bin/y"));
    state.read(reading(&[("a.yaml", &one), ("b.yaml", &two)]));
    state.read(reading(&[("a.yaml", "broken: ["), ("b.yaml", &two), ("c.yaml", ": {")]));
    let told = state.documents();
    let told: Vec<(&str, &[u8])> = told.iter().map(|(name, content)| (name.as_str(), &content[..])).collect();
    assert_eq!(told, [("a.yaml", one.as_bytes()), ("b.yaml", two.as_bytes())]);
    let again = palisade_policy::PolicySet::parse(told).expect("sound");
    assert_eq!(again, *state.in_force().expect("in force").set);
}

#[test]
fn unit_policy_keeper_new_file_that_is_broken_takes_nothing_else_down() {
    let mut state = State::default();
    state.read(reading(&[("a.yaml", &policy("one", "/bin/x")), ("b.yaml", ": {")]));
    assert_eq!(state.status().policies.len(), 1);
    assert!(state.status().held_back.is_empty(), "it never had a good version");
    assert!(matches!(state.condition(), Condition::Degraded(_)));
}

#[test]
fn unit_policy_keeper_removed_file_takes_its_policies_away_even_if_it_was_broken() {
    let mut state = State::default();
    state.read(reading(&[("a.yaml", &policy("one", "/bin/x"))]));
    state.read(reading(&[("a.yaml", "broken: [")]));
    assert_eq!(state.status().policies.len(), 1);
    let changed = state.read(reading(&[])).changed.expect("it is gone");
    assert!(changed.set.is_empty());
}

#[test]
fn unit_policy_keeper_unreadable_directory_keeps_what_is_in_force() {
    let mut state = State::default();
    assert!(matches!(state.condition(), Condition::Pending(_)), "nothing was read");
    assert!(state.unreadable("gone".into()));
    assert!(matches!(state.condition(), Condition::Failed(_)), "nothing was ever in force");
    state.read(reading(&[("a.yaml", &policy("one", "/bin/x"))]));
    state.unreadable("gone".into());
    assert!(matches!(state.condition(), Condition::Degraded(reason) if reason.contains("stays in force")));
    assert_eq!(state.status().policies.len(), 1);
}

fn but(mut reading: PolicyReading, name: &str, reason: &str) -> PolicyReading {
    reading.unreadable.push(UnreadableFile { name: name.into(), reason: reason.into() });
    reading
}

#[test]
fn unit_policy_keeper_file_that_cannot_be_read_keeps_its_last_good_version_and_stops_no_other() {
    let mut state = State::default();
    let dangles = "No such file or directory";
    let first = state.read(but(reading(&[("b.yaml", &policy("two", "/bin/y"))]), "a.yaml", dangles));
    assert_eq!(first.changed.expect("all others are in force from the first reading on").set.len(), 1);
    assert!(
        matches!(state.condition(), Condition::Degraded(reason) if reason.contains("a.yaml")),
        "named though it never was good"
    );
    assert_eq!(first.news[0].why, dangles);

    state.read(reading(&[("a.yaml", &policy("one", "/bin/x")), ("b.yaml", &policy("two", "/bin/y"))]));
    assert_eq!(state.condition(), Condition::Good);
    let again = state.read(but(reading(&[("b.yaml", &policy("two", "/bin/z"))]), "a.yaml", dangles));
    assert_eq!(again.changed.expect("the other file changed").set.len(), 2, "and the last good version of this one");
    assert_eq!(state.status().held_back, ["a.yaml"]);
    assert!(matches!(state.condition(), Condition::Degraded(_)));
    state.read(reading(&[("a.yaml", &policy("one", "/bin/x")), ("b.yaml", &policy("two", "/bin/z"))]));
    assert_eq!(state.condition(), Condition::Good, "the very content of before is read anew");
}

#[test]
fn unit_policy_keeper_condition_names_a_few_of_many_broken_files() {
    let mut state = State::default();
    let names: Vec<String> = (0..20).map(|number| format!("{number:02}.yaml")).collect();
    state.read(reading(&names.iter().map(|name| (name.as_str(), ": {")).collect::<Vec<_>>()));
    let Condition::Degraded(reason) = state.condition() else { panic!("{:?}", state.condition()) };
    assert!(reason.contains("00.yaml, 01.yaml") && reason.contains("07.yaml and 12 more"), "{reason}");
}

/// A directory whose writer truncates a file before it writes it.
struct BeingWritten {
    /// What each look finds, the last for ever.
    versions: Vec<String>,
    read: Option<String>,
    noticed: Option<String>,
}

impl BeingWritten {
    fn now(&mut self) -> String {
        if self.versions.len() > 1 { self.versions.remove(0) } else { self.versions[0].clone() }
    }
}

impl PolicyDirectory for BeingWritten {
    fn read(&mut self) -> Result<PolicyReading, PolicyDirectoryError> {
        let now = self.noticed.clone().expect("looked at before");
        self.read = Some(now.clone());
        Ok(reading(&[("a.yaml", &now)]))
    }
    fn changed(&mut self) -> bool {
        self.noticed = Some(self.now());
        self.noticed != self.read
    }
    fn settled(&mut self) -> bool {
        let now = Some(self.now());
        std::mem::replace(&mut self.noticed, now) == self.noticed
    }
}

#[derive(Default)]
struct Listener(Arc<Mutex<Vec<(Generation, usize)>>>);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<PolicySetChanged> for Listener {
    type Result = ();
    fn handle(&mut self, message: PolicySetChanged, _: &mut Self::Context) {
        self.0.lock().expect("whole").push((message.generation, message.set.len()));
    }
}

impl Handler<ConditionReported> for Listener {
    type Result = ();
    fn handle(&mut self, _: ConditionReported, _: &mut Self::Context) {}
}

/// What a keeper of these versions says in ten seconds, from this state on.
fn said(versions: &[&str], state: &Kept<State>) -> Vec<(Generation, usize)> {
    let heard = Arc::<Mutex<Vec<(Generation, usize)>>>::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("made");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut node = Supervisor::new("node");
        let hears = Arc::clone(&heard);
        let listener = node.add(ChildSpec::new("listener", move |_| Listener(Arc::clone(&hears))));
        let wiring = Wiring {
            sets: listener.outbox(Overflow::Refuse),
            documents: Vec::new(),
            conditions: listener.outbox(Overflow::Refuse),
            interval: Duration::from_millis(250),
        };
        let (versions, state) = (versions.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), state.clone());
        let keeper = ChildSpec::new("keeper", move |_| {
            let directory = BeingWritten { versions: versions.clone(), read: None, noticed: None };
            PolicyKeeper::new(Box::new(directory), wiring.clone(), state.clone())
        });
        let tree = node.child(keeper).start(|gave_up| panic!("{gave_up}")).await.expect("started");
        tokio::time::sleep(Duration::from_secs(10)).await;
        tree.stop().await;
    });
    heard.lock().expect("whole").clone()
}

#[test]
fn unit_policy_keeper_file_that_is_being_written_takes_nothing_out_of_force() {
    let whole = policy("one", "/bin/x");
    let state = Kept::new(State::default());
    // Found empty, then in part (a sound part), then whole.
    let written = ["", "", "# half", &whole];
    assert_eq!(said(&written[2..], &state), [(Generation(1), 1)]);
    assert_eq!(said(&[&whole, &whole, "", &whole], &state)[..1], [(Generation(1), 1)], "said again after a restart");
    assert_eq!(state.lock().status().generation, Generation(1), "no set without the policy was ever made");
}

#[test]
fn unit_policy_keeper_last_good_version_and_generation_outlive_the_actor() {
    let state = Kept::new(State::default());
    assert_eq!(said(&[&policy("one", "/bin/x")], &state), [(Generation(1), 1)]);
    assert_eq!(said(&["broken: ["], &state), [(Generation(1), 1)], "the good version, by its number");
    assert_eq!(state.lock().status().held_back, ["a.yaml"]);
    assert_eq!(said(&[&policy("one", "/bin/y")], &state), [(Generation(1), 1), (Generation(2), 1)]);
}

#[test]
fn unit_policy_keeper_says_once_that_the_directory_cannot_be_read() {
    let mut state = State::default();
    assert!(state.unreadable("gone".into()));
    assert!(!state.unreadable("gone".into()));
    assert!(state.unreadable("no permission".into()));
    state.read(reading(&[]));
    assert!(state.unreadable("gone".into()), "again, after it was there");
}

#[test]
fn unit_policy_keeper_file_that_its_parser_fails_over_is_broken_like_any_other() {
    let mut state = State::parsing(|name, bytes| {
        if bytes.starts_with(b"#!") {
            std::panic::resume_unwind(Box::new("a fault of the parser"));
        }
        palisade_policy::PolicyFile::parse(name, bytes)
    });
    state.read(reading(&[("a.yaml", &policy("one", "/bin/x"))]));
    let outcome = state.read(reading(&[("a.yaml", "#!"), ("b.yaml", &policy("two", "/bin/y"))]));
    assert!(outcome.news[0].to_string().starts_with("a.yaml:1:1: the file cannot be read"), "{:?}", outcome.news);
    assert_eq!(state.status().held_back, ["a.yaml"]);
    assert_eq!(state.status().policies.len(), 2, "its last good version, and all others");
}

#[test]
fn unit_policy_keeper_file_that_no_set_can_be_made_with_is_broken_like_any_other() {
    // A stand-in for a fault that shows itself only where files are put together.
    let mut state = State::assembling(|files| {
        if files.iter().flat_map(|file| &file.policies).any(|policy| policy.reference.name == "poison") {
            std::panic::resume_unwind(Box::new("a fault of the set"));
        }
        palisade_policy::PolicySet::assemble(files.iter().copied())
    });
    state.read(reading(&[("a.yaml", &policy("one", "/bin/x")), ("b.yaml", &policy("two", "/bin/y"))]));
    let poisoned = policy("poison", "/bin/z");
    let files =
        [("a.yaml", poisoned.as_str()), ("b.yaml", &policy("three", "/bin/y")), ("c.yaml", &policy("four", "/bin/y"))];
    let outcome = state.read(reading(&files));
    let names: Vec<String> =
        outcome.changed.expect("others changed").set.iter().map(|p| p.reference.name.clone()).collect();
    assert_eq!(names, ["four", "one", "three"], "its last good version, and what changed of all others");
    assert_eq!(state.status().held_back, ["a.yaml"]);
    assert!(outcome.news[0].to_string().starts_with("a.yaml:1:1: the file cannot be read"), "{:?}", outcome.news);
    assert!(state.read(reading(&files)).changed.is_none(), "the same bytes again are the same again");
    let fresh = [("a.yaml", poisoned.as_str()), ("b.yaml", &policy("three", "/bin/y")), ("d.yaml", poisoned.as_str())];
    let outcome = state.read(reading(&fresh));
    assert_eq!(outcome.changed.expect("c is gone").set.len(), 2, "a new file has no version that counts");
    assert!(matches!(state.condition(), Condition::Degraded(_)));
}

#[test]
fn unit_policy_keeper_keeps_the_set_in_force_where_no_set_can_be_made_at_all() {
    let mut state = State::assembling(|files| {
        if files.iter().any(|file| &*file.name == "a.yaml") || files.is_empty() {
            std::panic::resume_unwind(Box::new("a fault of the set"));
        }
        palisade_policy::PolicySet::assemble(files.iter().copied())
    });
    state.read(reading(&[("b.yaml", &policy("two", "/bin/y"))]));
    let outcome = state.read(reading(&[("a.yaml", &policy("one", "/bin/x"))]));
    assert!(outcome.changed.is_none());
    assert_eq!(state.in_force().map(|changed| changed.set.len()), Some(1));
    assert!(!outcome.news.is_empty());
}

#[test]
fn unit_policy_keeper_gives_other_postures_a_generation_of_their_own_and_keeps_them() {
    let strict = Postures { file: palisade_domain::Posture::Block, ..Postures::default() };
    let mut state = State::default();
    assert!(state.set_postures(strict).is_none(), "nothing is in force yet");
    let first = state.read(reading(&[("a.yaml", &policy("one", "/bin/x"))])).changed.expect("it differs");
    assert_eq!(first.postures, strict);
    assert!(state.set_postures(strict).is_none(), "nothing new");
    let changed = state.set_postures(Postures::default()).expect("other postures");
    assert_eq!((changed.generation.0, changed.set == first.set), (first.generation.0 + 1, true));
    assert_eq!(state.status().generation, changed.generation);
    let next = state.read(reading(&[("a.yaml", &policy("one", "/bin/y"))])).changed.expect("it differs");
    assert_eq!((next.generation.0, next.postures), (changed.generation.0 + 1, Postures::default()));
}

#[test]
fn unit_policy_keeper_keeps_new_sound_versions_and_forgets_files_that_are_gone() {
    let mut state = State::default();
    let (one, two) = (policy("one", "/bin/x"), policy("two", "/bin/y"));
    let names = |files: &[PolicyFile]| files.iter().map(|file| file.name.clone()).collect::<Vec<_>>();
    let first = state.read(reading(&[("a.yaml", &one), ("b.yaml", &two), ("c.yaml", "kind: [")]));
    assert_eq!(names(&first.to_keep), ["a.yaml", "b.yaml"], "what is broken is not kept");
    let same = state.read(reading(&[("a.yaml", &one), ("b.yaml", &two), ("c.yaml", "kind: [")]));
    assert!(same.to_keep.is_empty() && same.to_forget.is_empty());
    let changed = state.read(reading(&[("a.yaml", "kind: ["), ("b.yaml", &policy("two", "/bin/z"))]));
    assert_eq!(names(&changed.to_keep), ["b.yaml"]);
    assert_eq!(changed.to_forget, ["c.yaml"]);
}

#[test]
fn unit_policy_keeper_holds_a_broken_file_to_the_version_that_a_process_before_kept() {
    let kept = |name: &str, text: &str| PolicyFile { name: name.into(), content: text.as_bytes().to_vec() };
    let mut state = State::default();
    state.recall(vec![
        kept("a.yaml", &policy("one", "/bin/x")),
        kept("b.yaml", &policy("two", "/bin/y")),
        kept("gone.yaml", &policy("gone", "/bin/z")),
        kept("d.yaml", "kind: ["),
    ]);
    assert!(state.in_force().is_none(), "nothing is in force before the directory is read");
    let outcome =
        state.read(reading(&[("a.yaml", "kind: ["), ("b.yaml", &policy("three", "/bin/y")), ("d.yaml", "kind: [")]));
    let changed = outcome.changed.expect("the first set");
    let names: Vec<String> = changed.set.iter().map(|policy| policy.reference.name.clone()).collect();
    assert_eq!(names, ["one", "three"], "its last good version, what the directory has now, and nothing that is gone");
    assert_eq!(state.status().held_back, ["a.yaml"]);
    assert_eq!(outcome.to_forget, ["gone.yaml"]);
    state.recall(vec![kept("late.yaml", &policy("late", "/bin/x"))]);
    let names: Vec<String> =
        state.in_force().expect("it stays").set.iter().map(|policy| policy.reference.name.clone()).collect();
    assert_eq!(names, ["one", "three"]);
}

#[test]
fn unit_policy_keeper_keeps_few_diagnostics_of_a_file_and_the_worst_of_them() {
    let items = |count: usize, item: &str| vec![item; count].join(", ");
    // Warnings first, and what refuses the file last.
    let paths = items(300, "{path: /a*}") + ", {path: relative}";
    let text = policy("one", "/bin/x").replace("[{path: /bin/x}]", &format!("[{paths}]"));
    let mut state = State::default();
    let outcome = state.read(reading(&[("a.yaml", &text)]));
    let said: Vec<String> = state.status().diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 11, "{said:?}");
    assert!(said.iter().any(|line| line.contains("`relative`")), "{said:?}");
    assert!(said[10].contains("291 more problems at least"), "{said:?}");
    assert_eq!(state.status().policies, Vec::<String>::new(), "it is refused all the same");
    assert_eq!(outcome.news.len(), 11);
    assert!(state.read(reading(&[("a.yaml", &(text.clone() + "# more\n"))])).news.is_empty(), "nothing is new");
}

#[test]
fn unit_policy_keeper_tells_what_is_new_of_many_problems_without_comparing_each_with_each() {
    let files: Vec<(String, String)> =
        (0..4_000).map(|number| (format!("{number}.yaml"), items_of(number, "{path: /a*}"))).collect();
    let borrowed: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let mut state = State::default();
    assert_eq!(state.read(reading(&borrowed)).news.len(), 40_000);
    let mut changed = borrowed.clone();
    let other = items_of(7, "{path: relative}");
    changed[7].1 = &other;
    let took = took(|| assert_eq!(state.read(reading(&changed)).news.len(), 10));
    assert!(took < Duration::from_secs(10), "{took:?}: 1.6 thousand million comparisons take longer");
}

fn items_of(number: usize, item: &str) -> String {
    policy(&format!("p{number}"), "/bin/x").replace("[{path: /bin/x}]", &format!("[{}]", [item; 10].join(", ")))
}

/// Processor time of this thread.
fn took(work: impl FnOnce()) -> Duration {
    let now = || {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
        Duration::from_nanos(stat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number"))
    };
    let begun = now();
    work();
    now() - begun
}

#[test]
fn unit_policy_keeper_bounds_what_the_rules_of_all_files_take_and_names_the_file_that_is_too_much() {
    // Some 60 MB of rules from 30 KB of text: each rule has the message that it inherits.
    let large = |name: &str| {
        let items = ["{protocol: \"tcp,udp,raw,icmp,icmpv6,sctp,stream,dgram,rdm,seqpacket\"}"; 140].join(", ");
        let document = |number: usize| {
            format!(
                "---\napiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: {name}-{number}}}\nspec:\n  selector: {{}}\n  \
                 message: {}\n  network: {{matchProtocols: [{items}]}}\n",
                "x".repeat(4_000)
            )
        };
        (0..10).map(document).collect::<String>()
    };
    let texts = ["a", "b", "c"].map(large);
    let names = ["a.yaml", "b.yaml", "c.yaml"];
    let files: Vec<(&str, &str)> = names.into_iter().zip(texts.iter().map(String::as_str)).collect();
    let mut state = State::default();
    let small = policy("small", "/bin/x");
    state.read(reading(&[files.as_slice(), &[("d.yaml", small.as_str())]].concat()));
    assert_eq!(state.status().policies.len(), 21, "two of them, and the small one");
    let [said] = state.status().diagnostics.as_slice() else { panic!("{:?}", state.status().diagnostics) };
    assert!(said.file == "c.yaml" && said.why.ends_with("and all together at most 134217728"), "{said}");
    state.read(reading(&[files[0], files[2], ("d.yaml", small.as_str())]));
    assert_eq!((state.status().policies.len(), state.status().diagnostics.len()), (21, 0), "there is room again");
}
