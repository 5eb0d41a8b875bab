//! Rules to blob: the whole way, as one pure function.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use palisade_domain::BlobId;
use palisade_kernel_abi::blob::{Automaton, Blob, Family, MAX_RULES};
use palisade_policy::ir::{Matcher, PathMatch, Rule, WorkloadRules};
use palisade_protocol::CompiledPolicy;

use crate::{
    assemble::{Layer, assemble},
    automaton::{AutomatonLimits, Budget, BuildError, Dfa, Exhausted, TagStrength, Token, Trie, determinise, minimise},
    canonical::{CanonicalRules, language, tables_of},
    decisions::{Classes, Table},
    error::{CompileError, TooLarge},
    network, paths,
    sources::SourceClasses,
    verdict::{Standing, Standpoint},
};

/// Most rules that a refusal names.
const MAX_WORST: usize = 5;

/// The decision tables that the path automaton feeds.
const PATH_FAMILIES: [Family; 3] = [Family::Process, Family::File, Family::Ptrace];
/// The decision tables that the network automaton feeds.
const NETWORK_FAMILIES: [Family; 2] = [Family::Socket, Family::Connect];

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
    Ok(compiled(canonical.rules, blob))
}

/// Puts a blob together with rules of the same canonical content.
#[must_use]
pub fn compiled(rules: Vec<Arc<Rule>>, blob: Arc<Blob>) -> CompiledPolicy {
    CompiledPolicy { id: BlobId(blob.digest()), blob, rules }
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
    let rules = canonical.rules.as_slice();
    if let Some(rule) = rules.iter().find(|rule| tables_of(&rule.matcher).is_empty()) {
        return Err(CompileError::Family { rule: place(rule), family: rule.matcher.family() });
    }
    if rules.len() > MAX_RULES {
        return Err(CompileError::TooLarge { what: TooLarge::Rules(rules.len()), worst: Vec::new() });
    }
    let sources = SourceClasses::of(rules);
    let standings = sources.standings(rules);
    let source = source_automaton(rules, &sources, limits, budget)?;
    let mut layer = |automaton, families: &[Family]| {
        let tags = Tag::of(rules, automaton);
        let tables = families.iter().map(|family| table(canonical, &standings, *family, &tags)).collect();
        LayerBuild { automaton, rules, standings: &standings, tags, tables, limits }.run(&mut *budget)
    };
    let path = layer(Automaton::Path, &PATH_FAMILIES)?;
    let network =
        layer(Automaton::Network, &NETWORK_FAMILIES).map_err(|error| name_what_took_the_time(error, &path, rules))?;
    assemble(&path, &source, &network, sources.count() + 1).map_err(|error| match error {
        CompileError::TooLarge { what, worst } if worst.is_empty() => {
            let worst = worst_of_all(&what, &path, &network, &standings);
            CompileError::TooLarge { what, worst: worst.into_iter().map(|rule| named(&rules[rule as usize])).collect() }
        }
        error => error,
    })
}

/// The rules to look at where everything was built and does not fit: those that name most sources where the tables are the larger
/// half, for each source is a column of them; else those that are in most states.
fn worst_of_all(what: &TooLarge, path: &Layer, network: &Layer, standings: &[Standing]) -> Vec<u32> {
    let mut by_sources: Vec<u32> =
        (0..).zip(standings).filter(|(_, standing)| !standing.sources.is_empty()).map(|(rule, _)| rule).collect();
    by_sources.sort_by_key(|rule| Reverse(standings[*rule as usize].sources.len()));
    by_sources.truncate(MAX_WORST);
    match what {
        TooLarge::Words { rows, cells, .. } if cells > rows && !by_sources.is_empty() => by_sources,
        _ if path.dfa.rows.len() >= network.dfa.rows.len() => path.worst.clone(),
        _ => network.worst.clone(),
    }
}

/// Time that is up early in the network layer was taken by the paths before it.
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

/// Rules that match exactly the same: the automaton tells them apart from others, the decision tables from each other.
struct Tag {
    rules: Vec<u32>,
}

