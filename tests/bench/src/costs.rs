//! Instructions of acts against `tests/bench/budget.txt`: a rise of a count is a change of a program, so it fails.
//!
//! Invariant: every count of the guest has a line in the budget of its kernel, and every line a count.
//!
//! Decision: the least of the counts of one run, not a median of several: what is not ours (interrupts, grace periods) only adds, and the
//! least repeats to a few instructions. So what the kernel does later by itself (it frees what was kept for a task some ticks after its
//! exit) is in no least count. Of executions, which alone leave something to do later, a row has the middle one of the same
//! counts beside it: it repeats to some hundred instructions, so that it is held to what is asked for at most, and loosely to its budget.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

/// A rise up to this is none; so is a fall, which else asks for a lower budget.
const TOLERANCE: f64 = 0.03;
/// The same of a middle count.
const TOLERANCE_OF_MEDIANS: f64 = 0.15;
/// After the act, in a row of middle counts.
pub const BY_THE_MEDIAN: &str = " by the median";
/// Of small counts a hundredth is less than what one run differs from the next.
const LEAST: f64 = 40.0;
/// The same of a middle count: what one run differs from the next.
const LEAST_OF_MEDIANS: f64 = 400.0;

/// What the issue asks for at most, by the beginning of a row's name.
const TARGETS: [(&str, f64); 10] = [
    ("open, without policy", 350.0),
    ("open, rules of another family", 350.0),
    ("open, 1 rules", 4_000.0),
    // From some dozens on, an automaton is in its comb form.
    ("open, 70 rules", 5_000.0),
    ("open, 1000 rules", 5_000.0),
    ("exec, ", 5_000.0),
    ("exec by the median, ", 5_000.0),
    ("connect, ", 2_500.0),
    // As for an open: it is named, and judged, in the same way.
    ("unlink, ", 5_000.0),
    ("write, ", 0.0),
];

/// The state that others are counted beside.
pub const IDLE: &str = "idle programs";
/// At the end of a state: programs of sockets were attached to all cgroups as well, as they are not in every state.
pub const ATTACHED: &str = ", attached";

/// One act in one state: what Palisade adds to the programs that do nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Cost {
    /// `ACT, STATE`.
    pub name: String,
    /// Instructions.
    pub added: f64,
    /// Of the act under programs that do nothing, in the same run.
    pub idle: f64,
}

/// Why counts are no costs.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CostError {
    /// The guest did not say it.
    #[error("the guest did not count '{0}'")]
    Missing(String),
    /// Neither a comment nor `KERNEL | ROW | NUMBER`.
    #[error("line of the budget: '{0}'")]
    Line(String),
}

/// What a run's counts say: all but the baselines.
///
/// # Errors
/// [`CostError::Missing`] where an act has no baseline.
pub fn costs(counts: &BTreeMap<String, f64>) -> Result<Vec<Cost>, CostError> {
    let rows = counts.iter().filter_map(|(counted, count)| {
        let name = counted.strip_suffix(ATTACHED).unwrap_or(counted);
        let (act, state) = name.split_once(", ")?;
        (!["bare", IDLE].contains(&state)).then(|| (name, format!("{act}, {IDLE}{}", &counted[name.len()..]), count))
    });
    rows.map(|(name, idle, count)| {
        let idle = *counts.get(&idle).ok_or(CostError::Missing(idle))?;
        Ok(Cost { name: name.to_owned(), added: count - idle, idle })
    })
    .collect()
}

/// Each row as it was counted lower in two runs of one kernel; a row that the second did not count stays.
#[must_use]
pub fn lesser(first: Vec<Cost>, second: &[Cost]) -> Vec<Cost> {
    let other = |cost: &Cost| second.iter().find(|other| other.name == cost.name && other.added < cost.added).cloned();
    first.into_iter().map(|cost| other(&cost).unwrap_or(cost)).collect()
}

/// The lines of one kernel (`6.1`): instructions by row.
///
/// # Errors
/// [`CostError::Line`].
pub fn budget(text: &str, kernel: &str) -> Result<BTreeMap<String, f64>, CostError> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parsed = lines.map(|line| {
        let wrong = || CostError::Line(line.to_owned());
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [of, name, number] = cells[..] else { return Err(wrong()) };
        Ok((of, name.to_owned(), number.parse().map_err(|_| wrong())?))
    });
    let all: Result<Vec<_>, _> = parsed.collect();
    Ok(all?.into_iter().filter(|(of, ..)| *of == kernel).map(|(_, name, number)| (name, number)).collect())
}

