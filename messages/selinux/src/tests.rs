//! Lines and the module's text. What constraints of a policy deny is tested where policies are compiled (`tests/differential`).

use palisade_kernel_abi::blob::Family;

use super::*;

#[test]
fn unit_selinux_user_of_the_pool_has_one_name_and_no_other_is_ours() {
    let number = |context: &str| UserNumber::of_context(context);
    for user in UserNumber::all() {
        assert_eq!(number(&format!("{user}:system_r:container_t:s0:c1,c2")), Some(user));
    }
    assert_eq!(UserNumber::all().count(), usize::from(USERS));
    for other in [
        "system_u:system_r:container_t:s0",
        "palisade_128_u:system_r:container_t:s0",
        "palisade_07_u:system_r:container_t:s0",
        "palisade_+7_u:system_r:container_t:s0",
        "palisade_7_u2:system_r:container_t:s0",
        "palisade__u:system_r:container_t:s0",
        "x:palisade_7_u:container_t:s0",
        "palisade_7_u",
        "",
    ] {
        assert_eq!(number(other), None, "{other}");
    }
}

const DENIED: &str = "audit(1700000000.123:45): avc:  denied  { chown } for  pid=77 comm=\"sh\" capability=0  \
    scontext=palisade_7_u:system_r:container_t:s0:c1,c2 tcontext=palisade_7_u:system_r:container_t:s0:c1,c2 tclass=capability permissive=0";

fn about(permissions: &str, class: &str) -> String {
    DENIED.replace("chown", permissions).replace("capability=0  ", "").replace("tclass=capability", class)
}

#[test]
fn unit_avc_line_of_a_denial_is_read_as_the_act_that_it_is_about() {
    let line = Line::parse(DENIED.as_bytes()).unwrap();
    assert_eq!((line.denied, line.pid, line.comm.as_slice()), (true, 77, &b"sh"[..]));
    assert_eq!((line.user.to_string().as_str(), line.class, line.permission), ("palisade_7_u", "capability", "chown"));
    assert_eq!((line.level.as_str(), level_of("palisade_7_u:r:t")), ("s0:c1,c2", ""));
    let socket = |class| Subject::Socket(SocketClass::of(class).unwrap());
    let wanted = [
        (DENIED.to_owned(), Family::Capability, Subject::Capability(0)),
        (
            DENIED.replace("=capability p", "=cap2_userns p").replace("capability=0", "capability=39"),
            Family::Capability,
            Subject::Capability(39),
        ),
        (about("create", "tclass=packet_socket"), Family::Socket, socket("packet_socket")),
        (about("ptrace", "tclass=process"), Family::Ptrace, Subject::Trace),
        (about("execmem", "tclass=process"), Family::Preset, Subject::Memory),
        (about("execute execmod", "tclass=file"), Family::Preset, Subject::Memory),
        // The kernel's log has no stamp, and a line's end.
        (DENIED.replace("audit(1700000000.123:45): ", "") + "\n", Family::Capability, Subject::Capability(0)),
        // As the kernel writes a name that has a quote in it.
        (DENIED.replace("\"sh\"", "6122"), Family::Capability, Subject::Capability(0)),
    ];
    for (text, family, subject) in wanted {
        let line = Line::parse(text.as_bytes()).unwrap();
        assert_eq!((line.family(), line.subject), (family, subject), "{text}");
    }
}

#[test]
fn unit_avc_line_of_what_happened_all_the_same_is_no_denial() {
    for (text, denied) in [
        (DENIED.to_owned(), true),
        (DENIED.replace("permissive=0", "permissive=1"), false),
        (DENIED.replace("denied ", "granted "), false),
        (DENIED.replace(" permissive=0", ""), true),
    ] {
        assert_eq!(Line::parse(text.as_bytes()).unwrap().denied, denied, "{text}");
    }
}

#[test]
fn unit_avc_line_that_is_not_ours_or_does_not_read_is_no_act() {
    let refused = |text: &str| Line::parse(text.as_bytes()).unwrap_err();
    assert_eq!(refused("audit(1): apparmor=\"DENIED\" operation=\"open\""), LineError::Other);
    assert_eq!(refused(&DENIED.replace("{ chown }", "chown")), LineError::Other);
    assert_eq!(refused(&DENIED.replace("scontext=palisade_7_u", "scontext=system_u")), LineError::Foreign);
    // A name cannot pass for another field, nor a target's user for the actor's.
    let sly = DENIED.replace("\"sh\"", "\"x scontext=palisade_2_u:r:t:s0 \"").replace("=palisade_7_u", "=system_u");
    assert_eq!(refused(&sly), LineError::Foreign);
    assert_eq!(refused(&DENIED.replace("pid=77", "pid=x")), LineError::Field("pid"));
    assert_eq!(refused(&DENIED.replace("capability=0", "capability=41")), LineError::Field("capability"));
    assert_eq!(refused(&DENIED.replace("\"sh\"", "7")), LineError::Field("comm"));
    // What the distribution's policy denies of them is no act that a policy of ours is about.
    assert_eq!(refused(&about("read", "tclass=file")), LineError::Unknown { class: "file".to_owned() });
    assert_eq!(refused(&about("connect", "tclass=tcp_socket")), LineError::Unknown { class: "tcp_socket".to_owned() });
    assert_eq!(refused(&format!("{DENIED}{}", "x".repeat(20_000))), LineError::TooLong(DENIED.len() + 20_000));
}

