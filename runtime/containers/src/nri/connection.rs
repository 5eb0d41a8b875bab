//! One connection to the runtime, from its beginning to its end.
//!
//! Invariant: the runtime is root's: whoever else serves the socket could tell us of pods that are not there.
//! Every step has its time: the registration as a whole ([`REGISTRATION`]), a message that has begun ([`WHOLE`]), what is written ([`WRITE`]).
//! A runtime that says nothing is one where nothing is created: whether it hangs its API tells.

use std::{io, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::{Instant, timeout},
};

use super::{
    messages::{RUNTIME_SERVICE, RegisterPluginRequest},
    mux::{self, Demux, FrameTooLong},
    plugin::{Plugin, Step},
    ttrpc::{self, Assembler, Message, TtrpcError},
};

/// How the plugin is called, in the runtime's log above all.
const NAME: &str = "palisade";
/// Its place among plugins, two digits: among the last, to see hooks that others add.
const INDEX: &str = "90";
/// The number of the only call that is made.
const REGISTER_STREAM: u32 = 1;

/// From the connection to the end of the first `Synchronize`. The runtime itself waits 5 s for a registration and 2 s for each answer, and
/// takes plugins one after the other.
const REGISTRATION: Duration = Duration::from_secs(30);
/// Within which a message that has begun goes on.
const WHOLE: Duration = Duration::from_secs(5);
/// Within which the runtime takes what is written.
const WRITE: Duration = Duration::from_secs(2);
/// Bytes of one reading.
const READ_BYTES: usize = 16 << 10;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum NriError {
    #[error("{0}")]
    Unreachable(#[source] io::Error),
    #[error("served by uid {peer}, not by uid {uid}")]
    Foreign { peer: u32, uid: u32 },
    #[error("the registration is refused: {0}")]
    Refused(String),
    #[error("not registered within {} s", REGISTRATION.as_secs())]
    Slow,
    #[error("the runtime closed the connection")]
    Closed,
    #[error("the runtime is stopping")]
    Shutdown,
    #[error("a message began and did not go on within {} s", WHOLE.as_secs())]
    Stalled,
    #[error("an answer is not taken within {} s", WRITE.as_secs())]
    Unread,
    #[error("garbled: {0}")]
    Frame(#[from] FrameTooLong),
    #[error("garbled: {0}")]
    Ttrpc(#[from] TtrpcError),
    #[error("{0}")]
    Io(#[source] io::Error),
}

/// Registers with a runtime of `uid` and answers until the connection ends; `registered` is called when it has told all it has.
pub(super) async fn serve(socket: &Path, uid: u32, plugin: &mut Plugin, registered: impl FnMut()) -> NriError {
    let mut connection = match Connection::open(socket, uid).await {
        Ok(connection) => connection,
        Err(error) => return error,
    };
    plugin.connected();
    match connection.run(plugin, registered).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

enum Never {}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    demux: Demux,
    /// Calls of the runtime.
    calls: Assembler,
    /// Answers to our own call.
    answers: Assembler,
    synchronized: bool,
    runtime: String,
}

impl Connection {
    async fn open(socket: &Path, uid: u32) -> Result<Self, NriError> {
        let stream = match timeout(WRITE, UnixStream::connect(socket)).await {
            Ok(stream) => stream.map_err(NriError::Unreachable)?,
            Err(_) => return Err(NriError::Slow),
        };
        let peer = stream.peer_cred().map_err(NriError::Unreachable)?.uid();
        if peer != uid {
            return Err(NriError::Foreign { peer, uid });
        }
        Ok(Self {
            stream,
            demux: Demux::default(),
            calls: Assembler::default(),
            answers: Assembler::default(),
            synchronized: false,
            runtime: String::new(),
        })
    }

    async fn run(&mut self, plugin: &mut Plugin, mut registered: impl FnMut()) -> Result<Never, NriError> {
        let deadline = Instant::now() + REGISTRATION;
        let register = RegisterPluginRequest { plugin_name: NAME.to_owned(), plugin_idx: INDEX.to_owned() };
        let call = ttrpc::request(REGISTER_STREAM, RUNTIME_SERVICE, "RegisterPlugin", &register);
        self.write(mux::RUNTIME, &call).await?;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = self.read(&mut buffer, deadline).await?;
            let mut bytes = buffer.get(..read).unwrap_or_default();
            while let Some((connection, piece)) = self.demux.piece(&mut bytes)? {
                match connection {
                    mux::PLUGIN => self.calls.push(piece),
                    mux::RUNTIME => self.answers.push(piece),
                    _ => {}
                }
                self.take_answers()?;
                self.answer_calls(plugin, &mut registered).await?;
            }
        }
    }

    /// Some bytes, in time.
    async fn read(&mut self, buffer: &mut [u8], deadline: Instant) -> Result<usize, NriError> {
        let is_within = self.demux.is_within() || self.calls.is_within() || self.answers.is_within();
        let reading = self.stream.read(buffer);
        let read = match (self.synchronized, is_within) {
            (false, _) => tokio::time::timeout_at(deadline, reading).await.map_err(|_| NriError::Slow)?,
            (true, true) => timeout(WHOLE, reading).await.map_err(|_| NriError::Stalled)?,
            (true, false) => reading.await,
        };
        match read.map_err(NriError::Io)? {
            0 => Err(NriError::Closed),
            read => Ok(read),
        }
    }

    /// Of the registration: that it is well comes with the runtime's own calls.
    fn take_answers(&mut self) -> Result<(), NriError> {
        while let Some(message) = self.answers.message()? {
            let Message::Response { stream: REGISTER_STREAM, response } = message else { continue };
            if let Some(status) = response.status.filter(|status| status.code != 0) {
                return Err(NriError::Refused(status.message.chars().take(256).collect()));
            }
        }
        Ok(())
    }

    async fn answer_calls(&mut self, plugin: &mut Plugin, registered: &mut impl FnMut()) -> Result<(), NriError> {
        while let Some(message) = self.calls.message()? {
            let Message::Request { stream, request } = message else { continue };
            let (outcome, step) = plugin.answer(&request);
            self.write(mux::PLUGIN, &ttrpc::response(stream, outcome)).await?;
            match step {
                Step::Configured(runtime) => self.runtime = runtime,
                Step::Synchronized => {
                    self.synchronized = true;
                    tracing::info!(runtime = ?self.runtime, "registered by NRI: what it creates gets the hook");
                    registered();
                }
                Step::Shutdown => return Err(NriError::Shutdown),
                Step::None => {}
            }
        }
        Ok(())
    }

    async fn write(&mut self, connection: u32, message: &[u8]) -> Result<(), NriError> {
        match timeout(WRITE, self.stream.write_all(&mux::frames(connection, message))).await {
            Ok(written) => written.map_err(NriError::Io),
            Err(_) => Err(NriError::Unread),
        }
    }
}
