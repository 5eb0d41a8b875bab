//! Records as bytes that are kept, and not only read: their shape, and what a workload's user would not have kept of them.

use std::mem::{offset_of, size_of};

use super::{
    Kind, RecordReader,
    codec::Act,
    decode::{Fields, RecordError},
    layout::{HEAD_SIZE, RawExec, RawExit, RawFork, RawHead, RawNetwork, RawOpen, RawPtrace, RawSpan, SPAN_CUT},
};

/// Bytes of a kind's body, without its strings.
#[must_use]
pub const fn body_size(kind: Kind) -> usize {
    match kind {
        Kind::Exec => size_of::<RawExec>(),
        Kind::Fork => size_of::<RawFork>(),
        Kind::Exit => size_of::<RawExit>(),
        Kind::Open => size_of::<RawOpen>(),
        Kind::Socket | Kind::Connect | Kind::Bind | Kind::Accept | Kind::Send => size_of::<RawNetwork>(),
        Kind::Ptrace => size_of::<RawPtrace>(),
        Kind::FileChange => <super::FileChange<'_> as Act<'_>>::SIZE,
        Kind::Mount => <super::Mount<'_> as Act<'_>>::SIZE,
        Kind::Credentials => <super::Credentials as Act<'_>>::SIZE,
        Kind::Signal => <super::Signal as Act<'_>>::SIZE,
        Kind::Module => <super::Module<'_> as Act<'_>>::SIZE,
        Kind::Bpf => <super::Bpf<'_> as Act<'_>>::SIZE,
        Kind::Namespace => <super::Namespace as Act<'_>>::SIZE,
        Kind::Memfd => <super::Memfd<'_> as Act<'_>>::SIZE,
        Kind::IoUring => <super::IoUring<'_> as Act<'_>>::SIZE,
        Kind::ProcessAccess => <super::ProcessAccess<'_> as Act<'_>>::SIZE,
        Kind::Dns => <super::Dns<'_> as Act<'_>>::SIZE,
        Kind::Capability => <super::Capability as Act<'_>>::SIZE,
        Kind::Syscall => <super::Syscall as Act<'_>>::SIZE,
        Kind::Folded => <super::Folded as Act<'_>>::SIZE,
    }
}

/// The bytes of each record of a batch, which may be broken inside: what cannot be told apart at the end is left out.
pub fn slices(batch: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = batch;
    std::iter::from_fn(move || {
        let len = RecordReader::peek_len(rest).ok()?;
        let (record, after) = rest.split_at_checked(len)?;
        rest = after;
        Some(record)
    })
}

/// Overwrites the captured arguments of an exec with zeros, and says of them that they are cut; how many there were stays. Returns
/// whether there were any. The record's length and its other strings stay as they are.
///
/// # Errors
/// Where `record` is not one whole record that can be read; it is then as it was.
pub fn redact_arguments(record: &mut [u8]) -> Result<bool, RecordError> {
    let Some(decoded) = RecordReader::new(record).next() else {
        return Err(RecordError::Truncated { have: 0, need: HEAD_SIZE });
    };
    if decoded?.kind() != Kind::Exec {
        return Ok(false);
    }
    let span = HEAD_SIZE + offset_of!(RawExec, arguments);
    let fields = Fields(record);
    let len = usize::from(fields.u16(span + offset_of!(RawSpan, len)));
    let from = fields.u32(span + offset_of!(RawSpan, offset)) as usize;
    let flags = fields.u16(span + offset_of!(RawSpan, flags)) | SPAN_CUT;
    if len == 0 {
        return Ok(false);
    }
    // The reader has held the span against the record's end.
    if let Some(text) = record.get_mut(from..from + len) {
        text.fill(0);
    }
    let mut put = |at: usize, bytes: &[u8]| record[at..at + bytes.len()].copy_from_slice(bytes);
    put(span + offset_of!(RawSpan, offset), &0_u32.to_ne_bytes());
    put(span + offset_of!(RawSpan, len), &0_u16.to_ne_bytes());
    put(span + offset_of!(RawSpan, flags), &flags.to_ne_bytes());
    Ok(true)
}

