//! The command line of what is about traces.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};

use super::{ADMIN_SOCKET, Output, PostureArgument, parse::age};

/// `palisade record`.
#[derive(Debug, Args)]
#[command(
    after_help = "Ctrl-C and SIGTERM end the trace whole, with what was there until then; once more leaves the file as it is, readable to its last whole block.\n\nExit status: 0 the files are whole traces, 1 the node refused, broke off or does not answer, a file cannot be written, or nothing is recorded because no workload is called as --workload says."
)]
pub struct RecordArguments {
    /// The node's admin socket.
    #[arg(long, env = "PALISADE_ADMIN_SOCKET", default_value = ADMIN_SOCKET)]
    pub admin_socket: PathBuf,
    /// The file to write, `*.paltrace` by custom; `-`: standard output.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Only this workload: NAME, NAMESPACE/NAME, NAMESPACE/NAME/CONTAINER or host; may be given more than once.
    #[arg(long = "workload", value_name = "NAME")]
    pub workloads: Vec<String>,
    /// How long from now on: `90s`, `5m`. Without it and --last: until Ctrl-C, which ends the trace whole.
    #[arg(long, value_parser = age, value_name = "TIME")]
    pub duration: Option<Duration>,
    /// The last minutes, as far as the node keeps them in memory: alone, or before what --duration or --follow says.
    #[arg(long, value_parser = age, value_name = "TIME")]
    pub last: Option<Duration>,
    /// After the last minutes go on until Ctrl-C.
    #[arg(long, short, conflicts_with = "duration")]
    pub follow: bool,
    /// Bytes at which the trace ends: `10M`, `1G`.
    #[arg(long, value_parser = size, value_name = "SIZE")]
    pub max_size: Option<u64>,
    /// With --max-size: go on in another file, and keep so many full ones as FILE.1 (the newest) to FILE.N. Each is a whole trace that begins
    /// with what was so where the one before ended: no record is between them, and none is in both.
    #[arg(long, requires = "max_size", value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    pub rotate: Option<u32>,
    /// Keep the arguments of processes, which may be secrets; else they are overwritten.
    #[arg(long)]
    pub keep_arguments: bool,
    /// Overwrite the file.
    #[arg(long)]
    pub force: bool,
}

/// `palisade trace`.
#[derive(Debug, Subcommand)]
pub enum TraceCommand {
    /// Say what a trace holds, what was lost before it came in, and what of the file is missing or damaged; exit status 1 if anything of the file is.
    Info {
        /// The trace; `-`: standard input.
        trace: PathBuf,
        /// How to print.
        #[arg(long, short, value_enum, default_value = "text")]
        output: Output,
    },
    /// Cut a part out of a trace, with what was so at its beginning.
    Cut {
        /// The trace; `-`: standard input.
        trace: PathBuf,
        /// From here on: time since the trace's first record (`90s`, `5m`), or `2026-11-25T21:37:41Z`.
        #[arg(long, value_parser = moment, value_name = "TIME")]
        from: Option<Moment>,
        /// Until here.
        #[arg(long, value_parser = moment, value_name = "TIME")]
        until: Option<Moment>,
        /// Only this workload; may be given more than once.
        #[arg(long = "workload", value_name = "NAME")]
        workloads: Vec<String>,
        /// The file to write, which is not there yet; `-`: standard output.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Put the parts of one recording together, in the order of their times.
    Merge {
        /// The traces, of one node and one boot.
        #[arg(required = true, num_args = 2..)]
        traces: Vec<PathBuf>,
        /// The file to write, which is not there yet; `-`: standard output.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Overwrite the arguments of processes in a trace.
    Redact {
        /// The trace; `-`: standard input.
        trace: PathBuf,
        /// The file to write, which is not there yet; `-`: standard output.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Make a trace of what another tool wrote, and say what that lacks; exit status 1 if lines of a log cannot be read, or a capture is damaged
    /// or cut: what can be read is in the trace.
    Import {
        /// The logs (`-`: standard input), or the capture.
        source: PathBuf,
        /// What it is.
        #[arg(long, value_enum, default_value_t)]
        from: ImportedFrom,
        /// The file to write, which is not there yet; `-`: standard output.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// Who wrote what is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ImportedFrom {
    /// Logs of KubeArmor, a JSON object each line.
    #[default]
    Kubearmor,
    /// A capture of sysdig or Falco.
    Scap,
}

/// A time in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Since its first record.
    After(Duration),
    /// Nanoseconds since 1970.
    At(u64),
}

/// `palisade replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "Of a file that has its index only the blocks of the time and the workload are read, and before them what follows the last checkpoint (at most 270,000 records). With --from, lines lack what was held back before it; with --workload, processes outside of it are named as far as these blocks tell.\n\nExit status: 0 all of it was replayed, 1 something is missing or damaged (said on standard error; the rest is replayed), or no workload is called so."
)]
pub struct ReplayArguments {
    /// The trace; `-`: standard input.
    pub trace: PathBuf,
    /// From here on: time since the trace's first record (`90s`, `5m`), or `2026-11-25T21:37:41Z`.
    #[arg(long, value_parser = moment, value_name = "TIME")]
    pub from: Option<Moment>,
    /// Until here.
    #[arg(long, value_parser = moment, value_name = "TIME")]
    pub until: Option<Moment>,
    /// Lines of this workload only: NAME, NAMESPACE/NAME, NAMESPACE/NAME/CONTAINER or host; may be given more than once.
    #[arg(long = "workload", value_name = "NAME")]
    pub workloads: Vec<String>,
    /// Which lines.
    #[arg(long, short, value_enum, default_value = "alerts")]
    pub output: ReplayOutput,
    /// As slowly as it was.
    #[arg(long)]
    pub timed: bool,
}

/// What `palisade replay` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReplayOutput {
    /// What a node says of what was decided.
    Alerts,
    /// Every act, too.
    Events,
    /// Each decision as the kernel took it.
    Decisions,
}

