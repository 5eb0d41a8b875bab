//! The fields of the kernel's audit records: `key=value` and `key="value"`, as AppArmor and SELinux write them alike.
//!
//! Invariant: a record is untrusted text (names and `comm` are a workload's). The kernel writes a text with odd bytes as hexadecimal digits
//! without quotes, so that no workload can end a field or begin another.
//!
//! Decision: a crate of its own, because what reads AppArmor's records and what reads SELinux's are two that know nothing of each other.
#![forbid(unsafe_code)]

/// The kernel's records are shorter.
pub const MAX_RECORD_BYTES: usize = 16 * 1024;

/// What a record says: its text without the stamp (`audit(1700000000.123:45): `), where it has one. By how it begins it is one LSM's.
#[must_use]
pub fn said(record: &[u8]) -> &[u8] {
    let stamped = record.strip_prefix(b"audit(");
    let end = stamped.and_then(|stamped| stamped.windows(3).position(|window| window == b"): "));
    stamped.zip(end).map_or(record, |(stamped, end)| &stamped[end + 3..])
}

/// A record's fields, in whatever order.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The raw value of the first field of that name, and whether it was quoted.
    #[must_use]
    pub fn raw(&self, key: &str) -> Option<(&'a [u8], bool)> {
        let mut rest = self.0;
        while let Some(equals) = rest.iter().position(|byte| *byte == b'=') {
            let start = rest[..equals].iter().rposition(|byte| *byte == b' ').map_or(0, |space| space + 1);
            let (name, value) = (&rest[start..equals], &rest[equals + 1..]);
            let quoted = value.first() == Some(&b'"');
            let value = if quoted { &value[1..] } else { value };
            let end = value.iter().position(|byte| *byte == if quoted { b'"' } else { b' ' });
            let end = end.unwrap_or(value.len());
            if name == key.as_bytes() {
                return Some((value[..end].strip_suffix(b"\n").unwrap_or(&value[..end]), quoted));
            }
            rest = value.get(end + usize::from(quoted)..).unwrap_or_default();
        }
        None
    }

    /// A text that a workload may have chosen: quoted, or hexadecimal digits.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<Vec<u8>> {
        let (value, quoted) = self.raw(key)?;
        if quoted {
            return Some(value.to_vec());
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let pairs = value.chunks(2).map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        });
        pairs.collect()
    }

    /// A word of the kernel's own, which is never quoted: a class, a label.
    #[must_use]
    pub fn word(&self, key: &str) -> Option<&'a str> {
        let (value, quoted) = self.raw(key)?;
        std::str::from_utf8(value).ok().filter(|_| !quoted)
    }

    /// A number.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u32> {
        let (value, _) = self.raw(key)?;
        std::str::from_utf8(value).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_audit_record_says_what_follows_its_stamp() {
        for (record, says) in [
            (&b"audit(1.2:3): avc:  x"[..], &b"avc:  x"[..]),
            (b"avc:  x audit(1): y", b"avc:  x audit(1): y"),
            (b"audit(1.2:3)", b"audit(1.2:3)"),
        ] {
            assert_eq!(said(record), says);
        }
    }

    #[test]
    fn unit_audit_field_is_what_the_kernel_wrote_and_no_part_of_a_text_passes_for_one() {
        let fields = Fields(b"pid=7 comm=\"a pid=8 x=\" name=2F61 tclass=file scontext=u:r:t:s0-s0:c1,c2\n");
        assert_eq!((fields.number("pid"), fields.text("name").as_deref()), (Some(7), Some(&b"/a"[..])));
        assert_eq!(fields.text("comm").as_deref(), Some(&b"a pid=8 x="[..]));
        assert_eq!((fields.word("tclass"), fields.word("comm")), (Some("file"), None), "a text is no word");
        assert_eq!(fields.word("scontext"), Some("u:r:t:s0-s0:c1,c2"), "the line's end is no part of it");
        assert_eq!((fields.number("x"), fields.raw("id"), fields.text("tclass")), (None, None, None));
    }
}
