//! The plan against a model of children that start, crash, dawdle and lie about their generation.

use super::*;
use proptest::{
    prelude::{Just, ProptestConfig, any},
    prop_assert, prop_assert_eq, prop_oneof, proptest,
    strategy::Strategy as Generate,
};
use std::collections::BTreeMap;

const SECOND: Duration = Duration::from_secs(1);

fn rules(restart: Restart) -> ChildRules {
    ChildRules { restart, start_deadline: SECOND * 10, stop_deadline: SECOND * 5 }
}

fn plan_of(strategy: Strategy, children: &[Restart]) -> (Plan, Vec<ChildId>) {
    let mut plan = Plan::new(strategy, Intensity { restarts: 3, window: SECOND * 60 }, Backoff::fixed(SECOND), 7);
    let ids = children.iter().map(|restart| plan.add(rules(*restart))).collect();
    (plan, ids)
}

fn feed(plan: &mut Plan, now: Duration, input: Input) -> Vec<Step> {
    let mut out = Vec::new();
    plan.step(now, input, &mut out);
    out
}

/// Acknowledges each start as it is ordered, until nothing is ordered.
fn boot(plan: &mut Plan, now: Duration) {
    let mut steps = feed(plan, now, Input::Boot);
    while let Some(Step::Start(id, generation)) = steps.first().copied() {
        steps = feed(plan, now, Input::Started(id, generation));
    }
    assert_eq!(steps, [Step::Booted]);
}

#[test]
fn unit_plan_starts_each_child_after_the_one_before_it_acknowledged() {
    let (mut plan, ids) = plan_of(Strategy::OneForOne, &[Restart::Permanent; 3]);
    assert_eq!(feed(&mut plan, SECOND, Input::Boot), [Step::Start(ids[0], 1)]);
    assert_eq!(feed(&mut plan, SECOND, Input::Wake), []);
    assert_eq!(feed(&mut plan, SECOND, Input::Started(ids[0], 1)), [Step::Start(ids[1], 1)]);
    assert_eq!(feed(&mut plan, SECOND, Input::Started(ids[1], 1)), [Step::Start(ids[2], 1)]);
    assert_eq!(feed(&mut plan, SECOND, Input::Started(ids[2], 1)), [Step::Booted]);
}

#[test]
fn unit_plan_restarts_later_siblings_in_reverse_and_forward_order_under_rest_for_one() {
    let (mut plan, ids) = plan_of(Strategy::RestForOne, &[Restart::Permanent; 4]);
    boot(&mut plan, SECOND);
    let crash = Input::Exited(ids[1], 1, ExitKind::Failed);
    assert_eq!(feed(&mut plan, SECOND, crash), [Step::Restarting(ids[1], SECOND), Step::Stop(ids[3], 1)]);
    assert_eq!(feed(&mut plan, SECOND, Input::Exited(ids[3], 1, ExitKind::Stopped)), [Step::Stop(ids[2], 1)]);
    assert_eq!(feed(&mut plan, SECOND, Input::Exited(ids[2], 1, ExitKind::Stopped)), []);
    assert_eq!(plan.next_wake(SECOND), Some(SECOND * 2));
    assert_eq!(feed(&mut plan, SECOND * 2, Input::Wake), [Step::Start(ids[1], 2)]);
    assert_eq!(feed(&mut plan, SECOND * 2, Input::Started(ids[1], 2)), [Step::Start(ids[2], 2)]);
    assert_eq!(feed(&mut plan, SECOND * 2, Input::Started(ids[2], 2)), [Step::Start(ids[3], 2)]);
    assert_eq!(feed(&mut plan, SECOND * 2, Input::Started(ids[3], 2)), []);
    assert_eq!(plan.generation(ids[0]), Some(1));
}

