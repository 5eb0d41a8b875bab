//! Listening: a Unix socket and, if asked for, loopback with a token.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use actix_web::{
    App, HttpResponse, HttpServer,
    body::{EitherBody, MessageBody},
    dev::{Server, ServerHandle, ServiceRequest, ServiceResponse},
    http::header,
    middleware::{self, Next},
    web::{self, Data},
};
use serde_json::json;
use tokio::net::UnixSocket;

use crate::{AdminError, AdminView, Token, routes, tree_events::Places};

/// No route takes a body; this much is read of one before the request is refused, in bytes.
pub const MAX_BODY_BYTES: u64 = 4096;
/// Connections at a time: a scraper, a few people, a few followers of alerts.
const MAX_CONNECTIONS: usize = 64;
/// Connections that wait to be taken: as many again.
const BACKLOG: u32 = 64;

/// Where to listen.
#[derive(Debug, Clone)]
pub struct AdminAddress {
    /// The Unix socket's path.
    pub socket: PathBuf,
    /// A loopback port and its token.
    pub loopback: Option<(SocketAddr, Token)>,
}

/// Both ends of what is listened on, taken before anything else of a node starts: who connects now waits until [`Bound::serve`].
#[derive(Debug)]
pub struct Bound {
    socket: (UnixListener, SocketFile),
    loopback: Option<(std::net::TcpListener, SocketAddr, Token)>,
}

/// The running endpoint.
#[derive(Debug)]
pub struct AdminServer {
    handles: Vec<ServerHandle>,
    socket: SocketFile,
    /// Where the loopback port really is (port 0 lets the kernel choose).
    pub loopback: Option<SocketAddr>,
}

impl AdminServer {
    /// Stops listening, lets running requests end for a second, and removes the socket.
    pub async fn stop(self) {
        for handle in self.handles {
            handle.stop(true).await;
        }
        drop(self.socket);
    }
}

/// The socket's name in the file system; dropping it removes the name, unless another node has since taken it.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|there| there.ino() == self.inode) {
            // Nothing to do if it went meanwhile: that is what was wanted.
            fs::remove_file(&self.path).ok();
        }
    }
}

impl AdminAddress {
    /// Takes the socket and the port. Must be called on a Tokio runtime.
    ///
    /// # Errors
    /// See [`AdminError`]; nothing is taken then.
    pub fn bind(self) -> Result<Bound, AdminError> {
        let loopback = self.loopback.map(|(address, token)| bind_port(address, token)).transpose()?;
        let socket =
            bind_socket(&self.socket).map_err(|source| AdminError::Socket { path: self.socket.clone(), source })?;
        Ok(Bound { socket, loopback })
    }
}

impl Bound {
    /// Begins to serve `view`; the servers run on the calling thread's runtime until [`AdminServer::stop`].
    ///
    /// # Errors
    /// See [`AdminError`]; nothing listens then.
    pub fn serve(self, view: Arc<dyn AdminView>) -> Result<AdminServer, AdminError> {
        let view: Data<dyn AdminView> = Data::from(view);
        let (listener, socket) = self.socket;
        let places = Places::new();
        let mut servers = vec![
            listen(view.clone(), places.clone(), None, Listening::Socket(listener))
                .map_err(|source| AdminError::Socket { path: socket.path.clone(), source })?,
        ];
        let mut loopback = None;
        if let Some((listener, address, token)) = self.loopback {
            loopback = Some(address);
            let server = listen(view, places, Some(token), Listening::Port(listener));
            servers.push(server.map_err(|source| AdminError::Port { address, source })?);
        }
        let handles = servers.iter().map(Server::handle).collect();
        for server in servers {
            actix_web::rt::spawn(async move {
                if let Err(error) = server.await {
                    tracing::error!(%error, "the admin endpoint ended");
                }
            });
        }
        Ok(AdminServer { handles, socket, loopback })
    }
}

/// [`AdminAddress::bind`] and [`Bound::serve`] in one.
///
/// # Errors
/// See [`AdminError`]; nothing listens then.
pub fn serve(address: AdminAddress, view: Arc<dyn AdminView>) -> Result<AdminServer, AdminError> {
    address.bind()?.serve(view)
}

