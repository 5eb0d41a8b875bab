//! The device family of a host policy: which USB devices may be used.
//!
//! The order is KubeArmor's: see [`crate::ir::Specificity`]. No blob has these rules: they go to who authorizes devices as
//! [`DeviceRules`], which decide as [`crate::explain`] says (`unit_devices_are_decided_as_they_are_explained`).

use palisade_domain::{DEVICE_CLASSES, DeviceRule, DeviceRules, Generation};

use crate::{
    common::Common,
    diagnostic::{Problems, quoted},
    draft::Draft,
    fields::{self, Fields},
    ir::{DeviceMatch, Matcher, WorkloadRules},
    suggest,
    yaml::Node,
};

/// Every class.
const ALL: &str = "ALL";

/// Lowers `spec.device`.
pub(crate) fn read(spec: &mut Fields<'_>, outer: &Common, draft: &mut Draft<'_>) {
    draft.family(spec, "device", outer, |family, common, draft| {
        draft.items(family, "matchDevice", common, |item, draft| {
            if let Some(device) = read_match(&mut item.fields, draft.problems) {
                draft.push(item, Matcher::Device(device), Default::default());
            }
        });
    });
}

impl WorkloadRules {
    /// The rules about devices, as who authorizes them takes them.
    #[must_use]
    pub fn devices(&self, generation: Generation) -> DeviceRules {
        let rules = self.rules.iter().filter_map(|rule| match &rule.matcher {
            Matcher::Device(wanted) => Some(DeviceRule {
                wanted: *wanted,
                specificity: rule.specificity().length,
                action: rule.action,
                rule: rule.told(),
            }),
            _ => None,
        });
        DeviceRules { generation, rules: rules.collect(), posture: self.postures.device }
    }
}

/// The fields of one device, or of those that a rule is about.
pub(crate) fn read_match(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<DeviceMatch> {
    let before = problems.refusals();
    let place = fields.place_of("class");
    let node = fields.require("class", "write `class: MASS-STORAGE`", problems);
    let class = node.and_then(|node| class(node, &place, problems));
    let mut number = |name: &'static str, low: i64, high: i64| {
        let node = fields.get(name)?;
        fields::integer(node, &fields.place_of(name), low, high, problems)
    };
    let sub_class = number("subClass", 0, 255).and_then(|number| u8::try_from(number).ok());
    let protocol = number("protocol", 0, 255).and_then(|number| u8::try_from(number).ok());
    let level = number("level", 1, i32::MAX.into()).and_then(|number| u32::try_from(number).ok());
    let class = class.filter(|_| problems.refusals() == before)?;
    Some(DeviceMatch { class, sub_class, protocol, level })
}

/// A name, a decimal or a hexadecimal number; `Some(None)` is any class.
fn class(node: &Node, place: &str, problems: &mut Problems) -> Option<Option<u8>> {
    let written = fields::text(node, place, problems)?;
    let name = written.trim().to_ascii_uppercase();
    if name == ALL {
        return Some(None);
    }
    if let Some((_, class)) = DEVICE_CLASSES.iter().find(|(known, _)| *known == name) {
        return Some(Some(*class));
    }
    let (why, instead) = match number(&name) {
        Some(class @ 1..=255) => return u8::try_from(class).ok().map(Some),
        Some(0) => {
            let why =
                "class 0 says that each interface of the device has a class of its own, which are what is matched";
            (why, "write the class of the interface".to_owned())
        }
        Some(_) => ("a class is a byte", "write a number from 1 to 255, or 0x01 to 0xff".to_owned()),
        None if name.starts_with('0') && name.bytes().all(|byte| byte.is_ascii_digit()) => {
            ("a number that begins with 0 is octal for some and decimal for others", "write it without".to_owned())
        }
        None => {
            let near = suggest::nearest(&name, DEVICE_CLASSES.iter().map(|(known, _)| *known));
            let instead = near.map_or_else(
                || "write a name such as `MASS-STORAGE`, `ALL`, or a number in quotes: `\"0x08\"`".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            ("it is no USB class that is known", instead)
        }
    };
    problems.error(node.at, format!("{} is {}", quoted(place), quoted(written)), why, instead);
    None
}

/// Decimal without leading zeros, or `0x` and hexadecimal digits.
fn number(text: &str) -> Option<u32> {
    if let Some(digits) = text.strip_prefix("0X") {
        return u32::from_str_radix(digits, 16).ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
    let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_decimal || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    Some(text.parse().unwrap_or(u32::MAX))
}
