//! The simulated network held to the real one: the same test bodies against it and against UDP sockets on loopback.
#![forbid(unsafe_code)]

use std::{
    cell::Cell,
    collections::BTreeSet,
    future::poll_fn,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use palisade_simulation::{
    random::Random,
    world::{network::Network, scheduler},
};
use palisade_world::Datagrams;
use tokio::{
    io::ReadBuf,
    net::UdpSocket,
    time::{sleep, timeout},
};

/// One network, simulated or real.
trait Wire {
    /// A socket at an address of its own.
    fn bind(&self) -> Arc<dyn Datagrams>;
    /// A socket at this address, where nobody is bound.
    fn bind_to(&self, address: SocketAddr) -> Arc<dyn Datagrams>;
}

/// UDP on loopback: who sends asks the kernel, and who receives the reactor, as links do.
struct RealSocket {
    sends: std::net::UdpSocket,
    receives: UdpSocket,
}

impl Datagrams for RealSocket {
    fn local(&self) -> SocketAddr {
        self.receives.local_addr().expect("bound")
    }

    fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        match self.sends.send_to(datagram, to) {
            // A full queue is loss.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            sent => sent.map(|_| ()),
        }
    }

    fn poll_receive(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut read = ReadBuf::new(buffer);
        self.receives.poll_recv_from(context, &mut read).map_ok(|from| (read.filled().len(), from))
    }
}

struct Real;

impl Wire for Real {
    fn bind(&self) -> Arc<dyn Datagrams> {
        self.bind_to(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    fn bind_to(&self, address: SocketAddr) -> Arc<dyn Datagrams> {
        let socket = std::net::UdpSocket::bind(address).expect("nobody is bound there");
        socket.set_nonblocking(true).expect("a socket");
        let sends = socket.try_clone().expect("a socket");
        Arc::new(RealSocket { sends, receives: UdpSocket::from_std(socket).expect("a reactor") })
    }
}

struct Simulated {
    network: Network,
    bound: Cell<u8>,
}

impl Wire for Simulated {
    fn bind(&self) -> Arc<dyn Datagrams> {
        self.bound.set(self.bound.get() + 1);
        self.bind_to(SocketAddr::from(([10, 0, 0, self.bound.get()], 9000)))
    }

    fn bind_to(&self, address: SocketAddr) -> Arc<dyn Datagrams> {
        Arc::new(self.network.bind(address))
    }
}

fn on_both(body: &impl AsyncFn(&dyn Wire)) {
    let real = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    real.block_on(body(&Real));
    scheduler::run(1, async |_| {
        let network = Network::new(Random::stream(1, "network"));
        tokio::task::spawn_local(network.clone().carry());
        body(&Simulated { network, bound: Cell::new(0) }).await;
    });
}

/// The next datagram and its sender; `None` where none comes.
async fn next(socket: &dyn Datagrams) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buffer = vec![0; 65_536];
    let received =
        timeout(Duration::from_millis(200), poll_fn(|cx| socket.poll_receive(cx, &mut buffer))).await.ok()?;
    let (length, from) = received.expect("it is bound");
    Some((buffer[..length].to_vec(), from))
}

#[test]
fn unit_conformance_datagrams_come_whole_and_tell_their_sender() {
    on_both(&async |wire| {
        let (a, b) = (wire.bind(), wire.bind());
        let sent: BTreeSet<usize> = [0, 1, 600, 1200, 1452].into();
        for length in &sent {
            a.send(b.local(), &vec![7; *length]).expect("sent");
        }
        let mut received = BTreeSet::new();
        while let Some((datagram, from)) = next(&*b).await {
            assert_eq!(from, a.local());
            assert!(datagram.iter().all(|byte| *byte == 7));
            received.insert(datagram.len());
        }
        assert_eq!(received, sent, "an empty one is one, too");
    });
}

#[test]
fn unit_conformance_datagrams_to_nobody_are_lost_and_the_sender_goes_on() {
    on_both(&async |wire| {
        let (a, b, gone) = (wire.bind(), wire.bind(), wire.bind());
        let nobody = gone.local();
        drop(gone);
        for _ in 0..3 {
            a.send(nobody, b"lost").expect("that nobody is there is no error of the sender");
            // Where an answer that nobody is there could come meanwhile.
            sleep(Duration::from_millis(20)).await;
        }
        a.send(b.local(), b"heard").expect("sent");
        assert_eq!(next(&*b).await.map(|(datagram, _)| datagram), Some(b"heard".to_vec()));
        b.send(a.local(), b"back").expect("sent");
        assert_eq!(next(&*a).await, Some((b"back".to_vec(), b.local())));
    });
}

#[test]
fn unit_conformance_address_of_a_socket_that_is_closed_is_bound_again_and_has_nothing_of_before() {
    on_both(&async |wire| {
        let (a, b) = (wire.bind(), wire.bind());
        let address = b.local();
        a.send(address, b"before").expect("sent");
        sleep(Duration::from_millis(50)).await;
        drop(b);
        let again = wire.bind_to(address);
        assert_eq!(next(&*again).await, None, "what the closed one had not read is gone with it");
        a.send(address, b"after").expect("sent");
        assert_eq!(next(&*again).await, Some((b"after".to_vec(), a.local())));
        assert_eq!(again.local(), address);
    });
}

#[test]
fn unit_conformance_what_nobody_reads_is_bounded_and_what_was_kept_comes_whole() {
    on_both(&async |wire| {
        let (a, b) = (wire.bind(), wire.bind());
        for number in 0..5000_u32 {
            let mut datagram = vec![9; 1200];
            datagram[..4].copy_from_slice(&number.to_le_bytes());
            a.send(b.local(), &datagram).expect("a full queue is loss, and no error");
        }
        sleep(Duration::from_millis(100)).await;
        let mut numbers = BTreeSet::new();
        while let Some((datagram, _)) = next(&*b).await {
            assert_eq!((datagram.len(), datagram[4]), (1200, 9));
            let number: [u8; 4] = datagram[..4].try_into().expect("four bytes");
            assert!(numbers.insert(u32::from_le_bytes(number)), "none comes twice in good weather");
        }
        // Of the first something, of all not: whoever sends without being answered is heard in part.
        assert!((32..5000).contains(&numbers.len()), "{} of 5000 were kept", numbers.len());
        a.send(b.local(), b"room").expect("sent");
        assert_eq!(next(&*b).await.map(|(datagram, _)| datagram), Some(b"room".to_vec()), "there is room again");
    });
}

#[test]
fn unit_conformance_reader_that_waits_is_woken_by_what_comes() {
    on_both(&async |wire| {
        let (a, b) = (wire.bind(), wire.bind());
        let to = b.local();
        let sends = async {
            sleep(Duration::from_millis(50)).await;
            a.send(to, b"wake").expect("sent");
        };
        let (received, ()) = tokio::join!(biased; next(&*b), sends);
        assert_eq!(received.map(|(datagram, _)| datagram), Some(b"wake".to_vec()));
    });
}
