//! Reads `/etc/passwd`: the host's, and each container's own.
//!
//! A container owns its file and all that leads to it. So: it is looked for below the root of a process that is proven to be the
//! container's (its mount namespace, and its start against reuse of its id), by `openat2` that leaves neither that root nor its mount and
//! follows no magic link; it is opened only once it is known to be a regular file (no FIFO, no device); it has at most [`MAX_FILE_BYTES`].
//! User ids are those of the container's user namespace, and are told as the initial namespace's.
//!
//! Limit: an `/etc` or `/etc/passwd` that is a mount of its own is not read, because what a container mounts it may serve itself (FUSE),
//! and one that keeps its own root on such a file system can still keep a thread waiting. So nobody waits for these threads: there are at
//! most [`MAX_THREADS`] of them, started one by one as those before are busy, and with all of them taken names are absent.
#![forbid(unsafe_code)]

mod file;
mod passwd;

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use palisade_world::{PasswdAnswer, PasswdCandidate, PasswdOf, PasswdReader};

pub use file::{MAX_FILE_BYTES, host_root};

/// Threads that read, or hang, at a time.
pub const MAX_THREADS: usize = 4;
/// Questions that wait: a node that starts with a hundred containers asks for all of them within a second.
const QUESTIONS: usize = 128;
/// Answers that wait for the next look.
const ANSWERS: usize = 128;

type Question = (PasswdOf, Vec<PasswdCandidate>);

/// See the crate's doc.
#[derive(Debug)]
pub struct PasswdFiles {
    queue: SyncSender<Question>,
    questions: Arc<Mutex<Receiver<Question>>>,
    answers: Receiver<PasswdAnswer>,
    answer: SyncSender<PasswdAnswer>,
    /// Asked for and not answered yet.
    open: Arc<AtomicUsize>,
    threads: usize,
}

impl Default for PasswdFiles {
    fn default() -> Self {
        let (queue, questions) = sync_channel(QUESTIONS);
        let (answer, answers) = sync_channel(ANSWERS);
        let questions = Arc::new(Mutex::new(questions));
        Self { queue, questions, answers, answer, open: Arc::default(), threads: 0 }
    }
}

impl PasswdFiles {
    fn start_thread(&mut self) -> io::Result<()> {
        let (questions, answer, open) = (Arc::clone(&self.questions), self.answer.clone(), Arc::clone(&self.open));
        // Detached: one that hangs in a container's file must not be waited for. The others end with the queue.
        thread::Builder::new().name("user-names".to_owned()).spawn(move || {
            loop {
                let question = questions.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok((of, candidates)) = question else { return };
                let names = file::names(of, &candidates);
                open.fetch_sub(1, Ordering::Relaxed);
                if answer.send(PasswdAnswer { of, names }).is_err() {
                    return;
                }
            }
        })?;
        self.threads += 1;
        if self.threads == MAX_THREADS {
            tracing::warn!(
                "{MAX_THREADS} readings of /etc/passwd are under way at once: if they hang, users go without names"
            );
        }
        Ok(())
    }
}

impl PasswdReader for PasswdFiles {
    fn ask(&mut self, of: PasswdOf, candidates: &[PasswdCandidate]) -> bool {
        // Before it can be answered.
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        if self.queue.try_send((of, candidates.to_vec())).is_err() {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        if open > self.threads
            && self.threads < MAX_THREADS
            && let Err(error) = self.start_thread()
        {
            tracing::warn!(%error, "no thread to read /etc/passwd");
        }
        true
    }

    fn answer(&mut self) -> Option<PasswdAnswer> {
        self.answers.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_users_host_names_are_read_and_nobody_waits_for_them() {
        let mut files = PasswdFiles::default();
        assert!(files.ask(PasswdOf::Host, &[]));
        let answer = loop {
            match files.answer() {
                Some(answer) => break answer,
                None => thread::yield_now(),
            }
        };
        // Without root the host's root directory is not ours to see; then there is no answer but a stated one.
        assert_eq!(answer.of, PasswdOf::Host);
        if let Some(names) = answer.names {
            assert!(names.contains(&(0, "root".to_owned())), "{names:?}");
        }
    }

    #[test]
    fn unit_users_questions_are_bounded() {
        // As if all of them hung.
        let mut files = PasswdFiles { threads: MAX_THREADS, ..PasswdFiles::default() };
        let taken = (0..2 * QUESTIONS).filter(|_| files.ask(PasswdOf::Host, &[])).count();
        assert_eq!(taken, QUESTIONS);
    }
}
