//! From parser events to trees, within the bounds.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError};

use super::{
    Key, MAX_DEPTH, MAX_DOCUMENT_BYTES, MAX_FILE_NODES, MAX_KEYS, MAX_NODES, MAX_SIGNS, Node, Value, part::Part,
    saturating, signs,
};
use crate::diagnostic::{Position, Problems, quoted};

impl Part<'_> {
    /// The part's documents; one, unless `...` lines end documents within it, which then share the bounds of one. Faults go
    /// to `problems`, and the document that has one yields no tree. `file_nodes` counts the nodes of all parts.
    pub fn documents(self, file_nodes: &mut usize, problems: &mut Problems) -> Vec<Node> {
        if let Some((what, why)) = self.too_large() {
            problems.error(self.start(), what, why, "split the policy into several, with `---` lines between them");
            return Vec::new();
        }
        let mut builder = Builder::new(self.lines_before, file_nodes, problems);
        let mut documents = Vec::new();
        let mut parser = Parser::new_from_str(self.text);
        while let Some(event) = parser.next_event() {
            let step = match event {
                Ok((event, span)) => builder.event(event, span.start),
                Err(error) => {
                    builder.syntax_error(&error);
                    Err(Stop)
                }
            };
            match step {
                Ok(Some(document)) => documents.push(document),
                Ok(None) => {}
                // After a fault the parser's state and ours no longer agree: the rest of the part is not read.
                Err(Stop) => break,
            }
        }
        documents
    }

    /// What stands against parsing it at all.
    fn too_large(self) -> Option<(String, String)> {
        if self.text.len() > MAX_DOCUMENT_BYTES {
            let what = format!("the document has {} bytes", self.text.len());
            return Some((what, format!("at most {MAX_DOCUMENT_BYTES} are read")));
        }
        let signs = signs(self.text);
        (signs > MAX_SIGNS).then(|| {
            (
                format!("the document has {signs} brackets, commas and quotation marks"),
                format!("at most {MAX_SIGNS} are read"),
            )
        })
    }
}

/// A fault that ends the reading of a part; it has been reported.
struct Stop;

/// A collection whose end has not been seen.
enum Open {
    Sequence { at: Position, anchor: usize, items: Vec<Node> },
    Mapping { at: Position, anchor: usize, entries: Vec<(Key, Node)>, key: Pending },
}

/// What the next node of a mapping is.
enum Pending {
    Key,
    Value(Key),
    /// The value of a key that has been reported.
    Skipped,
}

struct Builder<'p> {
    problems: &'p mut Problems,
    /// Nodes of the file so far.
    file_nodes: &'p mut usize,
    lines_before: usize,
    open: Vec<Open>,
    root: Option<Node>,
    /// Finished nodes by the parser's anchor number.
    anchored: BTreeMap<usize, Node>,
    /// Nodes of the part so far.
    nodes: usize,
    /// Bytes of text of the part so far.
    bytes: usize,
    /// The document has a fault after which reading could go on.
    faulty: bool,
}

impl<'p> Builder<'p> {
    fn new(lines_before: usize, file_nodes: &'p mut usize, problems: &'p mut Problems) -> Self {
        let (open, root, anchored) = (Vec::new(), None, BTreeMap::new());
        Self { problems, file_nodes, lines_before, open, root, anchored, nodes: 0, bytes: 0, faulty: false }
    }

    fn position(&self, marker: Marker) -> Position {
        Position { line: saturating(marker.line() + self.lines_before), column: saturating(marker.col() + 1) }
    }

    fn fault(&mut self, at: Position, what: impl Into<String>, why: impl Into<String>, instead: impl Into<String>) {
        self.faulty = true;
        self.problems.error(at, what, why, instead);
    }

