//! The state alone, and two actors over links in memory.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::{Actor, Handler, MessageResult};
use bytes::Bytes;
use palisade_domain::{NodeName, Refusal, UnixNanos};
use palisade_protocol::{AlertStream, Condition, ConditionReported, FollowNodes, NodesLine, NodesOf, SubscribeAlerts};
use palisade_supervision::{Address, ChildSpec, Context, Overflow, Supervisor, Tree};
use palisade_wire::frame::TreeRow;
use palisade_wire::frame::{FollowedLines, LONGEST_ANSWER, Message};
use palisade_world::{BootNanos, Clock, Doubled, Link, LinkCounts, LinkEvent, LinkState, Peer, SendError, TurnedAway};
use tokio::sync::{
    Notify,
    mpsc::{self, error::TrySendError},
};

use crate::{
    Peers, Wiring,
    follow::{Asked, FOLLOWED, FOLLOWERS, Followed, Follower, LEASE},
    state::{ANSWER_EVERY, ASK_EVERY, ASK_SELDOM, Heard, RECENT, State, WANTED_FOR, alerts_answer, condition},
};

const LINKED: LinkState = LinkState::Linked { since: UnixNanos(1) };

fn node(name: &str) -> NodeName {
    name.parse().expect("a name")
}

fn peer(name: &str, state: LinkState) -> Peer {
    Peer {
        name: node(name),
        address: None,
        dialled: true,
        state,
        counts: LinkCounts::default(),
        doubled: None,
        speaks: Some(2),
    }
}

fn out() -> LinkState {
    LinkState::Out { why: "it does not answer".into(), since: UnixNanos(0) }
}

fn state() -> State {
    State::numbering_from(Arc::default())
}

const fn at(seconds: u64) -> BootNanos {
    BootNanos(seconds * 1_000_000_000)
}

#[test]
fn unit_peers_ask_who_is_linked_now_and_then_and_keep_the_last_answer_with_its_age() {
    let mut state = state();
    let peers = [peer("a", LINKED), peer("b", out())];
    let asks = state.ask(at(1), &peers, false);
    let [
        (
            name,
            [Message::AskTree { question }, Message::AskAlerts { question: of_alerts, recent: RECENT, known: None }],
        ),
    ] = asks.as_slice()
    else {
        panic!("{asks:?}")
    };
    assert_eq!(*name, node("a"));
    assert_eq!(state.ask(at(3), &peers, false), []);
    assert!(state.is_waiting(&peers));
    let row = palisade_wire::frame::TreeRow { name: "palisade".into(), ..Default::default() };
    assert_eq!(state.heard(at(2), &node("a"), &Message::tree(*question, [row.clone()]).write()), Heard::Nothing);
    assert!(state.is_waiting(&peers), "the alerts are owed");
    state.heard(at(2), &node("a"), &Message::alerts(*of_alerts, vec!["{}".into()]).write());
    assert!(!state.is_waiting(&peers));
    // What was not asked for is not believed.
    state.heard(at(3), &node("a"), &Message::tree(*question, []).write());
    state.heard(at(3), &node("a"), &Message::tree(77, []).write());
    let gone = [peer("a", out())];
    assert_eq!(state.ask(at(9), &gone, false), []);
    let nodes = state.nodes(at(10), gone.to_vec());
    let tree = nodes[0].tree.as_ref().expect("kept, though it is out");
    assert_eq!((&tree.items[..], tree.age_ms), (&[row][..], 8000));
    // It comes back: it is asked at once, and what it once owed is owed no more.
    assert_eq!(state.ask(at(10), &peers[..1], false).len(), 1);
    assert_eq!(state.ask(at(11), &[], false), []);
    assert_eq!(state.nodes(at(11), vec![peer("a", LINKED)])[0].tree, None, "forgotten with the peer");
}

/// The alerts that are shown of `a`, and how many it left out.
fn alerts(state: &State) -> (Vec<String>, u64) {
    let said = state.nodes(at(0), vec![peer("a", LINKED)]).remove(0).alerts.expect("told");
    let numbers = said.items.iter().map(|line| line.replace(",\"node\":\"a\"", ""));
    (numbers.collect(), said.omitted)
}

/// `{"time":3,"node":"a"}`, as `a` writes its alerts, with the line feed.
fn own_lines(times: std::ops::Range<u64>) -> Vec<Arc<str>> {
    times.map(|time| Arc::from(format!("{{\"time\":{time},\"node\":\"a\"}}\n"))).collect()
}