#[test]
fn unit_plan_restarts_everybody_under_one_for_all_but_leaves_temporary_children_down() {
    let (mut plan, ids) = plan_of(Strategy::OneForAll, &[Restart::Permanent, Restart::Temporary, Restart::Permanent]);
    boot(&mut plan, SECOND);
    let crash = Input::Exited(ids[2], 1, ExitKind::Failed);
    assert_eq!(feed(&mut plan, SECOND, crash), [Step::Restarting(ids[2], SECOND), Step::Stop(ids[1], 1)]);
    let stopped = feed(&mut plan, SECOND, Input::Exited(ids[1], 1, ExitKind::Stopped));
    assert_eq!(stopped, [Step::Stop(ids[0], 1), Step::Finished(ids[1])]);
    assert_eq!(feed(&mut plan, SECOND, Input::Exited(ids[0], 1, ExitKind::Stopped)), []);
    assert_eq!(feed(&mut plan, SECOND * 2, Input::Wake), [Step::Start(ids[0], 2)]);
    assert_eq!(feed(&mut plan, SECOND * 2, Input::Started(ids[0], 2)), [Step::Start(ids[2], 2)]);
}

#[test]
fn unit_plan_widens_a_group_restart_when_an_earlier_member_fails_meanwhile() {
    let (mut plan, ids) = plan_of(Strategy::RestForOne, &[Restart::Permanent; 3]);
    boot(&mut plan, SECOND);
    let steps = feed(&mut plan, SECOND, Input::Exited(ids[1], 1, ExitKind::Failed));
    assert_eq!(steps.last(), Some(&Step::Stop(ids[2], 1)));
    // The first child dies while the third is being stopped.
    let steps = feed(&mut plan, SECOND, Input::Exited(ids[0], 1, ExitKind::Failed));
    assert_eq!(steps, [Step::Restarting(ids[0], SECOND)]);
    assert_eq!(feed(&mut plan, SECOND, Input::Exited(ids[2], 1, ExitKind::Stopped)), []);
    assert_eq!(feed(&mut plan, SECOND * 2, Input::Wake), [Step::Start(ids[0], 2)]);
    assert_eq!(feed(&mut plan, SECOND * 2, Input::Started(ids[0], 2)), [Step::Start(ids[1], 2)]);
    assert_eq!(feed(&mut plan, SECOND * 2, Input::Started(ids[1], 2)), [Step::Start(ids[2], 2)]);
}

#[test]
fn unit_plan_ignores_exits_and_starts_of_other_generations() {
    let (mut plan, ids) = plan_of(Strategy::OneForOne, &[Restart::Permanent; 2]);
    boot(&mut plan, SECOND);
    feed(&mut plan, SECOND, Input::Exited(ids[0], 1, ExitKind::Failed));
    assert_eq!(feed(&mut plan, SECOND * 2, Input::Wake), [Step::Start(ids[0], 2)]);
    for stale in [
        Input::Exited(ids[0], 1, ExitKind::Failed),
        Input::Exited(ids[0], 3, ExitKind::Failed),
        Input::Started(ids[0], 1),
        Input::Exited(ChildId(99), 1, ExitKind::Failed),
    ] {
        assert_eq!(feed(&mut plan, SECOND * 2, stale), []);
        assert!(matches!(plan.phase(ids[0]), Some(Phase::Starting { .. })));
    }
}

#[test]
fn unit_plan_does_not_hold_up_a_sibling_under_one_for_one() {
    let (mut plan, ids) = plan_of(Strategy::OneForOne, &[Restart::Permanent; 2]);
    boot(&mut plan, SECOND);
    feed(&mut plan, SECOND, Input::Exited(ids[0], 1, ExitKind::Failed));
    let half = SECOND + SECOND / 2;
    feed(&mut plan, half, Input::Exited(ids[1], 1, ExitKind::Failed));
    assert_eq!(feed(&mut plan, SECOND * 2, Input::Wake), [Step::Start(ids[0], 2)]);
    // Not acknowledged yet, and the other comes up all the same.
    assert_eq!(feed(&mut plan, half + SECOND, Input::Wake), [Step::Start(ids[1], 2)]);
}