    /// Takes one event; gives the document that it ends.
    fn event(&mut self, event: Event<'_>, start: Marker) -> Result<Option<Node>, Stop> {
        let at = self.position(start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(at, tag.is_some());
                self.spend(at, 1, text.len())?;
                let plain = style == ScalarStyle::Plain;
                self.finish(Node { at, value: Value::Scalar { text: text.into_owned(), plain } }, anchor)?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(at, tag.is_some());
                self.begin(at, Open::Sequence { at, anchor, items: Vec::new() })?;
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(at, tag.is_some());
                self.begin(at, Open::Mapping { at, anchor, entries: Vec::new(), key: Pending::Key })?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end()?,
            Event::Alias(anchor) => self.alias(at, anchor)?,
            Event::DocumentEnd => return Ok(self.take_document()),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {}
        }
        Ok(None)
    }

    fn take_document(&mut self) -> Option<Node> {
        let faulty = std::mem::take(&mut self.faulty);
        self.open.clear();
        self.anchored.clear();
        self.root.take().filter(|_| !faulty)
    }

    fn refuse_tag(&mut self, at: Position, tagged: bool) {
        if tagged {
            let why = "what a value is follows from its field";
            self.fault(at, "a YAML tag (`!...`)", why, "remove the tag, or quote the text if it begins with `!`");
        }
    }

    fn spend(&mut self, at: Position, nodes: usize, bytes: usize) -> Result<(), Stop> {
        self.nodes += nodes;
        self.bytes += bytes;
        *self.file_nodes += nodes;
        let (what, why) = if *self.file_nodes > MAX_FILE_NODES {
            ("the file has too many values", format!("at most {MAX_FILE_NODES} are read, aliases expanded"))
        } else if self.nodes > MAX_NODES {
            ("the document has too many values", format!("at most {MAX_NODES} are read, aliases expanded"))
        } else if self.bytes > MAX_DOCUMENT_BYTES {
            let why = format!("at most {MAX_DOCUMENT_BYTES} bytes are read, aliases expanded");
            ("the document has too much text", why)
        } else {
            return Ok(());
        };
        self.fault(at, what, why, "split it into several");
        Err(Stop)
    }

    fn begin(&mut self, at: Position, collection: Open) -> Result<(), Stop> {
        self.spend(at, 1, 0)?;
        self.open.push(collection);
        self.check_depth(at, 0)
    }

    /// A node of `height` levels more than itself is about to stand below the open ones.
    fn check_depth(&mut self, at: Position, height: usize) -> Result<(), Stop> {
        if self.open.len() + height <= MAX_DEPTH {
            return Ok(());
        }
        let why = format!("at most {MAX_DEPTH} levels are read");
        self.fault(
            at,
            "the document is nested too deeply",
            why,
            "remove the inner levels, no policy field is that deep",
        );
        Err(Stop)
    }

    fn end(&mut self) -> Result<(), Stop> {
        match self.open.pop() {
            Some(Open::Sequence { at, anchor, items }) => {
                self.finish(Node { at, value: Value::Sequence(items) }, anchor)
            }
            Some(Open::Mapping { at, anchor, entries, .. }) => {
                self.finish(Node { at, value: Value::Mapping(entries) }, anchor)
            }
            None => Ok(()),
        }
    }

    fn alias(&mut self, at: Position, anchor: usize) -> Result<(), Stop> {
        let Some(target) = self.anchored.get(&anchor) else {
            self.fault(at, "an alias that is part of its own anchor", "it has no end", "write the value out");
            return Err(Stop);
        };
        let (nodes, bytes, height) = measure(target);
        // Spent before it is copied: a copy that is too large is never made.
        self.spend(at, nodes, bytes)?;
        self.check_depth(at, height)?;
        if let Some(target) = self.anchored.get(&anchor) {
            let copy = Node { at, value: target.value.clone() };
            self.finish(copy, 0)?;
        }
        Ok(())
    }

