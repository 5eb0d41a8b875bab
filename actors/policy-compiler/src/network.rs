//! What a network rule matches, as token sequences over the symbols of an endpoint (`palisade_kernel_abi::blob::Endpoint`).
//!
//! Every sequence ends with "anything": a rule reads as far as its last constraint. So a socket rule, which constrains the first
//! three bytes at most, matches a socket's creation and every connect of that socket; and a state past the last constraint is absorbing.

use std::net::IpAddr;

use palisade_kernel_abi::blob::{AF_INET, AF_INET6, reached, symbols_of};
use palisade_policy::ir::{DestinationMatch, SocketMatch, SocketShape, Transport};
use thiserror::Error;

use crate::automaton::{ByteSet, Token};

const SOCK_STREAM: u8 = 1;
const SOCK_DGRAM: u8 = 2;
const SOCK_SEQPACKET: u8 = 5;
/// `IPPROTO_IP`: the kernel's default of the socket's type.
const IPPROTO_DEFAULT: u8 = 0;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const IPPROTO_SCTP: u8 = 132;

/// Why a destination cannot be lowered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DestinationError {
    /// `10.0.0.0/33`.
    #[error("a prefix of {prefix} bits is longer than {address}")]
    Prefix {
        /// The network.
        address: IpAddr,
        /// Its prefix length.
        prefix: u8,
    },
    /// `90-80`.
    #[error("the port range {0}-{1} holds no port; write the lower port first")]
    Ports(u16, u16),
}

/// The sequences of a socket rule.
#[must_use]
pub fn socket_sequences(socket: &SocketMatch) -> Vec<Vec<Token>> {
    socket.any_of.iter().map(shape_sequence).collect()
}

fn shape_sequence(shape: &SocketShape) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(7);
    [shape.domain, shape.kind, shape.protocol].into_iter().for_each(|field| tokens.extend(optional_byte(field)));
    finish(tokens)
}

/// The sequences of a destination rule.
///
/// # Errors
/// Where the network or the port range is none.
pub fn destination_sequences(destination: &DestinationMatch) -> Result<Vec<Vec<Token>>, DestinationError> {
    let cidr = destination.cidr.map(checked_cidr).transpose()?;
    let ports = match destination.ports {
        Some((first, last)) if first > last => return Err(DestinationError::Ports(first, last)),
        Some((first, last)) => port_sequences(first, last),
        None => vec![vec![any_symbol(); 4]],
    };
    let domains = match cidr {
        Some((IpAddr::V4(_), _)) => vec![AF_INET],
        Some((IpAddr::V6(_), _)) => vec![AF_INET6],
        None => vec![AF_INET, AF_INET6],
    };
    let (kinds, protocols) = transport_numbers(destination.protocol);
    let mut sequences = Vec::new();
    for domain in domains {
        for kind in &kinds {
            for protocol in &protocols {
                for port in &ports {
                    let mut tokens = byte(domain).to_vec();
                    tokens.extend(optional_byte(*kind));
                    tokens.extend(optional_byte(*protocol));
                    tokens.extend_from_slice(port);
                    tokens.extend(cidr.iter().flat_map(prefix_symbols));
                    sequences.push(finish(tokens));
                }
            }
        }
    }
    Ok(sequences)
}

fn checked_cidr((address, prefix): (IpAddr, u8)) -> Result<(IpAddr, u8), DestinationError> {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    if prefix > bits {
        Err(DestinationError::Prefix { address, prefix })
    } else {
        Ok(canonical_cidr((address, prefix)))
    }
}

/// A network as endpoints spell it: IPv4 where it is within the mapped range, loopback where it is exactly the unspecified address.
#[must_use]
pub fn canonical_cidr((address, prefix): (IpAddr, u8)) -> (IpAddr, u8) {
    let (address, prefix) = match address {
        IpAddr::V6(v6) if prefix >= 96 => match v6.to_ipv4_mapped() {
            Some(v4) => (IpAddr::V4(v4), prefix - 96),
            None => (address, prefix),
        },
        _ => (address, prefix),
    };
    let whole = prefix == if address.is_ipv4() { 32 } else { 128 };
    (if whole { reached(address) } else { address }, prefix)
}

