//! Case after case through one backend; what differs is made small, and replayed by the line that is printed with it.
//!
//! `PALISADE_TEST_SEED=N` chooses other cases. `PALISADE_TEST_CASE=17`, or `17:3,5:8` (rules 3 and 5 and act 8 of it alone), does one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use palisade_kernel_abi::blob::{Effect, Family};
use palisade_policy::ir::WorkloadRules;
use palisade_policy_compiler::{CompileError, naive::evaluate};

use crate::{Act, Backend, BackendError, Case, Compared, Difference, Differences, DifferencesError, compare, compile};

/// Cases that differ which are made small and shown.
const SHOWN: usize = 6;

/// What was asked, so that a run which only ever saw one kind of answer fails.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// Rule sets.
    pub cases: u64,
    /// By the backend's name and what was expected of the whole act.
    pub acts: BTreeMap<(&'static str, &'static str), u64>,
    /// Of these, told with the decision.
    pub told: u64,
    /// How often an entry was needed.
    pub declared: BTreeMap<usize, u64>,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The list cannot be read.
    #[error(transparent)]
    List(#[from] DifferencesError),
    /// A case could not be asked.
    #[error("case {0}: {1}")]
    Backend(u64, BackendError),
    /// Rules that a node would refuse.
    #[error("case {0}: {1}")]
    Compile(u64, CompileError),
    /// The backend decides otherwise, in each of these cases.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n"))]
    Differs(Vec<Found>),
    /// Entries that nothing met.
    #[error("differences.yaml: stale, for all that was asked agrees without it: {0}")]
    Stale(String),
    /// An answer that was never wanted.
    #[error("too few acts {0} to have tested anything")]
    TooFew(String),
}

/// A difference that is not declared.
#[derive(Debug)]
pub struct Found {
    seed: u64,
    case: u64,
    act: (usize, Act),
    rules: Vec<usize>,
    shown: WorkloadRules,
    why: String,
}

impl fmt::Display for Found {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}: {}", self.act.1, self.why)?;
        writeln!(out, "under the postures {:?} and", self.shown.postures)?;
        for rule in &self.shown.rules {
            writeln!(out, "  {:?} {:?} from {:?}", rule.action, rule.matcher, rule.sources)?;
        }
        let rules: Vec<String> = self.rules.iter().map(usize::to_string).collect();
        let (seed, case, rules, act) = (self.seed, self.case, rules.join(","), self.act.0);
        write!(out, "again: PALISADE_TEST_SEED={seed} PALISADE_TEST_CASE={case}:{rules}:{act} before the same command")
    }
}

/// What the environment asks for: a case, or a part of it.
struct Only {
    case: u64,
    part: Option<(Vec<usize>, usize)>,
}

impl Only {
    fn of_environment() -> Option<Self> {
        let text = std::env::var("PALISADE_TEST_CASE").ok()?;
        let mut words = text.split(':');
        let case = words.next()?.parse().ok()?;
        let rules = words.next().map(|list| list.split(',').filter_map(|number| number.parse().ok()).collect());
        let act = words.next().and_then(|number| number.parse().ok());
        Some(Self { case, part: rules.zip(act) })
    }
}

/// Runs so many cases of the seed.
///
/// # Errors
/// See [`RingError`]; the first difference of a case ends it, and some cases with one the run.
pub fn run(backend: &mut dyn Backend, cases: u64) -> Result<Report, RingError> {
    let (seed, differences) = (crate::corpus::seed(), Differences::declared()?);
    let (mut report, mut found) = (Report::default(), Vec::new());
    if let Some(only) = Only::of_environment() {
        let whole = Case::of(seed, only.case);
        let case = only.part.map_or_else(|| whole.clone(), |(rules, act)| whole.reduced(&rules, act));
        found.extend(one(backend, seed, &case, &differences, &mut report)?);
        println!("{report:?}");
        return if found.is_empty() { Ok(report) } else { Err(RingError::Differs(found)) };
    }
    for number in 0..cases {
        found.extend(one(backend, seed, &Case::of(seed, number), &differences, &mut report)?);
        if found.len() == SHOWN {
            break;
        }
    }
    println!("{report:?}");
    if !found.is_empty() {
        return Err(RingError::Differs(found));
    }
    report.ensure_whole(backend, &differences)?;
    Ok(report)
}

