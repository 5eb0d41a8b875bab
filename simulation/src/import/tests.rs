//! Logs as KubeArmor writes them.

use palisade_domain::Slot;
use palisade_kernel_abi::record::{Body, RecordReader};
use palisade_wire::trace::{Fact, Part, TraceReader, What};

use super::*;

/// Two logs and an alert of KubeArmor v1, one line that is none, one of an operation without a record.
const LOGS: &str = r#"{"Timestamp":1731000000,"UpdatedTime":"2024-11-07T17:20:00.250000Z","ClusterName":"default","HostName":"node-1","NamespaceName":"wordpress","Owner":{"Ref":"Deployment","Name":"wp","Namespace":"wordpress"},"PodName":"wp-1","Labels":"app=wp,tier=front","ContainerID":"abc","ContainerName":"wp","ContainerImage":"wp:1","HostPPID":100,"HostPID":200,"PPID":1,"PID":20,"UID":33,"ParentProcessName":"/usr/sbin/apache2","ProcessName":"/bin/sh","Type":"ContainerLog","Source":"/usr/sbin/apache2","Operation":"Process","Resource":"/bin/sh -c id","Data":"syscall=SYS_EXECVE","Result":"Passed"}
{"Timestamp":1731000001,"UpdatedTime":"2024-11-07T17:20:01.500000Z","HostName":"node-1","NamespaceName":"wordpress","PodName":"wp-1","Labels":"app=wp,tier=front","ContainerID":"abc","ContainerName":"wp","HostPPID":100,"HostPID":200,"UID":33,"Source":"/bin/sh -c id","Operation":"File","Resource":"/etc/shadow","Data":"syscall=SYS_OPENAT fd=-100 flags=O_RDWR|O_CREAT","Result":"Permission denied","PolicyName":"p","Action":"Block"}
{"Timestamp":1731000002,"HostName":"node-1","ContainerID":"","HostPID":9,"Source":"/usr/bin/curl x","Operation":"Network","Resource":"remoteip=10.0.0.7 port=443 protocol=TCP","Data":"kprobe=tcp_connect domain=AF_INET","Result":"Passed"}
not json
{"Timestamp":1731000003,"HostName":"node-1","Operation":"Syscall","Resource":"x"}
"#;

#[test]
fn unit_import_makes_records_of_logs_and_says_what_they_lack() {
    let (bytes, done) = import(LOGS.as_bytes(), Vec::new()).expect("imported");
    assert_eq!((done.records, done.skipped, done.alerts, done.workloads), (3, 2, 1, 2));
    assert!(done.named[0].starts_with("line 4: ") && done.named[1].contains("\"Syscall\""), "{:?}", done.named);
    let lacks = done.lacks().join("\n");
    assert!(lacks.contains("whether logs were lost") && lacks.contains("decisions of 1 alerts"), "{lacks}");
    let mut reader = TraceReader::open(&bytes[..]).expect("a trace");
    assert_eq!(reader.header().unix_ns, 1_731_000_000_250_000_000);
    let (mut facts, mut records) = (Vec::<Fact>::new(), Vec::new());
    while let Some(part) = reader.next_part().expect("bytes") {
        match part {
            Part::Facts(more) => facts.extend(more),
            Part::Checkpoint(_) => {}
            Part::Records(batches) => records.push(batches.bytes().to_vec()),
        }
    }
    let records = records.concat();
    let records: Vec<_> = RecordReader::new(&records).map(|record| record.expect("a record")).collect();
    let Body::Exec(exec) = records[0].body else { panic!("{:?}", records[0]) };
    assert_eq!(exec.path.bytes, b"/bin/sh");
    assert_eq!(exec.arguments().collect::<Vec<_>>(), [&b"/bin/sh"[..], b"-c", b"id"]);
    let Body::Open(open) = records[1].body else { panic!("{:?}", records[1]) };
    assert_eq!((open.path.bytes, open.flags, open.result < 0), (&b"/etc/shadow"[..], 0o102, true));
    assert_eq!(records[1].header.boot_ns - records[0].header.boot_ns, 1_250_000_000);
    let Body::Connect(connect) = records[2].body else { panic!("{:?}", records[2]) };
    assert_eq!(connect.destination, Some(("10.0.0.7".parse().expect("an address"), 443)));
    assert_eq!(records.iter().map(|record| record.header.slot).collect::<Vec<_>>(), [1, 1, 0]);
    let is_named =
        |fact: &&Fact| matches!(&fact.what, What::WorkloadNamed(Slot(1), workload) if workload.labels.len() == 2);
    assert_eq!(facts.iter().filter(is_named).count(), 1);
    let is_shell = |fact: &&Fact| matches!(&fact.what, What::Process(process) if process.executable == "/bin/sh" && process.pid == 200);
    assert_eq!(facts.iter().filter(is_shell).count(), 1);
}

#[test]
fn unit_import_of_what_is_no_log_is_refused_with_the_reason() {
    let error = import(&b"hello\n{}\n"[..], Vec::new()).expect_err("no log");
    assert!(error.to_string().contains("line 1: it is no JSON object"), "{error}");
}
