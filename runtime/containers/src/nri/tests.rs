//! The plugin against calls as the runtime makes them, and against a peer that makes others.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt as _, time::Duration};

use proptest::prelude::*;
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    time::timeout,
};

use super::{
    Pods, connection,
    messages::{
        ConfigureResponse, Container, CreateContainerRequest, CreateContainerResponse, Hook, Hooks, PLUGIN_SERVICE,
        PodSandbox, RegisterPluginRequest, StateChangeEvent, SynchronizeRequest, SynchronizeResponse,
    },
    mux::{self, Demux},
    plugin::{Plugin, Step},
    ttrpc::{self, Assembler, Message, Request, Response, Status},
};
use crate::identity::{Metadata, POD_NAME};

const PROGRAM: &str = "/opt/bin/palisade-hook";
const SOCKET: &str = "/run/p/hook.sock";

fn plugin(pods: &Pods) -> Plugin {
    Plugin::new(PROGRAM.as_ref(), SOCKET.as_ref(), pods.clone())
}

fn call(method: &str, payload: &impl prost::Message) -> Request {
    Request { service: PLUGIN_SERVICE.into(), method: method.into(), payload: payload.encode_to_vec().into() }
}

fn hook(path: &str, args: &[&str]) -> Hook {
    Hook { path: path.into(), args: args.iter().map(|word| (*word).to_owned()).collect(), timeout: None }
}

fn pod(id: &str, app: &str) -> PodSandbox {
    let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
    PodSandbox { id: id.into(), name: "web-1".into(), uid: "u1".into(), namespace: "shop".into(), labels }
}

/// Of a container that has these hooks: those that are added.
fn added(plugin: &mut Plugin, there: Vec<Hook>) -> Vec<Hook> {
    let container = Container { id: "c1".into(), hooks: Some(Hooks { create_runtime: there }) };
    let request = CreateContainerRequest { pod: Some(pod("s1", "web")), container: Some(container) };
    let (answer, _) = plugin.answer(&call("CreateContainer", &request));
    let adjust = CreateContainerResponse::decode(answer.unwrap().as_slice()).unwrap().adjust;
    adjust.and_then(|adjust| adjust.hooks).map(|hooks| hooks.create_runtime).unwrap_or_default()
}

#[test]
fn unit_nri_container_gets_the_hook_unless_its_specification_has_it() {
    let mut plugin = plugin(&Pods::default());
    let ours = added(&mut plugin, Vec::new());
    assert_eq!(ours.len(), 1);
    assert_eq!(
        (ours[0].path.as_str(), ours[0].args.as_slice()),
        (PROGRAM, ["palisade-hook", "--socket", SOCKET].map(String::from).as_slice())
    );
    assert!(ours[0].timeout.as_ref().unwrap().value > 10, "beyond the hook's own patience");
    assert_eq!(added(&mut plugin, ours), [], "by us before");
    for (path, args) in [
        ("/usr/bin/palisade", ["palisade", "hook", "--socket", SOCKET].as_slice()),
        ("/usr/bin/palisade", &["palisade", "hook", "--socket=/run/p/hook.sock", "--fail-open"]),
        (PROGRAM, &["anything", "--socket", SOCKET]),
    ] {
        assert_eq!(added(&mut plugin, vec![hook("/bin/other", &[]), hook(path, args)]), [], "{path} {args:?}");
    }
    for (path, args) in [
        ("/usr/bin/other", ["palisade", "hook", "--socket", SOCKET].as_slice()),
        ("/usr/bin/palisade", &["palisade", "hook", "--socket", "/run/another.sock"]),
        ("/usr/bin/palisade", &["palisade", "hook"]),
        ("/usr/bin/palisade", &["palisade", "hook", "--socket"]),
    ] {
        assert_eq!(added(&mut plugin, vec![hook(path, args)]).len(), 1, "it does not ask this node: {path} {args:?}");
    }
    assert_eq!((plugin.counts().added, plugin.counts().present), (5, 4));
    let mut usual = Plugin::new("/usr/bin/palisade".as_ref(), crate::hook::DEFAULT_SOCKET.as_ref(), Pods::default());
    assert_eq!(added(&mut usual, vec![hook("/usr/bin/palisade", &["palisade", "hook"])]), []);
    assert_eq!(added(&mut usual, Vec::new())[0].args[..2], ["palisade", "hook"]);
}