#[test]
fn unit_peers_ask_seldom_while_nobody_wants_to_know_and_often_while_somebody_does() {
    let mut state = state();
    let peers = [peer("a", LINKED)];
    let answer = |state: &mut State, seconds| {
        let asks = state.ask(at(seconds), &peers, false);
        let [(_, [Message::AskTree { question }, Message::AskAlerts { question: of_alerts, .. }])] = asks[..] else {
            return false;
        };
        state.heard(at(seconds), &node("a"), &Message::tree(question, []).write());
        state.heard(at(seconds), &node("a"), &Message::alerts(of_alerts, vec![]).write());
        true
    };
    let times =
        |state: &mut State, range: std::ops::Range<u64>| range.filter(|second| answer(state, *second)).collect();
    let idle: Vec<u64> = times(&mut state, 1..1000);
    let between = || idle.windows(2).map(|two| two[1] - two[0]);
    let seldom = ASK_SELDOM.as_secs();
    assert!(idle[0] == 1 && between().all(|gap| (seldom..=seldom * 3 / 2 + 1).contains(&gap)), "{idle:?}");
    assert!(between().collect::<BTreeSet<u64>>().len() > 3, "not all at the same distance: {idle:?}");
    state.want(at(1000));
    let wanted: Vec<u64> = times(&mut state, 1000..1000 + WANTED_FOR.as_secs());
    assert_eq!(wanted.len() as u64, WANTED_FOR.as_secs() / ASK_EVERY.as_secs(), "{wanted:?}");
    // Who waits is not put off, and who did not answer is asked again.
    assert_eq!(state.ask(at(1031), &peers, true).len(), 1);
    assert_eq!(state.ask(at(1035), &peers, false).len(), 0);
    assert_eq!(state.ask(at(1036), &peers, false).len(), 1);
}

#[test]
fn unit_peers_take_the_answers_of_a_slow_peer_while_somebody_looks_again_and_again() {
    let mut state = state();
    let peers = [peer("a", LINKED)];
    let answers = |asks: &[(NodeName, [Message; 2])]| match asks {
        [(_, [Message::AskTree { question }, Message::AskAlerts { question: of_alerts, .. }])] => {
            vec![Message::tree(*question, []).write(), Message::alerts(*of_alerts, vec![]).write()]
        }
        _ => Vec::new(),
    };
    // Each answer takes two seconds, and somebody looks each second.
    let (mut on_the_way, mut taken) = (VecDeque::from([vec![], vec![]]), 0);
    for second in 10..40 {
        on_the_way.push_back(answers(&state.ask(at(second), &peers, true)));
        for answer in on_the_way.pop_front().expect("two at least") {
            state.heard(at(second), &node("a"), &answer);
        }
        let seen = state.nodes(at(second), peers.to_vec()).remove(0);
        taken += u32::from(seen.tree.is_some_and(|tree| tree.age_ms == 0) && seen.alerts.is_some());
    }
    assert!(taken >= 8, "{taken} answers were taken");
    // One that was lost on the way is asked for again, and no oftener than while nobody waits.
    let asked: Vec<u64> = (50..66).filter(|second| !state.ask(at(*second), &peers, true).is_empty()).collect();
    assert!(asked.windows(2).all(|two| two[1] - two[0] == ASK_EVERY.as_secs()) && asked.len() >= 3, "{asked:?}");
}

#[test]
fn unit_peers_number_their_questions_on_from_where_another_life_did_not_ask() {
    let questions = Arc::new(AtomicU64::new(u64::MAX));
    let mut state = State::numbering_from(Arc::clone(&questions));
    let asks = state.ask(at(1), &[peer("a", LINKED)], false);
    assert!(
        matches!(asks[0].1, [Message::AskTree { question: 0 }, Message::AskAlerts { question: 1, .. }]),
        "{asks:?}"
    );
    assert_eq!(State::numbering_from(questions).next_question(), 2, "the actor began anew, the process did not");
}

