//! The table of broken documents: `fixtures/broken/*` against `fixtures/broken.expected`, line by line, in full.

use super::{KUBEARMOR, fixture, fixtures, messages};
use crate::{Diagnostic, MAX_DIAGNOSTICS, MAX_DOCUMENT_BYTES, MAX_DOCUMENTS, MAX_FILE_BYTES, PolicyFile, Severity};

#[test]
fn unit_policy_file_says_of_every_broken_document_what_why_and_what_instead() {
    let names = fixtures("broken");
    assert!(names.len() >= 100, "only {} broken documents were found", names.len());
    let mut actual = Vec::new();
    for name in &names {
        let file = PolicyFile::parse(name, &fixture(&format!("broken/{name}")));
        assert!(!file.is_sound(), "{name} was accepted");
        actual.extend(file.diagnostics.iter().map(ToString::to_string));
    }
    // To write the table anew, and then to read what changed: PALISADE_BLESS=1 cargo test -p palisade-policy broken
    if std::env::var_os("PALISADE_BLESS").is_some() {
        let table = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/broken.expected");
        std::fs::write(table, actual.join("\n") + "\n").unwrap();
    }
    let expected = String::from_utf8(fixture("broken.expected")).unwrap();
    let expected: Vec<&str> = expected.lines().collect();
    for (index, line) in actual.iter().enumerate() {
        assert_eq!(Some(&line.as_str()), expected.get(index), "line {} of broken.expected", index + 1);
    }
    assert_eq!(actual.len(), expected.len());
}

#[test]
fn unit_policy_file_keeps_the_good_documents_beside_broken_ones() {
    let file = PolicyFile::parse("f.yaml", &fixture("broken/syntax-in-the-second-of-three-documents.yaml"));
    let names: Vec<&str> = file.policies.iter().map(|policy| policy.reference.name.as_str()).collect();
    assert_eq!(names, ["p"]);
    assert_eq!(file.policies[0].at.line, 1);
}

#[test]
fn unit_policy_file_counts_lines_across_carriage_returns_and_byte_order_marks() {
    let text = format!("\u{feff}{}", format!("{KUBEARMOR}  severity: 99\n").replace('\n', "\r\n"));
    let place = messages(&text)[0].clone();
    assert!(place.starts_with("test.yaml:6:13: "), "{place}");
    let second = format!("{KUBEARMOR}---\r\n{KUBEARMOR}  severity: 99\n");
    assert!(messages(&second).iter().any(|line| line.starts_with("test.yaml:12:13: ")), "{:?}", messages(&second));
}

#[test]
fn unit_policy_file_refuses_what_is_not_text_and_says_where() {
    let cases: [(&[u8], &str); 3] = [
        (b"a: b\nc: \xff\n", "f:2:4: byte 0xff is not UTF-8, policy files are UTF-8 text, save the file as UTF-8"),
        (
            b"a: \0b",
            "f:1:4: control character U+0000, YAML forbids it in a file, remove it, or write it as an escape in a double-quoted string",
        ),
        (
            b"\x7fELF",
            "f:1:1: control character U+007F, YAML forbids it in a file, remove it, or write it as an escape in a double-quoted string",
        ),
    ];
    for (bytes, expected) in cases {
        let file = PolicyFile::parse("f", bytes);
        let actual: Vec<String> = file.diagnostics.iter().map(ToString::to_string).collect();
        assert_eq!(actual, [expected]);
    }
}

