//! The acts whose instructions the counter counts.

use std::{
    fs::{self, File, Permissions},
    hint::black_box,
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use palisade_bench::stopwatch::{nanoseconds_each, time};

use super::{FILE, FORBIDDEN};

/// By the names of their questions.
pub const ALL: [&str; 5] = ["open", "exec", "connect", "unlink", "write"];
/// A program of nine bytes, so that what an execution costs beside Palisade is small and always the same.
const PROGRAM: &str = "/bin/nothing";
/// The same under a name that a rule forbids.
pub const FORBIDDEN_PROGRAM: &str = "/bin/forbidden";
const DESTINATION: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9);
pub const FORBIDDEN_DESTINATION: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 10);
/// Calls for each count: a few times more where nobody waits.
const BRIEF: usize = 100;
/// Each is counted alone: one takes a tenth of the time between two ticks of the kernel, several would always meet one.
const EXECUTIONS: usize = 60;
const ROUNDS: usize = 7;

/// Instructions of one act, and of executions the middle count after the least one.
pub fn cost(act: &str) -> io::Result<Vec<f64>> {
    Ok(vec![match act {
        "open" => {
            // One that fails is cheap.
            File::open(FILE)?;
            nanoseconds_each(BRIEF, || (0..BRIEF).for_each(|_| drop(black_box(File::open(FILE)))))
        }
        "exec" => {
            let each = executions()?;
            return Ok(vec![each[0], each[EXECUTIONS / 2]]);
        }
        "connect" => {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.connect(DESTINATION)?;
            nanoseconds_each(BRIEF, || (0..BRIEF).for_each(|_| drop(black_box(socket.connect(DESTINATION)))))
        }
        "unlink" => unlink()?,
        "write" => {
            let file = File::create(beside("written"))?;
            file.write_at(b"x", 0)?;
            nanoseconds_each(BRIEF, || (0..BRIEF).for_each(|_| drop(black_box(file.write_at(b"x", 0)))))
        }
        other => return Err(io::Error::other(format!("no act '{other}'"))),
    }])
}

/// Each of [`EXECUTIONS`], from the least on.
fn executions() -> io::Result<Vec<f64>> {
    let execute = || Command::new(PROGRAM).status();
    if !execute()?.success() {
        return Err(io::Error::other("the program fails"));
    }
    let each = (0..EXECUTIONS).map(|_| time(|| drop(black_box(execute()))).1.as_nanos() as f64);
    let mut each: Vec<f64> = each.collect();
    each.sort_by(f64::total_cmp);
    Ok(each)
}

/// What is unlinked is made before, uncounted.
fn unlink() -> io::Result<f64> {
    let files: Vec<PathBuf> = (0..BRIEF).map(|number| beside(&format!("unlinked-{number}"))).collect();
    let mut fastest = Duration::MAX;
    for _ in 0..ROUNDS {
        files.iter().try_for_each(|file| File::create(file).map(drop))?;
        let (unlinked, duration) = time(|| files.iter().try_for_each(fs::remove_file));
        unlinked?;
        fastest = fastest.min(duration);
    }
    Ok(fastest.as_nanos() as f64 / files.len() as f64)
}

/// A file of seven components.
fn beside(name: &str) -> PathBuf {
    Path::new(FILE).with_file_name(name)
}

/// Whether what rules forbid is denied: `yes`, or what was not.
pub fn denied() -> io::Result<&'static str> {
    let is_denied =
        |result: io::Result<()>| result.is_err_and(|error| matches!(error.kind(), io::ErrorKind::PermissionDenied));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(match () {
        () if !is_denied(File::open(FORBIDDEN).map(drop)) => "the open is not denied",
        () if !is_denied(Command::new(FORBIDDEN_PROGRAM).status().map(drop)) => "the execution is not denied",
        () if !is_denied(socket.connect(FORBIDDEN_DESTINATION)) => "the connection is not denied",
        () => "yes",
    })
}

/// Makes the program below `root`, under both names.
pub fn make_programs(root: &Path) -> io::Result<()> {
    for name in [PROGRAM, FORBIDDEN_PROGRAM] {
        let path = root.join(name.trim_start_matches('/'));
        File::create(&path)?.write_all(&program())?;
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// An ELF executable that exits with 0.
fn program() -> Vec<u8> {
    /// xor edi, edi; mov eax, 60; syscall
    const CODE: [u8; 9] = [0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05];
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // ET_EXEC, EM_X86_64, version
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [BASE + HEADERS, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    // flags; sizes of header and program header, of which there is one; no sections
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    // PT_LOAD, readable and executable
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    let length = HEADERS + CODE.len() as u64;
    for word in [0, BASE, BASE, length, length, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(CODE);
    file
}
