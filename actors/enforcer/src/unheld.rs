//! What of a workload's rules the kernel at hand cannot hold: a pure function of rules and tiers, for status, validation and explanations.
//!
//! Invariant: whatever a policy asks for is held as it says, or is in this list with its reason. A tier names what it cannot hold by the
//! words of the policy language ([`Gap::what`](palisade_world::Gap)): `readOnly`, `allowedArgs`, `preset:protectEnv`; its other gaps are
//! about whole families, and shown with them. What is unheld everywhere ([`WorkloadRules::unheld`]) comes first.
//!
//! Units: a list has one entry for each policy, word and reason, not one for each rule: ten thousand rules have some dozens.

use std::collections::BTreeMap;

use palisade_domain::{Action, Family, Posture, Tier};
use palisade_policy::ir::{Matcher, PathMatch, PathRule, Rule, Unheld, WorkloadRules};
use palisade_protocol::{NotHeld, observed_calls};
use palisade_world::{Gap, HeldFamily};

/// Places that an entry names; it counts them all.
const NAMED_PLACES: usize = 5;

/// What nothing holds of the rules: anywhere, or by these tiers. A family that is absent from `tiers` has none.
#[must_use]
pub fn not_held(rules: &WorkloadRules, tiers: &BTreeMap<Family, HeldFamily>) -> Vec<NotHeld> {
    let mut found: Vec<NotHeld> = Vec::new();
    let mut known: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    let mut add = |unheld: Unheld| {
        let key = (unheld.policy.to_string(), unheld.what.clone(), unheld.reason.clone());
        let at = *known.entry(key).or_insert_with(|| {
            let Unheld { policy, what, reason, .. } = &unheld;
            let (policy, what, reason) = (policy.clone(), what.clone(), reason.clone());
            found.push(NotHeld { policy, what, reason, places: Vec::new(), count: 0 });
            found.len() - 1
        });
        let entry = &mut found[at];
        entry.count += 1;
        if entry.places.len() < NAMED_PLACES && !entry.places.contains(&unheld.place) {
            entry.places.push(unheld.place);
        }
    };
    rules.unheld.iter().for_each(|unheld| add((**unheld).clone()));
    for rule in &rules.rules {
        let posture = rules.postures.of(rule.matcher.family());
        for (what, reason) in of_rule(rule, posture, tiers) {
            add(Unheld { policy: rule.policy.clone(), place: rule.place.clone(), what, reason });
        }
    }
    found
}

/// Word and reason of each thing that the rule asks for and the tiers do not hold.
fn of_rule(rule: &Rule, posture: Option<Posture>, tiers: &BTreeMap<Family, HeldFamily>) -> Vec<(String, String)> {
    let family = rule.matcher.family();
    let whole = family_word(family);
    let on_path = matches!(&rule.matcher, Matcher::Syscall(call) if call.path.is_some());
    let Some(held) = tiers.get(&family) else {
        if on_path {
            // No table of the kernel decides it, so that no tier needs to hold the family for it.
            return of_calls(rule).into_iter().collect();
        }
        return vec![(whole.into(), "no tier of this kernel holds the family".into())];
    };
    let reason_of = |what: &str| held.gaps.iter().find(|gap| gap.what == what).map(|gap| gap.reason.clone());
    if let Some(reason) = reason_of(whole) {
        return vec![(whole.into(), reason)];
    }
    let denies = rule.action == Action::Block || (rule.action == Action::Allow && posture == Some(Posture::Block));
    if held.tier == Tier::Audit && denies {
        let seen = || "acts of the family are seen by this kernel's tiers, and not prevented".to_owned();
        return vec![(whole.into(), reason_of("denial").unwrap_or_else(seen))];
    }
    if let Some(untold) = of_calls(rule) {
        return vec![untold];
    }
    let of_word = |what: String| reason_of(&what).map(|reason| (what, reason));
    // An Allow says nothing about changes where it denies none.
    let changes = family == Family::File && (denies || rule.action == Action::Audit);
    words(rule).into_iter().chain(changes.then(|| Gap::CHANGES.to_owned())).filter_map(of_word).collect()
}

