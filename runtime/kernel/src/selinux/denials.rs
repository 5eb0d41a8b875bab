//! What SELinux says of denials, for the reader of the kernel's audit.
//!
//! Invariant: what is told was denied by a constraint of ours, or would have been by one in a system that is permissive: a container's own policy
//! or the rules in force of its user deny that very permission ([`Users::find`]). What the distribution's policy denies beside it is not told.
//!
//! Limits:
//! - What a policy denied that was replaced and is not in force any more when the line is read, a moment later, is taken for the distribution's.
//! - Of a socket the record has an example of the class, of memory the call that usually asks for it: the line says no more.
//! - A process that has ended has no cgroup: of several containers of a user that have one level, as those of a pod, the first is named.

use std::sync::Mutex;

use palisade_kernel_abi::{
    blob::{Blob, Decision, Effect, Endpoint},
    record::{Body, Text, Tier},
};
use palisade_selinux::{Line, LineError, Subject};

use super::Users;
use crate::audit::{Account, Act, Denials, Held, body};

impl Denials for Users {
    type Line = Line;
    type Error = LineError;
    const TIER: Tier = Tier::SeLinux;

    fn account(&self) -> &Mutex<Account> {
        &self.account
    }

    fn read(&self, text: &[u8]) -> Result<Option<Line>, LineError> {
        owed(Line::parse(text))
    }

    fn find(&self, line: &Line) -> Option<Held> {
        Self::find(self, line)
    }

    fn act<'a>(&self, line: &'a Line) -> Act<'a> {
        Act { denied: line.denied, pid: line.pid, comm: &line.comm, family: line.family() }
    }

    fn judge(&self, line: &Line, policy: Option<&Blob>, executable: Option<&[u8]>, _tty: bool) -> Decision {
        blocked(policy.map(|blob| line.judge(blob, executable, self.has_extended_sockets())))
    }

    fn body<'a>(&self, line: &'a Line, _cwd: Text<'a>, _tty: u32) -> Body<'a> {
        body_of(line, self.has_extended_sockets())
    }
}

