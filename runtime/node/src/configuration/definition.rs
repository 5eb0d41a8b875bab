//! What can be set, as the command line defines it.

use std::{any::TypeId, time::Duration};

use clap::{Arg, ArgAction, Args as _, Command, builder::BoolishValueParser};

use crate::arguments::NodeArguments;

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// As the command line's definition calls it: `policy_dir`.
    pub id: String,
    /// As the file calls it: `policyDir`.
    pub name: String,
    /// As a flag, with its dashes: `--policy-dir`.
    pub flag: String,
    /// As an environment variable: `PALISADE_POLICY_DIR`.
    pub environment: String,
    /// What is written.
    pub kind: Kind,
    /// In words.
    pub help: String,
    /// What holds if nothing is said; nothing: it is not set then.
    pub default: Option<String>,
}

/// What a setting's value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// A number, in seconds.
    Seconds,
    /// Text.
    Text,
    /// One of these.
    OneOf(Vec<String>),
    /// A list of texts.
    List,
    /// Names with texts.
    Map,
}

/// Headings of the node's flags in its help; what is in none stands under the last.
const HEADINGS: [(&str, &[&str]); 9] = [
    (
        "Policies",
        &[
            "policy_dir",
            "state_dir",
            "policy_interval",
            "default_file_posture",
            "default_network_posture",
            "default_capabilities_posture",
            "host_default_device_posture",
            "on_unknown_path",
            "on_unknown_workload",
        ],
    ),
    (
        "Workloads",
        &[
            "containerd",
            "cri_socket",
            "by_cgroups",
            "nri_socket",
            "nri_hook",
            "no_containers",
            "hook_socket",
            "max_workloads",
            "host_policy",
            "host_labels",
            "node_name",
            "cluster_name",
        ],
    ),
    (
        "Alerts",
        &[
            "alert_file",
            "alert_file_bytes",
            "alert_file_keep",
            "no_alert_stdout",
            "max_alert_per_sec",
            "throttle_sec",
            "no_alert_throttling",
        ],
    ),
    (
        "What is seen",
        &[
            "visibility",
            "host_visibility",
            "observation_rate",
            "observation_burst",
            "fold_window",
            "log_file",
            "log_file_bytes",
            "log_file_keep",
            "log_stdout",
        ],
    ),
    (
        "Traces",
        &[
            "trace_memory_bytes",
            "trace_minutes",
            "trace_arguments",
            "trace_directory",
            "trace_directory_bytes",
            "trace_alert_severity",
            "trace_alert_policies",
            "trace_alert_after",
            "trace_alert_pause",
        ],
    ),
    ("Links to other nodes", &["link_listen", "link_peers", "link_certificate", "link_key", "link_ca", "link_revoked"]),
    ("Admin endpoint", &["admin_socket", "admin_address", "admin_token_file"]),
    ("The node's own log", &["log_format", "log_level"]),
    ("Kernel", &["pin_root", "keep_enforcing", "max_unattended", "selinux"]),
];
const OTHER_HEADING: &str = "More";

/// All settings, in the order of the command line.
#[must_use]
pub fn definitions() -> Vec<Definition> {
    // Built, so that actions and parsers that are left to clap are chosen.
    let mut command = settable(NodeArguments::augment_args(Command::new("node").disable_help_flag(true)));
    command.build();
    command.get_arguments().map(definition).collect()
}

/// The node's flags as settings: each has an environment variable, and what is on or off can be said both ways (`--host-policy=false`), so
/// that a flag can say no where a file says yes.
#[must_use]
pub fn settable(command: Command) -> Command {
    command.mut_args(|arg| {
        let id = arg.get_id().to_string();
        let heading = HEADINGS.iter().find(|(_, ids)| ids.contains(&id.as_str()));
        let arg = arg.help_heading(heading.map_or(OTHER_HEADING, |(heading, _)| *heading));
        let arg = if arg.get_env().is_none() { arg.env(environment(&id)) } else { arg };
        let arg = arg.hide_env_values(true);
        if matches!(arg.get_action(), ArgAction::SetTrue) { switch(arg) } else { arg }
    })
}

