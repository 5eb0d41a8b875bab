//! The suite's tests by subject.
//!
//! They share one containerd (see [`fixture`]) and run one after the other: starting a container costs a second of emulated time.

pub(crate) mod attacks;
mod changes;
mod containers;
mod differential;
mod enforcement;
mod families;
pub(crate) mod fixture;
pub(crate) mod ground;
mod guard;
pub(crate) mod node;
mod paths;
mod phases;
mod pins;
mod probes;
mod unattended;
mod usb;

use libtest_mimic::{Failed, Trial};

/// What a test gives back: a failure may be any error or text.
pub(crate) type Checked = Result<(), Failed>;

pub use pins::{HOLD_POLICY, hold};

/// Every test of the guest.
#[must_use]
pub fn trials() -> Vec<Trial> {
    [
        ground::trials(),
        containers::trials(),
        enforcement::trials(),
        changes::trials(),
        families::trials(),
        differential::trials(),
        paths::trials(),
        phases::trials(),
        pins::trials(),
        probes::trials(),
        node::trials(),
        unattended::trials(),
        guard::trials(),
        attacks::trials(),
        usb::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Fails with the text unless the condition holds.
pub(crate) fn ensure(condition: bool, otherwise: impl FnOnce() -> String) -> Checked {
    if condition { Ok(()) } else { Err(Failed::from(otherwise())) }
}