#[test]
fn unit_peers_answer_only_the_alerts_that_the_asker_does_not_know() {
    let mut state = state();
    let peers = [peer("a", LINKED)];
    let mut second = 0;
    let mut learn = |state: &mut State, lines: &[Arc<str>]| {
        second += 10;
        let asks = state.ask(at(second), &peers, true);
        let [_, Message::AskAlerts { question, known, .. }] = asks[0].1 else { panic!("{asks:?}") };
        let answer = alerts_answer(question, lines, known);
        let Message::Alerts { lines: ref said, .. } = answer else { panic!("{answer:?}") };
        state.heard(at(second), &node("a"), &answer.write());
        said.len()
    };
    let shown = |times: std::ops::Range<u64>| times.map(|time| format!("{{\"time\":{time}}}")).collect::<Vec<_>>();
    assert_eq!((learn(&mut state, &own_lines(0..3)), alerts(&state)), (3, (shown(0..3), 0)));
    assert_eq!((learn(&mut state, &own_lines(0..3)), alerts(&state)), (0, (shown(0..3), 0)), "nothing is new");
    assert_eq!((learn(&mut state, &own_lines(0..5)), alerts(&state)), (2, (shown(0..5), 0)));
    // More came than are asked for: the oldest are no longer shown.
    assert_eq!((learn(&mut state, &own_lines(4..104)), alerts(&state)), (99, (shown(4..104), 0)));
    // It began anew, and knows none of these: what it has now is all.
    assert_eq!((learn(&mut state, &own_lines(200..201)), alerts(&state)), (1, (shown(200..201), 0)));
    assert_eq!((learn(&mut state, &[]), alerts(&state)), (0, (vec![], 0)));
    assert_eq!((learn(&mut state, &own_lines(300..301)), alerts(&state)), (1, (shown(300..301), 0)));
}

#[test]
fn unit_peers_name_what_they_know_to_no_peer_of_an_older_version_and_take_no_part_that_they_did_not_ask_for() {
    let mut state = state();
    let older = [Peer { speaks: Some(1), ..peer("a", LINKED) }];
    for turn in 0..3 {
        let asks = state.ask(at(10 * turn), &older, true);
        let [_, Message::AskAlerts { question, known: None, .. }] = asks[0].1 else { panic!("{asks:?}") };
        let part = Message::alerts_after_known(question, vec!["{\"time\":9,\"node\":\"a\"}".into()]).expect("it fits");
        let whole = Message::alerts(question, vec!["{\"time\":1,\"node\":\"a\"}".into()]);
        let answer = if turn == 1 { part } else { whole };
        state.heard(at(10 * turn), &node("a"), &answer.write());
        assert_eq!(alerts(&state), (vec!["{\"time\":1}".to_owned()], 0));
    }
    assert_eq!(state.nodes(at(30), older.to_vec())[0].unreadable, 1);
}

#[test]
fn unit_peers_keep_bounded_text_of_a_peer_and_count_what_that_leaves_out() {
    let mut state = state();
    let long = |time: u64| format!("{{\"time\":{time},\"node\":\"a\",\"x\":\"{}\"}}", "x".repeat(LONGEST_ANSWER / 4));
    let peers = [peer("a", LINKED)];
    for turn in 0..6 {
        let asks = state.ask(at(10 * turn), &peers, true);
        let [_, Message::AskAlerts { question, known, .. }] = asks[0].1 else { panic!("{asks:?}") };
        let lines: Vec<Arc<str>> = (0..=turn).map(|time| Arc::from(long(time))).collect();
        state.heard(at(10 * turn), &node("a"), &alerts_answer(question, &lines, known).write());
        let (lines, omitted) = alerts(&state);
        assert!(lines.iter().map(String::len).sum::<usize>() <= LONGEST_ANSWER);
        assert_eq!(lines.len() as u64 + omitted, turn + 1);
    }
}

#[test]
fn unit_peers_bear_a_peer_that_says_it_left_out_more_than_there_can_be() {
    let mut state = state();
    let peers = [peer("a", LINKED)];
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(LONGEST_ANSWER / 4 - 10));
    for turn in 0..3 {
        let asks = state.ask(at(10 * turn), &peers, true);
        let [_, Message::AskAlerts { question, .. }] = asks[0].1 else { panic!("{asks:?}") };
        // With its name each line is longer, so that one more is left out here.
        let (lines, follows) = (vec![long.clone(); 4], turn == 2);
        let lines = if follows { vec!["{\"time\":1}".into()] } else { lines };
        let answer = Message::Alerts { question, lines, omitted: u64::MAX, follows };
        state.heard(at(10 * turn), &node("a"), &answer.write());
        let (lines, omitted) = alerts(&state);
        assert!(!lines.is_empty() && omitted <= RECENT + 1, "{} and {omitted}", lines.len());
    }
}

