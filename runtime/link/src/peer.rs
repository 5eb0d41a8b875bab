//! The task of one peer: dials it, takes it up when it dials, keeps one session at a time.
//!
//! Two nodes that dial each other at once would make two connections: of those the one that the node of the smaller name dialled stays. A
//! newer connection takes over from an older one without a gap: both sides stop writing on the old one before they say on the new one
//! where they are, and the old is closed when that is answered.

use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use palisade_wire::frame::{Place, Run};
use quinn::Connection;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    backoff::Backoff,
    ended::{self, Ended},
    entry::Entry,
    handshake::{self, Arrival, WITHIN},
    inbound::Inbound,
    links::Shared,
    lives::SAID_FOR,
    outbound::Resumed,
    session::{self, Session},
    verify::Side,
};

/// Within which two connections count as begun at once.
const AT_ONCE: Duration = Duration::from_secs(1);
/// A link that stood this long starts its delays anew.
const STOOD: Duration = Duration::from_secs(10);

/// Between two looks at a connection that is to end.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const ON_ITS_WAY: Duration = Duration::from_millis(500);
/// Twice as often as that, an idle connection is kept alive.
const ANSWERS_WITHIN: Duration = Duration::from_secs(4);
/// Between a link and the next connection in its place, at least.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// Delays of who finds that another node goes by its name: they would take the link from each other for ever, each as fast as it dials.
const DISPLACED: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(300) };

type Running<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A session that runs, and its connection.
struct Current {
    running: Running<Ended>,
    connection: Connection,
    side: Side,
    since: Instant,
}

/// A connection in the making.
struct Dial {
    stage: Stage,
    since: Instant,
    /// Our certificates as the peer sees them.
    shown: Chain,
}

type Chain = Vec<rustls::pki_types::CertificateDer<'static>>;
type Greeted = (Connection, Option<Place>, Control);
type Control = (quinn::SendStream, crate::stream::FrameReader);

enum Stage {
    /// TLS.
    Connecting(Running<Result<Connection, Ended>>),
    /// First words. The session that was there writes no more; its connection is closed when they are said.
    Greeting(Running<Result<Greeted, Ended>>, Connection, Option<Connection>),
}

enum Step {
    Connected(Result<Connection, Ended>),
    Greeted(Result<Greeted, Ended>),
}

struct Task {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
    current: Option<Current>,
    dial: Option<Dial>,
    dial_at: Option<Instant>,
    failures: u32,
    /// How often another node took the link, one after the other.
    displaced: u32,
    /// The connection that was replaced last, as long as it is still listened to. There is one at most: a peer that dials again and again would
    /// fill the memory with what it sends on those before.
    retired: Option<Connection>,
}

/// Polls what there is; never ready where there is nothing.
async fn some<T>(running: Option<&mut Running<T>>) -> T {
    match running {
        Some(running) => running.await,
        None => std::future::pending().await,
    }
}

async fn step(dial: Option<&mut Dial>) -> Step {
    match dial.map(|dial| &mut dial.stage) {
        Some(Stage::Connecting(running)) => Step::Connected(running.await),
        Some(Stage::Greeting(running, ..)) => Step::Greeted(running.await),
        None => std::future::pending().await,
    }
}

