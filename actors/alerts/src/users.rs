//! The names of users: of the host's `/etc/passwd` for the host, of the container's own for a container.
//!
//! Invariant: a name is what the file of that very mount namespace said at its last reading, at most [`FRESH_NS`] before it is asked for
//! anew; where it is not known it is absent, never another file's. Nothing here waits: the reading is somebody else's
//! ([`PasswdReader`](palisade_world::PasswdReader)), and what is not there yet comes with a later line. It is asked for at each exec in
//! a container that nobody asked about, so that names are there by a container's first alert.
//!
//! Bounds: [`MAX_FILES`] files, the one that was asked for longest ago goes first; [`MAX_NAMES`] names in all, past which a file has none.

use std::collections::BTreeMap;

use palisade_world::PasswdOf;

/// How long a reading is believed, in boot-time nanoseconds.
pub const FRESH_NS: u64 = 60_000_000_000;
/// As many as a node has containers.
pub const MAX_FILES: usize = 4096;
/// Names kept in all: a few dozen for each of a thousand containers, some 5 MiB.
pub const MAX_NAMES: usize = 65_536;

#[derive(Debug, Default)]
struct File {
    names: BTreeMap<u32, String>,
    asked_ns: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Users {
    files: BTreeMap<PasswdOf, File>,
    names: usize,
    unanswered: u64,
}

impl Users {
    /// Whether the file is to be read: nobody asked for it, or that was long ago.
    #[must_use]
    pub fn is_stale(&self, of: PasswdOf, now_ns: u64) -> bool {
        self.files.get(&of).is_none_or(|file| now_ns.saturating_sub(file.asked_ns) > FRESH_NS)
    }

    /// It was asked for. What was known before stays until the answer.
    pub fn asked(&mut self, of: PasswdOf, now_ns: u64) {
        if self.files.len() >= MAX_FILES && !self.files.contains_key(&of) {
            let oldest = self.files.iter().min_by_key(|(_, file)| file.asked_ns).map(|(of, _)| *of);
            if let Some(gone) = oldest.and_then(|oldest| self.files.remove(&oldest)) {
                self.names -= gone.names.len();
            }
        }
        self.files.entry(of).or_default().asked_ns = now_ns;
    }

    /// It was not taken: the next one who wants it asks again.
    pub fn refused(&mut self, of: PasswdOf) {
        if let Some(file) = self.files.get_mut(&of) {
            file.asked_ns = 0;
        }
    }

    /// It was read by somebody else: what a recording tells.
    pub fn told(&mut self, of: PasswdOf, names: Option<Vec<(u32, String)>>, now_ns: u64) {
        self.asked(of, now_ns);
        self.answered(of, names);
    }

    /// It was read, or cannot be.
    pub fn answered(&mut self, of: PasswdOf, names: Option<Vec<(u32, String)>>) {
        self.unanswered += u64::from(names.is_none());
        // Forgotten meanwhile.
        let Some(file) = self.files.get_mut(&of) else { return };
        self.names -= file.names.len();
        file.names.clear();
        let mut all = BTreeMap::new();
        // The first line of a uid is the one that getpwuid(3) finds.
        for (uid, name) in names.unwrap_or_default() {
            all.entry(uid).or_insert(name);
        }
        if self.names + all.len() <= MAX_NAMES {
            self.names += all.len();
            file.names = all;
        }
    }

    /// The name, where known.
    #[must_use]
    pub fn name(&self, of: PasswdOf, uid: u32) -> Option<&str> {
        self.files.get(&of)?.names.get(&uid).map(String::as_str)
    }

    /// Readings that brought nothing.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        self.unanswered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PasswdOf = PasswdOf::MountNamespace(1);

    #[test]
    fn unit_users_name_is_that_of_the_last_reading_and_of_no_other_file() {
        let mut users = Users::default();
        assert!(users.is_stale(A, 5));
        users.asked(A, 5);
        assert!(!users.is_stale(A, 5 + FRESH_NS) && users.is_stale(A, 6 + FRESH_NS));
        assert_eq!(users.name(A, 33), None);
        users.answered(A, Some(vec![(33, "www-data".into()), (33, "alias".into())]));
        assert_eq!(users.name(A, 33), Some("www-data"));
        assert_eq!((users.name(A, 34), users.name(PasswdOf::Host, 33)), (None, None));
        users.answered(A, None);
        assert_eq!((users.name(A, 33), users.unanswered()), (None, 1), "gone from the file: no more known");
    }

    #[test]
    fn unit_users_are_bounded_in_files_and_names() {
        let mut users = Users::default();
        for n in 0..MAX_FILES + 10 {
            let of = PasswdOf::MountNamespace(u32::try_from(n).expect("few"));
            users.asked(of, n as u64);
            users.answered(of, Some((0..100).map(|uid| (uid, "x".to_owned())).collect()));
        }
        assert_eq!(users.files.len(), MAX_FILES);
        assert!(users.names <= MAX_NAMES && users.names >= MAX_NAMES - 100 * 10, "{}", users.names);
        assert_eq!(users.names, users.files.values().map(|file| file.names.len()).sum::<usize>());
        assert_eq!(users.name(PasswdOf::MountNamespace(3), 0), None, "asked for longest ago");
    }
}
