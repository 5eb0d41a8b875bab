//! What changes a task's rights or the kernel, and all other system calls, in words.

use palisade_domain::{KubeArmorOperation, Operation, text::lossless};
use palisade_kernel_abi::record::{
    Bpf, Capability, CredentialSet, Credentials, CredentialsOperation, Dns, DnsOperation, Folded, IoUring,
    IoUringOperation, Module, ModuleOperation, Namespace, NamespaceOperation, ProcessAccess, ProcessAccessOperation,
    Signal, Syscall,
};

use super::act::Act;
use crate::names;

const SYSCALL: KubeArmorOperation = KubeArmorOperation::Syscall;

/// Ids or capabilities were set. What changed is told as `before->after`; where nothing is known of before, what there is now.
pub fn credentials(credentials: &Credentials) -> Act {
    let (operation, call) = match credentials.operation {
        CredentialsOperation::Setuid => (Operation::Setuid, "SETUID"),
        CredentialsOperation::Setreuid => (Operation::Setuid, "SETREUID"),
        CredentialsOperation::Setresuid => (Operation::Setuid, "SETRESUID"),
        CredentialsOperation::Setfsuid => (Operation::Setuid, "SETFSUID"),
        CredentialsOperation::Setgid => (Operation::Setgid, "SETGID"),
        CredentialsOperation::Setregid => (Operation::Setgid, "SETREGID"),
        CredentialsOperation::Setresgid => (Operation::Setgid, "SETRESGID"),
        CredentialsOperation::Setfsgid => (Operation::Setgid, "SETFSGID"),
        CredentialsOperation::Setgroups => (Operation::Setgroups, "SETGROUPS"),
        CredentialsOperation::Capset => (Operation::Capset, "CAPSET"),
    };
    let changes = changes(credentials.before.as_ref(), &credentials.after);
    let words: Vec<String> = changes.iter().map(|(key, value)| format!("{key} {value}")).collect();
    let resource = if words.is_empty() { "no change".to_owned() } else { words.join(", ") };
    let act = changes
        .into_iter()
        .fold(Act::new(operation, SYSCALL, resource).called(call), |act, (key, value)| act.with(key, value));
    match credentials.operation {
        // They return the id that was.
        CredentialsOperation::Setfsuid | CredentialsOperation::Setfsgid => act,
        _ => act.returned(credentials.result),
    }
}

type Of<T> = fn(&CredentialSet) -> T;

