//! The token trie: all sequences as one nondeterministic automaton that shares prefixes.
//!
//! Invariant: a node's children have larger numbers, except where an edge leads to a shared leaf; so one backward pass sees
//! children before parents.

use std::collections::BTreeMap;

use super::{AutomatonLimits, BuildError, ByteSet, Exhausted, SetInterner, Token};

/// Distinct byte sets that patterns may use: more is no policy that a person wrote.
const MAX_SETS: usize = 1 << 12;

/// Decision tables that one automaton feeds at most.
pub const STRENGTHS: usize = 3;

/// How a tag stands in each decision table, for absorption. Numbers are dense ranks of the caller; 0 is "not in this table".
///
/// Contract: where a tag with `offers[t]` is accepted, a tag with `demands[t]` below it changes no decision of table `t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TagStrength {
    /// The best that any rule of the tag could ever be.
    pub demands: [u32; STRENGTHS],
    /// What some rule of the tag is in every circumstance.
    pub offers: [u32; STRENGTHS],
}

/// What a node does on bytes that no edge takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) enum Loop {
    #[default]
    None,
    Component,
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    Byte(u8),
    Set(u32),
    /// Without input, to the node of a `*`.
    Star,
    /// Without input, to the node of a `**`.
    DoubleStar,
    /// On `/` to the target, and to the loop that stands right after it and leads back to it on `/`.
    Components,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub(super) edges: Vec<(Edge, u32)>,
    pub(super) tags: Vec<u32>,
    pub(super) looping: Loop,
    /// The first tag that passed here.
    pub(super) owner: u32,
    pub(super) reach: Reach,
}

/// What can still be accepted from a node on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Reach {
    pub(super) demands: [u32; STRENGTHS],
    pub(super) tags: ReachedTags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum ReachedTags {
    #[default]
    None,
    One(u32),
    Many,
}

impl Reach {
    fn join(&mut self, other: &Self) {
        self.demands.iter_mut().zip(other.demands).for_each(|(most, more)| *most = more.max(*most));
        self.tags = match (self.tags, other.tags) {
            (ReachedTags::None, tags) | (tags, ReachedTags::None) => tags,
            (ReachedTags::One(one), ReachedTags::One(other)) if one == other => ReachedTags::One(one),
            _ => ReachedTags::Many,
        };
    }
}

/// Sequences, put in one by one, in an order that the caller keeps canonical.
#[derive(Debug, Clone)]
pub struct Trie {
    pub(super) nodes: Vec<Node>,
    pub(super) sets: Vec<ByteSet>,
    set_numbers: BTreeMap<ByteSet, u32>,
    pub(super) tags: Vec<TagStrength>,
    limit: usize,
}

impl Trie {
    /// An empty one, for tags numbered as in `tags`.
    #[must_use]
    pub fn new(tags: Vec<TagStrength>, limits: &AutomatonLimits) -> Self {
        Self { nodes: vec![Node::default()], sets: Vec::new(), set_numbers: BTreeMap::new(), tags, limit: limits.nodes }
    }

    /// Nodes so far.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Adds a sequence that leads to `tag`.
    ///
    /// # Errors
    /// Past [`AutomatonLimits::nodes`].
    pub fn insert(&mut self, tokens: &[Token], tag: u32) -> Result<(), BuildError> {
        let mut node = 0;
        for token in tokens {
            node = self.step(node, *token, tag)?;
        }
        let tags = &mut self.nodes[node as usize].tags;
        if let Err(at) = tags.binary_search(&tag) {
            tags.insert(at, tag);
        }
        Ok(())
    }

