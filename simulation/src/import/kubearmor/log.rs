//! One log or alert of KubeArmor, and the act that it tells of.
//!
//! Its fields have two families of names: those of the feed (`HostPID`, as karmor prints it) and those of the file that a node writes (`hostPid`).
//! Both are read, in all versions: a field that is not there is empty.
//!
//! Invariant: an act is of the kind that the log's own words say (its call, or the LSM hook), and of none where they say nothing of it.

use std::net::IpAddr;

use palisade_domain::{ContainerId, Workload, WorkloadKind};
use palisade_kernel_abi::record::{Body, Exec, FileChange, FileOperation, Network, NetworkOperation, Open, Script};
use serde::Deserialize;

use crate::import::writing::{path, text};

const EACCES: i32 = 13;
/// Words of results, as strerror(3) has them.
const ERRORS: [(&str, i32); 16] = [
    ("Permission denied", EACCES),
    ("Operation not permitted", 1),
    ("No such file or directory", 2),
    ("File exists", 17),
    ("Not a directory", 20),
    ("Is a directory", 21),
    ("Invalid argument", 22),
    ("Text file busy", 26),
    ("Read-only file system", 30),
    ("Too many levels of symbolic links", 40),
    ("No such device or address", 6),
    ("No such process", 3),
    ("Connection refused", 111),
    ("Connection timed out", 110),
    ("Network is unreachable", 101),
    ("Operation now in progress", 115),
];

/// The fields that are read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Log {
    #[serde(alias = "UpdatedTime")]
    updated_time: String,
    #[serde(alias = "Timestamp")]
    pub timestamp: u64,
    #[serde(alias = "ClusterName")]
    pub cluster_name: String,
    #[serde(alias = "HostName")]
    pub host_name: String,
    #[serde(alias = "NamespaceName")]
    namespace_name: String,
    #[serde(alias = "PodName")]
    pod_name: String,
    #[serde(alias = "Labels")]
    labels: String,
    #[serde(rename = "containerID", alias = "ContainerID")]
    pub container_id: String,
    #[serde(alias = "ContainerName")]
    container_name: String,
    #[serde(alias = "ContainerImage")]
    container_image: String,
    #[serde(rename = "hostPPid", alias = "HostPPID")]
    pub host_ppid: i64,
    #[serde(alias = "HostPID")]
    pub host_pid: i64,
    #[serde(alias = "UID")]
    pub uid: i64,
    #[serde(alias = "Source")]
    pub source: String,
    #[serde(alias = "Operation")]
    pub operation: String,
    #[serde(alias = "Resource")]
    resource: String,
    #[serde(alias = "Cwd")]
    cwd: String,
    #[serde(alias = "Data")]
    data: String,
    #[serde(alias = "Result")]
    result: String,
    #[serde(alias = "PolicyName")]
    pub policy_name: String,
}

/// A number of 32 bits that KubeArmor has with a sign.
#[must_use]
pub fn wrapped(number: i64) -> u32 {
    u32::try_from(number).unwrap_or_else(|_| i32::try_from(number).map_or(0, i32::cast_unsigned))
}

impl Log {
    /// Nanoseconds since 1970: `UpdatedTime` where it can be read, else whole seconds.
    #[must_use]
    pub fn unix_ns(&self) -> u64 {
        let fraction =
            self.updated_time.strip_suffix('Z').and_then(|text| text.split_once('.')).map(|(_, digits)| digits);
        let nanos = fraction.filter(|digits| digits.len() <= 9 && digits.bytes().all(|digit| digit.is_ascii_digit()));
        let nanos: u64 = nanos.and_then(|digits| format!("{digits:0<9}").parse().ok()).unwrap_or(0);
        self.timestamp.saturating_mul(1_000_000_000).saturating_add(nanos)
    }

