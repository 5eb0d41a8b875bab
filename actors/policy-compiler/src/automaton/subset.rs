//! Subset construction with absorption.
//!
//! A state is a set of trie nodes. *Absorption* removes nodes that can no longer change a decision: where a node that accepts
//! for ever (a `**` at its end) is in the set, every node whose whole reach is weaker in every table goes. Without it, each
//! directory rule would be multiplied with everything below it.
//!
//! Invariant: state 0 is the empty set. Numbers are in order of discovery, breadth first, classes in byte order.

use super::{
    AutomatonLimits, Budget, BuildError, Exhausted, SetInterner,
    trie::{Edge, Loop, Node, ReachedTags, STRENGTHS, Trie, heaviest},
};

/// The last column that a row of the blob can name, less the two that are no classes.
const MAX_CLASSES: usize = 254;
/// How many nodes are put in sets between two looks at the budget: about a millisecond.
const NODES_PER_LOOK: usize = 1 << 17;

/// A deterministic automaton, not yet minimal.
#[derive(Debug, Clone)]
pub struct Determinised {
    /// Byte classes.
    pub classes: usize,
    /// Byte to class; NUL's is meaningless.
    pub class_of: [u8; 256],
    /// Start state.
    pub start: u32,
    /// `classes` targets for each state.
    pub rows: Vec<u32>,
    /// For each state, the number of its tags in `accept_sets`.
    pub accept: Vec<u32>,
    /// Distinct sets of accepted tags; 0 is the empty set.
    pub accept_sets: SetInterner,
    /// Members of all state sets together: what the building cost in memory.
    pub set_members: usize,
    /// The tags that are in most of the states, worst first: what to look at if all of it is too large in the end.
    pub worst_tags: Vec<u32>,
}

impl Determinised {
    /// States.
    #[must_use]
    pub fn states(&self) -> usize {
        self.accept.len()
    }
}

/// Builds the automaton of everything in the trie.
///
/// # Errors
/// Past a bound, naming the tags that are in most of the states.
pub fn determinise(
    mut trie: Trie,
    limits: &AutomatonLimits,
    budget: &mut dyn Budget,
) -> Result<Determinised, BuildError> {
    trie.close();
    Builder::new(&trie, limits, budget)?.run()
}

struct Builder<'a> {
    trie: &'a Trie,
    limits: &'a AutomatonLimits,
    budget: &'a mut dyn Budget,
    nodes_since_look: usize,
    alphabet: Alphabet,
    sets: SetInterner,
    closure: Closure<'a>,
    out: Determinised,
}

impl<'a> Builder<'a> {
    fn new(trie: &'a Trie, limits: &'a AutomatonLimits, budget: &'a mut dyn Budget) -> Result<Self, BuildError> {
        let alphabet = Alphabet::of(trie);
        if alphabet.classes > MAX_CLASSES {
            let exhausted = Exhausted::Classes { classes: alphabet.classes };
            return Err(BuildError { exhausted, worst_tags: Vec::new() });
        }
        let out = Determinised {
            classes: alphabet.classes,
            class_of: alphabet.class_of,
            start: 0,
            rows: Vec::new(),
            accept: Vec::new(),
            accept_sets: SetInterner::default(),
            set_members: 0,
            worst_tags: Vec::new(),
        };
        let (sets, closure) = (SetInterner::default(), Closure::new(trie));
        Ok(Self { trie, limits, budget, nodes_since_look: 0, alphabet, sets, closure, out })
    }

    fn run(mut self) -> Result<Determinised, BuildError> {
        self.out.accept_sets.intern(&[]);
        self.sets.intern(&[]);
        self.out.start = self.state(&mut vec![0])?;
        let mut scratch = Scratch::default();
        let mut state = 0;
        while state < self.sets.len() {
            self.row(state as u32, &mut scratch)?;
            state += 1;
        }
        self.out.set_members = self.sets.members();
        self.out.worst_tags = self.worst_tags();
        Ok(self.out)
    }

    /// Builds one state's row and accept set.
    fn row(&mut self, state: u32, scratch: &mut Scratch) -> Result<(), BuildError> {
        scratch.collect(self.trie, &self.alphabet, self.sets.get(state));
        let accept = self.out.accept_sets.intern(&scratch.tags);
        self.out.accept.push(accept);
        let row = self.out.rows.len();
        let elsewhere = self.target(&scratch.looping_component, &[])?;
        self.out.rows.resize(row + self.alphabet.classes, elsewhere);
        let slash = self.alphabet.slash;
        if scratch.edges.iter().all(|(class, _)| *class != slash) {
            self.out.rows[row + usize::from(slash)] = self.target(&scratch.looping_any, &[])?;
        }
        let mut moves = scratch.edges.as_slice();
        while let Some((class, _)) = moves.first().copied() {
            let (same, rest) = moves.split_at(moves.partition_point(|(other, _)| *other == class));
            let loops = if class == slash { &scratch.looping_any } else { &scratch.looping_component };
            self.out.rows[row + usize::from(class)] = self.target(loops, same)?;
            moves = rest;
        }
        Ok(())
    }

