//! A program without libraries, so that its execution opens nothing else: it ends with [`STATUS`], at once, or where its own
//! name is no path when its standard input ends.

/// What it ends with.
pub const STATUS: i32 = 42;
/// Its own name where it is to wait.
pub const WAITS: &str = "wait";

const BASE: u64 = 0x40_0000;
const ELF_HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;
/// ```text
/// mov rax, [rsp+8]; cmp byte [rax], '/'; je end
/// xor eax, eax; xor edi, edi; mov rsi, rsp; push 1; pop rdx; syscall   (read)
/// end: push 42; pop rdi; push 60; pop rax; syscall                     (exit)
/// ```
const CODE: [u8; 30] = [
    0x48, 0x8b, 0x44, 0x24, 0x08, 0x80, 0x38, b'/', 0x74, 0x0c, 0x31, 0xc0, 0x31, 0xff, 0x48, 0x89, 0xe6, 0x6a, 0x01,
    0x5a, 0x0f, 0x05, 0x6a, 0x2a, 0x5f, 0x6a, 0x3c, 0x58, 0x0f, 0x05,
];

/// Its file, for x86-64.
#[must_use]
pub fn bytes() -> Vec<u8> {
    let start = ELF_HEADER + PROGRAM_HEADER;
    let length = start + CODE.len() as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // An executable for x86-64, version 1.
    file.extend([2_u16, 62].iter().flat_map(|half| half.to_le_bytes()));
    file.extend(1_u32.to_le_bytes());
    file.extend([BASE + start, ELF_HEADER, 0].iter().flat_map(|word| word.to_le_bytes()));
    file.extend(0_u32.to_le_bytes());
    file.extend([ELF_HEADER as u16, PROGRAM_HEADER as u16, 1, 0, 0, 0].iter().flat_map(|half| half.to_le_bytes()));
    // One segment, loaded, readable and executable.
    file.extend([1_u32, 5].iter().flat_map(|word| word.to_le_bytes()));
    file.extend([0, BASE, BASE, length, length, 4096].iter().flat_map(|word| word.to_le_bytes()));
    file.extend(CODE);
    file
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn unit_program_of_some_instructions_runs_and_ends_with_its_status() {
        let file = std::env::temp_dir().join(format!("palisade-program-{}", std::process::id()));
        fs::write(&file, bytes()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).unwrap();
        let status = Command::new(&file).args(["-a", "x"]).status().unwrap();
        fs::remove_file(&file).unwrap();
        assert_eq!(status.code(), Some(STATUS));
    }
}
