//! The formats of `/etc/passwd` and `/proc/PID/uid_map`.

use palisade_domain::text::lossless;

/// Longest name that is taken, bytes: LOGIN_NAME_MAX.
const MAX_NAME_BYTES: usize = 256;
/// Names that are taken of one file.
const MAX_ENTRIES: usize = 1024;

/// User ids of the container's user namespace with their names, in the file's order. Lines that are none are passed over, as getpwuid(3) does.
pub fn entries(text: &[u8]) -> Vec<(u32, String)> {
    let lines = text.split(|byte| *byte == b'\n');
    let entry = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| (1..=MAX_NAME_BYTES).contains(&name.len()))?;
        let uid = fields.nth(1).and_then(|uid| std::str::from_utf8(uid).ok())?.parse().ok()?;
        (!name.starts_with(b"+") && !name.starts_with(b"-")).then(|| (uid, lossless(name)))
    };
    lines.filter_map(entry).take(MAX_ENTRIES).collect()
}

/// A range of user ids of a user namespace, and where it begins in the initial one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    inside: u32,
    outside: u32,
    count: u32,
}

/// All ranges; empty where nothing is mapped yet.
pub fn ranges(uid_map: &str) -> Vec<Range> {
    let range = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Range { inside: next()?, outside: next()?, count: next()? })
    };
    uid_map.lines().filter_map(range).collect()
}

/// The id in the initial user namespace; `None` where it has none.
pub fn outside(ranges: &[Range], uid: u32) -> Option<u32> {
    let range = ranges.iter().find(|range| uid.checked_sub(range.inside).is_some_and(|at| at < range.count))?;
    range.outside.checked_add(uid - range.inside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unit_users_passwd_lines_are_taken_as_the_c_library_takes_them() {
        let text = b"root:x:0:0:root:/root:/bin/sh\n\nbroken\n+::::::\nno:uid\nevil\x1b[2J\xff:x:7:7::/:/\nlast:x:4294967294:1::/:/";
        assert_eq!(
            entries(text),
            [(0, "root".to_owned()), (7, "evil\u{1b}[2J\\xff".to_owned()), (4_294_967_294, "last".to_owned())]
        );
        let long = [b"n".repeat(MAX_NAME_BYTES + 1), b":x:1:".to_vec()].concat();
        assert_eq!(entries(&long), []);
    }

    #[test]
    fn unit_users_ids_of_a_user_namespace_are_told_as_the_hosts() {
        let map = ranges("         0     100000      65536\n     65536       1000          1\n");
        assert_eq!(
            (outside(&map, 0), outside(&map, 33), outside(&map, 65_536)),
            (Some(100_000), Some(100_033), Some(1000))
        );
        assert_eq!((outside(&map, 65_537), outside(&[], 0)), (None, None), "mapped nowhere");
        assert_eq!(outside(&ranges("0 4294967295 9"), 5), None, "past the last id");
    }

    proptest! {
        #[test]
        fn unit_users_no_file_breaks_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200), map in ".{0,60}") {
            for (uid, _) in entries(&bytes) {
                outside(&ranges(&map), uid);
            }
        }
    }
}
