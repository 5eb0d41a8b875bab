//! Attacks on the fanotify tier, run for real: other names for a denied file, other namespaces, other ways to execute.

mod fanotify_bed;

use std::{collections::BTreeSet, time::Duration};

use fanotify_bed::{Bed, below, exact, exec, open};
use palisade_domain::{
    Action::{Allow, Block},
    Family,
};
use palisade_kernel::fanotify::{self, BlobDecides};
use palisade_policy::ir::{Matcher, Rule};

#[test]
#[ignore = "the responder's process, started by the bed"]
fn responder_process() {
    fanotify_bed::responder_process(BlobDecides);
}

#[test]
#[ignore = "the container's init, started by the bed"]
fn container_init() {
    fanotify_bed::container_init();
}

const SECRET: &str = "/etc/palisade/secret";

fn bed_with_secret() -> Bed {
    let bed = Bed::new();
    bed.put(SECRET, "hidden\n");
    bed.put("/etc/open", "shown\n");
    bed.install(1, vec![open(Block, below("/etc/palisade/"))]);
    bed
}

/// The script must not see the secret, must be told so, and must be able to go on.
fn assert_hidden(said: &str, refusals: usize) {
    assert!(!said.contains("hidden"), "{said}");
    assert_eq!(said.matches("Operation not permitted").count(), refusals, "{said}");
    assert!(said.contains("shown"), "permitted work goes on: {said}");
}