/// Whose it is and when it was, without reading it whole: slot and `CLOCK_BOOTTIME` nanoseconds of a slice of [`slices`].
#[must_use]
pub fn slot_and_time(record: &[u8]) -> (u32, u64) {
    let head = Fields(record);
    (head.u32(offset_of!(RawHead, slot)), head.u64(offset_of!(RawHead, boot_ns)))
}

/// Producer and sequence number of a slice of [`slices`].
#[must_use]
pub fn numbering(record: &[u8]) -> (u32, u64) {
    let head = Fields(record);
    (head.u32(offset_of!(RawHead, producer)), head.u64(offset_of!(RawHead, sequence)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Body, Exec, Header, Open, Record, RecordWriter, Script, Text};

    fn text(bytes: &[u8]) -> Text<'_> {
        Text { bytes, ..Text::default() }
    }

    #[test]
    fn unit_record_redaction_leaves_no_byte_of_the_arguments_and_all_else() {
        let exec = Exec {
            path: text(b"/bin/mysql"),
            cwd: text(b"/srv"),
            argument_bytes: text(b"mysql\0-phunter2\0"),
            argument_count: 2,
            tty: 5,
            script: Script::Interpreted { path: text(b"/srv/run.sh"), count: 1 },
        };
        let header = Header { tgid: 7, ..Header::default() };
        let mut writer = RecordWriter::default();
        writer.write(&Record { header, body: Body::Exec(exec), decision: None }).expect("fits");
        let mut bytes = writer.into_bytes();
        let length = bytes.len();
        assert_eq!(redact_arguments(&mut bytes), Ok(true));
        assert_eq!(bytes.len(), length);
        assert!(!bytes.windows(7).any(|part| part == b"hunter2"));
        let left = RecordReader::new(&bytes).next().expect("a record").expect("whole");
        let cut = Text { cut: true, ..Text::default() };
        assert_eq!(left, Record { header, body: Body::Exec(Exec { argument_bytes: cut, ..exec }), decision: None });
        assert_eq!(redact_arguments(&mut bytes), Ok(false), "there are none any more");
    }

    #[test]
    fn unit_record_redaction_changes_nothing_of_other_records_and_of_broken_ones() {
        let mut writer = RecordWriter::default();
        let open = Open { path: text(b"/etc/passwd"), ..Open::default() };
        writer.write(&Record { header: Header::default(), body: Body::Open(open), decision: None }).expect("fits");
        let mut bytes = writer.into_bytes();
        let before = bytes.clone();
        assert_eq!(redact_arguments(&mut bytes), Ok(false));
        assert_eq!(bytes, before);
        bytes[0] = 200;
        assert_eq!(redact_arguments(&mut bytes), Err(RecordError::Kind { kind: 200 }));
        assert!(redact_arguments(&mut []).is_err());
    }

    #[test]
    fn unit_record_slices_are_the_records_of_a_batch_up_to_what_cannot_be_told_apart() {
        let mut writer = RecordWriter::default();
        for sequence in 0..3 {
            let header = Header { sequence, producer: 4, slot: 9, boot_ns: 70 + sequence, ..Header::default() };
            let open = Open { path: text(b"/a"), ..Open::default() };
            writer.write(&Record { header, body: Body::Open(open), decision: None }).expect("fits");
        }
        let mut bytes = writer.into_bytes();
        bytes.extend_from_slice(&[0xff; 20]);
        let found: Vec<&[u8]> = slices(&bytes).collect();
        let numbers: Vec<_> = found.iter().map(|record| (numbering(record), slot_and_time(record))).collect();
        assert_eq!(numbers, [((4, 0), (9, 70)), ((4, 1), (9, 71)), ((4, 2), (9, 72))]);
        assert_eq!(found.concat(), bytes[..bytes.len() - 20]);
    }
}