    #[must_use]
    pub fn workload(&self) -> Workload {
        let is_host = self.container_id.is_empty();
        let pairs = self.labels.split(',').filter_map(|pair| pair.split_once('='));
        Workload {
            kind: if is_host { WorkloadKind::Host } else { WorkloadKind::Container },
            name: if is_host { self.host_name.clone() } else { self.pod_name.clone() },
            namespace: self.namespace_name.clone(),
            container: self.container_name.clone(),
            container_id: (!is_host).then(|| ContainerId(self.container_id.clone())),
            image: self.container_image.clone(),
            labels: pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect(),
        }
    }

    /// The word after `key=` in its data, or in its resource.
    fn word(&self, key: &str) -> Option<&str> {
        let words = self.data.split_whitespace().chain(self.resource.split_whitespace());
        words
            .filter_map(|word| word.split_once('='))
            .find(|(name, _)| name.eq_ignore_ascii_case(key))
            .map(|(_, value)| value)
    }

    /// The call without `SYS_`, or the hook of the LSM.
    fn call(&self) -> String {
        let call = self.word("syscall").or_else(|| self.word("lsm")).unwrap_or_default().to_uppercase();
        call.strip_prefix("SYS_").unwrap_or(&call).to_owned()
    }

    /// 0, or a negative errno; none where its words are no known error's.
    #[must_use]
    pub fn result(&self) -> Option<i32> {
        if matches!(self.result.as_str(), "" | "Passed") {
            return Some(0);
        }
        ERRORS.iter().find(|(words, _)| *words == self.result).map(|(_, errno)| -errno)
    }

    fn failed(&self) -> i32 {
        self.result().unwrap_or(-EACCES)
    }

    /// The words of its resource, each ended by NUL: an executed file's name, and its arguments.
    #[must_use]
    pub fn arguments(&self) -> Vec<u8> {
        let words = self.resource.split_whitespace();
        words.flat_map(|word| word.bytes().chain([0])).collect()
    }

    /// What was done, `arguments` being [`Self::arguments`]; or why no record stands for it.
    ///
    /// # Errors
    /// In words.
    pub fn act<'a>(&'a self, arguments: &'a [u8]) -> Result<Body<'a>, String> {
        match self.operation.as_str() {
            "Process" if self.failed() != 0 => Err("of an execution that failed".into()),
            "Process" => {
                let executable = self.resource.split_whitespace().next().unwrap_or_default();
                // One word shows no execution without a script, as the one argument of a program does: it is what was asked for, and not
                // what an interpreter was given in its place.
                let words = arguments.iter().filter(|byte| **byte == 0).count();
                let argument_count = if words == 1 { 0 } else { words };
                Ok(Body::Exec(Exec {
                    path: path(executable.as_bytes(), false),
                    cwd: path(self.cwd.as_bytes(), false),
                    argument_bytes: text(arguments),
                    argument_count: u32::try_from(argument_count).unwrap_or(u32::MAX),
                    tty: 0,
                    script: Script::Untold,
                }))
            }
            "File" => self.file(),
            "Network" => self.network(),
            other => {
                let call = self.call();
                let call = if call.is_empty() { String::new() } else { format!(" by {call}") };
                Err(format!("no record stands for the operation {other:?}{call}"))
            }
        }
    }

