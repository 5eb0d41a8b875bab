//! Who follows the alerts of all nodes hears those of each node in the order in which it said them, none twice and none that nobody said;
//! what is missing between two of them, or at last, was said to be: counted, or as a gap that nobody could count, or that no more come.
//!
//! What a node says is what its actor of alerts hands to its sink, taken or not: its listeners get the same. A loss may be said before
//! the lines that it is of would have stood, so that counts are held against each other from the beginning of a stream on.
//!
//! Limit: of past lines, that they were the newest of their node is not held, only their order and that those after them are missing.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    checkers::Checker,
    event::{Event, FollowedLine},
    world::links::number,
};

/// What a node said.
#[derive(Debug, Default)]
struct Said {
    lines: usize,
    /// So many when all nodes had come to rest: whoever follows then and goes on hears of each.
    owed: usize,
}

/// What a stream showed of one node.
#[derive(Debug, Default)]
struct Shown {
    marked: bool,
    last: Option<usize>,
    missing: u64,
    lost: u64,
    /// Lines may be missing before the next one.
    gap: bool,
    ended: bool,
}

#[derive(Debug, Default)]
struct Stream {
    recent: usize,
    /// Of which node.
    shown: BTreeMap<usize, Shown>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Following {
    said: BTreeMap<usize, Said>,
    /// Of which node each line is, and its places: what is not held of a policy is said in the same words at each installation.
    places: BTreeMap<u64, (usize, Vec<usize>)>,
    /// By the node that is asked, and its number.
    streams: BTreeMap<(usize, u64), Stream>,
}

impl Shown {
    /// A line of one of these places is shown.
    fn show(&mut self, of: usize, places: &[usize]) -> Result<(), String> {
        if !self.marked {
            return Err(format!("it shows a line of {of} before it says how {of} is"));
        }
        let next = places.iter().find(|place| self.last.is_none_or(|last| last < **place));
        let Some(place) = next.or(places.last()).copied() else { return Ok(()) };
        if self.last.is_none() && places.len() > 1 {
            // Which of them it is, the next line tells.
            return Ok(());
        }
        if let Some(last) = self.last {
            if place == last {
                return Err(format!("line {place} of {of} comes again"));
            }
            if place < last {
                return Err(format!("line {place} of {of} comes after line {last}"));
            }
            self.missing += (place - last - 1) as u64;
        }
        self.last = Some(place);
        if std::mem::take(&mut self.gap) {
            self.missing = self.missing.min(self.lost);
        }
        match self.missing > self.lost {
            true => Err(format!(
                "{} lines of {of} are missing up to line {place}, and {} are said to be",
                self.missing, self.lost
            )),
            false => Ok(()),
        }
    }

    /// What of the lines that it was owed is neither shown nor said to be missing.
    fn owes(&self, owed: usize) -> u64 {
        let after = owed.saturating_sub(self.last.map_or(owed, |last| last + 1)) as u64;
        if self.gap || self.ended { 0 } else { (self.missing + after).saturating_sub(self.lost) }
    }
}

impl Following {
    fn lines(&mut self, node: usize, digests: &[u64]) {
        let said = self.said.entry(node).or_default();
        for line in digests {
            self.places.entry(*line).or_insert_with(|| (node, Vec::new())).1.push(said.lines);
            said.lines += 1;
        }
    }

    fn followed(&mut self, node: usize, number_of: u64, line: &FollowedLine) -> Result<(), String> {
        // One of a process that is over is nobody's.
        let Some(stream) = self.streams.get_mut(&(node, number_of)) else { return Ok(()) };
        let place = |line: &u64| self.places.get(line).ok_or_else(|| format!("line {line:x} was said by nobody"));
        match line {
            FollowedLine::Mark { of, lost, gap, ended } => {
                let Some(of) = of.as_ref().map_or(Some(node), number) else { return Ok(()) };
                let shown = stream.shown.entry(of).or_default();
                shown.marked = true;
                shown.lost += lost;
                shown.gap |= gap;
                shown.ended |= ended;
                Ok(())
            }
            FollowedLine::Alert(line) => {
                let (of, places) = place(line)?;
                stream.shown.entry(*of).or_default().show(*of, places)
            }
            FollowedLine::Past(lines) => {
                let places = lines.iter().map(place).collect::<Result<Vec<_>, String>>()?;
                let Some(of) = places.first().map(|(of, _)| *of) else { return Ok(()) };
                if places.len() > stream.recent {
                    return Err(format!("{} past lines of {of}, and {} were asked for", places.len(), stream.recent));
                }
                let shown = stream.shown.entry(of).or_default();
                if shown.last.is_some() {
                    return Err(format!("past lines of {of} come after others of it"));
                }
                places.into_iter().try_for_each(|(by, places)| match *by == of {
                    true => shown.show(of, places),
                    false => Err(format!("past lines of {of} and of {by} come together")),
                })
            }
        }
    }
}

impl Checker for Following {
    fn name(&self) -> &'static str {
        "following"
    }

