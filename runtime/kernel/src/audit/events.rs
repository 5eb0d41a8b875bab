//! The kernel's audit records as they are made: AppArmor's of denials among them.
//!
//! Invariant: a record that was not heard is counted: of those that the kernel itself had no room for it keeps a number ([`AuditLosses`]; its
//! queue has 64 places unless an administrator says otherwise); where the socket's buffer was full it says so, but not of how many, so that
//! [`Heard::Lost`] is "some"; and what does not read is counted by whoever parses it.
//!
//! Invariant: only what the kernel itself sent is believed. Whoever has `CAP_NET_ADMIN` in the host's network namespace can send to a multicast
//! group; the sender's address is the kernel's to give, and its own is 0.
//!
//! Decision: the read-only multicast group of the audit socket (`AUDIT_NLGRP_READLOG`, since Linux 3.16), not the kernel's log: an audit
//! daemon, where one runs, keeps its own stream; the log is rate-limited and gives nothing where there is a daemon.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
};

use crate::sys::netlink;

const NETLINK_AUDIT: libc::c_int = 9;
const GROUP_READLOG: libc::c_int = 1;
/// `AUDIT_AVC`: what LSMs say of accesses.
const AUDIT_AVC: u16 = 1400;
/// `AUDIT_APPARMOR_*`, of kernels and tools that use numbers of AppArmor's own.
const AUDIT_APPARMOR: std::ops::RangeInclusive<u16> = 1500..=1599;
const HEADER_BYTES: usize = size_of::<libc::nlmsghdr>();
/// `MAX_AUDIT_MESSAGE_LENGTH` and the header.
const RECORD_BYTES: usize = 8970 + HEADER_BYTES;
/// Room for some thousand records: a burst of denials in the time that a busy node may not read.
const BUFFER_BYTES: libc::c_int = 4 << 20;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// The text of a record of an LSM.
    Record(&'a [u8]),
    /// Another subsystem's, or not from the kernel.
    Other,
    /// Some records were dropped because nobody read.
    Lost,
}

/// The stream of records from now on.
#[derive(Debug)]
pub struct AuditEvents {
    socket: OwnedFd,
    buffer: Box<[u8; RECORD_BYTES]>,
}

impl AuditEvents {
    /// Begins to listen.
    ///
    /// # Errors
    /// Where the kernel has no audit, or this process may not read it (`CAP_AUDIT_READ`, the host's network namespace).
    pub fn open() -> io::Result<Self> {
        let socket = audit_socket()?;
        netlink::bind(&socket, 0)?;
        set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER_BYTES)?;
        set(&socket, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, GROUP_READLOG)?;
        Ok(Self { socket, buffer: Box::new([0; RECORD_BYTES]) })
    }

    /// The next record that is there; `None` where none is.
    ///
    /// # Errors
    /// Where the socket is broken.
    pub fn hear(&mut self) -> io::Result<Option<Heard<'_>>> {
        let received = match netlink::receive(&self.socket, &mut self.buffer[..]) {
            Ok(received) => received,
            Err(error) => {
                return match error.raw_os_error() {
                    Some(libc::ENOBUFS) => Ok(Some(Heard::Lost)),
                    Some(libc::EAGAIN | libc::EINTR) => Ok(None),
                    _ => Err(error),
                };
            }
        };
        Ok(Some(received.by_kernel(&self.buffer[..]).map_or(Heard::Other, record)))
    }
}

/// How many records the kernel had no room for, of whatever subsystem, since it began.
#[derive(Debug)]
pub struct AuditLosses {
    socket: OwnedFd,
    lost: Option<u32>,
}

const AUDIT_GET: u16 = 1000;
const ANSWERS_A_TURN: usize = 64;
/// `lost` of `struct audit_status`, after the header.
const LOST_AT: usize = HEADER_BYTES + 6 * 4;

impl AuditLosses {
    /// # Errors
    /// Where the kernel has no audit.
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: audit_socket()?, lost: None })
    }

    /// The number of the last answer, and asks anew: the kernel answers a moment later. `None` before the first.
    ///
    /// # Errors
    /// Where this process may not ask (`CAP_AUDIT_CONTROL`, the host's namespaces).
    pub fn ask(&mut self) -> io::Result<Option<u32>> {
        self.hear_answers()?;
        let request = request(AUDIT_GET);
        // SAFETY: the request is ours and as long as is said.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(self.lost) }
    }

    fn hear_answers(&mut self) -> io::Result<()> {
        let mut answer = [0u8; 256];
        // Each question has one answer; of what others send, some a turn.
        for _ in 0..ANSWERS_A_TURN {
            let Ok(received) = netlink::receive(&self.socket, &mut answer) else { break };
            if let Some(answer) = received.by_kernel(&answer) {
                self.lost = lost_of(answer)?.or(self.lost);
            }
        }
        Ok(())
    }
}

