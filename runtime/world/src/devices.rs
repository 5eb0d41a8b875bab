//! USB devices of the host, by the kernel's authorization of each.

use std::sync::Arc;

use palisade_domain::{DeviceDecision, DeviceRules, UsbDevice, Verdict};

use crate::BootNanos;

/// A device that the rules have a word in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceJudged {
    /// By which it was judged.
    pub rules: Arc<DeviceRules>,
    /// What came.
    pub device: UsbDevice,
    /// What the rules say of it.
    pub decision: DeviceDecision,
    /// What became of it.
    pub verdict: Verdict,
    /// Why not more, or later than it should.
    pub reason: Option<String>,
    /// When.
    pub at: BootNanos,
}

/// What happened since the last question.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DevicesSeen {
    /// Oldest first; those that are permitted without a word are not among them.
    pub judged: Vec<DeviceJudged>,
    /// How many more found no room before they were asked for.
    pub lost: u64,
    /// Why the rules are not held at this moment.
    pub unheld: Option<String>,
}

/// The devices of the host. Both calls return at once: what takes long (a driver that is bound to a device) is done beside them.
pub trait Devices: Send + Sync {
    /// Judges what comes from now on by these rules. While they can block, a device works only once it was judged, also after a crash of
    /// this process. Without rules everything is as it was before the first.
    fn hold(&self, rules: &Arc<DeviceRules>);
    /// What was judged, and whether the rules are held.
    fn seen(&self) -> DevicesSeen;
}
