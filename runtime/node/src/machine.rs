//! Which machine this is.

use std::fs;

/// Names this machine whatever it is called: a hash of its machine id, which machine-id(5) asks not to be told to anybody. Absent where the
/// machine has none.
///
/// The host's, also for a node in a container.
#[must_use]
pub fn id() -> Option<String> {
    let machine_id = fs::read_to_string(palisade_users::host_root()?.join("etc/machine-id")).ok()?;
    of(machine_id.trim())
}

fn of(machine_id: &str) -> Option<String> {
    let is_one = machine_id.len() == 32 && machine_id.bytes().all(|digit| digit.is_ascii_hexdigit());
    // The context says what the key is for: other programs' hashes of the same id tell nobody that it is this machine.
    let derived = blake3::derive_key("palisade.dev 2026-11 node id of alerts", machine_id.as_bytes());
    is_one.then(|| derived[..16].iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn unit_machine_has_an_id_that_does_not_tell_its_machine_id() {
        let machine_id = "0123456789abcdef0123456789abcdef";
        let id = of(machine_id).expect("it is one");
        assert!(id.len() == 32 && id != machine_id);
        assert_ne!(Some(id), of("1123456789abcdef0123456789abcdef"));
        assert_eq!((of(""), of("uninitialized")), (None, None));
    }
}
