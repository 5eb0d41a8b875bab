//! A runtime that is slow: its socket behind one that hands on what is said only after a while.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// Hands on at `at` what is said at `to` and back, each time so much later. Its threads end with the process.
pub fn slowed(to: &Path, at: &Path, by: Duration) {
    let listener = UnixListener::bind(at).unwrap();
    let to = PathBuf::from(to);
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = UnixStream::connect(&to) else { break };
            let (back_from, back_to) = (far.try_clone().unwrap(), near.try_clone().unwrap());
            thread::spawn(move || hand_on(&near, &far, by));
            thread::spawn(move || hand_on(&back_from, &back_to, by));
        }
    });
}

fn hand_on(mut from: &UnixStream, mut to: &UnixStream, by: Duration) {
    let mut bytes = [0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        thread::sleep(by);
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _closed = to.shutdown(Shutdown::Write);
}