#[test]
fn unit_selinux_socket_class_has_an_example_that_is_of_it() {
    for extended in [false, true] {
        let of = |domain, kind, protocol| sockets::class_of(domain, kind, protocol, extended);
        let all = (0..=u8::MAX).flat_map(|domain| (1..=10).map(move |kind| (domain, kind)));
        let all = all.flat_map(|(domain, kind)| (0..=u8::MAX).map(move |protocol| of(domain, kind, protocol)));
        let names: std::collections::BTreeSet<&str> = all.collect();
        assert!(names.len() > if extended { 50 } else { 20 }, "{names:?}");
        for name in names {
            let example = SocketClass::of(name).and_then(|class| class.example(extended)).expect(name);
            assert_eq!(of(example.domain, example.kind, example.protocol), name);
        }
    }
    let example = |class| SocketClass::of(class).and_then(|class| class.example(true)).unwrap();
    for (class, domain, kind, protocol) in [
        ("tcp_socket", 2, 1, 0),
        ("udp_socket", 2, 2, 0),
        ("rawip_socket", 2, 3, 0),
        ("icmp_socket", 2, 2, 1),
        ("sctp_socket", 2, 1, 132),
        ("packet_socket", 17, 2, 0),
        ("unix_stream_socket", 1, 1, 0),
        ("netlink_audit_socket", 16, 2, 9),
    ] {
        let found = example(class);
        assert_eq!((found.domain, found.kind, found.protocol), (domain, kind, protocol), "{class}: such are made");
    }
    let of = |domain, kind, protocol| sockets::class_of(domain, kind, protocol, true);
    assert_eq!(of(2, 1, 6), "tcp_socket", "and MPTCP, whose low byte it is");
    assert_eq!((of(10, 2, 58), of(2, 3, 1), of(17, 3, 3)), ("icmp_socket", "rawip_socket", "packet_socket"));
    assert_eq!((of(16, 3, 15), of(16, 3, 2)), ("netlink_kobject_uevent_socket", "netlink_socket"));
    assert_eq!((of(40, 1, 0), sockets::class_of(40, 1, 0, false)), ("vsock_socket", "socket"));
}

#[test]
fn unit_selinux_module_is_read_again_as_what_it_denies_each_user_and_a_strange_constraint_is_not() {
    let denies = |all: &[(&str, &str)]| {
        let mut lowered = Lowered::default();
        assert!(all.iter().all(|(class, permission)| lowered.restore(class, permission)), "{all:?}");
        lowered
    };
    let (seven, eight) = (UserNumber::new(7).unwrap(), UserNumber::new(8).unwrap());
    let sockets = denies(&[("packet_socket", "create"), ("capability", "chown"), ("cap_userns", "chown")]);
    let memory = denies(&[("process", "execmem"), ("process", "ptrace"), ("capability", "chown"), ("file", "execmod")]);
    let text = module(Levels::default(), [(seven, &sockets), (eight, &memory)]);
    let keeps =
        "(constrain (process (dyntransition transition)) (or (eq u1 u2) (neq u1 (palisade_7_u palisade_8_u))))\n";
    assert!(text.ends_with(keeps), "{text}");
    let read = denied_by(&text).unwrap();
    assert_eq!(read.len(), 2);
    assert!(read[&seven].denies_as(&sockets) && read[&eight].denies_as(&memory) && !read[&seven].denies_as(&memory));
    assert_eq!(denied_by(&module(Levels::default(), [])), Some(std::collections::BTreeMap::new()));
    for strange in [
        text.replace("packet_socket", "parcel_socket"),
        text.replace("execmem", "execute"),
        text.replace("palisade_7_u)", "system_u)"),
        text.replace("(neq u1", "(eq u1"),
        text.replace("(or (eq u1 u2)", "(or (eq u2 u1)"),
    ] {
        assert_eq!(denied_by(&strange), None, "{strange}");
    }
}

#[test]
fn unit_selinux_module_declares_the_whole_pool_without_any_rule() {
    let text = module(Levels { last_category: Some(MAX_CATEGORY) }, []);
    for user in UserNumber::all() {
        assert!(text.contains(&format!("(user {user})\n(userrole {user} system_r)\n")), "{user}");
        assert!(text.contains(&format!("(userrange {user} ((s0) (s0 (range c0 c1023))))")), "{user}");
    }
    assert!(!text.contains("constrain"));
    assert!(module(Levels::default(), []).contains("(userrange palisade_7_u ((s0) (s0)))"));
    assert!(module(Levels { last_category: Some(0) }, []).contains("((s0) (s0 (c0)))"));
}
