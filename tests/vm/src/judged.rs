//! A process that confines itself and then does what it is told, one system call a line, and says the errno of each: quicker than a process for
//! each act, and without a library to load under the profile.
//!
//! A line is a letter, a blank and an object; the answer is a number.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::act::{MARK, open_socket};

/// The actor's first argument that makes it one of these, before the name of its profile.
pub const JUDGED: &str = "--judged";
/// The first argument that makes the actor execute itself under the profile that the second names.
pub const UNDER: &str = "--under";
/// The same in the SELinux context that the second is.
pub const IN_CONTEXT: &str = "--in-context";
const ACTOR: &str = "/bin/vm_actor";
const CURRENT: &str = "/proc/self/attr/apparmor/current";

/// One system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// open(2) for reading.
    Read,
    /// open(2) for appending.
    Append,
    /// execve(2).
    Exec,
    /// unlink(2).
    Remove,
    /// rename(2), to the same name with `.new` at its end.
    Rename,
    /// link(2), to the same name with `.link` at its end.
    Link,
    /// chmod(2) to 0711.
    Chmod,
    /// truncate(2), by open(2) of it.
    Truncate,
    /// mkdir(2).
    MakeDirectory,
    /// A profile is asked for, to be confined by from now on.
    ChangeProfile,
    /// A context of SELinux is asked for, to be in from now on.
    ChangeContext,
    /// socket(2): `unix-stream`, `unix-dgram`, `inet-dgram`, `raw` or `packet`.
    Socket,
}

impl Call {
    const ALL: [(char, Self); 12] = [
        ('r', Self::Read),
        ('a', Self::Append),
        ('x', Self::Exec),
        ('u', Self::Remove),
        ('n', Self::Rename),
        ('l', Self::Link),
        ('m', Self::Chmod),
        ('t', Self::Truncate),
        ('d', Self::MakeDirectory),
        ('p', Self::ChangeProfile),
        ('c', Self::ChangeContext),
        ('s', Self::Socket),
    ];

    fn perform(self, object: &OsStr) -> io::Result<()> {
        let path = Path::new(object);
        let beside = |end: &str| Path::new(&[object, OsStr::new(end)].join(OsStr::new(""))).to_owned();
        match self {
            Self::Read => File::open(path).map(drop),
            Self::Append => OpenOptions::new().append(true).open(path).map(drop),
            Self::Exec => Command::new(path).arg(MARK).status().map(drop),
            Self::Remove => fs::remove_file(path),
            Self::Rename => fs::rename(path, beside(".new")),
            Self::Link => fs::hard_link(path, beside(".link")),
            Self::Chmod => fs::set_permissions(path, Permissions::from_mode(0o711)),
            Self::Truncate => OpenOptions::new().write(true).truncate(true).open(path).map(drop),
            Self::MakeDirectory => fs::create_dir(path),
            Self::ChangeProfile => fs::write(CURRENT, [b"changeprofile ", object.as_bytes()].concat()),
            Self::ChangeContext => fs::write("/proc/self/attr/current", object.as_bytes()),
            Self::Socket => open_socket(&object.to_string_lossy()),
        }
    }
}

/// The actor's side: takes the profile (`-`: none) and obeys until its standard input ends.
///
/// # Errors
/// Where the profile cannot be taken or a line is none.
pub fn obey(profile: &str) -> io::Result<()> {
    let lines = io::stdin().lock();
    let mut answers = io::stdout().lock();
    if profile != "-" {
        fs::write(CURRENT, format!("changeprofile {profile}"))?;
    }
    for line in lines.split(b'\n') {
        let line = line?;
        let [letter, b' ', object @ ..] = line.as_slice() else { return Err(io::ErrorKind::InvalidData.into()) };
        let call = Call::ALL.iter().find(|(known, _)| *known == char::from(*letter)).map(|(_, call)| *call);
        let done = call.ok_or(io::ErrorKind::InvalidData)?.perform(OsStr::from_bytes(object));
        let errno = done.err().map_or(0, |error| error.raw_os_error().unwrap_or(-1));
        writeln!(answers, "{errno}")?;
        answers.flush()?;
    }
    Ok(())
}

/// The actor's side of [`UNDER`]: as a container runtime does, the profile is asked for and an execution takes it. It does not return.
#[must_use]
pub fn execute_under(profile: &str, arguments: &[String]) -> io::Error {
    execute_as("/proc/self/attr/apparmor/exec", &format!("exec {profile}"), arguments)
}

/// The actor's side of [`IN_CONTEXT`]: a container runtime does the same with its process's label. It does not return.
#[must_use]
pub fn execute_in_context(context: &str, arguments: &[String]) -> io::Error {
    execute_as("/proc/self/attr/exec", context, arguments)
}

fn execute_as(attribute: &str, label: &str, arguments: &[String]) -> io::Error {
    match fs::write(attribute, label) {
        Ok(()) => Command::new("/proc/self/exe").args(arguments).exec(),
        Err(error) => error,
    }
}

/// The suite's side: such a process.
#[derive(Debug)]
pub struct Judged {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Judged {
    /// Starts one under the profile, or under none.
    ///
    /// # Errors
    /// Of starting it.
    pub fn start(profile: Option<&str>) -> io::Result<Self> {
        Self::spawn(&[JUDGED, profile.unwrap_or("-")])
    }

    /// Starts one in a context of SELinux.
    ///
    /// # Errors
    /// Of starting it.
    pub fn start_in_context(context: &str) -> io::Result<Self> {
        Self::spawn(&[IN_CONTEXT, context, JUDGED, "-"])
    }

    fn spawn(arguments: &[&str]) -> io::Result<Self> {
        let mut child = Command::new(ACTOR).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (orders, answers) = (child.stdin.take(), child.stdout.take());
        let answers = BufReader::new(answers.ok_or(io::ErrorKind::BrokenPipe)?);
        Ok(Self { child, orders, answers })
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The errno of a call, 0 for success.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn call(&mut self, call: Call, object: &str) -> io::Result<i32> {
        let letter = Call::ALL.iter().find(|(_, known)| *known == call).map_or('?', |(letter, _)| *letter);
        let orders = self.orders.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(orders, "{letter} {object}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        answer.trim().parse().map_err(|_| io::Error::other(format!("'{answer}' is no answer")))
    }
}

impl Drop for Judged {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Err(error) = self.child.wait() {
            eprintln!("a judged process stays: {error}");
        }
    }
}
