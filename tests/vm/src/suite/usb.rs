//! USB devices of a kernel that has USB: the whole node and its authorization of what is plugged in.
//!
//! The boot gives the guest one controller with a keyboard and a disk (`boot.sh --usb`); what has none skips. The controller is taken from its
//! driver and given back, by which both devices are gone and come anew, as if they were plugged.

use std::{fs, path::PathBuf, thread, time::Duration};

use libtest_mimic::Trial;
use serde_json::Value;

use super::{Checked, ensure, node::Node};

const POLICY: &str = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\nmetadata: { name: no-disks }\nspec:\n  \
     nodeSelector: { matchLabels: { kubernetes.io/hostname: \"*\" } }\n  \
     device: { matchDevice: [ { class: MASS-STORAGE } ] }\n  action: Block\n";
const DEVICES: &str = "/sys/bus/usb/devices";
const DRIVER: &str = "/sys/bus/pci/drivers/xhci_hcd";
/// Classes as interfaces have them.
const KEYBOARD: &str = "03";
const DISK: &str = "08";
/// The kernel asks a device a few times before it gives it up; emulated.
const PLUGGED_WITHIN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(200);

pub fn trials() -> Vec<Trial> {
    vec![Trial::test("vm_usb_disk_that_is_plugged_in_is_blocked_by_the_hosts_policy_and_a_keyboard_works", blocks)]
}

/// The device whose descriptors name an interface of the class, whether or not it is authorized.
fn device_of(class: &str) -> Option<PathBuf> {
    let class = u8::from_str_radix(class, 16).ok()?;
    let devices = fs::read_dir(DEVICES).ok()?.flatten().map(|entry| entry.path());
    devices.filter(|path| path.join("descriptors").exists()).find(|path| {
        let bytes = fs::read(path.join("descriptors")).unwrap_or_default();
        let mut rest = &bytes[..];
        while let [length, kind, ..] = *rest
            && length >= 2
            && rest.len() >= usize::from(length)
        {
            if kind == 4 && rest.get(5) == Some(&class) {
                return true;
            }
            rest = &rest[usize::from(length)..];
        }
        false
    })
}

/// Whether a driver of the kernel has the device's only interface.
fn is_driven(class: &str) -> bool {
    let Some(device) = device_of(class) else { return false };
    let name = device.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    device.join(format!("{name}:1.0/driver")).exists()
}

fn authorized(class: &str) -> Option<String> {
    let text = fs::read_to_string(device_of(class)?.join("authorized")).ok()?;
    Some(text.trim().to_owned())
}

fn eventually(what: &str, is_so: impl Fn() -> bool) -> Checked {
    for _ in 0..PLUGGED_WITHIN.as_millis() / PAUSE.as_millis() {
        if is_so() {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    let all = [KEYBOARD, DISK].map(|class| (device_of(class), authorized(class), is_driven(class)));
    Err(format!("{what}: not so; keyboard and disk: {all:?}").into())
}

/// Takes the controller from its driver and gives it back.
fn plug_anew() -> Checked {
    let controllers = fs::read_dir(DRIVER)?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let controller = controllers.into_iter().find(|name| name.contains(':')).ok_or("no controller")?;
    fs::write(format!("{DRIVER}/unbind"), &controller)?;
    ensure(device_of(DISK).is_none(), || "the disk is still plugged in".to_owned())?;
    Ok(fs::write(format!("{DRIVER}/bind"), &controller)?)
}

fn alert(node: &Node, verdict: &str) -> Option<Value> {
    node.alerts().into_iter().find(|alert| alert["verdict"] == verdict && alert["family"] == "device")
}

fn blocks() -> Checked {
    // What a boot with USB brings (tests/vm/boot.sh).
    if !PathBuf::from("/modules/usbcore.ko").exists() {
        println!("skipped: this boot has no USB");
        return Ok(());
    }
    ensure(PathBuf::from(DRIVER).exists(), || "the controller has no driver".to_owned())?;
    eventually("both work", || is_driven(KEYBOARD) && is_driven(DISK))?;
    let mut node = Node::start_alone("usb", POLICY)?;
    node.wait_for("what worked before is told", || alert(&node, "unenforceable").is_some())?;
    ensure(is_driven(DISK), || "a policy takes no disk from under a host that it is new to".to_owned())?;
    let hub = || fs::read_to_string(format!("{DEVICES}/usb1/authorized_default")).unwrap_or_default();
    ensure(hub().trim() == "0", || format!("the root hub authorizes by itself: {}", hub()))?;

    plug_anew()?;
    eventually("the keyboard works", || is_driven(KEYBOARD) && authorized(KEYBOARD).as_deref() == Some("1"))?;
    node.wait_for("the disk's denial is told", || alert(&node, "denied").is_some())?;
    // What was to be authorized has been by now: the same look judged both.
    ensure(authorized(DISK).as_deref() == Some("0") && !is_driven(DISK), || {
        format!("the disk: {:?}, driven {}", authorized(DISK), is_driven(DISK))
    })?;
    let denied = alert(&node, "denied").ok_or("no alert")?;
    let disk = device_of(DISK).ok_or("no disk")?;
    for (pointer, wanted) in
        [("/rule/policyName", "no-disks"), ("/tier", "usb-authorization"), ("/rule/place", "device.matchDevice[0]")]
    {
        let said = denied.pointer(pointer).and_then(Value::as_str);
        ensure(said == Some(wanted), || format!("{pointer} should be {wanted}: {denied:#}"))?;
    }
    let name = disk.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    ensure(denied.to_string().contains(&format!("{DEVICES}/{name}")), || format!("{name} is not named: {denied:#}"))?;

    node.stop()?;
    eventually("all is given back", || is_driven(DISK) && is_driven(KEYBOARD) && hub().trim() == "1")
}
