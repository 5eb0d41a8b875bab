//! One connection that both sides agreed on: messages out in batches, messages in, acknowledgements, and a look at the certificates now and
//! then.
//!
//! Batches form by themselves: while one is written, what comes meanwhile waits and goes with the next, at most [`BATCH_BYTES`].
//!
//! Invariant: what a peer sends is taken only as there is room for it here; while there is none its stream is not read, QUIC's window fills,
//! and its queue after that. Acknowledgements have a stream of their own and go on.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use palisade_domain::{Refusal, UnixNanos};
use palisade_wire::frame::{self, Frame, Place, Taken};
use palisade_world::LinkEvent;
use quinn::{Connection, SendStream};
use rustls::pki_types::CertificateDer;

use crate::{
    authority,
    ended::{self, Ended},
    entry::Entry,
    links::{Delivered, Shared},
    outbound::Piece,
    stream::{self, FrameReader, StreamError},
    verify::Side,
};

/// Bytes of messages in a batch: past 64 KiB a larger one is no faster.
pub(crate) const BATCH_BYTES: usize = 64 << 10;

/// Bytes that a message takes beside its own while it waits for a reader.
const MESSAGE_BYTES: usize = size_of::<Bytes>();

/// Certificates tell their end by the second, which belongs to them.
const PAST_THE_END: Duration = Duration::from_secs(1);

/// A connection on which both sides said who they are.
pub(crate) struct Session {
    pub(crate) connection: Connection,
    pub(crate) side: Side,
    /// The peer's certificates.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// Our own, as it saw them.
    pub(crate) shown: Vec<CertificateDer<'static>>,
    pub(crate) control: (SendStream, FrameReader),
    /// Where our messages go on.
    pub(crate) begin: Place,
}

/// Runs it to its end. It may be dropped at any await: then what was written and not acknowledged is written again on the next.
pub(crate) async fn run(shared: Arc<Shared>, entry: Arc<Entry>, session: Session) -> Ended {
    let Session { connection, side, chain, shown, control: (tell, heard), begin } = session;
    let renewals = tokio::sync::Notify::new();
    tokio::select! {
        biased;
        error = connection.closed() => Ended::of(&error),
        ended = look(&shared, &entry, &connection, side, &chain, &shown, &renewals) => ended,
        ended = hear(&entry, &connection, heard, side) => ended,
        ended = tell_taken(&entry, &connection, tell, &renewals) => ended,
        ended = receive(&shared, &entry, &connection) => ended,
        ended = send(&entry, &connection, begin) => ended,
    }
}

/// A stream that ends is the peer's next connection coming up: this one ends when it is closed.
async fn of_stream(connection: &Connection, error: &StreamError) -> Ended {
    if let StreamError::Frame(_) | StreamError::TooLong(_) | StreamError::Cut = error
        && connection.close_reason().is_none()
    {
        return refused(connection, error);
    }
    Ended::of(&connection.closed().await)
}

fn refused(connection: &Connection, error: &dyn std::fmt::Display) -> Ended {
    let said = error.to_string();
    ended::refuse(connection, Refusal::Protocol, &said);
    Ended::by_us(Refusal::Protocol, said)
}

async fn send(entry: &Entry, connection: &Connection, begin: Place) -> Ended {
    let sent = async {
        let mut stream = connection.open_uni().await?;
        stream::write(&mut stream, &Frame::Begin(begin)).await?;
        loop {
            let Piece { first, count, messages, digest } = entry.next_batch().await;
            let [head, tail] = frame::around_messages(first, count, messages.len(), digest);
            stream.write_all_chunks(&mut [head, messages, tail]).await?;
        }
    };
    let Err::<std::convert::Infallible, quinn::WriteError>(_) = sent.await;
    Ended::of(&connection.closed().await)
}

