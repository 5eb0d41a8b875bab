//! Rules to blob: the whole way, as one pure function.

use std::{cmp::Reverse, sync::Arc};

use palisade_domain::BlobId;
use palisade_kernel_abi::blob::{Automaton, Blob, Family, MAX_RULES};
use palisade_policy::ir::{Matcher, PathMatch, Rule, WorkloadRules};
use palisade_protocol::CompiledPolicy;

use crate::{
    arguments::{self, ArgumentSets, Arguments},
    assemble::{Layer, Parts, assemble},
    automaton::{AutomatonLimits, Budget, Exhausted},
    canonical::CanonicalRules,
    error::{CompileError, TooLarge},
    layers::Ground,
    sources::SourceClasses,
    verdict::Standing,
};

/// Most rules that a refusal names.
const MAX_WORST: usize = 5;

/// Compiles all rules of a workload.
///
/// # Errors
/// Where a rule can match nothing, or the rules are beyond a bound or the budget. Nothing is cut to fit.
pub fn compile(
    rules: &WorkloadRules,
    limits: &AutomatonLimits,
    budget: &mut dyn Budget,
) -> Result<CompiledPolicy, CompileError> {
    let canonical = CanonicalRules::of(rules);
    let blob = Arc::new(compile_canonical(&canonical, limits, budget)?);
    Ok(compiled(&canonical, blob))
}

/// Puts a blob together with rules of the same canonical content.
#[must_use]
pub fn compiled(canonical: &CanonicalRules, blob: Arc<Blob>) -> CompiledPolicy {
    let (rules, observed) = (Arc::clone(&canonical.rules), Arc::clone(&canonical.observed));
    CompiledPolicy { id: BlobId(blob.digest()), blob, rules, observed }
}

/// Compiles rules that are already sorted out.
///
/// # Errors
/// As [`compile`].
pub fn compile_canonical(
    canonical: &CanonicalRules,
    limits: &AutomatonLimits,
    budget: &mut dyn Budget,
) -> Result<Blob, CompileError> {
    let rules = &canonical.rules[..];
    if rules.len() > MAX_RULES {
        return Err(CompileError::TooLarge { what: TooLarge::Rules(rules.len()), worst: Vec::new() });
    }
    arguments::check(rules)?;
    let sources = SourceClasses::build(rules, limits, budget)?;
    let standings = sources.standings(rules);
    let ground = Ground { canonical, standings: &standings, limits };
    let mut sets = ArgumentSets::default();
    let path = ground.layer(Automaton::Path, &mut sets, budget)?;
    let mut other = |automaton, sets: &mut ArgumentSets| {
        let layer = ground.layer(automaton, sets, &mut *budget);
        layer.map_err(|error| name_what_took_the_time(error, &path, rules))
    };
    let names = other(Automaton::Basename, &mut sets)?;
    let network = other(Automaton::Network, &mut sets)?;
    let domains = other(Automaton::Name, &mut sets)?;
    let numbers = [Family::Capability, Family::Syscall, Family::Preset]
        .into_iter()
        .filter_map(|family| Some(ground.numbers(family, family.fixed_accepts()?, &mut sets, budget)))
        .collect::<Result<Vec<_>, _>>()?;
    let arguments = Arguments::build(&sets, limits, budget)?;
    let parts = Parts {
        layers: [path, names, network, domains],
        numbers,
        source: sources.dfa.clone(),
        source_ids: sources.count() + 1,
        sets,
        arguments,
    };
    assemble(&parts).map_err(|error| match error {
        CompileError::TooLarge { what, worst } if worst.is_empty() => {
            let worst = worst_of_all(&what, &parts.layers, &standings);
            CompileError::TooLarge { what, worst: worst.into_iter().map(|rule| named(&rules[rule as usize])).collect() }
        }
        error => error,
    })
}

/// The rules to look at where everything was built and does not fit: those that name most sources where the tables are the larger
/// half, for each source is a column of them; else those that are in most states.
fn worst_of_all(what: &TooLarge, layers: &[Layer], standings: &[Standing]) -> Vec<u32> {
    let mut by_sources: Vec<u32> =
        (0..).zip(standings).filter(|(_, standing)| !standing.sources.is_empty()).map(|(rule, _)| rule).collect();
    by_sources.sort_by_key(|rule| Reverse(standings[*rule as usize].sources.len()));
    by_sources.truncate(MAX_WORST);
    match what {
        TooLarge::Words { rows, cells, .. } if cells > rows && !by_sources.is_empty() => by_sources,
        _ => {
            layers.iter().max_by_key(|layer| layer.dfa.rows.len()).map(|layer| layer.worst.clone()).unwrap_or_default()
        }
    }
}

/// Time that is up early in a later layer was taken by the paths before it.
fn name_what_took_the_time(error: CompileError, path: &Layer, rules: &[Arc<Rule>]) -> CompileError {
    match error {
        CompileError::TooLarge {
            what: what @ TooLarge::Automaton { exhausted: Exhausted::Time { states }, .. },
            worst: _,
        } if states < path.dfa.states() && !path.worst.is_empty() => {
            let worst = path.worst.iter().map(|rule| named(&rules[*rule as usize])).collect();
            CompileError::TooLarge { what, worst }
        }
        error => error,
    }
}

/// For a list of the rules that cost most.
pub(crate) fn named(rule: &Arc<Rule>) -> String {
    format!("{} `{}`", place(rule), spelling(&rule.matcher))
}

pub(crate) fn place(rule: &Rule) -> String {
    format!("{} {}", rule.policy, rule.place)
}

/// As the user wrote it, or near enough to find it.
pub(crate) fn spelling(matcher: &Matcher) -> String {
    match matcher {
        Matcher::Process(rule) | Matcher::File(rule) => spelling_of_path(&rule.path),
        Matcher::Ptrace(target) => spelling_of_path(target),
        Matcher::Socket(socket) => socket.name.clone(),
        Matcher::Destination(destination) => match destination.cidr {
            Some((address, prefix)) => format!("{address}/{prefix}"),
            None => "any destination".to_owned(),
        },
        Matcher::Capability(capability) => capability.name.clone(),
        Matcher::Syscall(syscall) => syscall.names.join(","),
        Matcher::Dns(dns) => dns.domain.clone(),
        Matcher::Preset(preset) => preset.name().to_owned(),
        Matcher::Device(device) => {
            device.class.map_or("any USB class".to_owned(), |class| format!("USB class {class:#04x}"))
        }
    }
}

pub(crate) fn spelling_of_path(path: &PathMatch) -> String {
    match path {
        PathMatch::Exact(text) | PathMatch::Name(text) | PathMatch::Pattern(text) => text.clone(),
        PathMatch::Directory { directory, .. } => directory.clone(),
        PathMatch::Any => "any".to_owned(),
    }
}
