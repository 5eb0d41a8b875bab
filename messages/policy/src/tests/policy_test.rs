//! `PolicyTest` documents.

use palisade_domain::{Action, Posture, WorkloadKind};

use super::fixture;
use crate::{
    PolicyTest,
    policy_test::{Act, Expectation, PolicySource},
};

const START: &str = "apiVersion: palisade.dev/v1alpha1\nkind: PolicyTest\nname: t\npolicies: []\n\
                     workloads: [{name: web}, {name: node, host: true}]\n";

fn messages(text: &str) -> Vec<String> {
    let diagnostics = PolicyTest::parse("t.yaml", text.as_bytes()).expect_err("it was accepted");
    diagnostics.iter().map(ToString::to_string).collect()
}

#[test]
fn unit_policy_test_reads_the_whole_format() {
    let test = PolicyTest::parse("t.yaml", &fixture("policy-test.yaml")).unwrap();
    assert_eq!(test.name, "web pods may not read the shadow file");
    assert_eq!((test.postures.file, test.postures.network), (Posture::Audit, Posture::Block));
    assert_eq!(test.namespaces[0].annotations["kubearmor-file-posture"], "block");
    assert_eq!(test.workloads[0].workload.container, "main");
    assert_eq!(test.workloads[1].workload.kind, WorkloadKind::Host);
    let [PolicySource::File { path, at }, PolicySource::Inline(inline)] = test.policies.as_slice() else {
        panic!("{:?}", test.policies)
    };
    assert_eq!((path.as_str(), at.line), ("deny-shadow.yaml", 11));
    assert_eq!(inline.policies[0].reference.name, "no-sleep");
    let Expectation::Cases(cases) = &test.expectation else { panic!("{:?}", test.expectation) };
    assert_eq!(cases.len(), 5);
    let Act::Exec(exec) = &cases[0].act else { panic!("{:?}", cases[0]) };
    assert_eq!(exec.args, ["sleep", "1", "2"]);
    assert_eq!((exec.uid, exec.owner, exec.tty), (1000, 0, false));
    let Act::Open(open) = &cases[1].act else { panic!("{:?}", cases[1]) };
    assert_eq!((open.write, open.uid, open.owner, open.tty), (true, u32::MAX, 7, true));
    assert_eq!(open.source, None);
    let Act::Socket(socket) = &cases[2].act else { panic!("{:?}", cases[2]) };
    assert_eq!((socket.domain, socket.kind, socket.protocol), (10, 2, 17));
    let Act::Connect(connect) = &cases[3].act else { panic!("{:?}", cases[3]) };
    assert_eq!((connect.port, connect.kind, connect.protocol), (443, 1, 6));
    assert_eq!(cases[1].expect.action, Action::Audit);
    assert_eq!(cases[1].expect.tags.as_deref(), Some(["a".to_owned(), "b".to_owned()].as_slice()));
    assert_eq!(cases[3].expect.tags, Some(vec![]));
    assert_eq!(cases[4].expect.tags, None);
}

#[test]
fn unit_policy_test_reads_acts_on_names_capabilities_and_system_calls() {
    let text = format!(
        "{START}cases:\n- {{name: a, workload: web, dns: {{name: WWW.Example.com.}}, expect: {{action: Block}}}}\n- {{name: b, workload: \
         web, capability: {{name: CAP_NET_RAW, source: /bin/ping}}, expect: {{action: Block}}}}\n- {{name: c, workload: web, syscall: \
         {{name: umount, path: /mnt}}, expect: {{action: Audit}}}}\n"
    );
    let test = PolicyTest::parse("t.yaml", text.as_bytes()).unwrap();
    let Expectation::Cases(cases) = &test.expectation else { panic!("{:?}", test.expectation) };
    let Act::Dns(dns) = &cases[0].act else { panic!("{:?}", cases[0]) };
    assert_eq!(dns.name, "www.example.com");
    let Act::Capability(capability) = &cases[1].act else { panic!("{:?}", cases[1]) };
    assert_eq!((capability.name.as_str(), capability.number), ("net_raw", 13));
    assert_eq!(capability.source.as_deref(), Some("/bin/ping"));
    let Act::Syscall(call) = &cases[2].act else { panic!("{:?}", cases[2]) };
    assert_eq!((call.number, call.number32, call.path.as_deref()), (None, Some(22), Some("/mnt")));
}

