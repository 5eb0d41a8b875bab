//! Follows containerd and prints each change; admits every container, or refuses those whose id is given with `--refuse`.
//!
//! `print_changes CONTAINERD_SOCKET HOOK_SOCKET [--refuse ID]...`
#![forbid(unsafe_code)]

use std::{error::Error, time::Duration};

use palisade_containers::{Containerd, RuntimeConfig};
use palisade_world::{Admission, ContainerChange, Containers};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let usage = "usage: print_changes CONTAINERD_SOCKET HOOK_SOCKET [--refuse ID]...";
    let (address, hook_socket) = words.next().zip(words.next()).ok_or(usage)?;
    let refused: Vec<String> = words.filter(|word| word != "--refuse").collect();
    let config = RuntimeConfig { address: address.into(), hook_socket: Some(hook_socket.into()) };
    let mut containers = Containerd::new(config);
    loop {
        match containers.next().await {
            Ok(ContainerChange::Starting(container, Admission(answer))) => {
                println!("starting {container:?}");
                let outcome =
                    if refused.contains(&container.id.0) { Err("refused by print_changes".into()) } else { Ok(()) };
                answer.send(outcome).ok();
            }
            Ok(change) => println!("{change:?}"),
            Err(error) => {
                println!("error: {error}");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}
