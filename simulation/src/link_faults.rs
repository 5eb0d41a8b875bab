//! Makes faults happen to the links of one machine, until the calm: beside those of the machine itself, so that a partition meets a crash.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    event::Event,
    faults::{Fault, Faults},
    random::Random,
    world::{links::Wire, network::Storm},
};

/// A node whose certificate was taken back gets another after this long, at least: long enough to be seen to be out.
const WITHOUT: Duration = Duration::from_secs(8);

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
            wire.renew_certificate();
        }
        _ => {}
    }
}
