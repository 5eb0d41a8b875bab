//! Blob walker against naive evaluator, on rules and acts in no place in particular.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;

use palisade_differential::{
    compile,
    corpus::{Random, act, arguments, contested, executable, modifiers, overlap_of, path, path_near, rules, seed},
};
use palisade_kernel_abi::blob::{
    AcceptId, Blob, Decision, Effect, Family, Modifiers, PathAccepts, SourceId, domain_path,
};
use palisade_policy::{
    PolicyFile,
    ir::{Matcher, PathMatch, Rule, WorkloadRules},
};
use palisade_policy_compiler::{
    CompileError,
    naive::{Act, Object, candidates, deciding, evaluate},
};
use palisade_protocol::CompiledPolicy;

/// What is decided, so that a test which only ever saw one kind of decision fails.
#[derive(Default, Debug)]
struct Seen {
    permits: usize,
    audits: usize,
    blocks: usize,
    postures: usize,
    by_rule: usize,
    /// Acts on which matching rules do not ask for the same.
    contested: usize,
    /// Decided by a rule, by family.
    families: [usize; Family::ALL.len()],
    /// Rule sets.
    refused: usize,
}

/// What the blob says of the act, as a walker asks it.
fn verdict(blob: &Blob, act: &Act<'_>) -> Decision {
    let accept: PathAccepts = match act.object {
        Object::Path(path) => blob.path_accept(path),
        Object::Endpoint(endpoint) => blob.network_accept(endpoint.encode().as_ref()).into(),
        Object::Capability(number) => AcceptId::of_capability(number).into(),
        Object::Syscall { number, compat: false } => AcceptId::of_syscall(number.into()).into(),
        Object::Syscall { number, compat: true } => AcceptId::of_compat_syscall(number.into()).into(),
        Object::Domain(name) => blob.name_accept(&domain_path(name.as_bytes())).into(),
        // Presets count from 1 in the order of the language.
        Object::Preset(preset) => AcceptId(preset as u32 + 1).into(),
    };
    let source = act.executable.map_or(SourceId::NONE, |path| blob.source_id(path));
    let decision = blob.decide(act.family, accept, source, act.modifiers);
    decision.settled(blob.arguments_meet(decision.arguments, act.arguments.iter().map(|text| text.as_bytes())))
}

fn check(rules: &WorkloadRules, policy: &CompiledPolicy, act: &Act<'_>, seen: &mut Seen) {
    let decision = verdict(&policy.blob, act);
    let expected = evaluate(rules, act);
    let named = decision.rule.map(|index| &policy.rules[index as usize]);
    let rule_agrees = match named {
        None => expected.rules.is_empty(),
        Some(named) => expected.rules.iter().any(|rule| rule == named || asks_for_arguments_as(rule, named)),
    };
    if (decision.effect, decision.by_posture) != (expected.effect, expected.by_posture) || !rule_agrees {
        let object = match act.object {
            Object::Path(path) => String::from_utf8_lossy(path).into_owned(),
            other => format!("{other:?}"),
        };
        for rule in &rules.rules {
            println!("  {:?} {:?} from {:?} {:?}", rule.action, rule.matcher, rule.sources, rule.source_directories);
        }
        panic!(
            "{:?} {object} by {:?} {:?} {:?}: blob says {decision:?} ({named:?}), naive {expected:?}",
            act.family, act.executable, act.modifiers, act.arguments
        );
    }
    match decision.effect {
        Effect::Permit => seen.permits += 1,
        Effect::Audit => seen.audits += 1,
        Effect::Block => seen.blocks += 1,
    }
    seen.postures += usize::from(decision.by_posture);
    seen.by_rule += usize::from(decision.rule.is_some());
    seen.families[act.family as usize] += usize::from(decision.rule.is_some());
    let candidates = candidates(rules, act);
    seen.contested += usize::from(candidates.iter().any(|rule| rule.action != candidates[0].action));
}

/// Of rules of one rank that ask for arguments one is named for all.
fn asks_for_arguments_as(rule: &Rule, named: &Rule) -> bool {
    let asks = |rule: &Rule| matches!(&rule.matcher, Matcher::Process(path) if !path.allowed_arguments.is_empty());
    asks(rule) && asks(named) && rule.specificity() == named.specificity()
}

/// Random rules may ask for different things by different arguments, which is refused.
fn compiled(rules: &WorkloadRules, seen: &mut Seen) -> Option<CompiledPolicy> {
    match compile(rules) {
        Err(CompileError::ArgumentActions { .. }) => {
            seen.refused += 1;
            None
        }
        other => Some(other.unwrap()),
    }
}

