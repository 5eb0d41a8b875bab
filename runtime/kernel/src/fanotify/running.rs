//! The responder's process as the node holds it: requests and replies over its socket, one at a time.
//!
//! Invariant: what a call says was done, was done; a call that got no answer in time says so, and its late answer is passed over
//! by its number. Which file systems are watched is found here, for the responder itself opens nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    process::Child,
    sync::Arc,
    time::Duration,
};

use palisade_domain::{Generation, Slot};
use palisade_kernel_abi::{
    blob::Blob,
    responder::{MAX_FRAME, Request, VERSION, decode_reply, encode_request},
};
use palisade_world::{EnforcementError, Gap, Membership};

use super::{
    counters::Counters,
    node::{FailMode, ResponderConfig},
    places::{self, Places},
    sys,
};

/// A reply takes microseconds, a blob of 8 MiB some 50 ms. After this long the responder is stuck.
pub(super) const REPLY_TIMEOUT: Duration = Duration::from_secs(3);

/// What a new responder has to be told of a slot.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub membership: Membership,
    /// The process whose mounts are the workload's, and the table learnt from it.
    pub learnt: Option<(u32, Arc<Vec<u8>>)>,
    pub policy: Option<(Generation, u32, Arc<Blob>)>,
    /// Its file systems are marked: from its first policy on, for each open of a marked one waits for the responder.
    pub watched: bool,
}

impl Entry {
    fn places(&self) -> io::Result<Places> {
        let root = self.membership.root.as_deref();
        match (self.learnt.as_ref().map_or(self.membership.pid, |(pid, _)| *pid), root) {
            (0, None) => Ok(Places::default()),
            (0, Some(root)) => places::of_root(root),
            (pid, root) => places::of_process(pid, root),
        }
    }
}

#[derive(Debug)]
pub(super) struct Running {
    pub child: Child,
    /// Shared with the watching thread: a copy of the descriptor could fail, and a process that cannot be watched is no dead one.
    pub pidfd: Arc<OwnedFd>,
    pub socket: OwnedFd,
    pub counters: Arc<Counters>,
    pub next: u32,
}

impl Running {
    pub(super) fn call(
        &mut self,
        slot: Slot,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), EnforcementError> {
        self.next = self.next.wrapping_add(1);
        let number = self.next;
        let frame = encode_request(number, request);
        sys::send_with_fds(self.socket.as_fd(), &frame, fds).map_err(|error| unreachable(slot, error))?;
        let mut buffer = [0; MAX_FRAME];
        loop {
            let (len, _) =
                sys::receive(self.socket.as_fd(), &mut buffer, true).map_err(|error| unreachable(slot, error))?;
            if len == 0 {
                return Err(unreachable(slot, "it has ended"));
            }
            let (answered, result) = decode_reply(&buffer[..len]).map_err(|error| unreachable(slot, error))?;
            // An older number is the late answer to a call that gave up waiting.
            if answered == number {
                return result.map_err(|reason| EnforcementError::Refused { slot, what: "fanotify responder", reason });
            }
        }
    }

    /// Tells it the journal; returns of which containers it could not be told all.
    ///
    /// What fails for one container (it has ended, a volume cannot be marked) leaves the others their policy: only a responder
    /// that is gone or silent ends the replay, for then there is nobody to hold any of them.
    pub(super) fn tell_all(&mut self, journal: &BTreeMap<Slot, Entry>) -> Result<BTreeSet<Slot>, EnforcementError> {
        let mut unrestored = BTreeSet::new();
        for (slot, entry) in journal {
            let admitted = passed_over(self.tell_admission(entry))?;
            // The container may have ended meanwhile: then it has no mounts to name and will be released.
            let learnt = entry.learnt.is_none() || passed_over(self.tell_mounts(entry))?;
            let installed = passed_over(self.tell_policy(entry))?;
            if !(admitted && learnt && installed) {
                unrestored.insert(*slot);
            }
        }
        Ok(unrestored)
    }

    pub(super) fn tell_admission(&mut self, entry: &Entry) -> Result<Vec<Gap>, EnforcementError> {
        let membership = &entry.membership;
        let slot = membership.slot;
        let (Some(cgroup), Some(path)) = (membership.cgroup, &membership.cgroup_path) else {
            return Ok(host_gap());
        };
        let path = path.as_os_str().as_bytes().to_vec();
        let running = entry.learnt.is_some();
        self.call(slot, &Request::Admit { slot: slot.0, cgroup: cgroup.0, running, path }, &[])?;
        match entry.places() {
            Ok(places) => self.tell_places(entry, places),
            // Told anew for a container that has ended meanwhile.
            Err(error) if running && error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(refused(slot, "finding its file systems", &error)),
        }
    }

