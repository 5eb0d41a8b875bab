//! Who dials whom, as `--link-peer` of each node says.

use std::collections::BTreeSet;

use crate::random::Random;

/// Up to so many nodes know all others; more know some, for links of a node are bounded.
const FULL_MESH: usize = 8;
/// Others that a node of a large cluster is told of, beside its neighbour.
const CHORDS: u64 = 2;

/// See the module. Each two that are to be linked are dialled from one side or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology(Vec<BTreeSet<usize>>);

impl Topology {
    /// One that the seed chooses; all nodes are connected.
    #[must_use]
    pub fn any(random: &mut Random, nodes: usize) -> Self {
        let mut pairs = BTreeSet::new();
        for node in 0..nodes {
            if nodes <= FULL_MESH {
                pairs.extend((node + 1..nodes).map(|other| (node, other)));
                continue;
            }
            let mut others = vec![(node + 1) % nodes];
            others.extend((0..CHORDS).map(|_| usize::try_from(random.below(nodes as u64)).unwrap_or(0)));
            pairs.extend(others.into_iter().filter(|other| *other != node).map(|o| (node.min(o), node.max(o))));
        }
        let mut dials = vec![BTreeSet::new(); nodes];
        for (low, high) in pairs {
            let direction = random.below(3);
            if direction != 1 {
                dials[low].insert(high);
            }
            if direction != 0 {
                dials[high].insert(low);
            }
        }
        Self(dials)
    }

    /// How many.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.0.len()
    }

    /// Whom a node dials.
    pub fn dials(&self, node: usize) -> impl Iterator<Item = usize> {
        self.0[node].iter().copied()
    }

    /// Whether anybody dials it.
    #[must_use]
    pub fn listens(&self, node: usize) -> bool {
        self.0.iter().any(|dials| dials.contains(&node))
    }

    /// Whether two are to be linked.
    #[must_use]
    pub fn links(&self, one: usize, other: usize) -> bool {
        let dials = |from: usize, to| self.0.get(from).is_some_and(|dials| dials.contains(&to));
        dials(one, other) || dials(other, one)
    }

    /// Each with whom it is to be linked.
    pub fn peers(&self, node: usize) -> impl Iterator<Item = usize> {
        (0..self.0.len()).filter(move |other| self.links(node, *other))
    }
}

#[cfg(test)]
mod tests {
    use super::Topology;
    use crate::random::Random;

    #[test]
    fn unit_topology_links_all_of_a_few_and_some_of_many_each_from_a_side_that_the_seed_draws() {
        let few = Topology::any(&mut Random::stream(1, "t"), 5);
        assert!((0..5).all(|node| few.peers(node).count() == 4));
        let many = Topology::any(&mut Random::stream(1, "t"), 100);
        let links: Vec<usize> = (0..100).map(|node| many.peers(node).count()).collect();
        assert!(links.iter().all(|links| (2..=16).contains(links)), "{links:?}");
        let both = |topology: &Topology| (0..100).flat_map(|node| topology.dials(node)).count();
        let all: usize = links.iter().sum::<usize>() / 2;
        assert!((all + 1..2 * all).contains(&both(&many)), "some are dialled from both sides");
        assert_ne!(many, Topology::any(&mut Random::stream(2, "t"), 100));
    }
}
