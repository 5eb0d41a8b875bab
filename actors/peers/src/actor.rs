//! The shell.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt as _, AsyncContext as _, Handler, ResponseActFuture, WrapFuture as _};
use palisade_domain::NodeName;
use palisade_protocol::{Condition, ConditionReported, LineClass, Nodes, NodesOf, SubscribeAlerts};
use palisade_supervision::{Asker, Context, Outbox, TreeNode};
use palisade_wire::frame::Message;
use palisade_world::{BootNanos, Clock, Link, LinkEvent, Peer, SendError};
use tokio::sync::oneshot;

use crate::{
    follow::{Followed, Follower},
    state::{self, ASK_EVERY, FRESH, Heard, State},
};

/// The name of the condition.
pub const CONDITION: &str = "links";
/// Who wait for fresh answers, at a time: more get what there is.
pub const WAITING: usize = 64;
/// For which they wait, at most: the admin endpoint waits two seconds itself.
const WITHIN: Duration = Duration::from_millis(1000);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// For this node's own alerts.
pub(crate) const ALERTS_WITHIN: Duration = Duration::from_secs(2);

/// This node's own tree; none before it stands.
pub type OwnTree = Arc<dyn Fn() -> Option<TreeNode> + Send + Sync>;

/// What it is wired to.
#[derive(Clone)]
pub struct Wiring {
    /// To the peers.
    pub link: Arc<dyn Link>,
    /// For answers about this node.
    pub tree: OwnTree,
    /// For answers about this node.
    pub alerts: Asker<SubscribeAlerts>,
    /// For the age of answers.
    pub clock: Arc<dyn Clock>,
    /// Where its condition goes.
    pub conditions: Outbox<ConditionReported>,
}

/// See the crate's doc.
pub struct Peers {
    wiring: Wiring,
    state: State,
    waiting: Vec<oneshot::Sender<()>>,
    told: Option<Condition>,
    pub(crate) followers: BTreeMap<u64, Follower>,
    pub(crate) followed: Followed,
}

impl Peers {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(wiring: Wiring) -> Self {
        Self {
            wiring,
            state: State::default(),
            waiting: Vec::new(),
            told: None,
            followers: BTreeMap::new(),
            followed: Followed::default(),
        }
    }

    /// Hears the next event, and then the one after it. A future of this generation: the next one begins anew where this ended.
    fn listen(&self, ctx: &mut Context<Self>) {
        let link = Arc::clone(&self.wiring.link);
        let next = async move { link.next().await };
        ctx.spawn(next.into_actor(self).map(|event, peers, ctx| {
            // None: the node stops.
            let Some(event) = event else { return };
            match event {
                LinkEvent::Received { peer, messages } => {
                    ctx.at_stake(messages.len() as u64);
                    messages.iter().for_each(|message| peers.heard(&peer, message, ctx));
                }
                LinkEvent::Changed { .. } => peers.look(ASK_EVERY),
            }
            peers.listen(ctx);
        }));
    }

    fn heard(&mut self, peer: &NodeName, message: &[u8], ctx: &mut Context<Self>) {
        match self.state.heard(self.wiring.clock.boot(), peer, message) {
            Heard::TellTree { question } => {
                let rows = (self.wiring.tree)().map(|tree| state::rows(&tree)).unwrap_or_default();
                let _ = self.tell(peer, &Message::tree(question, rows));
            }
            Heard::TellAlerts { question, recent } => self.tell_alerts(peer.clone(), question, recent, ctx),
            Heard::Follow { question, recent } => self.follow_here(peer, question, recent, ctx),
            Heard::Followed { question, lines, lost, which } => {
                // Who followed and does no more is asked for no longer: the peer soon ends by itself.
                if let Some(follower) = self.followers.get_mut(&question) {
                    follower.heard(peer, lines, lost, which);
                }
            }
            Heard::Nothing => self.answer_waiting(),
        }
    }

