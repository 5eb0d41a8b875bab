//! Where the kernel adapter of a test pins what it makes.

use std::{ffi::OsString, io, path::PathBuf, time::Duration};

use palisade_kernel::{
    KernelConfig,
    fanotify::{FailMode, ResponderConfig},
    unload,
};

/// Pins of a test, taken away with it.
#[derive(Debug)]
pub struct Pins(PathBuf);

impl Pins {
    /// A root of that name and of this process.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(PathBuf::from(format!("/sys/fs/bpf/palisade-{name}-{}", std::process::id())))
    }

    /// An adapter below it that denies what it cannot judge. The responder's process is the ignored test `responder_process` of the program
    /// that runs.
    ///
    /// # Errors
    /// Where this program has no file.
    pub fn config(&self) -> io::Result<KernelConfig> {
        let arguments = ["--ignored", "--exact", "responder_process", "--nocapture", "--test-threads=1"];
        let responder = ResponderConfig {
            program: std::env::current_exe()?,
            arguments: arguments.map(OsString::from).to_vec(),
            fail_mode: FailMode::Refuse,
            unattended: Duration::ZERO,
        };
        Ok(KernelConfig {
            pin_root: self.0.clone(),
            fail_mode: FailMode::Refuse,
            responder: Some(responder),
            ..KernelConfig::default()
        })
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = unload(&self.0) {
            eprintln!("pins stay: {error}");
        }
    }
}
