//! Directories that may not be moved: a file of theirs that is denied would be another's, under a name that no rule has.
//!
//! For each Block of files (and each Allow that leaves something to a posture that blocks) the automaton reads, beside what the rule names,
//! every directory above it with two slashes at its end, which no path has. So `/etc/ssh//` is accepted where `/etc/ssh/key` is denied, by
//! the rule that denies it, and a move of `/etc/ssh` is decided as an act on that name: by the same tables, for the same sources, in whatever
//! circumstances the rule leaves something out, for whose the files below are nobody looks up.
//!
//! A move is none where both names lead to one state of the automaton (`/home/a` to `/home/b`, under a rule on `/home/*/.ssh/**`): what is below
//! is denied by either. Nor is one asked for what is denied anywhere (`/**/.env`), unless a rule that may permit such a file comes before: or any rule that
//! tells two places apart would hold up what is moved between them.
//!
//! Decision: names in the automaton of paths, not a table of its own: what is below a state is then the state's, whatever globs lead to it, and
//! a policy costs what it did where nobody moves directories. Over-strict is it where two names differ by rules that deny nothing.
//!
//! Bounds: of all rules that deny below one directory for the same sources one stands for them, the most specific and of these the first.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, btree_map::Entry},
};

use palisade_domain::{Action, Posture};
use palisade_kernel_abi::blob::Family;
use palisade_policy::ir::{Matcher, PathMatch, Rule};

use crate::{automaton::Token, canonical::CanonicalRules, error::CompileError, layers::sequences, verdict::Standing};

/// Rules that may permit: beside more of them, what is denied anywhere is asked for, too, rather than each held against each.
const MAX_OVERRULING: usize = 256;

/// What follows a directory's own slash when it is asked whether it may be moved.
pub const ASKED: u8 = b'/';

/// Rules, each with the names of directories ([`ASKED`] included) for which it stands.
///
/// # Errors
/// Where a rule can match nothing.
pub fn above_what_is_denied(
    canonical: &CanonicalRules,
    standings: &[Standing],
) -> Result<BTreeMap<u32, Vec<Vec<Token>>>, CompileError> {
    let rules = || canonical.rules.iter().zip(standings).zip(0..);
    let overruling = rules().filter(|((rule, standing), _)| may_permit(rule, standing)).map(|(_, number)| number);
    let files = Files { canonical, standings, overruling: overruling.collect() };
    let mut standing_for: BTreeMap<(Vec<Token>, &[u32]), u32> = BTreeMap::new();
    let order = |rule: u32| (standings[rule as usize].specificity, Reverse(rule));
    for (rule, number) in canonical.rules.iter().zip(0..).filter(|(_, number)| files.denies(*number)) {
        for tokens in sequences(rule)? {
            let anywhere = anywhere(&tokens);
            // Asked of those few alone: it is a look at each rule that may come before.
            let anywhere = if anywhere > 0 && files.may_be_overruled(number) { 0 } else { anywhere };
            for directory in directories_above(&tokens).filter(|directory| directory.len() > anywhere + 1) {
                match standing_for.entry((directory, &standings[number as usize].sources)) {
                    Entry::Vacant(nobody) => drop(nobody.insert(number)),
                    Entry::Occupied(mut other) if order(number) > order(*other.get()) => drop(other.insert(number)),
                    Entry::Occupied(_) => {}
                }
            }
        }
    }
    let mut by_rule: BTreeMap<u32, Vec<Vec<Token>>> = BTreeMap::new();
    for ((directory, _), rule) in standing_for {
        by_rule.entry(rule).or_default().push(directory);
    }
    Ok(by_rule)
}

/// The rules, as far as they are of files by their paths.
struct Files<'a> {
    canonical: &'a CanonicalRules,
    standings: &'a [Standing],
    /// What may say otherwise than a Block.
    overruling: Vec<u32>,
}

impl Files<'_> {
    fn rule(&self, number: u32) -> (&Rule, &Standing) {
        (&self.canonical.rules[number as usize], &self.standings[number as usize])
    }

    fn denies(&self, number: u32) -> bool {
        let (rule, standing) = self.rule(number);
        let allow_list_blocks = self.canonical.postures[Family::File as usize] == Some(Posture::Block);
        is_of_files_by_path(rule)
            && match rule.action {
                Action::Block => true,
                Action::Allow => allow_list_blocks && standing.has_modifier(),
                Action::Audit => false,
            }
    }

    /// Whether another rule may come before it for a file that it names.
    fn may_be_overruled(&self, number: u32) -> bool {
        let (rule, standing) = self.rule(number);
        let comes_before = |other: &u32| {
            let (other, of_other) = self.rule(*other);
            of_other.specificity > standing.specificity && may_meet(other, rule)
        };
        rule.action != Action::Block
            || self.overruling.len() > MAX_OVERRULING
            || self.overruling.iter().any(comes_before)
    }
}

/// A bare name goes with its file, wherever that is.
fn is_of_files_by_path(rule: &Rule) -> bool {
    matches!(&rule.matcher, Matcher::File(path) if !matches!(path.path, PathMatch::Name(_)))
}

/// Rules that say otherwise of some file than a Block does.
fn may_permit(rule: &Rule, standing: &Standing) -> bool {
    is_of_files_by_path(rule) && (rule.action != Action::Block || standing.has_modifier())
}

/// Whether there may be a file of both: an exact path is, or is not, what the other names.
fn may_meet(overruling: &Rule, block: &Rule) -> bool {
    match (path_of(overruling), path_of(block)) {
        (Some(PathMatch::Exact(path)), Some(named)) => named.matches(path.as_bytes()),
        _ => true,
    }
}

fn path_of(rule: &Rule) -> Option<&PathMatch> {
    match &rule.matcher {
        Matcher::File(rule) => Some(&rule.path),
        _ => None,
    }
}

/// How many tokens at its beginning are any directory.
fn anywhere(tokens: &[Token]) -> usize {
    match tokens {
        [Token::DoubleStar, ..] => 2,
        [Token::Components, ..] => 1,
        _ => 0,
    }
}

/// The root is nobody's to move, and below a `**` at the end everything is denied by its own name.
fn directories_above(tokens: &[Token]) -> impl Iterator<Item = Vec<Token>> {
    let ends = (0..tokens.len()).filter(|at| tokens[at + 1..] != [Token::DoubleStar]);
    ends.filter_map(|at| {
        let until = &tokens[..=at];
        let slashes: &[Token] = match tokens[at] {
            Token::Byte(b'/') if at > 0 => &[Token::Byte(ASKED)],
            Token::Components => &[Token::Byte(ASKED)],
            Token::DoubleStar if at + 1 < tokens.len() => &[Token::Byte(b'/'), Token::Byte(ASKED)],
            _ => return None,
        };
        Some([until, slashes].concat())
    })
}
