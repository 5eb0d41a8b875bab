//! What runs on a machine outside of all containers.

use std::time::Duration;

use palisade_domain::CgroupId;
use tokio::time::sleep;

use super::{Until, containers::process};
use crate::{event::host, random::Random, world::machine::Machine};

/// The cgroup of the machine's first process.
const CGROUP: CgroupId = CgroupId(1);
/// Its mount namespace.
const NAMESPACE: u32 = 1;

/// Processes of the host act as long as the workload lasts, from each start of the machine on; and once more when all has settled.
pub async fn acts(machine: Machine, mut random: Random, until: Until) {
    loop {
        let boots = machine.boots();
        let init = machine.kernel.start_init(&host(), CGROUP, "/sbin/init", NAMESPACE);
        while machine.boots() == boots {
            if until.is_over() {
                return rest(machine, random, until, init).await;
            }
            process(&machine.kernel, &mut random, init);
            until.sleep(random.millis(50, 1500)).await;
        }
    }
}

async fn rest(machine: Machine, mut random: Random, until: Until, init: u32) {
    while !until.is_settled() {
        sleep(Duration::from_millis(100)).await;
    }
    (0..12).for_each(|_| process(&machine.kernel, &mut random, init));
}
