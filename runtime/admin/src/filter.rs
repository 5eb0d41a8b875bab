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

/// Where a value stands: the first names are ours, the others KubeArmor's.
const NAMESPACE: [&str; 2] = ["/workload/namespace", "/NamespaceName"];
const POD: [&str; 3] = ["/workload/name", "/PodName", "/HostName"];
const CONTAINER: [&str; 2] = ["/workload/container", "/ContainerName"];
const OPERATION: [&str; 2] = ["/subject/operation", "/Operation"];
const SOURCE: [&str; 2] = ["/processChain/0/executable", "/Source"];
const RESOURCE: [&str; 2] = ["/subject/resource", "/Resource"];
const POLICY: [&str; 2] = ["/rule/policyName", "/PolicyName"];
const VERDICT: [&str; 1] = ["/verdict"];
const SEVERITY: [&str; 2] = ["/rule/severity", "/Severity"];

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
            && self.since_unix_ns.is_none_or(|since| unix_ns(alert).is_some_and(|time| time >= since))
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

/// Our time is in nanoseconds, KubeArmor's in seconds.
fn unix_ns(alert: &Value) -> Option<u64> {
    number(alert, &["/time"]).or_else(|| number(alert, &["/Timestamp"])?.checked_mul(1_000_000_000))
}

fn has_label(alert: &Value, key: &str, value: &str) -> bool {
    let ours = alert.pointer("/workload/labels").and_then(|labels| labels.get(key)?.as_str());
    let of_kubearmor = alert.get("Labels").and_then(Value::as_str).into_iter().flat_map(|labels| labels.split(','));
    let pairs = of_kubearmor.filter_map(|pair| pair.split_once('=')).filter(|(found, _)| *found == key);
    ours.into_iter().chain(pairs.map(|(_, found)| found)).any(|found| matches(value, found))
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

    fn ours() -> String {
        json!({
            "time": 5_000_000_000_u64,
            "workload": { "name": "web-1", "namespace": "shop", "container": "main", "labels": { "app": "web", "tier": "front" } },
            "processChain": [{ "executable": "/usr/bin/cat" }, { "executable": "/bin/sh" }],
            "subject": { "operation": "open", "resource": "/etc/shadow, old" },
            "rule": { "policyName": "no-shadow", "severity": 7 }, "verdict": "denied",
        })
        .to_string()
    }

    fn kubearmors() -> String {
        json!({
            "Timestamp": 5, "PodName": "web-1", "NamespaceName": "shop", "ContainerName": "main", "Labels": "app=web,tier=front",
            "Source": "/usr/bin/cat", "Operation": "Open", "Resource": "/etc/shadow, old", "PolicyName": "no-shadow", "Severity": "7",
        })
        .to_string()
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
    fn unit_alert_filter_matches_both_kinds_of_lines_alike() {
        type Set = fn(&mut AlertQuery, &str);
        let cases: [(Set, &str, &str); 9] = [
            (|q, v| q.namespace = text(v), "shop", "sho"),
            (|q, v| q.pod = text(v), "db,web-*", "web"),
            (|q, v| q.container = text(v), "main", "side"),
            (|q, v| q.operation = text(v), "exec,open", "exec"),
            (|q, v| q.source = text(v), "/usr/bin/*", "/bin/sh"),
            (|q, v| q.resource = text(v), "/etc/*, old", "/etc/shadow"),
            (|q, v| q.policy = text(v), "no-*", "yes"),
            (|q, v| q.labels = text(v), "app=web,tier=f*", "app=web,tier=back"),
            (|q, v| q.severity = v.parse().ok(), "7", "8"),
        ];
        for (set, admitted, refused) in cases {
            for line in [ours(), kubearmors()] {
                let filter = |value| Filter::of(&query(|query| set(query, value))).expect("well-formed");
                assert!(filter(admitted).admits(&line), "{admitted}: {line}");
                assert!(!filter(refused).admits(&line), "{refused}: {line}");
            }
        }
        for line in [ours(), kubearmors()] {
            let since = |ns| Filter::of(&query(|query| query.since = Some(ns))).expect("well-formed");
            assert!(since(5_000_000_000).admits(&line) && !since(5_000_000_001).admits(&line));
        }
        let verdict = |verdict| Filter::of(&query(|query| query.verdict = text(verdict))).expect("well-formed");
        assert!(verdict("killed,denied").admits(&ours()) && !verdict("killed").admits(&ours()));
    }

    #[test]
    fn unit_alert_filter_wants_all_that_is_asked_and_lets_all_through_where_nothing_is() {
        let both = Filter::of(&query(|query| {
            query.namespace = text("shop");
            query.verdict = text("killed");
        }));
        assert!(!both.expect("well-formed").admits(&ours()));
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