/// What a row is against its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Within the tolerance.
    Held,
    /// Above it: fails.
    Risen,
    /// Below it: the budget is to be lowered, lest the next rise hide in it.
    Fallen,
    /// No such row in the budget: fails.
    Unbudgeted,
    /// Above what is asked for at most, whatever the budget says: fails.
    Over,
}

impl Verdict {
    /// Does it fail?
    #[must_use]
    pub const fn fails(self) -> bool {
        !matches!(self, Self::Held | Self::Fallen)
    }
}

/// What is asked for at most.
fn target(cost: &Cost) -> Option<f64> {
    TARGETS.iter().find(|(name, _)| cost.name.starts_with(name)).map(|(_, target)| *target)
}

/// Compares.
#[must_use]
pub fn judge(cost: &Cost, budget: &BTreeMap<String, f64>) -> Verdict {
    if target(cost).is_some_and(|target| cost.added > target.max(LEAST)) {
        return Verdict::Over;
    }
    let Some(budget) = budget.get(&cost.name) else { return Verdict::Unbudgeted };
    let slack = if cost.name.contains(BY_THE_MEDIAN) {
        (budget.abs() * TOLERANCE_OF_MEDIANS).max(LEAST_OF_MEDIANS)
    } else {
        (budget.abs() * TOLERANCE).max(LEAST)
    };
    match cost.added - budget {
        more if more > slack => Verdict::Risen,
        less if less < -slack => Verdict::Fallen,
        _ => Verdict::Held,
    }
}

/// All rows with their verdicts, each a test as Rust's own harness prints it, so that the ring counts them.
pub struct Report<'a> {
    /// Measured.
    pub costs: &'a [Cost],
    /// Of this kernel.
    pub budget: &'a BTreeMap<String, f64>,
}

impl Report<'_> {
    /// Neither a rise nor a row without a budget, nor one above what is asked for, nor a budget without a row.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.costs.iter().all(|cost| !judge(cost, self.budget).fails()) && self.gone().is_empty()
    }

    fn gone(&self) -> Vec<&str> {
        let measured = |name: &str| self.costs.iter().any(|cost| cost.name == name);
        self.budget.keys().map(String::as_str).filter(|name| !measured(name)).collect()
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gone = self.gone();
        writeln!(out, "running {} tests", self.costs.len() + gone.len())?;
        for cost in self.costs {
            let verdict = judge(cost, self.budget);
            let shown = |number: Option<f64>| number.map_or("-".to_owned(), |number| format!("{number:.0}"));
            let (budget, target) = (shown(self.budget.get(&cost.name).copied()), shown(target(cost)));
            let note = match verdict {
                Verdict::Held => "",
                Verdict::Risen => ", RISEN",
                Verdict::Fallen => ", fallen: lower the budget",
                Verdict::Unbudgeted => ", NO BUDGET",
                Verdict::Over => ", OVER what is asked for",
            };
            let figures = format!("({:.0} to {:.0}, budget {budget}, at most {target}{note})", cost.added, cost.idle);
            let ends = if verdict.fails() { "FAILED" } else { "ok" };
            writeln!(out, "test cost_of {:<36} {figures} ... {ends}", cost.name)?;
        }
        gone.iter()
            .try_for_each(|name| writeln!(out, "test cost_of {name} (has a budget, was not counted) ... FAILED"))?;
        let failed = self.costs.iter().filter(|cost| judge(cost, self.budget).fails()).count() + gone.len();
        let result = if failed == 0 { "ok" } else { "FAILED" };
        writeln!(
            out,
            "test result: {result}. {} passed; {failed} failed; 0 ignored",
            self.costs.len() + gone.len() - failed
        )
    }
}

