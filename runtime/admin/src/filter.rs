//! Which alerts a listener asks for: matched here, so that what is not asked for never leaves the node.
//!
//! Decision: on the fields of the JSON lines as they are, ours and KubeArmor's names alike, not on a type, because the lines are what the
//! endpoint serves, and whoever adds a field to them need not add it here.
//!
//! Bounds: [`MAX_BYTES`] a parameter, [`MAX_ALTERNATIVES`] of it; one match costs pattern times text at worst, of a few hundred bytes each.

use serde_json::Value;

use crate::routes::AlertQuery;

/// Longest parameter, in bytes.
pub(crate) const MAX_BYTES: usize = 1024;
/// Most alternatives, and most labels.
pub(crate) const MAX_ALTERNATIVES: usize = 32;

/// Where a value stands: the first names are ours, the others those of KubeArmor's files, which stand in the same line. Not `hostName`
/// for the pod: each line has it, and the host's own lines name the host as their workload.
const NAMESPACE: [&str; 2] = ["/workload/namespace", "/namespaceName"];
const POD: [&str; 2] = ["/workload/name", "/podName"];
const CONTAINER: [&str; 2] = ["/workload/container", "/containerName"];
const OPERATION: [&str; 2] = ["/subject/operation", "/operation"];
const SOURCE: [&str; 2] = ["/processChain/0/executable", "/source"];
const RESOURCE: [&str; 2] = ["/subject/resource", "/resource"];
const POLICY: [&str; 2] = ["/rule/policyName", "/policyName"];
const VERDICT: [&str; 1] = ["/verdict"];
const SEVERITY: [&str; 2] = ["/rule/severity", "/severity"];
const TIME: [&str; 1] = ["/time"];