#[test]
fn unit_peers_take_no_answer_to_a_question_that_a_process_before_asked() {
    let linked = [peer("b", LinkState::Linked { since: UnixNanos(0) })];
    let asked = |state: &mut State| match state.ask(at(0), &linked, true).remove(0).1 {
        [Message::AskTree { question }, _] => question,
        other => panic!("{other:?}"),
    };
    let from = |first| State::numbering_from(Arc::new(AtomicU64::new(first)));
    let (mut before, mut now) = (from(1_000), from(2_000));
    let (old, new) = (asked(&mut before), asked(&mut now));
    let answer = |question, name: &str| {
        Message::tree(question, vec![TreeRow { name: name.to_owned(), ..TreeRow::default() }]).write()
    };
    now.heard(at(1), &node("b"), &answer(old, "as it was"));
    assert_eq!(now.nodes(at(1), linked.to_vec())[0].tree, None, "what was said to another process is not fresh");
    now.heard(at(1), &node("b"), &answer(new, "as it is"));
    assert_eq!(now.nodes(at(1), linked.to_vec())[0].tree.as_ref().expect("told").items[0].name, "as it is");
}

#[test]
fn unit_peers_answer_no_oftener_than_they_say_and_count_what_they_do_not_understand() {
    let mut state = state();
    let ask = |question| Message::AskTree { question }.write();
    assert_eq!(state.heard(at(1), &node("a"), &ask(1)), Heard::TellTree { question: 1 });
    assert_eq!(state.heard(at(1), &node("a"), &ask(2)), Heard::Nothing);
    assert_eq!(state.heard(at(1), &node("b"), &ask(3)), Heard::TellTree { question: 3 }, "each for itself");
    let alerts = Message::AskAlerts { question: 4, recent: u64::MAX, known: None }.write();
    assert_eq!(state.heard(at(1), &node("a"), &alerts), Heard::TellAlerts { question: 4, recent: RECENT, known: None });
    let later = BootNanos(at(1).0 + u64::try_from(ANSWER_EVERY.as_nanos()).expect("short"));
    assert_eq!(state.heard(later, &node("a"), &ask(5)), Heard::TellTree { question: 5 });
    state.heard(at(2), &node("a"), b"rubbish");
    assert_eq!(state.nodes(at(2), vec![peer("a", LINKED)])[0].unreadable, 1);
}

#[test]
fn unit_peers_say_which_links_are_not_as_they_were_told_to_be() {
    let refused =
        LinkState::Refused { why: Refusal::Expired, said: "too late".into(), by_us: false, since: UnixNanos(0) };
    let caller = Peer { dialled: false, ..peer("d", out()) };
    let peers = [peer("a", LINKED), peer("b", out()), peer("c", refused), caller];
    let Condition::Degraded(said) = condition(&peers, &["the certificate ends soon".into()]) else {
        panic!("degraded")
    };
    assert_eq!(
        said,
        "the certificate ends soon; b is out since 1970-01-01T00:00:00.000000Z: it does not answer; \
         c refuses this node (expired): too late"
    );
    assert_eq!(condition(&peers[..1], &[]), Condition::Good);
    let doubled = Doubled {
        addresses: [([10, 0, 0, 5], 7117).into(), ([10, 0, 0, 9], 7117).into()],
        times: 3,
        last: UnixNanos(0),
    };
    let two = Peer { dialled: false, doubled: Some(doubled), ..peer("e", LINKED) };
    let said = "e: two nodes, at 10.0.0.5:7117 and at 10.0.0.9:7117, show copies of one certificate: give each its own";
    assert_eq!(condition(&[two], &[]), Condition::Degraded(said.into()));
}

/// Links in memory: what one sends, the other hears.
struct Wire {
    own: NodeName,
    all: Arc<Hub>,
}

/// Of whom, by what, and how many it missed.
type Listening = (NodeName, mpsc::Sender<Arc<str>>, Arc<AtomicU64>);

#[derive(Default)]
struct Hub {
    events: Mutex<BTreeMap<NodeName, VecDeque<LinkEvent>>>,
    out: Mutex<bool>,
    news: Notify,
    /// Who follow the alerts of which node.
    alerts: Mutex<Vec<Listening>>,
}

impl Hub {
    /// A node raises an alert.
    fn raise(&self, name: &str, line: &str) {
        self.alerts.lock().expect("whole").retain(|(of, sender, _)| {
            *of != node(name) || !matches!(sender.try_send(Arc::from(line)), Err(TrySendError::Closed(_)))
        });
    }