    fn step(&mut self, from: u32, token: Token, tag: u32) -> Result<u32, BuildError> {
        let edge = match token {
            Token::Byte(byte) => Edge::Byte(byte),
            Token::Set(set) => Edge::Set(self.set(set)?),
            Token::Star => Edge::Star,
            Token::DoubleStar => Edge::DoubleStar,
            Token::Components => Edge::Components,
        };
        if let Some((_, child)) = self.nodes[from as usize].edges.iter().find(|(known, _)| *known == edge) {
            return Ok(*child);
        }
        if self.nodes.len() + 2 > self.limit {
            let exhausted = Exhausted::Nodes { limit: self.limit };
            return Err(BuildError { exhausted, worst_tags: self.owners_of_most_nodes() });
        }
        let child = self.nodes.len() as u32;
        let looping = match token {
            Token::Star => Loop::Component,
            Token::DoubleStar => Loop::Any,
            _ => Loop::None,
        };
        self.nodes.push(Node { looping, owner: tag, ..Node::default() });
        if token == Token::Components {
            let edges = vec![(Edge::Byte(b'/'), child)];
            self.nodes.push(Node { looping: Loop::Any, owner: tag, edges, ..Node::default() });
        }
        self.nodes[from as usize].edges.push((edge, child));
        Ok(child)
    }

    fn set(&mut self, set: ByteSet) -> Result<u32, BuildError> {
        if let Some(number) = self.set_numbers.get(&set) {
            return Ok(*number);
        }
        if self.sets.len() == MAX_SETS {
            let exhausted = Exhausted::Sets { limit: MAX_SETS };
            return Err(BuildError { exhausted, worst_tags: self.owners_of_most_nodes() });
        }
        let number = self.sets.len() as u32;
        self.sets.push(set);
        self.set_numbers.insert(set, number);
        Ok(number)
    }

    fn owners_of_most_nodes(&self) -> Vec<u32> {
        let mut weights = vec![0u64; self.tags.len()];
        self.nodes.iter().for_each(|node| weights[node.owner as usize] += 1);
        heaviest(&weights)
    }

    /// Sends edges to leaves that mean the same to one of them, and fills in what each node can reach. Ends the inserting.
    pub(super) fn close(&mut self) {
        let mut leaves = SetInterner::default();
        let mut leaf_nodes = Vec::new();
        let mut shared: Vec<u32> = (0..self.nodes.len() as u32).collect();
        for (number, node) in self.nodes.iter().enumerate() {
            if node.edges.is_empty() {
                let mut key = vec![node.looping as u32];
                key.extend(&node.tags);
                if leaves.intern(&key) as usize == leaf_nodes.len() {
                    leaf_nodes.push(number as u32);
                }
                shared[number] = leaf_nodes[leaves.intern(&key) as usize];
            }
        }
        for node in &mut self.nodes {
            // A `/**/` keeps its own target: the loop stands beside it.
            node.edges.iter_mut().filter(|(edge, _)| *edge != Edge::Components).for_each(|(_, child)| {
                *child = shared[*child as usize];
            });
        }
        self.fill_reach();
    }

    /// Three passes, children before parents. The first makes leaves right, for a shared one may stand before its parents; the
    /// second all but the loops of `/**/`, which lead back to the node before them and on which no other node relies; the third these.
    fn fill_reach(&mut self) {
        let nodes = self.nodes.len();
        for number in (0..3).flat_map(|_| (0..nodes).rev()) {
            self.nodes[number].reach = self.reach_of(number);
        }
    }

    fn reach_of(&self, number: usize) -> Reach {
        let node = &self.nodes[number];
        let mut reach = Reach::default();
        for tag in &node.tags {
            reach.join(&Reach { demands: self.tags[*tag as usize].demands, tags: ReachedTags::One(*tag) });
        }
        for (_, child) in &node.edges {
            reach.join(&self.nodes[*child as usize].reach);
        }
        reach
    }
}

/// The numbers of the (up to five) largest weights, largest first.
pub(super) fn heaviest(weights: &[u64]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..weights.len() as u32).filter(|tag| weights[*tag as usize] > 0).collect();
    order.sort_by_key(|tag| (std::cmp::Reverse(weights[*tag as usize]), *tag));
    order.truncate(5);
    order
}