enum Listening {
    Socket(UnixListener),
    Port(std::net::TcpListener),
}

/// One bounded server; `token` is what its requests must carry, if anything.
fn listen(view: Data<dyn AdminView>, places: Places, token: Option<Token>, on: Listening) -> io::Result<Server> {
    let server = HttpServer::new(move || {
        App::new()
            .app_data(view.clone())
            .app_data(Data::new(places.clone()))
            .app_data(Data::new(Admittance(token.clone())))
            .wrap(middleware::from_fn(refuse_bodies))
            .wrap(middleware::from_fn(require_token))
            .configure(routes::configure)
    })
    .workers(1)
    .max_connections(MAX_CONNECTIONS)
    .client_request_timeout(Duration::from_secs(5))
    // A follower of alerts that goes away is seen at once, not with the next alert: until then it would hold one of the few connections.
    .h1_allow_half_closed(false)
    .shutdown_timeout(1)
    .disable_signals();
    Ok(match on {
        Listening::Socket(listener) => server.listen_uds(listener)?,
        Listening::Port(listener) => server.listen(listener)?,
    }
    .run())
}

/// Who may ask: with `None` everybody who can open the socket.
struct Admittance(Option<Token>);

fn bind_port(address: SocketAddr, token: Token) -> Result<(std::net::TcpListener, SocketAddr, Token), AdminError> {
    if !address.ip().is_loopback() {
        return Err(AdminError::NotLoopback(address));
    }
    let failed = |source| AdminError::Port { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address, token))
}

/// A socket that a dead node left is replaced; one that answers, or a file that is no socket, is not.
fn bind_socket(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    remove_if_left_behind(path)?;
    // Bound under a name that nobody waits for, closed to others before it listens, and only then put in its place: whatever the
    // umask, it is never open, not for a moment.
    let mut unseen = path.as_os_str().to_owned();
    unseen.push(format!(".{}", std::process::id()));
    let unseen = PathBuf::from(unseen);
    // Process ids come again: in a container, the very same one.
    remove_if_left_behind(&unseen)?;
    let socket = UnixSocket::new_stream()?;
    socket.bind(&unseen)?;
    let listener = private(socket, &unseen).and_then(|listener| fs::rename(&unseen, path).map(|()| listener));
    let listener = listener.inspect_err(|_| drop(fs::remove_file(&unseen)))?;
    let inode = fs::symlink_metadata(path)?.ino();
    Ok((listener, SocketFile { path: path.to_owned(), inode }))
}

/// A bound socket that does not listen yet refuses who connects, so nobody is let in before its mode says who may.
fn private(socket: UnixSocket, path: &Path) -> io::Result<UnixListener> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?.into_std()
}

fn remove_if_left_behind(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something that is not a socket"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another node answers there: stop it, or name another socket with --admin-socket",
        )),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

async fn refuse_bodies<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
    if chunked || length.is_some_and(|length| length > MAX_BODY_BYTES) {
        let body = json!({ "error": format!("no route takes a body; at most {MAX_BODY_BYTES} bytes are read of one") });
        let mut response = HttpResponse::PayloadTooLarge();
        response.force_close();
        return Ok(request.into_response(routes::json(response, &body)).map_into_right_body());
    }
    next.call(request).await.map(ServiceResponse::map_into_left_body)
}

async fn require_token<B: MessageBody>(
    admittance: web::Data<Admittance>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if admittance.0.as_ref().is_none_or(|token| token.admits(given)) {
        return next.call(request).await.map(ServiceResponse::map_into_left_body);
    }
    let mut response = HttpResponse::Unauthorized();
    response.force_close().insert_header((header::WWW_AUTHENTICATE, "Bearer"));
    let body = json!({ "error": "send the header `Authorization: Bearer TOKEN`; the token is in the file that the node named at its start" });
    Ok(request.into_response(routes::json(response, &body)).map_into_right_body())
}
