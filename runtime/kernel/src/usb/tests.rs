//! The keeper and the adapter over a tree of files that is written as the kernel would show it: the same code as over sysfs, but for events.

use std::{fs, path::Path};

use palisade_domain::{Action, AlertRule, DeviceMatch, DeviceRule, Generation, Posture, Verdict};
use tempfile::TempDir;

use super::*;

const STORAGE: [u8; 3] = [8, 6, 0x50];
const KEYBOARD: [u8; 3] = [3, 1, 1];

/// A machine's files.
struct Bed {
    folder: TempDir,
    numbers: std::cell::Cell<u32>,
}

impl Bed {
    /// With `usbcore.authorized_default` and one root hub.
    fn new(parameter: i32, default: i32) -> Self {
        let bed = Self { folder: tempfile::tempdir().expect("a directory"), numbers: std::cell::Cell::new(1) };
        bed.put("module/usbcore/parameters/authorized_default", parameter.to_string());
        bed.hub(1, default);
        bed
    }

    fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.sysfs().join(path);
        fs::create_dir_all(path.parent().expect("below")).expect("a directory");
        fs::write(path, content).expect("a file");
    }

    fn sysfs(&self) -> std::path::PathBuf {
        self.folder.path().join("sys")
    }

    fn paths(&self) -> UsbPaths {
        UsbPaths { sysfs: self.sysfs(), remembered: self.folder.path().join("run/usb") }
    }

    fn keeper(&self) -> Keeper {
        let UsbPaths { sysfs, remembered } = self.paths();
        Keeper::new(&sysfs, &remembered)
    }

    fn hub(&self, bus: u32, default: i32) {
        self.put(&format!("bus/usb/devices/usb{bus}/authorized_default"), format!("{default}\n"));
        self.put(&format!("bus/usb/devices/usb{bus}/authorized"), "1\n");
        self.put(&format!("bus/usb/devices/usb{bus}/devnum"), "1\n");
    }

    fn default_of(&self, bus: u32) -> i32 {
        Tree::new(&self.sysfs()).default_of(&format!("usb{bus}")).expect("a hub")
    }

    fn parameter(&self) -> i32 {
        Tree::new(&self.sysfs()).parameter().expect("a parameter")
    }

    /// As the kernel does it: authorized as the root hub says (hardwired ports apart).
    fn plug(&self, name: &str, classes: &[[u8; 3]]) {
        let bus: u32 = name.split('-').next().and_then(|bus| bus.parse().ok()).expect("a bus");
        self.plug_as(name, classes, self.default_of(bus) == 1);
    }

    fn plug_as(&self, name: &str, classes: &[[u8; 3]], authorized: bool) {
        let mut descriptors = vec![18, 1, 0, 2, 0, 0, 0, 64, 0x27, 0x06, 1, 0, 0, 0, 1, 2, 3, 1];
        for [class, sub_class, protocol] in classes {
            descriptors.extend([9, 4, 0, 0, 1, *class, *sub_class, *protocol, 0]);
        }
        self.put(&format!("bus/usb/devices/{name}/descriptors"), descriptors);
        self.numbers.set(self.numbers.get() + 1);
        self.put(&format!("bus/usb/devices/{name}/devnum"), format!("{}\n", self.numbers.get()));
        self.put(&format!("bus/usb/devices/{name}/authorized"), if authorized { "1\n" } else { "0\n" });
    }

    fn unplug(&self, name: &str) {
        fs::remove_dir_all(self.sysfs().join("bus/usb/devices").join(name)).expect("a device");
    }

    fn works(&self, name: &str) -> bool {
        Tree::new(&self.sysfs()).present(name).expect("a device").authorized
    }
}

fn rule(class: u8, action: Action) -> DeviceRule {
    let rule = AlertRule {
        policy: "p".into(),
        policy_name: "p".into(),
        place: format!("{class} {action:?}"),
        severity: None,
        tags: Vec::new(),
        message: None,
    };
    let wanted = DeviceMatch { class: Some(class), sub_class: None, protocol: None, level: None };
    DeviceRule { wanted, specificity: 100, action, rule }
}

