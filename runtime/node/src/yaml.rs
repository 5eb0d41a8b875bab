//! JSON documents as YAML.
//!
//! Invariant: what is written reads back as the same document, and holds no character that a terminal obeys: text that is not plain in
//! every YAML reader's eyes stands in double quotes, escaped as in JSON, which YAML reads alike.
//!
//! Decision: an emitter of JSON's six kinds of values, not one of all of YAML, because the kinds are few and the escaping must be ours.

use std::fmt::Write as _;

use serde_json::Value;

use crate::render::printable_json;

/// The document, ending in a line feed.
#[must_use]
pub fn document(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Array(items) if !items.is_empty() => sequence(items, 0, &mut text),
        Value::Object(entries) if !entries.is_empty() => mapping(entries, 0, &mut text),
        value => text = scalar(value) + "\n",
    }
    text
}

fn mapping(entries: &serde_json::Map<String, Value>, indent: usize, text: &mut String) {
    for (number, (key, value)) in entries.iter().enumerate() {
        // The first stands where its owner left off: after `- `, or at the beginning of a line.
        let indent_of = if number == 0 { 0 } else { indent };
        // Writing to a string cannot fail.
        let _ = write!(text, "{:indent_of$}{}:", "", string(key));
        match value {
            Value::Array(items) if !items.is_empty() => {
                let _ = write!(text, "\n{:indent$}", "");
                sequence(items, indent, text);
            }
            Value::Object(entries) if !entries.is_empty() => {
                let _ = write!(text, "\n{:1$}", "", indent + 2);
                mapping(entries, indent + 2, text);
            }
            value => {
                let _ = writeln!(text, " {}", scalar(value));
            }
        }
    }
}

fn sequence(items: &[Value], indent: usize, text: &mut String) {
    for (number, item) in items.iter().enumerate() {
        let indent_of = if number == 0 { 0 } else { indent };
        let _ = write!(text, "{:indent_of$}- ", "");
        match item {
            Value::Array(items) if !items.is_empty() => sequence(items, indent + 2, text),
            Value::Object(entries) if !entries.is_empty() => mapping(entries, indent + 2, text),
            value => {
                let _ = writeln!(text, "{}", scalar(value));
            }
        }
    }
}

/// Whatever fits on a line; empty lists and objects as JSON writes them.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => string(text),
        value => value.to_string(),
    }
}

fn string(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { printable_json(&Value::String(text.to_owned()).to_string()) }
}

/// Neither a number, nor a word, nor a sign to any version of YAML.
fn is_plain(text: &str) -> bool {
    /// Words that one version or the other takes for something else than text.
    const WORDS: [&str; 11] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let ends = !text.ends_with([' ', ':']);
    let sound = text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./ :@+".contains(c));
    begins && ends && sound && !text.contains(": ") && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use palisade_policy::settings::{self, SettingValue};
    use serde_json::json;

    use super::*;

    #[test]
    fn unit_yaml_is_what_people_write() {
        let value = json!({
            "ready": true, "none": null, "n": 3, "text": "a b", "empty": {}, "list": [1, { "a": "x", "b": [] }, ["p", "q"]],
            "deep": { "inner": { "k": "tcp 10.0.0.1:80" } },
        });
        let expected = "deep:\n  inner:\n    k: tcp 10.0.0.1:80\nempty: {}\nlist:\n- 1\n- a: x\n  b: []\n- - p\n  - q\n\"n\": 3\nnone: null\n\
                        ready: true\ntext: a b\n";
        assert_eq!(document(&value), expected);
        assert_eq!(document(&json!([])), "[]\n");
        assert_eq!(document(&json!("x")), "x\n");
    }

    #[test]
    fn unit_yaml_reads_back_as_it_was_and_moves_no_cursor() {
        let hostile = [
            "",
            " a",
            "a ",
            "a: b",
            "a #b",
            "- a",
            "yes",
            "No",
            "1",
            "1e3",
            "~",
            "null",
            "a\u{1b}[2Jb",
            "x\ny",
            "\u{9b}31m",
            "\u{202e}abc",
            "\u{7f}",
            "\"q\"",
            "back\\slash",
            "'",
            "été",
            "{a}",
            "[a]",
            "&a",
            "*a",
            "!a",
            "%a",
            "@a",
            "`a`",
            "a:",
            "0x1f",
            ".5",
            "_1",
            "key?",
            "?",
            "|",
            ">",
            "\u{1f600}",
        ];
        for text in hostile {
            let written = document(&json!({ "k": text, "m": { text: "v" }, "l": [text] }));
            assert!(written.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}'), "{written:?}");
            let (found, problems) = settings::read("x", written.as_bytes(), &["k", "m", "l"]);
            assert_eq!(problems, [], "{written:?}");
            let values: Vec<SettingValue> = found.into_iter().map(|setting| setting.value).collect();
            let text = text.to_owned();
            let expected = [
                SettingValue::One(text.clone()),
                SettingValue::List(vec![text.clone()]),
                SettingValue::Map(vec![(text, "v".to_owned())]),
            ];
            assert_eq!(values, expected, "{written:?}");
        }
    }
}
