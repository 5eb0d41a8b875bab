//! Small files that say much: what is made of them is bounded, and the refusal names what was too large. How much memory that is in all, a
//! child process shows (`simulation/tests/trace_memory.rs`).

use palisade_domain::Slot;

use super::{
    cbor::{Items, Reading},
    frame::{BlockKind, MAX_CONTENT, file_head},
    tests::{every_fact, header},
    *,
};

/// A file of the header that a good one has, and one block of this kind and content.
fn file(kind: BlockKind, records: u32, content: Items) -> Vec<u8> {
    let mut writer = TraceWriter::begin(Vec::new(), &header()).expect("written");
    let mut block = Block::plain(kind, content).expect("it fits");
    block.head.records = records;
    writer.block(&block).expect("written");
    writer.finish().expect("written")
}

/// What a reader says of the damage in it; nothing of it is given out.
fn refused(bytes: &[u8]) -> String {
    assert!(bytes.len() < 4096, "{} bytes: a small file", bytes.len());
    let mut reader = TraceReader::open(bytes).expect("a trace");
    assert_eq!(reader.next_part().expect("bytes"), None);
    reader.report().complaints().join("\n")
}

/// As many empty texts as a block's content has room for, behind what `begin` wrote.
fn empty_texts(mut begin: Items) -> Items {
    // A multiple of what any list's elements are of.
    let count = (MAX_CONTENT - 64) / 6 * 6;
    begin.array(count);
    begin.append(&vec![0x60; count]);
    begin
}

fn fact(kind: u64, fields: usize, numbers: &[u64]) -> Items {
    let mut items = Items::default();
    items.array(1);
    items.array(2 + fields);
    [&[kind, 1], numbers].concat().into_iter().for_each(|number| items.number(number));
    items
}

#[test]
fn unit_trace_whose_facts_take_more_memory_than_a_block_may_is_refused_by_what_is_too_large() {
    let mut process = fact(7, 10, &[1, 1]);
    process.null();
    process.number(0_u64);
    process.text("/x");
    let mut users = fact(14, 3, &[4]);
    users.null();
    let mut held = fact(6, 5, &[4, 2]);
    held.null();
    held.number(3_u64);
    for (begin, what) in [
        (fact(4, 5, &[2, 0, 0, 0]), "policy documents"),
        (process, "arguments"),
        (users, "names of users"),
        (fact(10, 4, &[0, 0, 0]), "what the kernel lost"),
        (held, "families"),
        (Items::default(), "facts"),
    ] {
        let said = refused(&file(BlockKind::Facts, 0, empty_texts(begin)));
        assert!(said.contains(&format!("{what} at byte ")) && said.contains("bytes of memory"), "{what}: {said}");
    }
}

#[test]
fn unit_trace_whose_header_takes_more_memory_than_one_may_is_refused() {
    let mut content = Items::default();
    content.map(17);
    for key in 1..=13_u64 {
        content.number(key);
        if key <= 6 {
            content.text("");
        } else {
            content.number(u64::from(key == 9 || key == 10));
        }
    }
    content.number(14_u64);
    let block = Block::plain(BlockKind::Header, empty_texts(content)).expect("it fits");
    let bytes = [&file_head()[..], &block.head.bytes(), &block.stored].concat();
    assert!(bytes.len() < 4096, "{}", bytes.len());
    let error = TraceReader::open(&bytes[..]).expect_err("a bomb").to_string();
    assert!(error.contains("a list of the header at byte") && error.contains("bytes of memory"), "{error}");
    let large = Header { workloads: vec![String::new(); 100_000], ..header() };
    let error = TraceWriter::begin(Vec::new(), &large).expect_err("nobody could read it").to_string();
    assert!(error.contains("bytes of memory"), "{error}");
}

#[test]
fn unit_trace_with_more_batches_or_shapes_than_records_or_an_index_of_too_many_slots_is_refused() {
    let mut batches = Items::default();
    batches.map(3);
    batches.number(1_u64);
    let count = MAX_CONTENT - 64;
    batches.array(count);
    batches.append(&vec![0; count]);
    let said = refused(&file(BlockKind::Records, 1, batches));
    assert!(said.contains("batches at byte"), "{said}");
    let mut shapes = Items::default();
    shapes.map(3);
    shapes.number(1_u64);
    shapes.array(1);
    [1, 2, 128, 3].into_iter().for_each(|number: u64| shapes.number(number));
    shapes.map(4);
    shapes.number(1_u64);
    shapes.array(count);
    shapes.append(&vec![0; count]);
    let said = refused(&file(BlockKind::Records, 1, shapes));
    assert!(said.contains("the shapes at byte"), "{said}");
    let said = refused(&file(BlockKind::Records, u32::MAX, Items::default()));
    assert!(said.contains("the number of records is 4294967295"), "{said}");
    let mut index = Items::default();
    index.array(6);
    [16, 1, 0, 0, 0].into_iter().for_each(|number: u64| index.number(number));
    index.array(count);
    index.append(&vec![0; count]);
    let said = refused(&file(BlockKind::Index, 0, index));
    assert!(said.contains("no more slots than an entry names wanted"), "{said}");
}