fn rules(rules: &[DeviceRule]) -> Arc<DeviceRules> {
    Arc::new(DeviceRules { generation: Generation(1), rules: rules.into(), posture: Posture::Audit })
}

fn no_storage() -> Arc<DeviceRules> {
    rules(&[rule(8, Action::Block)])
}

/// Within 20 s.
fn eventually(mut is_so: impl FnMut() -> bool) {
    let is_so = (0..1000).any(|_| {
        thread::sleep(Duration::from_millis(20));
        is_so()
    });
    assert!(is_so, "not within 20 s");
}

fn told(looked: &Looked) -> Vec<(&str, Verdict)> {
    assert_eq!(looked.unheld, None);
    looked.judged.iter().map(|judged| (judged.device.name.as_str(), judged.verdict)).collect()
}

use super::keeper::Looked;

#[test]
fn unit_usb_lets_no_device_work_before_it_is_judged_and_tells_of_the_blocked_once() {
    let bed = Bed::new(-1, 1);
    let mut keeper = bed.keeper();
    assert_eq!(told(&keeper.look(&no_storage())), []);
    assert_eq!((bed.default_of(1), bed.parameter()), (0, 0));
    bed.plug("1-1", &[KEYBOARD]);
    bed.plug("1-2.4", &[STORAGE]);
    bed.plug("1-3", &[KEYBOARD, STORAGE]);
    assert!(!bed.works("1-1"), "it waits");
    let looked = keeper.look(&no_storage());
    assert_eq!(told(&looked), [("1-2.4", Verdict::Denied), ("1-3", Verdict::Denied)]);
    assert_eq!((looked.judged[0].device.level(), looked.judged[0].device.vendor), (2, 0x0627));
    assert_eq!([bed.works("1-1"), bed.works("1-2.4"), bed.works("1-3")], [true, false, false]);
    assert_eq!(told(&keeper.look(&no_storage())), [], "said once");
    bed.unplug("1-2.4");
    bed.plug("1-2.4", &[STORAGE]);
    assert_eq!(told(&keeper.look(&no_storage())), [("1-2.4", Verdict::Denied)], "another one, or the same again");
}

#[test]
fn unit_usb_takes_nothing_away_that_worked_before_the_policy_and_says_that_it_goes_on() {
    let bed = Bed::new(-1, 1);
    bed.plug("1-1", &[STORAGE]);
    let mut keeper = bed.keeper();
    assert_eq!(told(&keeper.look(&no_storage())), [("1-1", Verdict::Unenforceable)]);
    assert!(bed.works("1-1"));
    bed.unplug("1-1");
    bed.plug("1-1", &[STORAGE]);
    assert_eq!(told(&keeper.look(&no_storage())), [("1-1", Verdict::Denied)]);
    assert!(!bed.works("1-1"));
}

#[test]
fn unit_usb_stays_closed_after_a_crash_and_the_next_node_judges_who_came_meanwhile() {
    let bed = Bed::new(-1, 1);
    drop({
        let mut keeper = bed.keeper();
        keeper.look(&no_storage());
        keeper
    });
    assert_eq!(bed.default_of(1), 0, "a crash opens nothing");
    bed.plug("1-1", &[KEYBOARD]);
    bed.plug("1-2", &[STORAGE]);
    assert_eq!(told(&bed.keeper().look(&no_storage())), [("1-2", Verdict::Denied)]);
    assert_eq!([bed.works("1-1"), bed.works("1-2")], [true, false]);
}

#[test]
fn unit_usb_gives_everything_back_as_it_was_found() {
    let bed = Bed::new(2, 1);
    bed.hub(2, 2);
    bed.hub(3, 0);
    bed.plug_as("1-7", &[KEYBOARD], false);
    bed.keeper().look(&no_storage());
    for name in ["1-1", "2-1", "2-2", "3-1"] {
        bed.plug(name, &[STORAGE]);
    }
    bed.put("bus/usb/devices/2-2/port/connect_type", "hardwired\n");
    bed.hub(4, 0);
    // Of this boot, and by another process: as `palisade unload` does it after a crash.
    restore(&bed.paths()).expect("given back");
    let defaults: Vec<i32> = (1..=4).map(|bus| bed.default_of(bus)).collect();
    assert_eq!((bed.parameter(), &defaults[..]), (2, &[1, 2, 0, 2][..]), "the last came under usbcore's word");
    let works = ["1-1", "2-1", "2-2", "3-1"].map(|name| bed.works(name));
    assert_eq!(works, [true, false, true, false], "as each root hub would have done it");
    assert!(!bed.works("1-7"), "somebody else had taken it away");
    assert!(!bed.paths().remembered.exists());
    restore(&bed.paths()).expect("nothing to do");
}

