//! USB devices of a host, and which rule decides about one: a pure function.
//!
//! Order of the rules: the greater specificity decides ([`DeviceRule::specificity`], KubeArmor's sum), on a tie Block, then Audit, then Allow.
//! One Allow makes an allow-list: what no rule names gets the posture.
//!
//! Decision: a device is what its own class says *and* what each of its interfaces says, and it is used as a whole or not at all: the strictest
//! answer is the device's. KubeArmor takes away single interfaces. A stick that is also a keyboard is one thing in one hand: whoever forbids
//! keyboards does not want its storage, and an interface that is blocked still answers the bus.
//!
//! Units: `level` counts ports on the way from the root hub: 1 is a device at the root hub itself.

use std::fmt;

use crate::{Action, AlertRule, Generation, Posture};

/// Classes by the names of KubeArmor's table, numbers of <https://www.usb.org/defined-class-codes>.
pub const DEVICE_CLASSES: [(&str, u8); 24] = [
    ("AUDIO", 0x01),
    ("COMMUNICATION-CDC", 0x02),
    ("HID", 0x03),
    ("PHYSICAL", 0x05),
    ("IMAGE", 0x06),
    ("PRINTER", 0x07),
    ("MASS-STORAGE", 0x08),
    ("HUB", 0x09),
    ("CDC-DATA", 0x0a),
    ("SMART-CARD", 0x0b),
    ("CONTENT-SECURITY", 0x0d),
    ("VIDEO", 0x0e),
    ("PERSONAL-HEALTHCARE", 0x0f),
    ("AUDIO/VIDEO", 0x10),
    ("BILLBOARD", 0x11),
    ("TYPE-C-BRIDGE", 0x12),
    ("BULK-DISPLAY", 0x13),
    ("MCTP", 0x14),
    ("I3C", 0x3c),
    ("DIAGNOSTIC", 0xdc),
    ("WIRELESS-CONTROLLER", 0xe0),
    ("MISCELLANEOUS", 0xef),
    ("APPLICATION-SPECIFIC", 0xfe),
    ("VENDOR-SPECIFIC", 0xff),
];

/// What a device, or one of its interfaces, says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceClass {
    /// `bDeviceClass` or `bInterfaceClass`.
    pub class: u8,
    /// The class divides it further.
    pub sub_class: u8,
    /// And this its subclass.
    pub protocol: u8,
}

impl fmt::Display for DeviceClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { class, sub_class, protocol } = self;
        match DEVICE_CLASSES.iter().find(|(_, known)| known == class) {
            Some((name, _)) => write!(f, "{name} ({class}/{sub_class}/{protocol})"),
            None => write!(f, "class {class}/{sub_class}/{protocol}"),
        }
    }
}

/// A device as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsbDevice {
    /// The kernel's name for its place: `2-4.1`.
    pub name: String,
    /// Counts up with each device of the bus: another number in the same place is another device, or the same one plugged in again.
    pub number: u32,
    /// `idVendor`.
    pub vendor: u16,
    /// `idProduct`.
    pub product: u16,
    /// What it says of itself unless that is 0, and what each of its interfaces says, of each configuration and setting.
    pub classes: Vec<DeviceClass>,
}

impl UsbDevice {
    /// Ports on the way to it.
    #[must_use]
    pub fn level(&self) -> u32 {
        let ports = self.name.split_once('-').map_or("", |(_, ports)| ports);
        u32::try_from(ports.split('.').filter(|port| !port.is_empty()).count()).unwrap_or(u32::MAX)
    }

    /// The bus that it is on.
    #[must_use]
    pub fn bus(&self) -> &str {
        self.name.split_once('-').map_or(&self.name, |(bus, _)| bus)
    }
}