    fn hear(&mut self, _: Duration, node: usize, event: &Event) -> Result<(), String> {
        match event {
            Event::Lines { digests, .. } => self.lines(node, digests),
            Event::FollowBegun { stream, recent } => {
                self.streams.insert((node, *stream), Stream { recent: *recent, ..Stream::default() });
            }
            Event::Followed { stream, line } => return self.followed(node, *stream, line),
            Event::FollowOver(stream) => drop(self.streams.remove(&(node, *stream))),
            Event::ProcessDown { .. } => self.streams.retain(|(of, _), _| *of != node),
            Event::Settled(_) => {
                let said = self.said.entry(node).or_default();
                said.owed = said.lines;
            }
            _ => {}
        }
        Ok(())
    }

    fn conclude(&mut self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for ((node, stream), Stream { shown, .. }) in &self.streams {
            for (of, shown) in shown {
                let owes = shown.owes(self.said.get(of).map_or(0, |said| said.owed));
                if owes > 0 {
                    found
                        .push((*node, format!("stream {stream}: {owes} lines of {of} never came, and nobody said so")));
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGUN: Event = Event::FollowBegun { stream: 1, recent: 2 };

    fn mark(lost: u64, gap: bool, ended: bool) -> FollowedLine {
        FollowedLine::Mark { of: None, lost, gap, ended }
    }

    /// What is objected to in a stream of these lines, on a node that says lines 0 to 9.
    fn objections(lines: &[FollowedLine]) -> Vec<String> {
        let mut checker = Following::default();
        let mut hear = |event: &Event| checker.hear(Duration::ZERO, 0, event).err();
        hear(&BEGUN);
        // The fifth says the same as the third.
        let digests = [0, 1, 2, 3, 2, 5, 6, 7, 8, 9].to_vec();
        hear(&Event::Lines { said: Vec::new(), digests, taken: true });
        let events = lines.iter().map(|line| Event::Followed { stream: 1, line: line.clone() });
        let mut found: Vec<String> = events.filter_map(|event| hear(&event)).collect();
        hear(&Event::Settled(std::sync::Arc::default()));
        found.extend(checker.conclude().into_iter().map(|(_, what)| what));
        found
    }

    fn live(lines: std::ops::Range<u64>) -> Vec<FollowedLine> {
        lines.map(|line| FollowedLine::Alert(if line == 4 { 2 } else { line })).collect()
    }

    #[test]
    fn unit_checker_of_following_passes_what_is_whole_or_says_what_is_missing() {
        let whole = mark(0, false, false);
        for stream in [
            [vec![whole.clone(), FollowedLine::Past(vec![3, 2])], live(5..10)].concat(),
            [vec![whole.clone()], live(0..4), vec![mark(2, false, false)], live(6..10)].concat(),
            // Counted before they would have stood.
            [vec![mark(2, false, false)], live(0..8)].concat(),
            [vec![whole.clone()], live(0..4), vec![mark(0, true, false)], live(7..10)].concat(),
            [vec![whole], live(0..4), vec![mark(0, false, true)]].concat(),
        ] {
            assert_eq!(objections(&stream), [""; 0], "{stream:?}");
        }
    }

    #[test]
    fn unit_checker_of_following_objects_to_what_is_repeated_missing_mixed_up_or_invented() {
        let whole = || vec![mark(0, false, false)];
        for (stream, what) in [
            (live(0..10), "before it says how 0 is"),
            ([whole(), live(0..10), live(9..10)].concat(), "line 9 of 0 comes again"),
            ([whole(), live(0..10), live(3..4)].concat(), "line 3 of 0 comes after line 9"),
            ([whole(), live(0..4), live(5..10)].concat(), "1 lines of 0 are missing up to line 5"),
            ([whole(), live(0..4), vec![mark(1, false, false)], live(7..10)].concat(), "3 lines of 0 are missing"),
            ([whole(), live(0..8)].concat(), "2 lines of 0 never came, and nobody said so"),
            ([whole(), live(0..10), live(77..78)].concat(), "line 4d was said by nobody"),
            ([whole(), vec![FollowedLine::Past(vec![7, 8, 9])]].concat(), "3 past lines of 0, and 2 were asked for"),
            ([whole(), live(0..8), vec![FollowedLine::Past(vec![8, 9])]].concat(), "come after others of it"),
        ] {
            let objections = objections(&stream);
            assert!(objections.iter().any(|objection| objection.contains(what)), "{objections:?}");
        }
    }
}
