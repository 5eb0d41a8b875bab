//! Many acts at once: blocked opens by processes that compete on each CPU, and two policies that follow each other while files are opened.

use std::{path::Path, thread, time::Instant};

use palisade_domain::Tier;
use palisade_kernel_abi::record::{Body, Outcome};

use crate::{Failed, Held, Means as _, Place, place::Said, policies};

/// As the attacking program has them (`program/race.c`).
const ALTERNATING: [[&str; 2]; 2] = [
    [
        "file: { matchDirectories: [ { dir: /swap/, recursive: true } ], matchPaths: [ { path: /swap/never } ] }\naction: Block",
        "file: { matchPaths: [ { path: /swap/file }, { path: /swap/always } ] }\naction: Allow",
    ],
    [
        "file: { matchPaths: [ { path: /swap/file }, { path: /swap/never } ] }\naction: Block",
        "file: { matchDirectories: [ { dir: /swap/, recursive: true } ], matchPaths: [ { path: /swap/always } ] }\naction: Allow",
    ],
];
/// What each of them denies beside what both do.
const DENIED: [&str; 2] = ["/swap/other", "/swap/file"];

/// That many opens that a policy blocks, by four processes, beside four whose opens it permits, two and two on each CPU: none of them goes
/// the other way, and every record is accounted for, though nobody reads them meanwhile.
///
/// # Errors
/// Where one does, or one is not.
#[expect(clippy::disallowed_methods, reason = "the time that it takes is told")]
pub fn opens(held: &mut Held, program: &Path, amount: u64) -> Result<String, Failed> {
    let place = Place::new()?;
    held.admit(&place)?;
    let came = (|| {
        let mut attacker = place.start(program, ("", ""), "race", amount)?;
        held.started(attacker.pid())?;
        held.install(&policies::Policy::Files.compiled()?)?;
        let denied = held.denied();
        let began = Instant::now();
        let said = attacker.attack()?;
        let (took, denied) = (began.elapsed(), held.denied() - denied);
        let numbers = held.account()?;
        let note = &attacker.note;
        let told = format!("{amount} opens in {took:.1?}: {note}; {denied} counted as denied; {numbers}");
        let by_hooks = held.tier().is_by_hooks();
        match said {
            Said::Errno(13, false) if !by_hooks || denied == amount => Ok(told),
            _ => Err(Failed(told)),
        }
    })();
    held.release()?;
    came
}

/// Two policies, of which each denies what the other permits, alternate that many times while four processes open files.
///
/// # Errors
/// Where an outcome is neither's, or a record has an outcome of the policy that its generation is not of.
pub fn swaps(held: &mut Held, program: &Path, times: u32) -> Result<String, Failed> {
    let place = Place::new()?;
    held.admit(&place)?;
    let came = (|| {
        let mut attacker = place.start(program, ("", ""), "swap", 1)?;
        held.started(attacker.pid())?;
        let mut compiled = Vec::new();
        for specs in ALTERNATING {
            compiled.push(policies::compiled(&specs)?);
        }
        held.install(&compiled[0])?;
        let first = held.generation();
        attacker.tell()?;
        let mut denials = [0_u64; 2];
        for number in 1..=times {
            held.put(&compiled[number as usize % 2])?;
            // Once all processes have seen it, most of the time; sooner now and then.
            if number % 8 != 0 {
                thread::yield_now();
            }
            held.some(&mut |record| of_its_generation(record, first, &mut denials))?;
        }
        attacker.tell()?;
        let said = attacker.answer()?;
        held.each(|record| of_its_generation(record, first, &mut denials))?;
        let told = format!("{times} swaps: {}; denials of the one and the other {denials:?}", attacker.note);
        let both = denials.iter().all(|denials| *denials > 0) && !attacker.note.contains("yes=0 ");
        if said == Said::Errno(13, false) && both { Ok(told) } else { Err(Failed(told)) }
    })();
    held.release()?;
    came
}

fn of_its_generation(
    record: &palisade_kernel_abi::record::Record<'_>,
    first: u32,
    denials: &mut [u64; 2],
) -> Result<(), Failed> {
    let (Some(taken), Body::Open(open)) = (record.decision, &record.body) else { return Ok(()) };
    if taken.outcome != Outcome::Denied || taken.generation < first {
        return Ok(());
    }
    let which = (taken.generation - first) as usize % 2;
    let path = String::from_utf8_lossy(open.path.bytes);
    match path.as_ref() {
        "/swap/never" => Ok(()),
        path if path == DENIED[which] => {
            denials[which] += 1;
            Ok(())
        }
        other => Err(Failed(format!("generation {} denied {other}", taken.generation - first))),
    }
}

/// Of files.
impl Held {
    /// Which tier holds them.
    #[must_use]
    pub fn tier(&self) -> Tier {
        use palisade_world::Enforcement as _;
        self.adapter().matrix().families.get(&palisade_domain::Family::File).map_or(Tier::Audit, |held| held.tier)
    }
}
