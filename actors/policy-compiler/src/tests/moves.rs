//! What a policy says of moving a directory, stated one by one. Random rules are in `tests/differential`.

use palisade_domain::{
    Action::{self, Allow, Audit, Block},
    Posture,
};
use palisade_kernel_abi::blob::Effect;
use palisade_policy::ir::{Matcher, PathMatch, PathRule, Postures, WorkloadRules};

use super::{compile, directory, exact, file, pattern, rule, workload};

fn moved_by(rules: &WorkloadRules, from: &str, to: &str, source: &str) -> (Effect, Option<String>) {
    let policy = compile(rules).unwrap();
    let decision = policy.blob.decide_move(from.as_bytes(), to.as_bytes(), policy.blob.source_id(source.as_bytes()));
    let named = decision.rule.map(|index| crate::compile::spelling(&policy.rules[index as usize].matcher));
    (decision.effect, named)
}

fn moved(rules: &[(Action, PathMatch)], from: &str, to: &str) -> Effect {
    let rules = rules.iter().map(|(action, path)| rule(*action, file(path.clone()), &[])).collect();
    moved_by(&workload(rules), from, to, "").0
}

#[test]
fn unit_move_of_every_directory_above_a_denied_file_is_denied_by_its_rule() {
    let rules = workload(vec![rule(Block, file(exact("/etc/ssh/keys/host")), &[])]);
    for above in ["/etc", "/etc/ssh", "/etc/ssh/keys"] {
        let denied = (Effect::Block, Some("/etc/ssh/keys/host".to_owned()));
        assert_eq!(moved_by(&rules, above, "/tmp/x", ""), denied, "{above}");
    }
    for other in ["/et", "/etcetera", "/etc/sshd", "/etc/ssh/keys/host", "/etc/ssh/keys/host/x", "/tmp", "/a/etc/ssh"] {
        assert_eq!(moved_by(&rules, other, "/tmp/x", ""), (Effect::Permit, None), "{other}");
    }
}

/// What is said of the name itself is the rename's own matter.
#[test]
fn unit_move_is_asked_above_directories_and_patterns_too() {
    let cases = [
        (directory("/srv/keys/", false), "/srv"),
        (directory("/srv/keys/", true), "/srv"),
        (pattern("/srv/*/secret"), "/srv/a"),
        (pattern("/srv/**/secret"), "/srv/a/b"),
        (pattern("/srv/a**b/c"), "/srv/ax/y"),
        (pattern("/srv/{a,b}/c"), "/srv/b"),
    ];
    for (path, above) in cases {
        assert_eq!(moved(&[(Block, path.clone())], above, "/tmp/x"), Effect::Block, "{path:?} {above}");
        assert_eq!(moved(&[(Block, path.clone())], "/opt/a", "/tmp/x"), Effect::Permit, "{path:?}");
    }
}

#[test]
fn unit_move_to_where_the_same_is_denied_is_none() {
    let everywhere = [(Block, pattern("/**/secret")), (Block, pattern("/home/*/.ssh/**"))];
    assert_eq!(moved(&everywhere, "/a", "/b/c"), Effect::Permit);
    assert_eq!(moved(&everywhere, "/home/a", "/home/b"), Effect::Permit);
    assert_eq!(moved(&everywhere, "/home/a", "/srv/a"), Effect::Block, "/home/a/.ssh would be /srv/a/.ssh");
    let but_for_one = [(Block, pattern("/**/secret")), (Allow, exact("/open/secret"))];
    assert_eq!(moved(&but_for_one, "/a", "/open"), Effect::Block, "/a/secret would be /open/secret");
}

#[test]
fn unit_move_is_denied_by_rules_that_block_and_by_no_others() {
    assert_eq!(moved(&[(Audit, exact("/etc/x")), (Block, exact("/z"))], "/etc", "/tmp/x"), Effect::Permit);
    assert_eq!(moved(&[(Block, PathMatch::Name("x".into()))], "/etc", "/tmp/x"), Effect::Permit, "a name goes along");
    let programs = Matcher::Process(PathRule::of(exact("/usr/bin/x")));
    let rules = workload(vec![rule(Block, programs, &[]), rule(Block, file(exact("/z")), &[])]);
    assert_eq!(moved_by(&rules, "/usr/bin", "/tmp/x", "").0, Effect::Permit, "a program is held where it is executed");
}

