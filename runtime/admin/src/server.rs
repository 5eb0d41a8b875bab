//! Listening: a Unix socket and, if asked for, loopback with a token.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
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

use crate::{AdminError, AdminView, Token, routes};

/// No route takes a body; this much is read of one before the request is refused, in bytes.
pub const MAX_BODY_BYTES: u64 = 4096;
/// Connections at a time: a scraper, a few people, a few followers of alerts.
const MAX_CONNECTIONS: usize = 64;

/// Where to listen.
#[derive(Debug, Clone)]
pub struct AdminAddress {
    /// The Unix socket's path.
    pub socket: PathBuf,
    /// A loopback port and its token.
    pub loopback: Option<(SocketAddr, Token)>,
}

/// The running endpoint.
#[derive(Debug)]
pub struct AdminServer {
    handles: Vec<ServerHandle>,
    socket: PathBuf,
    /// Where the loopback port really is (port 0 lets the kernel choose).
    pub loopback: Option<SocketAddr>,
}

impl AdminServer {
    /// Stops listening, lets running requests end for a second, and removes the socket.
    pub async fn stop(self) {
        for handle in self.handles {
            handle.stop(true).await;
        }
        // Another node may have taken the path by now only if it was removed by hand: nothing to mend here.
        let _ = fs::remove_file(self.socket);
    }
}

/// Begins to serve `view`; the servers run on the calling thread's runtime until [`AdminServer::stop`].
///
/// # Errors
/// See [`AdminError`]; nothing listens then.
pub fn serve(address: AdminAddress, view: Arc<dyn AdminView>) -> Result<AdminServer, AdminError> {
    let view: Data<dyn AdminView> = Data::from(view);
    let port = address
        .loopback
        .map(|(address, token)| bind_port(address).map(|listener| (listener, address, token)))
        .transpose()?;
    let socket =
        bind_socket(&address.socket).map_err(|source| AdminError::Socket { path: address.socket.clone(), source })?;
    let mut servers = vec![
        listen(view.clone(), None, Listening::Socket(socket))
            .map_err(|source| AdminError::Socket { path: address.socket.clone(), source })?,
    ];
    let mut loopback = None;
    if let Some((listener, address, token)) = port {
        let failed = |source| AdminError::Port { address, source };
        loopback = Some(listener.local_addr().map_err(failed)?);
        servers.push(listen(view, Some(token), Listening::Port(listener)).map_err(failed)?);
    }
    let handles = servers.iter().map(Server::handle).collect();
    for server in servers {
        actix_web::rt::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the admin endpoint ended");
            }
        });
    }
    Ok(AdminServer { handles, socket: address.socket, loopback })
}

enum Listening {
    Socket(UnixListener),
    Port(std::net::TcpListener),
}

/// One bounded server; `token` is what its requests must carry, if anything.
fn listen(view: Data<dyn AdminView>, token: Option<Token>, on: Listening) -> io::Result<Server> {
    let server = HttpServer::new(move || {
        App::new()
            .app_data(view.clone())
            .app_data(Data::new(Admittance(token.clone())))
            .wrap(middleware::from_fn(refuse_bodies))
            .wrap(middleware::from_fn(require_token))
            .configure(routes::configure)
    })
    .workers(1)
    .max_connections(MAX_CONNECTIONS)
    .client_request_timeout(Duration::from_secs(5))
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

fn bind_port(address: SocketAddr) -> Result<std::net::TcpListener, AdminError> {
    if !address.ip().is_loopback() {
        return Err(AdminError::NotLoopback(address));
    }
    std::net::TcpListener::bind(address).map_err(|source| AdminError::Port { address, source })
}

/// A socket that a dead node left is replaced; one that answers, or a file that is no socket, is not.
fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    if let Ok(metadata) = fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something that is not a socket"));
        }
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another node answers there"));
        }
        fs::remove_file(path)?;
    }
    // Bound under a name that nobody waits for, closed to others, and only then put in its place: never open, not for a moment.
    let mut unseen = path.as_os_str().to_owned();
    unseen.push(format!(".{}", std::process::id()));
    let unseen = PathBuf::from(unseen);
    let listener = UnixListener::bind(&unseen)?;
    fs::set_permissions(&unseen, fs::Permissions::from_mode(0o600))?;
    fs::rename(&unseen, path)?;
    Ok(listener)
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
        let response = HttpResponse::PayloadTooLarge().force_close().json(body);
        return Ok(request.into_response(response).map_into_right_body());
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
    let response = HttpResponse::Unauthorized()
        .insert_header((header::WWW_AUTHENTICATE, "Bearer"))
        .json(json!({ "error": "send the header `Authorization: Bearer TOKEN`; the token is in the file that the node named at its start" }));
    Ok(request.into_response(response).map_into_right_body())
}
