//! What supervision costs a message: a bounded, counted outbox into a supervised actor, against plain actix.
//!
//! Both sides do the same: a burst of messages, then one question whose answer says that all were handled. One thread.

use std::time::Duration;

use actix::prelude::{Actor, Handler, Message};
use palisade_supervision::{Backoff, ChildSpec, Overflow, Supervisor};
use tokio::task::LocalSet;

use crate::{
    Measured,
    stopwatch::now,
    table::{Row, Table, Unit},
};

const BURST: usize = 1000;
const BURSTS: usize = 1000;
const ROUNDS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Message)]
#[rtype(result = "()")]
struct Add(u64);

#[derive(Message)]
#[rtype(result = "u64")]
struct Sum;

#[derive(Default)]
struct Plain(u64);
#[derive(Default)]
struct Supervised(u64);

impl Actor for Plain {
    type Context = actix::Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(2 * BURST);
    }
}

impl Actor for Supervised {
    type Context = palisade_supervision::Context<Self>;
}

macro_rules! tallies {
    ($actor:ty) => {
        impl Handler<Add> for $actor {
            type Result = ();
            fn handle(&mut self, Add(more): Add, _: &mut Self::Context) {
                self.0 += more;
            }
        }
        impl Handler<Sum> for $actor {
            type Result = u64;
            fn handle(&mut self, Sum: Sum, _: &mut Self::Context) -> u64 {
                self.0
            }
        }
    };
}
tallies!(Plain);
tallies!(Supervised);

/// Nanoseconds for each message, sending and handling together.
///
/// # Errors
/// Where something of it cannot be built; then nothing of it is in the table.
pub fn measure(table: &mut Table) -> Measured {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (plain, supervised) = LocalSet::new().block_on(&runtime, async { (plain().await, supervised().await) });
    table.add(Row {
        what: "a message to a supervised actor".to_owned(),
        value: supervised?,
        unit: Unit::Nanoseconds,
        baseline: Some(("plain actix".to_owned(), plain?)),
        budget: None,
    });
    Ok(())
}

type Nanoseconds = Result<f64, Box<dyn std::error::Error>>;

/// The fastest round of [`BURSTS`] bursts.
macro_rules! fastest_round {
    ($send:expr, $sum:expr) => {{
        let mut fastest = Duration::MAX;
        for _ in 0..ROUNDS {
            let started = now();
            for _ in 0..BURSTS {
                for number in 0..BURST {
                    $send(Add(number as u64))?;
                }
                $sum().await?;
            }
            fastest = fastest.min(started.elapsed());
        }
        Ok(fastest.as_nanos() as f64 / (BURST * BURSTS) as f64)
    }};
}

async fn plain() -> Nanoseconds {
    let address = Plain::default().start();
    // Its capacity is set once it has started.
    address.send(Sum).await?;
    fastest_round!(|add| address.try_send(add), || address.send(Sum))
}

async fn supervised() -> Nanoseconds {
    let mut root = Supervisor::new("bench").backoff(Backoff::fixed(Duration::from_millis(1)));
    let address = root.add(ChildSpec::new("tally", |_| Supervised::default()).capacity(2 * BURST));
    let tree = root.start(|gave_up| eprintln!("{gave_up}")).await?;
    let outbox = address.outbox::<Add>(Overflow::Refuse);
    let measured =
        fastest_round!(|add| outbox.try_send(add).map_err(|_| "the mailbox is full"), || address.ask(Sum, PATIENCE));
    tree.stop().await;
    measured
}
