//! DNS rules (`network.matchDNSQueries`): which names may be asked for.
//!
//! A rule is about a domain and everything below it; the longer domain is the more specific one. Several may stand with commas between
//! them, as in KubeArmor. Decision: for containers each rule is
//! also about the names that a resolver makes of the domain by the search list of a Kubernetes pod
//! (`example.com.shop.svc.cluster.local` ...): with `ndots:5` these are asked first, and an Allow that left them out would end in their
//! refusal. KubeArmor adds the same ones; as there, a cluster whose domain is not `cluster.local` is not known.

use std::{collections::BTreeSet, net::IpAddr};

use palisade_domain::PolicyKind;

use crate::{
    common::Common,
    diagnostic::{Problems, quoted},
    draft::Draft,
    fields::{self, Fields},
    ir::{DnsMatch, Matcher},
    yaml::Node,
};

/// Longest name, RFC 1035: 255 bytes on the wire.
const MAX_DOMAIN_BYTES: usize = 253;
/// Longest label.
const MAX_LABEL_BYTES: usize = 63;

/// Lowers `matchDNSQueries` of the network family.
pub(crate) fn read(family: &mut Fields<'_>, outer: &Common, draft: &mut Draft<'_>) {
    draft.items(family, "matchDNSQueries", outer, |item, draft| {
        let sources = draft.sources(item);
        let place = item.fields.place_of("domain");
        let node = item.fields.require("domain", "write `- domain: example.com`", draft.problems);
        let Some(node) = node else { return };
        let Some(written) = fields::text(node, &place, draft.problems) else { return };
        for name in fields::comma_list(written) {
            let Some(domain) = domain_of(name, node, &place, draft.problems) else { continue };
            for suffix in search_list(draft) {
                let searched = format!("{domain}.{suffix}");
                if searched.len() <= MAX_DOMAIN_BYTES {
                    draft.push(item, Matcher::Dns(DnsMatch { domain: searched }), sources.clone());
                }
            }
            draft.push(item, Matcher::Dns(DnsMatch { domain }), sources.clone());
        }
    });
}

/// What the resolver of the selected workloads appends; hosts have a search list of their own, which nobody knows here.
fn search_list(draft: &Draft<'_>) -> BTreeSet<String> {
    match draft.kind() {
        PolicyKind::KubeArmorHostPolicy | PolicyKind::KubeArmorNetworkPolicy => BTreeSet::new(),
        _ => {
            let of_namespace = draft.namespaces().map(|namespace| format!("{namespace}.svc.cluster.local"));
            of_namespace.chain(["svc.cluster.local".to_owned(), "cluster.local".to_owned()]).collect()
        }
    }
}

/// Lower case, without a trailing dot.
pub(crate) fn domain(node: &Node, place: &str, problems: &mut Problems) -> Option<String> {
    let written = fields::text(node, place, problems)?;
    domain_of(written, node, place, problems)
}

fn domain_of(written: &str, node: &Node, place: &str, problems: &mut Problems) -> Option<String> {
    let lower = written.to_ascii_lowercase();
    let domain = lower.strip_suffix('.').unwrap_or(&lower);
    let Some((why, instead)) = fault(domain) else { return Some(domain.to_owned()) };
    problems.error(node.at, format!("{} is {}", quoted(place), quoted(written)), why, instead);
    None
}

fn fault(domain: &str) -> Option<(String, String)> {
    if domain.parse::<IpAddr>().is_ok() {
        let instead = "write a name; addresses are `cidr` of a PalisadePolicy's `network.destinations`";
        return Some(("it is an address, and DNS is asked for names".into(), instead.into()));
    }
    if let Some(rest) = domain.strip_prefix("*.") {
        let instead = format!("write {}", quoted(rest));
        return Some(("a domain stands for itself and all names below it, and has no wildcards".into(), instead));
    }
    if domain.is_empty() || domain.len() > MAX_DOMAIN_BYTES {
        let why = format!("a name has from 1 to {MAX_DOMAIN_BYTES} bytes");
        return Some((why, "write a domain such as `example.com`".into()));
    }
    if !domain.is_ascii() {
        let why = "names are ASCII on the wire, others are encoded";
        return Some((why.into(), "write the encoded form, which begins with `xn--`".into()));
    }
    let odd = domain.split('.').find(|label| !is_label(label))?;
    let why = format!("{} is no label: letters, digits, `-` and `_`, from 1 to {MAX_LABEL_BYTES}", quoted(odd));
    let instead = match domain.split_once("://") {
        Some((_, rest)) => format!("write {}", quoted(rest.split(['/', ':']).next().unwrap_or_default())),
        None => "write a domain such as `example.com`".to_owned(),
    };
    Some((why, instead))
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL_BYTES).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}