/// A header without anything after it.
fn request(kind: u16) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..4].copy_from_slice(&(HEADER_BYTES as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    bytes
}

/// The number in an answer; what is no status has none.
fn lost_of(answer: &[u8]) -> io::Result<Option<u32>> {
    let word = |at: usize| answer.get(at..at + 4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    match answer.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]])) {
        Some(AUDIT_GET) => Ok(word(LOST_AT)),
        Some(kind) if i32::from(kind) == libc::NLMSG_ERROR => match word(HEADER_BYTES) {
            Some(error) if error != 0 => Err(io::Error::from_raw_os_error(error.cast_signed().wrapping_neg())),
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

fn audit_socket() -> io::Result<OwnedFd> {
    netlink::socket(NETLINK_AUDIT)
}

impl AsFd for AuditEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The text of an LSM's record. The header's length is not looked at: kernels before 4.0 wrote that of the text alone.
fn record(datagram: &[u8]) -> Heard<'_> {
    let Some((header, text)) = datagram.split_at_checked(HEADER_BYTES) else { return Heard::Other };
    let kind = u16::from_ne_bytes([header[4], header[5]]);
    if kind != AUDIT_AVC && !AUDIT_APPARMOR.contains(&kind) {
        return Heard::Other;
    }
    let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    Heard::Record(&text[..end])
}

fn set(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the value is an integer of the length that is passed, and is read only during the call.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A stream that any process may send to.
#[cfg(test)]
pub(crate) mod forged {
    use super::*;

    /// Between processes; as with the group of the audit, whoever may send to it says what they like.
    const NETLINK_USERSOCK: libc::c_int = 2;

    pub fn forgeable() -> (AuditEvents, OwnedFd) {
        let (socket, forger) = pair();
        (AuditEvents { socket, buffer: Box::new([0; RECORD_BYTES]) }, forger)
    }

    pub fn pair() -> (OwnedFd, OwnedFd) {
        let heard = netlink::socket(NETLINK_USERSOCK).unwrap();
        let forger = netlink::socket(NETLINK_USERSOCK).unwrap();
        // SAFETY: all integers: zero is a value of each.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        let mut length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: the address is ours for the length that is passed, and each call only reads or fills it.
        unsafe {
            assert_eq!(libc::bind(heard.as_raw_fd(), (&raw const address).cast(), length), 0);
            assert_eq!(libc::getsockname(heard.as_raw_fd(), (&raw mut address).cast(), &raw mut length), 0);
            assert_eq!(libc::connect(forger.as_raw_fd(), (&raw const address).cast(), length), 0);
        }
        (heard, forger)
    }

    pub fn send(socket: &OwnedFd, bytes: &[u8]) {
        // SAFETY: the bytes are ours and as long as is said.
        let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        assert_eq!(usize::try_from(sent), Ok(bytes.len()), "{}", io::Error::last_os_error());
    }
}

#[cfg(test)]
mod tests {
    use super::{
        forged::{forgeable, pair, send},
        *,
    };

    const NETLINK_ROUTE: libc::c_int = 0;
    const NLM_F_ACK: u8 = 4;

    #[test]
    fn unit_audit_record_that_another_process_sent_is_none() {
        let (mut events, forger) = forgeable();
        let forged = [&request(AUDIT_AVC)[..], b"audit(1): apparmor=\"DENIED\""].concat();
        assert!(matches!(record(&forged), Heard::Record(_)), "but for its sender it is one");
        send(&forger, &forged);
        assert_eq!(events.hear().unwrap(), Some(Heard::Other));
        assert_eq!(events.hear().unwrap(), None);
    }

    #[test]
    fn unit_audit_losses_are_what_the_kernel_says_and_no_other_process() {
        let (socket, forger) = pair();
        let mut losses = AuditLosses { socket, lost: Some(3) };
        let status: Vec<u8> = (0..10u32).flat_map(|word| (100 + word).to_ne_bytes()).collect();
        send(&forger, &[&request(AUDIT_GET)[..], &status].concat());
        losses.hear_answers().unwrap();
        assert_eq!(losses.lost, Some(3));
    }

    #[test]
    fn unit_answer_of_the_kernel_is_told_by_its_sender() {
        let socket = netlink::socket(NETLINK_ROUTE).unwrap();
        // `NLMSG_NOOP`, which the kernel answers at once with an acknowledgement.
        let mut noop = request(1);
        noop[6] |= NLM_F_ACK;
        send(&socket, &noop);
        let mut answer = [0; 256];
        let received = netlink::receive(&socket, &mut answer).unwrap();
        let kind = received.by_kernel(&answer).map(|answer| i32::from(u16::from_ne_bytes([answer[4], answer[5]])));
        assert_eq!(kind, Some(libc::NLMSG_ERROR));
    }

    #[test]
    fn unit_audit_losses_are_read_from_a_status_and_a_refusal_is_an_error() {
        let status: Vec<u8> = (0..10u32).flat_map(|word| (100 + word).to_ne_bytes()).collect();
        let answer = |kind: u16, body: &[u8]| [&request(kind)[..], body].concat();
        assert_eq!(lost_of(&answer(AUDIT_GET, &status)).unwrap(), Some(106));
        assert_eq!(lost_of(&answer(AUDIT_GET, &status[..20])).unwrap(), None);
        assert_eq!(lost_of(&answer(1400, &status)).unwrap(), None);
        let refused = lost_of(&answer(2, &(-1i32).to_ne_bytes())).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        assert_eq!(lost_of(&answer(2, &0i32.to_ne_bytes())).unwrap(), None);
    }

    #[test]
    fn unit_audit_record_of_an_lsm_is_told_from_others_and_from_what_is_too_short() {
        let datagram =
            |kind: u16, text: &[u8]| [&24u32.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10], text].concat();
        assert_eq!(record(&datagram(1400, b"audit(1): apparmor=\0\0")), Heard::Record(b"audit(1): apparmor="));
        assert_eq!(record(&datagram(1300, b"audit(1): arch=")), Heard::Other);
        assert_eq!(record(&[0; 5]), Heard::Other);
        assert_eq!(record(&datagram(1400, b"")), Heard::Record(b""));
    }
}