#[test]
fn unit_policy_file_refuses_a_file_past_its_bound_with_the_number() {
    let file = PolicyFile::parse("f", &vec![b'#'; MAX_FILE_BYTES + 1]);
    let expected = "f:1:1: the file has 4194305 bytes, at most 4194304 are read, split it into several files";
    assert_eq!(file.diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    let comments = "# comment
---
"
    .repeat(100)
        + &"#
"
        .repeat(100);
    assert!(PolicyFile::parse("f", comments.as_bytes()).is_sound());
}

#[test]
fn unit_policy_file_refuses_too_many_documents_with_the_number() {
    let lines = |count: usize| PolicyFile::parse("f", "---\n".repeat(count).as_bytes());
    assert!(lines(MAX_DOCUMENTS).is_sound());
    let too_many = lines(MAX_DOCUMENTS + 1).diagnostics;
    let expected =
        "f:4097:1: the file has too many documents, at most 4096 are read from a file, split it into several files";
    assert_eq!(too_many.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    // Documents that end by `...` lines are of one part.
    let ended = PolicyFile::parse("f", "a\n...\n".repeat(MAX_DOCUMENTS + 1).as_bytes());
    assert!(!ended.is_sound());
}

#[test]
fn unit_policy_file_refuses_a_document_past_its_bound_and_reads_the_next() {
    let text = format!("{KUBEARMOR}  message: {}\n---\n{KUBEARMOR}", "x".repeat(MAX_DOCUMENT_BYTES));
    let file = PolicyFile::parse("f", text.as_bytes());
    assert_eq!(file.policies.len(), 1);
    assert_eq!(file.diagnostics[0].why, "at most 1048576 are read");
}

#[test]
fn unit_policy_file_lists_a_bounded_number_of_problems_and_counts_the_rest() {
    let text = "---\nkind: [\n".repeat(MAX_DIAGNOSTICS + 7);
    let file = PolicyFile::parse("f", text.as_bytes());
    assert_eq!(file.diagnostics.len(), MAX_DIAGNOSTICS + 1);
    let last = file.diagnostics.last().unwrap();
    assert_eq!((last.what.as_str(), last.severity), ("7 more problems", Severity::Error));
}

#[test]
fn unit_policy_file_refuses_too_many_rules_with_the_number_once() {
    let item = "    - protocol: tcp,udp,raw,icmp,icmpv6,sctp,stream,dgram,rdm,seqpacket\n";
    let fits = format!("{KUBEARMOR}  network:\n    matchProtocols:\n{}", item.repeat(1_000));
    assert_eq!(messages(&fits), Vec::<String>::new());
    let too_many = messages(&format!("{fits}{item}"));
    assert_eq!(
        too_many,
        ["test.yaml:1008:7: the policy has too many rules, at most 10000 are taken from one policy, \
          comma and port lists expanded, split it into several, or shorten its tags and messages"]
    );
}

#[test]
fn unit_policy_file_bounds_what_nothing_holds_as_it_does_rules_and_says_of_the_rest_how_bad_it_is() {
    let document = |items: usize| {
        format!(
            "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorNetworkPolicy\nmetadata: {{name: p}}\nspec:\n  nodeSelector: {{matchLabels: \
             {{a: b}}}}\n  ingress: [{}]\n",
            "{},".repeat(items)
        )
    };
    let fits = PolicyFile::parse("f", document(10_000).as_bytes());
    assert_eq!((fits.policies[0].unheld.len(), fits.is_sound()), (10_000, true));
    let last = fits.diagnostics.last().unwrap();
    assert_eq!((last.what.as_str(), last.severity), ("9500 more problems", Severity::Unenforceable));
    let more = PolicyFile::parse("f", document(60_000).as_bytes());
    assert!(!more.is_sound() && more.policies.is_empty());
    // Only what is within the bound is noted at all: 501 of the first 10,000, and that there are more.
    let last = more.diagnostics.last().unwrap();
    assert_eq!((last.what.as_str(), last.severity), ("9501 more problems", Severity::Error));
}

#[test]
fn unit_policy_file_refuses_a_document_of_too_many_signs_before_it_is_parsed() {
    let file = PolicyFile::parse("f", format!("[{}", "a,".repeat(200_000)).as_bytes());
    let expected = "f:1:1: the document has 200001 brackets, commas and quotation marks, at most 200000 are read, \
                    split the policy into several, with `---` lines between them";
    assert_eq!(file.diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
}

#[test]
fn unit_policy_file_bounds_the_nodes_and_the_inherited_text_of_all_its_documents() {
    let annotations = "annotations: {x: &a [1,1,1,1,1,1,1,1,1,1], y: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a], \
                       z: [*b,*b,*b,*b,*b,*b,*b,*b,*b]}";
    let document = KUBEARMOR.replace("{name: p", &format!("{{name: p, {annotations}"));
    let document = format!("{document}  process: {{matchPaths: [{{path: /a}}]}}\n---\n");
    let file = PolicyFile::parse("f", document.repeat(1_000).as_bytes());
    assert_eq!(file.diagnostics[0].why, "at most 1000000 are read, aliases expanded");
    assert!((500..1_000).contains(&file.policies.len()), "{}", file.policies.len());
    let item = "    - protocol: tcp,udp,raw,icmp,icmpv6,sctp,stream,dgram,rdm,seqpacket\n";
    let one = format!(
        "{KUBEARMOR}  message: {}\n  network:\n    matchProtocols:\n{}---\n",
        "x".repeat(4_000),
        item.repeat(500)
    );
    let file = PolicyFile::parse("f", one.repeat(4).as_bytes());
    assert_eq!(file.policies.len(), 3, "20 MB each");
    assert_eq!(file.diagnostics.len(), 1);
    assert_eq!(file.diagnostics[0].why, "those of one file take at most 67108864 bytes, inherited text included");
}

#[test]
fn unit_diagnostic_is_one_line_whatever_the_document_holds() {
    let text = format!("{KUBEARMOR}  \"two\\nlines\\u2028and more\": 1\n  action: \"a\\nb\"\n");
    for line in messages(&text) {
        assert_eq!(line.lines().count(), 1, "{line:?}");
        assert!(!line.contains('\u{2028}'), "{line:?}");
    }
}

#[test]
fn unit_diagnostic_shows_a_files_name_without_what_a_terminal_obeys() {
    let file = PolicyFile::parse("a\u{1b}[31m\nb.yaml", b"x: 1\n");
    let shown = file.diagnostics[0].to_string();
    assert!(shown.chars().all(|sign| !sign.is_control()) && shown.starts_with("a\\u{1b}[31m"), "{shown:?}");
    assert_eq!(file.diagnostics[0].file, "a\u{1b}[31m\nb.yaml", "machines get the name as it is");
    let twice = ["a\u{7}.yaml", "b.yaml"].map(|name| PolicyFile::parse(name, KUBEARMOR.as_bytes()));
    let (_, duplicates) = crate::PolicySet::assemble(&twice);
    assert!(duplicates[0].to_string().chars().all(|sign| !sign.is_control()), "{}", duplicates[0]);
}

#[test]
fn unit_diagnostic_survives_json_and_says_its_severity() {
    let file = PolicyFile::parse("f.yaml", &fixture("broken/later-destinations.yaml"));
    let json = serde_json::to_string(&file.diagnostics).unwrap();
    assert!(json.contains(r#""severity":"unsupported""#), "{json}");
    assert_eq!(serde_json::from_str::<Vec<Diagnostic>>(&json).unwrap(), file.diagnostics);
}