impl Tag {
    /// The tags of the rules that the automaton is for, in order of their first rule.
    fn of(rules: &[Arc<Rule>], automaton: Automaton) -> Vec<Self> {
        let mut tags: Vec<Self> = Vec::new();
        let mut by_language: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        let reads = |rule: &Rule| tables_of(&rule.matcher).iter().any(|family| family.automaton() == Some(automaton));
        for (rule, number) in rules.iter().zip(0..).filter(|(rule, _)| reads(rule)) {
            let tag = *by_language.entry(language(&rule.matcher)).or_insert(tags.len());
            match tags.get_mut(tag) {
                Some(tag) => tag.rules.push(number),
                None => tags.push(Self { rules: vec![number] }),
            }
        }
        tags
    }
}

fn table(canonical: &CanonicalRules, standings: &[Standing], family: Family, tags: &[Tag]) -> Table {
    let counts = |rule: &&u32| tables_of(&canonical.rules[**rule as usize].matcher).contains(&family);
    let rules_of_tag: Vec<Vec<u32>> =
        tags.iter().map(|tag| tag.rules.iter().filter(counts).copied().collect()).collect();
    let standing = || rules_of_tag.iter().flatten().map(|rule| &standings[*rule as usize]);
    Table {
        family,
        posture: canonical.postures[family as usize],
        modifiers: if standing().any(Standing::has_modifier) { 4 } else { 1 },
        has_sources: standing().any(|standing| standing.specificity.has_source),
        rules_of_tag,
    }
}

/// One automaton and its decisions, while they are built.
struct LayerBuild<'a> {
    automaton: Automaton,
    rules: &'a [Arc<Rule>],
    standings: &'a [Standing],
    tags: Vec<Tag>,
    tables: Vec<Table>,
    limits: &'a AutomatonLimits,
}

impl LayerBuild<'_> {
    fn run(self, budget: &mut dyn Budget) -> Result<Layer, CompileError> {
        // An automaton of nothing takes no time worth a look, and a refusal here would have no rule to name.
        let mut unhurried = || false;
        let budget: &mut dyn Budget = if self.tags.is_empty() { &mut unhurried } else { budget };
        let trie = self.trie(budget)?;
        let automaton = determinise(trie, self.limits, budget).map_err(|error| self.too_large(&error))?;
        let sets = &automaton.accept_sets;
        let worst = self.first_rules(&automaton.worst_tags);
        let named = || worst.iter().map(|rule| named(&self.rules[*rule as usize])).collect();
        let classes = Classes::of(sets, &self.tables, self.standings, budget).map_err(|done| {
            CompileError::TooLarge { what: TooLarge::DecisionTime { done, all: sets.len() }, worst: named() }
        })?;
        let dfa = minimise(&automaton, &classes.of_set, budget).map_err(|error| CompileError::TooLarge {
            what: TooLarge::Automaton { automaton: self.automaton, exhausted: error.exhausted },
            worst: named(),
        })?;
        Ok(Layer { dfa, classes, tables: self.tables, worst })
    }

    fn first_rules(&self, tags: &[u32]) -> Vec<u32> {
        tags.iter().filter_map(|tag| self.tags.get(*tag as usize)?.rules.first().copied()).collect()
    }

    fn trie(&self, budget: &mut dyn Budget) -> Result<Trie, CompileError> {
        let mut trie = Trie::new(self.strengths(), self.limits);
        for (tag, number) in self.tags.iter().zip(0..) {
            if budget.is_spent() {
                let error = BuildError { exhausted: Exhausted::Time { states: 0 }, worst_tags: vec![number] };
                return Err(self.too_large(&error));
            }
            for tokens in
                tag.rules.first().map(|rule| sequences(&self.rules[*rule as usize])).transpose()?.iter().flatten()
            {
                trie.insert(tokens, number).map_err(|error| self.too_large(&error))?;
            }
        }
        Ok(trie)
    }

    /// Dense ranks for absorption: what each tag demands and offers in each table.
    fn strengths(&self) -> Vec<TagStrength> {
        let span = |rule: &u32| self.standings[*rule as usize].span(*rule);
        let for_any_source = |rule: &&u32| !self.standings[**rule as usize].specificity.has_source;
        let mut strengths = vec![TagStrength::default(); self.tags.len()];
        for (at, table) in self.tables.iter().enumerate() {
            let mut standpoints: Vec<Standpoint> =
                table.rules_of_tag.iter().flatten().flat_map(|rule| <[_; 2]>::from(span(rule))).collect();
            standpoints.sort_unstable();
            standpoints.dedup();
            // From 1: 0 is "no rule in this table".
            let rank = |standpoint| standpoints.partition_point(|other| *other <= standpoint) as u32;
            for (strength, rules) in strengths.iter_mut().zip(&table.rules_of_tag) {
                let (best, worst) = (rules.iter(), rules.iter().filter(for_any_source));
                strength.demands[at] = best.map(|rule| rank(span(rule).0)).max().unwrap_or(0);
                strength.offers[at] = worst.map(|rule| rank(span(rule).1)).max().unwrap_or(0);
            }
        }
        strengths
    }

    fn too_large(&self, error: &BuildError) -> CompileError {
        let worst = self.first_rules(&error.worst_tags);
        CompileError::TooLarge {
            what: TooLarge::Automaton { automaton: self.automaton, exhausted: error.exhausted },
            worst: worst.into_iter().map(|rule| named(&self.rules[rule as usize])).collect(),
        }
    }
}

