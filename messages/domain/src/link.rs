//! Nodes as they know each other: names, and why one refuses another.

use std::{fmt, str::FromStr, sync::Arc};

/// The name of a node: what its certificate says, and what links, alerts and people call it.
///
/// Invariant: a DNS name in lower case (letters, digits, `-`, `.`; at most [`NodeName::LONGEST`] bytes), for that is what a certificate
/// can say and TLS checks. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

/// Not a name of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a node: a DNS name in lower case, of letters, digits, `-` and `.`, at most 253 of them")]
pub struct InvalidNodeName(pub String);

impl NodeName {
    /// Bytes of the longest.
    pub const LONGEST: usize = 253;

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = InvalidNodeName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let part_is_sound = |part: &str| {
            (1..=63).contains(&part.len())
                && part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
                && !part.starts_with('-')
                && !part.ends_with('-')
        };
        // A name that reads as an address would be checked as one.
        let numeric = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if text.len() <= Self::LONGEST && text.split('.').all(part_is_sound) && !numeric {
            Ok(Self(Arc::from(text)))
        } else {
            Err(InvalidNodeName(text.chars().take(Self::LONGEST).collect()))
        }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a node does not link to another. Each side knows it: one decides, the other is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// The certificate's time is over, or has not begun.
    Expired,
    /// The certificate is of no authority that is trusted.
    UnknownAuthority,
    /// The certificate is on the revocation list.
    Revoked,
    /// The certificate is not of the name that the node is called by.
    WrongName,
    /// A certificate that is none, is not for this use, or whose key the peer does not have.
    BadCertificate,
    /// No version of the protocol that both speak.
    Version,
    /// What was said is not of the protocol.
    Protocol,
    /// More nodes are linked than there is room for.
    Full,
    /// The peer is this very node.
    Itself,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Expired,
        Self::UnknownAuthority,
        Self::Revoked,
        Self::WrongName,
        Self::BadCertificate,
        Self::Version,
        Self::Protocol,
        Self::Full,
        Self::Itself,
    ];

    /// Whether another certificate would mend it.
    #[must_use]
    pub const fn is_of_certificate(self) -> bool {
        matches!(self, Self::Expired | Self::UnknownAuthority | Self::Revoked | Self::WrongName | Self::BadCertificate)
    }

    /// As answers and people spell it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::UnknownAuthority => "unknown-authority",
            Self::Revoked => "revoked",
            Self::WrongName => "wrong-name",
            Self::BadCertificate => "bad-certificate",
            Self::Version => "version",
            Self::Protocol => "protocol",
            Self::Full => "full",
            Self::Itself => "itself",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_node_names_are_dns_names_and_nothing_else() {
        for name in ["a", "worker-1", "node.example.com", "10-0-0-1", &"a".repeat(63)] {
            assert_eq!(name.parse::<NodeName>().map(|name| name.to_string()).as_deref(), Ok(name));
        }
        for name in
            ["", "A", "a_b", "-a", "a-", "a..b", ".", "10.0.0.1", "7", "a b", "é", &"a".repeat(64), &"a.".repeat(127)]
        {
            assert!(name.parse::<NodeName>().is_err(), "{name:?}");
        }
    }
}
