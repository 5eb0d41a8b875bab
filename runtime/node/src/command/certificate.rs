//! `palisade certificate`: an authority of one's own for links between nodes.
//!
//! Invariant: keys are readable by their owner alone from their first byte on; an authority is never overwritten, and what replaces another
//! file takes its place whole.

use std::{
    fs::{self, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use palisade_domain::{NodeName, UnixNanos};
use palisade_link::{
    LARGEST_FILE, MachineRng,
    authority::{self, Described, Issued},
};
use palisade_world::Clock as _;
use serde_json::json;

use super::Outcome;
use crate::{
    arguments::{CertificateCommand, Output},
    clock::MachineClock,
    render::{self, printable},
};

/// What the authority's files are called.
const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";
const REVOKED: &str = "revoked.pem";

/// Carries it out.
///
/// # Errors
/// In words that say what to do next.
pub fn run(command: &CertificateCommand) -> Outcome {
    let now = MachineClock.unix();
    let said = match command {
        CertificateCommand::Authority { directory, name, days } => make(directory, name, *days, now)?,
        CertificateCommand::Issue { name, directory, into, days, replace } => {
            issue(name, directory, into.as_ref().unwrap_or(directory), *days, *replace, now)?
        }
        CertificateCommand::Revoke { certificate, directory } => revoke(certificate, directory, now)?,
        CertificateCommand::RenewList { directory } => renew_list(directory, now)?,
        CertificateCommand::Show { files, output } => {
            let (said, refused) = show(files, *output, now);
            super::print(&said)?;
            refused.iter().for_each(|why| super::complain(why));
            return Ok(if refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    };
    super::print(&said)?;
    Ok(ExitCode::SUCCESS)
}

fn make(directory: &Path, name: &str, days: u32, now: UnixNanos) -> anyhow::Result<String> {
    for file in [CERTIFICATE, KEY, REVOKED] {
        let path = directory.join(file);
        if path.exists() {
            bail!(
                "{} is there already, and an authority is never overwritten: name another with --directory",
                path.display()
            );
        }
    }
    let (own, list) = authority::authority(name, days, now, &MachineRng)?;
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    write(&directory.join(KEY), &own.key, true, false)?;
    write(&directory.join(CERTIFICATE), &own.certificate, false, false)?;
    write(&directory.join(REVOKED), &list, false, false)?;
    let directory = directory.display();
    Ok(format!(
        "made {directory}/{CERTIFICATE}, {KEY} and {REVOKED}: keep {KEY} here, give every node the other two\n\
         next: palisade certificate issue NAME\n"
    ))
}

fn issue(
    name: &NodeName,
    directory: &Path,
    into: &Path,
    days: u32,
    replace: bool,
    now: UnixNanos,
) -> anyhow::Result<String> {
    if [CERTIFICATE, REVOKED].contains(&format!("{name}.pem").as_str()) {
        bail!("{name} is no name for a node: {name}.pem is a file of the authority");
    }
    let issued = authority::issue(&own(directory)?, name, days, now, &MachineRng)?;
    let (certificate, key) = (into.join(format!("{name}.pem")), into.join(format!("{name}.key")));
    for path in [&certificate, &key] {
        if !replace && path.exists() {
            bail!("{} is there already: replace it with --replace, or name another place with --into", path.display());
        }
    }
    fs::create_dir_all(into).with_context(|| into.display().to_string())?;
    // A node that looks between the two finds that they do not belong together, and keeps the ones it has.
    write(&key, &issued.key, true, replace)?;
    write(&certificate, &issued.certificate, false, replace)?;
    Ok(format!(
        "made {} and {}\nnext: palisade node --link-certificate {0} --link-key {1} ...\n",
        certificate.display(),
        key.display()
    ))
}

fn revoke(certificate: &Path, directory: &Path, now: UnixNanos) -> anyhow::Result<String> {
    let list = directory.join(REVOKED);
    let (own, revoked) = (own(directory)?, read(certificate)?);
    let made = authority::revoke(&own, &read(&list)?, &revoked, now)?;
    write(&list, &made, false, true)?;
    Ok(format!(
        "revoked: give every node {} (--link-revoked); each looks at it within a second, and ends the links of that certificate\n",
        list.display()
    ))
}

fn renew_list(directory: &Path, now: UnixNanos) -> anyhow::Result<String> {
    let list = directory.join(REVOKED);
    let made = authority::renew_list(&own(directory)?, &read(&list)?, now)?;
    write(&list, &made, false, true)?;
    Ok(format!("made {} anew: give it to every node (--link-revoked)\n", list.display()))
}

/// What the files are, and of each that is nothing of the kind why: one such keeps none of the others from being shown.
fn show(files: &[PathBuf], output: Output, now: UnixNanos) -> (String, Vec<String>) {
    let (mut all, mut refused) = (Vec::new(), Vec::new());
    for path in files {
        match described(path) {
            Ok(described) => all.extend(described.into_iter().map(|one| (path, one))),
            Err(error) => refused.push(format!("{error:#}")),
        }
    }
    if output == Output::Text {
        return (all.iter().map(|(path, one)| words(path, one, now)).collect(), refused);
    }
    let values = all.iter().map(|(path, one)| value(path, one)).collect();
    (render::document(output, &serde_json::Value::Array(values)), refused)
}

fn described(path: &Path) -> anyhow::Result<Vec<Described>> {
    let text = bytes(path)?;
    authority::describe(&text).map_err(anyhow::Error::from).or_else(|error| {
        if String::from_utf8_lossy(&text).contains("PRIVATE KEY-----") {
            bail!("{}: it is a key, not a certificate", path.display());
        }
        Err(error).with_context(|| path.display().to_string())
    })
}

fn words(path: &Path, one: &Described, now: UnixNanos) -> String {
    let text = match one {
        Described::Certificate { names, subject, issuer, serial, authority, from, until } => {
            let what = if *authority { "authority".to_owned() } else { format!("node {}", names.join(", ")) };
            let held = match () {
                () if now < *from => "does not hold yet",
                () if now >= *until => "EXPIRED",
                () => "holds",
            };
            let (from, until) = (from.rfc3339(), until.rfc3339());
            format!("{what} ({subject}), by {issuer}, serial {serial}, from {from} until {until}: {held}")
        }
        Described::Revocations { issuer, made, due, serials } => {
            let (made, count) = (made.rfc3339(), serials.len());
            let due = match due {
                Some(due) if now >= *due => format!(", DUE ANEW since {} (it still counts)", due.rfc3339()),
                Some(due) => format!(", due anew {}", due.rfc3339()),
                None => String::new(),
            };
            format!("revocation list by {issuer}, made {made}{due}: {count} certificates {}", serials.join(" "))
        }
    };
    printable(format!("{}: {text}", path.display()).trim_end()) + "\n"
}

fn value(path: &Path, one: &Described) -> serde_json::Value {
    let file = path.display().to_string();
    match one {
        Described::Certificate { names, subject, issuer, serial, authority, from, until } => json!({
            "file": file, "kind": if *authority { "authority" } else { "node" }, "names": names, "subject": subject,
            "issuer": issuer, "serial": serial, "from": from.rfc3339(), "until": until.rfc3339(),
        }),
        Described::Revocations { issuer, made, due, serials } => json!({
            "file": file, "kind": "revocations", "issuer": issuer, "made": made.rfc3339(), "due": due.map(UnixNanos::rfc3339),
            "serials": serials,
        }),
    }
}

fn own(directory: &Path) -> anyhow::Result<Issued> {
    let missing = || format!("no authority in {}: make one by `palisade certificate authority`", directory.display());
    Ok(Issued {
        certificate: read(&directory.join(CERTIFICATE)).with_context(missing)?,
        key: read(&directory.join(KEY)).with_context(missing)?,
    })
}

/// A pipe does as well; what never ends does not.
fn bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let opened = fs::File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes));
    opened.with_context(|| path.display().to_string())?;
    if bytes.len() as u64 > LARGEST_FILE {
        bail!(
            "{}: more than {LARGEST_FILE} bytes: it is neither a certificate, a key nor a list that a node takes",
            path.display()
        );
    }
    Ok(bytes)
}

fn read(path: &Path) -> anyhow::Result<String> {
    String::from_utf8(bytes(path)?).with_context(|| path.display().to_string())
}

/// Under another name first, then in its place; a key is its owner's alone.
fn write(path: &Path, text: &str, private: bool, replace: bool) -> anyhow::Result<()> {
    let written = || -> std::io::Result<()> {
        let beside = path.with_extension(format!("new.{}", std::process::id()));
        let mode = if private { 0o600 } else { 0o644 };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        let done = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| {
            // Where nothing is to be replaced, nothing is, even if it came this moment.
            if replace { fs::rename(&beside, path) } else { fs::hard_link(&beside, path) }
        });
        if !replace || done.is_err() {
            fs::remove_file(&beside)?;
        }
        done
    };
    written().with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn unit_certificate_show_of_what_never_ends_is_refused() {
        let (text, refused) = show(&["/dev/zero".into()], Output::Text, MachineClock.unix());
        assert!(text.is_empty() && refused.len() == 1 && refused[0].contains("/dev/zero: more than"), "{refused:?}");
    }

    #[test]
    fn unit_certificate_commands_make_replace_and_take_back_what_nodes_link_by() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let (directory, now) = (root.path().join("ca"), MachineClock.unix());
        let name: NodeName = "worker-1".parse().expect("a name");
        let early = issue(&name, &directory, &directory, 1, false, now).expect_err("no authority").to_string();
        assert!(early.contains("palisade certificate authority"), "{early}");
        make(&directory, "test", 10, now).expect("made");
        let again = make(&directory, "test", 10, now).expect_err("never overwritten").to_string();
        assert!(again.contains("--directory"), "{again}");
        for name in ["ca", "revoked"] {
            let own = read(&directory.join(format!("{name}.pem"))).expect("there");
            let name: NodeName = name.parse().expect("a name");
            issue(&name, &directory, &directory, 1, true, now).expect_err("a file of the authority");
            assert_eq!(read(&directory.join(format!("{name}.pem"))).expect("there"), own);
        }
        let into = root.path().join("nodes");
        issue(&name, &directory, &into, 1, false, now).expect("issued");
        for key in [directory.join(KEY), into.join("worker-1.key")] {
            assert_eq!(fs::metadata(&key).expect("there").permissions().mode() & 0o777, 0o600, "{}", key.display());
        }
        let certificate = into.join("worker-1.pem");
        let first = read(&certificate).expect("there");
        let there = issue(&name, &directory, &into, 1, false, now).expect_err("there already").to_string();
        assert!(there.contains("--replace") && read(&certificate).expect("there") == first, "{there}");
        issue(&name, &directory, &into, 1, true, now).expect("replaced");
        assert_ne!(read(&certificate).expect("there"), first);
        revoke(&certificate, &directory, now).expect("revoked");
        let files = [certificate, directory.join(CERTIFICATE), directory.join(REVOKED)];
        let text = show(&files, Output::Text, now).0;
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("node worker-1") && lines[0].ends_with(": holds"), "{text}");
        assert!(lines[1].contains("authority"), "{text}");
        assert!(lines[2].contains(": 1 certificates "), "{text}");
        let later = UnixNanos(now.0 + 2 * 86_400_000_000_000);
        assert!(show(&files[..1], Output::Text, later).0.ends_with(": EXPIRED\n"));
        let with_a_key = [directory.join(KEY), directory.join("none"), directory.join(CERTIFICATE)];
        let (text, refused) = show(&with_a_key, Output::Text, now);
        assert!(text.contains("authority"), "a key keeps the rest from nobody: {text}");
        assert!(refused.len() == 2 && refused[0].ends_with("ca.key: it is a key, not a certificate"), "{refused:?}");
        let rest: Vec<_> = fs::read_dir(&into).expect("there").map(|entry| entry.expect("read").file_name()).collect();
        assert_eq!(rest.len(), 2, "nothing is left over: {rest:?}");
    }
}
