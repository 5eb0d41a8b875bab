//! The load of the subject `stress`: `open_load CGROUP FOLDER FILES RATE SECONDS` joins the cgroup and opens files of the folder, RATE
//! times a second, in turn. Prints how many opens it made and the CPU time that it took, in nanoseconds; ends by itself.
#![forbid(unsafe_code)]

use std::{
    error::Error,
    fs::{self, File},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use palisade_bench::{stopwatch::now, stress::cpu_ns};

/// Between two looks at the clock.
const SLICE: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok((opens, cpu)) => {
            println!("{opens} {cpu}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(u64, u64), Box<dyn Error>> {
    let [cgroup, folder, files, rate, seconds] = arguments else { return Err("five arguments".into()) };
    fs::write(Path::new(cgroup).join("cgroup.procs"), std::process::id().to_string())?;
    let (files, rate, seconds): (usize, u64, u64) = (files.parse()?, rate.parse()?, seconds.parse()?);
    let names: Vec<_> = (0..files).map(|n| Path::new(folder).join(n.to_string())).collect();
    for name in &names {
        File::create(name)?;
    }
    let (started, before, mut opens) = (now(), cpu_ns()?, 0_u64);
    while started.elapsed() < Duration::from_secs(seconds) {
        // As many as should have been made by now: what a late wake-up left out is made up for.
        let due = u64::try_from(started.elapsed().as_micros())?.saturating_mul(rate) / 1_000_000;
        for name in
            names.iter().cycle().skip(usize::try_from(opens)? % files).take(usize::try_from(due.saturating_sub(opens))?)
        {
            File::open(name)?;
        }
        opens = opens.max(due);
        std::thread::sleep(SLICE);
    }
    Ok((opens, cpu_ns()? - before))
}