/// Or every package manager would meet the one rule that holds everywhere wherever another tells two places apart.
#[test]
fn unit_move_is_not_denied_for_what_is_denied_anywhere_between_places_that_other_rules_tell_apart() {
    let history = || rule(Block, file(pattern("/**/.bash_history")), &[]);
    let programs = |path| rule(Block, Matcher::Process(PathRule::of(path)), &[]);
    let of_tmp = workload(vec![history(), programs(directory("/tmp/", true))]);
    let of_app = workload(vec![history(), programs(exact("/opt/app/bin/sh"))]);
    let of_site = workload(vec![
        rule(Block, file(pattern("/**/.env")), &[]),
        rule(Block, file(exact("/var/www/html/wp-config.php")), &[]),
    ]);
    for (rules, from, to) in [
        (&of_tmp, "/tmp/build", "/opt/app"),
        (&of_tmp, "/opt/build", "/tmp/app"),
        (&of_app, "/opt/new", "/opt/app"),
        (&of_site, "/var/www/new", "/var/www/html"),
    ] {
        assert_eq!(moved_by(rules, from, to, "").0, Effect::Permit, "{from} {to}");
    }
    assert_eq!(moved_by(&of_site, "/var/www/html", "/var/www/old", "").0, Effect::Block);
    // Nor is it by a rule that permits another file.
    let audited =
        [(Block, pattern("/**/.env")), (Block, exact("/var/www/html/wp-config.php")), (Audit, exact("/etc/passwd"))];
    assert_eq!(moved(&audited, "/var/www/new", "/var/www/html"), Effect::Permit);
    let permitted = [audited[0].clone(), audited[1].clone(), (Audit, exact("/var/www/html/.env"))];
    assert_eq!(moved(&permitted, "/var/www/new", "/var/www/html"), Effect::Block, "its .env would be audited alone");
    // Below the first directory it is not anywhere.
    assert_eq!(moved(&[(Block, pattern("/**/.git/config")), (Audit, exact("/a"))], "/a/.git", "/b"), Effect::Block);
}

/// A component of nothing is none: what would accept the name by which a directory is asked for does not speak of what is below.
#[test]
fn unit_move_is_held_whatever_globs_of_others_make_of_nothing() {
    for allowed in
        ["/{**/,x}", "/**/{,x}", "/***/", "/{**,a}{**,a}/", "/etc/**/", "/etc/***/**", "/*/*/*", "/etc{/,}{/,}"]
    {
        let rules = [(Allow, pattern(allowed)), (Block, pattern("/e*/key"))];
        assert_eq!(moved(&rules, "/etc", "/tmp"), Effect::Block, "{allowed}");
    }
}

/// For no circumstances of the mover are those of the files below.
#[test]
fn unit_move_is_denied_also_above_what_is_denied_in_some_circumstances_alone() {
    let path = || PathRule::of(exact("/etc/x"));
    for held in [
        PathRule { owner_only: true, ..path() },
        PathRule { read_only: true, ..path() },
        PathRule { pts: Some(false), ..path() },
    ] {
        let rules = workload(vec![rule(Block, Matcher::File(held.clone()), &[])]);
        assert_eq!(moved_by(&rules, "/etc", "/tmp/x", "").0, Effect::Block, "{held:?}");
    }
}

#[test]
fn unit_move_is_denied_to_the_sources_that_are_denied_what_is_below() {
    let rules = workload(vec![
        rule(Block, file(exact("/etc/x")), &["/bin/a"]),
        rule(Block, file(exact("/etc/y")), &["/bin/b"]),
        rule(Block, file(exact("/var/z")), &[]),
    ]);
    let named = |source| moved_by(&rules, "/etc", "/tmp/x", source);
    assert_eq!(named("/bin/a"), (Effect::Block, Some("/etc/x".to_owned())));
    assert_eq!(named("/bin/b"), (Effect::Block, Some("/etc/y".to_owned())));
    assert_eq!(named("/bin/c"), (Effect::Permit, None));
    assert_eq!(moved_by(&rules, "/var", "/tmp/x", "/bin/c").0, Effect::Block);
}

#[test]
fn unit_move_out_of_what_an_allow_list_leaves_out_is_by_its_posture() {
    let rules = vec![
        rule(Allow, file(exact("/srv/closed")), &[]),
        rule(Allow, file(directory("/srv/open/", true)), &[]),
        rule(Allow, file(directory("/data/", true)), &[]),
    ];
    let postures = Postures { file: Posture::Block, ..Postures::default() };
    let rules = WorkloadRules { postures, ..workload(rules) };
    assert_eq!(moved_by(&rules, "/srv/closed", "/srv/open/x", ""), (Effect::Block, None), "its files were not allowed");
    assert_eq!(moved_by(&rules, "/srv/open/a", "/data/a", "").0, Effect::Permit);
    assert_eq!(moved_by(&rules, "/srv/open/a", "/srv/open/b", "").0, Effect::Permit);
}

/// One stands for all below a directory: ten thousand denied files of it are no ten thousand more names.
#[test]
fn unit_move_costs_a_large_policy_no_more_than_its_directories() {
    let files = (0..2000).map(|file_number| exact(&format!("/opt/app/conf/f{file_number}")));
    let rules = workload(files.map(|path| rule(Block, file(path), &[])).collect());
    let policy = compile(&rules).unwrap();
    let accepts = policy.blob.head().family[palisade_kernel_abi::blob::Family::File as usize].accepts;
    assert!((2001..=2002).contains(&accepts), "{accepts}");
    assert_eq!(moved_by(&rules, "/opt", "/tmp/x", "").0, Effect::Block);
}