#[test]
fn unit_nri_pods_are_those_that_the_runtime_has() {
    let pods = Pods::default();
    let mut plugin = plugin(&pods);
    let named = |id: &str| pods.sandbox(id).map(|pod| (pod.labels["app"].clone(), pod.labels[POD_NAME].clone()));
    let told = |all: &[&str], more| {
        let pods = all.iter().map(|id| pod(id, "web").encode_to_vec().into()).collect();
        call("Synchronize", &SynchronizeRequest { pods, more })
    };
    let more = |answer: Result<Vec<u8>, Status>| SynchronizeResponse::decode(answer.unwrap().as_slice()).unwrap().more;
    let (answer, step) = plugin.answer(&told(&["s1"], true));
    assert!(more(answer) && step == Step::None, "the rest is to come");
    let (answer, step) = plugin.answer(&told(&["s2", "../.."], false));
    assert!(!more(answer) && step == Step::Synchronized);
    assert_eq!(named("s1"), Some(("web".into(), "web-1".into())));
    assert!(named("s2").is_some() && named("../..").is_none());
    assert_eq!(plugin.counts().unkept, 1);
    added(&mut plugin, Vec::new());
    let of = |sandbox: &str| pods.of(&Metadata { id: "c1".into(), sandbox: sandbox.into(), ..Metadata::default() });
    assert_eq!(of("s1").map(|pod| pod.id), Some("s1".into()));
    assert_eq!(of("s9"), None);
    let removed = StateChangeEvent { event: super::messages::REMOVE_POD_SANDBOX, pod: Some(pod("s1", "web")) };
    plugin.answer(&call("StateChange", &removed)).0.unwrap();
    assert_eq!(named("s1"), None);
    // A runtime that came back has others.
    plugin.connected();
    plugin.answer(&told(&["s3"], false)).0.unwrap();
    assert!(named("s2").is_none() && named("s3").is_some());
}

#[test]
fn unit_nri_pods_have_a_bound() {
    let pods = Pods::default();
    for n in 0..crate::MAX_CONTAINERS {
        assert!(pods.keep(pod(&format!("s{n}"), "web")));
    }
    assert!(!pods.keep(pod("one-more", "web")), "no room");
    assert!(pods.keep(pod("s1", "api")), "in its own place");
    assert_eq!(pods.sandbox("s1").unwrap().labels["app"], "api");
    let mut long = pod("s2", "web");
    long.labels.extend((0..2000).map(|n| (format!("a{n}"), "x".repeat(60))));
    assert!(pods.keep(long));
    let kept = pods.sandbox("s2").unwrap().labels;
    let bytes: usize = kept.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!(bytes <= crate::identity::MAX_LABEL_BYTES && kept[POD_NAME] == "web-1", "{bytes}");
}

#[test]
fn unit_nri_plugin_subscribes_to_creations_and_not_to_stops() {
    let mut plugin = plugin(&Pods::default());
    let (answer, step) = plugin.answer(&call("Configure", &ConfigureResponse::default()));
    let events = ConfigureResponse::decode(answer.unwrap().as_slice()).unwrap().events;
    assert_eq!(events, 1 << 3 | 1 << 2, "CreateContainer and RemovePodSandbox");
    assert!(matches!(step, Step::Configured(_)));
    for method in ["StopContainer", "RemoveContainer", "StartContainer", "RunPodSandbox", "StateChange"] {
        assert_eq!(plugin.answer(&call(method, &ConfigureResponse::default())).0, Ok(Vec::new()), "{method}");
    }
}

#[test]
fn unit_nri_calls_that_cannot_be_answered_are_refused_and_counted() {
    let mut plugin = plugin(&Pods::default());
    let code = |plugin: &mut Plugin, request: Request| plugin.answer(&request).0.unwrap_err().code;
    let nothing = ConfigureResponse::default();
    assert_eq!(code(&mut plugin, call("Reboot", &nothing)), ttrpc::UNIMPLEMENTED);
    assert_eq!(code(&mut plugin, Request { service: "x".into(), ..call("Configure", &nothing) }), ttrpc::UNIMPLEMENTED);
    // A container that cannot be read must not start without the hook: its creation fails.
    let broken = Request { payload: b"\x0a\xff".as_slice().into(), ..call("CreateContainer", &nothing) };
    assert_eq!(code(&mut plugin, broken), ttrpc::INVALID_ARGUMENT);
    assert_eq!(plugin.counts().refused, 3);
    let long = plugin.answer(&call(&"\u{1b}".repeat(100_000), &nothing)).0.unwrap_err();
    assert!(long.message.len() < 1000, "what is unknown is cut");
}

/// A runtime's end of a connection, by hand.
struct Peer {
    stream: UnixStream,
    demux: Demux,
    assemblers: [Assembler; 3],
}

