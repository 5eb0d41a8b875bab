//! Traces: files that come from elsewhere.

use std::io::Cursor;

use palisade_wire::trace::{
    Block, Header, Part, TraceReader, TraceWriter,
    cbor::Items,
    frame::{BlockKind, MAX_CONTENT},
    seek,
};

/// Reads the bytes as a file; as the content of a block of facts, of records and of an index whose sums hold; and as what is left of
/// a good trace behind its first bytes.
///
/// # Panics
/// Where a reader does not end, or gives out more records than it says.
pub fn trace(bytes: &[u8]) {
    let _ = seek::index_of(&mut Cursor::new(bytes));
    read(bytes);
    let Some(([kind, low, high], rest)) = bytes.split_first_chunk() else { return };
    let kinds = [BlockKind::Facts, BlockKind::Records, BlockKind::Index, BlockKind::Checkpoint];
    let kind = kinds[usize::from(*kind) % kinds.len()];
    let header = Header {
        little_endian: cfg!(target_endian = "little"),
        record_version: palisade_kernel_abi::record::VERSION,
        ..Header::default()
    };
    let Ok(mut writer) = TraceWriter::begin(Vec::new(), &header) else { return };
    let mut content = Items::default();
    content.append(rest);
    if let Ok(mut block) = Block::plain(kind, content) {
        // As many as the fuzzer says, which only counts where the content says the same.
        block.head.records = u16::from_le_bytes([*low, *high]).into();
        let _ = writer.block(&block);
    }
    let good = writer.finish().unwrap_or_default();
    read(&good);
    let mut edited = good;
    crate::edits::apply(&mut edited, rest);
    read(&edited);
}

fn read(bytes: &[u8]) {
    let Ok(mut reader) = TraceReader::open(bytes) else { return };
    let mut records = 0;
    let mut parts = 0;
    while let Ok(Some(part)) = reader.next_part() {
        parts += 1;
        assert!(parts <= bytes.len(), "a reader that takes nothing of its bytes does not end");
        if let Part::Records(batches) = part {
            assert!(batches.bytes().len() <= MAX_CONTENT);
            records += batches.records() as u64;
        }
    }
    assert_eq!(reader.report().records, records);
}
