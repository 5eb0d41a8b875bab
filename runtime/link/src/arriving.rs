//! Takes up who dials: lets them knock, shakes hands, and leads each to the task of its peer.

use std::{net::SocketAddr, sync::Arc};

use palisade_domain::Refusal;
use palisade_world::TurnedAway;
use quinn::Incoming;
use tokio::time::Instant;

use crate::{
    doorway::{Admission, Knock},
    ended::{self, Ended},
    handshake::{self, Arrival, WITHIN},
    links::{Shared, held},
    strangers::Cause,
};

/// Runs until the endpoint is closed, and never ends.
pub(crate) async fn accept(shared: &Arc<Shared>) {
    let Some(endpoint) = shared.endpoint() else { return };
    while let Some(incoming) = endpoint.accept().await {
        let (address, is_proven) = (incoming.remote_address(), incoming.remote_address_validated());
        let admission = held(&shared.doorway).admit(address, is_proven, Instant::now());
        let refused_for = match admission {
            Admission::Taken(knock) => {
                if let Some(displaced) = knock.displaced {
                    count(shared, Cause::Stalled, displaced, "its handshake was not done and made way for another");
                }
                let task = Arc::clone(shared);
                shared.spawn(async move { knocked(&task, incoming, knock).await });
                continue;
            }
            Admission::MustProve if incoming.may_retry() => {
                // It may fail only where the address was proven, which it is not.
                let _ = incoming.retry();
                continue;
            }
            Admission::ManyOfOne => Cause::ManyOfOne,
            Admission::MustProve | Admission::Full => Cause::Crowded,
        };
        count(shared, refused_for, address, "too many unfinished handshakes");
        incoming.refuse();
    }
    std::future::pending::<()>().await;
}

fn count(shared: &Shared, cause: Cause, address: SocketAddr, said: &str) {
    let line = held(&shared.strangers).count(cause, address, said, Instant::now());
    line.iter().for_each(crate::strangers::Line::log);
}

fn turned_away(shared: &Shared, address: SocketAddr, is_proven: bool, why: Refusal, said: String, by_us: bool) {
    let one = TurnedAway { address, why, said, by_us, times: 1, last: shared.now() };
    let line = held(&shared.strangers).refused(one, is_proven, Instant::now());
    line.iter().for_each(crate::strangers::Line::log);
    if !is_proven {
        held(&shared.doorway).be_wary(Instant::now());
    }
}

/// Shakes hands, unless others need the room meanwhile.
async fn knocked(shared: &Arc<Shared>, incoming: Incoming, knock: Knock) {
    let Knock { number, makes_way, .. } = knock;
    let (address, is_proven) = (incoming.remote_address(), incoming.remote_address_validated());
    let heard = tokio::select! {
        biased;
        heard = hear(shared, incoming) => heard,
        // Only ever dropped.
        _ = makes_way => Err(Ended::Out("it took too long while others waited".into())),
    };
    held(&shared.doorway).done(number);
    match heard {
        Ok(arrival) => lead(shared, arrival, address),
        Err(Ended::Refused { why, said, by_us }) => turned_away(shared, address, is_proven, why, said, by_us),
        Err(Ended::Out(why) | Ended::TakenOver(why)) => {
            tracing::debug!(%address, %why, "who dialled went away");
        }
    }
}

async fn hear(shared: &Shared, incoming: Incoming) -> Result<Arrival, Ended> {
    let tls = shared.tls.get();
    let connecting = incoming.accept_with(Arc::new(tls.server.clone())).map_err(|error| Ended::of(&error))?;
    let connected = tokio::time::timeout(WITHIN, connecting).await;
    let connection = connected.map_err(|_| Ended::Out("no handshake in time".into()))?;
    let connection = connection.map_err(|error| Ended::of(&error))?;
    handshake::hear(shared, connection, tls.credentials.chain.clone()).await
}

fn lead(shared: &Arc<Shared>, arrival: Arrival, address: SocketAddr) {
    let connection = arrival.connection.clone();
    match shared.door(&arrival.hello.name, None) {
        Some(door) => {
            if door.try_send(arrival).is_err() {
                ended::goodbye(&connection, "it was dialled too often at once");
            }
        }
        None => {
            let said = format!("{} links, of at most as many", shared.config.most_peers);
            ended::refuse(&connection, Refusal::Full, &said);
            // Who shook hands is where it says.
            turned_away(shared, address, true, Refusal::Full, said, true);
        }
    }
}
