//! An explanation as a document, for machines.

use palisade_domain::Posture;
use palisade_policy::{
    explain::{Part, Question, Selection},
    ir::{Postures, Rule},
};
use serde_json::{Value, json};

use super::{
    Answer, Telling,
    rule_words::{place, rank_words, rule_words},
    words::{Told, part_words},
};
use crate::node::view;

impl Telling {
    pub(super) fn json(&self) -> Value {
        let policies: Vec<Value> = self
            .selections()
            .map(|(policy, selection)| match selection {
                Selection::Selected(reasons) => json!({ "policy": policy, "selects": true, "because": reasons }),
                Selection::NotSelected(reason) => json!({ "policy": policy, "selects": false, "because": [reason] }),
            })
            .collect();
        let posture = |(families, posture, from): (&str, Posture, String)| json!({ "families": families, "posture": posture, "from": from });
        let families: Vec<Value> = self.families().iter().map(told_json).collect();
        json!({
            "workload": self.workload, "policies": policies, "defaultPostures": postures_json(&self.global),
            "postures": self.postures().into_iter().map(posture).collect::<Vec<_>>(), "families": families,
            "visibility": self.set.visibility_of(&self.workload).map(|seen| seen.to_string()),
            "kernel": self.kernel.release(), "notHeld": self.not_held.iter().map(view::not_held).collect::<Vec<_>>(),
            "leftOut": self.left_out, "filesLeftOut": self.unsound.iter().map(|file| &**file).collect::<Vec<&str>>(), "answer": self.answer.as_ref().map(answer_json),
        })
    }
}

fn postures_json(postures: &Postures) -> Value {
    json!({ "file": postures.file, "network": postures.network, "capabilities": postures.capabilities })
}

fn told_json(told: &Told<'_>) -> Value {
    let rules: Vec<Value> = told.rules.iter().map(|rule| rule_json(rule)).collect();
    let allow = told.allow.map(|rule| place(rule));
    json!({ "family": told.family, "allowList": told.allow.is_some(), "allowListBy": allow, "rules": rules })
}

fn rule_json(rule: &Rule) -> Value {
    json!({
        "policy": rule.policy.to_string(), "place": rule.place, "action": rule.action, "words": rule_words(rule),
        "rank": rank_words(rule.specificity(), &rule.matcher), "severity": rule.severity, "tags": rule.tags, "message": rule.message,
    })
}

fn answer_json(answer: &Answer) -> Value {
    let question = |question: &Question| {
        let considered: Vec<Value> = question
            .rules
            .iter()
            .map(|considered| {
                let mut rule = rule_json(&considered.rule);
                rule["part"] = json!(part_words(considered, question));
                rule["decides"] = json!(matches!(considered.part, Part::Decides(_)));
                rule
            })
            .collect();
        let decision = &question.decision;
        let by: Vec<String> = decision.by.iter().map(|rule| place(rule)).collect();
        json!({
            "about": question.about, "family": question.family, "allowList": question.is_allow_list, "posture": question.posture,
            "action": decision.action, "byPosture": decision.by_posture, "by": by, "rules": considered,
        })
    };
    json!({
        "questions": answer.explanation.questions.iter().map(question).collect::<Vec<_>>(), "answer": answer.explanation.answer,
        "disagreement": answer.disagreement,
    })
}
