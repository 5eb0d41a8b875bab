//! A thread that does not come back is seen from outside.

use crate::common::*;
use palisade_supervision::{ArbiterThread, Backoff, Here, Place, Stall, Supervisor, Watchdog};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

#[test]
fn host_watchdog_names_the_arbiter_and_the_actor_that_block_and_nobody_else() {
    let system = actix_rt::System::new();
    system.block_on(async {
        let (journal, faults) = Default::default();
        let good: Arc<dyn Place> = ArbiterThread::start("good").unwrap();
        let bad: Arc<dyn Place> = ArbiterThread::start("bad").unwrap();
        let gone: Arc<dyn Place> = ArbiterThread::start("gone").unwrap();
        let main = Here::beating();
        let stalls: Arc<Mutex<Vec<Stall>>> = Arc::default();
        let seen = stalls.clone();
        let places = [good.clone(), bad.clone(), gone.clone(), main];
        let watchdog =
            Watchdog::start(&places, Duration::from_secs(1), move |stall| seen.lock().unwrap().push(stall)).unwrap();
        drop((places, gone)); // this thread ends in good order
        let mut node = Supervisor::new("node").backoff(Backoff::fixed(MILLI));
        let a = node.add(worker("a", &good, &journal, &faults));
        let b = node.add(worker("b", &bad, &journal, &faults));
        let tree = node.start(|gave_up| panic!("{gave_up}")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(stalls.lock().unwrap().is_empty(), "idle threads beat");
        let released = Arc::new(AtomicBool::new(false));
        b.try_tell(Block(released.clone())).unwrap();
        eventually("the stall is seen", || !stalls.lock().unwrap().is_empty()).await;
        a.ask(Add(1), PATIENCE).await.unwrap();
        let expected = Stall { place: "bad".to_owned(), actor: Some("b".to_owned()), silent: Duration::from_secs(1) };
        assert_eq!(*stalls.lock().unwrap(), [expected]);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(stalls.lock().unwrap().len(), 1, "once for each stall");
        // It may come back, and stall again.
        released.store(true, Ordering::SeqCst);
        b.ask(Add(1), PATIENCE).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let again = Arc::new(AtomicBool::new(false));
        b.try_tell(Block(again.clone())).unwrap();
        eventually("the second stall is seen", || stalls.lock().unwrap().len() == 2).await;
        again.store(true, Ordering::SeqCst);
        tree.stop().await;
        drop(watchdog);
    });
}
