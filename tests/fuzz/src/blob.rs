//! Policy blobs: the responder and a trace's reader get them from another process.

use std::sync::LazyLock;

use palisade_kernel_abi::blob::{Blob, Family, HEAD_BYTES, Modifiers};
use palisade_policy::{PolicyFile, ir::WorkloadRules};
use palisade_policy_compiler::{automaton::AutomatonLimits, compile};

use crate::edits;

/// The digest is the head's last field.
const DIGEST_AT: usize = HEAD_BYTES - 32;

/// A blob with every automaton and table in it that one policy makes.
static BASE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let text = include_str!("../corpus/policy/every-family.yaml");
    let rules =
        PolicyFile::parse("every-family.yaml", text.as_bytes()).policies.iter().flat_map(|p| p.rules.clone()).collect();
    let rules = WorkloadRules { rules, ..WorkloadRules::default() };
    let policy = compile(&rules, &AutomatonLimits::default(), &mut || false).expect("the policy compiles");
    policy.blob.content().to_vec()
});

/// Reads a blob with changes in it, under a right digest. What is taken can be walked by anything, and is the same when read again.
///
/// # Panics
/// Where it is not.
pub fn blob(bytes: &[u8]) {
    let mut content = BASE.clone();
    edits::apply(&mut content, bytes);
    content[DIGEST_AT..HEAD_BYTES].fill(0);
    let digest = blake3::hash(&content);
    content[DIGEST_AT..HEAD_BYTES].copy_from_slice(digest.as_bytes());
    let Ok(blob) = Blob::from_bytes(&content) else { return };
    let again = Blob::from_bytes(blob.as_bytes()).expect("a blob with its padding is a blob");
    assert_eq!(again.digest(), blob.digest());
    for input in [b"/".as_slice(), b"/etc/passwd", &[0xff; 300], bytes] {
        let (path, endpoint, source) = (blob.path_accept(input), blob.network_accept(input), blob.source_id(input));
        for family in Family::ALL {
            for modifiers in 0..8 {
                let _ = blob.decide(family, path, source, Modifiers(modifiers));
                let _ = blob.decide(family, endpoint, source, Modifiers(modifiers));
            }
        }
    }
}
