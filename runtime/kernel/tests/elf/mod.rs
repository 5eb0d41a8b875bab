//! What tests read of the compiled objects: sections of a 64-bit ELF file, and how deep its programs' calls go.
#![expect(unreachable_pub, reason = "a module of a test binary")]

use std::collections::{BTreeMap, BTreeSet};

pub fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

pub fn long(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap()
}

pub fn half(bytes: &[u8], at: usize) -> usize {
    u16::from_ne_bytes(bytes[at..at + 2].try_into().unwrap()) as usize
}

pub fn text(bytes: &[u8], at: usize) -> String {
    let end = bytes[at..].iter().position(|byte| *byte == 0).unwrap();
    String::from_utf8(bytes[at..at + end].to_vec()).unwrap()
}

/// A section of a 64-bit ELF object by its name.
pub fn section<'a>(object: &'a [u8], name: &str) -> &'a [u8] {
    let (table, size, count, names) = (long(object, 40), half(object, 58), half(object, 60), half(object, 62));
    let header = |index: usize| table + index * size;
    let names = long(object, header(names) + 24);
    let index = (0..count).find(|index| text(object, names + word(object, header(*index))) == name).expect(name);
    let (offset, length) = (long(object, header(index) + 24), long(object, header(index) + 32));
    &object[offset..offset + length]
}

/// A function, by its section's index and its first instruction there.
type Place = (usize, usize);

#[derive(Debug, Default)]
struct Function {
    name: String,
    instructions: usize,
    /// Bytes of its frame, as the verifier counts them.
    frame: usize,
    calls: BTreeSet<Place>,
}

struct Elf<'a> {
    object: &'a [u8],
    table: usize,
}

impl Elf<'_> {
    fn sections(&self) -> usize {
        half(self.object, 60)
    }

    fn header(&self, index: usize) -> usize {
        self.table + index * 64
    }

    fn kind(&self, index: usize) -> usize {
        word(self.object, self.header(index) + 4)
    }

    fn content(&self, index: usize) -> &[u8] {
        let (offset, length) = (long(self.object, self.header(index) + 24), long(self.object, self.header(index) + 32));
        &self.object[offset..offset + length]
    }

    fn section_name(&self, index: usize) -> String {
        let names = half(self.object, 62);
        text(self.content(names), word(self.object, self.header(index)))
    }

    /// (section, offset) of a symbol.
    fn symbol(&self, symbols: &[u8], number: usize) -> (usize, usize) {
        (half(symbols, number * 24 + 6), long(symbols, number * 24 + 8))
    }
}

/// Of each program the chain of calls that takes most stack, callbacks included: functions with the bytes of their frames.
pub fn deepest_chains(object: &[u8]) -> Vec<(String, Vec<(String, usize)>)> {
    let elf = Elf { object, table: long(object, 40) };
    let functions = functions(&elf);
    let programs = functions.iter().filter(|((section, _), _)| elf.section_name(*section) != ".text");
    programs.map(|(place, function)| (function.name.clone(), deepest(&functions, *place))).collect()
}

fn deepest(functions: &BTreeMap<Place, Function>, place: Place) -> Vec<(String, usize)> {
    let function = &functions[&place];
    let callees = function.calls.iter().map(|callee| deepest(functions, *callee));
    let below = callees.max_by_key(|chain| chain.iter().map(|(_, bytes)| bytes).sum::<usize>()).unwrap_or_default();
    // The verifier rounds each frame up.
    let frame = function.frame.max(1).next_multiple_of(32);
    std::iter::once((function.name.clone(), frame)).chain(below).collect()
}

fn functions(elf: &Elf<'_>) -> BTreeMap<Place, Function> {
    const SYMBOLS: usize = 2;
    const FUNCTION: u8 = 2;
    let table = (0..elf.sections()).find(|index| elf.kind(*index) == SYMBOLS).expect("symbols");
    let names = elf.content(word(elf.object, elf.header(table) + 40));
    let symbols = elf.content(table);
    let mut found = BTreeMap::new();
    for symbol in symbols.chunks_exact(24).filter(|symbol| symbol[4] & 15 == FUNCTION) {
        let (section, offset) = elf.symbol(symbol, 0);
        let (name, instructions) = (text(names, word(symbol, 0)), long(symbol, 16) / 8);
        found.insert((section, offset / 8), Function { name, instructions, ..Function::default() });
    }
    for (place, function) in &mut found {
        read_body(elf, symbols, *place, function);
    }
    found
}

/// The symbol that an instruction of a section refers to, by the instruction's number.
fn references(elf: &Elf<'_>, symbols: &[u8], section: usize) -> BTreeMap<usize, (usize, usize)> {
    const RELOCATIONS: usize = 9;
    let of_section =
        |index: &usize| elf.kind(*index) == RELOCATIONS && word(elf.object, elf.header(*index) + 44) == section;
    let entries = (0..elf.sections()).filter(of_section).flat_map(|index| elf.content(index).chunks_exact(16));
    entries.map(|entry| (long(entry, 0) / 8, elf.symbol(symbols, word(entry, 12)))).collect()
}

fn read_body(elf: &Elf<'_>, symbols: &[u8], (section, first): Place, function: &mut Function) {
    const FRAME_POINTER: u8 = 10;
    let references = references(elf, symbols, section);
    let code = elf.content(section);
    let mut copy_of_frame_pointer = None;
    for at in first..first + function.instructions {
        let instruction = &code[at * 8..at * 8 + 8];
        let (operation, to, from) = (instruction[0], instruction[1] & 15, instruction[1] >> 4);
        let offset = i16::from_ne_bytes([instruction[2], instruction[3]]);
        let immediate = i32::from_ne_bytes(instruction[4..8].try_into().expect("four bytes"));
        let base = match operation & 7 {
            1 => Some(from),
            2 | 3 => Some(to),
            _ => None,
        };
        let below = match operation {
            // r += number, right after r = r10
            0x07 if copy_of_frame_pointer == Some(to) => -i64::from(immediate),
            _ if base == Some(FRAME_POINTER) => -i64::from(offset),
            _ => 0,
        };
        function.frame = function.frame.max(usize::try_from(below).unwrap_or(0));
        copy_of_frame_pointer = (operation == 0xbf && from == FRAME_POINTER).then_some(to);
        function.calls.extend(callee(elf, section, at, operation, from, immediate, references.get(&at)));
    }
}

/// The function that an instruction calls, or gives to a loop to call.
fn callee(
    elf: &Elf<'_>,
    section: usize,
    at: usize,
    operation: u8,
    from: u8,
    immediate: i32,
    reference: Option<&(usize, usize)>,
) -> Option<Place> {
    let ahead = |from: usize, by: i64| usize::try_from(i64::try_from(from).ok()? + by).ok();
    match (operation, reference) {
        (0x85, Some((target, value))) => Some((*target, ahead(value / 8, i64::from(immediate) + 1)?)),
        (0x85, None) if from == 1 => Some((section, ahead(at, i64::from(immediate) + 1)?)),
        // The address of a function; others are of maps.
        (0x18, Some((target, value))) if elf.section_name(*target) == ".text" => {
            Some((*target, (value + usize::try_from(immediate).ok()?) / 8))
        }
        _ => None,
    }
}