#[test]
fn unit_trace_that_tells_more_of_slots_than_is_held_is_read_without_what_is_too_much() {
    let mut writer = TraceWriter::begin(Vec::new(), &header()).expect("written");
    let path = "x".repeat(60_000);
    for block in 0..8_u32 {
        let place =
            |slot| Place { slot: Slot(slot), pid: 0, cgroup: 0, cgroup_path: path.clone(), root: String::new() };
        let fact = |slot| Fact { boot_ns: 1, what: What::Place(place(block * 200 + slot)) };
        writer.facts(&(0..200).map(fact).collect::<Vec<_>>()).expect("written");
    }
    // Behind what is too much: a fact that there is room for.
    let visible = Fact { boot_ns: 2, what: What::Visible(Slot(9), palisade_domain::Visibility::ALL) };
    writer.facts(std::slice::from_ref(&visible)).expect("written");
    let bytes = writer.finish().expect("written");
    let mut reader = TraceReader::open(&bytes[..]).expect("a trace");
    let mut facts = Vec::new();
    while let Some(part) = reader.next_part().expect("bytes") {
        let Part::Facts(more) = part else { panic!("facts") };
        facts.extend(more);
    }
    assert_eq!(facts.pop(), Some(visible));
    let memory = facts.len() * (size_of::<Fact>() + 2 * cbor::OWNED + path.len()) + size_of::<Fact>();
    assert!(memory > MAX_HELD / 2 && memory <= MAX_HELD, "{memory}");
    assert_eq!(reader.report().memory, memory as u64);
    let said = reader.report().complaints().join("\n");
    assert!(said.contains("what is told of slots would take") && said.contains("most of it is places"), "{said}");
}

#[test]
fn unit_trace_checkpoint_that_tells_of_something_else_than_processes_is_left_out() {
    let mut content = Items::default();
    content.list::<Fact>(1, 1);
    Fact { boot_ns: 1, what: What::Clock(1) }.write(&mut content);
    assert!(refused(&file(BlockKind::Checkpoint, 0, content)).contains("something else than processes"));
}

#[test]
fn unit_trace_writer_counts_the_memory_of_each_fact_as_a_reader_does_and_goes_into_several_blocks() {
    for fact in every_fact() {
        let mut content = Items::default();
        fact.write(&mut content);
        let memory = content.memory();
        let bytes = content.into_bytes();
        let mut reading = Reading::within(&bytes, memory);
        assert_eq!(Fact::read(&mut reading), Ok(fact.clone()));
        assert_eq!(reading.left(), 0, "{fact:?}");
    }
    let arguments = vec![String::new(); 10_000];
    let process = |pid| Process { pid, arguments: arguments.clone(), ..Process::default() };
    let facts: Vec<Fact> = (0..100).map(|pid| Fact { boot_ns: 1, what: What::Process(process(pid)) }).collect();
    assert!(matches!(Block::facts(&facts), Err(BlockError::TakesMuch { .. })));
    let mut writer = TraceWriter::begin(Vec::new(), &header()).expect("written");
    writer.facts(&facts).expect("written");
    let bytes = writer.finish().expect("written");
    let (mut reader, mut read) = (TraceReader::open(&bytes[..]).expect("a trace"), Vec::new());
    while let Some(Part::Facts(more)) = reader.next_part().expect("bytes") {
        read.extend(more);
    }
    assert_eq!(read, facts);
    assert!(reader.report().blocks > 3 && reader.report().complaints().is_empty());
}

#[test]
fn unit_picture_of_more_processes_and_documents_than_it_holds_keeps_executables_and_the_newest_set() {
    use std::sync::Arc;

    use palisade_domain::Generation;
    use palisade_policy::ir::Postures;

    let mut picture = Picture::default();
    let arguments = vec![String::new(); 10_000];
    for pid in 1..=100 {
        let process = Process { pid, executable: "/bin/x".into(), arguments: arguments.clone(), ..Process::default() };
        picture.fact(&Fact { boot_ns: 1, what: What::Process(process) });
    }
    let told = picture.checkpoint(1, None, true);
    let counts = told.iter().map(|fact| match &fact.what {
        What::Process(process) => (process.executable.as_str(), process.arguments.len()),
        other => panic!("{other:?}"),
    });
    let whole = counts.clone().filter(|process| *process == ("/bin/x", 10_000)).count();
    let bare = counts.filter(|process| *process == ("/bin/x", 0)).count();
    assert_eq!((whole + bare, bare as u64), (100, picture.left_out()));
    assert_eq!(whole, picture::MAX_ARGUMENT_BYTES / (10_000 * (size_of::<String>() + cbor::OWNED)));
    picture.forget_processes();
    let path = "x".repeat(1 << 20);
    for pid in 1..=100 {
        let process = Process { pid, executable: path.clone(), ..Process::default() };
        picture.fact(&Fact { boot_ns: 1, what: What::Process(process) });
    }
    assert_eq!(picture.checkpoint(1, None, true).len(), (picture::MAX_PATH_BYTES >> 20) - 1);
    let document: Arc<[u8]> = vec![b'#'; 5 << 20].into();
    for generation in 1..20 {
        let (generation, documents) = (Generation(generation), Arc::from([("a".to_owned(), Arc::clone(&document))]));
        let policy = PolicyOfSlot { slot: Slot(generation.0), generation, blob: None };
        let set = PolicyDocuments { generation, postures: Postures::default(), documents };
        for what in [What::PolicySet(set), What::PolicyAnnounced(policy)] {
            picture.fact(&Fact { boot_ns: 1, what });
        }
    }
    let told = picture.facts(1, None, true);
    let set = |fact: &Fact| if let What::PolicySet(set) = &fact.what { Some(set.generation.0) } else { None };
    assert_eq!(told.iter().filter_map(set).collect::<Vec<_>>(), (14..20).collect::<Vec<_>>());
}