/// `palisade rehearse`.
#[derive(Debug, Args)]
#[command(
    after_help = "Rules on system calls only audit, and count as audited. A rule about acts that the trace does not hold is named with the reason: `--visibility` of the node that recorded decides what is in a trace.\n\nExit status: 0 nothing would be denied, 1 something would, 2 a policy or trace cannot be read or a policy does not compile, 3 nothing would be denied of what can be judged, and some rule or act cannot be; 64 on a wrong command line."
)]
pub struct RehearseArguments {
    /// Policy file or directory; may be given more than once.
    #[arg(long = "policy", short, required = true, value_name = "PATH")]
    pub policies: Vec<PathBuf>,
    /// Traces; `-`: standard input.
    #[arg(required = true)]
    pub traces: Vec<PathBuf>,
    /// Only this workload; may be given more than once.
    #[arg(long = "workload", value_name = "NAME")]
    pub workloads: Vec<String>,
    /// Default posture for exec and open; without it, the one that the trace was recorded under.
    #[arg(long, value_enum)]
    pub default_file_posture: Option<PostureArgument>,
    /// Default posture for sockets, destinations and DNS; without it, the one that the trace was recorded under.
    #[arg(long, value_enum)]
    pub default_network_posture: Option<PostureArgument>,
    /// Default posture for capabilities and ptrace; without it, the one that the trace was recorded under.
    #[arg(long, value_enum)]
    pub default_capabilities_posture: Option<PostureArgument>,
    /// How to print.
    #[arg(long, short, value_enum, default_value = "text")]
    pub output: Output,
}

/// `10M`, `1G`; a bare number is bytes.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || "a number of bytes, or one with K, M or G, such as 10M".to_owned();
    let (number, shift) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(number) if text.ends_with('K') => (number, 10),
        Some(number) if text.ends_with('M') => (number, 20),
        Some(number) => (number, 30),
        None => (text, 0),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

/// `90s` since the beginning, or `2026-11-25T21:37:41Z`.
fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(after) = age(text) {
        return Ok(Moment::After(after));
    }
    let wrong = || "a time since the beginning, such as 90s or 5m, or one as 2026-11-25T21:37:41Z".to_owned();
    utc(text).map(Moment::At).ok_or_else(wrong)
}

/// Nanoseconds since 1970 of `2026-11-25T21:37:41Z`, which may have a fraction.
fn utc(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (whole, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let numbers = |text: &str, between: char| {
        text.split(between).map(|part| part.parse::<u64>().ok()).collect::<Option<Vec<_>>>()
    };
    let (date, whole) = (numbers(date, '-')?, numbers(whole, ':')?);
    let ([year, month, day], [hour, minute, second]) = (date.as_slice(), whole.as_slice()) else { return None };
    let is_right = (1970..=2400).contains(year) && (1..=12).contains(month) && (1..=31).contains(day);
    if !is_right || *hour > 23 || *minute > 59 || *second > 60 || fraction.len() > 9 {
        return None;
    }
    // Years begin in March, so that a leap day is a year's last.
    let (year, month) = if *month > 2 { (*year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let seconds = (days.checked_sub(719_468)?) * 86_400 + hour * 3600 + minute * 60 + second;
    let nanos: u64 = format!("{fraction:0<9}").parse().ok()?;
    Some(seconds * 1_000_000_000 + nanos)
}

#[cfg(test)]
mod tests {
    use palisade_domain::UnixNanos;

    use super::*;

    #[test]
    fn unit_arguments_read_the_times_that_lines_are_written_with() {
        for nanos in [0, 951_782_400_000_000_000, 1_795_642_661_000_123_000, 4_107_542_400_000_000_000_u64] {
            assert_eq!(moment(&UnixNanos(nanos).rfc3339()), Ok(Moment::At(nanos)));
        }
        assert_eq!(moment("90s"), Ok(Moment::After(Duration::from_secs(90))));
        assert_eq!(utc("2026-11-25T21:37:41Z"), Some(1_795_642_661_000_000_000));
        for wrong in ["2026-13-01T00:00:00Z", "2026-11-25 21:37:41", "yesterday", "2026-11-25T21:37:41+01:00"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
        assert_eq!((size("10M"), size("512"), size("1G")), (Ok(10 << 20), Ok(512), Ok(1 << 30)));
        assert!(size("0").is_err() && size("lots").is_err() && size("99999999999G").is_err());
    }
}