#[test]
fn unit_usb_authorizes_nothing_that_somebody_else_keeps_away_unless_a_rule_names_it() {
    let bed = Bed::new(0, 0);
    bed.plug("1-1", &[KEYBOARD]);
    let mut keeper = bed.keeper();
    let some = rules(&[rule(8, Action::Block), rule(9, Action::Audit)]);
    keeper.look(&some);
    bed.plug("1-2", &[KEYBOARD]);
    bed.plug("1-3", &[[9, 0, 0]]);
    assert_eq!(told(&keeper.look(&some)), [("1-3", Verdict::Observed)]);
    let works = ["1-1", "1-2", "1-3"].map(|name| bed.works(name));
    assert_eq!(works, [false, false, true], "the administrator authorizes nothing by itself");
}

#[test]
fn unit_usb_judges_who_waits_by_rules_that_change_and_leaves_who_works() {
    let bed = Bed::new(-1, 1);
    let mut keeper = bed.keeper();
    keeper.look(&no_storage());
    bed.plug("1-1", &[STORAGE]);
    bed.plug("1-2", &[KEYBOARD]);
    keeper.look(&no_storage());
    let no_keyboards = rules(&[rule(3, Action::Block)]);
    assert_eq!(told(&keeper.look(&no_keyboards)), [("1-2", Verdict::Unenforceable)]);
    assert_eq!([bed.works("1-1"), bed.works("1-2")], [true, true]);
    let watched = rules(&[rule(3, Action::Audit), rule(8, Action::Audit)]);
    assert_eq!(told(&keeper.look(&watched)), [("1-1", Verdict::Observed), ("1-2", Verdict::Observed)]);
    assert_eq!((bed.default_of(1), bed.parameter()), (1, -1), "nothing is blocked: nobody waits");
    assert!(!keeper.has_taken());
}

#[test]
fn unit_usb_allow_list_under_a_block_posture_blocks_what_is_not_on_it() {
    let bed = Bed::new(-1, 1);
    let allow = DeviceRules { posture: Posture::Block, ..(*rules(&[rule(3, Action::Allow)])).clone() };
    let allow = Arc::new(allow);
    let mut keeper = bed.keeper();
    keeper.look(&allow);
    bed.plug("1-1", &[KEYBOARD]);
    bed.plug("1-2", &[STORAGE]);
    let looked = keeper.look(&allow);
    assert_eq!(told(&looked), [("1-2", Verdict::Denied)]);
    assert!(looked.judged[0].decision.by_posture);
    assert_eq!([bed.works("1-1"), bed.works("1-2")], [true, false]);
}

#[test]
fn unit_usb_does_not_let_work_what_does_not_say_what_it_is() {
    let bed = Bed::new(-1, 1);
    let mut keeper = bed.keeper();
    keeper.look(&no_storage());
    bed.plug("1-1", &[KEYBOARD]);
    bed.put("bus/usb/devices/1-1/descriptors", [18, 1, 0]);
    let looked = keeper.look(&no_storage());
    assert_eq!(told(&looked), [("1-1", Verdict::Denied)]);
    assert!(looked.judged[0].reason.as_ref().is_some_and(|reason| reason.contains("cannot be read")));
    assert!(!bed.works("1-1"));
}

#[test]
fn unit_usb_closes_root_hubs_that_come_later_or_are_opened_by_somebody() {
    let bed = Bed::new(-1, 1);
    let mut keeper = bed.keeper();
    keeper.look(&no_storage());
    bed.hub(2, 1);
    bed.plug("2-1", &[STORAGE]);
    bed.put("bus/usb/devices/usb1/authorized_default", "1\n");
    let looked = keeper.look(&no_storage());
    assert_eq!(told(&looked), [("2-1", Verdict::Denied)]);
    assert!(looked.judged[0].reason.as_ref().is_some_and(|reason| reason.contains("it worked until")));
    assert!(!bed.works("2-1"));
    assert_eq!((bed.default_of(1), bed.default_of(2)), (0, 0));
}

