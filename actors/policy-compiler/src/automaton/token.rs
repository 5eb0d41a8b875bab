//! The alphabet of patterns: what one step of a match consumes.

/// A set of byte values. NUL is never in it: no path and no endpoint holds one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSet([u64; 4]);

impl ByteSet {
    /// No byte.
    pub const EMPTY: Self = Self([0; 4]);

    /// The bytes of a range, ends included.
    #[must_use]
    pub fn range(first: u8, last: u8) -> Self {
        let mut set = Self::EMPTY;
        (first..=last).for_each(|byte| set.insert(byte));
        set
    }

    /// Any byte of a path component.
    #[must_use]
    pub fn component() -> Self {
        Self::range(1, u8::MAX).without(b'/')
    }

    /// Adds a byte; NUL is ignored.
    pub fn insert(&mut self, byte: u8) {
        if byte != 0 {
            self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
        }
    }

    /// Is the byte in it?
    #[must_use]
    pub fn contains(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1
    }

    /// The same without a byte.
    #[must_use]
    pub fn without(mut self, byte: u8) -> Self {
        self.0[usize::from(byte >> 6)] &= !(1 << (byte & 63));
        self
    }

    /// Both sets together.
    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, more)| *word |= more);
        self
    }

    /// Every byte but NUL that is not in it.
    #[must_use]
    pub fn complement(&self) -> Self {
        Self(self.0.map(|word| !word)).without(0)
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// None?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// The bytes in it, in order.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=u8::MAX).filter(|byte| self.contains(*byte))
    }
}

/// One step of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Token {
    /// This byte.
    Byte(u8),
    /// One byte of the set.
    Set(ByteSet),
    /// Any number of bytes but `/`: `*`.
    Star,
    /// Any number of any bytes: `**`.
    DoubleStar,
    /// `/**/`: a slash, then any number of whole components, each with its slash.
    Components,
}

impl Token {
    /// A set as the plainest token that means it.
    #[must_use]
    pub fn set(set: ByteSet) -> Self {
        match (set.len(), set.iter().next()) {
            (1, Some(byte)) => Self::Byte(byte),
            _ => Self::Set(set),
        }
    }
}
