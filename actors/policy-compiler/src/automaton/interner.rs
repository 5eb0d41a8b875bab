//! Sets of numbers, each stored once and named by a dense number in the order of arrival.
//!
//! Decision: an arena with an open-addressed index, not a `HashMap<Box<[u32]>, u32>`: the sets are the larger half of a build's
//! memory and most have one or two members. Nothing ever iterates over the index, so its order decides nothing.

const FREE: u32 = u32::MAX;

/// The interner.
#[derive(Debug, Clone)]
pub struct SetInterner {
    members: Vec<u32>,
    /// Where each set ends in `members`; it starts where the one before ends.
    ends: Vec<usize>,
    index: Vec<u32>,
}

impl Default for SetInterner {
    fn default() -> Self {
        Self { members: Vec::new(), ends: Vec::new(), index: vec![FREE; 64] }
    }
}

impl SetInterner {
    /// The number of the set, which must be sorted and without repetitions to be equal to itself.
    pub fn intern(&mut self, set: &[u32]) -> u32 {
        if self.ends.len() * 2 >= self.index.len() {
            self.grow();
        }
        let mask = self.index.len() - 1;
        let mut at = hash(set) as usize & mask;
        while self.index[at] != FREE {
            if self.get(self.index[at]) == set {
                return self.index[at];
            }
            at = (at + 1) & mask;
        }
        let number = self.ends.len() as u32;
        self.index[at] = number;
        self.members.extend_from_slice(set);
        self.ends.push(self.members.len());
        number
    }

    /// The set of a number that [`Self::intern`] gave.
    #[must_use]
    pub fn get(&self, number: u32) -> &[u32] {
        let number = number as usize;
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.members[start..self.ends[number]]
    }

    /// How many sets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// None yet?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Members of all sets together.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// All sets in order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        (0..self.ends.len() as u32).map(|number| self.get(number))
    }

    fn grow(&mut self) {
        let mask = self.index.len() * 2 - 1;
        let mut index = vec![FREE; mask + 1];
        for number in 0..self.ends.len() as u32 {
            let mut at = hash(self.get(number)) as usize & mask;
            while index[at] != FREE {
                at = (at + 1) & mask;
            }
            index[at] = number;
        }
        self.index = index;
    }
}

/// Multiply and rotate; the same on every machine.
fn hash(set: &[u32]) -> u64 {
    let mixed = set.iter().fold(set.len() as u64, |hash, member| {
        (hash.rotate_left(5) ^ u64::from(*member)).wrapping_mul(0x517c_c1b7_2722_0a95)
    });
    mixed ^ (mixed >> 32)
}
