//! The responder's records as a source, and their account over all responders that there were.
//!
//! A responder that was replaced is kept until its socket is empty; then its numbers go into the totals. One datagram is one
//! record.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use palisade_kernel_abi::record::{Kind, MAX_LEN, PRODUCER_USER};
use palisade_world::{Loss, LossReason, RecordBatch, RecordSource, RecordSourceError};

use super::{
    counters::{Counters, read},
    sys,
};

#[derive(Debug)]
struct Stream {
    producer: u32,
    socket: OwnedFd,
    counters: Arc<Counters>,
    received: u64,
}

#[derive(Debug, Default)]
struct Account {
    /// The oldest first; the last is the present one.
    streams: Vec<Stream>,
    ended: Loss,
}

/// What the node's side and the reader share.
#[derive(Debug, Default)]
pub(super) struct RecordAccount(Mutex<Account>);

impl RecordAccount {
    /// A new responder's.
    pub(super) fn add(&self, producer: u32, socket: OwnedFd, counters: Arc<Counters>) {
        self.lock().streams.push(Stream { producer, socket, counters, received: 0 });
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the records of the responder, and of its successors.
#[derive(Debug)]
pub struct Records {
    account: Arc<RecordAccount>,
    buffer: Vec<u8>,
    /// A socket's error that came after records of the same batch: told by the next read.
    postponed: Option<io::Error>,
}

impl Records {
    pub(super) fn new(account: Arc<RecordAccount>) -> Self {
        Self { account, buffer: vec![0; MAX_LEN], postponed: None }
    }
}

impl RecordSource for Records {
    fn read(&mut self, batch: &mut RecordBatch) -> Result<bool, RecordSourceError> {
        batch.clear();
        if let Some(source) = self.postponed.take() {
            return Err(RecordSourceError { what: "responder's socket", source });
        }
        let mut account = self.account.lock();
        let mut at = 0;
        while at < account.streams.len() {
            if batch.records == RecordBatch::MAX_RECORDS {
                return Ok(true);
            }
            let stream = &mut account.streams[at];
            match sys::receive(stream.socket.as_fd(), &mut self.buffer, false) {
                // The other end is closed, and nothing is left: this responder has ended.
                Ok((0, _)) => account.end(at),
                Ok((len, _)) => {
                    batch.bytes.extend_from_slice(&self.buffer[..len]);
                    batch.records += 1;
                    stream.received += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => at += 1,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => account.end(at),
                Err(source) if batch.records > 0 => {
                    self.postponed = Some(source);
                    return Ok(true);
                }
                Err(source) => return Err(RecordSourceError { what: "responder's socket", source }),
            }
        }
        Ok(false)
    }

    fn loss(&mut self) -> Result<Loss, RecordSourceError> {
        let account = self.account.lock();
        let mut loss = account.ended.clone();
        for stream in &account.streams {
            stream.add_to(&mut loss);
        }
        Ok(loss)
    }
}

impl Account {
    /// Moves an ended stream to the totals. What took a number and was neither received nor counted as lost was cut off by
    /// the end of the responder between numbering and sending: at most one, counted as lost with the opens.
    ///
    /// All that ended are one producer in the totals, the first: a node that replaces responders for ever keeps no list of them.
    fn end(&mut self, at: usize) {
        let mut stream = self.streams.remove(at);
        stream.producer = PRODUCER_USER;
        stream.add_to(&mut self.ended);
        let page = stream.counters.page();
        let accounted = stream.received + read(&page.lost_exec) + read(&page.lost_open);
        let missing = read(&page.produced).saturating_sub(accounted);
        if missing > 0 {
            *self.ended.counts.entry((Kind::Open.code(), LossReason::SocketFull)).or_default() += missing;
        }
    }
}

impl Stream {
    fn add_to(&self, loss: &mut Loss) {
        let page = self.counters.page();
        *loss.produced.entry(self.producer).or_default() += read(&page.produced);
        let counts: &mut BTreeMap<_, _> = &mut loss.counts;
        for (kind, lost) in [(Kind::Exec, &page.lost_exec), (Kind::Open, &page.lost_open)] {
            if read(lost) > 0 {
                *counts.entry((kind.code(), LossReason::SocketFull)).or_default() += read(lost);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::fanotify::counters::count;

    #[test]
    fn unit_responders_that_ended_are_one_producer_and_all_that_they_produced_is_counted() {
        let mut account = Account::default();
        for number in 0..100 {
            let counters = Arc::new(Counters::new().expect("memfd"));
            count(&counters.page().produced);
            let (socket, _) = UnixStream::pair().expect("sockets");
            let producer = PRODUCER_USER.wrapping_add(number);
            account.streams.push(Stream { producer, socket: socket.into(), counters, received: 1 });
            account.end(0);
        }
        assert_eq!(account.ended.produced, BTreeMap::from([(PRODUCER_USER, 100)]));
        assert!(account.ended.counts.is_empty(), "all were received");
    }
}
