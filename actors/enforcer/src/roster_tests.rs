//! The roster with real enforcers over a kernel that only writes down what it is asked.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use actix::{Actor, Handler, MessageResult};
use palisade_domain::{CgroupId, Generation, Slot, Visibility, Workload, WorkloadKind};
use palisade_kernel_abi::blob::Blob;
use palisade_policy::ir::Postures;
use palisade_protocol::{
    CompilePolicy, Condition, ConditionReported, PolicyAnnounced, PolicyRefused, PolicySetChanged, VisibilityChanged,
    WorkloadAppeared, WorkloadGone, WorkloadStarted,
};
use palisade_supervision::{Address, ChildSpec, Context, Here, MailboxOf, Overflow, Supervisor, Tree};
use palisade_world::{Enforcement, EnforcementError, Installed, KernelMatrix, KernelMemory, Membership};

use crate::{Roster, Wiring, roster::RELEASE_MAX};

#[derive(Default)]
struct Kernel {
    matrix: KernelMatrix,
    asked: Mutex<Vec<&'static str>>,
    /// Releases that it refuses yet.
    refuses: AtomicU32,
    /// What it holds may change by itself.
    holds_later: AtomicBool,
    /// It has.
    holds_otherwise: AtomicBool,
}

impl Kernel {
    fn note(&self, what: &'static str) -> Result<(), EnforcementError> {
        self.asked.lock().expect("no panic").push(what);
        Ok(())
    }

    fn asked(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.asked.lock().expect("no panic"))
    }
}

impl Enforcement for Kernel {
    fn matrix(&self) -> &KernelMatrix {
        &self.matrix
    }

    fn admit(&self, _: &Membership) -> Result<(), EnforcementError> {
        self.note("admit")
    }

    fn learn_mounts(&self, _: Slot, _: u32) -> Result<(), EnforcementError> {
        self.note("learn")
    }

    fn holds_otherwise(&self, _: Slot) -> bool {
        self.holds_otherwise.swap(false, Ordering::Relaxed)
    }

    fn holds_later(&self) -> bool {
        self.holds_later.load(Ordering::Relaxed)
    }

    fn install(&self, _: Slot, _: Generation, _: Option<&Arc<Blob>>) -> Result<Installed, EnforcementError> {
        self.note("install").map(|()| Installed::default())
    }

    fn release(&self, slot: Slot) -> Result<(), EnforcementError> {
        let refused = self.refuses.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if refused.is_ok() {
            self.note("release in vain")?;
            return Err(EnforcementError::Refused { slot, what: "release", reason: "busy".into() });
        }
        self.note("release")
    }

    fn memory(&self) -> KernelMemory {
        KernelMemory::default()
    }
}

/// Everybody else, who only listens.
struct Others(Arc<Mutex<Heard>>);

/// What the roster said of its slot.
#[derive(Default)]
struct Heard {
    released: u32,
    condition: Option<Condition>,
}

impl Actor for Others {
    type Context = Context<Self>;
}

impl Handler<WorkloadGone> for Others {
    type Result = ();

    fn handle(&mut self, _: WorkloadGone, _: &mut Self::Context) {
        self.0.lock().expect("no panic").released += 1;
    }
}

impl Handler<PolicyAnnounced> for Others {
    type Result = ();

    fn handle(&mut self, _: PolicyAnnounced, _: &mut Self::Context) {}
}

impl Handler<VisibilityChanged> for Others {
    type Result = ();

    fn handle(&mut self, _: VisibilityChanged, _: &mut Self::Context) {}
}

impl Handler<ConditionReported> for Others {
    type Result = ();

    fn handle(&mut self, message: ConditionReported, _: &mut Self::Context) {
        self.0.lock().expect("no panic").condition = message.condition;
    }
}

impl Handler<CompilePolicy> for Others {
    type Result = MessageResult<CompilePolicy>;

    fn handle(&mut self, _: CompilePolicy, _: &mut Self::Context) -> Self::Result {
        MessageResult(Err(PolicyRefused { reason: "no policy selects this workload".into(), retry_after: None }))
    }
}

fn appeared(app: &str) -> WorkloadAppeared {
    let workload = Workload {
        kind: WorkloadKind::Container,
        name: "pod".into(),
        namespace: "default".into(),
        container: "main".into(),
        container_id: None,
        image: String::new(),
        labels: BTreeMap::from([("app".into(), app.into())]),
    };
    let membership = Membership { slot: Slot(1), cgroup: Some(CgroupId(7)), cgroup_path: None, pid: 100, root: None };
    WorkloadAppeared { workload: Arc::new(workload), membership, admission: None }
}