/// Which USB devices, by the numbers of their descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceMatch {
    /// Class of the device, or of one of its interfaces. `None`: any.
    pub class: Option<u8>,
    /// Its subclass. `None`: any.
    pub sub_class: Option<u8>,
    /// Its protocol. `None`: any.
    pub protocol: Option<u8>,
    /// Hubs on the way to it, its own port included: 1 is a device at the root hub. `None`: any.
    pub level: Option<u32>,
}

impl DeviceMatch {
    /// Whether it is about something of this class, so far from the root hub.
    #[must_use]
    pub fn is_about(&self, class: DeviceClass, level: u32) -> bool {
        let is = |wanted: Option<u8>, found: u8| wanted.is_none_or(|wanted| wanted == found);
        is(self.class, class.class)
            && is(self.sub_class, class.sub_class)
            && is(self.protocol, class.protocol)
            && self.level.is_none_or(|wanted| wanted == level)
    }
}

/// A rule about devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRule {
    /// About which.
    pub wanted: DeviceMatch,
    /// Where it stands among those that match; the greatest decides.
    pub specificity: u32,
    /// What it says.
    pub action: Action,
    /// As alerts name it.
    pub rule: AlertRule,
}

/// The rules about devices of a host, of one policy set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceRules {
    /// Of which set.
    pub generation: Generation,
    /// In document order.
    pub rules: Vec<DeviceRule>,
    /// What holds in an allow-list where no rule does.
    pub posture: Posture,
}

/// What the rules say of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceDecision {
    /// Permitted (`Allow`), permitted with an alert, or blocked.
    pub action: Action,
    /// Which of the rules decided; of equal ones the first.
    pub rule: Option<usize>,
    /// By no rule but the posture.
    pub by_posture: bool,
    /// For which of the things that it is.
    pub class: DeviceClass,
}

impl DeviceRules {
    /// Whether any device could be blocked: then none may work before it is judged.
    #[must_use]
    pub fn deny(&self) -> bool {
        self.rules.iter().any(|rule| rule.action == Action::Block)
            || (self.posture == Posture::Block && self.is_allow_list())
    }

    fn is_allow_list(&self) -> bool {
        self.rules.iter().any(|rule| rule.action == Action::Allow)
    }

    /// What they say: of all that the device is, the strictest.
    #[must_use]
    pub fn decide(&self, device: &UsbDevice) -> DeviceDecision {
        // What says nothing of itself is matched by rules on any class alone.
        let unknown = DeviceClass { class: 0, sub_class: 0, protocol: 0 };
        let mut decided = device.classes.iter().map(|class| self.decide_class(*class, device.level()));
        let first = decided.next().unwrap_or_else(|| self.decide_class(unknown, device.level()));
        decided.fold(first, |strictest, one| if one.action > strictest.action { one } else { strictest })
    }

