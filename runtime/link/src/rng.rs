//! The machine's randomness behind the port.

use palisade_world::Rng;
use ring::rand::{SecureRandom as _, SystemRandom};

/// The kernel's own, as ring draws it.
#[derive(Debug, Clone, Copy, Default)]
pub struct MachineRng;

impl Rng for MachineRng {
    fn fill(&self, bytes: &mut [u8]) {
        // Linux gives some at any time after boot; keys without would be worse than no node.
        assert!(SystemRandom::new().fill(bytes).is_ok(), "the kernel gives no randomness");
    }
}
