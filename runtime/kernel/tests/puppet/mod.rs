//! A task that lives in a cgroup and does what it is told, one act after the other: for what a task is before and after something happens.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its part")]

use std::{
    ffi::CString,
    fs,
    io::{Read as _, Write as _},
    net::Ipv4Addr,
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use super::probe_bed::{Child, calls, errno_of, start};

/// What it can be told.
const OPEN: u8 = 1;
const OPEN_BY_CHILD: u8 = 2;
const OPEN_BY_MOVED_CHILD: u8 = 3;
const CONNECT: u8 = 4;
const CONNECT_BY_OLD: u8 = 5;
const ENTER: u8 = 6;
const TRACE: u8 = 7;
const END: u8 = 8;
const OPEN_BY_BORN_CHILD: u8 = 9;
const MOVE: u8 = 10;
const MOVE_THREAD: u8 = 11;

pub struct Puppet {
    child: Child,
    told: std::io::PipeWriter,
    said: std::io::PipeReader,
    /// Of who obeys, in this PID namespace.
    tid: u32,
}

/// How it comes to be in its cgroup.
#[derive(Clone, Copy)]
enum Comes {
    ByItself,
    ByItselfWithMounts,
    ByItsLeader,
    Moved,
}

impl Puppet {
    /// It entered by itself: the workload's code.
    pub fn in_cgroup(cgroup: &Path) -> Self {
        Self::new(cgroup, Comes::ByItself)
    }

    /// A thread of a process that entered by itself, which has done nothing yet; its leader waits.
    pub fn thread_in_cgroup(cgroup: &Path) -> Self {
        Self::new(cgroup, Comes::ByItsLeader)
    }

    /// The same, in a mount namespace of its own from then on.
    pub fn in_mounts_of_its_own(cgroup: &Path) -> Self {
        Self::new(cgroup, Comes::ByItselfWithMounts)
    }

    /// The test put it there: a container runtime's code.
    pub fn moved_into(cgroup: &Path) -> Self {
        Self::new(cgroup, Comes::Moved)
    }

    fn new(cgroup: &Path, comes: Comes) -> Self {
        let (mut orders, told) = std::io::pipe().unwrap();
        let (said, mut answers) = std::io::pipe().unwrap();
        let procs = cgroup.join("cgroup.procs");
        let child = start(|| {
            // It holds its own end of the orders, and would wait for ever for a test that has failed.
            calls::end_with_parent();
            let entered = match comes {
                Comes::Moved => true,
                Comes::ByItself | Comes::ByItsLeader => fs::write(&procs, "0").is_ok(),
                Comes::ByItselfWithMounts => fs::write(&procs, "0").is_ok() && calls::unshare(libc::CLONE_NEWNS) == 0,
            };
            // Made where it began: it is what it leaves with.
            let old = calls::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
            let mut live = || {
                answers.write_all(&[u8::from(!entered)]).unwrap();
                // SAFETY: it takes nothing, and always answers.
                answers.write_all(&unsafe { libc::gettid() }.to_ne_bytes()).unwrap();
                obey(&mut orders, &mut answers, old)
            };
            match comes {
                Comes::ByItsLeader => std::thread::scope(|process| process.spawn(live).join().unwrap_or(254)),
                _ => live(),
            }
        });
        let mut puppet = Self { child, told, said, tid: 0 };
        assert_eq!(puppet.hear(), 0, "it is there");
        let mut tid = [0; 4];
        puppet.said.read_exact(&mut tid).unwrap();
        puppet.tid = u32::from_ne_bytes(tid);
        if let Comes::Moved = comes {
            fs::write(cgroup.join("cgroup.procs"), puppet.child.pid.to_string()).unwrap();
        }
        puppet
    }

    fn hear(&mut self) -> i32 {
        let mut code = [0];
        self.said.read_exact(&mut code).unwrap();
        i32::from(code[0])
    }

    fn tell(&mut self, act: u8, number: u32, texts: [&[u8]; 2]) -> i32 {
        let mut order = vec![act];
        order.extend(number.to_ne_bytes());
        for text in texts {
            order.extend(u32::try_from(text.len()).unwrap().to_ne_bytes());
            order.extend(text);
        }
        self.told.write_all(&order).unwrap();
        self.hear()
    }

    /// 0 or errno, as of all that follow.
    pub fn open(&mut self, file: &Path) -> i32 {
        self.tell(OPEN, 0, [file.as_os_str().as_bytes(), b""])
    }

    pub fn open_by_child(&mut self, file: &Path) -> i32 {
        self.tell(OPEN_BY_CHILD, 0, [file.as_os_str().as_bytes(), b""])
    }

    /// A child that it moves into a cgroup before that opens the file.
    pub fn open_by_child_moved_into(&mut self, file: &Path, cgroup: &Path) -> i32 {
        self.tell(OPEN_BY_MOVED_CHILD, 0, [file.as_os_str().as_bytes(), cgroup.as_os_str().as_bytes()])
    }

    /// A child that it bears straight into a cgroup (clone3) opens the file.
    pub fn open_by_child_born_into(&mut self, file: &Path, cgroup: &Path) -> i32 {
        self.tell(OPEN_BY_BORN_CHILD, 0, [file.as_os_str().as_bytes(), cgroup.as_os_str().as_bytes()])
    }

    /// It moves the other one.
    pub fn put(&mut self, other: &Self, cgroup: &Path) -> i32 {
        self.tell(MOVE, other.child.pid.cast_unsigned(), [cgroup.as_os_str().as_bytes(), b""])
    }

    /// It moves the other thread, alone, into a threaded cgroup.
    pub fn put_thread(&mut self, other: &Self, cgroup: &Path) -> i32 {
        self.tell(MOVE_THREAD, other.tid, [cgroup.as_os_str().as_bytes(), b""])
    }

    pub fn connect(&mut self, port: u16) -> i32 {
        self.tell(CONNECT, u32::from(port), [b"", b""])
    }

    /// Over the socket that it made at first.
    pub fn connect_by_old_socket(&mut self, port: u16) -> i32 {
        self.tell(CONNECT_BY_OLD, u32::from(port), [b"", b""])
    }

    pub fn enter(&mut self, cgroup: &Path) -> i32 {
        self.tell(ENTER, 0, [cgroup.as_os_str().as_bytes(), b""])
    }

    pub fn connect_and_end(mut self, port: u16) -> i32 {
        let code = self.connect(port);
        self.end();
        code
    }

    /// 0, errno, or 1 where it was killed for it.
    pub fn trace_and_end(mut self, pid: i32) -> i32 {
        self.told.write_all(&[TRACE]).unwrap();
        let rest = [pid.cast_unsigned().to_ne_bytes(), 0_u32.to_ne_bytes(), 0_u32.to_ne_bytes()].concat();
        self.told.write_all(&rest).unwrap();
        let mut code = [1];
        // Nothing: it was killed.
        if self.said.read(&mut code).unwrap() == 0 {
            self.child.wait();
            return 1;
        }
        self.end();
        i32::from(code[0])
    }

    pub fn end(mut self) {
        assert_eq!(self.tell(END, 0, [b"", b""]), 0);
        self.child.wait();
    }
}

fn obey(orders: &mut std::io::PipeReader, answers: &mut std::io::PipeWriter, old: i32) -> i32 {
    loop {
        let mut act = [0];
        if orders.read_exact(&mut act).is_err() {
            return 0;
        }
        let number = word(orders);
        let texts = [text(orders), text(orders)];
        let code = match act[0] {
            OPEN => open(&texts[0]),
            OPEN_BY_CHILD => start(|| open(&texts[0])).code(),
            OPEN_BY_MOVED_CHILD => moved_child(&texts[0], &texts[1]),
            CONNECT => {
                let socket = calls::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
                let code = connect(socket, number);
                calls::close(socket);
                code
            }
            CONNECT_BY_OLD => connect(old, number),
            OPEN_BY_BORN_CHILD => born_child(&texts[0], &texts[1]),
            // 0 is whoever writes it.
            ENTER | MOVE => move_into(&texts[0], "cgroup.procs", number),
            MOVE_THREAD => move_into(&texts[0], "cgroup.threads", number),
            TRACE => errno_of(calls::trace(16, number.cast_signed())),
            _ => 0,
        };
        answers.write_all(&[u8::try_from(code).unwrap_or(253)]).unwrap();
        if act[0] == END {
            return 0;
        }
    }
}

fn moved_child(file: &CString, cgroup: &CString) -> i32 {
    let (mut moved, mut mover) = std::io::pipe().unwrap();
    let child = start(|| if moved.read_exact(&mut [0]).is_ok() { open(file) } else { 255 });
    let procs = Path::new(std::ffi::OsStr::from_bytes(cgroup.as_bytes())).join("cgroup.procs");
    fs::write(procs, child.pid.to_string()).unwrap();
    mover.write_all(b"x").unwrap();
    child.code()
}

fn move_into(cgroup: &CString, list: &str, pid: u32) -> i32 {
    let list = Path::new(std::ffi::OsStr::from_bytes(cgroup.as_bytes())).join(list);
    fs::write(list, pid.to_string()).map_or_else(|error| error.raw_os_error().unwrap_or(254), |()| 0)
}

fn born_child(file: &CString, cgroup: &CString) -> i32 {
    let place = calls::open(cgroup, libc::O_RDONLY | libc::O_DIRECTORY);
    let pid = calls::clone_into(place);
    if pid == 0 {
        let code = open(file);
        // SAFETY: takes a number and does not return; the child shares nothing that would need an end in order.
        unsafe { libc::_exit(code) }
    }
    calls::close(place);
    if pid < 0 { errno_of(pid) } else { Child { pid }.code() }
}

fn word(orders: &mut std::io::PipeReader) -> u32 {
    let mut bytes = [0; 4];
    orders.read_exact(&mut bytes).unwrap();
    u32::from_ne_bytes(bytes)
}

fn text(orders: &mut std::io::PipeReader) -> CString {
    let mut bytes = vec![0; word(orders) as usize];
    orders.read_exact(&mut bytes).unwrap();
    CString::new(bytes).unwrap()
}

fn open(path: &CString) -> i32 {
    let descriptor = calls::open(path, libc::O_RDONLY);
    let code = errno_of(descriptor);
    calls::close(descriptor);
    code
}

fn connect(socket: i32, port: u32) -> i32 {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&2_u16.to_ne_bytes());
    bytes[2..4].copy_from_slice(&u16::try_from(port).unwrap().to_be_bytes());
    bytes[4..8].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
    // A denial is a denial: BPF LSM says EACCES.
    match errno_of(calls::connect(socket, &bytes)) {
        libc::EACCES => libc::EPERM,
        code => code,
    }
}