/// Which `SOCK_*` and `IPPROTO_*` a transport is seen as. `None` is any.
fn transport_numbers(transport: Option<Transport>) -> (Vec<Option<u8>>, Vec<Option<u8>>) {
    let some = |numbers: &[u8]| numbers.iter().copied().map(Some).collect();
    match transport {
        None => (vec![None], vec![None]),
        Some(Transport::Tcp) => (some(&[SOCK_STREAM]), some(&[IPPROTO_DEFAULT, IPPROTO_TCP])),
        Some(Transport::Udp) => (some(&[SOCK_DGRAM]), some(&[IPPROTO_DEFAULT, IPPROTO_UDP])),
        Some(Transport::Sctp) => (some(&[SOCK_STREAM, SOCK_SEQPACKET]), some(&[IPPROTO_SCTP])),
    }
}

fn finish(mut tokens: Vec<Token>) -> Vec<Token> {
    tokens.push(Token::DoubleStar);
    tokens
}

fn byte(byte: u8) -> [Token; 2] {
    symbols_of(byte).map(Token::Byte)
}

fn optional_byte(field: Option<u8>) -> [Token; 2] {
    field.map_or([any_symbol(); 2], byte)
}

/// Nibbles of a closed range, as symbols.
fn symbols(first: u8, last: u8) -> Token {
    Token::set(ByteSet::range(first + 1, last + 1))
}

fn any_symbol() -> Token {
    symbols(0, 15)
}

/// The symbols that a network fixes; a prefix that ends within a nibble fixes a range of it.
fn prefix_symbols((address, prefix): &(IpAddr, u8)) -> Vec<Token> {
    let octets = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let nibbles: Vec<u8> = octets.iter().flat_map(|octet| [octet >> 4, octet & 15]).collect();
    let (whole, rest) = (usize::from(prefix / 4), prefix % 4);
    let mut tokens: Vec<Token> = nibbles.iter().take(whole).map(|nibble| symbols(*nibble, *nibble)).collect();
    if let (1.., Some(nibble)) = (rest, nibbles.get(whole)) {
        let free = 15 >> rest;
        tokens.push(symbols(nibble & !free, nibble | free));
    }
    tokens
}

/// A range of ports as sequences of four symbols each.
fn port_sequences(first: u16, last: u16) -> Vec<Vec<Token>> {
    digit_ranges(first, last, 4)
        .into_iter()
        .map(|digits| digits.into_iter().map(|(a, b)| symbols(a, b)).collect())
        .collect()
}

/// Splits `first..=last`, numbers of `digits` hexadecimal digits, into products of digit ranges: at most 2 x digits - 1 of them.
fn digit_ranges(first: u16, last: u16, digits: u32) -> Vec<Vec<(u8, u8)>> {
    let Some(rest) = digits.checked_sub(1) else { return vec![Vec::new()] };
    let low_mask = (1u32 << (4 * rest)) - 1;
    let split = |number: u16| ((u32::from(number) >> (4 * rest)) as u8, (u32::from(number) & low_mask) as u16);
    let ((first_digit, first_rest), (last_digit, last_rest)) = (split(first), split(last));
    let full = low_mask as u16;
    let with = |a: u8, b: u8, tails: Vec<Vec<(u8, u8)>>| {
        tails.into_iter().map(move |tail| [vec![(a, b)], tail].concat()).collect::<Vec<_>>()
    };
    if first_digit == last_digit {
        return with(first_digit, last_digit, digit_ranges(first_rest, last_rest, rest));
    }
    // A ragged head and a ragged tail, and in between whole digits.
    let (mut from, mut to) = (first_digit, last_digit);
    let mut out = Vec::new();
    if first_rest > 0 {
        out.extend(with(first_digit, first_digit, digit_ranges(first_rest, full, rest)));
        from += 1;
    }
    if last_rest < full {
        out.extend(with(last_digit, last_digit, digit_ranges(0, last_rest, rest)));
        to -= 1;
    }
    if from <= to {
        out.extend(with(from, to, digit_ranges(0, full, rest)));
    }
    out
}
