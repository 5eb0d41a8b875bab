//! A TCP server that sends one byte to whoever connects and counts them: the far end of a connection, which a policy may forbid.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// A listening server; it stays until the guest ends.
#[derive(Debug)]
pub struct Greeter {
    address: SocketAddr,
    greeted: Arc<AtomicUsize>,
}

impl Greeter {
    /// Listens on a free port of the loopback address.
    ///
    /// # Errors
    /// The socket's.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let greeter = Self { address: listener.local_addr()?, greeted: Arc::default() };
        let greeted = Arc::clone(&greeter.greeted);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // Counted before the byte goes out: whoever has read it finds itself counted.
                greeted.fetch_add(1, Ordering::SeqCst);
                stream.write_all(b"!").ok();
            }
        });
        Ok(greeter)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connected so far.
    #[must_use]
    pub fn greeted(&self) -> usize {
        self.greeted.load(Ordering::SeqCst)
    }
}
