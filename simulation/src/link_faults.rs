//! Makes faults happen to the links of one machine, until the calm: beside those of the machine itself, so that a partition meets a crash.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    event::Event,
    faults::{Fault, Faults},
    random::Random,
    world::{
        clock,
        links::{Registrar, Wire},
        network::Storm,
    },
};

/// A node whose certificate was taken back gets another after this long, at least: long enough to be seen to be out.
const WITHOUT: Duration = Duration::from_secs(8);
/// From when a certificate ended until all who are linked by it must have looked at it again, and some more.
const ENDED: Duration = Duration::from_secs(42);
/// For each node to have read what it was given: files are looked at each second, and a thread may stall for three.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// In which the nodes get their files, one after the other.
const SPREAD: Duration = Duration::from_secs(1);

/// Injects faults until `calm_at`, each of which is over by then.
pub async fn inject(wire: Wire, faults: Faults, mut random: Random, calm_at: Instant) {
    let kinds = faults.of_links();
    // Some nodes have long ones and few: a peer is out only after it was silent for seconds.
    let (gap_ms, most_ms) = *random.pick(&[(2000, 1500), (5000, 6000), (8000, 40_000)]);
    while !kinds.is_empty() {
        sleep(random.millis(100, gap_ms)).await;
        let left = calm_at.saturating_duration_since(Instant::now());
        if left < Duration::from_millis(500) {
            break;
        }
        let lasts = random.millis(50, most_ms).min(left);
        happen(&wire, *random.pick(&kinds), lasts, calm_at, &mut random).await;
    }
}

async fn happen(wire: &Wire, fault: Fault, lasts: Duration, calm_at: Instant, random: &mut Random) {
    let say = |what: &str| wire.say(&Event::Fault(format!("{}: {what} for {} ms", fault.name(), lasts.as_millis())));
    match fault {
        Fault::Network => {
            say("a storm");
            let latest_ms = *random.pick(&[1, 20, 150]);
            wire.storm(Storm {
                lost_permyriad: *random.pick(&[0, 100, 1000, 3000]),
                doubled_permyriad: *random.pick(&[0, 500, 3000]),
                late: random.millis(0, latest_ms),
            });
            sleep(lasts).await;
            wire.storm(Storm::default());
        }
        Fault::Partition => {
            let mut others = wire.others();
            random.shuffle(&mut others);
            others.truncate(usize::try_from(random.between(1, others.len() as u64)).unwrap_or(1));
            let (to, from) = *random.pick(&[(true, true), (true, false), (false, true)]);
            say(&format!("cut to={to} from={from} {others:?}"));
            others.iter().filter(|_| to).for_each(|other| wire.cut_to(*other));
            others.iter().filter(|_| from).for_each(|other| wire.cut_from(*other));
            sleep(lasts).await;
            others.iter().filter(|_| to).for_each(|other| wire.mend_to(*other));
            others.iter().filter(|_| from).for_each(|other| wire.mend_from(*other));
        }
        Fault::Certificates => {
            let until = Instant::now() + lasts.max(WITHOUT);
            if until < calm_at && random.percent(40) {
                say("taken back");
                wire.revoke_certificate();
                sleep_until(until).await;
            }
            wire.begin_renewal();
            if random.percent(30) {
                sleep(random.millis(1, 2500).min(calm_at.saturating_duration_since(Instant::now()))).await;
            }
            wire.end_renewal();
        }
        Fault::Expiry => {
            let (left, ends) = (calm_at.saturating_duration_since(Instant::now()), random.millis(2000, 8000));
            let stays = if left > ends + ENDED { ENDED } else { WITHOUT };
            if left < ends + stays {
                return;
            }
            say(&format!("it ends in {} ms, for {} ms instead of", ends.as_millis(), (ends + stays).as_millis()));
            wire.give_certificate_until(clock::unix_at(wire.now() + ends, 0));
            sleep(ends + stays).await;
            wire.begin_renewal();
            wire.end_renewal();
        }
        _ => {}
    }
}

/// Exchanges the authority of all nodes again and again, each time to its end before `calm_at`.
pub async fn exchange_authorities(registrar: Registrar, mut random: Random, calm_at: Instant) {
    loop {
        sleep(random.millis(100, 2000)).await;
        if Instant::now() + 3 * SPREAD + 3 * READ_WITHIN + WITHOUT > calm_at {
            return;
        }
        exchange(&registrar, &mut random).await;
    }
}

async fn exchange(registrar: &Registrar, random: &mut Random) {
    let era = registrar.found();
    // Somebody may be forgotten: its certificate stays as it is.
    let nodes = registrar.nodes();
    let forgotten = random.percent(40).then(|| usize::try_from(random.below(nodes as u64)).unwrap_or(0));
    registrar.say(&Event::Fault(format!("{}: {era} comes, without {forgotten:?}", Fault::Authority.name())));
    in_turn(nodes, random, |node| registrar.believe(node, era)).await;
    sleep(READ_WITHIN).await;
    registrar.issue_by_the_newest();
    in_turn(nodes, random, |node| {
        if Some(node) != forgotten {
            registrar.give(node);
        }
    })
    .await;
    sleep(READ_WITHIN).await;
    let left = registrar.left_behind(era);
    in_turn(nodes, random, |node| registrar.believe_only(node, era)).await;
    registrar.say(&Event::AuthorityExchanged(era));
    sleep(if left.is_empty() { READ_WITHIN } else { WITHOUT + READ_WITHIN }).await;
    left.iter().for_each(|node| registrar.catch_up(*node, era));
}

/// All nodes, each once, in any order.
async fn in_turn(nodes: usize, random: &mut Random, step: impl Fn(usize)) {
    let mut order: Vec<usize> = (0..nodes).collect();
    random.shuffle(&mut order);
    let wait = SPREAD / u32::try_from(nodes).unwrap_or(1);
    for node in order {
        step(node);
        sleep(wait).await;
    }
}