#[test]
fn unit_plan_gives_up_after_stopping_all_when_the_intensity_is_exceeded() {
    let (mut plan, ids) = plan_of(Strategy::OneForOne, &[Restart::Permanent; 2]);
    boot(&mut plan, SECOND);
    let mut now = SECOND;
    for generation in 1..=3 {
        feed(&mut plan, now, Input::Exited(ids[0], generation, ExitKind::Failed));
        now += SECOND;
        assert_eq!(feed(&mut plan, now, Input::Wake), [Step::Start(ids[0], generation + 1)]);
        feed(&mut plan, now, Input::Started(ids[0], generation + 1));
    }
    assert_eq!(feed(&mut plan, now, Input::Exited(ids[0], 4, ExitKind::Failed)), [Step::Stop(ids[1], 1)]);
    let stopped = Input::Exited(ids[1], 1, ExitKind::Stopped);
    assert_eq!(feed(&mut plan, now, stopped), [Step::GaveUp(ids[0])]);
    boot(&mut plan, now);
}

#[test]
fn unit_plan_forgets_failures_outside_the_window() {
    let (mut plan, ids) = plan_of(Strategy::OneForOne, &[Restart::Permanent]);
    boot(&mut plan, SECOND);
    let mut now = SECOND;
    for generation in 1..20 {
        now += SECOND * 21; // three in 63 s: never four within the window of 60 s
        feed(&mut plan, now, Input::Exited(ids[0], generation, ExitKind::Failed));
        now += SECOND;
        assert_eq!(feed(&mut plan, now, Input::Wake), [Step::Start(ids[0], generation + 1)]);
        feed(&mut plan, now, Input::Started(ids[0], generation + 1));
    }
}

#[test]
fn unit_plan_kills_and_names_a_child_that_misses_its_stop_deadline_and_goes_on() {
    let (mut plan, ids) = plan_of(Strategy::OneForOne, &[Restart::Permanent; 2]);
    boot(&mut plan, SECOND);
    assert_eq!(feed(&mut plan, SECOND, Input::Halt), [Step::Stop(ids[1], 1)]);
    assert_eq!(plan.next_wake(SECOND), Some(SECOND * 6));
    let late = feed(&mut plan, SECOND * 6, Input::Wake);
    assert_eq!(late, [Step::Kill(ids[1], 1), Step::Abandoned(ids[1]), Step::Stop(ids[0], 1)]);
    assert_eq!(feed(&mut plan, SECOND * 6, Input::Exited(ids[0], 1, ExitKind::Stopped)), [Step::Halted]);
}

#[test]
fn unit_plan_treats_a_start_that_is_never_acknowledged_as_a_failure() {
    let (mut plan, ids) = plan_of(Strategy::OneForOne, &[Restart::Permanent]);
    feed(&mut plan, SECOND, Input::Boot);
    let late = feed(&mut plan, SECOND * 11, Input::Wake);
    assert_eq!(late, [Step::Kill(ids[0], 1), Step::StartTimedOut(ids[0]), Step::Restarting(ids[0], SECOND)]);
    assert_eq!(feed(&mut plan, SECOND * 12, Input::Wake), [Step::Start(ids[0], 2)]);
}

#[test]
fn unit_plan_lets_transient_and_temporary_children_end() {
    let (mut plan, ids) = plan_of(Strategy::OneForAll, &[Restart::Transient, Restart::Temporary, Restart::Permanent]);
    boot(&mut plan, SECOND);
    assert_eq!(feed(&mut plan, SECOND, Input::Exited(ids[0], 1, ExitKind::Normal)), [Step::Finished(ids[0])]);
    assert_eq!(feed(&mut plan, SECOND, Input::Exited(ids[1], 1, ExitKind::Failed)), [Step::Finished(ids[1])]);
    assert_eq!(plan.phase(ids[2]), Some(Phase::Up { since: SECOND }));
}

#[test]
fn unit_backoff_doubles_up_to_its_maximum_and_repeats_by_seed() {
    let backoff = Backoff { base: SECOND, max: SECOND * 30, jitter_percent: 0, reset_after: SECOND * 60 };
    let delays: Vec<u64> = (0..7).map(|n| backoff.delay(n, &mut Jitter::from_seed(1)).as_secs()).collect();
    assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(backoff.delay(u32::MAX, &mut Jitter::from_seed(1)), SECOND * 30);
    let jittered = Backoff { jitter_percent: 50, ..backoff };
    let draw = |seed| {
        let mut jitter = Jitter::from_seed(seed);
        (0..32).map(|n| jittered.delay(n, &mut jitter)).collect::<Vec<_>>()
    };
    assert_eq!(draw(3), draw(3));
    assert_ne!(draw(3), draw(4));
    for (n, delay) in draw(3).into_iter().enumerate() {
        let full = backoff.delay(u32::try_from(n).unwrap(), &mut Jitter::from_seed(0));
        assert!(delay <= full && delay * 2 >= full, "{delay:?} of {full:?}");
    }
}