    pub(super) fn tell_mounts(&mut self, entry: &Entry) -> Result<Vec<Gap>, EnforcementError> {
        let slot = entry.membership.slot;
        let Some((pid, text)) = &entry.learnt else { return Ok(Vec::new()) };
        let places = entry.places().map_err(|error| refused(slot, "finding its file systems", &error))?;
        let live = places::live(*pid).map_err(|error| refused(slot, "mountinfo", &error))?;
        let table = sys::memfd(c"palisade-mount-table", text).map_err(|error| refused(slot, "memfd_create", &error))?;
        let gaps = self.tell_places(entry, places)?;
        self.call(slot, &Request::Learn { slot: slot.0 }, &[live.mountinfo.as_fd(), live.root.as_fd(), table.as_fd()])?;
        Ok(gaps)
    }

    /// Marks them if they are to be; returns what cannot be watched in any case.
    fn tell_places(&mut self, entry: &Entry, places: Places) -> Result<Vec<Gap>, EnforcementError> {
        let slot = entry.membership.slot;
        if entry.watched {
            for place in &places.watched {
                self.call(slot, &Request::Mark { slot: slot.0, keep: place.keep }, &[place.fd.as_fd()])?;
            }
        }
        Ok(places.gaps)
    }

    /// Marks the file systems of a workload that gets its first policy.
    pub(super) fn tell_watch(&mut self, entry: &Entry) -> Result<(), EnforcementError> {
        match entry.places() {
            Ok(places) => self.tell_places(entry, places).map(drop),
            // It has ended meanwhile, and opens nothing any more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(refused(entry.membership.slot, "finding its file systems", &error)),
        }
    }

    pub(super) fn tell_policy(&mut self, entry: &Entry) -> Result<(), EnforcementError> {
        let slot = entry.membership.slot;
        if entry.membership.cgroup.is_none() {
            return Ok(());
        }
        let Some((generation, policy, blob)) = &entry.policy else {
            let request = Request::Install { slot: slot.0, generation: 0, policy: 0, present: false };
            return self.call(slot, &request, &[]);
        };
        let memory =
            sys::memfd(c"palisade-blob", blob.content()).map_err(|error| refused(slot, "memfd_create", &error))?;
        let request = Request::Install { slot: slot.0, generation: generation.0, policy: *policy, present: true };
        self.call(slot, &request, &[memory.as_fd()])
    }

    /// Ends it in order; kills it where it does not end in time. Its control thread may well answer while the other one is
    /// stuck, and then processes wait for an answer as long as it lives.
    pub(super) fn retire(&mut self) {
        let told = self.call(Slot::HOST, &Request::Retire, &[]).is_ok();
        let timeout = u32::try_from(REPLY_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
        let ended = || sys::poll([(self.pidfd.as_fd(), libc::POLLIN)], Some(timeout)).is_ok_and(|[events]| events != 0);
        if !told || !ended() {
            self.kill();
        }
        self.reap();
    }

    pub(super) fn kill(&self) {
        // Only fails where it has ended already.
        let _ended = sys::kill(self.pidfd.as_fd());
    }

    pub(super) fn reap(&mut self) {
        let _status = self.child.wait();
    }

    pub(super) fn greet(
        &mut self,
        config: &ResponderConfig,
        producer: u32,
        records: &OwnedFd,
    ) -> Result<(), EnforcementError> {
        let counters = Arc::clone(&self.counters);
        let request = Request::Hello {
            version: VERSION,
            producer,
            refuse_on_failure: config.fail_mode == FailMode::Refuse,
            unattended_seconds: u32::try_from(config.unattended.as_secs()).unwrap_or(u32::MAX),
        };
        self.call(Slot::HOST, &request, &[records.as_fd(), counters.memory()])
    }
}

pub(super) fn refused(slot: Slot, what: &'static str, error: &io::Error) -> EnforcementError {
    EnforcementError::Refused { slot, what, reason: error.to_string() }
}

pub(super) fn unreachable(slot: Slot, reason: impl std::fmt::Display) -> EnforcementError {
    EnforcementError::Responder { slot, reason: format!("{reason}") }
}

/// Whether a part of the journal was told; an error only where the responder itself is gone.
fn passed_over<T>(told: Result<T, EnforcementError>) -> Result<bool, EnforcementError> {
    match told {
        Ok(_) => Ok(true),
        Err(error @ EnforcementError::Responder { .. }) => Err(error),
        Err(error) => {
            tracing::warn!(%error, "a container is not held as before its responder ended");
            Ok(false)
        }
    }
}

fn host_gap() -> Vec<Gap> {
    let reason = "the host's own file systems are never watched by fanotify";
    vec![Gap { what: "host policies for process and file".to_owned(), reason: reason.to_owned() }]
}