/// Of an act that no constraint is about nothing is owed, nor of whom the policy has no context for: none of ours is without one.
fn owed(line: Result<Line, LineError>) -> Result<Option<Line>, LineError> {
    match line {
        Ok(line) => Ok(Some(line)),
        Err(LineError::Other | LineError::Foreign | LineError::Unknown { .. } | LineError::Field("scontext")) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// It was blocked by a constraint: where the container's policy does not say so, by one of before, or of the first that has its user, and
/// then no rule of this policy is named.
fn blocked(judged: Option<Decision>) -> Decision {
    let judged = judged.filter(|decision| decision.effect == Effect::Block);
    judged.unwrap_or(Decision { effect: Effect::Block, ..Decision::PERMIT })
}

fn body_of(line: &Line, extended_sockets: bool) -> Body<'static> {
    match line.subject {
        Subject::Socket(class) => {
            let none = Endpoint { domain: 0, kind: 0, protocol: 0, destination: None };
            body::socket(class.example(extended_sockets).unwrap_or(none), line.denied)
        }
        Subject::Capability(number) => body::capability(number, line.denied),
        Subject::Trace => body::trace(),
        // What is asked about a heap, a stack and written pages of a file is asked when they are to become executable later.
        Subject::Memory if line.permission == "execmem" => body::memory(libc::SYS_mmap, line.denied),
        Subject::Memory => body::memory(libc::SYS_mprotect, line.denied),
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use palisade_domain::{Generation, Slot};
    use palisade_kernel_abi::record::{self, Outcome, Record, RecordReader};
    use palisade_selinux::{Classes, Lowered, UserNumber};
    use palisade_world::{RecordBatch, RecordSource as _};

    use super::*;
    use crate::{
        audit::{AuditRecords, forged},
        selinux::numbers::{Label, Numbers, tests::blob_of},
    };

    const SLOT: Slot = Slot(4);
    /// No process has it: the kernel gives none above 4,194,304.
    const GONE: &str = "pid=2147483647";
    const SPEC: &str = "capabilities: {matchCapabilities: [{capability: sys_admin}, {capability: bpf}]}\n  ptrace: {match: [{}]}\n  \
        network: {matchProtocols: [{protocol: packet}]}\n  presets: [{name: anonMapExec, action: Block}]\n  action: Block";

    /// A container of user 7 with that policy, and another of user 8 without.
    fn numbers() -> Numbers {
        let mut numbers = Numbers::default();
        for (slot, user, spec) in [(SLOT, 7, Some(SPEC)), (Slot(5), 8, None)] {
            let blob = spec.map(blob_of);
            let classes = [
                ("capability", "sys_admin"),
                ("capability2", "bpf"),
                ("cap_userns", "sys_admin"),
                ("cap2_userns", "bpf"),
                ("process", "ptrace"),
                ("process", "execmem"),
                ("process", "execheap"),
                ("file", "execmod"),
                ("packet_socket", "create"),
            ];
            let mut known = Classes { extended_sockets: true, ..Classes::default() };
            for (class, permission) in classes {
                known.permissions.entry(class.to_owned()).or_default().insert(permission.to_owned());
            }
            let lowered = |blob: &Arc<Blob>| Arc::new(Lowered::of(blob, &palisade_selinux::FAMILIES, &known));
            numbers.admit(slot, 40 + u64::from(slot.0), Path::new("/pods/x"));
            numbers.learn(slot, 1, Label::Ours(UserNumber::new(user).unwrap()), "s0:c1,c2");
            let lowered = blob.as_ref().map(lowered).unwrap_or_default();
            numbers.install(slot, Generation(3), 9, blob.as_ref(), lowered);
        }
        numbers
    }

    fn avc(permission: &str, rest: &str) -> String {
        let text = format!(
            "audit(1700000000.123:45): avc:  denied  {{ {permission} }} for  {GONE} comm=\"sh\" {rest} permissive=0"
        );
        let context = |name: &str, user: &str| format!("{name}={user}:system_r:container_t:s0:c1,c2 ");
        text.replace("OURS ", &(context("scontext", "palisade_7_u") + &context("tcontext", "palisade_7_u")))
            .replace("OTHERS ", &(context("scontext", "palisade_8_u") + &context("tcontext", "palisade_7_u")))
    }

    /// What the reader makes of the texts: what `see` sees of each record, and how many were lost.
    fn told<T>(numbers: Numbers, texts: &[String], see: impl Fn(&Record<'_>) -> T) -> (Vec<T>, u64) {
        let (events, forger) = forged::forgeable();
        drop(forger);
        let mut records = AuditRecords::of(events, None, Arc::new(Users::idle(numbers))).unwrap();
        let mut batch = RecordBatch::default();
        texts.iter().for_each(|text| records.hear(text.as_bytes(), &mut batch));
        let seen = RecordReader::new(&batch.bytes).map(|record| see(&record.unwrap())).collect();
        (seen, records.loss().unwrap().counts.values().sum())
    }

    #[test]
    fn unit_avc_text_of_a_denial_by_a_constraint_is_a_record_with_its_rule() {
        let wanted = [
            (avc("sys_admin", "capability=21  OURS tclass=capability"), record::Family::Capability, "capability 21 -1"),
            (avc("bpf", "capability=39  OURS tclass=cap2_userns"), record::Family::Capability, "capability 39 -1"),
            (avc("create", "OURS tclass=packet_socket"), record::Family::Socket, "socket 17 2 0 -13"),
            (avc("ptrace", "OURS tclass=process"), record::Family::Ptrace, "ptrace 16"),
            (avc("execmem", "OURS tclass=process"), record::Family::Preset, "syscall 9 4 -13"),
            (avc("execheap", "OURS tclass=process"), record::Family::Preset, "syscall 10 4 -13"),
            (
                avc("execmod", "path=\"/lib/x.so\" dev=\"overlay\" ino=7 OURS tclass=file"),
                record::Family::Preset,
                "syscall 10 4 -13",
            ),
        ];
        let texts: Vec<String> = wanted.iter().map(|(text, ..)| text.clone()).collect();
        let (seen, lost) = told(numbers(), &texts, |record| {
            let taken = record.decision.unwrap();
            let decision = Decision::from_word(taken.word);
            let by = (taken.tier, taken.outcome, taken.generation, taken.policy, decision.effect);
            assert_eq!(by, (Tier::SeLinux, Outcome::Denied, 3, 9, Effect::Block));
            assert!(decision.rule.is_some(), "{record:?}");
            let header = record.header;
            assert_eq!(
                (header.slot, header.cgroup_id, header.tgid, &header.comm[..3]),
                (4, 44, i32::MAX.cast_unsigned(), &b"sh\0"[..])
            );
            (taken.family, words(&record.body))
        });
        assert_eq!(lost, 0);
        let wanted = wanted.map(|(_, family, words)| (family, words.to_owned()));
        assert_eq!(seen, wanted);
    }

    fn words(body: &Body<'_>) -> String {
        match body {
            Body::Capability(used) => format!("capability {} {}", used.capability, used.result),
            Body::Socket(made) => {
                format!("socket {} {} {} {}", made.domain, made.socket_type, made.protocol, made.result)
            }
            Body::Ptrace(traced) => format!("ptrace {}", traced.request),
            Body::Syscall(call) => {
                // Numbers of x86-64, whatever this is.
                let number = [(libc::SYS_mmap, 9), (libc::SYS_mprotect, 10)];
                let number =
                    number.into_iter().find(|(own, _)| *own == i64::from(call.number)).map(|(_, number)| number);
                format!("syscall {} {} {}", number.unwrap(), call.arguments[2], call.result)
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn unit_avc_text_of_what_the_distribution_denies_is_no_record_and_no_loss() {
        let sly = "x\" scontext=palisade_7_u:r:t:s0 tclass=capability capability=21 comm=\"";
        let hexadecimal: String = sly.bytes().map(|byte| format!("{byte:02X}")).collect();
        let texts = [
            avc("chown", "capability=0  OURS tclass=capability"),
            avc("sys_admin", "capability=21  OTHERS tclass=capability"),
            avc("write", "name=\"x\" dev=\"sda\" ino=3 OURS tclass=file"),
            avc("create", "OURS tclass=tcp_socket"),
            avc("sys_admin", "capability=21  ssid=77 tssid=77 tclass=capability"),
            // A name that is all that a denial of ours has.
            avc("sys_admin", "capability=0  OTHERS tclass=capability").replace("\"sh\"", &hexadecimal),
            "apparmor=\"DENIED\" operation=\"capable\" profile=\"palisade-c\" pid=7 comm=\"x\" capability=21"
                .to_owned(),
        ];
        assert_eq!(told(numbers(), &texts, |_| ()), (vec![], 0));
        let unread = avc("sys_admin", "capability=21  OURS tclass=capability").replace(GONE, "pid=x");
        assert_eq!(told(numbers(), &[unread], |_| ()), (vec![], 1), "one of ours that does not read is a loss");
    }

    #[test]
    fn unit_avc_text_of_a_permissive_system_is_a_record_of_what_could_not_be_held() {
        let text = avc("sys_admin", "capability=21  OURS tclass=capability").replace("permissive=0", "permissive=1");
        let (seen, _) = told(numbers(), &[text], |record| (record.decision.unwrap().outcome, words(&record.body)));
        assert_eq!(seen, [(Outcome::Unenforceable, "capability 21 0".to_owned())]);
    }

    #[test]
    fn unit_avc_text_of_a_container_that_was_released_a_moment_ago_is_its_record() {
        let mut numbers = numbers();
        numbers.release(SLOT, crate::sys::boot_time());
        let text = avc("sys_admin", "capability=21  OURS tclass=capability");
        let (seen, _) =
            told(numbers, std::slice::from_ref(&text), |record| (record.header.slot, record.decision.unwrap().policy));
        assert_eq!(seen, [(4, 9)]);
        let mut numbers = self::numbers();
        numbers.release(SLOT, std::time::Duration::ZERO);
        assert_eq!(told(numbers, &[text], |_| ()), (vec![], 0), "long ago: its slot may be another's");
    }

    #[test]
    fn unit_avc_text_of_a_rule_that_the_containers_policy_does_not_have_names_none() {
        let mut numbers = numbers();
        let in_force = numbers.wanted();
        numbers.loaded(in_force, Ok(()));
        let other = blob_of("capabilities: {matchCapabilities: [{capability: chown}]}\n  action: Block");
        numbers.install(SLOT, Generation(4), 10, Some(&other), Arc::default());
        let text = avc("sys_admin", "capability=21  OURS tclass=capability");
        let see = |record: &Record<'_>| Decision::from_word(record.decision.unwrap().word);
        let (seen, _) = told(numbers, &[text], see);
        assert_eq!(seen, [Decision { effect: Effect::Block, ..Decision::PERMIT }]);
    }
}
