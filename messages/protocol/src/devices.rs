//! What is said of the host's devices.

use actix::Message;
use palisade_world::DeviceJudged;

/// Devices that rules of the host have a word in, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct DevicesJudged {
    /// None is told twice.
    pub judged: Vec<DeviceJudged>,
}
