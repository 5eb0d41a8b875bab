//! Blob walker against naive evaluator.

use palisade_kernel_abi::blob::{Blob, Family, Modifiers, SourceId};
use palisade_policy::{PolicyFile, ir::WorkloadRules};
use palisade_protocol::CompiledPolicy;

use super::{
    compile,
    corpus::{Random, endpoint, executable, path_near, rules, seed},
};
use crate::canonical::tables_of;
use crate::naive::{Act, Object, candidates, evaluate};

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
}

fn check(rules: &WorkloadRules, policy: &CompiledPolicy, act: &Act<'_>, seen: &mut Seen) {
    let blob = &policy.blob;
    let accept = match act.object {
        Object::Path(path) => blob.path_accept(path),
        Object::Endpoint(endpoint) => blob.network_accept(endpoint.encode().as_ref()).into(),
    };
    let source = act.executable.map_or(SourceId::NONE, |path| blob.source_id(path));
    let decision = blob.decide(act.family, accept, source, act.modifiers);
    let expected = evaluate(rules, act);
    let named = decision.rule.map(|index| &policy.rules[index as usize]);
    let rule_agrees = match named {
        None => expected.rules.is_empty(),
        Some(named) => expected.rules.iter().any(|rule| rule == named),
    };
    if (decision.effect, decision.by_posture) != (expected.effect, expected.by_posture) || !rule_agrees {
        let path = match act.object {
            Object::Path(path) => String::from_utf8_lossy(path).into_owned(),
            Object::Endpoint(endpoint) => format!("{endpoint:?}"),
        };
        for rule in &rules.rules {
            println!("  {:?} {:?} from {:?}", rule.action, rule.matcher, rule.sources);
        }
        panic!(
            "{:?} {path} by {:?} {:?}: blob says {decision:?} ({named:?}), naive {expected:?}",
            act.family, act.executable, act.modifiers
        );
    }
    match decision.effect {
        palisade_kernel_abi::blob::Effect::Permit => seen.permits += 1,
        palisade_kernel_abi::blob::Effect::Audit => seen.audits += 1,
        palisade_kernel_abi::blob::Effect::Block => seen.blocks += 1,
    }
    seen.postures += usize::from(decision.by_posture);
    seen.by_rule += usize::from(decision.rule.is_some());
    let candidates = candidates(rules, act);
    seen.contested += usize::from(candidates.iter().any(|rule| rule.action != candidates[0].action));
}

/// An act of some rule's family.
fn act<'a>(random: &mut Random, rules: &WorkloadRules, path: &'a [u8]) -> Act<'a> {
    let near = random.pick(&rules.rules);
    let family = random.pick(tables_of(&near.matcher));
    let object = match family {
        Family::Socket => {
            Object::Endpoint(palisade_kernel_abi::blob::Endpoint { destination: None, ..endpoint(random) })
        }
        Family::Connect => Object::Endpoint(endpoint(random)),
        _ => Object::Path(path),
    };
    Act { family, object, executable: executable(random), modifiers: Modifiers(random.below(4) as u32) }
}

#[test]
fn unit_compiled_blob_decides_as_the_naive_evaluator_on_random_rules_and_acts() {
    let mut random = Random::new(seed());
    let mut seen = Seen::default();
    for round in 0..400 {
        let count = 1 + random.below(if round % 10 == 0 { 40 } else { 8 });
        let rules = rules(&mut random, count);
        let policy = compile(&rules).unwrap();
        for _ in 0..100 {
            let path = path_near(&mut random, &rules);
            let act = act(&mut random, &rules, &path);
            check(&rules, &policy, &act, &mut seen);
        }
    }
    println!("{seen:?}");
    let Seen { permits, audits, blocks, postures, by_rule, contested } = seen;
    for (what, count) in
        [("permits", permits), ("audits", audits), ("blocks", blocks), ("postures", postures), ("by rule", by_rule)]
    {
        assert!(count > 1000, "too few {what} to have tested anything: {count}");
    }
    assert!(contested * 3 > by_rule, "rules overlap on a third of what they decide");
}

/// Every path of up to five bytes of `/`, `a`, `b` and `x` after the first slash: no state of a small automaton goes unseen.
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
}

#[test]
fn unit_compiled_blob_decides_as_the_naive_evaluator_on_every_short_path() {
    let mut random = Random::new(seed());
    let paths = short_paths();
    assert_eq!(paths.len(), 1365);
    let mut seen = Seen::default();
    for _ in 0..240 {
        let count = 2 + random.below(7);
        let rules = rules(&mut random, count);
        let policy = compile(&rules).unwrap();
        for path in &paths {
            let family = random.pick(&[Family::Process, Family::File, Family::Ptrace]);
            let modifiers = Modifiers(random.below(4) as u32);
            let act = Act { family, object: Object::Path(path), executable: executable(&mut random), modifiers };
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
            check(&rules, &policy, &Act { family: Family::File, object, executable: None, modifiers }, &mut seen);
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
        let policy = compile(&rules).unwrap();
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
        let policy = compile(&rules(&mut random, 10)).unwrap();
        let read = Blob::from_bytes(policy.blob.content()).unwrap();
        assert_eq!(read.digest(), policy.id.0);
    }
}