#[test]
fn unit_policy_test_reads_presets_and_connections_from_a_terminal() {
    let text = format!(
        "{START}cases:\n- {{name: a, workload: web, preset: {{name: protectEnv}}, expect: {{action: Block}}}}\n- {{name: b, workload: web, \
         connect: {{address: fd00::1, port: 443, tty: true}}, expect: {{action: Block}}}}\n"
    );
    let test = PolicyTest::parse("t.yaml", text.as_bytes()).unwrap();
    let Expectation::Cases(cases) = &test.expectation else { panic!("{:?}", test.expectation) };
    let Act::Preset(act) = &cases[0].act else { panic!("{:?}", cases[0]) };
    assert_eq!(act.preset, crate::ir::Preset::ProtectEnv);
    let Act::Connect(connect) = &cases[1].act else { panic!("{:?}", cases[1]) };
    assert!(connect.tty && connect.protocol == 6);
}

#[test]
fn unit_policy_test_takes_broken_policies_where_it_expects_their_refusal() {
    let text = "apiVersion: palisade.dev/v1alpha1\nkind: PolicyTest\nname: t\npolicies:\n- kind: x\nexpect: {invalid: \"no such\"}\n";
    let test = PolicyTest::parse("t.yaml", text.as_bytes()).unwrap();
    assert_eq!(test.expectation, Expectation::Refused { message: "no such".to_owned() });
    let [PolicySource::Inline(inline)] = test.policies.as_slice() else { panic!("{:?}", test.policies) };
    assert!(!inline.is_sound());
    assert_eq!(inline.diagnostics[0].line, 5);
}

#[test]
fn unit_policy_test_says_what_is_wrong_with_a_case() {
    let table = [
        (
            "- {name: a, workload: wep, exec: {path: /a}, expect: {action: Block}}",
            "t.yaml:7:23: workload `wep`, the test does not define it, did you mean `web`?",
        ),
        (
            "- {name: a, workload: web, expect: {action: Block}}",
            "t.yaml:7:3: `cases[0]` has no act, a case is about one act, write one of `exec`, `open`, `socket`, `connect`, `ptrace`, `dns`, `capability`, `syscall`, `preset`",
        ),
        (
            "- {name: a, workload: web, preset: {name: exce}, expect: {action: Block}}",
            "t.yaml:7:43: `cases[0].preset.name` is `exce`, there is no such preset, did you mean `exec`?",
        ),
        (
            "- {name: a, workload: web, device: {class: HID}, expect: {action: Block}}",
            "t.yaml:7:3: `cases[0]` is about a device, a test asks the compiled policy, which has no devices: they are authorized, not opened, ask `palisade policy explain --device` which rule would",
        ),
        (
            "- {name: a, workload: web, exec: {path: /a}, open: {path: /a}, expect: {action: Block}}",
            "t.yaml:7:52: `open` is a second act, a case is about one act, write another case for it",
        ),
        (
            "- {name: a, workload: web, exec: {path: a}, expect: {action: Block}}",
            "t.yaml:7:41: `cases[0].exec.path` is `a`, a path is absolute, it begins with `/`, write `/a`",
        ),
        (
            "- {name: a, workload: web, exec: {path: /a}, expect: {action: block}}",
            "t.yaml:7:63: `cases[0].expect.action` is `block`, an action is `Allow`, `Audit` or `Block`, write `Block`",
        ),
        (
            "- {name: a, workload: web, exec: {path: /a}, expect: {}}",
            "t.yaml:7:54: `action` is missing, `cases[0].expect` needs it, write `action: Allow`, `Audit` or `Block`",
        ),
        (
            "- {name: a, workload: web, exec: {path: /a, uid: -1}, expect: {action: Block}}",
            "t.yaml:7:50: `cases[0].exec.uid` is `-1`, a whole number from 0 to 4294967295 is wanted, write a number from 0 to 4294967295",
        ),
        (
            "- {name: a, workload: web, socket: {family: ipx}, expect: {action: Block}}",
            "t.yaml:7:45: `cases[0].socket.family` is `ipx`, it is not known, write one of `inet`, `inet6`, `unix`, `netlink`, `packet`, or a number",
        ),
        (
            "- {name: a, workload: web, connect: {address: x, port: 1}, expect: {action: Block}}",
            "t.yaml:7:47: `cases[0].connect.address` is `x`, it is no IP address, write one such as `10.0.0.1` or `fd00::1`",
        ),
        (
            "- {name: a, workload: web, dns: {name: \"*.x\"}, expect: {action: Block}}",
            "t.yaml:7:40: `cases[0].dns.name` is `*.x`, a domain stands for itself and all names below it, and has no wildcards, write `x`",
        ),
        (
            "- {name: a, workload: web, capability: {name: net_row}, expect: {action: Block}}",
            "t.yaml:7:47: `cases[0].capability.name` is `net_row`, Linux has no such capability, did you mean `net_raw`?",
        ),
        (
            "- {name: a, workload: web, syscall: {name: forc}, expect: {action: Block}}",
            "t.yaml:7:44: `cases[0].syscall.name` is `forc`, Linux has no such system call, did you mean `fork`?",
        ),
        (
            "- {name: a, workload: web, exec: {path: /a}, expected: {action: Block}, expect: {action: Block}}",
            "t.yaml:7:46: unknown field `expected`, `cases[0]` has no such field, did you mean `expect`?",
        ),
    ];
    for (case, expected) in table {
        assert_eq!(messages(&format!("{START}cases:\n{case}\n")), [expected], "{case}");
    }
}

