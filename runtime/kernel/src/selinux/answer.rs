//! What the policy in force says of one permission.

/// The kernel's flag of a domain that is permissive alone (`AVD_FLAGS_PERMISSIVE`).
const PERMISSIVE: u32 = 1;

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// It is allowed.
    pub allowed: bool,
    /// Where it is not, an audit record tells of it; the policy may have a `dontaudit` for it.
    pub told: bool,
    /// The task's domain is permissive: what is not allowed happens all the same.
    pub permissive: bool,
}

impl Answer {
    /// Whether a task would be refused, on a system that enforces.
    #[must_use]
    pub const fn denies(self) -> bool {
        !self.allowed && !self.permissive
    }

    /// Of the permission with this number (the first is 1): masks of what is allowed, decided, audited when allowed and when denied, then
    /// the policy's number, which is decimal, and flags.
    pub(super) fn parse(words: &str, permission: u32) -> Option<Self> {
        let words: Vec<&str> = words.trim_end_matches('\0').split_ascii_whitespace().collect();
        let &[allowed, _, _, audited, _, flags] = words.as_slice() else { return None };
        let hexadecimal = |word: &str| u32::from_str_radix(word, 16).ok();
        let bit = 1u32.checked_shl(permission.checked_sub(1)?)?;
        Some(Self {
            allowed: hexadecimal(allowed)? & bit != 0,
            told: hexadecimal(audited)? & bit != 0,
            permissive: hexadecimal(flags)? & PERMISSIVE != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_selinux_answer_is_read_of_the_masks_that_the_kernel_writes() {
        let answer = |words, permission| Answer::parse(words, permission);
        let said = "80000001 ffffffff 0 fffffffe 12 0";
        assert_eq!(answer(said, 1), Some(Answer { allowed: true, told: false, permissive: false }));
        assert_eq!(answer(said, 2), Some(Answer { allowed: false, told: true, permissive: false }));
        assert!(answer(said, 2).unwrap().denies() && !answer(said, 32).unwrap().denies());
        let permissive = answer("0 ffffffff 0 ffffffff 12 1", 1).unwrap();
        assert!(permissive.permissive && !permissive.denies());
        for (words, permission) in [(said, 0), (said, 33), ("1 2 3", 1), ("x ffffffff 0 ffffffff 12 0", 1), ("", 1)] {
            assert_eq!(answer(words, permission), None, "{words} {permission}");
        }
    }
}
