//! A socket of the machine as quinn wants it: many datagrams in one call, which the kernel cuts apart.
//!
//! quinn hands over up to ten datagrams at a time. Ten of the longest are more than a UDP call may carry, the kernel refuses all of them
//! (`EMSGSIZE`), and quinn takes that for a probe that the path does not carry: it drops the ten without a word, sees their loss, and goes
//! back to datagrams of 1,200 bytes for a minute. So they go in as many calls as it takes.
//!
//! Decision: more calls, and not fewer datagrams in each, because ten of a common path's 1,452 bytes fit into one.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, Runtime as _, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use rustix::net::sockopt;

/// Bytes that the kernel keeps for a socket, in each direction.
const SOCKET_BYTES: usize = 2 << 20;
/// Bytes that one call carries: 65,535 without the heads of IPv4 and UDP.
const CALL_BYTES: usize = 65_507;

/// See the module.
#[derive(Debug)]
pub(crate) struct MachineSocket(Arc<dyn AsyncUdpSocket>);

impl MachineSocket {
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        // The kernel's default holds less than a millisecond of a fast peer. It grants what its own bound allows, which is no failure.
        let larger = sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BYTES)
            .and_then(|()| sockopt::set_socket_send_buffer_size(&socket, SOCKET_BYTES));
        if let Err(error) = larger {
            tracing::debug!(%error, "the socket keeps its buffers");
        }
        quinn::TokioRuntime.wrap_udp_socket(socket).map(Self)
    }
}

/// Bytes of a call that ends between two datagrams.
fn call_bytes(datagram: usize) -> usize {
    let datagram = datagram.max(1);
    (CALL_BYTES / datagram).max(1) * datagram
}

impl AsyncUdpSocket for MachineSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.0).create_io_poller()
    }

    /// Where the socket is full after some of it, quinn hands over all of it again: QUIC drops what comes twice.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(datagram) = transmit.segment_size.filter(|_| transmit.contents.len() > CALL_BYTES) else {
            return self.0.try_send(transmit);
        };
        let Transmit { destination, ecn, src_ip, .. } = *transmit;
        transmit.contents.chunks(call_bytes(datagram)).try_for_each(|contents| {
            let segment_size = (contents.len() > datagram).then_some(datagram);
            self.0.try_send(&Transmit { destination, ecn, contents, segment_size, src_ip })
        })
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.0.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, time::Duration};

    use super::*;

    #[tokio::test]
    async fn unit_link_socket_sends_more_datagrams_at_once_than_one_call_carries() {
        const DATAGRAM: usize = crate::LONGEST_DATAGRAM as usize;
        let there = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        there.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        let here = Arc::new(MachineSocket::new(UdpSocket::bind("127.0.0.1:0").expect("loopback")).expect("a socket"));
        let mut poller = Arc::clone(&here).create_io_poller();
        std::future::poll_fn(|cx| poller.as_mut().poll_writable(cx)).await.expect("writable");
        const { assert!(10 * DATAGRAM > CALL_BYTES, "as many as quinn hands over are too many for one call") };
        let contents: Vec<u8> = (0..10 * DATAGRAM - 100).map(|at| (at / DATAGRAM) as u8).collect();
        let segment_size = Some(DATAGRAM);
        let destination = there.local_addr().expect("bound");
        here.try_send(&Transmit { destination, ecn: None, contents: &contents, segment_size, src_ip: None })
            .expect("room");
        let mut buffer = vec![0; 2 * DATAGRAM];
        for (n, expected) in contents.chunks(DATAGRAM).enumerate() {
            let length = there.recv(&mut buffer).expect("comes");
            assert!(buffer[..length] == *expected, "datagram {n} of {length} bytes");
        }
    }
}