#[test]
fn host_fanotify_is_not_evaded_by_links_and_proc_prefixes() {
    let bed = bed_with_secret();
    let said =
        bed.sh("ln -s /etc/palisade/secret /tmp/s; cat /tmp/s; ln -s /etc/palisade /tmp/d; cd /tmp; cat d/secret
        cat /proc/self/root/etc/palisade/secret
        cat /proc/$$/root/etc/palisade/secret; cd /etc/; cat ./palisade/../palisade/secret
        mv /etc/palisade/secret /etc/palisade/other; cat /etc/palisade/other; cat /etc/open");
    assert_hidden(&said, 6);
}

#[test]
fn host_fanotify_is_not_evaded_by_another_mount_namespace() {
    let bed = bed_with_secret();
    let said =
        bed.sh("unshare -m sh -c 'cat /etc/palisade/secret; mount --bind /etc /media; cat /media/palisade/secret
        mount --bind /etc/palisade /opt; cat /opt/secret; umount /opt
        mount --rbind / /media; cat /media/etc/palisade/secret; mount --move /media /srv; cat /srv/etc/palisade/secret
        chroot /srv cat /etc/palisade/secret'; cat /etc/open");
    assert_hidden(&said, 6);
}

#[test]
fn host_fanotify_is_not_evaded_by_mounts_in_the_containers_own_namespace() {
    let bed = bed_with_secret();
    let said = bed.sh("mount --bind /etc/palisade /media; cat /media/secret; mount --move /media /opt; cat /opt/secret
        mount --bind / /srv; chroot /srv cat /etc/palisade/secret; cat /srv/etc/palisade/secret
        mkdir /srv/old; cd /srv; pivot_root . old; cat /old/etc/palisade/secret; cat /etc/palisade/secret; cat /etc/open");
    assert_hidden(&said, 6);
}

#[test]
fn host_fanotify_is_not_evaded_by_an_overlay_over_the_secret() {
    let bed = bed_with_secret();
    let said = bed.sh(
        "mkdir /vol/data/u /vol/data/w; mount -t overlay o -o lowerdir=/etc/palisade,upperdir=/vol/data/u,workdir=/vol/data/w /media
        cat /media/secret; ls /media; cat /etc/open",
    );
    assert!(!said.contains("hidden") && said.contains("shown"), "{said}");
}

#[test]
fn host_fanotify_is_not_evaded_by_a_detached_mount() {
    let bed = bed_with_secret();
    let script = "import ctypes,os\nlibc=ctypes.CDLL(None,use_errno=True)\n\
        fd=libc.syscall(428,-100,b'/etc',1|0x8000)\nprint('clone',fd>=0)\n\
        fd2=libc.syscall(257,fd,b'palisade/secret',0)\nprint('errno',ctypes.get_errno())\n\
        if fd2>=0: print(os.read(fd2,99))\n";
    bed.put("/opt/detached.py", script);
    let said = bed.sh("python3 /opt/detached.py; cat /etc/open");
    assert!(said.contains("clone True") && said.contains("errno 1"), "{said}");
    assert!(!said.contains("hidden") && said.contains("shown"), "{said}");
}

#[test]
fn host_fanotify_names_a_volume_by_its_first_place() {
    let mut bed = Bed::new();
    let mut container = bed.start();
    bed.install(1, vec![open(Block, exact("/vol/data/secret"))]);
    let said = bed.sh_in(
        &container,
        "echo hidden >/vol/data/x; mv /vol/data/x /vol/data/secret; echo shown >/vol/data/open; cat /vol/data/secret; \
         mv /vol /tmp/v; mkdir -p /vol/data; mv /tmp/v /vol/data/z; cat /vol/data/z/data/secret; cat /vol/data/z/data/open; \
         unshare -m cat /vol/data/z/data/secret",
    );
    assert_hidden(&said, 3);
    container.kill().expect("still there");
    container.wait().expect("mine");
}

/// What the container's init runs by `/proc/self/exe`: its own file, which is the host's and not watched.
#[test]
#[ignore = "an image that runs the runtime's own file, started by the bed"]
fn second_image() {
    println!("BED\n{:?}", [SECRET, "/etc/open"].map(std::fs::read_to_string));
}

#[test]
fn host_fanotify_is_not_evaded_by_executing_the_runtime_itself() {
    let bed = bed_with_secret();
    let again = ["/proc/self/exe", "--ignored", "--exact", "second_image", "--nocapture", "--test-threads=1"];
    let said = String::from_utf8_lossy(&bed.run(&again).stdout).into_owned();
    assert!(said.contains("BED"), "it ran: {said}");
    assert!(!said.contains("hidden") && said.contains("shown"), "{said}");
}

#[test]
fn host_fanotify_is_not_evaded_by_a_program_in_memory_that_loads_nothing() {
    let bed = bed_with_secret();
    // Linked statically: executing it raises no event at all.
    let run = |reads: &str| {
        let mut command = bed.command(&["ldconfig", "-p", "-C", SECRET]);
        let output = command.env("BED_MEMFD", "/sbin/ldconfig").env("BED_READS", reads).output().expect("it starts");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let said = run("/etc/open");
    assert!(said.contains("read 6 bytes") && said.contains("open cache file"), "it ran: {said}");
    assert!(said.contains("Operation not permitted"), "{said}");
    let said = bed.sh("cat /etc/palisade/secret; cat /etc/open");
    assert_hidden(&said, 1);
}

#[test]
fn host_fanotify_lets_the_runtime_itself_read_what_the_workload_may_not() {
    let bed = bed_with_secret();
    let mut command = bed.command(&["/bin/sh", "-c", "cat /etc/palisade/secret; cat /etc/open"]);
    let output = command.env("BED_READS", SECRET).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("read 7 bytes"), "{said}");
    assert_hidden(&said, 1);
}

fn allow_list(paths: &[&str]) -> Vec<Rule> {
    paths.iter().map(|path| exec(Allow, exact(path))).collect()
}

#[test]
fn host_fanotify_allow_list_lets_dynamic_programs_and_scripts_run_and_nothing_else() {
    let bed = Bed::new();
    bed.put("/opt/run.sh", "#!/bin/sh\ncat /etc/hostname >/dev/null && echo script ran\n");
    bed.put("/opt/env.sh", "#!/usr/bin/env sh\necho env ran\n");
    let said = bed.sh("chmod 755 /opt/*.sh; echo ready");
    assert!(said.contains("ready"), "{said}");
    bed.install(1, allow_list(&["/usr/bin/dash", "/usr/bin/cat", "/usr/bin/cp", "/opt/run.sh", "/opt/env.sh"]));
    let said = bed.sh(
        "/opt/run.sh; /opt/env.sh; cat /proc/self/comm; cp /usr/bin/cat /opt/cat; /opt/cat /etc/hostname; touch /made",
    );
    assert!(said.contains("script ran"), "{said}");
    assert!(said.contains("cat\n"), "{said}");
    assert!(!said.contains("env ran"), "a script's interpreter is an exec of its own: {said}");
    assert_eq!(said.matches("Operation not permitted").count(), 3, "env, the copy and touch: {said}");
    assert!(!bed.root().join("made").exists());
}

#[test]
fn host_fanotify_tells_an_exec_of_the_loader_from_its_loading() {
    let bed = Bed::new();
    let python = std::fs::canonicalize("/usr/bin/python3").expect("python3 is installed");
    bed.install(1, allow_list(&["/usr/bin/dash", "/usr/bin/cat", python.to_str().expect("ASCII")]));
    let loader = "/lib64/ld-linux-x86-64.so.2";
    let said = bed.sh(&format!("{loader} /usr/bin/touch /made; cat /proc/self/comm"));
    assert!(said.contains("Operation not permitted") && said.contains("cat\n"), "{said}");
    // An execve that fails after its first steps must not open the door for the loader.
    bed.put(
        "/opt/attack.py",
        &format!(
            "import os\ntry:\n  os.execv('/usr/bin/cat', ['cat', 'x' * 4000000])\nexcept OSError as e: print('first', e.errno)\n\
             try:\n  os.execv('{loader}', ['ld.so', '/usr/bin/touch', '/made'])\nexcept OSError as e: print('second', e.errno)\n"
        ),
    );
    let said = bed.sh(&format!("{} /opt/attack.py", python.display()));
    assert!(said.contains("first 7") && said.contains("second 1"), "{said}");
    assert!(!bed.root().join("made").exists());
}

#[test]
fn host_fanotify_holds_rules_by_source_and_by_owner() {
    let bed = Bed::new();
    bed.put("/etc/from", "from source\n");
    bed.put("/etc/owned", "of owner\n");
    let mut by_source = open(Block, exact("/etc/from"));
    by_source.sources = BTreeSet::from(["/usr/bin/cat".to_owned()]);
    let mut by_owner = open(Block, exact("/etc/owned"));
    if let Matcher::File(rule) = &mut by_owner.matcher {
        rule.owner_only = true;
    }
    bed.install(1, vec![by_source, by_owner]);
    let said = bed.sh(
        "cat /etc/from; echo; head /etc/from; cat /etc/owned; setpriv --reuid 65534 --clear-groups head /etc/owned; \
        cp /usr/bin/cat /tmp/other; rm -f /tmp/other2; mv /usr/bin/cat /tmp/moved; /tmp/moved /etc/from",
    );
    assert_eq!(said.matches("Operation not permitted").count(), 2, "cat by source, nobody as no owner: {said}");
    assert_eq!(
        said.matches("from source").count(),
        2,
        "head, and the moved program, which is no longer of that path: {said}"
    );
    assert_eq!(said.matches("of owner").count(), 1, "{said}");
}

#[test]
fn host_fanotify_is_not_hung_by_a_file_lease() {
    let bed = bed_with_secret();
    let script = "import fcntl,os,time\nf=os.open('/etc/open',os.O_RDWR)\nfcntl.fcntl(f,fcntl.F_SETLEASE,fcntl.F_WRLCK)\n\
        print('leased',flush=True)\nimport signal\nsignal.signal(signal.SIGIO,lambda *a:None)\ntime.sleep(8)\n";
    bed.put("/opt/lease.py", script);
    let mut holder = bed
        .command(&["/usr/bin/python3", "/opt/lease.py"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    let mut text = String::new();
    let mut lines = std::io::BufReader::new(holder.stdout.take().expect("piped"));
    while !text.contains("leased") {
        text.clear();
        assert_ne!(std::io::BufRead::read_line(&mut lines, &mut text).expect("readable"), 0, "the lease is taken");
    }
    let before = bed.responder.health();
    let start = tokio_free_now();
    let said = bed.sh("timeout 1 cat /etc/open; cat /etc/palisade/secret; cat /etc/hostname >/dev/null && echo shown");
    assert!(tokio_free_now() - start < Duration::from_secs(4), "the responder did not wait for the lease");
    assert!(!said.contains("hidden"), "{said}");
    assert_eq!(bed.responder.health().restarts, before.restarts);
    assert!(bed.responder.health().unreadable > before.unreadable, "counted: {:?}", bed.responder.health());
    holder.kill().expect("alive");
    holder.wait().expect("mine");
}

#[expect(clippy::disallowed_methods, reason = "a test measures real time")]
fn tokio_free_now() -> std::time::Instant {
    std::time::Instant::now()
}

#[test]
fn host_fanotify_says_what_it_cannot_hold() {
    let bed = bed_with_secret();
    let said = bed.sh("ln /etc/palisade/secret /tmp/link; cat /tmp/link; cat /etc/open");
    let listed = fanotify::gaps(Family::File);
    assert!(said.contains("hidden"), "a hard link under another name is another name: {said}");
    for what in
        ["hard links", "readOnly", "open(O_PATH)", "creation by open(O_CREAT)", "while the responder is replaced"]
    {
        assert!(listed.iter().any(|gap| gap.what == what), "{what} is among {listed:?}");
    }
}