    fn followers(&self, name: &str) -> usize {
        self.alerts
            .lock()
            .expect("whole")
            .iter()
            .filter(|(of, sender, _)| *of == node(name) && !sender.is_closed())
            .count()
    }
}

#[async_trait::async_trait]
impl Link for Wire {
    fn own_name(&self) -> &NodeName {
        &self.own
    }
    fn peers(&self) -> Vec<Peer> {
        let state = if *self.all.out.lock().expect("whole") { out() } else { LINKED };
        let events = self.all.events.lock().expect("whole");
        events.keys().filter(|name| **name != self.own).map(|name| peer(name.as_str(), state.clone())).collect()
    }
    fn turned_away(&self) -> Vec<TurnedAway> {
        Vec::new()
    }
    fn troubles(&self) -> Vec<String> {
        Vec::new()
    }
    fn try_send(&self, to: &NodeName, message: Bytes) -> Result<(), SendError> {
        if !*self.all.out.lock().expect("whole") {
            let event = LinkEvent::Received { peer: self.own.clone(), messages: vec![message] };
            self.all.events.lock().expect("whole").get_mut(to).expect("a peer").push_back(event);
            self.all.news.notify_waiters();
        }
        Ok(())
    }
    async fn send(&self, to: &NodeName, message: Bytes) -> Result<(), SendError> {
        self.try_send(to, message)
    }
    async fn next(&self) -> Option<LinkEvent> {
        loop {
            let news = self.all.news.notified();
            if let Some(event) = self.all.events.lock().expect("whole").get_mut(&self.own).expect("known").pop_front() {
                return Some(event);
            }
            news.await;
        }
    }
}

struct Paused(tokio::time::Instant);

impl Clock for Paused {
    fn boot(&self) -> BootNanos {
        BootNanos(u64::try_from(self.0.elapsed().as_nanos()).expect("short"))
    }
    fn unix(&self) -> UnixNanos {
        UnixNanos(self.boot().0)
    }
}

/// Alerts of a node, and where conditions go.
struct Rest(NodeName, Arc<Hub>);

impl Actor for Rest {
    type Context = Context<Self>;
}

impl Handler<SubscribeAlerts> for Rest {
    type Result = MessageResult<SubscribeAlerts>;
    fn handle(&mut self, asked: SubscribeAlerts, _: &mut Self::Context) -> Self::Result {
        let (sender, lines) = mpsc::channel(200);
        (0..asked.recent.min(150)).for_each(|n| sender.try_send(Arc::from(format!("{{\"n\":{n}}}\n"))).expect("room"));
        let missed = Arc::default();
        if asked.follow {
            self.1.alerts.lock().expect("whole").push((self.0.clone(), sender, Arc::clone(&missed)));
        }
        MessageResult(AlertStream { lines, missed, follows: asked.follow })
    }
}

impl Handler<ConditionReported> for Rest {
    type Result = ();
    fn handle(&mut self, _: ConditionReported, _: &mut Self::Context) {}
}

async fn start(name: &str, hub: &Arc<Hub>, clock: &Arc<Paused>) -> (Tree, Address<Peers>) {
    let mut supervisor = Supervisor::new(name);
    let (named, all) = (node(name), Arc::clone(hub));
    let rest = supervisor.add(ChildSpec::new("rest", move |_| Rest(named.clone(), Arc::clone(&all))));
    let own = palisade_supervision::TreeNode {
        name: name.into(),
        kind: palisade_supervision::Kind::Actor("Whole".into()),
        state: palisade_supervision::State::BackingOff,
        restart: None,
        place: "here".into(),
        generation: 1,
        uptime_ms: None,
        restarts: 3,
        last_error: None,
        mail: None,
        children: Vec::new(),
    };
    let wiring = Wiring {
        link: Arc::new(Wire { own: node(name), all: Arc::clone(hub) }),
        tree: Arc::new(move || Some(own.clone())),
        alerts: rest.asker(),
        clock: Arc::<Paused>::clone(clock),
        conditions: rest.outbox(Overflow::Refuse),
        questions: Arc::default(),
    };
    let peers = supervisor.add(ChildSpec::new("peers", move |_| Peers::new(wiring.clone())));
    (supervisor.start(|gave_up| panic!("{gave_up}")).await.expect("it starts"), peers)
}

