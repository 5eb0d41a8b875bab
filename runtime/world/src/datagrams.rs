//! A UDP socket as a port, for simulation: production hands links a socket of the machine, which can do more (segments, offload).

use std::{
    io,
    net::SocketAddr,
    task::{Context, Poll},
};

/// Sends and receives datagrams. Shared: who sends and who receives are different tasks.
pub trait Datagrams: Send + Sync {
    /// Where it is bound.
    fn local(&self) -> SocketAddr;

    /// Sends one, or loses it: as a network does.
    ///
    /// # Errors
    /// The socket is no more. A full queue is loss, no error.
    fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()>;

    /// Takes one that has come into `buffer`, and says how long it is and from where; one that is longer than the buffer is lost.
    /// Remembers who to wake when there is none: one task at a time receives.
    ///
    /// # Errors
    /// The socket is no more.
    fn poll_receive(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>>;
}
