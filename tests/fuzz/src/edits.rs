//! Valid bytes with the fuzzer's changes in them: a reader behind a checksum is not reached by bytes that are merely random.

/// Changes `base` as `edits` says: of each six bytes two are a place, four what is written there, as far as it is there.
pub fn apply(base: &mut [u8], edits: &[u8]) {
    for edit in edits.chunks_exact(6) {
        let place = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % base.len().max(1);
        base[place..].iter_mut().zip(&edit[2..]).for_each(|(byte, new)| *byte = *new);
    }
}