/// What a child really does, as the steps made it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Real {
    Down,
    Starting,
    Up,
    Stopping,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Acknowledge(usize),
    Exit(usize, ExitKind),
    Stale(usize),
    Pass(u64),
    Add(Restart),
    Remove(usize),
    Halt,
    Boot,
}

struct World {
    plan: Plan,
    strategy: Strategy,
    now: Duration,
    order: Vec<ChildId>,
    real: BTreeMap<ChildId, (Real, u64)>,
    boots_owed: u32,
    halting: bool,
    last_halt_stop: Option<ChildId>,
    serving: bool,
}

impl World {
    fn new(strategy: Strategy, children: &[Restart]) -> Self {
        let (plan, order) = plan_of(strategy, children);
        let real = order.iter().map(|id| (*id, (Real::Down, 0))).collect();
        Self {
            plan,
            strategy,
            now: Duration::ZERO,
            order,
            real,
            boots_owed: 0,
            halting: false,
            last_halt_stop: None,
            serving: false,
        }
    }

    fn input(&mut self, input: Input) {
        for step in feed(&mut self.plan, self.now, input) {
            self.check(step);
        }
    }

    fn ordered(&self) -> bool {
        self.strategy != Strategy::OneForOne || !self.serving
    }

    fn check(&mut self, step: Step) {
        match step {
            Step::Start(id, generation) => self.check_start(id, generation),
            Step::Stop(id, generation) => {
                let (real, current) = self.real[&id];
                assert!(matches!(real, Real::Starting | Real::Up), "stop of a child that is {real:?}");
                assert_eq!(current, generation);
                if self.ordered() {
                    assert!(!self.real.values().any(|(real, _)| *real == Real::Stopping), "two stops at once");
                }
                if self.halting {
                    assert!(self.last_halt_stop.is_none_or(|last| id < last), "stop out of order");
                    self.last_halt_stop = Some(id);
                }
                self.real.insert(id, (Real::Stopping, generation));
            }
            Step::Kill(id, generation) => {
                self.real.insert(id, (Real::Down, generation));
            }
            Step::Forget(id) => {
                let (real, _) = self.real.remove(&id).unwrap();
                assert_eq!(real, Real::Down);
                self.order.retain(|other| *other != id);
            }
            Step::Booted => {
                self.boots_owed = self.boots_owed.checked_sub(1).expect("booted without a boot");
                self.serving = true;
            }
            Step::Halted => {
                assert!(self.halting);
                self.all_down();
                (self.halting, self.serving, self.boots_owed) = (false, false, 0);
            }
            Step::GaveUp(_) => {
                self.all_down();
                (self.serving, self.boots_owed) = (false, 0);
            }
            Step::Abandoned(_) | Step::StartTimedOut(_) | Step::Restarting(..) | Step::Finished(_) => {}
        }
    }

    fn check_start(&mut self, id: ChildId, generation: u64) {
        let (real, last) = self.real[&id];
        assert_eq!((real, generation), (Real::Down, last + 1), "one generation at a time, each number once");
        assert!(!self.halting, "start while halting");
        if self.ordered() {
            for earlier in self.order.iter().take_while(|other| **other != id) {
                assert!(self.real[earlier].0 == Real::Up || !self.plan.wanted(*earlier), "{earlier:?} is not up yet");
            }
            assert!(
                !self.real.values().any(|(real, _)| matches!(real, Real::Starting | Real::Stopping)),
                "two steps at once"
            );
        }
        self.real.insert(id, (Real::Starting, generation));
    }

    fn all_down(&self) {
        assert!(self.real.values().all(|(real, _)| *real == Real::Down), "concluded with children up");
    }

