//! What the admin endpoint shows of other nodes: each with how its link is, and how old what it said is.

use futures_util::stream;
use palisade_admin::{
    Metric, MetricKind, ViewError,
    nodes::{
        AllAlerts, AllLine, AllLines, DoubledAnswer, LinkCountsAnswer, NodeAnswer, NodeMark, NodeTree,
        Nodes as NodesAnswer, TreeRowAnswer, Trees, TurnedAwayAnswer,
    },
};
use palisade_assembly::NodesAskers;
use palisade_peers::follow::time_of;
use palisade_protocol::{FollowNodes, NodeSeen, Nodes, NodesLine, NodesOf, NodesStream};
use palisade_supervision::TreeNode;
use palisade_wire::frame::TreeRow;
use palisade_world::{LinkState, Peer, TurnedAway};

use super::view::{WITHIN, silent};

/// Asks the actor of peers, where there are links.
pub struct AllNodes {
    /// What this node is called where there are none.
    pub own: String,
    /// Whom to ask.
    pub asker: Option<NodesAskers>,
}

impl AllNodes {
    async fn ask(&self, fresh: bool) -> Result<Nodes, ViewError> {
        match &self.asker {
            Some(askers) => askers.nodes.ask(NodesOf { fresh }, WITHIN).await.map_err(silent("peers")),
            None => {
                Ok(Nodes { own: self.own.clone(), nodes: Vec::new(), turned_away: Vec::new(), troubles: Vec::new() })
            }
        }
    }

    /// `/v1/nodes`.
    pub async fn nodes(&self) -> Result<NodesAnswer, ViewError> {
        let nodes = self.ask(false).await?;
        Ok(NodesAnswer {
            nodes: std::iter::once(here(nodes.own)).chain(nodes.nodes.iter().map(node)).collect(),
            turned_away: nodes.turned_away.iter().map(turned_away).collect(),
            troubles: nodes.troubles,
        })
    }

    /// `/v1/tree?nodes=all`.
    pub async fn trees(&self, own: &TreeNode) -> Result<Trees, ViewError> {
        let nodes = self.ask(true).await?;
        let rows = palisade_peers::state::rows(own).into_iter().map(row).collect();
        let mut trees = vec![NodeTree { node: here(nodes.own), rows, omitted: 0 }];
        trees.extend(nodes.nodes.into_iter().map(|seen| {
            let node = node(&seen);
            let (rows, omitted) = seen.tree.map_or_else(Default::default, |said| (said.items, said.omitted));
            NodeTree { node, rows: rows.into_iter().map(row).collect(), omitted }
        }));
        Ok(Trees { nodes: trees })
    }

    /// `/v1/alerts?nodes=all`: this node's own and the last of the others, by time.
    pub async fn alerts(&self, own: Vec<String>, recent: usize) -> Result<AllAlerts, ViewError> {
        let nodes = self.ask(true).await?;
        let mut marks = vec![NodeMark { link: here(nodes.own), omitted: 0, note: None }];
        let mut lines = own;
        for seen in nodes.nodes {
            let link = node(&seen);
            let (said, omitted) = seen.alerts.map_or_else(Default::default, |said| (said.items, said.omitted));
            lines.extend(said.into_iter().rev().take(recent).rev());
            marks.push(NodeMark { link, omitted, note: None });
        }
        // Stable: what a node says in one moment stays in its order.
        lines.sort_by_cached_key(|line| time_of(line));
        Ok(AllAlerts { marks, lines })
    }

    /// `/v1/alerts?nodes=all&follow=true`. Without links it is this node alone, which has a route of its own for that.
    pub async fn follow(&self, recent: usize) -> Result<AllLines, ViewError> {
        let Some(askers) = &self.asker else {
            let reason = "this node has no links: ask without nodes=all".to_owned();
            return Err(ViewError { actor: "peers", reason });
        };
        let NodesStream { lines, follows } =
            askers.follow.ask(FollowNodes { recent }, WITHIN).await.map_err(silent("peers"))?;
        if !follows {
            let reason = format!("{} follow all nodes already, at most", palisade_peers::follow::FOLLOWERS);
            return Err(ViewError { actor: "peers", reason });
        }
        let own = self.own.clone();
        Ok(Box::pin(stream::unfold((lines, own), async |(mut lines, own)| {
            let line = lines.recv().await?;
            Some((followed(line, &own), (lines, own)))
        })))
    }

    /// Of each peer; none where there are no links, or nobody could say.
    pub async fn metrics(&self) -> Result<Vec<Metric>, ViewError> {
        let nodes = self.ask(false).await?;
        let metric = |name, help, kind, of: fn(&NodeSeen) -> u64| {
            let samples = nodes.nodes.iter().map(|seen| (vec![("peer", seen.peer.name.to_string())], of(seen)));
            Metric { name, help, kind, samples: samples.collect() }
        };
        if self.asker.is_none() {
            return Ok(Vec::new());
        }
        let (counter, gauge) = (MetricKind::Counter, MetricKind::Gauge);
        Ok(vec![
            metric("link_up", "Whether the peer is linked.", gauge, |seen| seen.peer.state.is_linked().into()),
            metric("link_made", "Times the peer was linked.", counter, |seen| seen.peer.counts.linked),
            metric("link_messages_sent", "Messages to the peer.", counter, |seen| seen.peer.counts.sent),
            metric("link_messages_received", "Messages of the peer.", counter, |seen| seen.peer.counts.received),
            metric("link_messages_refused", "Messages refused for want of room.", counter, |seen| {
                seen.peer.counts.refused
            }),
            metric("link_messages_lost", "Messages lost since the peer began anew.", counter, |seen| {
                seen.peer.counts.lost
            }),
            metric("link_waiting_bytes", "Bytes that wait for the peer.", gauge, |seen| seen.peer.counts.waiting_bytes),
        ])
    }
}

