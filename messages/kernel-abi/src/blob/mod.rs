//! The policy blob: everything that decides for one workload, immutable, content-addressed, and the same bytes for the
//! kernel, for fanotify's responder and for simulation. The layout is `bpf/include/blob.h`; what it means is the module [`walk`].
//!
//! Invariant: a [`Blob`] is valid. It is made only by [`Blob::from_parts`] and [`Blob::from_bytes`], which check every row and
//! every table, so that no walk can leave its words. Numbers are in the machine's byte order: a blob never leaves its machine.
//!
//! Decision: the words are kept padded to their size class, as the kernel's map value wants them, so that installing copies
//! nothing and a masked index is always in range.

mod endpoint;
mod layout;
mod mildest;
mod moves;
mod steps;
mod validate;
pub mod walk;

#[cfg(test)]
mod tests;

pub use endpoint::{AF_INET, AF_INET6, Endpoint, EndpointSymbols, MAX_SYMBOLS, SOCKET_SYMBOLS, reached, symbols_of};
pub use layout::{
    AUTOMATA, Automaton, AutomatonHead, BASENAME_MAX, BlobHead, CAPABILITY_ACCEPTS, COLUMN_ACCEPT, COLUMN_CLASSES,
    COLUMN_SELF, COMB_CELL, COMB_FREE, COMB_STATE, Effect, FAMILIES, Family, FamilyHead, Form, HEAD_BYTES, MAGIC,
    MAX_ARGUMENT_ALTERNATIVES, MAX_ARGUMENT_SETS, MAX_RULES, PRESET_ACCEPTS, Preset, SYSCALL_ACCEPTS, SYSCALLS,
    SizeClass, VERSION,
};
pub use mildest::Mildest;
pub use steps::State;
pub use validate::BlobError;
pub use walk::{AcceptId, Decision, Modifiers, PathAccepts, Rank, SourceId, domain_path};

/// A valid blob.
#[derive(Clone)]
pub struct Blob {
    head: Box<BlobHead>,
    class: SizeClass,
    /// The map value: the head's words, then all words of the class.
    image: Box<[u32]>,
}

const HEAD_WORDS: usize = HEAD_BYTES / 4;

impl Blob {
    /// Makes a blob of a head and its words; `head.words` and `head.digest` are set here, whatever they were.
    ///
    /// # Errors
    /// Where a walk could leave the words, or the words are more than the largest size class holds.
    pub fn from_parts(mut head: BlobHead, words: &[u32]) -> Result<Self, BlobError> {
        let class = SizeClass::for_words(words.len()).ok_or(BlobError::TooLarge { words: words.len() })?;
        head.words = u32::try_from(words.len()).map_err(|_| BlobError::TooLarge { words: words.len() })?;
        validate::validate(&head, words)?;
        head.digest = digest_of(&head, words);
        let mut image = vec![0; HEAD_WORDS + class.words()].into_boxed_slice();
        for (word, bytes) in image.iter_mut().zip(head_bytes(&head).chunks_exact(4)) {
            *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        image[HEAD_WORDS..HEAD_WORDS + words.len()].copy_from_slice(words);
        Ok(Self { head: Box::new(head), class, image })
    }

    /// Reads untrusted bytes: [`Self::as_bytes`], or the same without its padding ([`Self::content`]).
    ///
    /// # Errors
    /// Where the bytes are not exactly one blob of this version, valid and with the right digest.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BlobError> {
        let (head, rest) = read_head(bytes).ok_or(BlobError::Length {
            words: 0,
            expected: HEAD_BYTES,
            padded: SizeClass::K16.value_bytes(),
            found: bytes.len(),
        })?;
        if head.magic != MAGIC || head.version != VERSION {
            return Err(BlobError::Format { magic: head.magic, version: head.version });
        }
        let used = head.words as usize;
        let class = SizeClass::for_words(used).ok_or(BlobError::TooLarge { words: used })?;
        if rest.len() != 4 * used && rest.len() != 4 * class.words() {
            return Err(BlobError::Length {
                words: head.words,
                expected: HEAD_BYTES + 4 * used,
                padded: class.value_bytes(),
                found: bytes.len(),
            });
        }
        let (used_bytes, padding) = rest.split_at(4 * used);
        if padding.iter().any(|byte| *byte != 0) {
            return Err(BlobError::NotZero("padding"));
        }
        let words: Vec<u32> =
            used_bytes.chunks_exact(4).map(|w| u32::from_ne_bytes([w[0], w[1], w[2], w[3]])).collect();
        let blob = Self::from_parts(head, &words)?;
        if blob.head.digest == head.digest { Ok(blob) } else { Err(BlobError::Digest) }
    }

    /// The head.
    #[must_use]
    pub fn head(&self) -> &BlobHead {
        &self.head
    }

    /// The used words: rows of the automata, then decision tables.
    #[must_use]
    pub fn words(&self) -> &[u32] {
        &self.image[HEAD_WORDS..HEAD_WORDS + self.head.words as usize]
    }

    /// How large the kernel's copy is.
    #[must_use]
    pub fn size_class(&self) -> SizeClass {
        self.class
    }

    /// BLAKE3 of the content: equal blobs, and only they, have equal digests.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.head.digest
    }

    /// The whole map value: head and words, padded to [`SizeClass::value_bytes`].
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: the slice covers exactly the image, whose words have 4 initialised bytes each and no padding; `u8` wants no
        // alignment, and the borrow of `self` keeps the image alive and unchanged.
        unsafe { std::slice::from_raw_parts(self.image.as_ptr().cast(), 4 * self.image.len()) }
    }

    /// The blob without its padding: what to store or send.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.as_bytes()[..HEAD_BYTES + 4 * self.head.words as usize]
    }

    /// The word at a masked index, as the kernel reads it.
    #[inline]
    fn word(&self, index: u32) -> u32 {
        let index = index as usize & (self.class.words() - 1);
        // Never absent: the image has all words of the class. Zero is a permit and accept id 0.
        self.image.get(HEAD_WORDS + index).copied().unwrap_or(0)
    }
}

impl PartialEq for Blob {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl Eq for Blob {}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, ..] = self.digest();
        write!(f, "Blob({a:02x}{b:02x}{c:02x}{d:02x}, {} words, {:?})", self.head.words, self.class)
    }
}

fn head_bytes(head: &BlobHead) -> &[u8] {
    // SAFETY: `BlobHead` is repr(C) of u32 and u8 arrays whose sizes are multiples of four (asserted with its layout), so it has
    // no padding; every byte is initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(head).cast(), HEAD_BYTES) }
}

fn digest_of(head: &BlobHead, words: &[u32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(head_bytes(&BlobHead { digest: [0; 32], ..*head }));
    // SAFETY: `words` has 4 initialised bytes for each word and no padding, `u8` wants no alignment, and the borrow lasts over the call.
    hasher.update(unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), 4 * words.len()) });
    *hasher.finalize().as_bytes()
}

fn read_head(bytes: &[u8]) -> Option<(BlobHead, &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    // SAFETY: `head` is HEAD_BYTES long and `BlobHead` is plain numbers: every bit pattern is a value. The read is unaligned.
    Some((unsafe { head.as_ptr().cast::<BlobHead>().read_unaligned() }, rest))
}