fn changes(before: Option<&CredentialSet>, after: &CredentialSet) -> Vec<(&'static str, String)> {
    let ids: [(&'static str, Of<u32>); 8] = [
        ("uid", |set| set.uid),
        ("euid", |set| set.euid),
        ("suid", |set| set.suid),
        ("fsuid", |set| set.fsuid),
        ("gid", |set| set.gid),
        ("egid", |set| set.egid),
        ("sgid", |set| set.sgid),
        ("fsgid", |set| set.fsgid),
    ];
    let sets: [(&'static str, Of<u64>); 3] = [
        ("effective", |set| set.effective),
        ("permitted", |set| set.permitted),
        ("inheritable", |set| set.inheritable),
    ];
    let told = |key, before: Option<String>, after: String| match before {
        Some(before) if before == after => None,
        Some(before) => Some((key, format!("{before}->{after}"))),
        None => Some((key, after)),
    };
    let ids =
        ids.iter().filter_map(|(key, of)| told(*key, before.map(|set| of(set).to_string()), of(after).to_string()));
    let set = |of: Of<u64>| move |set| names::capabilities(of(set));
    let sets = sets.iter().filter_map(|(key, of)| told(*key, before.map(set(*of)), set(*of)(after)));
    ids.chain(sets).collect()
}

/// A signal was sent.
pub fn signal(signal: &Signal) -> Act {
    let target = if signal.target_tgid == 0 { signal.asked.to_string() } else { signal.target_tgid.to_string() };
    Act::new(Operation::Kill, SYSCALL, format!("{} to pid {target}", names::signal(signal.signal)))
        .called("KILL")
        .with("signal", names::signal(signal.signal))
        .with("asked", signal.asked.to_string())
        .with("pid", signal.target_tgid.to_string())
        .returned(signal.result)
}

/// A kernel module, or a kernel.
pub fn module(module: &Module<'_>) -> Act {
    let (operation, call) = match module.operation {
        ModuleOperation::Init => (Operation::ModuleLoad, "INIT_MODULE"),
        ModuleOperation::Finit => (Operation::ModuleLoad, "FINIT_MODULE"),
        // The kernel's own word, whatever call or request brought it.
        ModuleOperation::Loaded => (Operation::ModuleLoad, ""),
        ModuleOperation::Delete => (Operation::ModuleUnload, "DELETE_MODULE"),
        ModuleOperation::Kexec => (Operation::Kexec, "KEXEC_LOAD"),
    };
    let name = if module.path.bytes.is_empty() { &module.name } else { &module.path };
    let act = Act::on(operation, SYSCALL, name);
    let act = if call.is_empty() { act.with("tracepoint", "MODULE_LOAD".to_owned()) } else { act.called(call) };
    act.with_text("name", &module.name).with("flags", format!("{:#x}", module.flags)).returned(module.result)
}

/// `bpf(2)`.
pub fn bpf(bpf: &Bpf<'_>) -> Act {
    let command = names::bpf_command(bpf.command);
    let resource =
        if bpf.name.bytes.is_empty() { command.clone() } else { format!("{command} {}", lossless(bpf.name.bytes)) };
    let mut act = Act::new(Operation::Bpf, SYSCALL, resource).called("BPF").with("cmd", command);
    // Of other commands the type has no meaning.
    if matches!(bpf.command, 0 | 5) {
        act = act.with("type", bpf.object_type.to_string());
    }
    if bpf.object_id != 0 {
        act = act.with("id", bpf.object_id.to_string());
    }
    act.with_text("name", &bpf.name).returned(bpf.result)
}

/// A task took new namespaces.
pub fn namespace(namespace: &Namespace) -> Act {
    let (operation, call) = match namespace.operation {
        NamespaceOperation::Unshare => (Operation::Unshare, "UNSHARE"),
        NamespaceOperation::Setns => (Operation::Setns, "SETNS"),
    };
    let flags = names::namespace_flags(namespace.flags);
    let act = Act::new(operation, SYSCALL, flags.clone()).called(call).with("flags", flags);
    let of = [
        ("mntNs", namespace.mnt),
        ("pidNs", namespace.pid_for_children),
        ("netNs", namespace.net),
        ("userNs", namespace.user),
        ("utsNs", namespace.uts),
        ("ipcNs", namespace.ipc),
        ("cgroupNs", namespace.cgroup),
        ("timeNs", namespace.time),
    ];
    let known = of.into_iter().filter(|(_, inode)| *inode != 0);
    known.fold(act, |act, (key, inode)| act.with(key, inode.to_string())).returned(namespace.result)
}

/// A ring, or a request of one.
pub fn io_uring(ring: &IoUring<'_>) -> Act {
    let act = match ring.operation {
        IoUringOperation::Setup => Act::new(Operation::IoUringSetup, SYSCALL, format!("flags {:#x}", ring.flags))
            .called("IO_URING_SETUP")
            .with("flags", format!("{:#x}", ring.flags)),
        IoUringOperation::Register => Act::new(Operation::IoUringRegister, SYSCALL, format!("opcode {}", ring.flags))
            .called("IO_URING_REGISTER")
            .with("opcode", ring.flags.to_string()),
        IoUringOperation::Submit => submitted(ring),
    };
    act.returned(ring.result)
}

fn submitted(ring: &IoUring<'_>) -> Act {
    let opcode = names::io_uring_opcode(ring.opcode);
    let on = if ring.path.bytes.is_empty() { &ring.file } else { &ring.path };
    let resource = if on.bytes.is_empty() { opcode.clone() } else { format!("{opcode} {}", lossless(on.bytes)) };
    Act::new(Operation::IoUringSubmit, SYSCALL, resource)
        .cut(on.cut)
        .with("tracepoint", "IO_URING_SUBMIT_REQ".to_owned())
        .with("opcode", opcode)
        .with("fd", ring.descriptor.to_string())
        .with("flags", format!("{:#x}", ring.flags))
        .with_text("path", &ring.path)
        .with_text("file", &ring.file)
}

/// Another process' memory.
pub fn process_access(access: &ProcessAccess<'_>) -> Act {
    let (operation, call) = match access.operation {
        ProcessAccessOperation::Read => (Operation::ProcessRead, "PROCESS_VM_READV"),
        ProcessAccessOperation::Write => (Operation::ProcessWrite, "PROCESS_VM_WRITEV"),
    };
    let resource = format!("pid {} ({})", access.target_tgid, lossless(access.target_exe.bytes));
    Act::new(operation, SYSCALL, resource)
        .cut(access.target_exe.cut)
        .called(call)
        .with("pid", access.target_tgid.to_string())
        .returned(access.result)
}

/// A name was asked for or answered.
pub fn dns(dns: &Dns<'_>) -> Act {
    let (operation, message) = match dns.operation {
        DnsOperation::Question => (Operation::DnsQuestion, "QUESTION"),
        DnsOperation::Answer => (Operation::DnsAnswer, "ANSWER"),
    };
    let mut act = Act::on(operation, KubeArmorOperation::Network, &dns.name)
        .with("dns", message.to_owned())
        .with_text("domain", &dns.name)
        .with("qtype", names::dns_type(dns.query_type))
        .with("protocol", names::protocol(2, dns.transport));
    if let Some((address, port)) = dns.server {
        act = act.with("server", std::net::SocketAddr::new(address, port).to_string());
    }
    if dns.operation == DnsOperation::Answer {
        let addresses: Vec<String> = dns.addresses().map(|address| address.to_string()).collect();
        act = act.with("rcode", names::dns_rcode(dns.rcode)).with("answers", dns.answers.to_string());
        if !addresses.is_empty() {
            act = act.with("addresses", addresses.join(","));
        }
        if dns.truncated || dns.incomplete {
            act = act.with("addressesCut", "true".to_owned());
        }
    }
    act
}

/// A capability was asked for.
pub fn capability(capability: &Capability) -> Act {
    let name = names::capability(capability.capability);
    Act::new(Operation::Capable, KubeArmorOperation::Capabilities, name.clone())
        .with("lsm", "CAPABLE".to_owned())
        .with("capability", name)
        .returned(capability.result)
}

/// Any system call.
pub fn syscall(call: &Syscall) -> Act {
    let name = names::syscall(call.number, call.compat);
    let mut act = Act::new(Operation::Syscall, SYSCALL, name.trim_start_matches("SYS_").to_lowercase());
    act = act.with("syscall", name);
    if call.compat {
        act = act.with("abi", "i386".to_owned());
    } else if call.x32 {
        act = act.with("abi", "x32".to_owned());
    }
    let keys = ["arg0", "arg1", "arg2", "arg3", "arg4", "arg5"];
    let arguments = keys.into_iter().zip(call.arguments);
    arguments.fold(act, |act, (key, value)| act.with(key, format!("{value:#x}"))).returned(call.result)
}

/// So many equal acts were not told. `of` is the time of the line that they equal, as its `time` has it.
pub fn folded(folded: &Folded, unix_minus_boot_ns: u64) -> Act {
    let kind = format!("{:?}", folded.of_kind).to_lowercase();
    Act::new(Operation::Repeated, SYSCALL, format!("{} more of {kind}", folded.repeats))
        .with("kind", kind)
        .with("repeats", folded.repeats.to_string())
        .with("of", folded.of_boot_ns.saturating_add(unix_minus_boot_ns).to_string())
        .with("last", folded.last_ns.saturating_add(unix_minus_boot_ns).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_kernel_credentials_tell_what_changed_and_from_what() {
        let before = CredentialSet { uid: 1000, euid: 1000, effective: 0, ..CredentialSet::default() };
        let after = CredentialSet { uid: 1000, euid: 0, effective: 1 << 21, ..CredentialSet::default() };
        let set = Credentials { operation: CredentialsOperation::Setresuid, before: Some(before), after, result: 0 };
        assert_eq!(credentials(&set).subject.resource, "euid 1000->0, effective none->CAP_SYS_ADMIN");
        let same = Credentials { before: Some(after), ..set };
        assert_eq!(credentials(&same).subject.resource, "no change");
        let was = Credentials { operation: CredentialsOperation::Setfsuid, result: 1000, ..set };
        assert_eq!(credentials(&was).result, None, "an id is no error");
    }

    #[test]
    fn unit_kernel_system_call_of_the_32_bit_table_has_that_tables_name() {
        let call = Syscall { number: 5, compat: true, result: -13, arguments: [1, 2, 3, 4, 5, 6], x32: false };
        let act = syscall(&call);
        assert_eq!((act.subject.resource.as_str(), act.result), ("open", Some(-13)));
        assert!(act.details.contains(&("abi", "i386".into())) && act.details.contains(&("arg5", "0x6".into())));
    }

    #[test]
    fn unit_kernel_dns_answer_tells_its_addresses_and_that_there_are_more() {
        let bytes = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 1];
        use palisade_kernel_abi::record::Text;
        let answer = Dns {
            operation: DnsOperation::Answer,
            name: Text { bytes: b"www.example.com", ..Text::default() },
            address_bytes: Text { bytes: &bytes, ..Text::default() },
            transport: 17,
            query_type: 1,
            incomplete: true,
            server: Some(([127, 0, 0, 53].into(), 53)),
            ..Dns::default()
        };
        let act = dns(&answer);
        for expected in
            [("addresses", "192.0.2.1"), ("addressesCut", "true"), ("qtype", "A"), ("server", "127.0.0.53:53")]
        {
            assert!(act.details.contains(&(expected.0, expected.1.into())), "{expected:?}: {:?}", act.details);
        }
    }
}
