//! The shell: reads in turns, so that a flood leaves room for questions.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

use actix::{Actor, AsyncContext as _, Handler, MessageResult};
use palisade_protocol::{Condition, ConditionReported, RecordAccountOf, RecordsRead};
use palisade_supervision::{Context, Outbox};
use palisade_world::{RecordBatch, RecordSource};

use crate::state::State;

/// The condition's name.
pub const CONDITION: &str = "records";
/// At most this many batches before other messages have a turn: 16 of 512 records take about 4 ms.
pub const BATCHES_A_TURN: u32 = 16;
/// Batches that are with their readers at a time: 64 of 512 records are a tenth of a second of the heaviest load, about 8 MiB. Beyond it the
/// rings are not read: they hold more, and the kernel counts by kind what does not fit.
pub const IN_FLIGHT: usize = 64;
/// Wait after an empty reading. At 100,000 records a second a ring of 4 MiB fills in 200 ms; 5 ms keeps alerts prompt at 200 wake-ups a second.
const IDLE: Duration = Duration::from_millis(5);
/// How often the kernel's own count of losses is read.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);

/// Where records go.
#[derive(Clone)]
pub struct Wiring {
    /// Who reads them.
    pub readers: Vec<Outbox<RecordsRead>>,
    /// Who keeps conditions.
    pub conditions: Outbox<ConditionReported>,
}

/// See the crate's doc.
pub struct Probe {
    state: State,
    source: Box<dyn RecordSource>,
    wiring: Wiring,
    /// Batches handed on, oldest first; gone once every reader has let go of them.
    in_flight: VecDeque<Weak<RecordBatch>>,
}

impl Probe {
    /// Reads `source` to its end of days.
    #[must_use]
    pub fn new(source: Box<dyn RecordSource>, wiring: Wiring) -> Self {
        Self { state: State::default(), source, wiring, in_flight: VecDeque::with_capacity(IN_FLIGHT) }
    }

    fn turn(&mut self, ctx: &mut Context<Self>) {
        for _ in 0..BATCHES_A_TURN {
            if !self.batch(ctx) {
                ctx.run_later(IDLE, Self::turn);
                return;
            }
        }
        ctx.run_later(Duration::ZERO, Self::turn);
    }

    /// One batch; false when nothing was waiting, or too much is on its way.
    fn batch(&mut self, ctx: &mut Context<Self>) -> bool {
        self.in_flight.retain(|batch| batch.strong_count() > 0);
        if self.in_flight.len() >= IN_FLIGHT {
            return false;
        }
        let mut batch = RecordBatch::default();
        let more = match self.source.read(&mut batch) {
            Ok(more) => more,
            // The supervisor opens the source anew; what stands in the kernel stands on.
            Err(error) => panic!("{error}"),
        };
        if batch.records == 0 {
            return more;
        }
        ctx.at_stake(u64::from(batch.records));
        palisade_world::fault_point("probe: with a batch in hand");
        if let Some(error) = self.state.read(&batch) {
            tracing::error!(%error, "malformed record");
        }
        let batch = Arc::new(batch);
        self.in_flight.push_back(Arc::downgrade(&batch));
        for reader in &self.wiring.readers {
            if reader.try_send(RecordsRead { batch: Arc::clone(&batch) }).is_err() {
                self.state.refused(batch.records);
            }
        }
        more
    }

    /// Looks at the kernel's count; `first`: what it counted before is nobody's news now.
    fn read_losses(&mut self, first: bool) {
        let condition = match self.source.loss() {
            Ok(loss) => match (self.state.losses(loss), first) {
                (0, _) => Condition::Good,
                (before, true) => {
                    tracing::warn!(
                        records = before,
                        "records were lost in the kernel before this look, some may be of an earlier run"
                    );
                    Condition::Good
                }
                (new, false) => {
                    tracing::warn!(records = new, "records lost in the kernel since the last look");
                    Condition::Degraded(format!("{new} records lost in a second"))
                }
            },
            Err(error) => {
                tracing::error!(%error, "the count of lost records cannot be read");
                Condition::Degraded(format!("lost records are not counted: {error}"))
            }
        };
        // A report that finds no room is superseded by the next one.
        let report = ConditionReported { name: CONDITION.into(), condition: Some(condition) };
        let _ = self.wiring.conditions.try_send(report);
    }
}

impl Actor for Probe {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.read_losses(true);
        ctx.run_interval(LOSS_INTERVAL, |probe, _| probe.read_losses(false));
        self.turn(ctx);
    }
}

impl Handler<RecordAccountOf> for Probe {
    type Result = MessageResult<RecordAccountOf>;

    fn handle(&mut self, _: RecordAccountOf, _: &mut Self::Context) -> Self::Result {
        self.read_losses(false);
        MessageResult(self.state.account())
    }
}