#[test]
fn unit_compiled_blob_decides_as_the_naive_evaluator_on_random_rules_and_acts() {
    let mut random = Random::new(seed());
    let mut seen = Seen::default();
    for round in 0..600 {
        let count = 1 + random.below(if round % 10 == 0 { 40 } else { 8 });
        let rules = rules(&mut random, count);
        let Some(policy) = compiled(&rules, &mut seen) else { continue };
        for _ in 0..100 {
            let path = path_near(&mut random, &rules);
            let act = act(&mut random, &rules, &path);
            check(&rules, &policy, &act, &mut seen);
        }
    }
    println!("{seen:?}");
    let Seen { permits, audits, blocks, postures, by_rule, contested, families, refused } = seen;
    for (what, count) in
        [("permits", permits), ("audits", audits), ("blocks", blocks), ("postures", postures), ("by rule", by_rule)]
    {
        assert!(count > 1000, "too few {what} to have tested anything: {count}");
    }
    assert!(contested * 3 > by_rule, "rules overlap on a third of what they decide");
    assert!(families.iter().all(|decided| *decided > 100), "each family was decided by rules: {families:?}");
    assert!(refused < 40, "{refused} sets were refused");
}

/// What is denied by a name of before a move, and not by the one of after it, is what the move is denied for: nothing gets out by it.
#[test]
fn unit_compiled_blob_denies_every_move_of_a_directory_that_takes_a_denied_file_out() {
    let mut random = Random::new(seed());
    let (mut held, mut let_through, mut seen) = (0, 0, Seen::default());
    for _ in 0..1500 {
        let count = 1 + random.below(8);
        let rules = rules(&mut random, count);
        let Some(policy) = compiled(&rules, &mut seen) else { continue };
        for _ in 0..60 {
            let (file, other) = (path_near(&mut random, &rules), path_near(&mut random, &rules));
            let slashes: Vec<usize> = (1..file.len()).filter(|at| file[*at] == b'/').collect();
            if slashes.is_empty() || !other.starts_with(b"/") || other.len() < 2 || other.ends_with(b"/") {
                continue;
            }
            let (from, below) = file.split_at(random.pick(&slashes));
            if below.len() < 2 || [from, b"/"].concat().starts_with(&[&other[..], b"/"].concat()) {
                continue;
            }
            let after = [&other[..], below].concat();
            let (executable, modifiers) = (executable(&mut random), modifiers(&mut random));
            let says = |path| {
                let object = Object::Path(path);
                evaluate(&rules, &Act { family: Family::File, object, executable, modifiers, arguments: &[] }).effect
            };
            // A bare name goes with its file, and where it goes other rules may come before it: those are meant so.
            let by_name = |rule: &Arc<Rule>| matches!(&rule.matcher, Matcher::File(path) if matches!(path.path, PathMatch::Name(_)));
            let act = Act { family: Family::File, object: Object::Path(&file), executable, modifiers, arguments: &[] };
            if deciding(&rules, &act).iter().any(|rule| by_name(rule)) {
                continue;
            }
            let source = executable.map_or(SourceId::NONE, |path| policy.blob.source_id(path));
            let moved = policy.blob.decide_move(from, &other, source).effect;
            if says(&file) == Effect::Block && says(&after) != Effect::Block {
                held += 1;
                let text = String::from_utf8_lossy;
                assert_eq!(
                    moved,
                    Effect::Block,
                    "{} is {} after a move of {} by {executable:?} {modifiers:?}: {:#?}",
                    text(&file),
                    text(&after),
                    text(from),
                    rules.rules
                );
            } else if moved == Effect::Permit {
                let_through += 1;
            }
        }
    }
    println!("{held} moves would have taken a denied file out, {let_through} others were let through");
    assert!(held > 500 && let_through > 10_000, "too few to have tested anything");
}

#[test]
fn unit_compiled_blob_decides_as_the_naive_evaluator_where_allow_block_source_pattern_and_name_meet() {
    const SETS: usize = 600;
    let mut random = Random::new(seed());
    let (mut seen, mut shares, mut all_at_once) = (Seen::default(), [0usize; 4], 0usize);
    for round in 0..SETS {
        // Two of three are made to overlap; what overlaps is measured, not believed.
        let (rules, target) =
            if round % 3 == 0 { (rules(&mut random, 6), path(&mut random)) } else { contested(&mut random) };
        let Some(policy) = compiled(&rules, &mut seen) else { continue };
        let mut overlaps = [false; 4];
        let mut at_once = false;
        for number in 0..60 {
            let path = if number % 2 == 0 { target.clone().into_bytes() } else { path_near(&mut random, &rules) };
            let act = Act {
                family: random.pick(&[Family::Process, Family::File]),
                object: Object::Path(&path),
                executable: executable(&mut random),
                modifiers: modifiers(&mut random),
                arguments: arguments(&mut random),
            };
            check(&rules, &policy, &act, &mut seen);
            let overlap = overlap_of(&rules, &act);
            at_once |= overlap == [true; 4];
            overlaps.iter_mut().zip(overlap).for_each(|(any, more)| *any |= more);
        }
        shares.iter_mut().zip(overlaps).for_each(|(share, is)| *share += usize::from(is));
        all_at_once += usize::from(at_once);
    }
    println!(
        "of {SETS} rule sets: Allow and Block on one act {}, with a source {}, by a pattern {}, by a name {}, all on one act {all_at_once}; {seen:?}",
        shares[0], shares[1], shares[2], shares[3]
    );
    assert!(shares.iter().all(|share| share * 3 >= SETS) && all_at_once * 3 >= SETS, "{shares:?} {all_at_once}");
}

