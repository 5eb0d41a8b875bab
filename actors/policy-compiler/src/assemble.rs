//! From automata and classes to the words of a blob (`bpf/include/blob.h`).

use palisade_kernel_abi::blob::{
    AutomatonHead, Blob, BlobHead, COLUMN_CLASSES, COLUMN_SELF, COMB_CELL, FAMILIES, FamilyHead, Form, MAGIC,
    SizeClass, VERSION,
};

use crate::{
    automaton::Dfa,
    decisions::{Classes, Table},
    error::{CompileError, TooLarge},
};

/// One automaton with the decision tables that it feeds.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Its accept classes are those of `classes`.
    pub dfa: Dfa,
    /// Decisions by accept class.
    pub classes: Classes,
    /// Which tables.
    pub tables: Vec<Table>,
    /// A rule of each of the tags that are in most states, worst first: to be named if all of it is too large.
    pub worst: Vec<u32>,
}

impl Layer {
    fn cells(&self, source_ids: u32) -> u64 {
        let columns = |table: &Table| u64::from(table.source_columns(source_ids)) * u64::from(table.modifiers);
        self.tables
            .iter()
            .filter(|table| table.has_rules())
            .map(|table| self.classes.count() as u64 * columns(table))
            .sum()
    }
}

/// Lays everything out: rows of the three automata, then the decision tables.
///
/// # Errors
/// Where it is more than the largest blob; that is found before anything is written.
pub fn assemble(path: &Layer, source: &Dfa, network: &Layer, source_ids: u32) -> Result<Blob, CompileError> {
    check_size(path, source, network, source_ids)?;
    let mut words = Vec::new();
    let nothing = Dfa::nothing();
    let automaton =
        [&path.dfa, source, &network.dfa, &nothing, &nothing, &nothing].map(|dfa| append_rows(dfa, &mut words));
    let mut families = 0;
    let mut family = [FamilyHead::default(); FAMILIES];
    for layer in [path, network] {
        for (at, table) in layer.tables.iter().enumerate().filter(|(_, table)| table.has_rules()) {
            families |= 1 << table.family as u32;
            let sources = table.source_columns(source_ids);
            family[table.family as usize] = FamilyHead {
                base: words.len() as u32,
                accepts: layer.classes.count() as u32,
                sources,
                modifiers: table.modifiers,
            };
            layer.classes.write_table(&layer.tables, at, sources, &mut words);
        }
    }
    let head = BlobHead {
        magic: MAGIC,
        version: VERSION,
        words: words.len() as u32,
        families,
        automaton,
        family,
        arguments: FamilyHead::default(),
        digest: [0; 32],
    };
    Ok(Blob::from_parts(head, &words)?)
}

fn check_size(path: &Layer, source: &Dfa, network: &Layer, source_ids: u32) -> Result<(), CompileError> {
    let automata = [&path.dfa, source, &network.dfa];
    let rows = automata.iter().map(|dfa| dfa.states() as u64 * u64::from(stride(dfa))).sum::<u64>();
    let cells = path.cells(source_ids) + network.cells(source_ids);
    if rows + cells <= SizeClass::MAX_WORDS as u64 {
        return Ok(());
    }
    let what = TooLarge::Words {
        rows,
        states: automata.iter().map(|dfa| dfa.states() as u64).sum(),
        cells,
        accepts: path.classes.count() as u64,
        endpoints: network.classes.count() as u64,
        sources: u64::from(source_ids),
    };
    Err(CompileError::TooLarge { what, worst: Vec::new() })
}

fn stride(dfa: &Dfa) -> u32 {
    COLUMN_CLASSES + dfa.classes as u32
}

/// Premultiplies: a state becomes the word offset of its row.
fn append_rows(dfa: &Dfa, words: &mut Vec<u32>) -> AutomatonHead {
    words.resize(words.len().next_multiple_of(COMB_CELL as usize), 0);
    let (first, stride) = (words.len() as u32, stride(dfa));
    let offset = |state: u32| first + state * stride;
    for ((row, accept), state) in dfa.rows.chunks_exact(dfa.classes).zip(&dfa.accept).zip(0..) {
        words.extend([*accept, offset(state)]);
        words.extend(row.iter().map(|target| offset(*target)));
    }
    let mut class_of = dfa.class_of.map(|class| class + COLUMN_CLASSES as u8);
    class_of[0] = COLUMN_SELF as u8;
    AutomatonHead {
        start: offset(dfa.start),
        absorbing: offset(dfa.absorbing),
        words: dfa.states() as u32 * stride,
        form: Form::Flat as u32,
        class_of,
    }
}