async fn tell<M>(roster: &Address<Roster>, message: M)
where
    M: actix::Message<Result = ()> + Send + 'static,
    Roster: Handler<M>,
{
    assert!(roster.try_tell(message).is_ok(), "room");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

struct Bed {
    tree: Tree,
    kernel: Arc<Kernel>,
    roster: Address<Roster>,
    heard: Arc<Mutex<Heard>>,
}

async fn bed() -> Bed {
    let (kernel, heard) = (Arc::new(Kernel::default()), Arc::<Mutex<Heard>>::default());
    let mut node = Supervisor::new("node");
    let hears = Arc::clone(&heard);
    let others = node.add(ChildSpec::new("others", move |_| Others(Arc::clone(&hears))).place(Here::place()));
    let enforcers = Supervisor::new("enforcers");
    let wiring = Wiring {
        enforcement: Arc::clone(&kernel) as Arc<dyn Enforcement>,
        compiler: others.asker(),
        announced: vec![others.outbox(Overflow::Refuse)],
        installed: Vec::new(),
        released: vec![others.outbox(Overflow::Refuse)],
        conditions: others.outbox(Overflow::Refuse),
        visibility: Visibility::NONE,
        host_visibility: Visibility::NONE,
        select_visibility: |_, _| None,
        visible: vec![others.outbox(Overflow::Refuse)],
        devices: None,
        judged: Vec::new(),
    };
    let mailbox = MailboxOf::<Roster>::new("roster", 16);
    let (roster, handle) = (mailbox.address(), enforcers.handle());
    let spec =
        ChildSpec::with_mailbox(mailbox, move |_| Ok(Roster::new(handle.clone(), Here::place(), wiring.clone())));
    let tree = node.child(enforcers).child(spec.place(Here::place())).start(|_| {}).await.expect("it starts");
    Bed { tree, kernel, roster, heard }
}

fn no_policies() -> PolicySetChanged {
    PolicySetChanged { generation: Generation(1), set: Arc::default(), postures: Postures::default() }
}

fn on_a_paused_clock(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

#[test]
fn unit_roster_holds_a_workload_that_is_told_differently_with_the_same_slot() {
    on_a_paused_clock(async {
        let Bed { tree, kernel, roster, .. } = bed().await;
        tell(&roster, no_policies()).await;
        tell(&roster, appeared("web")).await;
        tell(&roster, WorkloadStarted { slot: Slot(1), pid: 100 }).await;
        assert_eq!(kernel.asked(), ["admit", "install", "learn"]);

        tell(&roster, appeared("api")).await;
        tell(&roster, WorkloadStarted { slot: Slot(1), pid: 100 }).await;
        assert_eq!(kernel.asked(), ["admit", "install", "learn"], "never released in between");
        assert_eq!(tree.read().at(&["enforcers"]).expect("it is there").children.len(), 1);

        tell(&roster, WorkloadGone { slot: Slot(1) }).await;
        assert_eq!(kernel.asked(), ["release"]);
        assert!(tree.read().at(&["enforcers"]).expect("it is there").children.is_empty());
        tree.stop().await;
    });
}

#[test]
fn unit_enforcer_installs_again_what_is_held_otherwise_by_itself_where_that_may_be() {
    for (may_change, installed) in [(true, &["install"][..]), (false, &[])] {
        on_a_paused_clock(async {
            let Bed { tree, kernel, roster, .. } = bed().await;
            kernel.holds_later.store(may_change, Ordering::Relaxed);
            tell(&roster, no_policies()).await;
            tell(&roster, appeared("web")).await;
            assert_eq!(kernel.asked(), ["admit", "install"]);
            kernel.holds_otherwise.store(true, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(kernel.asked(), installed, "and that once");
            tree.stop().await;
        });
    }
}

#[test]
fn unit_roster_tells_a_slot_released_only_once_the_kernel_let_it_go() {
    on_a_paused_clock(async {
        let Bed { tree, kernel, roster, heard } = bed().await;
        let heard = || {
            let heard = heard.lock().expect("no panic");
            (heard.released, heard.condition.clone())
        };
        tell(&roster, no_policies()).await;
        tell(&roster, appeared("web")).await;
        kernel.refuses.store(12, Ordering::Relaxed);
        tell(&roster, WorkloadGone { slot: Slot(1) }).await;
        assert_eq!(kernel.asked(), ["admit", "install", "release in vain"]);
        let (released, condition) = heard();
        assert_eq!(released, 0);
        assert!(matches!(condition, Some(Condition::Degraded(why)) if why.contains("release: busy")));

        tell(&roster, appeared("next")).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let tries = kernel.asked();
        assert!((5..12).contains(&tries.len()) && tries.iter().all(|asked| *asked == "release in vain"), "{tries:?}");
        assert!(matches!(heard(), (0, Some(Condition::Failed(_)))), "it is the node's trouble by now");

        tokio::time::sleep(RELEASE_MAX * 12).await;
        let asked = kernel.asked();
        assert_eq!(asked[asked.len() - 3..], ["release", "admit", "install"], "who waited has the slot");
        assert_eq!(heard(), (1, Some(Condition::Good)));
        tree.stop().await;
    });
}