    fn target(&mut self, loops: &[u32], moves: &[(u8, u32)]) -> Result<u32, BuildError> {
        let mut set = std::mem::take(&mut self.closure.set);
        set.clear();
        set.extend_from_slice(loops);
        set.extend(moves.iter().map(|(_, node)| *node));
        let state = self.state(&mut set);
        self.closure.set = set;
        state
    }

    fn state(&mut self, set: &mut Vec<u32>) -> Result<u32, BuildError> {
        if set.is_empty() {
            return Ok(0);
        }
        self.nodes_since_look += set.len();
        self.closure.close(set);
        let state = self.sets.intern(set);
        self.check_bounds()?;
        Ok(state)
    }

    fn check_bounds(&mut self) -> Result<(), BuildError> {
        let (states, limits) = (self.sets.len(), self.limits);
        if self.nodes_since_look > NODES_PER_LOOK {
            self.nodes_since_look = 0;
            if self.budget.is_spent() {
                return Err(self.refusal(Exhausted::Time { states }));
            }
        }
        let exhausted = if states > limits.states {
            Exhausted::States { limit: limits.states }
        } else if self.sets.members() > limits.set_members {
            Exhausted::SetMembers { limit: limits.set_members, states }
        } else if states * self.alphabet.classes > limits.transitions {
            Exhausted::Transitions { limit: limits.transitions, states, classes: self.alphabet.classes }
        } else {
            return Ok(());
        };
        Err(self.refusal(exhausted))
    }

    fn refusal(&self, exhausted: Exhausted) -> BuildError {
        BuildError { exhausted, worst_tags: self.worst_tags() }
    }

    /// The tags whose nodes are in most of the sets.
    fn worst_tags(&self) -> Vec<u32> {
        let mut weights = vec![0u64; self.trie.tags.len()];
        for node in self.sets.iter().flatten().map(|node| &self.trie.nodes[*node as usize]) {
            if let Some(weight) = weights.get_mut(node.owner as usize) {
                *weight += 1;
            }
        }
        heaviest(&weights)
    }
}

/// What one state's nodes do, collected without allocation once warm.
#[derive(Default)]
struct Scratch {
    tags: Vec<u32>,
    /// Where bytes within a component lead by loops.
    looping_component: Vec<u32>,
    /// Where `/` leads by loops.
    looping_any: Vec<u32>,
    edges: Vec<(u8, u32)>,
}

impl Scratch {
    fn collect(&mut self, trie: &Trie, alphabet: &Alphabet, nodes: &[u32]) {
        self.tags.clear();
        self.looping_component.clear();
        self.looping_any.clear();
        self.edges.clear();
        for number in nodes {
            let node = &trie.nodes[*number as usize];
            self.tags.extend_from_slice(&node.tags);
            if node.looping != Loop::None {
                self.looping_component.push(*number);
            }
            if node.looping == Loop::Any {
                self.looping_any.push(*number);
            }
            self.take_edges(alphabet, node);
        }
        self.edges.sort_unstable();
        self.tags.sort_unstable();
        self.tags.dedup();
    }

    fn take_edges(&mut self, alphabet: &Alphabet, node: &Node) {
        for (edge, child) in &node.edges {
            match edge {
                Edge::Byte(byte) => self.edges.push((alphabet.class_of[usize::from(*byte)], *child)),
                Edge::Set(set) => {
                    self.edges.extend(alphabet.classes_of_set[*set as usize].iter().map(|class| (*class, *child)));
                }
                Edge::Components => {
                    self.edges.extend([(alphabet.slash, *child), (alphabet.slash, *child + 1)]);
                }
                // Taken without input, when the set was closed.
                Edge::Star | Edge::DoubleStar => {}
            }
        }
    }
}

/// Closes sets over edges without input, absorbs, and sorts.
struct Closure<'a> {
    trie: &'a Trie,
    /// The round in which a node was last seen.
    seen: Vec<u32>,
    round: u32,
    /// For each tag, a node that accepts it for ever and does nothing else.
    forever: Vec<Option<u32>>,
    absorbed: Vec<u32>,
    set: Vec<u32>,
}