#[test]
fn unit_peers_show_each_other_their_trees_and_alerts_and_say_how_old_they_are_when_one_is_out() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("made");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let hub = Arc::new(Hub::default());
        hub.events.lock().expect("whole").extend([(node("a"), VecDeque::new()), (node("b"), VecDeque::new())]);
        let clock = Arc::new(Paused(tokio::time::Instant::now()));
        let (one, a) = start("a", &hub, &clock).await;
        let (other, _) = start("b", &hub, &clock).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        let ask = || a.ask(NodesOf { fresh: true }, Duration::from_secs(3));
        let nodes = ask().await.expect("answered");
        assert_eq!(nodes.own, "a");
        let seen = &nodes.nodes[0];
        let (tree, alerts) = (seen.tree.as_ref().expect("told"), seen.alerts.as_ref().expect("told"));
        assert_eq!(
            (tree.items[0].name.as_str(), tree.items[0].state.as_str(), tree.items[0].restarts),
            ("b", "backing-off", 3)
        );
        assert_eq!((alerts.items.len(), &*alerts.items[99]), (100, "{\"n\":99,\"node\":\"b\"}"));
        assert!(tree.age_ms < 10 && alerts.age_ms < 10, "asked anew: {} {}", tree.age_ms, alerts.age_ms);
        *hub.out.lock().expect("whole") = true;
        tokio::time::sleep(Duration::from_secs(30)).await;
        let before = tokio::time::Instant::now();
        let nodes = ask().await.expect("answered");
        assert!(before.elapsed() < Duration::from_millis(100), "nobody is waited for that is out");
        assert_eq!(nodes.nodes[0].peer.state, out());
        assert_eq!(nodes.nodes[0].tree.as_ref().expect("kept").age_ms, 30_000);
        one.stop().await;
        other.stop().await;
    });
}

/// A mark as words, an alert as its text.
fn words(line: NodesLine) -> Vec<String> {
    match line {
        NodesLine::Past(lines) => lines.iter().map(ToString::to_string).collect(),
        NodesLine::Alert(text) => vec![text.to_string()],
        NodesLine::Mark { peer, lost, gap, ended } => {
            let name = peer.as_ref().map_or("here", |peer| peer.name.as_str());
            let linked = peer.as_ref().is_none_or(|peer| peer.state.is_linked());
            vec![format!("{name} linked {linked} lost {lost} gap {gap} ended {ended}")]
        }
    }
}

fn all_of(lines: &mut mpsc::Receiver<NodesLine>) -> Vec<String> {
    std::iter::from_fn(|| lines.try_recv().ok()).flat_map(words).collect()
}

fn line(time: u64) -> String {
    format!("{{\"time\":{time}}}")
}

fn plain(times: std::ops::Range<u64>) -> Vec<Arc<str>> {
    times.map(|time| Arc::from(line(time))).collect()
}

#[test]
fn unit_peers_follower_that_is_slow_is_told_what_it_missed_of_whom() {
    let (out, mut lines) = mpsc::channel(4);
    let mut follower = Follower::new(out, 10, &[peer("a", LINKED)]);
    let marks = ["here linked true lost 0 gap false ended false", "a linked true lost 0 gap false ended false"];
    assert_eq!(all_of(&mut lines), marks);
    follower.heard(&node("a"), plain(0..2), 3, FollowedLines::First);
    let [mark, rest @ ..] = &all_of(&mut lines)[..] else { panic!("no mark") };
    assert_eq!(mark, "a linked true lost 3 gap false ended false", "what it lost on the way stands before what came");
    assert_eq!(*rest, [line(0), line(1)]);
    follower.heard(&node("a"), plain(2..12), 0, FollowedLines::Next);
    assert_eq!(all_of(&mut lines), (2..6).map(line).collect::<Vec<_>>());
    follower.own([Arc::from("own")], 0);
    assert_eq!(all_of(&mut lines), ["a linked true lost 6 gap false ended false", "own"], "six found no room");
    // What is past of a node takes one place, and is lost as a whole.
    follower.look(&[peer("a", LINKED), peer("b", LINKED), peer("c", LINKED)]);
    (0..2).for_each(|_| follower.own([Arc::from("own")], 0));
    follower.heard(&node("b"), plain(0..3), 0, FollowedLines::First);
    let marked = |name, lost| format!("{name} linked true lost {lost} gap false ended false");
    assert_eq!(all_of(&mut lines), [marked("b", 0), marked("c", 0), "own".into(), "own".into()]);
    follower.heard(&node("c"), plain(0..3), 0, FollowedLines::First);
    assert_eq!(all_of(&mut lines), [vec![marked("b", 3)], (0..3).map(line).collect()].concat());
    drop(lines);
    follower.look(&[]);
    assert!(follower.is_gone());
}