/// Every path of up to five bytes of `/`, `a`, `b` and `x` after the first slash: no state of a small automaton goes unseen. None has a
/// component of nothing: by such names directories are asked for (`palisade_policy_compiler::directories`).
fn short_paths() -> Vec<Vec<u8>> {
    let mut paths = vec![b"/".to_vec()];
    let mut from = 0;
    for _ in 0..5 {
        let longer: Vec<Vec<u8>> =
            paths[from..].iter().flat_map(|path| b"/abx".map(|byte| [path.as_slice(), &[byte]].concat())).collect();
        from = paths.len();
        paths.extend(longer);
    }
    paths
        .retain(|path| path.len() == 1 || path[1..].split(|byte| *byte == b'/').all(|component| !component.is_empty()));
    paths
}

#[test]
fn unit_compiled_blob_decides_as_the_naive_evaluator_on_every_short_path() {
    let mut random = Random::new(seed());
    let paths = short_paths();
    assert_eq!(paths.len(), 697);
    let mut seen = Seen::default();
    for _ in 0..480 {
        let count = 2 + random.below(7);
        let rules = rules(&mut random, count);
        let Some(policy) = compiled(&rules, &mut seen) else { continue };
        for path in &paths {
            let family = random.pick(&[Family::Process, Family::File, Family::Ptrace]);
            let (modifiers, arguments) = (modifiers(&mut random), arguments(&mut random));
            let act =
                Act { family, object: Object::Path(path), executable: executable(&mut random), modifiers, arguments };
            check(&rules, &policy, &act, &mut seen);
        }
    }
    println!("{seen:?}");
    assert!(seen.by_rule > 5_000 && seen.contested > 1_500, "{seen:?}");
}

/// What a reader of documents takes, if it is one pattern.
fn accepted(pattern: &str) -> Option<WorkloadRules> {
    let escaped = pattern.replace('\\', "\\\\");
    let text = format!(
        "apiVersion: palisade.dev/v1alpha1\nkind: PalisadePolicy\nmetadata: {{name: p}}\nspec:\n  selector: {{}}\n  \
         file: {{matchPatterns: [{{pattern: \"{escaped}\"}}]}}\n"
    );
    let file = PolicyFile::parse("f", text.as_bytes());
    let rules = file.policies.first()?.rules.clone();
    Some(WorkloadRules { rules, ..WorkloadRules::default() })
}

#[test]
fn unit_compiler_takes_every_pattern_that_a_document_may_hold_and_means_the_same() {
    let mut random = Random::new(seed());
    let paths = short_paths();
    let (mut taken, mut matched) = (0, 0);
    for _ in 0..6_000 {
        let length = 1 + random.below(12);
        let signs: String = (0..length).map(|_| random.pick(b"//ab*?[]{},\\!^-x") as char).collect();
        let Some(rules) = accepted(&format!("/{signs}")) else { continue };
        let policy = compile(&rules).unwrap_or_else(|error| panic!("/{signs}: {error}"));
        let mut seen = Seen::default();
        for _ in 0..40 {
            let path = random.pick(&paths);
            let (object, modifiers) = (Object::Path(&path), Modifiers::NONE);
            check(
                &rules,
                &policy,
                &Act { family: Family::File, object, executable: None, modifiers, arguments: &[] },
                &mut seen,
            );
        }
        (taken, matched) = (taken + 1, matched + seen.blocks);
    }
    println!("{taken} patterns taken, {matched} matches");
    assert!(taken > 800 && matched > 200, "{taken} patterns taken, {matched} matches");
}

#[test]
fn unit_compiled_blob_does_not_depend_on_rule_order_or_repetition() {
    let mut random = Random::new(seed());
    for _ in 0..50 {
        let rules = rules(&mut random, 12);
        let Some(policy) = compiled(&rules, &mut Seen::default()) else { continue };
        let mut shuffled = rules.clone();
        for at in (1..shuffled.rules.len()).rev() {
            shuffled.rules.swap(at, random.below(at + 1));
        }
        let repeated = random.pick(&shuffled.rules);
        shuffled.rules.push(repeated);
        let again = compile(&shuffled).unwrap();
        assert_eq!(policy.blob.as_bytes(), again.blob.as_bytes());
        assert_eq!(policy.id, again.id);
    }
}

#[test]
fn unit_compiled_blob_survives_its_own_validation_from_bytes() {
    let mut random = Random::new(seed());
    for _ in 0..50 {
        let rules = rules(&mut random, 10);
        let Some(policy) = compiled(&rules, &mut Seen::default()) else { continue };
        let read = Blob::from_bytes(policy.blob.content()).unwrap();
        assert_eq!(read.digest(), policy.id.0);
    }
}
