//! Who dialled and was not taken up: the last of them for who asks, each of them in a count, and a line of the log for each cause and minute.
//!
//! Invariant: nothing here grows by what strangers do. They are anybody, from addresses that may be forged: causes are a few and known
//! beforehand, and of the last [`STRANGERS`] the address is remembered.
//! Decision: lines by cause and not by address, because addresses are the stranger's to choose; each line names the last.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use palisade_domain::{Refusal, UnixNanos};
use palisade_world::TurnedAway;
use tokio::time::Instant;

/// Of which address and reason are remembered.
const STRANGERS: usize = 16;
/// Between two lines of one cause.
const SAID_EVERY: Duration = Duration::from_secs(60);
/// A node that dials comes again each 15 seconds at least; of one that does not, nothing is complained for longer.
pub(crate) const COMPLAINED_FOR: Duration = Duration::from_secs(60);

/// Why somebody was not taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// One side refused the other: this node, or who dialled.
    Refused {
        /// Why.
        why: Refusal,
        /// By this node.
        by_us: bool,
    },
    /// Too many unfinished handshakes of one source.
    ManyOfOne,
    /// Too many unfinished handshakes.
    Crowded,
    /// A handshake that stalled made way for another.
    Stalled,
}

impl Cause {
    /// As a metric spells it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Refused { why, .. } => why.word(),
            Self::ManyOfOne => "many-of-one-source",
            Self::Crowded => "crowded",
            Self::Stalled => "stalled",
        }
    }

    /// Who did not want the other, as a metric spells it.
    #[must_use]
    pub const fn by(self) -> &'static str {
        match self {
            Self::Refused { by_us: false, .. } => "peer",
            _ => "node",
        }
    }
}

#[derive(Default)]
struct Told {
    times: u64,
    /// Since the last line.
    unsaid: u64,
    said: Option<Instant>,
    last: Option<(SocketAddr, String)>,
}

/// What is worth a line of the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) cause: Cause,
    /// Since the line before.
    pub(crate) times: u64,
    /// The last.
    pub(crate) address: SocketAddr,
    pub(crate) said: String,
}