async fn receive(shared: &Shared, entry: &Entry, connection: &Connection) -> Ended {
    let mut reader = match connection.accept_uni().await {
        Ok(stream) => FrameReader::new(stream),
        Err(error) => return Ended::of(&error),
    };
    loop {
        match reader.next().await {
            Ok(Some(Frame::Begin(place))) => {
                if let Err(error) = entry.inbound(|inbound| inbound.begin(place)) {
                    return refused(connection, &error);
                }
                entry.hear_life(place.run, connection.remote_address(), shared.now());
            }
            Ok(Some(Frame::Batch(batch))) => {
                let place = match entry.inbound(|inbound| inbound.after(&batch)) {
                    Ok(place) => place,
                    Err(error) => return refused(connection, &error),
                };
                deliver(shared, entry, batch.messages, place).await;
                // Who reads the socket has a turn after each: else it overflows while this goes through what is there.
                tokio::task::yield_now().await;
            }
            Ok(Some(_)) => return refused(connection, &"a frame that is not of this stream"),
            Ok(None) => return Ended::of(&connection.closed().await),
            Err(error) => return of_stream(connection, &error).await,
        }
    }
}

const fn cost(message: &Bytes) -> usize {
    message.len() + MESSAGE_BYTES
}

/// Messages and what they cost, in parts that each cost no more than a bound, or are one message.
fn parts(messages: Vec<Bytes>, bound: usize) -> Vec<(Vec<Bytes>, usize)> {
    let whole: usize = messages.iter().map(cost).sum();
    if whole <= bound || messages.len() == 1 {
        return vec![(messages, whole)];
    }
    let mut parts: Vec<(Vec<Bytes>, usize)> = Vec::new();
    for message in &messages {
        // Copied: a part that waits would else keep the whole frame, beyond what it is counted for.
        let copy = Bytes::copy_from_slice(message);
        match parts.last_mut() {
            Some((part, bytes)) if *bytes + cost(message) <= bound => {
                *bytes += cost(message);
                part.push(copy);
            }
            _ => parts.push((vec![copy], cost(message))),
        }
    }
    parts
}

/// Hands messages on, those of a batch that is larger than all of the room by parts.
async fn deliver(shared: &Shared, entry: &Entry, messages: Vec<Bytes>, place: Place) {
    let parts = parts(messages, shared.config.inbox_bytes);
    let Some(mut at) = entry.inbound(|inbound| inbound.taken()).filter(|_| parts.len() > 1) else {
        for (messages, bytes) in parts {
            deliver_part(shared, entry, messages, bytes, place).await;
        }
        return;
    };
    for (messages, bytes) in parts {
        at.sequence += messages.len() as u64;
        at.digest = messages.iter().fold(at.digest, |digest, message| digest.after(message));
        deliver_part(shared, entry, messages, bytes, at).await;
    }
}

/// Hands messages on when there is room, and remembers that in the same step: dropped before, they come again; after, they do not.
///
/// One message that is larger than all of the room waits until it is empty, and goes alone.
async fn deliver_part(shared: &Shared, entry: &Entry, messages: Vec<Bytes>, bytes: usize, place: Place) {
    let wanted = u32::try_from(bytes.min(shared.config.inbox_bytes)).unwrap_or(u32::MAX);
    // Neither is ever closed: the links are over when their tasks are.
    let Ok(room) = Arc::clone(&entry.inbox).acquire_many_owned(wanted).await else { return };
    let Ok(slot) = shared.events.reserve().await else { return };
    entry.inbound(|inbound| inbound.take(place));
    entry.count_received(messages.len() as u64);
    slot.send(Delivered { event: LinkEvent::Received { peer: entry.name.clone(), messages }, _room: Some(room) });
    entry.untold.notify_one();
}