fn switch(arg: Arg) -> Arg {
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value("false")
        .value_name("BOOL")
        .value_parser(BoolishValueParser::new())
        .hide_possible_values(true)
        .hide_default_value(true)
}

fn environment(id: &str) -> String {
    format!("PALISADE_{}", id.to_uppercase())
}

fn definition(arg: &Arg) -> Definition {
    let id = arg.get_id().to_string();
    let environment = arg.get_env().map_or_else(|| environment(&id), |name| name.to_string_lossy().into_owned());
    let default = arg.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
    Definition {
        name: camel_case(arg.get_long().map_or(&*id, |_| &*id)),
        flag: format!("--{}", arg.get_long().unwrap_or(&id)),
        environment,
        kind: kind(arg),
        help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
        default,
        id,
    }
}

fn kind(arg: &Arg) -> Kind {
    let of = arg.get_value_parser().type_id();
    let is_one_of = |types: &[TypeId]| types.iter().any(|wanted| of == *wanted);
    let integers =
        [TypeId::of::<u8>(), TypeId::of::<u16>(), TypeId::of::<u32>(), TypeId::of::<u64>(), TypeId::of::<usize>()];
    if is_one_of(&[TypeId::of::<bool>()]) {
        return Kind::Boolean;
    }
    if matches!(arg.get_action(), ArgAction::Append) {
        return if is_one_of(&[TypeId::of::<(String, String)>()]) { Kind::Map } else { Kind::List };
    }
    if is_one_of(&integers) {
        return Kind::Integer;
    }
    if is_one_of(&[TypeId::of::<Duration>(), TypeId::of::<f64>()]) {
        return Kind::Seconds;
    }
    let values: Vec<String> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    if values.is_empty() { Kind::Text } else { Kind::OneOf(values) }
}

fn camel_case(id: &str) -> String {
    let mut name = String::with_capacity(id.len());
    let mut upper = false;
    for c in id.chars() {
        match c {
            '_' | '-' => upper = true,
            c if std::mem::take(&mut upper) => name.extend(c.to_uppercase()),
            c => name.push(c),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Definition {
        definitions().into_iter().find(|definition| definition.name == name).expect("it is defined")
    }

    #[test]
    fn unit_configuration_has_the_flags_of_the_node_as_its_settings() {
        assert_eq!(of("policyDir").flag, "--policy-dir");
        assert_eq!(of("policyDir").environment, "PALISADE_POLICY_DIR");
        assert_eq!(of("policyDir").default.as_deref(), Some("/etc/palisade/policies"));
        assert_eq!(of("logLevel").environment, "RUST_LOG");
        assert_eq!(of("maxWorkloads").environment, "PALISADE_MAX_WORKLOADS");
        let kinds = [
            ("hostPolicy", Kind::Boolean),
            ("maxWorkloads", Kind::Integer),
            ("policyInterval", Kind::Seconds),
            ("adminAddress", Kind::Text),
            ("defaultFilePosture", Kind::OneOf(vec!["audit".into(), "block".into()])),
            ("hostLabels", Kind::Map),
        ];
        for (name, kind) in kinds {
            assert_eq!(of(name).kind, kind, "{name}");
        }
    }

    #[test]
    fn unit_configuration_names_and_environment_variables_are_unique() {
        let all = definitions();
        for of in [|d: &Definition| d.name.clone(), |d: &Definition| d.environment.clone()] {
            let names: std::collections::BTreeSet<String> = all.iter().map(of).collect();
            assert_eq!(names.len(), all.len());
        }
    }

    #[test]
    fn unit_help_puts_every_flag_of_the_node_under_a_heading_of_its_own() {
        let command = settable(NodeArguments::augment_args(Command::new("node").disable_help_flag(true)));
        let astray = command.get_arguments().filter(|arg| arg.get_help_heading() == Some(OTHER_HEADING));
        let astray: Vec<&str> = astray.map(|arg| arg.get_id().as_str()).collect();
        assert!(astray.is_empty(), "name them in HEADINGS: {astray:?}");
    }
}