impl Line {
    pub(crate) fn log(&self) {
        let Self { cause, times, address, said } = self;
        let (why, by) = (cause.word(), cause.by());
        tracing::warn!(%address, why, said, refused_by = by, times, "no link to who dialled");
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Strangers {
    /// And whether it had proven where it is.
    last: VecDeque<(TurnedAway, bool)>,
    causes: BTreeMap<Cause, Told>,
}

impl Strangers {
    /// One side refused the other. The line to say of it now, where it is one.
    pub(crate) fn refused(&mut self, one: TurnedAway, is_proven: bool, now: Instant) -> Option<Line> {
        let cause = Cause::Refused { why: one.why, by_us: one.by_us };
        let line = self.count(cause, one.address, &one.said, now);
        let alike = |known: &&mut (TurnedAway, bool)| {
            known.0.address.ip() == one.address.ip() && (known.0.why, known.0.by_us) == (one.why, one.by_us)
        };
        if let Some((known, was_proven)) = self.last.iter_mut().find(alike) {
            *was_proven |= is_proven;
            *known = TurnedAway { times: known.times + one.times, ..one };
            return line;
        }
        if self.last.len() == STRANGERS {
            // Who proved where it is stays before who may be nobody.
            let at = self.last.iter().position(|(_, is_proven)| !is_proven).unwrap_or(0);
            self.last.remove(at);
        }
        self.last.push_back((one, is_proven));
        line
    }

    /// Counts one. The line to say of it now, where it is one.
    pub(crate) fn count(&mut self, cause: Cause, address: SocketAddr, said: &str, now: Instant) -> Option<Line> {
        let told = self.causes.entry(cause).or_default();
        (told.times, told.unsaid) = (told.times + 1, told.unsaid + 1);
        told.last = Some((address, said.to_owned()));
        told.line(cause, now)
    }

    /// Lines that waited for their minute.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Line> {
        self.causes.iter_mut().filter_map(|(cause, told)| told.line(*cause, now)).collect()
    }

    /// The last of them.
    pub(crate) fn last(&self) -> Vec<TurnedAway> {
        self.last.iter().map(|(one, _)| one.clone()).collect()
    }

    /// Each cause there was, and how often.
    pub(crate) fn counts(&self) -> Vec<(Cause, u64)> {
        self.causes.iter().map(|(cause, told)| (*cause, told.times)).collect()
    }

    /// That somebody dialled lately from where it says, and refused this node's certificate: once a cause.
    ///
    /// Decision: without what a stranger said, and with its address only while there is one, because these are news whenever their text is
    /// other, and a stranger chooses both.
    pub(crate) fn refusers(&self, now: UnixNanos) -> Vec<String> {
        let lately = |one: &&TurnedAway| u128::from(now.0.saturating_sub(one.last.0)) < COMPLAINED_FOR.as_nanos();
        let refusers =
            self.last.iter().filter(|(one, is_proven)| *is_proven && !one.by_us && one.why.is_of_certificate());
        let mut causes: BTreeMap<Refusal, Option<IpAddr>> = BTreeMap::new();
        for one in refusers.map(|(one, _)| one).filter(lately) {
            let known = causes.entry(one.why).or_insert(Some(one.address.ip()));
            *known = known.filter(|known| *known == one.address.ip());
        }
        let said = |(why, address): (Refusal, Option<IpAddr>)| {
            let from = address.map_or_else(|| "several addresses".into(), |address| address.to_string());
            format!("who dials from {from} refuses this node's certificate ({why})")
        };
        causes.into_iter().map(said).collect()
    }
}

impl Told {
    fn line(&mut self, cause: Cause, now: Instant) -> Option<Line> {
        if self.unsaid == 0 || self.said.is_some_and(|said| now.duration_since(said) < SAID_EVERY) {
            return None;
        }
        let (address, said) = self.last.take()?;
        self.said = Some(now);
        Some(Line { cause, times: std::mem::take(&mut self.unsaid), address, said })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(host: u32, why: Refusal, by_us: bool, seconds: u64) -> TurnedAway {
        let address = SocketAddr::from((host.to_be_bytes(), 7));
        TurnedAway { address, why, said: "so".into(), by_us, times: 1, last: UnixNanos(seconds * 1_000_000_000) }
    }

    #[tokio::test(start_paused = true)]
    async fn unit_link_strangers_from_ever_new_addresses_are_a_line_a_minute_and_counted_each() {
        let (mut strangers, now) = (Strangers::default(), Instant::now());
        let mut lines = Vec::new();
        for n in 0..120_000 {
            let at = now + Duration::from_millis(u64::from(n));
            lines.extend(strangers.refused(one(n, Refusal::Expired, false, 0), false, at));
        }
        assert_eq!(lines.iter().map(|line| line.times).collect::<Vec<_>>(), [1, 60_000], "one a minute");
        let rest = strangers.due(now + Duration::from_secs(120));
        assert!(matches!(rest.as_slice(), [line] if line.times == 59_999), "{rest:?}");
        assert_eq!(strangers.due(now + Duration::from_secs(999)), [], "nothing new");
        assert_eq!(strangers.counts(), [(Cause::Refused { why: Refusal::Expired, by_us: false }, 120_000)]);
        assert_eq!(strangers.last().len(), STRANGERS);
        // Another cause has its own line.
        assert!(strangers.count(Cause::Crowded, "10.0.0.1:7".parse().expect("an address"), "", now).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn unit_link_strangers_that_proved_where_they_are_are_not_displaced_by_forged_ones() {
        let (mut strangers, now) = (Strangers::default(), Instant::now());
        strangers.refused(one(1, Refusal::UnknownAuthority, false, 5), true, now);
        (2..100).for_each(|n| drop(strangers.refused(one(n, Refusal::Revoked, false, 5), false, now)));
        assert_eq!(strangers.last()[0].why, Refusal::UnknownAuthority);
        let said = strangers.refusers(UnixNanos(6_000_000_000));
        assert_eq!(said, ["who dials from 0.0.0.1 refuses this node's certificate (unknown-authority)"]);
        assert_eq!(strangers.refusers(UnixNanos(66_000_000_000)), Vec::<String>::new(), "it came no more");
    }

    #[tokio::test(start_paused = true)]
    async fn unit_link_strangers_make_no_news_by_their_words_or_by_ever_other_addresses() {
        let (mut strangers, now) = (Strangers::default(), Instant::now());
        let mut troubles = std::collections::BTreeSet::new();
        for n in 0..300 {
            // One that says something else each second, and one that dials from somewhere else, too.
            let chatty = TurnedAway { said: format!("alert {n}"), ..one(1, Refusal::Expired, false, n) };
            let elsewhere = one(100 + n as u32, Refusal::UnknownAuthority, false, n);
            for one in [chatty, elsewhere] {
                strangers.refused(one, true, now);
            }
            troubles.extend(strangers.refusers(UnixNanos(n * 1_000_000_000)));
        }
        let refuses = "refuses this node's certificate";
        let expected = [
            format!("who dials from 0.0.0.1 {refuses} (expired)"),
            format!("who dials from 0.0.0.100 {refuses} (unknown-authority)"),
            format!("who dials from several addresses {refuses} (unknown-authority)"),
        ];
        assert_eq!(troubles.into_iter().collect::<Vec<_>>(), expected);
    }
}
