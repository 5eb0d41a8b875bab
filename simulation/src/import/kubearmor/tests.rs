//! Logs as KubeArmor writes them.

use palisade_kernel_abi::record::{FileOperation, Record, RecordReader};
use palisade_wire::trace::{Part, TraceReader};

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
    assert_eq!((done.records, done.skipped, done.workloads), (3, 2, 2));
    assert!(done.named[0].starts_with("line 4: ") && done.named[1].contains("\"Syscall\""), "{:?}", done.named);
    let lacks = done.lacks.join("\n");
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
    // The alert shows nothing of what is to be seen; the host's connection is a plain log.
    let seen = facts.iter().filter_map(|fact| match fact.what {
        What::Visible(slot, seen) => Some((slot, seen.to_string())),
        _ => None,
    });
    assert_eq!(seen.collect::<Vec<_>>(), [(Slot::HOST, "network".to_owned())]);
    assert_eq!(reader.header().visibility, Visibility::NONE);
    let is_shell = |fact: &&Fact| matches!(&fact.what, What::Process(process) if process.executable == "/bin/sh" && process.pid == 200);
    assert_eq!(facts.iter().filter(is_shell).count(), 1);
}

#[test]
fn unit_import_of_what_is_no_log_is_refused_with_the_reason() {
    let error = import(&b"hello\n{}\n"[..], Vec::new()).expect_err("no log");
    assert!(error.to_string().contains("line 1: it is no JSON object"), "{error}");
    for empty in ["", "\n\n"] {
        let error = import(empty.as_bytes(), Vec::new()).expect_err("no log").to_string();
        assert_eq!(error, "there is no log of KubeArmor in it: it has no line");
    }
}