/// Which calls of a rule on a path are never seen to be on it.
fn of_calls(rule: &Rule) -> Option<(String, String)> {
    let Matcher::Syscall(call) = &rule.matcher else { return None };
    let names = call.names.iter().filter(|name| call.path.is_some() && observed_calls::kinds_of(name) == 0);
    let names: Vec<&str> = names.map(String::as_str).collect();
    let calls = names.join(", ");
    let reason = format!("no record tells on which file {calls} was called: the rule does not audit it");
    (!names.is_empty()).then(|| ("syscalls.matchPaths".into(), reason))
}

/// The family as gaps call the whole of it.
fn family_word(family: Family) -> &'static str {
    match family {
        Family::Process => "process",
        Family::File => "file",
        Family::Network => "network",
        Family::Ptrace => "ptrace",
        Family::Capabilities => "capabilities",
        Family::Syscalls => "syscalls",
        Family::Dns => "matchDNSQueries",
        Family::Presets => "presets",
        Family::Device => "device",
    }
}

/// The words of the policy language that a rule is made of, those that every tier holds left out.
fn words(rule: &Rule) -> Vec<String> {
    let mut words: Vec<String> = match &rule.matcher {
        Matcher::Process(path) | Matcher::File(path) => path_words(path).into_iter().map(str::to_owned).collect(),
        Matcher::Socket(socket) if socket.pts == Some(false) => vec!["pts".into()],
        Matcher::Syscall(call) if call.path.is_some() => vec!["syscalls.matchPaths".into()],
        Matcher::Preset(preset) => vec![format!("preset:{}", preset.name())],
        _ => Vec::new(),
    };
    if !rule.sources.is_empty() || !rule.source_directories.is_empty() {
        words.push("fromSource".into());
    }
    words
}