    fn tell_alerts(&self, peer: NodeName, question: u64, recent: u64, ctx: &mut Context<Self>) {
        let alerts = self.wiring.alerts.clone();
        let recent = usize::try_from(recent).unwrap_or(usize::MAX);
        let asked = async move {
            let subscribe = SubscribeAlerts { class: LineClass::Policy, recent, follow: false };
            let mut stream = alerts.ask(subscribe, ALERTS_WITHIN).await.ok()?;
            let mut lines = Vec::new();
            while let Some(line) = stream.lines.recv().await {
                lines.push(line.trim_end().to_owned());
            }
            Some(lines)
        };
        ctx.spawn(asked.into_actor(self).map(move |lines, peers, _| {
            // Where our own alerts do not answer, the peer keeps what it knows, and its age shows.
            if let Some(lines) = lines {
                let _ = peers.tell(&peer, &Message::alerts(question, lines));
            }
        }));
    }

    pub(crate) fn tell(&self, peer: &NodeName, message: &Message) -> bool {
        match self.wiring.link.try_send(peer, message.write()) {
            Ok(()) => true,
            // It asks again, or we do; the link counts what it refuses.
            Err(SendError::Full | SendError::UnknownPeer | SendError::Closed) => false,
            Err(SendError::TooLong) => {
                tracing::error!(%peer, "an answer is longer than its bound");
                false
            }
        }
    }

    pub(crate) fn now(&self) -> BootNanos {
        self.wiring.clock.boot()
    }

    pub(crate) fn link_peers(&self) -> Vec<Peer> {
        self.wiring.link.peers()
    }

    pub(crate) fn alerts(&self) -> Asker<SubscribeAlerts> {
        self.wiring.alerts.clone()
    }

    pub(crate) fn next_question(&mut self) -> u64 {
        self.state.next_question()
    }

    /// Asks who was not asked within `every`, and says how the links are.
    fn look(&mut self, every: Duration) {
        let peers = self.wiring.link.peers();
        for (peer, questions) in self.state.ask(self.wiring.clock.boot(), &peers, every) {
            for question in &questions {
                let _ = self.tell(&peer, question);
            }
        }
        self.look_after_followers();
        let condition = state::condition(&peers, &self.wiring.link.troubles());
        let report = ConditionReported { name: CONDITION.into(), condition: Some(condition.clone()) };
        if self.told.as_ref() != Some(&condition) && self.wiring.conditions.try_send(report).is_ok() {
            self.told = Some(condition);
        }
        self.answer_waiting();
    }

    fn answer_waiting(&mut self) {
        if !self.waiting.is_empty() && !self.state.is_waiting(&self.wiring.link.peers()) {
            for waiting in self.waiting.drain(..) {
                // Who is gone wants no answer.
                let _ = waiting.send(());
            }
        }
    }

    fn nodes(&self) -> Nodes {
        let link = &self.wiring.link;
        Nodes {
            own: link.own_name().to_string(),
            nodes: self.state.nodes(self.wiring.clock.boot(), link.peers()),
            turned_away: link.turned_away(),
            troubles: link.troubles(),
        }
    }
}

impl Actor for Peers {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.look(ASK_EVERY);
        ctx.run_interval(LOOK_EVERY, |peers, _| peers.look(ASK_EVERY));
        self.listen(ctx);
    }
}

impl Handler<NodesOf> for Peers {
    type Result = ResponseActFuture<Self, Nodes>;

    fn handle(&mut self, question: NodesOf, _: &mut Self::Context) -> Self::Result {
        self.waiting.retain(|waiting| !waiting.is_closed());
        let (answered, answer) = oneshot::channel();
        if question.fresh && self.waiting.len() < WAITING {
            self.waiting.push(answered);
            self.look(FRESH);
        }
        // Without an end to send from, it is over at once.
        let answer = tokio::time::timeout(WITHIN, answer);
        Box::pin(answer.into_actor(self).map(|_, peers, _| peers.nodes()))
    }
}
