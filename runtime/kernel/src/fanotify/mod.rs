//! Opens and execs held by fanotify permission events: the tier for kernels without an enforcing LSM.
//!
//! ```text
//! node ── node::Responder ──(seqpacket: requests, replies)──▶ responder process ──▶ kernel (permit / refuse)
//!            ▲  records ◀────(seqpacket: one record a datagram)──┘   ▲
//!            └─ counters ◀───(shared page)───────────────────────────┘ events of marked file systems
//! ```
//!
//! The blob decides, by the same walker as everywhere. What this tier cannot hold is listed by [`gaps`] (for every workload)
//! and returned by [`Responder::admit`] and [`Responder::learn_mounts`] (file systems of one container that are not watched).
//! A refused call returns `EPERM`.
//!
//! Modules: `node`, `watch`, `running` and `records` are the node's side, `places` chooses what is watched, `counters` lies between (the
//! frames, too: they are bytes to be checked, and stand in [`palisade_kernel_abi::responder`]), `responder` is the other process: `group`
//! (events and their guard), `tasks` (who acts), `execs` (steps of an execve), `mounts` and `slots` (names of files), `judge` (the answer), `reporter` (records).

mod counters;
pub(crate) mod doing;
mod execs;
mod group;
mod judge;
pub(crate) mod mounts;
mod node;
mod places;
mod records;
mod reporter;
pub mod responder;
mod running;
mod slots;
mod sys;
mod tasks;
mod watch;

pub(crate) use doing::Doer;
pub use judge::{BlobDecides, Decide, Question};
pub use node::{FailMode, Responder, ResponderConfig, ResponderHealth, StartError};
pub use records::Records;

use palisade_domain::Family;
use palisade_world::Gap;

const EMPTY_FILES: &str = "creation by open(O_CREAT)";
const SPECIAL_FILES: &str = "devices, FIFOs and sockets";
/// Of these an AppArmor profile of the container makes none of its own.
pub(crate) const HELD_BY_A_PROFILE: [&str; 4] = ["readOnly", Gap::CHANGES, EMPTY_FILES, SPECIAL_FILES];

/// What fanotify cannot hold of a family, on every workload.
#[must_use]
pub fn gaps(family: Family) -> Vec<Gap> {
    let gap = |what: &str, reason: &str| Gap { what: what.to_owned(), reason: reason.to_owned() };
    let absent = gap("while the responder is replaced", "the kernel permits what nobody answers; the time is measured");
    let leavers =
        gap("who leaves the cgroup", "a thread is known by the cgroup that it is in, where others can be moved to");
    let links = gap("hard links", "a file is judged by the name that it is opened by, not by its inode");
    match family {
        Family::Process => vec![
            gap("files outside watched file systems", "memfd_create, and volumes that the workload's status names"),
            gap("mmap(PROT_EXEC)", "ld.so /path/program is judged as an exec of ld.so and an open of the program"),
            links,
            leavers,
            absent,
        ],
        Family::File => vec![
            gap(
                "readOnly",
                "fanotify tells no open mode: such rules are decided as if every open were for reading; an open for writing is \
                 reported as unenforceable, one by io_uring is not even seen",
            ),
            gap(
                Gap::CHANGES,
                "fanotify has no permission events for unlink, rename, link, mkdir, rmdir, mknod, symlink, chmod, chown and truncate: \
                 a file that was moved is judged by its new name",
            ),
            gap(
                "an overlay of one's own",
                "who may mount: on Linux 6.1 what it opens of its layers asks nobody; on 6.18 it does",
            ),
            gap("extended attributes, and mounts over a file", "nothing of this kernel's means is asked for them"),
            gap(EMPTY_FILES, "it is refused, but an empty file remains: the kernel asks after it has created the file"),
            gap(SPECIAL_FILES, "fanotify has events for regular files and directories only"),
            gap("open(O_PATH)", "it raises no event; reading through it does"),
            gap(
                "descriptors that are open already",
                "an open is judged once: what was opened before, or is passed in, is not",
            ),
            links,
            leavers,
            absent,
        ],
        _ => Vec::new(),
    }
}