    fn file(&self) -> Result<Body<'_>, String> {
        let result = self.failed();
        let name = path(self.resource.as_bytes(), result != 0);
        let operation = match self.call().as_str() {
            // Logs of older versions do not say it, and have opens only.
            "" | "OPEN" | "OPENAT" | "OPENAT2" | "CREAT" | "FILE_OPEN" => {
                let flags = flags(self.word("flags").unwrap_or_default());
                return Ok(Body::Open(Open { path: name, flags, result }));
            }
            "UNLINK" | "UNLINKAT" | "PATH_UNLINK" => FileOperation::Unlink,
            "RMDIR" | "PATH_RMDIR" => FileOperation::Rmdir,
            "MKDIR" | "MKDIRAT" | "PATH_MKDIR" => FileOperation::Mkdir,
            "MKNOD" | "MKNODAT" | "PATH_MKNOD" => FileOperation::Mknod,
            "CHOWN" | "FCHOWNAT" | "PATH_CHOWN" => FileOperation::Chown,
            "CHMOD" | "FCHMODAT" | "PATH_CHMOD" => FileOperation::Chmod,
            "TRUNCATE" | "PATH_TRUNCATE" => FileOperation::Truncate,
            "SETXATTR" | "INODE_SETXATTR" => FileOperation::SetXattr,
            "REMOVEXATTR" | "INODE_REMOVEXATTR" => FileOperation::RemoveXattr,
            "WRITE" | "FILE_PERMISSION" => FileOperation::Write,
            other => return Err(format!("no record stands for a file's {other}")),
        };
        Ok(Body::FileChange(FileChange {
            operation,
            path: name,
            uid: u32::MAX,
            gid: u32::MAX,
            result,
            ..FileChange::default()
        }))
    }

    fn network(&self) -> Result<Body<'_>, String> {
        let text = format!("{} {}", self.resource, self.data).to_uppercase();
        let address: Option<IpAddr> =
            self.word("remoteip").or_else(|| self.word("sin_addr")).and_then(|text| text.parse().ok());
        let port: Option<u16> = self.word("port").or_else(|| self.word("sin_port")).and_then(|text| text.parse().ok());
        let destination = address.zip(port);
        let call = self.call();
        let operation = match (call.as_str(), destination) {
            ("BIND" | "SOCKET_BIND", Some(_)) => NetworkOperation::Bind,
            ("LISTEN" | "SOCKET_LISTEN" | "ACCEPT" | "SOCKET_ACCEPT", _) => {
                return Err("of a network operation that is neither a socket nor a connection to an address".into());
            }
            (_, Some(_)) => NetworkOperation::Connect,
            ("SOCKET" | "SOCKET_CREATE", None) => NetworkOperation::Socket,
            _ => return Err("of a network operation that is neither a socket nor a connection to an address".into()),
        };
        let is_v6 = address.is_some_and(|address| address.is_ipv6()) || text.contains("AF_INET6");
        let is_other = !is_v6 && text.contains("AF_") && !text.contains("AF_INET");
        if is_other && destination.is_none() {
            return Err("of a socket of a family that no address is of".into());
        }
        // What its words say; of neither nothing is told.
        let (socket_type, protocol) = match () {
            () if text.contains("UDP") || text.contains("SOCK_DGRAM") => (2, 17),
            () if text.contains("TCP") || text.contains("SOCK_STREAM") => (1, 6),
            () if text.contains("SOCK_RAW") => (3, 0),
            () => (0, 0),
        };
        let network = Network {
            operation,
            domain: if is_v6 { 10 } else { 2 },
            socket_type,
            protocol,
            destination,
            user: false,
            result: self.failed(),
        };
        Ok(match operation {
            NetworkOperation::Socket => Body::Socket(network),
            NetworkOperation::Bind => Body::Bind(network),
            _ => Body::Connect(network),
        })
    }
}

/// `O_RDWR|O_CREAT` in numbers; what is no name of these counts as reading.
fn flags(names: &str) -> u32 {
    names.split('|').fold(0, |flags, name| {
        flags
            | match name {
                "O_WRONLY" => 1,
                "O_RDWR" => 2,
                "O_CREAT" => 0o100,
                "O_EXCL" => 0o200,
                "O_TRUNC" => 0o1000,
                "O_APPEND" => 0o2000,
                "O_NONBLOCK" => 0o4000,
                "O_DIRECTORY" => 0o200_000,
                "O_NOFOLLOW" => 0o400_000,
                "O_CLOEXEC" => 0o2_000_000,
                _ => 0,
            }
    })
}