    /// A node is complete: into its parent, or the document's root.
    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Stop> {
        if anchor != 0 {
            // The copy counts like an alias, or nested anchors would copy a large value once a level.
            let (nodes, bytes, _) = measure(&node);
            self.spend(node.at, nodes, bytes)?;
            self.anchored.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::Sequence { items, .. }) => items.push(node),
            Some(Open::Mapping { entries, key, .. }) => match std::mem::replace(key, Pending::Key) {
                Pending::Value(key) => entries.push((key, node)),
                Pending::Skipped => {}
                Pending::Key => {
                    let pending = self.key(node)?;
                    if let Some(Open::Mapping { key, .. }) = self.open.last_mut() {
                        *key = pending;
                    }
                }
            },
        }
        Ok(())
    }

    fn key(&mut self, node: Node) -> Result<Pending, Stop> {
        let at = node.at;
        let Value::Scalar { text, plain } = node.value else {
            let what = format!("the key is {}", node.noun());
            self.fault(at, what, "a field's name is text", "quote it if it begins with `[`, `{` or `-`");
            return Ok(Pending::Skipped);
        };
        if plain && text == "<<" {
            self.fault(at, "the merge key `<<`", "YAML 1.2 has none", "write the fields out");
            return Ok(Pending::Skipped);
        }
        let Some(Open::Mapping { entries, .. }) = self.open.last() else { return Ok(Pending::Skipped) };
        if entries.len() >= MAX_KEYS {
            let why = format!("at most {MAX_KEYS} are read");
            self.fault(at, "the mapping has too many keys", why, "split the policy into several");
            return Err(Stop);
        }
        let first = entries.iter().find(|(key, _)| key.text == text).map(|(key, _)| key.at);
        if let Some(first) = first {
            let what = format!("{} for the second time", quoted(&text));
            let why = format!("line {} has set it, and only one of them can hold", first.line);
            self.fault(at, what, why, "merge the two or remove one");
            return Ok(Pending::Skipped);
        }
        Ok(Pending::Value(Key { at, text }))
    }

    fn syntax_error(&mut self, error: &ScanError) {
        let at = self.position(*error.marker());
        let what = format!("not YAML: {}", error.info().replace(['\n', '\r'], " "));
        self.fault(at, what, "the rest of the document cannot be read", advice(error.info()));
    }
}

/// Nodes, bytes of text and levels below the node; the tree is at most [`MAX_DEPTH`] deep, so the recursion is.
fn measure(node: &Node) -> (usize, usize, usize) {
    let sum = |parts: &mut dyn Iterator<Item = (usize, usize, usize)>| {
        parts.fold((1, 0, 0), |(n, b, h), (nodes, bytes, height)| (n + nodes, b + bytes, h.max(height)))
    };
    match &node.value {
        Value::Scalar { text, .. } => (1, text.len(), 0),
        Value::Sequence(items) => {
            let (nodes, bytes, height) = sum(&mut items.iter().map(measure));
            (nodes, bytes, height + 1)
        }
        Value::Mapping(entries) => {
            let (nodes, bytes, height) = sum(&mut entries.iter().map(|(key, node)| {
                let (nodes, bytes, height) = measure(node);
                (nodes + 1, bytes + key.text.len(), height)
            }));
            (nodes, bytes, height + 1)
        }
    }
}

/// What usually is behind the parser's words.
fn advice(info: &str) -> &'static str {
    const ADVICE: &[(&str, &str)] = &[
        ("recursion limit", "remove the inner brackets, no policy field is that deep"),
        ("mapping values are not allowed", "put the field on its own line, and quote text that holds `: `"),
        ("tab", "indent with spaces"),
        ("anchor", "write `&name` before an `*name` that refers to it, or quote text that begins with `*` or `&`"),
        ("quoted scalar", "close the quotation mark"),
        ("flow", "close the bracket and put commas between the items"),
        ("unexpected character", "quote text that begins with `@`, `%`, a backtick or another sign"),
        ("simple key", "write `name: value`, with a colon and a space"),
        ("indent", "align the line with its neighbours"),
        ("block", "align the line with its neighbours, list items with `- `, fields as `name: value`"),
    ];
    let found = ADVICE.iter().find(|(part, _)| info.contains(part));
    found.map_or("check the indentation, the brackets and the quotation marks just before", |(_, advice)| advice)
}