/// The class of the acting executable is the automaton's accept id.
fn source_automaton(
    rules: &[Arc<Rule>],
    sources: &SourceClasses<'_>,
    limits: &AutomatonLimits,
    budget: &mut dyn Budget,
) -> Result<Dfa, CompileError> {
    let names = |rule: &&Arc<Rule>, tag: u32| {
        sources.iter().any(|(path, class)| class == tag + 1 && rule.sources.contains(path))
    };
    let first_rule = |tag: &u32| rules.iter().find(|rule| names(rule, *tag));
    let too_large = |error: BuildError| CompileError::TooLarge {
        what: TooLarge::Automaton { automaton: Automaton::Source, exhausted: error.exhausted },
        worst: error.worst_tags.iter().filter_map(first_rule).map(named).collect(),
    };
    // As in a layer without rules.
    let mut unhurried = || false;
    let budget: &mut dyn Budget = if sources.count() == 0 { &mut unhurried } else { budget };
    // The tag of class n is n - 1. Exact paths have no `**`, so nothing is absorbed and strengths do not matter.
    let mut trie = Trie::new(vec![TagStrength::default(); sources.count() as usize], limits);
    for (path, class) in sources.iter() {
        let tokens = paths::literal(path).map_err(|error| {
            let named = rules.iter().find(|rule| rule.sources.contains(path));
            CompileError::Path { rule: named.map(|rule| place(rule)).unwrap_or_default(), path: path.to_owned(), error }
        })?;
        trie.insert(&tokens, class - 1).map_err(too_large)?;
    }
    let automaton = determinise(trie, limits, budget).map_err(too_large)?;
    let classes: Vec<u32> = automaton.accept_sets.iter().map(|tags| tags.first().map_or(0, |tag| tag + 1)).collect();
    let with_tags = |error: BuildError| BuildError { worst_tags: automaton.worst_tags.clone(), ..error };
    minimise(&automaton, &classes, budget).map_err(with_tags).map_err(too_large)
}

fn sequences(rule: &Rule) -> Result<Vec<Vec<Token>>, CompileError> {
    let path = |path: &PathMatch| {
        paths::sequences(path).map_err(|error| CompileError::Path {
            rule: place(rule),
            path: spelling(&rule.matcher),
            error,
        })
    };
    match &rule.matcher {
        Matcher::Process(rule) | Matcher::File(rule) => path(&rule.path),
        Matcher::Ptrace(target) => path(target),
        Matcher::Socket(socket) => Ok(network::socket_sequences(socket)),
        Matcher::Destination(destination) => network::destination_sequences(destination)
            .map_err(|error| CompileError::Destination { rule: place(rule), error }),
        _ => Ok(Vec::new()),
    }
}

/// For a list of the rules that cost most.
fn named(rule: &Arc<Rule>) -> String {
    format!("{} `{}`", place(rule), spelling(&rule.matcher))
}

fn place(rule: &Rule) -> String {
    format!("{} {}", rule.policy, rule.place)
}

/// As the user wrote it, or near enough to find it.
fn spelling(matcher: &Matcher) -> String {
    let path = |path: &PathMatch| match path {
        PathMatch::Exact(text) | PathMatch::Name(text) | PathMatch::Pattern(text) => text.clone(),
        PathMatch::Directory { directory, .. } => directory.clone(),
        PathMatch::Any => "any".to_owned(),
    };
    match matcher {
        Matcher::Process(rule) | Matcher::File(rule) => path(&rule.path),
        Matcher::Ptrace(target) => path(target),
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
