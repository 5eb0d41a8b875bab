//! The main path.
use actix::prelude::{Actor, Handler, Message};
use palisade_supervision::{Backoff, ChildSpec, Context, Supervisor};
use std::time::Duration;

struct Counter(u64);
impl Actor for Counter {
    type Context = Context<Self>;
}
#[derive(Message)]
#[rtype(result = "u64")]
struct Add(u64);
impl Handler<Add> for Counter {
    type Result = u64;
    fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 {
        assert_ne!(add.0, 13, "unlucky");
        self.0 += add.0;
        self.0
    }
}

#[tokio::test(start_paused = true)]
async fn unit_supervision_restarts_a_crashed_child_with_fresh_state() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let mut root = Supervisor::new("node").backoff(Backoff::fixed(Duration::from_secs(1)));
            let counter = root.add(ChildSpec::new("counter", |_| Counter(100)));
            let tree = root.start(|gave_up| panic!("{gave_up}")).await.unwrap();
            let second = Duration::from_secs(5);
            assert_eq!(counter.ask(Add(1), second).await, Ok(101));
            assert!(counter.ask(Add(13), second).await.is_err());
            assert_eq!(counter.ask(Add(2), second).await, Ok(102));
            println!("{}", serde_json::to_string_pretty(&tree.read()).unwrap());
            println!("{:?}", tree.stop().await);
        })
        .await;
}