fn path_words(path: &PathRule) -> Vec<&'static str> {
    let modifiers = [
        (path.read_only, "readOnly"),
        (path.owner_only, "ownerOnly"),
        (path.pts == Some(false), "pts"),
        (!path.allowed_arguments.is_empty(), "allowedArgs"),
        (matches!(path.path, PathMatch::Name(_)), "execname"),
        (matches!(path.path, PathMatch::Pattern(_)), "matchPatterns"),
    ];
    modifiers.into_iter().filter(|(is_set, _)| *is_set).map(|(_, word)| word).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use palisade_domain::{Workload, WorkloadKind};
    use palisade_policy::{PolicySet, ir::Postures};

    fn rules(spec: &str, postures: Postures) -> Arc<WorkloadRules> {
        let text = format!(
            "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: p}}\nspec:\n  selector: {{}}\n  {spec}\n"
        );
        let set = PolicySet::parse([("p.yaml", text.as_bytes())]).expect("sound");
        let workload = Workload {
            kind: WorkloadKind::Container,
            name: "pod".into(),
            namespace: "default".into(),
            container: "main".into(),
            container_id: None,
            image: String::new(),
            labels: BTreeMap::new(),
        };
        set.rules_for(&workload, &BTreeMap::new(), postures)
    }

    fn said(rules: &WorkloadRules, tiers: &BTreeMap<Family, HeldFamily>) -> Vec<(String, Vec<String>, usize)> {
        let one = |entry: NotHeld| (entry.what, entry.places, entry.count);
        not_held(rules, tiers).into_iter().map(one).collect()
    }

    fn tier(family: Family, tier: Tier, gaps: &[&str]) -> (Family, HeldFamily) {
        let gap = |what: &&str| Gap { what: (*what).into(), reason: format!("{what} is not seen") };
        (family, HeldFamily { tier, gaps: gaps.iter().map(gap).collect() })
    }

    #[test]
    fn unit_unheld_says_of_each_file_rule_that_a_tier_judges_opens_alone() {
        let rules = rules(
            "file: {matchPaths: [{path: /a, action: Block}, {path: /b, action: Audit}, {path: /c, action: Allow}]}\n  process: \
             {matchPaths: [{path: /d, action: Block}]}",
            Postures::default(),
        );
        let process = tier(Family::Process, Tier::Fanotify, &[]);
        let opens = BTreeMap::from([tier(Family::File, Tier::Fanotify, &[Gap::CHANGES]), process.clone()]);
        let places = vec!["file.matchPaths[0]".to_owned(), "file.matchPaths[1]".to_owned()];
        assert_eq!(said(&rules, &opens), [(Gap::CHANGES.to_owned(), places, 2)]);
        assert_eq!(said(&rules, &BTreeMap::from([tier(Family::File, Tier::BpfLsm, &[]), process])), []);
    }

    #[test]
    fn unit_enforcer_names_each_word_of_a_rule_that_a_tier_has_as_a_gap() {
        let spec = "file: {matchPaths: [{path: /a, readOnly: true, ownerOnly: true}, {path: /b}], matchPatterns: [{pattern: /c*, \
                    readOnly: true}]}\n  presets: [{name: protectEnv}, {name: exec}]";
        let rules = rules(spec, Postures::default());
        let tiers = BTreeMap::from([
            tier(Family::File, Tier::Fanotify, &["readOnly", "rename, unlink", "pts"]),
            tier(Family::Presets, Tier::Fanotify, &["preset:exec"]),
        ]);
        let read_only = vec!["file.matchPaths[0]".to_owned(), "file.matchPatterns[0]".to_owned()];
        let exec = vec!["presets[1]".to_owned()];
        assert_eq!(said(&rules, &tiers), [("readOnly".to_owned(), read_only, 2), ("preset:exec".to_owned(), exec, 1)]);
        let whole = BTreeMap::from([
            tier(Family::File, Tier::BpfLsm, &["rename, unlink"]),
            tier(Family::Presets, Tier::BpfLsm, &[]),
        ]);
        assert_eq!(said(&rules, &whole), []);
    }

    #[test]
    fn unit_enforcer_names_families_that_no_tier_holds_and_blocks_that_are_only_seen() {
        let capabilities =
            "capabilities: {matchCapabilities: [{capability: net_raw}, {capability: bpf, action: Audit}]}";
        let rules_of = |postures| rules(capabilities, postures);
        let none = said(&rules_of(Postures::default()), &BTreeMap::new());
        assert_eq!(
            none,
            [(
                "capabilities".to_owned(),
                vec!["capabilities.matchCapabilities[0]".to_owned(), "capabilities.matchCapabilities[1]".to_owned()],
                2
            )]
        );
        let seen = BTreeMap::from([tier(Family::Capabilities, Tier::Audit, &[])]);
        let only_seen = said(&rules_of(Postures::default()), &seen);
        assert_eq!(only_seen, [("capabilities".to_owned(), vec!["capabilities.matchCapabilities[0]".to_owned()], 1)]);
        let allow = "capabilities: {matchCapabilities: [{capability: net_raw, action: Allow}]}";
        assert_eq!(said(&rules(allow, Postures::default()), &seen), [], "an audit posture is held by being seen");
        let block = Postures { capabilities: Posture::Block, ..Postures::default() };
        assert_eq!(said(&rules(allow, block), &seen).len(), 1);
    }

    #[test]
    fn unit_enforcer_names_calls_that_no_record_tells_on_which_file_they_were() {
        let spec = "syscalls: {matchPaths: [{path: /etc/, syscall: [unlink, stat]}, {path: /a, syscall: [unlink]}], \
                    matchSyscalls: [{syscall: [stat]}]}";
        let tiers = BTreeMap::from([tier(Family::Syscalls, Tier::Audit, &[])]);
        let found = not_held(&rules(spec, Postures::default()), &tiers);
        let [one] = &found[..] else { panic!("{found:?}") };
        assert_eq!(
            (one.what.as_str(), &one.places[..]),
            ("syscalls.matchPaths", &["syscalls.matchPaths[0]".to_owned()][..])
        );
        assert_eq!(
            not_held(
                &rules("syscalls: {matchPaths: [{path: /a, syscall: [unlink]}]}", Postures::default()),
                &BTreeMap::new()
            ),
            []
        );
        assert!(one.reason.contains("stat") && !one.reason.contains("unlink"), "{}", one.reason);
    }

    #[test]
    fn unit_enforcer_names_what_nothing_holds_anywhere_and_counts_a_rule_that_repeats() {
        let paths: String = (0..50).map(|number| format!("{{path: /a{number}, readOnly: true}}, ")).collect();
        let rules = rules(&format!("apparmor: |\n    deny x,\n  file: {{matchPaths: [{paths}]}}"), Postures::default());
        let tiers = BTreeMap::from([tier(Family::File, Tier::Fanotify, &["readOnly"])]);
        let said = said(&rules, &tiers);
        assert_eq!((said[0].0.as_str(), said[1].0.as_str(), said.len()), ("apparmor", "readOnly", 2));
        assert_eq!((said[1].1.len(), said[1].2), (NAMED_PLACES, 50));
    }
}
