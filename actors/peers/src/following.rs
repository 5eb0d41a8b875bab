//! The shell of [`crate::follow`]: alerts of this node to who follows it from elsewhere, and to who follows all nodes here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::{ActorFutureExt as _, AsyncContext as _, Handler, MessageResult, WrapFuture as _};
use palisade_domain::NodeName;
use palisade_protocol::{AlertStream, FollowNodes, LineClass, NodesStream, SubscribeAlerts};
use palisade_supervision::Context;
use palisade_wire::frame::{FollowedLines, Message};
use tokio::sync::mpsc;

use crate::{
    actor::{ALERTS_WITHIN, Peers},
    follow::{Asked, FOLLOWER_LINES, FOLLOWERS, Follower},
    state::RECENT,
};

/// Lines that are told at a time.
const AT_A_TIME: usize = 64;
/// After so long without a line it is looked whether anybody still follows.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// To whom this node's alerts go.
#[derive(Debug, Clone)]
enum To {
    /// A question of another node.
    Peer(NodeName, u64),
    /// The follower here of that question.
    Here(u64),
}

type Lines = mpsc::Receiver<Arc<str>>;

/// What came in one turn, and the rest of the stream.
struct Came {
    lines: Vec<Arc<str>>,
    /// The stream is over.
    ended: bool,
    stream: Lines,
    missed: Arc<AtomicU64>,
}

async fn next(mut stream: Lines, missed: Arc<AtomicU64>) -> Came {
    let mut lines = Vec::new();
    let came = tokio::time::timeout(LOOK_EVERY, stream.recv_many(&mut lines, AT_A_TIME)).await;
    Came { lines, ended: came == Ok(0), stream, missed }
}

impl Peers {
    /// Another node wants this one's alerts, or still does.
    pub(crate) fn follow_here(&mut self, peer: &NodeName, question: u64, recent: u64, ctx: &mut Context<Self>) {
        match self.followed.asked(self.now(), peer, question) {
            Asked::GoesOn => {}
            Asked::TooMany => self.no_more(&To::Peer(peer.clone(), question)),
            Asked::Begins => {
                let recent = usize::try_from(recent).unwrap_or(usize::MAX);
                self.subscribe(To::Peer(peer.clone(), question), recent, ctx);
            }
        }
    }

    fn subscribe(&self, to: To, recent: usize, ctx: &mut Context<Self>) {
        let alerts = self.alerts();
        let asked = async move {
            let subscribe = SubscribeAlerts { class: LineClass::Policy, recent, follow: true };
            alerts.ask(subscribe, ALERTS_WITHIN).await.ok().filter(|stream| stream.follows)
        };
        ctx.spawn(asked.into_actor(self).map(move |stream, peers, ctx| match stream {
            Some(AlertStream { mut lines, missed, .. }) => {
                // As many as were asked for: more are of the time since the question was answered.
                let mut past = Vec::new();
                while past.len() < recent
                    && let Ok(line) = lines.try_recv()
                {
                    past.push(line);
                }
                peers.came(to, Came { lines: past, ended: false, stream: lines, missed }, ctx);
            }
            None => peers.no_more(&to),
        }));
    }

    fn came(&mut self, to: To, came: Came, ctx: &mut Context<Self>) {
        let Came { lines, ended, stream, missed } = came;
        let lost = missed.swap(0, Ordering::Relaxed);
        if !self.hand_on(&to, &lines, lost) {
            return;
        }
        if ended {
            return self.no_more(&to);
        }
        ctx.spawn(next(stream, missed).into_actor(self).map(move |came, peers, ctx| peers.came(to, came, ctx)));
    }

    /// Whether anybody still wants them.
    fn hand_on(&mut self, to: &To, lines: &[Arc<str>], lost: u64) -> bool {
        let plain = |line: &Arc<str>| line.trim_end().to_owned();
        match to {
            To::Here(question) => {
                let Some(follower) = self.followers.get_mut(question) else { return false };
                follower.own(lines.iter().map(plain).map(Arc::from), lost);
                !follower.is_gone()
            }
            To::Peer(peer, question) => {
                let told = self.followed.is_told(self.now(), peer, *question);
                if let Some(beginning) = self.followed.beginning(peer, *question) {
                    let taken = self.tell(peer, &beginning);
                    self.followed.sent(peer, *question, 0, taken);
                }
                let count = lines.len() as u64;
                let message = self.followed.message(peer, *question, lines.iter().map(plain).collect(), lost);
                if let Some(message) = message {
                    let taken = self.tell(peer, &message);
                    self.followed.sent(peer, *question, count, taken);
                }
                told
            }
        }
    }

    fn no_more(&mut self, to: &To) {
        match to {
            To::Here(question) => {
                if let Some(follower) = self.followers.get_mut(question) {
                    follower.own_ended();
                }
            }
            To::Peer(peer, question) => {
                self.followed.ended(peer, *question);
                let _ = self.tell(peer, &Message::followed(*question, Vec::new(), 0, FollowedLines::Last));
            }
        }
    }

    /// Asks who is to be asked for those who follow here; who follows no more is forgotten, and then by the others, too.
    pub(crate) fn look_after_followers(&mut self) {
        self.followers.retain(|_, follower| !follower.is_gone());
        let (now, peers) = (self.now(), self.link_peers());
        let asks: Vec<(NodeName, Message)> = self
            .followers
            .iter_mut()
            .flat_map(|(question, follower)| {
                follower.look(&peers);
                follower.ask(now, *question)
            })
            .collect();
        for (peer, ask) in &asks {
            let _ = self.tell(peer, ask);
        }
    }
}

impl Handler<FollowNodes> for Peers {
    type Result = MessageResult<FollowNodes>;

    fn handle(&mut self, question: FollowNodes, ctx: &mut Self::Context) -> Self::Result {
        let (out, lines) = mpsc::channel(FOLLOWER_LINES);
        self.followers.retain(|_, follower| !follower.is_gone());
        if self.followers.len() >= FOLLOWERS {
            return MessageResult(NodesStream { lines, follows: false });
        }
        let number = self.next_question();
        // As much of this node as of each other one.
        let recent = question.recent.min(usize::try_from(RECENT).unwrap_or(usize::MAX));
        self.followers.insert(number, Follower::new(out, recent, &self.link_peers()));
        self.subscribe(To::Here(number), recent, ctx);
        self.look_after_followers();
        MessageResult(NodesStream { lines, follows: true })
    }
}