/// The links are to close, or are no more.
pub(crate) async fn closed(shared: &Shared) {
    shared.closing.until(|closing| *closing).await;
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Runs until the links are closed.
pub(crate) async fn run(shared: Arc<Shared>, entry: Arc<Entry>, mut arrivals: mpsc::Receiver<Arrival>) {
    let dial_at = entry.dial().map(|_| Instant::now());
    let links = Arc::clone(&shared);
    let mut task = Task { shared, entry, current: None, dial: None, dial_at, failures: 0, displaced: 0, retired: None };
    loop {
        let may_dial = task.dial.is_none();
        tokio::select! {
            biased;
            () = closed(&links) => break,
            arrival = arrivals.recv() => match arrival {
                Some(arrival) => task.arrived(arrival).await,
                // Its place in the table went to another.
                None => break,
            },
            step = step(task.dial.as_mut()) => match step {
                Step::Connected(connected) => task.connected(connected),
                Step::Greeted(greeted) => task.greeted(greeted),
            },
            ended = some(task.current.as_mut().map(|current| &mut current.running)) => task.ended(ended),
            () = task.entry.renew.notified() => task.renew(),
            () = until(task.dial_at), if may_dial => task.begin_dial(),
        }
    }
    if let Some(current) = task.current {
        let stops = links.closing.get();
        ended::goodbye(&current.connection, if stops { "the node stopped" } else { "it is no longer a peer there" });
    }
}

/// Whether a connection still answers while its peer's name has begun another life elsewhere. A node that began anew has forgotten the
/// keys of its old connections, so silence is the usual answer.
async fn is_another(entry: &Entry, old: &Connection, before: (Option<Run>, u64)) -> bool {
    let heard = async {
        while entry.newest_life().1 == before.1 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let heard = tokio::time::timeout(WITHIN, heard).await;
    if heard.is_err() || entry.newest_life().0 == before.0 || old.close_reason().is_some() {
        return false;
    }
    // What was on its way when it ended comes within this.
    tokio::time::sleep(ON_ITS_WAY).await;
    let datagrams = old.stats().udp_rx.datagrams;
    let answers = async {
        while old.close_reason().is_none() {
            if old.stats().udp_rx.datagrams > datagrams {
                return true;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        false
    };
    // Whoever is alive answers to what keeps the connection so.
    tokio::time::timeout(ANSWERS_WITHIN, answers).await.unwrap_or(false)
}

impl Task {
    /// Another connection is to be made; not more often than [`RENEW_EVERY`], for the peer may ask for it, too.
    fn renew(&mut self) {
        let now = Instant::now();
        let earliest = self.current.as_ref().map_or(now, |current| now.max(current.since + RENEW_EVERY));
        self.dial_at = self.entry.dial().map(|_| earliest);
    }

    fn begin_dial(&mut self) {
        self.dial_at = None;
        let Some(address) = self.entry.dial() else { return };
        let tls = self.shared.tls.get();
        let shown = tls.credentials.chain.clone();
        let (shared, name) = (Arc::clone(&self.shared), self.entry.name.clone());
        let running = Box::pin(async move {
            let Some(endpoint) = shared.endpoint() else { return Err(Ended::Out("the links are closed".into())) };
            let connecting = endpoint.connect_with(tls.client.clone(), address, name.as_str());
            let connecting = connecting.map_err(|error| Ended::Out(error.to_string()))?;
            match tokio::time::timeout(WITHIN, connecting).await {
                Ok(connected) => connected.map_err(|error| Ended::of(&error)),
                Err(_) => Err(Ended::Out("it does not answer".into())),
            }
        });
        self.dial = Some(Dial { stage: Stage::Connecting(running), since: Instant::now(), shown });
    }

    fn connected(&mut self, connected: Result<Connection, Ended>) {
        let Some(dial) = self.dial.take() else { return };
        let connection = match connected {
            Ok(connection) => connection,
            Err(ended) => return self.failed(ended),
        };
        let old = self.stop_current();
        let taken = self.entry.inbound(Inbound::connected);
        let (shared, name, greeting) = (Arc::clone(&self.shared), self.entry.name.clone(), connection.clone());
        let running = Box::pin(async move {
            let (has, control) = handshake::greet(&shared, &greeting, &name, taken).await?;
            Ok((greeting, has, control))
        });
        self.dial = Some(Dial { stage: Stage::Greeting(running, connection, old), ..dial });
    }

    fn greeted(&mut self, greeted: Result<Greeted, Ended>) {
        let Some(Dial { shown, stage: Stage::Greeting(_, _, old), .. }) = self.dial.take() else { return };
        match greeted {
            Ok((connection, has, control)) => {
                let (address, before) = (connection.remote_address(), self.entry.newest_life());
                let begin = self.resume(has).begin();
                let chain = handshake::chain(&connection);
                self.link(Session { connection, side: Side::Dialled, chain, shown, control, begin });
                if let Some(old) = old {
                    self.retire(old, before, address);
                }
            }
            Err(ended) => {
                self.failed(ended);
                old.inspect(|old| ended::goodbye(old, "a newer connection was tried and failed"));
            }
        }
    }

    async fn arrived(&mut self, arrival: Arrival) {
        if self.keeps_own() {
            ended::goodbye(&arrival.connection, "both dialled at once: the other connection stays");
            return;
        }
        let mut olds = vec![self.stop_current()];
        if let Some(Dial { stage: Stage::Greeting(_, connection, old), .. }) = self.dial.take() {
            olds.extend([Some(connection), old]);
        }
        let Arrival { connection, chain, shown, hello, version, control: (mut tell, heard) } = arrival;
        let (address, before) = (connection.remote_address(), self.entry.newest_life());
        self.entry.dialled_from(address);
        let taken = self.entry.inbound(Inbound::connected);
        match handshake::welcome(&self.shared, &connection, &mut tell, version, taken).await {
            Ok(()) => {
                let begin = self.resume(hello.taken).begin();
                self.link(Session { connection, side: Side::Dialling, chain, shown, control: (tell, heard), begin });
                olds.into_iter().flatten().for_each(|old| self.retire(old, before, address));
            }
            Err(ended) => {
                self.failed(ended);
                olds.iter().flatten().for_each(|old| ended::goodbye(old, "a newer connection was tried and failed"));
            }
        }
    }

    /// Ends a connection, of a peer that had that life, in whose place there is another.
    fn retire(&mut self, old: Connection, before: (Option<Run>, u64), by: SocketAddr) {
        if let Some(earlier) = self.retired.replace(old.clone()) {
            ended::take_over(&earlier, by);
        }
        let (shared, entry) = (Arc::clone(&self.shared), Arc::clone(&self.entry));
        self.shared.spawn(async move {
            tokio::select! {
                biased;
                () = closed(&shared) => {}
                two = is_another(&entry, &old, before) => if two {
                    entry.hear_both([old.remote_address(), by], shared.now());
                }
            }
            ended::take_over(&old, by);
        });
    }

    /// Whether our own connection, just made or in the making, is the one that stays.
    fn keeps_own(&self) -> bool {
        let own_dial = self.dial.as_ref().map(|dial| dial.since);
        let own_link =
            self.current.as_ref().filter(|current| current.side == Side::Dialled).map(|current| current.since);
        self.shared.name < self.entry.name
            && [own_dial, own_link].into_iter().flatten().any(|since| since.elapsed() < AT_ONCE)
    }

    /// Stops reading and writing on the connection there is, and leaves it open.
    fn stop_current(&mut self) -> Option<Connection> {
        self.current.take().map(|current| current.connection)
    }

    fn resume(&self, has: Option<Place>) -> Resumed {
        let resumed = self.entry.resume(has, Run(self.shared.draw()));
        if let Resumed::Anew(_) = resumed {
            tracing::warn!(peer = %self.entry.name, "it remembers other messages than were sent: numbers begin anew");
        }
        resumed
    }

    fn link(&mut self, session: Session) {
        let (connection, side) = (session.connection.clone(), session.side);
        let running = Box::pin(session::run(Arc::clone(&self.shared), Arc::clone(&self.entry), session));
        self.current = Some(Current { running, connection, side, since: Instant::now() });
        self.dial_at = None;
        if let Some(state) = self.entry.linked(self.shared.now()) {
            tracing::info!(peer = %self.entry.name, "linked");
            self.shared.changed(&self.entry.name, state);
        }
    }

    fn ended(&mut self, ended: Ended) {
        let stood = self.current.take().map(|current| current.since.elapsed()).unwrap_or_default();
        if stood >= STOOD {
            self.failures = 0;
        }
        if stood >= SAID_FOR {
            self.displaced = 0;
        }
        self.failed(ended);
    }

    /// A dial failed, or the link ended: it is tried again, while the link that there may still be goes on.
    fn failed(&mut self, ended: Ended) {
        let (backoff, failures) = match ended {
            Ended::TakenOver(_) => (&DISPLACED, &mut self.displaced),
            _ => (&self.shared.config.backoff, &mut self.failures),
        };
        *failures = failures.saturating_add(1);
        if self.entry.dial().is_some() {
            let delay = backoff.delay(*failures, &*self.shared.rng);
            self.dial_at = Some(Instant::now() + delay);
        }
        if self.current.is_some() {
            return;
        }
        if let Some(state) = self.entry.ended(ended, self.shared.now()) {
            tracing::warn!(peer = %self.entry.name, ?state, "not linked");
            self.shared.changed(&self.entry.name, state);
        }
    }
}