/// The budget's text with this kernel's lines made anew.
#[must_use]
pub fn renewed(text: &str, kernel: &str, costs: &[Cost]) -> String {
    let of_kernel = |line: &&str| line.split('|').next().is_some_and(|of| of.trim() == kernel);
    let mut renewed: String =
        text.lines().filter(|line| !of_kernel(line)).fold(String::new(), |all, line| all + line + "\n");
    for cost in costs {
        // To a String it cannot fail.
        let _written = writeln!(renewed, "{kernel} | {} | {:.0}", cost.name, cost.added);
    }
    renewed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(added: f64) -> Vec<Cost> {
        let counts = [("open, bare", 900.0), ("open, idle programs", 1_000.0), ("open, 70 rules", 1_000.0 + added)];
        costs(&counts.map(|(name, count)| (name.to_owned(), count)).into()).unwrap_or_default()
    }

    #[test]
    fn unit_costs_are_what_is_added_to_the_programs_that_do_nothing() {
        assert_eq!(counts(4_000.0), [Cost { name: "open, 70 rules".to_owned(), added: 4_000.0, idle: 1_000.0 }]);
        let counts = BTreeMap::from(
            [
                ("connect, idle programs", 10.0),
                ("connect, idle programs, attached", 30.0),
                ("connect, 1 rules, attached", 50.0),
                ("connect, without policy", 11.0),
            ]
            .map(|(name, count)| (name.to_owned(), count)),
        );
        let added: Vec<_> =
            costs(&counts).unwrap_or_default().into_iter().map(|cost| (cost.name, cost.added)).collect();
        assert_eq!(added, [("connect, 1 rules".to_owned(), 20.0), ("connect, without policy".to_owned(), 1.0)]);
        let alone = BTreeMap::from([("open, 1 rules".to_owned(), 1.0)]);
        assert_eq!(costs(&alone), Err(CostError::Missing("open, idle programs".to_owned())));
    }

    #[test]
    fn unit_costs_above_their_budget_fail_and_far_below_it_ask_for_a_lower_one() {
        let text = "# of acts\n6.1 | open, 70 rules | 4000\n6.12 | open, 70 rules | 9\n";
        let budget = budget(text, "6.1").unwrap_or_default();
        let verdict = |added| judge(&counts(added)[0], &budget);
        let verdicts = [4_121.0, 4_119.0, 3_881.0, 3_879.0].map(verdict);
        assert_eq!(verdicts, [Verdict::Risen, Verdict::Held, Verdict::Held, Verdict::Fallen]);
        let held = |costs: &[Cost]| Report { costs, budget: &budget }.is_held();
        assert!(held(&counts(4_000.0)) && held(&counts(1.0)) && !held(&counts(4_121.0)));
        assert!(!held(&[]), "a row that is not counted any more");
        assert_eq!(judge(&counts(1.0)[0], &BTreeMap::new()), Verdict::Unbudgeted);
        let wide = BTreeMap::from([("open, 70 rules".to_owned(), 9_000.0)]);
        assert_eq!(judge(&counts(5_001.0)[0], &wide), Verdict::Over, "a budget that was written too high");
    }

    #[test]
    fn unit_costs_of_two_runs_are_the_lesser_of_each_row() {
        let of = |added: [f64; 2]| {
            let rows = ["exec, 1 rules", "open, 1 rules"].into_iter().zip(added);
            rows.map(|(name, added)| Cost { name: name.to_owned(), added, idle: 1.0 }).collect::<Vec<_>>()
        };
        assert_eq!(lesser(of([4_108.0, 20.0]), &of([3_985.0, 21.0])), of([3_985.0, 20.0]));
        assert_eq!(lesser(of([7.0, 8.0]), &[]), of([7.0, 8.0]));
    }

    #[test]
    fn unit_costs_by_the_median_are_held_to_what_is_asked_for_and_loosely_to_their_budget() {
        let name = format!("exec{BY_THE_MEDIAN}, 1000 rules");
        let budget = BTreeMap::from([(name.clone(), 4_000.0)]);
        let verdict = |added| judge(&Cost { name: name.clone(), added, idle: 312_000.0 }, &budget);
        let verdicts = [5_001.0, 4_601.0, 4_599.0, 3_399.0].map(verdict);
        assert_eq!(verdicts, [Verdict::Over, Verdict::Risen, Verdict::Held, Verdict::Fallen]);
    }

    #[test]
    fn unit_costs_are_told_as_the_tests_that_the_ring_counts() {
        let budget =
            BTreeMap::from([("open, 70 rules", 4_000.0), ("gone", 1.0)].map(|(name, count)| (name.to_owned(), count)));
        let told = Report { costs: &counts(4_010.0), budget: &budget }.to_string();
        let failed: Vec<_> = told.lines().filter(|line| line.ends_with("... FAILED")).collect();
        assert_eq!(failed, ["test cost_of gone (has a budget, was not counted) ... FAILED"]);
        assert!(told.ends_with("test result: FAILED. 1 passed; 1 failed; 0 ignored\n"), "{told}");
    }

    #[test]
    fn unit_costs_renew_the_lines_of_their_own_kernel_alone() {
        let text = renewed("# of acts\n6.1 | gone | 4\n6.12 | open | 9\n", "6.1", &counts(7.0));
        assert_eq!(text, "# of acts\n6.12 | open | 9\n6.1 | open, 70 rules | 7\n");
        assert_eq!(budget("6.1 | open", "6.1"), Err(CostError::Line("6.1 | open".to_owned())));
    }
}
