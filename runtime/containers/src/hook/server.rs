//! The node's end of the hook's socket.
//!
//! One task accepts; each connection is one hook with its own task, of which there are [`MAX_CONCURRENT`] at most. What a hook asks
//! goes to the adapter as a [`Signal`]; the answer comes back by the call's channel. A hook that is refused, goes away or times out
//! before it has read "admitted" is told to the adapter as abandoned, so that nobody waits for a container that never starts.
//!
//! Only processes of one uid, root's, are served: runc runs hooks as root, and whoever could ask falsely could have a container's cgroup put
//! under another container's name.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixSocket, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::{
    MAX_CONCURRENT,
    message::{Answer, MAX_REQUEST_BYTES, Request},
};
use crate::roster::Key;

/// How long a hook may take to ask, and to read its answer.
const IO_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the node may take to answer; beyond a hook's own patience, which is the user's choice (a slow machine that starts has a minute
/// and more of it), so that it only bounds what is kept here of one that never ends.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);

/// Hooks that wait to be taken: a storm of starts, each with its own patience.
const BACKLOG: u32 = 1024;

/// What is read of a peer that has been refused, so that it hears why.
const MAX_UNREAD_BYTES: u64 = 1 << 20;

/// A hook that waits.
#[derive(Debug)]
pub(crate) struct Call {
    pub request: Request,
    pub answer: oneshot::Sender<Result<(), String>>,
}

/// What the adapter hears of hooks.
#[derive(Debug)]
pub(crate) enum Signal {
    /// A hook waits for an answer.
    Call(Call),
    /// The hook of this container and init process ended without having been admitted.
    Abandoned(Key, u32),
}

/// A served socket; dropping it stops serving and removes the socket.
#[derive(Debug)]
pub(crate) struct Server {
    signals: mpsc::Receiver<Signal>,
    accepting: JoinHandle<()>,
    path: PathBuf,
    inode: u64,
}

impl Server {
    /// Serves processes of `uid` at `path`: a socket left behind by an earlier node is replaced, one in use is an error.
    pub(crate) async fn bind(path: &Path, uid: u32) -> io::Result<Self> {
        remove_if_left_behind(path).await?;
        let socket = UnixSocket::new_stream()?;
        socket.bind(path)?;
        // A socket that does not listen yet refuses who connects: nobody is let in before its mode says who may.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        let listener = socket.listen(BACKLOG)?;
        let inode = fs::symlink_metadata(path)?.ino();
        // Each connection says two things at most. While the adapter does not listen (it connects to containerd) those of hooks that
        // have ended may stand here still: then a call is refused, and the end of one waits for room.
        let (sender, signals) = mpsc::channel(2 * MAX_CONCURRENT);
        let accepting = tokio::spawn(accept(listener, uid, sender));
        Ok(Self { signals, accepting, path: path.to_owned(), inode })
    }

    /// The next signal; `None` when serving ended. Cancel safe.
    pub(crate) async fn signal(&mut self) -> Option<Signal> {
        self.signals.recv().await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
        // Not another node's socket that has since taken the place.
        if fs::symlink_metadata(&self.path).is_ok_and(|there| there.ino() == self.inode) {
            // Nothing to do if it went meanwhile: that is what was wanted.
            fs::remove_file(&self.path).ok();
        }
    }
}

/// A socket that nobody listens on is removed; anything else that is in the way stays and makes `bind` fail.
async fn remove_if_left_behind(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another node serves it")),
            Err(error) => Err(error),
        },
        _ => Ok(()),
    }
}

async fn accept(listener: UnixListener, uid: u32, signals: mpsc::Sender<Signal>) {
    let permits = Arc::new(Semaphore::new(MAX_CONCURRENT));
    let mut hooks = JoinSet::new();
    loop {
        // A permit before a connection: those too many wait in the socket's backlog, each as long as its own patience lasts.
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        // Ended tasks are taken out first, so that the set holds no more than the permits allow.
        while hooks.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                hooks.spawn(serve(stream, uid, signals.clone(), permit));
            }
            Err(error) => {
                // Out of descriptors: hooks wait in the backlog meanwhile.
                tracing::warn!(%error, "hook socket: accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: UnixStream, uid: u32, signals: mpsc::Sender<Signal>, _permit: OwnedSemaphorePermit) {
    let peer = stream.peer_cred().map(|peer| peer.uid());
    let mut stream = BufReader::new(stream);
    let request = match peer {
        Ok(peer) if peer == uid => read_request(&mut stream).await,
        Ok(peer) => Err(format!("only uid {uid} may ask, not uid {peer}")),
        Err(error) => Err(format!("peer credentials: {error}")),
    };
    let (subject, outcome) = match request {
        Ok(request) => {
            let subject = (Key { namespace: request.namespace.clone(), id: request.id.clone() }, request.pid);
            (Some(subject), decide(request, &mut stream, &signals).await)
        }
        Err(reason) => (None, Err(reason)),
    };
    if let Err(reason) = &outcome {
        let container = subject.as_ref().map_or("?", |(key, _)| key.id.as_str());
        tracing::warn!(container, reason, "hook refused");
    }
    let admitted = outcome.is_ok();
    let line = Answer::of(outcome).to_line();
    let delivered = matches!(timeout(IO_TIMEOUT, stream.get_mut().write_all(&line)).await, Ok(Ok(())));
    if subject.is_none() {
        hear_out(&mut stream).await;
    }
    if let Some((key, pid)) = subject.filter(|_| !(admitted && delivered)) {
        // Fails only when the adapter is gone, and then nobody is left to be told.
        signals.send(Signal::Abandoned(key, pid)).await.ok();
    }
}

/// Reads what a peer still says after it was refused: closing a Unix socket with unread bytes resets it, and the peer would see the
/// reset in place of the reason.
async fn hear_out(stream: &mut BufReader<UnixStream>) {
    // All of this is a courtesy: how it ends does not matter.
    stream.get_mut().shutdown().await.ok();
    timeout(IO_TIMEOUT, tokio::io::copy(&mut stream.take(MAX_UNREAD_BYTES), &mut tokio::io::sink())).await.ok();
}

async fn read_request(stream: &mut BufReader<UnixStream>) -> Result<Request, String> {
    let mut line = Vec::new();
    let read = timeout(IO_TIMEOUT, stream.take(MAX_REQUEST_BYTES).read_until(b'\n', &mut line)).await;
    match read {
        Ok(Ok(_)) => Request::parse(&line),
        Ok(Err(error)) => Err(format!("the question cannot be read: {error}")),
        Err(_) => Err(format!("no question within {} s", IO_TIMEOUT.as_secs())),
    }
}

/// Waits for the node's decision as long as the hook does.
async fn decide(
    request: Request,
    stream: &mut BufReader<UnixStream>,
    signals: &mpsc::Sender<Signal>,
) -> Result<(), String> {
    let (answer, decision) = oneshot::channel();
    signals
        .try_send(Signal::Call(Call { request, answer }))
        .map_err(|_| "the node does not take hooks now".to_owned())?;
    let mut beyond = [0u8; 1];
    tokio::select! {
        biased;
        decided = timeout(ANSWER_TIMEOUT, decision) => match decided {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err("the node gave up the question unanswered".to_owned()),
            Err(_) => Err(format!("the node has not decided within {} s", ANSWER_TIMEOUT.as_secs())),
        },
        read = stream.read(&mut beyond) => Err(match read {
            Ok(0) => "the hook went away".to_owned(),
            Ok(_) => "the hook said more than its question".to_owned(),
            Err(error) => format!("the hook went away: {error}"),
        }),
    }
}