impl<'a> Closure<'a> {
    fn new(trie: &'a Trie) -> Self {
        let mut forever = vec![None; trie.tags.len()];
        for (node, number) in trie.nodes.iter().zip(0..) {
            if let (Loop::Any, [tag], []) = (node.looping, node.tags.as_slice(), node.edges.as_slice()) {
                forever[*tag as usize].get_or_insert(number);
            }
        }
        let seen = vec![0; trie.nodes.len()];
        Self { trie, seen, round: 0, forever, absorbed: Vec::new(), set: Vec::new() }
    }

    fn close(&mut self, set: &mut Vec<u32>) {
        self.follow(set);
        self.absorb(set);
        set.sort_unstable();
    }

    fn follow(&mut self, set: &mut Vec<u32>) {
        if self.round == u32::MAX {
            self.seen.fill(0);
            self.round = 0;
        }
        self.round += 1;
        let (seen, round, nodes) = (&mut self.seen, self.round, &self.trie.nodes);
        let mut first = |node: &u32| std::mem::replace(&mut seen[*node as usize], round) != round;
        set.retain(&mut first);
        let mut at = 0;
        while at < set.len() {
            let node = &nodes[set[at] as usize];
            let silent = node.edges.iter().filter(|(edge, _)| matches!(edge, Edge::Star | Edge::DoubleStar));
            set.extend(silent.map(|(_, child)| *child).filter(&mut first));
            at += 1;
        }
        // A node that neither accepts nor moves on has done its work.
        set.retain(|number| {
            let node = &nodes[*number as usize];
            let moves = node.edges.iter().any(|(edge, _)| !matches!(edge, Edge::Star | Edge::DoubleStar));
            moves || node.looping != Loop::None || !node.tags.is_empty()
        });
    }

    fn absorb(&mut self, set: &mut Vec<u32>) {
        let nodes = &self.trie.nodes;
        let is_forever = |number: &&u32| {
            let node = &nodes[**number as usize];
            node.looping == Loop::Any && !node.tags.is_empty()
        };
        if set.len() < 2 {
            return;
        }
        let mut offers = [0; STRENGTHS];
        for tag in set.iter().filter(is_forever).flat_map(|number| &nodes[*number as usize].tags) {
            let strength = &self.trie.tags[*tag as usize].offers;
            offers.iter_mut().zip(strength).for_each(|(most, more)| *most = (*most).max(*more));
        }
        if offers != [0; STRENGTHS] {
            set.retain(|number| {
                let demands = &nodes[*number as usize].reach.demands;
                demands.iter().zip(offers).any(|(demand, offer)| *demand != 0 && *demand >= offer)
            });
        }
        self.absorbed.clear();
        self.absorbed.extend(set.iter().filter(is_forever).flat_map(|number| &nodes[*number as usize].tags));
        self.absorb_same_tags(set);
    }

    /// Nodes that can only reach a tag which is accepted for ever become the one node that says so.
    fn absorb_same_tags(&mut self, set: &mut Vec<u32>) {
        for tag in &self.absorbed {
            let Some(forever) = self.forever[*tag as usize] else { continue };
            let before = set.len();
            set.retain(|number| self.trie.nodes[*number as usize].reach.tags != ReachedTags::One(*tag));
            if set.len() < before {
                set.push(forever);
            }
        }
    }
}

/// Bytes that no pattern tells apart are one class.
struct Alphabet {
    class_of: [u8; 256],
    classes: usize,
    slash: u8,
    /// By set number of the trie.
    classes_of_set: Vec<Vec<u8>>,
}

impl Alphabet {
    fn of(trie: &Trie) -> Self {
        let mut literal = [false; 256];
        literal[usize::from(b'/')] = true;
        for (edge, _) in trie.nodes.iter().flat_map(|node| &node.edges) {
            if let Edge::Byte(byte) = edge {
                literal[usize::from(*byte)] = true;
            }
        }
        let mut signatures = SetInterner::default();
        let mut class_of = [0; 256];
        let mut classes_of_set = vec![Vec::new(); trie.sets.len()];
        for byte in 1..=u8::MAX {
            let mut signature = vec![if literal[usize::from(byte)] { u32::from(byte) } else { 0 }];
            signature.extend(trie.sets.iter().zip(0..).filter(|(set, _)| set.contains(byte)).map(|(_, number)| number));
            let known = signatures.len();
            let class = signatures.intern(&signature);
            // Past 255 the classes are refused by their count; the wrapped number is never used.
            class_of[usize::from(byte)] = class as u8;
            if class as usize == known {
                signature.iter().skip(1).for_each(|set| classes_of_set[*set as usize].push(class as u8));
            }
        }
        Self { class_of, classes: signatures.len(), slash: class_of[usize::from(b'/')], classes_of_set }
    }
}
