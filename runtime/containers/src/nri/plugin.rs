//! What the plugin answers to each call of the runtime. Pure, but for the table of pods.
//!
//! Invariant: a container gets our hook once: by us, unless its specification has it.
//!
//! What is not known is refused as such (`UNIMPLEMENTED`), and a `CreateContainer` that cannot be read is an error, on which the runtime gives
//! the container up: what we cannot read we cannot say to be hooked.

use std::{collections::BTreeSet, fmt, path::Path};

use prost::Message as _;

use super::{
    Pods,
    messages::{
        CREATE_CONTAINER, ConfigureRequest, ConfigureResponse, ContainerAdjustment, CreateContainerRequest,
        CreateContainerResponse, Hook, Hooks, OptionalInt, PLUGIN_SERVICE, PodSandbox, REMOVE_POD_SANDBOX,
        RemovePodSandboxRequest, StateChangeEvent, SynchronizeRequest, SynchronizeResponse, mask,
    },
    ttrpc::{INVALID_ARGUMENT, Request, Status, UNIMPLEMENTED},
};
use crate::hook;

/// How long the runtime lets the hook run: beyond the hook's own patience, whose words then say what happened.
const HOOK_TIMEOUT_SECONDS: i64 = 15;

/// Names of our programs, whoever installed them where.
const PROGRAMS: [&str; 2] = ["palisade", "palisade-hook"];

/// What a call was, where that matters to the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The runtime has said who it is.
    Configured(String),
    /// All pods were told: from now on the plugin is asked.
    Synchronized,
    /// The runtime is about to stop.
    Shutdown,
    None,
}

/// What happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Containers that got the hook.
    pub added: u64,
    /// Those that had it.
    pub present: u64,
    /// Calls that could not be answered.
    pub refused: u64,
    /// Pods for which there was no room, or that have no id.
    pub unkept: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { added, present, refused, unkept } = self;
        write!(
            f,
            "hooks added {added}, found in the specification {present}, calls refused {refused}, pods not kept {unkept}"
        )
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Plugin {
    hook: Hook,
    socket: String,
    pods: Pods,
    /// Told by `Synchronize` so far, of which there may be several.
    told: BTreeSet<String>,
    counts: Counts,
}

