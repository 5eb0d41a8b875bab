//! Why the endpoint cannot be served.

use std::{io, net::SocketAddr, path::PathBuf};

/// See the variants.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The Unix socket cannot be made.
    #[error("admin socket {path}: {source}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The port cannot be bound.
    #[error("admin address {address}: {source}: name another with --admin-address")]
    Port {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The address is not loopback.
    #[error(
        "admin address {0} is not a loopback address; the admin endpoint is never open to a network: use 127.0.0.1 or [::1]"
    )]
    NotLoopback(SocketAddr),
    /// The token file cannot be read or made.
    #[error("admin token {path}: {source}")]
    Token {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}