#[test]
fn unit_peers_follower_is_told_where_lines_may_be_missing_and_never_one_twice() {
    let (out, mut lines) = mpsc::channel(100);
    let mut follower = Follower::new(out, 2, &[peer("a", LINKED)]);
    all_of(&mut lines);
    assert!(matches!(follower.ask(at(1), 7)[..], [(_, Message::FollowAlerts { question: 7, recent: 2 })]));
    assert_eq!(follower.ask(at(2), 7), []);
    follower.heard(&node("a"), plain(1..3), 0, FollowedLines::First);
    assert_eq!(all_of(&mut lines), [line(1), line(2)]);
    // Out, for longer than it goes on telling: it tells anew, from what is known on.
    follower.look(&[peer("a", out_since(4))]);
    follower.look(&[peer("a", out_since(9))]);
    assert_eq!(all_of(&mut lines), ["a linked false lost 0 gap false ended false"], "once");
    follower.look(&[peer("a", LINKED)]);
    assert!(matches!(follower.ask(at(3), 7)[..], [(_, Message::FollowAlerts { recent: RECENT, .. })]));
    follower.heard(&node("a"), plain(1..4), 0, FollowedLines::First);
    assert_eq!(all_of(&mut lines), ["a linked true lost 0 gap false ended false".to_owned(), line(3)]);
    // It began anew, and no longer has what was heard last.
    follower.heard(&node("a"), plain(8..10), 0, FollowedLines::First);
    assert_eq!(all_of(&mut lines), ["a linked true lost 0 gap true ended false".to_owned(), line(8), line(9)]);
    follower.heard(&node("a"), vec![], 0, FollowedLines::Last);
    assert_eq!(all_of(&mut lines), ["a linked true lost 0 gap false ended true"]);
    follower.heard(&node("stranger"), plain(1..2), 0, FollowedLines::First);
    assert_eq!(all_of(&mut lines), Vec::<String>::new());
}

fn out_since(seconds: u64) -> LinkState {
    LinkState::Out { why: format!("try {seconds}"), since: UnixNanos(seconds) }
}

#[test]
fn unit_peers_tell_their_alerts_to_a_bounded_number_for_a_bounded_time() {
    let mut followed = Followed::default();
    let many: Vec<Asked> = (0..5).map(|question| followed.asked(at(0), &node("a"), question)).collect();
    assert_eq!(many, [Asked::Begins, Asked::Begins, Asked::Begins, Asked::Begins, Asked::TooMany]);
    for other in 1..FOLLOWED / FOLLOWERS {
        (0..4).for_each(|question| {
            assert_eq!(followed.asked(at(0), &node(&format!("b{other}")), question), Asked::Begins);
        });
    }
    assert_eq!(followed.asked(at(0), &node("c"), 1), Asked::TooMany);
    assert_eq!(followed.asked(at(20), &node("a"), 1), Asked::GoesOn);
    assert!(!followed.is_told(at(LEASE.as_secs()), &node("a"), 0) && followed.is_told(at(49), &node("a"), 1));
    assert_eq!(followed.asked(at(31), &node("c"), 1), Asked::Begins, "there is room again");
    // What finds no room on the link is said with what does.
    let said = |followed: &mut Followed, lines: &[&str], lost| {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        followed.message(&node("c"), 1, lines, lost)
    };
    assert_eq!(said(&mut followed, &[], 0), Some(Message::followed(1, vec![], 0, FollowedLines::First)));
    followed.sent(&node("c"), 1, 0, true);
    assert_eq!(said(&mut followed, &[], 0), None);
    said(&mut followed, &["x", "y"], 1).expect("a message");
    followed.sent(&node("c"), 1, 2, false);
    let next = Message::followed(1, vec!["z".into()], 3, FollowedLines::Next);
    assert_eq!(said(&mut followed, &["z"], 0), Some(next));
}

