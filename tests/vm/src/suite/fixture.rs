//! What the tests share: one containerd, started by the first test that needs it.

use std::sync::OnceLock;

use libtest_mimic::Failed;

use crate::containerd::Containerd;

/// The guest's containerd; if it does not start, each test that needs it fails with the reason.
pub fn containerd() -> Result<&'static Containerd, Failed> {
    static SHARED: OnceLock<Result<Containerd, String>> = OnceLock::new();
    SHARED.get_or_init(|| Containerd::start().map_err(|error| error.to_string())).as_ref().map_err(Failed::from)
}
