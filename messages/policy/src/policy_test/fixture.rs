//! The world of a test: postures, namespaces, workloads.

use std::collections::BTreeMap;

use palisade_domain::{Posture, Workload, WorkloadKind};

use crate::{
    diagnostic::{Position, Problems, quoted},
    fields::{self, Fields, text_map},
    ir::Postures,
    metadata::DEFAULT_NAMESPACE,
    postures,
};

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceFixture {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations, of which postures are.
    pub annotations: BTreeMap<String, String>,
}

/// A workload under the name by which cases call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadFixture {
    /// As cases call it.
    pub name: String,
    /// What policies select.
    pub workload: Workload,
}

pub(super) fn postures(document: &mut Fields<'_>, problems: &mut Problems) -> Postures {
    let mut postures = Postures::default();
    let Some(node) = document.get("posture") else { return postures };
    let Some(mut fields) = Fields::of(node, "posture", problems) else { return postures };
    let slots = [
        ("file", &mut postures.file),
        ("network", &mut postures.network),
        ("capabilities", &mut postures.capabilities),
    ];
    for (name, slot) in slots {
        if let Some(posture) = posture(&mut fields, name, problems) {
            *slot = posture;
        }
    }
    fields.close(problems);
    postures
}

fn posture(fields: &mut Fields<'_>, name: &'static str, problems: &mut Problems) -> Option<Posture> {
    let node = fields.get(name)?;
    let place = fields.place_of(name);
    let written = fields::text(node, &place, problems)?;
    let posture = postures::named(written);
    if posture.is_none() {
        let what = format!("{} is {}", quoted(&place), quoted(written));
        problems.error(node.at, what, "a posture is `audit` or `block`", "write one of them");
    }
    posture
}

pub(super) fn namespace(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<NamespaceFixture> {
    let name = required_text(fields, "name", "write `name: shop`", problems);
    let labels = text_entries(fields, "labels", problems);
    let annotations = annotations(fields, problems);
    Some(NamespaceFixture { name: name?, labels, annotations })
}

/// Those that are no postures are taken as they are, as Kubernetes has them.
fn annotations(fields: &mut Fields<'_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let Some(node) = fields.get("annotations") else { return BTreeMap::new() };
    let place = fields.place_of("annotations");
    let entries = text_map(node, &place, problems);
    for (key, value) in entries.iter().filter(|(key, _)| postures::ANNOTATIONS.contains(&key.text.as_str())) {
        if postures::named(value).is_none() {
            let what = format!("{} is {}", quoted(&format!("{place}.{}", key.text)), quoted(value));
            problems.error(key.at, what, "a posture is `audit` or `block`", "write one of them");
        }
    }
    entries.into_iter().map(|(key, value)| (key.text, value)).collect()
}

pub(super) fn workload(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<WorkloadFixture> {
    let name = required_text(fields, "name", "write `name: web`", problems);
    let is_host = fields::flag(fields, "host", problems);
    let namespace = optional_text(fields, "namespace", problems);
    let container = optional_text(fields, "container", problems);
    let image = optional_text(fields, "image", problems);
    let labels = text_entries(fields, "labels", problems);
    let name = name?;
    let workload = if is_host {
        for (field, value) in [("namespace", &namespace), ("container", &container), ("image", &image)] {
            if value.is_some() {
                let what = format!("{} for a host", quoted(&fields.place_of(field)));
                problems.error(fields.at, what, "a host has none", "remove it, or `host: true`");
            }
        }
        host(name.clone(), labels)
    } else {
        Workload {
            kind: WorkloadKind::Container,
            name: name.clone(),
            namespace: namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
            container: container.unwrap_or_else(|| name.clone()),
            container_id: None,
            image: image.unwrap_or_default(),
            labels,
        }
    };
    Some(WorkloadFixture { name, workload })
}

fn host(name: String, labels: BTreeMap<String, String>) -> Workload {
    Workload {
        kind: WorkloadKind::Host,
        name,
        namespace: String::new(),
        container: String::new(),
        container_id: None,
        image: String::new(),
        labels,
    }
}

/// `noun` with its name, for each that an earlier one precedes.
pub(super) fn refuse_repeated_names<'f>(
    noun: &str,
    names: impl Iterator<Item = (&'f str, Position)>,
    problems: &mut Problems,
) {
    let mut seen = BTreeMap::new();
    for (name, at) in names {
        if let Some(first) = seen.insert(name, at) {
            let what = format!("{noun} {} for the second time", quoted(name));
            problems.error(at, what, format!("line {} has defined it", first.line), "rename one of the two");
        }
    }
}

fn text_entries(fields: &mut Fields<'_>, name: &'static str, problems: &mut Problems) -> BTreeMap<String, String> {
    let Some(node) = fields.get(name) else { return BTreeMap::new() };
    text_map(node, &fields.place_of(name), problems).into_iter().map(|(key, value)| (key.text, value)).collect()
}

pub(super) fn required_text(
    fields: &mut Fields<'_>,
    name: &'static str,
    instead: &str,
    problems: &mut Problems,
) -> Option<String> {
    let node = fields.require(name, instead, problems)?;
    fields::text(node, &fields.place_of(name), problems).map(str::to_owned)
}

pub(super) fn optional_text(fields: &mut Fields<'_>, name: &'static str, problems: &mut Problems) -> Option<String> {
    let node = fields.get(name)?;
    fields::text(node, &fields.place_of(name), problems).map(str::to_owned)
}