#[test]
fn unit_peers_tell_no_live_alert_as_a_past_one_where_the_link_refused_the_past() {
    let (mut followed, c) = (Followed::default(), node("c"));
    assert_eq!(followed.asked(at(0), &c, 1), Asked::Begins);
    assert_eq!(followed.beginning(&c, 1), None, "with its lines");
    followed.message(&c, 1, vec!["{\"time\":1}".into(), "{\"time\":2}".into()], 0).expect("the past");
    followed.sent(&c, 1, 2, false);
    let beginning = followed.beginning(&c, 1).expect("still to be said");
    assert_eq!(beginning, Message::followed(1, vec![], 2, FollowedLines::First));
    followed.sent(&c, 1, 0, true);
    assert_eq!(followed.beginning(&c, 1), None);
    let live = followed.message(&c, 1, vec!["{\"time\":3}".into()], 0).expect("a message");
    assert_eq!(live, Message::followed(1, vec!["{\"time\":3}".into()], 0, FollowedLines::Next));
    // Who follows is told of the loss, and shown the live one as such.
    let (out, mut lines) = mpsc::channel(10);
    let mut follower = Follower::new(out, 0, &[peer("c", LINKED)]);
    all_of(&mut lines);
    for message in [beginning, live] {
        let Message::Followed { lines, lost, which, .. } = message else { panic!("{message:?}") };
        follower.heard(&c, lines.into_iter().map(Arc::from).collect(), lost, which);
    }
    let came: Vec<NodesLine> = std::iter::from_fn(|| lines.try_recv().ok()).collect();
    let is_live = |line: &&NodesLine| matches!(line, NodesLine::Alert(line) if **line == *"{\"time\":3}");
    assert_eq!(came.iter().filter(is_live).count(), 1);
    let said: Vec<String> = came.into_iter().flat_map(words).collect();
    assert_eq!(said, ["c linked true lost 2 gap false ended false", "{\"time\":3}"]);
}

#[test]
fn unit_peers_show_the_alerts_of_all_as_they_come_and_mark_who_goes_out_and_comes_back() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("made");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let hub = Arc::new(Hub::default());
        hub.events.lock().expect("whole").extend([(node("a"), VecDeque::new()), (node("b"), VecDeque::new())]);
        let clock = Arc::new(Paused(tokio::time::Instant::now()));
        let (one, a) = start("a", &hub, &clock).await;
        let (other, _) = start("b", &hub, &clock).await;
        let pause = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        pause(2).await;
        let mut stream = a.ask(FollowNodes { recent: 2 }, Duration::from_secs(3)).await.expect("answered");
        assert!(stream.follows);
        pause(2).await;
        let own = ["{\"n\":0}", "{\"n\":1}"];
        let others = ["{\"n\":0,\"node\":\"b\"}", "{\"n\":1,\"node\":\"b\"}"];
        let marks = ["here linked true lost 0 gap false ended false", "b linked true lost 0 gap false ended false"];
        assert_eq!(all_of(&mut stream.lines), [marks, own, others].concat());
        hub.raise("b", "{\"time\":5}\n");
        hub.raise("a", "own\n");
        pause(1).await;
        let mut came = all_of(&mut stream.lines);
        came.sort_unstable();
        assert_eq!(came, ["own", "{\"node\":\"b\",\"time\":5}"]);
        // What b's own alerts did not get rid of is counted, and said with the next.
        hub.alerts.lock().expect("whole").iter().for_each(|(_, _, missed)| missed.store(4, Ordering::Relaxed));
        hub.raise("b", "{\"time\":6}\n");
        pause(6).await;
        let came = all_of(&mut stream.lines);
        assert!(came.contains(&"b linked true lost 4 gap false ended false".to_owned()), "{came:?}");
        assert!(came.contains(&"here linked true lost 4 gap false ended false".to_owned()), "{came:?}");
        *hub.out.lock().expect("whole") = true;
        pause(60).await;
        assert_eq!(all_of(&mut stream.lines), ["b linked false lost 0 gap false ended false"]);
        assert_eq!(hub.followers("b"), 0, "nobody asked for so long");
        *hub.out.lock().expect("whole") = false;
        pause(10).await;
        let came = all_of(&mut stream.lines);
        assert_eq!(
            came[..2],
            ["b linked true lost 0 gap false ended false", "b linked true lost 0 gap true ended false"]
        );
        assert_eq!((hub.followers("a"), hub.followers("b")), (1, 1));
        // Five would follow, of four: and once nobody does, what they followed ends as well.
        let mut more = Vec::new();
        for _ in 0..4 {
            more.push(a.ask(FollowNodes { recent: 0 }, Duration::from_secs(3)).await.expect("answered"));
        }
        assert_eq!(more.iter().map(|stream| stream.follows).collect::<Vec<_>>(), [true, true, true, false]);
        drop(more);
        drop(stream);
        pause(60).await;
        assert_eq!((hub.followers("a"), hub.followers("b")), (0, 0));
        drop((one, other));
    });
}
