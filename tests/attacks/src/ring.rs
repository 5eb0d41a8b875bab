//! All attacks of the table by one means, and a line of each.

use std::{collections::BTreeMap, path::Path};

use crate::{
    Failed, Means, attempt,
    rows::{ATTACKS, ELSEWHERE, UNTRIED},
    table::Attack,
};

/// How many of each verdict.
pub type Report = BTreeMap<&'static str, usize>;

/// Does the attacks whose names contain the word (all, if it is empty) and says `case NAME | TIER | VERDICT | ok` of each.
///
/// # Errors
/// All that went otherwise than the table has it.
pub fn run(means: &mut dyn Means, program: &Path, word: &str, say: &mut dyn FnMut(&str)) -> Result<Report, Failed> {
    let (mut report, mut wrong) = (Report::new(), Vec::new());
    for attack in ATTACKS.iter().filter(|attack| attack.name().contains(word)) {
        let wanted = attack.verdict(means.column());
        let reason = wanted.reason().map(|reason| format!(": {reason}")).unwrap_or_default();
        let (verdict, became) = match once(means, program, attack) {
            Ok(None) => (wanted.name(), "ok"),
            Ok(Some(_)) if attack.may_be_missing => ("cannot be done on this kernel", "ok"),
            Ok(Some(objection)) | Err(Failed(objection)) => {
                wrong.push(format!("{}: {objection}", attack.name()));
                (wanted.name(), "FAILED")
            }
        };
        say(&format!("case {} | {} | {verdict}{reason} | {became}", attack.name(), means.column()));
        *report.entry(verdict).or_default() += 1;
        if became != "ok" {
            say(wrong.last().map_or("", String::as_str));
        }
    }
    if wrong.is_empty() { Ok(report) } else { Err(Failed(wrong.join("\n"))) }
}

/// `Some`: it cannot be done here, whatever the policy.
fn once(means: &mut dyn Means, program: &Path, attack: &Attack) -> Result<Option<String>, Failed> {
    match attempt(means, program, attack, None) {
        Ok(came) if came.effect => {}
        Ok(came) => return Ok(Some(format!("without a policy it comes to nothing: {:?}", came.said))),
        Err(failed) => return Ok(Some(failed.0)),
    }
    let came = attempt(means, program, attack, Some(&attack.policy.compiled()?))?;
    match came.objection(attack.verdict(means.column()), attack.policy, means.column()) {
        None => Ok(None),
        Some(objection) => Err(Failed(objection)),
    }
}

/// The lines of what is done elsewhere, or nowhere.
pub fn say_others(say: &mut dyn FnMut(&str)) {
    for other in ELSEWHERE {
        say(&format!("case {} {} | any | tried by {} | ok", other.class, other.what, other.tests.join(", ")));
    }
    for untried in UNTRIED {
        say(&format!("case {} {} | any | not tried: {} | -", untried.class, untried.what, untried.reason));
    }
}