#[test]
fn unit_policy_test_says_what_is_wrong_with_the_document() {
    let cases = "cases: []\n";
    let table = [
        (
            START.replace("PolicyTest", "PolicyTests") + cases,
            "t.yaml:2:7: `kind` is `PolicyTests`, a test has `PolicyTest`, write `kind: PolicyTest`",
        ),
        (
            START.to_owned(),
            "t.yaml:1:1: `cases` is missing, the document needs it, write `cases:`, or `expect: {invalid: \"part of the message\"}`",
        ),
        (
            START.to_owned() + cases + "expect: {invalid: x}\n",
            "t.yaml:7:9: both `expect` and `cases`, refused policies decide nothing, remove one of them",
        ),
        (
            START.replace("{name: node,", "{name: web,") + cases,
            "t.yaml:5:26: workload `web` for the second time, line 5 has defined it, rename one of the two",
        ),
        (
            START.replace("host: true", "host: true, image: x") + cases,
            "t.yaml:5:26: `workloads[1].image` for a host, a host has none, remove it, or `host: true`",
        ),
        (
            START.to_owned() + cases + "posture: {file: deny}\n",
            "t.yaml:7:17: `posture.file` is `deny`, a posture is `audit` or `block`, write one of them",
        ),
        (
            START.to_owned() + cases + "namespaces: [{name: a, annotations: {x: y, kubearmor-file-posture: blok}}]\n",
            "t.yaml:7:44: `namespaces[0].annotations.kubearmor-file-posture` is `blok`, a posture is `audit` or `block`, write one of them",
        ),
        (
            START.to_owned() + cases + "namespaces: [{name: a}, {name: a}]\n",
            "t.yaml:7:25: namespace `a` for the second time, line 7 has defined it, rename one of the two",
        ),
        (
            START.to_owned() + cases + "---\na: 1\n",
            "t.yaml:8:1: a second document, one `PolicyTest` is wanted, move it to a file of its own",
        ),
        (String::new(), "t.yaml:1:1: the file holds no document, one `PolicyTest` is wanted, write `kind: PolicyTest`"),
    ];
    for (text, expected) in table {
        assert_eq!(messages(&text), [expected], "{text}");
    }
}