impl Plugin {
    /// Adds `program`, which asks at `socket`.
    pub(super) fn new(program: &Path, socket: &Path, pods: Pods) -> Self {
        let socket = socket.display().to_string();
        let name = program.file_name().and_then(|name| name.to_str()).unwrap_or(PROGRAMS[0]);
        let mut args = vec![name.to_owned()];
        if name != PROGRAMS[1] {
            args.push("hook".to_owned());
        }
        args.extend(["--socket".to_owned(), socket.clone()]);
        let timeout = Some(OptionalInt { value: HOOK_TIMEOUT_SECONDS });
        let hook = Hook { path: program.display().to_string(), args, timeout };
        Self { hook, socket, pods, told: BTreeSet::new(), counts: Counts::default() }
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// A connection begins: what an earlier one told in part is told anew.
    pub(super) fn connected(&mut self) {
        self.told.clear();
    }

    /// Answers a call.
    pub(super) fn answer(&mut self, request: &Request) -> (Result<Vec<u8>, Status>, Step) {
        let answered =
            if request.service == PLUGIN_SERVICE { self.method(request) } else { Err(unknown(&request.service)) };
        match answered {
            Ok((payload, step)) => (Ok(payload), step),
            Err(status) => {
                self.counts.refused += 1;
                tracing::warn!(method = ?request.method, reason = status.message, "a call of NRI is refused");
                (Err(status), Step::None)
            }
        }
    }

    fn method(&mut self, request: &Request) -> Result<(Vec<u8>, Step), Status> {
        let payload = request.payload.as_ref();
        match request.method.as_str() {
            "Configure" => {
                let ConfigureRequest { runtime_name, runtime_version } = read(payload)?;
                let events = mask(&[CREATE_CONTAINER, REMOVE_POD_SANDBOX]);
                let step = Step::Configured(format!("{runtime_name} {runtime_version}"));
                Ok((ConfigureResponse { events }.encode_to_vec(), step))
            }
            "Synchronize" => self.synchronize(read(payload)?),
            "CreateContainer" => Ok((self.create(read(payload)?).encode_to_vec(), Step::None)),
            "StateChange" => {
                let StateChangeEvent { event, pod } = read(payload)?;
                if event == REMOVE_POD_SANDBOX {
                    self.forget(pod);
                }
                Ok((Vec::new(), Step::None))
            }
            "RemovePodSandbox" => {
                self.forget(read::<RemovePodSandboxRequest>(payload)?.pod);
                Ok((Vec::new(), Step::None))
            }
            "Shutdown" => Ok((Vec::new(), Step::Shutdown)),
            // Not subscribed; a runtime that asks all the same hears that nothing is to be changed, by an empty message.
            "RunPodSandbox"
            | "UpdatePodSandbox"
            | "PostUpdatePodSandbox"
            | "StopPodSandbox"
            | "PostCreateContainer"
            | "StartContainer"
            | "PostStartContainer"
            | "UpdateContainer"
            | "PostUpdateContainer"
            | "StopContainer"
            | "RemoveContainer"
            | "ValidateContainerAdjustment" => Ok((Vec::new(), Step::None)),
            other => Err(unknown(other)),
        }
    }

    fn synchronize(&mut self, request: SynchronizeRequest) -> Result<(Vec<u8>, Step), Status> {
        for pod in request.pods {
            let pod: PodSandbox = read(&pod)?;
            let id = pod.id.clone();
            if self.keep(pod) {
                self.told.insert(id);
            }
        }
        if request.more {
            return Ok((SynchronizeResponse { more: true }.encode_to_vec(), Step::None));
        }
        self.pods.keep_only(&std::mem::take(&mut self.told));
        Ok((SynchronizeResponse { more: false }.encode_to_vec(), Step::Synchronized))
    }

    fn create(&mut self, request: CreateContainerRequest) -> CreateContainerResponse {
        if let Some(pod) = request.pod {
            self.keep(pod);
        }
        let container = request.container.unwrap_or_default();
        let there = container.hooks.unwrap_or_default().create_runtime;
        if there.iter().any(|hook| self.is_ours(hook)) {
            self.counts.present += 1;
            tracing::debug!(container = ?container.id, "has the hook already");
            return CreateContainerResponse { adjust: None };
        }
        self.counts.added += 1;
        tracing::debug!(container = ?container.id, "gets the hook by NRI");
        let hooks = Some(Hooks { create_runtime: vec![self.hook.clone()] });
        CreateContainerResponse { adjust: Some(ContainerAdjustment { hooks }) }
    }

    fn keep(&mut self, pod: PodSandbox) -> bool {
        let kept = self.pods.keep(pod);
        if !kept {
            self.counts.unkept += 1;
        }
        kept
    }

    fn forget(&mut self, pod: Option<PodSandbox>) {
        if let Some(pod) = pod {
            self.told.remove(&pod.id);
            self.pods.forget(&pod.id);
        }
    }

    /// A program of ours that asks at our socket. One that asks elsewhere is another node's, and does not speak for this one.
    fn is_ours(&self, hook: &Hook) -> bool {
        let named = Path::new(&hook.path).file_name().and_then(|name| name.to_str());
        let is_program = hook.path == self.hook.path || named.is_some_and(|name| PROGRAMS.contains(&name));
        is_program && asks_at(&hook.args) == self.socket
    }
}

/// The socket that a hook of these arguments asks at.
fn asks_at(args: &[String]) -> &str {
    let given = args.iter().enumerate().find_map(|(at, word)| match word.strip_prefix("--socket")? {
        "" => args.get(at + 1).map(String::as_str),
        rest => rest.strip_prefix('='),
    });
    given.unwrap_or(hook::DEFAULT_SOCKET)
}

fn read<T: prost::Message + Default>(payload: &[u8]) -> Result<T, Status> {
    T::decode(payload).map_err(|error| Status { code: INVALID_ARGUMENT, message: format!("cannot be read: {error}") })
}

fn unknown(what: &str) -> Status {
    // Who wrote it may read it; it is no longer than the message that it came in, and cut for the log's sake.
    let what: String = what.chars().take(64).collect();
    Status { code: UNIMPLEMENTED, message: format!("this plugin does not know {what:?}") }
}