fn followed(line: NodesLine, own: &str) -> AllLine {
    match line {
        NodesLine::Alert(text) => AllLine::Alert(text),
        NodesLine::Mark { peer, lost, gap, ended } => {
            let link = peer.map_or_else(|| here(own.to_owned()), |peer| of_peer(&peer));
            let notes = [(gap, "some may be missing that nobody counted"), (ended, "no more of it come now")];
            let said: Vec<&str> = notes.into_iter().filter(|(holds, _)| *holds).map(|(_, note)| note).collect();
            let note = (!said.is_empty()).then(|| said.join("; "));
            AllLine::Mark(Box::new(NodeMark { link, omitted: lost, note }))
        }
    }
}

fn here(name: String) -> NodeAnswer {
    NodeAnswer { node: name, state: "here".into(), ..NodeAnswer::default() }
}

fn node(seen: &NodeSeen) -> NodeAnswer {
    let mut answer = of_peer(&seen.peer);
    answer.counts.get_or_insert_default().unreadable = seen.unreadable;
    answer.tree_age_ms = seen.tree.as_ref().map(|said| said.age_ms);
    answer.alerts_age_ms = seen.alerts.as_ref().map(|said| said.age_ms);
    answer
}

fn of_peer(peer: &Peer) -> NodeAnswer {
    let counts = peer.counts;
    let mut answer = NodeAnswer {
        node: peer.name.to_string(),
        address: peer.address.map(|address| address.to_string()),
        dialled: Some(peer.dialled),
        doubled: peer.doubled.as_ref().map(|doubled| DoubledAnswer {
            addresses: doubled.addresses.map(|address| address.to_string()).to_vec(),
            times: doubled.times,
            last: doubled.last.rfc3339(),
            said: doubled.to_string(),
        }),
        counts: Some(LinkCountsAnswer {
            sent: counts.sent,
            taken_by_peer: counts.taken_by_peer,
            received: counts.received,
            refused: counts.refused,
            lost: counts.lost,
            linked: counts.linked,
            waiting_bytes: counts.waiting_bytes,
            unreadable: 0,
        }),
        ..NodeAnswer::default()
    };
    let (state, since) = match &peer.state {
        LinkState::Connecting => ("connecting", None),
        LinkState::Linked { since } => ("linked", Some(since)),
        LinkState::Refused { why, said, by_us, since } => {
            answer.why = Some(why.to_string());
            answer.said = Some(said.clone());
            answer.refused_here = Some(*by_us);
            ("refused", Some(since))
        }
        LinkState::Out { why, since } => {
            answer.why = Some(why.clone());
            ("out", Some(since))
        }
    };
    answer.state = state.into();
    answer.since = since.map(|since| since.rfc3339());
    answer
}

fn turned_away(one: &TurnedAway) -> TurnedAwayAnswer {
    TurnedAwayAnswer {
        address: one.address.to_string(),
        why: one.why.to_string(),
        said: one.said.clone(),
        refused_here: one.by_us,
        times: one.times,
        last: one.last.rfc3339(),
    }
}

fn row(row: TreeRow) -> TreeRowAnswer {
    let [depth, capacity, handled, lost] = row.mail.map_or([None; 4], |mail| mail.map(Some));
    TreeRowAnswer {
        level: row.level,
        name: row.name,
        kind: row.kind,
        state: row.state,
        restarts: row.restarts,
        uptime_ms: row.uptime_ms,
        depth,
        capacity,
        handled,
        lost,
        last_error: row.last_error,
    }
}

#[cfg(test)]
mod tests {
    use palisade_domain::{Refusal, UnixNanos};
    use palisade_protocol::Said;
    use palisade_world::LinkCounts;

    use super::*;

    fn seen(name: &str, state: LinkState, lines: &[&str]) -> NodeSeen {
        let items = lines.iter().map(|line| (*line).to_owned()).collect();
        NodeSeen {
            peer: Peer {
                name: name.parse().expect("a name"),
                address: None,
                dialled: true,
                state,
                counts: LinkCounts::default(),
                doubled: None,
            },
            tree: None,
            alerts: Some(Said { items, omitted: 2, age_ms: 9 }),
            unreadable: 0,
        }
    }

    #[test]
    fn unit_node_tells_of_each_node_since_when_it_is_out_and_why() {
        let since = UnixNanos(1_795_642_661_000_000_000);
        let out = node(&seen("b", LinkState::Out { why: "it does not answer".into(), since }, &[]));
        assert_eq!(
            (out.state.as_str(), out.since.as_deref(), out.why.as_deref(), out.alerts_age_ms),
            ("out", Some("2026-11-25T21:37:41.000000Z"), Some("it does not answer"), Some(9))
        );
        let refused = LinkState::Refused { why: Refusal::Revoked, said: "x".into(), by_us: false, since };
        let refused = node(&seen("b", refused, &[]));
        assert_eq!((refused.why.as_deref(), refused.refused_here), (Some("revoked"), Some(false)));
    }

    #[test]
    fn unit_node_orders_alerts_of_nodes_by_their_time() {
        let mut lines = vec![r#"{"time":3}"#.to_owned(), "no JSON".into(), r#"{"time":1}"#.into()];
        lines.sort_by_cached_key(|line| time_of(line));
        assert_eq!(lines, ["no JSON", r#"{"time":1}"#, r#"{"time":3}"#]);
    }
}
