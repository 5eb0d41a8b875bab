//! What lowering a compiled policy to an AppArmor profile costs: `cargo run --release -p palisade-policy-compiler --example profile_cost`.
//!
//! Rules of one form, as in `form_cost`; times are the least of some rounds, in milliseconds, beside compiling the same rules.

use std::{
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use palisade_apparmor::{Lowered, ProfileName, Share};
use palisade_domain::{Action, PolicyKind, PolicyRef};
use palisade_policy::ir::{Matcher, PathMatch, PathRule, Rule, WorkloadRules};
use palisade_policy_compiler::{automaton::AutomatonLimits, compile};

const ROUNDS: usize = 3;

fn main() {
    let mut out = std::io::stdout().lock();
    writeln!(out, "rules form       compile   lower  states   bytes").expect("stdout");
    for count in [10, 100, 1000, 10_000] {
        for form in ["paths", "names", "directories"] {
            writeln!(out, "{}", measured(count, form)).expect("stdout");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "it measures time")]
fn measured(count: u32, form: &str) -> String {
    let rules =
        WorkloadRules { rules: (0..count).map(|number| rule(number, form)).collect(), ..WorkloadRules::default() };
    let name = ProfileName::of_container("measured").expect("a name");
    let (mut compiling, mut lowering) = (Duration::MAX, Duration::MAX);
    let mut size = String::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let policy = compile(&rules, &AutomatonLimits::default(), &mut || false).expect("it compiles");
        compiling = compiling.min(start.elapsed());
        let start = Instant::now();
        let lowered = Lowered::of(&policy.blob, Share::ALL).map(|lowered| lowered.named(&name));
        lowering = lowering.min(start.elapsed());
        size = match lowered {
            Ok(profile) => format!("{:>7} {:>7}", profile.states, profile.bytes.len()),
            Err(error) => error.to_string(),
        };
    }
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    format!("{count:>5} {form:<11} {:>6.1} {:>7.1} {size}", ms(compiling), ms(lowering))
}

fn rule(number: u32, form: &str) -> Arc<Rule> {
    let scattered = number.wrapping_mul(0x9e37_79b9);
    let (upper, lower) = (scattered >> 20, scattered & 0xf_ffff);
    let path = match form {
        "paths" => PathMatch::Exact(format!("/srv/app-{upper:03x}/releases/{lower:05x}/config/settings.yaml")),
        "names" => PathMatch::Name(format!("tool-{scattered:08x}")),
        _ => PathMatch::Directory { directory: format!("/srv/app-{upper:03x}/releases/{lower:05x}/"), recursive: true },
    };
    let policy = PolicyRef { kind: PolicyKind::PalisadePolicy, namespace: "n".into(), name: "measured".into() };
    Arc::new(Rule {
        policy: Arc::new(policy),
        place: format!("file.matchPaths[{number}]"),
        matcher: Matcher::File(PathRule::of(path)),
        sources: Default::default(),
        source_directories: Default::default(),
        action: Action::Block,
        severity: None,
        tags: Vec::new(),
        message: None,
    })
}
