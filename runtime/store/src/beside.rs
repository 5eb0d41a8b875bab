//! A policy directory that may hang, looked at by a thread of its own.
//!
//! Invariant: no call takes longer than [`Beside::PATIENCE`], and none at all waits while an earlier one still hangs: who asks goes on with
//! what is in force, and says so. A reading that came too late is taken again, not lost. One thread for each; one that hangs ends when
//! its file system answers.
//!
//! Decision: a thread, not a deadline on the calls themselves, because the kernel has none for a network file system whose server is gone.

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use palisade_world::{PolicyDirectory, PolicyDirectoryError, PolicyReading};

enum Question {
    Read,
    Changed,
    Settled,
}

enum Answer {
    Read(Result<PolicyReading, PolicyDirectoryError>),
    Is(bool),
}

/// See the module.
pub struct Beside {
    path: PathBuf,
    patience: Duration,
    questions: SyncSender<Question>,
    answers: Receiver<Answer>,
    /// A question has no answer yet.
    hangs: bool,
    /// A reading came too late.
    owed: bool,
}

/// It hangs, or its thread is over.
struct NoAnswer;

impl Beside {
    /// How long a call may take: much more than any reading, much less than the watchdog waits for whoever calls.
    pub const PATIENCE: Duration = Duration::from_secs(5);

    /// `directory` on a thread of its own; `path` is what errors name.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(path: impl Into<PathBuf>, directory: Box<dyn PolicyDirectory>) -> std::io::Result<Self> {
        Self::patient(path, directory, Self::PATIENCE)
    }

    fn patient(
        path: impl Into<PathBuf>,
        mut directory: Box<dyn PolicyDirectory>,
        patience: Duration,
    ) -> std::io::Result<Self> {
        // One question at a time, and its answer.
        let (questions, asked) = sync_channel::<Question>(1);
        let (answer, answers) = sync_channel(1);
        thread::Builder::new().name("policy-directory".into()).spawn(move || {
            for question in asked {
                let said = match question {
                    Question::Read => Answer::Read(directory.read()),
                    Question::Changed => Answer::Is(directory.changed()),
                    Question::Settled => Answer::Is(directory.settled()),
                };
                if answer.send(said).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { path: path.into(), patience, questions, answers, hangs: false, owed: false })
    }

    fn ask(&mut self, question: Question) -> Result<Answer, NoAnswer> {
        if self.hangs {
            let late = self.answers.try_recv().map_err(|_| NoAnswer)?;
            self.hangs = false;
            self.owed |= matches!(late, Answer::Read(_));
        }
        self.questions.send(question).map_err(|_| NoAnswer)?;
        self.answers.recv_timeout(self.patience).map_err(|error| {
            self.hangs = error == RecvTimeoutError::Timeout;
            NoAnswer
        })
    }
}

impl PolicyDirectory for Beside {
    fn read(&mut self) -> Result<PolicyReading, PolicyDirectoryError> {
        match self.ask(Question::Read) {
            Ok(Answer::Read(read)) => {
                self.owed = false;
                read
            }
            _ => Err(PolicyDirectoryError::Hangs { path: self.path.clone(), patience: self.patience }),
        }
    }

    /// One that hangs has changed: reading it tells why.
    fn changed(&mut self) -> bool {
        let changed = !matches!(self.ask(Question::Changed), Ok(Answer::Is(false)));
        changed || self.owed
    }

    fn settled(&mut self) -> bool {
        !matches!(self.ask(Question::Settled), Ok(Answer::Is(false)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Answers only while the lock is free.
    struct Hanging(Arc<Mutex<bool>>);

    impl PolicyDirectory for Hanging {
        fn read(&mut self) -> Result<PolicyReading, PolicyDirectoryError> {
            *self.0.lock().expect("whole") = false;
            Ok(PolicyReading::default())
        }
        fn changed(&mut self) -> bool {
            *self.0.lock().expect("whole")
        }
        fn settled(&mut self) -> bool {
            drop(self.0.lock().expect("whole"));
            true
        }
    }

    #[test]
    fn unit_store_directory_that_hangs_is_told_and_costs_no_second_wait() {
        let changed = Arc::new(Mutex::new(true));
        let patience = Duration::from_millis(50);
        let mut beside =
            Beside::patient("/policies", Box::new(Hanging(Arc::clone(&changed))), patience).expect("a thread");
        assert!(beside.changed());
        beside.read().expect("it answers");
        assert!(!beside.changed());
        let hanging = changed.lock().expect("whole");
        let error = beside.read().expect_err("it hangs").to_string();
        assert!(error.starts_with("/policies: ") && error.contains("does not answer"), "{error}");
        assert!(beside.changed() && beside.settled(), "so that it is read, which tells why");
        assert!(beside.read().is_err());
        drop(hanging);
        thread::sleep(Duration::from_millis(200));
        beside.read().expect("it answers again");
        assert!(!beside.changed());
    }

    #[test]
    fn unit_store_reading_that_came_too_late_is_taken_again() {
        let changed = Arc::new(Mutex::new(false));
        let patience = Duration::from_millis(20);
        let mut beside =
            Beside::patient("/policies", Box::new(Hanging(Arc::clone(&changed))), patience).expect("a thread");
        let hanging = changed.lock().expect("whole");
        beside.read().expect_err("it hangs");
        drop(hanging);
        thread::sleep(Duration::from_millis(200));
        assert!(beside.changed(), "the directory itself says no");
        beside.read().expect("it answers");
        assert!(!beside.changed());
    }
}
