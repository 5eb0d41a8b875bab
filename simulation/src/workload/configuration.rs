//! Who changes the node's settings while it runs.

use palisade_alerts::throttle::Limit;
use palisade_domain::{Posture, Visibility};
use palisade_policy::ir::Postures;

use super::Until;
use crate::{
    random::Random,
    world::{configuration::Configured, machine::Machine},
};

/// How a machine is configured when it is new.
#[must_use]
pub fn any(random: &mut Random) -> Configured {
    Configured { postures: postures(random), visibility: visibility(random), throttle: throttle(random), sink: 0 }
}

fn postures(random: &mut Random) -> Postures {
    let posture = |random: &mut Random| if random.percent(50) { Posture::Audit } else { Posture::Block };
    Postures { file: posture(random), network: posture(random), capabilities: posture(random), ..Postures::default() }
}

fn visibility(random: &mut Random) -> Visibility {
    if random.percent(40) { Visibility::ALL } else { Visibility::NONE }
}

fn throttle(random: &mut Random) -> Option<Limit> {
    random.percent(25).then_some(Limit { per_second: 10, silence_seconds: 3 })
}

/// Edits the file now and then.
pub async fn edit(machine: Machine, mut random: Random, until: Until) {
    while until.sleep(random.millis(800, 5000)).await {
        match random.below(4) {
            0 => {
                let postures = postures(&mut random);
                machine.configuration.edit(|configured| configured.postures = postures);
            }
            1 => {
                let visibility = visibility(&mut random);
                machine.configuration.edit(|configured| configured.visibility = visibility);
            }
            2 => {
                let throttle = throttle(&mut random);
                machine.configuration.edit(|configured| configured.throttle = throttle);
            }
            _ => machine.configuration.edit(|configured| configured.sink = (configured.sink + 1) % 3),
        }
    }
}