fn one(
    backend: &mut dyn Backend,
    seed: u64,
    case: &Case,
    differences: &Differences,
    report: &mut Report,
) -> Result<Option<Found>, RingError> {
    let failed = |error| RingError::Backend(case.number, error);
    let policy = match compile(&case.rules) {
        // Random rules may ask for different things by different arguments, which is refused.
        Err(CompileError::ArgumentActions { .. }) => return Ok(None),
        other => other.map_err(|error| RingError::Compile(case.number, error))?,
    };
    backend.prepare(case).map_err(failed)?;
    backend.install(&policy).map_err(failed)?;
    report.cases += 1;
    for (place, act) in case.acts.iter().enumerate() {
        let Some(name) = act.parts().last().and_then(|part| backend.name(part.family)) else { continue };
        let said = backend.act(act).map_err(|error| failed(BackendError(format!("{act}: {error}"))))?;
        let name_of = |family| backend.name(family);
        match compare(&case.rules, act, &said, differences, |part| name_of(part.family)) {
            Compared::Agrees => {}
            Compared::Declared(entries) => {
                entries.iter().for_each(|entry| *report.declared.entry(*entry).or_default() += 1);
            }
            Compared::Differs(why) => {
                let mut found = Found {
                    seed,
                    case: case.number,
                    act: (place, act.clone()),
                    rules: (0..case.rules.rules.len()).collect(),
                    shown: case.rules.clone(),
                    why,
                };
                shrink(backend, case, differences, &mut found);
                return Ok(Some(found));
            }
        }
        report.told += u64::from(said.told.is_some_and(|told| !told.is_empty()));
        *report.acts.entry((name, expected_of(&case.rules, act))).or_default() += 1;
    }
    Ok(None)
}

fn expected_of(rules: &WorkloadRules, act: &Act) -> &'static str {
    let worst = act.parts().iter().map(|part| part.with(|act| evaluate(rules, act).effect)).max();
    match worst {
        Some(Effect::Block) => "to be denied",
        Some(Effect::Audit) => "to be audited",
        _ => "to be permitted",
    }
}

/// Takes away each rule without which it still differs. A difference that does not come again is left as it was found.
fn shrink(backend: &mut dyn Backend, case: &Case, differences: &Differences, found: &mut Found) {
    let mut at = 0;
    while at < found.rules.len() {
        let mut fewer = found.rules.clone();
        fewer.remove(at);
        match why(backend, &case.reduced(&fewer, found.act.0), differences) {
            Some((rules, why)) => (found.rules, found.shown, found.why) = (fewer, rules, why),
            None => at += 1,
        }
    }
}

fn why(backend: &mut dyn Backend, case: &Case, differences: &Differences) -> Option<(WorkloadRules, String)> {
    let policy = compile(&case.rules).ok()?;
    let act = case.acts.first()?;
    backend.prepare(case).ok()?;
    backend.install(&policy).ok()?;
    let said = backend.act(act).ok()?;
    match compare(&case.rules, act, &said, differences, |part| backend.name(part.family)) {
        Compared::Differs(why) => Some((case.rules.clone(), why)),
        _ => None,
    }
}

impl Report {
    /// Each backend had acts of each kind, and met each of its entries.
    fn ensure_whole(&self, backend: &dyn Backend, differences: &Differences) -> Result<(), RingError> {
        let names: BTreeSet<&str> = Family::ALL.into_iter().filter_map(|family| backend.name(family)).collect();
        for name in &names {
            let asked: u64 = self.acts.iter().filter(|((known, _), _)| known == name).map(|(_, count)| count).sum();
            for expected in ["to be denied", "to be permitted"] {
                let found = self.acts.iter().find(|((known, what), _)| known == name && *what == expected);
                if found.map_or(0, |(_, count)| *count) < (asked / 20).max(1) {
                    return Err(RingError::TooFew(format!("of {name} {expected}: {:?}", self.acts)));
                }
            }
        }
        let holds = |entry: &Difference| {
            entry.families.iter().any(|family| backend.name(*family) == Some(entry.backend.as_str()))
        };
        let stale = differences
            .met
            .iter()
            .enumerate()
            .filter(|(place, entry)| holds(entry) && !self.declared.contains_key(place));
        let stale: Vec<String> =
            stale.map(|(_, entry)| format!("{} {:?} {}", entry.backend, entry.families, entry.blind.word())).collect();
        if stale.is_empty() { Ok(()) } else { Err(RingError::Stale(stale.join("; "))) }
    }
}
