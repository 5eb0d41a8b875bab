//! Values of flags: what is read, and what is said of what cannot be.

use std::{net::SocketAddr, time::Duration};

use palisade_containers::nri::NriSocket;
use palisade_domain::Operation;
use palisade_kernel::selinux::Base;
use palisade_policy::settings::nearest;

use super::node::{NriChoice, SeLinuxChoice};

/// `auto`, `none`, or a socket's path.
pub fn nri_choice(text: &str) -> Result<NriChoice, String> {
    match text {
        "auto" => Ok(NriChoice::By(NriSocket::Auto)),
        "none" => Ok(NriChoice::None),
        path if path.starts_with('/') => Ok(NriChoice::By(NriSocket::At(path.into()))),
        _ => Err("auto, none, or the absolute path of a socket".to_owned()),
    }
}

/// `off`, `store`, or a path.
pub fn selinux_choice(text: &str) -> Result<SeLinuxChoice, String> {
    match text {
        "off" => Ok(SeLinuxChoice::Off),
        base if base == "store" || base.starts_with('/') => Ok(SeLinuxChoice::With(Base::of(base))),
        _ => Err("off, store, or the absolute path of a file or directory of CIL".to_owned()),
    }
}

/// A word that no line has would show nothing, in silence.
pub fn verdicts(text: &str) -> Result<String, String> {
    known(text, &["denied", "killed", "observed", "unenforceable"])
}

pub fn operations(text: &str) -> Result<String, String> {
    let of_kubearmor =
        ["Process", "File", "Network", "Capabilities", "Syscall", "Device", "AlertThreshold", "PolicyNotHeld"];
    let all: Vec<&str> = Operation::ALL.iter().map(|operation| operation.name()).chain(of_kubearmor).collect();
    known(text, &all)
}

/// Each alternative, but for those with a `*`, is one of these, in letters of either case.
fn known(text: &str, words: &[&str]) -> Result<String, String> {
    let is_known = |part: &str| part.contains('*') || words.iter().any(|word| word.eq_ignore_ascii_case(part.trim()));
    match text.split(',').find(|part| !is_known(part)) {
        None => Ok(text.to_owned()),
        Some(part) => Err(match nearest(part, words.iter().copied()) {
            Some(near) => format!("no line has `{part}`: did you mean `{near}`?"),
            None => format!("no line has `{part}`, but one of: {}", words.join(", ")),
        }),
    }
}

pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds, such as 0.25".to_owned())?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if duration.is_zero() { Err("more than 0".into()) } else { Ok(duration) }
}

/// At most a hundred looks a second: each reads the directory.
pub fn interval(text: &str) -> Result<Duration, String> {
    seconds(text).and_then(|interval| if interval.as_millis() < 10 { Err("0.01 or more".into()) } else { Ok(interval) })
}

/// A terminal is drawn at most ten times a second, and a node asked as often.
pub fn refresh(text: &str) -> Result<Duration, String> {
    let most = Duration::from_secs(3600);
    seconds(text)
        .and_then(|every| if every.as_millis() < 100 || every > most { Err("0.1 to 3600".into()) } else { Ok(every) })
}

/// `90s`, `5m`, `2h`, `1d`; a bare number is seconds.
pub fn age(text: &str) -> Result<Duration, String> {
    let wrong = || "a number with s, m, h or d, such as 90s, 5m, 2h or 1d".to_owned();
    let (number, unit) = match text.strip_suffix(|c: char| c.is_ascii_alphabetic()) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, "s"),
    };
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

/// As [`age`]. A sign of life comes four times in it, so that less than a second would be a busy loop.
pub fn unattended(text: &str) -> Result<Duration, String> {
    age(text)
}

/// What the log understands, checked before it is needed.
pub fn directives(text: &str) -> Result<String, String> {
    tracing_subscriber::EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| {
        format!(
            "{error}: a level (error, warn, info, debug, trace), or directives such as `info,palisade_kernel=debug`"
        )
    })
}

pub fn fold_window(text: &str) -> Result<Duration, String> {
    if text.parse() == Ok(0.0) {
        return Ok(Duration::ZERO);
    }
    let most = Duration::from_secs(60);
    seconds(text).and_then(|window| if window > most { Err("60 or less".into()) } else { Ok(window) })
}

pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an address and a port, such as 127.0.0.1:9180 or [::1]:9180".to_owned())
}

pub fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("KEY=VALUE".into()),
    }
}