impl Peer {
    async fn next(&mut self) -> Option<(usize, Message)> {
        loop {
            for (connection, assembler) in self.assemblers.iter_mut().enumerate() {
                if let Some(message) = assembler.message().unwrap() {
                    return Some((connection, message));
                }
            }
            let mut buffer = [0; 512];
            let read = self.stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
            let mut bytes = &buffer[..read];
            while let Some((connection, piece)) = self.demux.piece(&mut bytes).unwrap() {
                self.assemblers[connection as usize].push(piece);
            }
        }
    }

    async fn write(&mut self, connection: u32, message: &[u8]) {
        self.stream.write_all(&mux::frames(connection, message)).await.unwrap();
    }

    /// Takes the registration.
    async fn registration(&mut self) -> RegisterPluginRequest {
        let Some((2, Message::Request { stream: 1, request })) = self.next().await else { panic!("no registration") };
        assert_eq!(
            (request.service.as_str(), request.method.as_str()),
            ("nri.pkg.api.v1alpha1.Runtime", "RegisterPlugin")
        );
        RegisterPluginRequest::decode(request.payload).unwrap()
    }

    async fn ask(&mut self, stream: u32, method: &str, payload: &impl prost::Message) -> Response {
        self.write(mux::PLUGIN, &ttrpc::request(stream, PLUGIN_SERVICE, method, payload)).await;
        match self.next().await {
            Some((1, Message::Response { stream: answered, response })) if answered == stream => response,
            other => panic!("no answer: {other:?}"),
        }
    }
}

/// How a connection ends to a runtime that does this, and how often it was registered.
async fn ends<F: Future<Output = ()>>(runtime: impl FnOnce(Peer) -> F) -> (String, usize) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("nri.sock");
    let uid = std::fs::metadata(folder.path()).unwrap().uid();
    let listener = UnixListener::bind(&socket).unwrap();
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        runtime(Peer { stream, demux: Demux::default(), assemblers: Default::default() }).await;
    };
    let (mut plugin, mut registered) = (plugin(&Pods::default()), 0);
    let follow = connection::serve(&socket, uid, &mut plugin, || registered += 1);
    let ended = tokio::join!(follow, serve).0;
    (ended.to_string(), registered)
}

#[tokio::test]
async fn unit_nri_plugin_registers_and_answers_calls_that_come_in_pieces() {
    let (ended, registered) = ends(async |mut peer: Peer| {
        let register = peer.registration().await;
        assert_eq!((register.plugin_name.as_str(), register.plugin_idx.as_str()), ("palisade", "90"));
        // The runtime's calls may overtake its answer.
        let configured = peer.ask(1, "Configure", &ConfigureResponse::default()).await;
        assert!(configured.status.is_none() && !configured.payload.is_empty());
        peer.write(mux::RUNTIME, &ttrpc::response(1, Ok(Vec::new()))).await;
        // On a connection that nobody opened: skipped.
        peer.write(7, &[0xff; 5000]).await;
        peer.ask(3, "Synchronize", &SynchronizeRequest::default()).await;
        let call = ttrpc::request(5, PLUGIN_SERVICE, "CreateContainer", &CreateContainerRequest::default());
        for byte in mux::frames(mux::PLUGIN, &call) {
            peer.stream.write_all(&[byte]).await.unwrap();
        }
        let Some((1, Message::Response { stream: 5, response })) = peer.next().await else { panic!("no answer") };
        assert!(CreateContainerResponse::decode(response.payload).unwrap().adjust.is_some());
    })
    .await;
    assert_eq!((ended.as_str(), registered), ("the runtime closed the connection", 1));
}

#[tokio::test]
async fn unit_nri_registration_that_is_refused_is_said_in_the_runtimes_words() {
    let (ended, registered) = ends(async |mut peer: Peer| {
        peer.registration().await;
        let status = Status { code: 2, message: "no more plugins".into() };
        peer.write(mux::RUNTIME, &ttrpc::response(1, Err(status))).await;
        assert!(peer.next().await.is_none(), "the plugin is gone");
    })
    .await;
    assert_eq!((ended.as_str(), registered), ("the registration is refused: no more plugins", 0));
}

