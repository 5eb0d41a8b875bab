//! A mapping of settings: a file that is no policy (the node's configuration), read with the bounds, places and messages of policies.
//!
//! Invariant: every setting has one of the known names, each at most once, and a value of one of three shapes; all else is a
//! [`Diagnostic`]. What a value means is its reader's to say, at the setting's place.

use crate::{
    diagnostic::{Diagnostic, Position, Problems, quoted},
    fields::{self, Fields},
    policy_file, suggest,
    yaml::{Node, Value},
};

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// One of the known names.
    pub name: String,
    /// Where its value is.
    pub at: Position,
    /// What it is set to.
    pub value: SettingValue,
}

/// The shapes of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingValue {
    /// Text, number or boolean as it is written.
    One(String),
    /// A list of such.
    List(Vec<String>),
    /// Names with such.
    Map(Vec<(String, String)>),
}

/// Reads the one document of a file; an empty file sets nothing. What is sound is returned beside what is not.
#[must_use]
pub fn read(file: &str, bytes: &[u8], known: &[&str]) -> (Vec<Setting>, Vec<Diagnostic>) {
    let mut problems = Problems::new(file);
    let (mut settings, mut documents) = (Vec::new(), 0);
    policy_file::for_each_document(bytes, &mut problems, |document, problems| {
        documents += 1;
        if documents > 1 {
            let why = "a configuration is one document";
            problems.error(document.at, "a second document", why, "remove it, with the `---` before it");
        } else {
            settings = of_document(&document, known, problems);
        }
    });
    (settings, problems.into_diagnostics())
}

/// The name that was probably meant.
#[must_use]
pub fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    suggest::nearest(written, known)
}

fn of_document(document: &Node, known: &[&str], problems: &mut Problems) -> Vec<Setting> {
    let Some(fields) = Fields::of(document, "", problems) else { return Vec::new() };
    let mut settings = Vec::new();
    for (key, node) in fields.all() {
        if !known.contains(&key.text.as_str()) {
            let instead = match suggest::nearest(&key.text, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "remove it; `palisade config schema` names all settings".to_owned(),
            };
            problems.error(key.at, format!("unknown field {}", quoted(&key.text)), "there is no such setting", instead);
        } else if let Some(value) = value(node, &key.text, problems) {
            settings.push(Setting { name: key.text.clone(), at: node.at, value });
        }
    }
    settings
}

/// Null says that the setting is not set.
fn value(node: &Node, place: &str, problems: &mut Problems) -> Option<SettingValue> {
    if node.is_null() {
        return None;
    }
    match &node.value {
        Value::Scalar { text, .. } => Some(SettingValue::One(text.clone())),
        Value::Sequence(items) => {
            let texts = items.iter().map(|item| scalar(item, place, problems)).collect::<Option<_>>()?;
            Some(SettingValue::List(texts))
        }
        Value::Mapping(entries) => {
            let pair = |(key, node): &(crate::yaml::Key, Node)| {
                scalar(node, &format!("{place}.{}", key.text), problems).map(|value| (key.text.clone(), value))
            };
            entries.iter().map(pair).collect::<Option<_>>().map(SettingValue::Map)
        }
    }
}

fn scalar(node: &Node, place: &str, problems: &mut Problems) -> Option<String> {
    match &node.value {
        Value::Scalar { text, .. } if !node.is_null() => Some(text.clone()),
        _ => {
            fields::wrong_kind(node, place, "one value", "write text, a number, `true` or `false`", problems);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_settings_are_read_in_three_shapes_with_their_places() {
        let text = "# comment\nmaxWorkloads: 20\nhostLabels:\n  env: prod\n  n: 1\nlist: [a, 'b']\nempty:\n";
        let known = ["maxWorkloads", "hostLabels", "list", "empty"];
        let (settings, problems) = read("c.yaml", text.as_bytes(), &known);
        assert_eq!(problems, []);
        let one = |text: &str| SettingValue::One(text.into());
        assert_eq!(
            settings[0],
            Setting { name: "maxWorkloads".into(), at: Position { line: 2, column: 15 }, value: one("20") }
        );
        let labels = vec![("env".to_owned(), "prod".to_owned()), ("n".to_owned(), "1".to_owned())];
        assert_eq!(settings[1].value, SettingValue::Map(labels));
        assert_eq!(settings[2].value, SettingValue::List(vec!["a".into(), "b".into()]));
        assert_eq!(settings.len(), 3, "null sets nothing");
        assert_eq!(read("c.yaml", b"", &known), (Vec::new(), Vec::new()));
    }

    #[test]
    fn unit_settings_refuse_unknown_names_second_documents_and_nested_values_at_their_places() {
        let text = "maxWorkload: 20\nlist: [[a]]\nq: 1\n---\nlist: a\n";
        let (settings, problems) = read("c.yaml", text.as_bytes(), &["maxWorkloads", "list"]);
        assert_eq!(settings, []);
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 4, "{said:?}");
        assert!(
            said[0].starts_with("c.yaml:1:1: unknown field `maxWorkload`")
                && said[0].ends_with("did you mean `maxWorkloads`?"),
            "{said:?}"
        );
        assert!(said[1].starts_with("c.yaml:2:8: `list` is a list, one value is wanted"), "{said:?}");
        assert!(said[2].starts_with("c.yaml:3:1: unknown field `q`"), "{said:?}");
        assert!(said[3].starts_with("c.yaml:5:1: a second document"), "{said:?}");
    }
}