    fn decide_class(&self, class: DeviceClass, level: u32) -> DeviceDecision {
        let matching = self.rules.iter().enumerate().filter(|(_, rule)| rule.wanted.is_about(class, level));
        // Of those that are equal the first: `max_by_key` gives the last.
        let decides = matching.rev().max_by_key(|(_, rule)| (rule.specificity, rule.action));
        if let Some((index, rule)) = decides {
            return DeviceDecision { action: rule.action, rule: Some(index), by_posture: false, class };
        }
        let by_posture = self.is_allow_list();
        let action = match self.posture {
            _ if !by_posture => Action::Allow,
            Posture::Audit => Action::Audit,
            Posture::Block => Action::Block,
        };
        DeviceDecision { action, rule: None, by_posture, class }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYBOARD: DeviceClass = DeviceClass { class: 3, sub_class: 1, protocol: 1 };
    const STORAGE: DeviceClass = DeviceClass { class: 8, sub_class: 6, protocol: 0x50 };

    fn device(name: &str, classes: &[DeviceClass]) -> UsbDevice {
        UsbDevice { name: name.into(), number: 2, vendor: 1, product: 2, classes: classes.into() }
    }

    fn rule(wanted: (Option<u8>, Option<u8>, Option<u8>, Option<u32>), specificity: u32, action: Action) -> DeviceRule {
        let (class, sub_class, protocol, level) = wanted;
        let rule = AlertRule {
            policy: "p".into(),
            policy_name: "p".into(),
            place: format!("{wanted:?}"),
            severity: None,
            tags: Vec::new(),
            message: None,
        };
        DeviceRule { wanted: DeviceMatch { class, sub_class, protocol, level }, specificity, action, rule }
    }

    fn rules(posture: Posture, rules: &[DeviceRule]) -> DeviceRules {
        DeviceRules { generation: Generation(1), rules: rules.into(), posture }
    }

    #[test]
    fn unit_device_the_more_specific_rule_decides_and_on_a_tie_the_stricter() {
        let any = rule((None, None, None, None), 100, Action::Block);
        let near = rule((Some(8), None, None, Some(1)), 200, Action::Allow);
        let sub = rule((Some(8), Some(6), None, None), 110, Action::Audit);
        let rules = rules(Posture::Audit, &[any, near, sub]);
        let at = |name: &str, class| {
            let decision = rules.decide(&device(name, &[class]));
            (decision.action, decision.rule)
        };
        assert_eq!(at("1-2", STORAGE), (Action::Allow, Some(1)), "at the root hub");
        assert_eq!(at("1-2.4", STORAGE), (Action::Audit, Some(2)), "behind a hub");
        assert_eq!(at("1-2", KEYBOARD), (Action::Block, Some(0)));
        let tied = [Action::Allow, Action::Block, Action::Audit, Action::Block];
        let tied = tied.map(|action| rule((Some(3), None, None, None), 100, action));
        let decision = super::DeviceRules { rules: tied.into(), ..rules }.decide(&device("1-1", &[KEYBOARD]));
        assert_eq!((decision.action, decision.rule), (Action::Block, Some(1)), "the first of two that block");
    }

    #[test]
    fn unit_device_is_all_that_its_interfaces_say_and_the_strictest_answer_is_its() {
        let rules = rules(
            Posture::Audit,
            &[
                rule((Some(8), None, None, None), 100, Action::Allow),
                rule((Some(3), None, None, None), 100, Action::Block),
            ],
        );
        let both = rules.decide(&device("1-1", &[STORAGE, KEYBOARD]));
        assert_eq!((both.action, both.class), (Action::Block, KEYBOARD));
        assert_eq!(rules.decide(&device("1-1", &[STORAGE])).action, Action::Allow);
    }

    #[test]
    fn unit_device_one_allow_makes_an_allow_list_that_the_posture_closes_or_watches() {
        let allow = [rule((Some(3), None, None, None), 100, Action::Allow)];
        for (posture, action) in [(Posture::Block, Action::Block), (Posture::Audit, Action::Audit)] {
            let rules = rules(posture, &allow);
            let decision = rules.decide(&device("1-1", &[STORAGE]));
            assert_eq!((decision.action, decision.by_posture, decision.rule), (action, true, None));
            assert_eq!(rules.decide(&device("1-1", &[])).action, action, "what says nothing is on no list");
            assert_eq!(rules.deny(), posture == Posture::Block);
        }
        let audits = rules(Posture::Block, &[rule((Some(8), None, None, None), 100, Action::Audit)]);
        let decision = audits.decide(&device("1-1", &[KEYBOARD]));
        assert_eq!(
            (decision.action, decision.by_posture),
            (Action::Allow, false),
            "without an Allow nothing is listed"
        );
        assert!(!audits.deny());
    }

    #[test]
    fn unit_device_counts_its_level_by_the_ports_of_its_name() {
        let level = |name: &str| device(name, &[]).level();
        assert_eq!(["2-4", "2-4.1", "1-1.2.3", "usb1"].map(level), [1, 2, 3, 0]);
        assert_eq!(device("12-4.1", &[]).bus(), "12");
    }
}