#[tokio::test]
async fn unit_nri_peer_that_is_no_runtime_ends_the_connection_at_once() {
    for (bytes, said) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "garbled: a frame of"),
        (mux::frames(mux::PLUGIN, &[0xff; 64]), "garbled: a message of"),
        (mux::frames(mux::PLUGIN, &[0, 0, 0, 0, 0, 0, 0, 1, 9, 0]), "garbled: a message of kind 9"),
        (
            mux::frames(mux::RUNTIME, &[0, 0, 0, 2, 0, 0, 0, 1, 2, 0, 0x0a, 0xff]),
            "garbled: a message that is no protobuf",
        ),
    ] {
        let (ended, registered) = ends(async |mut peer: Peer| {
            peer.stream.write_all(&bytes).await.unwrap();
            // Read to its end, so that it is the plugin that closes.
            while peer.next().await.is_some() {}
        })
        .await;
        assert!(ended.starts_with(said) && registered == 0, "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn unit_nri_peer_that_does_not_go_on_is_left_in_time() {
    let forever = Duration::from_secs(3600);
    let (ended, _) = ends(async |mut peer: Peer| {
        timeout(forever, async { while peer.next().await.is_some() {} }).await.expect("the plugin leaves");
    })
    .await;
    assert_eq!(ended, "not registered within 30 s");
    let (ended, registered) = ends(async |mut peer: Peer| {
        peer.registration().await;
        peer.ask(1, "Synchronize", &SynchronizeRequest::default()).await;
        // Nothing for a long time is well; half a message is not.
        tokio::time::sleep(forever).await;
        peer.ask(3, "StopContainer", &SynchronizeRequest::default()).await;
        peer.write(mux::PLUGIN, &[0, 0, 0, 200, 0, 0, 0, 5, 1, 0, 1, 2, 3]).await;
        timeout(forever, async { while peer.next().await.is_some() {} }).await.expect("the plugin leaves");
    })
    .await;
    assert_eq!((ended.as_str(), registered), ("a message began and did not go on within 5 s", 1));
}

#[tokio::test]
async fn unit_nri_peer_of_another_user_is_no_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("nri.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let uid = std::fs::metadata(folder.path()).unwrap().uid();
    let ended = connection::serve(&socket, uid + 1, &mut plugin(&Pods::default()), || panic!("registered")).await;
    assert!(ended.to_string().contains("not by uid"), "{ended}");
    let nobody = connection::serve(&folder.path().join("none"), uid, &mut plugin(&Pods::default()), || ()).await;
    assert!(nobody.to_string().contains("No such file"), "{nobody}");
}

#[test]
fn unit_nri_waits_a_quarter_more_at_most() {
    let waits = (0..1000).map(|micros| super::jittered(super::RETRY_MAX, Duration::from_micros(micros)));
    let waits: Vec<Duration> = waits.collect();
    assert_eq!(waits.iter().min(), Some(&super::RETRY_MAX));
    assert!(
        waits.iter().max().is_some_and(|most| *most > super::RETRY_MAX * 6 / 5 && *most <= super::RETRY_MAX * 5 / 4)
    );
}

/// Bytes as frames make them, with something else in places.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let call = (0..8_u32, 0..4_usize, proptest::collection::vec(any::<u8>(), 0..64)).prop_map(
        |(connection, method, payload)| {
            let method = ["Configure", "Synchronize", "CreateContainer", "StateChange"][method];
            let request = Request { service: PLUGIN_SERVICE.into(), method: method.into(), payload: payload.into() };
            mux::frames(connection, &ttrpc::request(1, PLUGIN_SERVICE, method, &request))
        },
    );
    let noise = proptest::collection::vec(any::<u8>(), 0..32);
    let small = proptest::collection::vec(0..3_u8, 0..32);
    proptest::collection::vec(prop_oneof![4 => call, 1 => noise, 1 => small], 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn unit_nri_any_bytes_are_answered_or_end_the_connection(bytes in stream(), cut in 1..200_usize) {
        let (mut demux, mut calls, mut plugin) = (Demux::default(), Assembler::default(), plugin(&Pods::default()));
        let mut answered = 0;
        'all: for mut piece in bytes.chunks(cut) {
            loop {
                match demux.piece(&mut piece) {
                    Ok(Some((connection, piece))) if connection == mux::PLUGIN => calls.push(piece),
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => break 'all,
                }
                loop {
                    match calls.message() {
                        Ok(Some(Message::Request { request, .. })) => {
                            answered += 1;
                            let (answer, _) = plugin.answer(&request);
                            prop_assert!(answer.is_ok() || plugin.counts().refused > 0);
                        }
                        Ok(Some(Message::Response { .. })) => {}
                        Ok(None) => break,
                        Err(_) => break 'all,
                    }
                }
            }
        }
        let counts = plugin.counts();
        prop_assert!(counts.added + counts.present + counts.refused <= answered);
    }
}