/// The records of a trace, one after the other.
fn records(trace: &[u8], mut each: impl FnMut(&Record<'_>)) {
    let mut reader = TraceReader::open(trace).expect("a trace");
    while let Some(part) = reader.next_part().expect("bytes") {
        if let Part::Records(batches) = part {
            RecordReader::new(batches.bytes()).for_each(|record| each(&record.expect("a record")));
        }
    }
}

/// What a trace says to be damaged.
fn lost(trace: &[u8]) -> Vec<u64> {
    let mut reader = TraceReader::open(trace).expect("a trace");
    let parts = std::iter::from_fn(|| reader.next_part().expect("bytes"));
    let facts = parts.filter_map(|part| if let Part::Facts(facts) = part { Some(facts) } else { None });
    let losses = facts.flatten().filter_map(|fact| match fact.what {
        What::Loss(loss) => Some(loss.malformed),
        _ => None,
    });
    losses.collect()
}

#[test]
fn unit_import_says_in_the_trace_how_many_lines_may_have_told_of_more() {
    assert_eq!(lost(&import(LOGS.as_bytes(), Vec::new()).expect("imported").0), [1], "what is no JSON");
    let good = LOGS.lines().next().expect("a log");
    let long = "x".repeat(2 << 20);
    let logs = format!("{good}\n{long}\n{{}}\n{{\"Timestamp\":1\n");
    let (trace, done) = import(logs.as_bytes(), Vec::new()).expect("imported");
    assert_eq!((lost(&trace), done.unread, done.skipped), (vec![3], 3, 3));
    assert_eq!(lost(&import(good.as_bytes(), Vec::new()).expect("imported").0), [0; 0]);
    let other = import(OF_A_FILE.as_bytes(), Vec::new()).expect("imported");
    assert_eq!(
        (lost(&other.0), other.1.unread, other.1.skipped),
        (vec![], 0, 3),
        "what no record stands for is read and said"
    );
}

/// As a node writes them into its own file: other names of the same fields, of a host and of a container.
const OF_A_FILE: &str = r#"{"timestamp":1731000000,"updatedTime":"2024-11-07T17:20:00.250000Z","clusterName":"default","hostName":"node-1","containerID":"abc","namespaceName":"shop","podName":"web-0","labels":"app=web","hostPPid":100,"hostPid":200,"ppid":1,"pid":20,"uid":-2,"type":"ContainerLog","source":"/bin/sh","operation":"Process","resource":"/bin/ls -l","cwd":"/srv/","data":"syscall=SYS_EXECVE","result":"Passed","atags":null}
{"timestamp":1731000001,"hostName":"node-1","hostPid":9,"uid":0,"type":"HostLog","source":"/usr/bin/rm x","operation":"File","resource":"/root/x","data":"syscall=SYS_UNLINKAT flags=","result":"Operation not permitted"}
{"timestamp":1731000002,"hostName":"node-1","hostPid":9,"uid":0,"type":"HostLog","source":"/usr/bin/rm x","operation":"File","resource":"/root/x","data":"syscall=SYS_CHOWN userid=0","result":"No such hat"}
{"timestamp":1731000003,"hostName":"node-1","hostPid":9,"operation":"Process","resource":"/bin/su","data":"syscall=SYS_EXECVE","result":"Permission denied"}
{"timestamp":1731000004,"hostName":"node-1","hostPid":9,"operation":"Capabilities","resource":"x","data":"lsm=CAPABLE","result":"Permission denied"}
{"timestamp":1731000005,"hostName":"node-1","hostPid":9,"operation":"Network","resource":"remoteip=::1 port=53 protocol=UDP","data":"kprobe=udp_sendmsg,domain=AF_INET6","result":"Passed"}
{"timestamp":1731000006,"operation":"AlertThreshold","type":"SystemEvent","MaxAlertsPerSec":10,"DroppingAlertsInterval":30}
"#;

#[test]
fn unit_import_reads_logs_as_a_node_writes_them_to_a_file() {
    let (trace, done) = import(OF_A_FILE.as_bytes(), Vec::new()).expect("imported");
    assert_eq!((done.records, done.skipped, done.workloads), (4, 3, 2), "{:?}", done.named);
    assert_eq!(
        done.named,
        [
            "line 4: of an execution that failed",
            "line 5: no record stands for the operation \"Capabilities\" by CAPABLE",
            "line 7: no record stands for the operation \"AlertThreshold\"",
        ]
    );
    let mut told = Vec::new();
    records(&trace, |record| {
        told.push(match record.body {
            Body::Exec(exec) => {
                format!("{} {:?} {}", record.header.uid, exec.argument_count, String::from_utf8_lossy(exec.cwd.bytes))
            }
            Body::FileChange(change) => format!("{:?} {}", change.operation, change.result),
            Body::Connect(network) => format!("{:?} {} {}", network.destination, network.socket_type, network.domain),
            other => format!("{other:?}"),
        });
    });
    let (unlink, chown) = (FileOperation::Unlink, FileOperation::Chown);
    assert_eq!(
        told,
        [
            "4294967294 2 /srv/".to_owned(),
            format!("{unlink:?} -1"),
            format!("{chown:?} -13"),
            "Some((::1, 53)) 2 10".to_owned()
        ]
    );
    let lacks = done.lacks.join("\n");
    assert!(lacks.contains("1 results that have no number"), "{lacks}");
}

#[test]
fn unit_import_takes_a_class_of_acts_for_seen_from_the_first_log_of_it_on() {
    let log = |time: u64, operation: &str, resource: &str, policy: &str| {
        format!(
            "{{\"Timestamp\":{time},\"HostName\":\"n\",\"ContainerID\":\"abc\",\"PodName\":\"w\",\"HostPID\":9,\"Operation\":\"{operation}\",\"Resource\":\"{resource}\",\"PolicyName\":\"{policy}\"}}\n"
        )
    };
    let network = "remoteip=10.0.0.7 port=443 protocol=TCP";
    let logs = [
        log(1, "File", "/a", "p"),
        log(5, "File", "/b", ""),
        log(6, "File", "/c", ""),
        log(9, "Network", network, ""),
        log(10, "Process", "/bin/x", ""),
    ];
    let (trace, _) = import(logs.concat().as_bytes(), Vec::new()).expect("imported");
    let mut reader = TraceReader::open(&trace[..]).expect("a trace");
    let mut seen = Vec::new();
    while let Some(part) = reader.next_part().expect("bytes") {
        let Part::Facts(facts) = part else { continue };
        seen.extend(facts.into_iter().filter_map(|fact| match fact.what {
            What::Visible(_, seen) => Some(((fact.boot_ns - BEGIN_NS) / 1_000_000_000, seen.to_string())),
            _ => None,
        }));
    }
    assert_eq!(seen, [(4, "file".to_owned()), (8, "file,network".to_owned())]);
}

#[test]
fn unit_import_counts_a_line_that_is_too_long_once_and_goes_on_behind_it() {
    let long = format!("{{\"Resource\":\"{}\"}}", "x".repeat(3 << 20));
    let logs = format!("{long}\n{}", LOGS.lines().next().expect("a log"));
    let (trace, done) = import(logs.as_bytes(), Vec::new()).expect("imported");
    assert_eq!((done.records, done.skipped), (1, 1));
    assert_eq!(done.named, ["line 1: it is longer than a mebibyte"]);
    let mut number = 0;
    records(&trace, |_| number += 1);
    assert_eq!(number, 1);
}