#[test]
fn unit_usb_says_why_rules_are_not_held_and_goes_on_trying() {
    let bed = Bed::new(-1, 1);
    let mut keeper = bed.keeper();
    // Nothing can be remembered where a file is in the place of the directory.
    fs::write(bed.folder.path().join("run"), "").expect("a file");
    assert!(keeper.look(&no_storage()).unheld.is_some());
    assert_eq!(bed.default_of(1), 1, "nothing is changed that could not be given back");
    fs::remove_file(bed.folder.path().join("run")).expect("away");
    assert_eq!(keeper.look(&no_storage()).unheld, None);
    assert_eq!(bed.default_of(1), 0);
}

#[test]
fn unit_usb_adapter_is_in_force_when_it_returns_and_ends_with_its_rules() {
    let bed = Bed::new(-1, 1);
    let devices = UsbDevices::new(bed.paths());
    devices.hold(&Arc::default());
    assert!(!devices.shared.state().runs, "without rules there is nothing to do");
    devices.hold(&no_storage());
    assert_eq!((bed.default_of(1), devices.seen().unheld), (0, None));
    bed.plug("1-1", &[STORAGE]);
    let mut judged = Vec::new();
    eventually(|| {
        judged.extend(devices.seen().judged);
        !judged.is_empty()
    });
    assert_eq!(judged.iter().map(|judged| judged.verdict).collect::<Vec<_>>(), [Verdict::Denied]);
    devices.hold(&Arc::default());
    assert_eq!((bed.default_of(1), bed.works("1-1"), bed.paths().remembered.exists()), (1, true, false));
    devices.hold(&no_storage());
    assert_eq!(bed.default_of(1), 0, "and begins again with new ones");
    devices.stop();
    assert_eq!(bed.default_of(1), 0, "who stops alone gives nothing back");
}

#[test]
fn unit_usb_adapter_gives_back_what_an_earlier_node_took_where_nobody_blocks_any_more() {
    let bed = Bed::new(-1, 1);
    bed.keeper().look(&no_storage());
    UsbDevices::new(bed.paths()).hold(&Arc::default());
    assert_eq!((bed.default_of(1), bed.paths().remembered.exists()), (1, false));
}

#[test]
fn unit_usb_adapter_counts_what_finds_no_room() {
    let bed = Bed::new(-1, 1);
    for device in 1..=JUDGED + 9 {
        bed.plug(&format!("1-{device}"), &[STORAGE]);
    }
    let devices = UsbDevices::new(bed.paths());
    devices.hold(&no_storage());
    // A slow machine may still be at its first look.
    eventually(|| devices.shared.state().done > 0);
    let seen = devices.seen();
    assert_eq!((seen.judged.len(), seen.lost), (JUDGED, 9));
}

#[test]
fn unit_usb_is_tried_by_the_word_that_each_root_hub_has() {
    let bed = Bed::new(-1, 1);
    assert_eq!(try_authorization(&bed.sysfs()), Ok(()));
    assert_eq!((bed.default_of(1), bed.parameter()), (1, -1));
    let none = tempfile::tempdir().expect("a directory");
    assert!(try_authorization(none.path()).is_err_and(|reason| reason.contains("has no USB")));
    bed.put("bus/usb/devices/usb1/authorized_default", "what");
    assert!(try_authorization(&bed.sysfs()).is_err());
    let missing = CapabilityState::Missing("this kernel has no USB".into());
    assert_eq!((held(Some(&missing)).tier, held(Some(&missing)).gaps[0].what.as_str()), (Tier::Audit, "device"));
    assert_eq!(held(Some(&CapabilityState::Available)).tier, Tier::UsbAuthorization);
    assert_eq!(
        UsbPaths::of(Path::new("/sys/fs/bpf/palisade")).remembered,
        Path::new("/run/palisade/usb-sys-fs-bpf-palisade")
    );
}