    fn act(&mut self, act: Act) {
        let pick = |world: &Self, index: usize| world.order.get(index % world.order.len().max(1)).copied();
        match act {
            Act::Acknowledge(index) => {
                let Some(id) = pick(self, index) else { return };
                self.acknowledge(id);
            }
            Act::Exit(index, exit) => {
                let Some(id) = pick(self, index) else { return };
                let (real, generation) = self.real[&id];
                if matches!(real, Real::Starting | Real::Up) {
                    self.real.insert(id, (Real::Down, generation));
                    self.input(Input::Exited(id, generation, exit));
                }
            }
            Act::Stale(index) => {
                let Some(id) = pick(self, index) else { return };
                let generation = self.real[&id].1.wrapping_sub(1);
                self.input(Input::Exited(id, generation, ExitKind::Failed));
                self.input(Input::Started(id, generation));
            }
            Act::Pass(millis) => {
                self.now += Duration::from_millis(millis);
                self.input(Input::Wake);
            }
            Act::Add(restart) if self.order.len() < 8 => {
                let id = self.plan.add(rules(restart));
                self.order.push(id);
                self.real.insert(id, (Real::Down, 0));
                self.input(Input::Wake);
            }
            Act::Add(_) => {}
            Act::Remove(index) => {
                let Some(id) = pick(self, index) else { return };
                self.input(Input::Remove(id));
            }
            Act::Halt => self.halt(),
            Act::Boot => self.boot(),
        }
    }

    fn boot(&mut self) {
        (self.boots_owed, self.halting, self.serving) = (1, false, false);
        self.input(Input::Boot);
    }

    fn halt(&mut self) {
        (self.halting, self.last_halt_stop, self.boots_owed) = (true, None, 0);
        self.serving = false;
        self.input(Input::Halt);
    }

    fn acknowledge(&mut self, id: ChildId) {
        match self.real[&id] {
            (Real::Starting, generation) => {
                self.real.insert(id, (Real::Up, generation));
                self.input(Input::Started(id, generation));
            }
            (Real::Stopping, generation) => {
                self.real.insert(id, (Real::Down, generation));
                self.input(Input::Exited(id, generation, ExitKind::Stopped));
            }
            _ => {}
        }
    }

    /// Everybody behaves: nothing may be left undone.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let pending = self.real.iter().find(|(_, (real, _))| matches!(real, Real::Starting | Real::Stopping));
            if let Some((id, _)) = pending {
                self.acknowledge(*id);
            } else if let Some(at) = self.plan.next_wake(self.now) {
                assert!(at > self.now, "a wake that is due already would spin");
                self.now = at;
                self.input(Input::Wake);
            } else {
                return;
            }
        }
        panic!("does not settle");
    }
}

fn any_restart() -> impl Generate<Value = Restart> {
    prop_oneof![Just(Restart::Permanent), Just(Restart::Transient), Just(Restart::Temporary)]
}

fn any_act() -> impl Generate<Value = Act> {
    let exit = prop_oneof![Just(ExitKind::Failed), Just(ExitKind::Normal)];
    prop_oneof![
        8 => any::<usize>().prop_map(Act::Acknowledge),
        4 => (any::<usize>(), exit).prop_map(|(index, exit)| Act::Exit(index, exit)),
        1 => any::<usize>().prop_map(Act::Stale),
        4 => (0u64..8000).prop_map(Act::Pass),
        1 => any_restart().prop_map(Act::Add),
        1 => any::<usize>().prop_map(Act::Remove),
        1 => Just(Act::Halt),
        1 => Just(Act::Boot),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn unit_plan_keeps_order_and_generations_and_always_concludes(
        strategy in prop_oneof![
            Just(Strategy::OneForOne), Just(Strategy::RestForOne), Just(Strategy::OneForAll)
        ],
        children in proptest::collection::vec(any_restart(), 0..5),
        acts in proptest::collection::vec(any_act(), 0..120),
    ) {
        let mut world = World::new(strategy, &children);
        world.boot();
        for act in acts {
            world.act(act);
        }
        world.settle();
        // Whatever happened, a halt ends it and a boot brings everything up.
        world.halt();
        world.settle();
        prop_assert!(!world.halting);
        world.boot();
        world.settle();
        prop_assert!(world.serving && world.boots_owed == 0);
        for id in &world.order {
            prop_assert_eq!(world.real[id].0, Real::Up);
        }
    }
}