/// Tells what was taken; what comes while one is written goes with the next. And that we have another certificate, where we were dialled.
async fn tell_taken(
    entry: &Entry,
    connection: &Connection,
    mut stream: SendStream,
    renewals: &tokio::sync::Notify,
) -> Ended {
    loop {
        let frame = tokio::select! {
            biased;
            () = entry.untold.notified() => match entry.inbound(|inbound| inbound.taken()) {
                Some(place) => Frame::Taken(Taken { run: place.run, sequence: place.sequence }),
                None => continue,
            },
            () = renewals.notified() => Frame::Renew,
        };
        if stream::write(&mut stream, &frame).await.is_err() {
            return Ended::of(&connection.closed().await);
        }
    }
}

async fn hear(entry: &Entry, connection: &Connection, mut reader: FrameReader, side: Side) -> Ended {
    loop {
        match reader.next().await {
            Ok(Some(Frame::Taken(taken))) => entry.taken_by_peer(taken.run, taken.sequence),
            Ok(Some(Frame::Renew)) if side == Side::Dialled => entry.renew.notify_one(),
            Ok(Some(_)) => return refused(connection, &"a frame that is not of this stream"),
            Ok(None) => return Ended::of(&connection.closed().await),
            Err(error) => return of_stream(connection, &error).await,
        }
    }
}

/// How long a certificate holds still, where that can be read.
fn holds_for(chain: &[CertificateDer<'static>], now: UnixNanos) -> Option<Duration> {
    let ends = authority::ends(chain.first()?)?;
    Some(Duration::from_nanos(ends.0.saturating_sub(now.0)))
}

/// Looks at the peer's certificate whenever ours, the authorities or the lists change, and now and then for its time; at the end of either
/// certificate, for a link that was made with one is never older than it.
async fn look(
    shared: &Shared,
    entry: &Entry,
    connection: &Connection,
    side: Side,
    chain: &[CertificateDer<'static>],
    shown: &[CertificateDer<'static>],
    renewals: &tokio::sync::Notify,
) -> Ended {
    let mut asked = false;
    loop {
        let (tls, now) = (shared.tls.get(), shared.now());
        let own = holds_for(shown, now);
        if let Err((why, said)) = tls.verifier.look(chain, &entry.name, side, shared.wall_clock().now()) {
            ended::refuse(connection, why, &said);
            return Ended::by_us(why, said);
        }
        if own == Some(Duration::ZERO) {
            // No refusal: nothing is wrong with the peer, which would say that its own certificate is refused.
            let said = format!("the certificate of {} expired", shared.name);
            ended::goodbye(connection, &said);
            return Ended::Out(said);
        }
        if !asked && tls.credentials.chain != shown {
            asked = true;
            if side == Side::Dialled { entry.renew.notify_one() } else { renewals.notify_one() }
        }
        let ends = [own, holds_for(chain, now)].into_iter().flatten();
        let next = ends.map(|left| left + PAST_THE_END).fold(shared.config.look_every, Duration::min);
        tokio::select! {
            biased;
            () = shared.tls.until(|now| !Arc::ptr_eq(now, &tls)) => {}
            () = tokio::time::sleep(next) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_link_batch_larger_than_the_room_goes_in_parts_that_fit() {
        let sizes = |lengths: &[usize], bound| {
            let messages = lengths.iter().map(|length| Bytes::from(vec![7; *length])).collect();
            let parts = parts(messages, bound).into_iter();
            parts.map(|(part, bytes)| (part.iter().map(Bytes::len).collect::<Vec<_>>(), bytes)).collect::<Vec<_>>()
        };
        const M: usize = MESSAGE_BYTES;
        assert_eq!(sizes(&[10, 10], 20 + 2 * M), [(vec![10, 10], 20 + 2 * M)]);
        assert_eq!(sizes(&[10, 10], 19 + 2 * M), [(vec![10], 10 + M), (vec![10], 10 + M)]);
        assert_eq!(sizes(&[5000], 100), [(vec![5000], 5000 + M)], "one alone");
        let parts = sizes(&[0; 1000], 10 * M);
        assert!(parts.len() == 100 && parts.iter().all(|(_, bytes)| *bytes == 10 * M), "empty ones cost, too");
    }
}