/// A parameter past its bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("`{0}` is longer than {MAX_BYTES} bytes")]
    TooLong(&'static str),
    #[error("`{0}` has more than {MAX_ALTERNATIVES} alternatives")]
    TooMany(&'static str),
    #[error("`labels` is `app=web,tier=front`: each label is KEY=VALUE")]
    Label,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct OneOf {
    places: &'static [&'static str],
    patterns: Vec<String>,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    one_of: Vec<OneOf>,
    labels: Vec<(String, String)>,
    severity: Option<u8>,
    since_unix_ns: Option<u64>,
}

impl Filter {
    /// What a query asks for.
    pub(crate) fn of(query: &AlertQuery) -> Result<Self, FilterError> {
        let asked: [(&'static str, &Option<String>, &'static [&'static str], bool); 8] = [
            ("namespace", &query.namespace, &NAMESPACE, true),
            ("pod", &query.pod, &POD, true),
            ("container", &query.container, &CONTAINER, true),
            ("operation", &query.operation, &OPERATION, true),
            ("policy", &query.policy, &POLICY, true),
            ("verdict", &query.verdict, &VERDICT, true),
            // Paths and arguments may hold commas.
            ("source", &query.source, &SOURCE, false),
            ("resource", &query.resource, &RESOURCE, false),
        ];
        let mut filter = Self { severity: query.severity, since_unix_ns: query.since, ..Self::default() };
        for (name, value, places, alternatives) in asked {
            let Some(value) = value else { continue };
            let patterns = if alternatives { parts(name, value)? } else { vec![bounded(name, value)?.to_owned()] };
            filter.one_of.push(OneOf { places, patterns });
        }
        if let Some(labels) = &query.labels {
            let label = |part: String| {
                part.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or(FilterError::Label)
            };
            filter.labels = parts("labels", labels)?.into_iter().map(label).collect::<Result<_, _>>()?;
        }
        Ok(filter)
    }

    /// Whether everything is let through.
    pub(crate) fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a line is let through; a line that is no JSON only by an open filter.
    pub(crate) fn admits(&self, line: &str) -> bool {
        self.is_open() || serde_json::from_str::<Value>(line).is_ok_and(|alert| self.admits_value(&alert))
    }

    fn admits_value(&self, alert: &Value) -> bool {
        self.one_of.iter().all(|one_of| one_of.holds(alert))
            && self.labels.iter().all(|(key, value)| has_label(alert, key, value))
            && self
                .severity
                .is_none_or(|least| number(alert, &SEVERITY).is_some_and(|severity| severity >= u64::from(least)))
            && self.since_unix_ns.is_none_or(|since| number(alert, &TIME).is_some_and(|time| time >= since))
    }
}

impl OneOf {
    fn holds(&self, alert: &Value) -> bool {
        let texts = self.places.iter().filter_map(|place| alert.pointer(place)?.as_str());
        texts.into_iter().any(|text| self.patterns.iter().any(|pattern| matches(pattern, text)))
    }
}

fn bounded<'v>(name: &'static str, value: &'v str) -> Result<&'v str, FilterError> {
    if value.len() > MAX_BYTES { Err(FilterError::TooLong(name)) } else { Ok(value) }
}

fn parts(name: &'static str, value: &str) -> Result<Vec<String>, FilterError> {
    let parts: Vec<String> = bounded(name, value)?.split(',').take(MAX_ALTERNATIVES + 1).map(str::to_owned).collect();
    if parts.len() > MAX_ALTERNATIVES { Err(FilterError::TooMany(name)) } else { Ok(parts) }
}

/// KubeArmor writes numbers as text.
fn number(alert: &Value, places: &[&str]) -> Option<u64> {
    places.iter().find_map(|place| {
        let value = alert.pointer(place)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    })
}

/// Labels stand in a line as KubeArmor writes them; a comma inside one is escaped there, so that none passes for two.
fn has_label(alert: &Value, key: &str, value: &str) -> bool {
    let labels = alert.get("labels").and_then(Value::as_str).into_iter().flat_map(|labels| labels.split(','));
    let mut pairs = labels.filter_map(|pair| pair.split_once('='));
    pairs.any(|(found, of)| found == key && matches(value, of))
}

/// Whether all of `text` is `pattern`, in which `*` is any text; letters of either case are the same. Goes back to the last `*` only.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p).is_some_and(|byte| byte.eq_ignore_ascii_case(&text[t])) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((at, from)) = star {
            star = Some((at, from + 1));
            (p, t) = (at + 1, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A line as a node writes it: by the very type.
    fn denied() -> String {
        let line = json!({
            "time": 5_000_000_000_u64, "node": "n1",
            "workload": { "name": "web-1", "namespace": "shop", "container": "main", "containerId": "c1" },
            "processChain": [{ "pid": 7, "executable": "/usr/bin/cat", "arguments": ["cat"], "uid": 0 }],
            "subject": { "operation": "open", "resource": "/etc/shadow, old" },
            "rule": { "policy": "KubeArmorPolicy/shop/no-shadow", "policyName": "no-shadow", "place": "file.matchPaths[0]", "severity": 7 },
            "action": "Block", "family": "file", "generation": 2, "tier": "bpf-lsm", "verdict": "denied",
            "timestamp": 5, "updatedTime": "1970-01-01T00:00:05.000000Z", "hostName": "n1", "namespaceName": "shop", "podName": "web-1",
            "labels": "app=web,tier=front", "containerName": "main", "policyName": "no-shadow", "severity": "7", "type": "MatchedPolicy",
            "source": "/usr/bin/cat", "operation": "File", "resource": "/etc/shadow, old",
        });
        let line: palisade_domain::Line = serde_json::from_value(line).expect("a line");
        assert!(matches!(line, palisade_domain::Line::Alert(_)));
        json!(line).to_string()
    }

    /// The same by the default posture: no rule names the policy.
    fn by_posture() -> String {
        let mut line: Value = serde_json::from_str(&denied()).expect("JSON");
        line["policyName"] = json!("DefaultPosture");
        line.as_object_mut().expect("an object").remove("rule");
        line.as_object_mut().expect("an object").remove("severity");
        let line: palisade_domain::Line = serde_json::from_value(line).expect("a line");
        json!(line).to_string()
    }

    fn query(set: impl FnOnce(&mut AlertQuery)) -> AlertQuery {
        let mut query = AlertQuery::default();
        set(&mut query);
        query
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn unit_alert_filter_finds_every_field_in_a_line_as_a_node_writes_it() {
        type Set = fn(&mut AlertQuery, &str);
        let cases: [(Set, &str, &str); 11] = [
            (|q, v| q.namespace = text(v), "shop", "sho"),
            (|q, v| q.pod = text(v), "db,web-*", "n1"),
            (|q, v| q.container = text(v), "main", "side"),
            (|q, v| q.operation = text(v), "exec,open", "exec"),
            (|q, v| q.operation = text(v), "File", "Process"),
            (|q, v| q.source = text(v), "/usr/bin/*", "/bin/sh"),
            (|q, v| q.resource = text(v), "/etc/*, old", "/etc/shadow"),
            (|q, v| q.policy = text(v), "no-*", "DefaultPosture"),
            (|q, v| q.labels = text(v), "app=web,tier=f*", "app=web,tier=back"),
            (|q, v| q.verdict = text(v), "killed,denied", "killed"),
            (|q, v| q.severity = v.parse().ok(), "7", "8"),
        ];
        let line = denied();
        for (set, admitted, refused) in cases {
            let filter = |value| Filter::of(&query(|query| set(query, value))).expect("well-formed");
            assert!(filter(admitted).admits(&line), "{admitted}: {line}");
            assert!(!filter(refused).admits(&line), "{refused}: {line}");
        }
        let since = |ns| Filter::of(&query(|query| query.since = Some(ns))).expect("well-formed");
        assert!(since(5_000_000_000).admits(&line) && !since(5_000_000_001).admits(&line));
        let policy = Filter::of(&query(|query| query.policy = text("DefaultPosture"))).expect("well-formed");
        assert!(policy.admits(&by_posture()), "what no rule but the posture decided");
    }

    #[test]
    fn unit_alert_filter_wants_all_that_is_asked_and_lets_all_through_where_nothing_is() {
        let both = Filter::of(&query(|query| {
            query.namespace = text("shop");
            query.verdict = text("killed");
        }));
        assert!(!both.expect("well-formed").admits(&denied()));
        let open = Filter::of(&AlertQuery::default()).expect("well-formed");
        assert!(open.is_open() && open.admits("no JSON at all"));
    }

    #[test]
    fn unit_alert_filter_refuses_parameters_past_their_bounds() {
        let long = query(|query| query.resource = Some("x".repeat(MAX_BYTES + 1)));
        assert_eq!(Filter::of(&long), Err(FilterError::TooLong("resource")));
        let many = query(|query| query.pod = Some("a,".repeat(MAX_ALTERNATIVES)));
        assert_eq!(Filter::of(&many), Err(FilterError::TooMany("pod")));
        assert_eq!(Filter::of(&query(|query| query.labels = text("app"))), Err(FilterError::Label));
    }

    #[test]
    fn unit_alert_filter_wildcards_match_whole_text_in_bounded_time() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("*b*", "abc", true),
            ("a**", "a", true),
            ("*.rs", "a.rs.rs", true),
            ("A", "a", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        // Exponential where each `*` is tried anew.
        assert!(!matches(&("*a".repeat(400) + "b"), &"a".repeat(4096)));
    }
}
