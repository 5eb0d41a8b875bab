//! Palisade's protection of itself (`bpf/lsm_guard.bpf.c`): what is its own, as the programs on the hooks find it.
//!
//! Invariant: the programs are attached before anything else is loaded, and this process has entered itself before: what it gets a
//! descriptor of from then on the kernel remembers by itself. Links are told here, for none of their hooks knows them. Links and map
//! are pinned (`<pin root>/guard/`), so that all stands while no node runs, and goes with `palisade unload`.
//!
//! Decision: whoever is unknown is held off where this node is a process of the host, and not where it is a container: the next node
//! is then an unknown container until it has admitted itself, and has to reach what this one left.

use std::{
    fs, io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use aya::{
    Ebpf, TestRun as _,
    programs::{Program, RawTracePointRunOptions},
};
use palisade_world::{Capability, Gap, KernelMatrix};

use crate::{
    KernelTypes,
    fmod_ret::{self, Modifying},
    layout::{Guarded, GuardedKind, GuardedPlace},
    objects::{self, LoadedObject, ObjectError, PinRoot, Refusal},
    programs,
    sys::{self, MapFd, ObjectIds},
};

/// Inode number of the PID namespace that all others are below (`PROC_PID_INIT_INO`).
const FIRST_PID_NAMESPACE: u64 = 0xeffffffc;

/// The programs, and what they are told.
#[derive(Debug)]
pub(crate) struct Guard {
    map: MapFd,
    pins: PinRoot,
    /// Families, and writes, whose programs were attached when links were last told.
    told: AtomicU32,
    modifying: Vec<Modifying>,
    /// Keeps programs loaded. It has maps of its own, which were made before the programs were there.
    object: Ebpf,
}

impl Guard {
    /// Enters this process and attaches what the kernel takes; what it refuses is among the refusals. `None`: nothing is protected.
    ///
    /// # Errors
    /// Where pins of another version are in the way, or none can be made.
    pub fn load(root: &Path, matrix: &KernelMatrix, refused: &mut Vec<Refusal>) -> Result<Option<Self>, ObjectError> {
        let Ok(btf) = KernelTypes::shared() else { return Ok(None) };
        let pins = PinRoot::create(root)?;
        programs::check_layouts(&pins)?;
        let made = if !matrix.judges_on_hooks() {
            Err(programs::without_hooks(matrix))
        } else {
            Self::attach(&btf, &pins, matrix.has(Capability::BpfLsm))
        };
        match made {
            Ok((loaded, modifying)) => {
                refused.extend(loaded.refused);
                let map = pins.open("guarded")?;
                Ok(Some(Self { map, pins, told: AtomicU32::new(0), modifying, object: loaded.object }))
            }
            Err(reason) => {
                tracing::warn!(%reason, "workloads are not kept from Palisade's own maps, links and process");
                refused.extend(objects::refuse_all(objects::LSM_GUARD, &reason));
                abandon(&pins)?;
                Ok(None)
            }
        }
    }

    fn attach(btf: &KernelTypes, pins: &PinRoot, by_lsm: bool) -> Result<(LoadedObject, Vec<Modifying>), String> {
        let links = links(pins);
        fs::create_dir_all(&links).map_err(|error| format!("{}: {error}", links.display()))?;
        let spec = &objects::GUARD;
        let chain = |error: ObjectError| objects::chain(&error);
        let enter = |object: &mut Ebpf| {
            let map = pins.open("guarded").map_err(chain)?;
            forget_gone(&map).and_then(|()| forget_node(&map)).map_err(|error| format!("what is its own: {error}"))?;
            enter(object, btf)?;
            say_where(&map, pins.path()).map_err(|error| format!("where the pins are: {error}"))?;
            say_who_is_held_off(&map).map_err(|error| format!("who is held off: {error}"))
        };
        let (loaded, modifying) = if by_lsm {
            let mut object = objects::load(spec.name, spec.bytes, btf, pins, &[]).map_err(chain)?;
            enter(&mut object)?;
            (objects::attach_all_in(object, spec.programs, btf, &links), Vec::new())
        } else {
            let mut made = fmod_ret::load(spec, btf, pins, &[]).map_err(chain)?;
            enter(made.object())?;
            made.attach_in(btf, &links)
        };
        for other in objects::pins_but(&links, &loaded.attached).map_err(|error| error.to_string())? {
            fs::remove_file(&other).map_err(|error| format!("{}: {error}", other.display()))?;
        }
        Ok((loaded, modifying))
    }

    /// Tells the programs of every map and link that is pinned by now, and no more of those that are gone: links are other ones each time that
    /// programs are attached again.
    pub fn tell(&self) {
        let told = forget_gone(&self.map).and_then(|()| self.tell_maps()).and_then(|()| self.tell_links());
        if let Err(error) = told {
            tracing::warn!(%error, "not everything that is pinned is kept from workloads");
        }
    }

    /// The same, where programs of these families, or of writes, may have been attached since.
    pub fn tell_if_new(&self, families: u32) {
        if self.told.fetch_or(families, Ordering::Relaxed) & families != families {
            self.tell();
        }
    }

    /// Only programs of these are attached any more.
    pub fn rest(&self, families: u32) {
        self.told.fetch_and(families, Ordering::Relaxed);
    }

    /// Acts that were not looked at lately.
    pub fn skipped(&self) -> Vec<Gap> {
        self.modifying.iter().filter_map(Modifying::skipped).collect()
    }

    fn tell_maps(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.pins.path())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                continue;
            }
            let map = sys::open_pin(&entry.path())?;
            self.remember(GuardedKind::Map, sys::object_ids(map.as_fd())?.own)?;
        }
        for map in self.object.maps().filter_map(|(_, map)| fmod_ret::descriptor(map)) {
            self.remember(GuardedKind::Map, sys::object_ids(map)?.own)?;
        }
        Ok(())
    }

    fn tell_links(&self) -> io::Result<()> {
        for ids in links_below(self.pins.path())? {
            self.remember(GuardedKind::Link, ids.own)?;
            self.remember(GuardedKind::Program, ids.program)?;
        }
        Ok(())
    }

    fn remember(&self, kind: GuardedKind, id: u32) -> io::Result<()> {
        self.map.update(&Guarded::new(kind, id.into()).bytes(), &1u64.to_ne_bytes())
    }
}

/// The ids of all links that are pinned below the root.
///
/// # Errors
/// A directory or pin that cannot be read.
pub fn pinned_links(root: &Path) -> io::Result<Vec<u32>> {
    Ok(links_below(root)?.into_iter().map(|ids| ids.own).collect())
}

/// Links are pinned in directories of the root, maps in the root itself.
fn links_below(root: &Path) -> io::Result<Vec<ObjectIds>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let directory = entry?;
        if !directory.file_type()?.is_dir() {
            continue;
        }
        for pin in fs::read_dir(directory.path())? {
            let link = sys::open_pin(&pin?.path())?;
            found.push(sys::object_ids(link.as_fd())?);
        }
    }
    Ok(found)
}

fn links(pins: &PinRoot) -> PathBuf {
    pins.path().join("guard")
}

/// What an earlier node attached protects what this one cannot keep up to date.
fn abandon(pins: &PinRoot) -> Result<(), ObjectError> {
    let links = links(pins);
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| ObjectError::Pins { path, source }
    };
    if !links.exists() {
        return Ok(());
    }
    for pin in objects::pins_but(&links, &[]).map_err(failed(&links))? {
        fs::remove_file(&pin).map_err(failed(&pin))?;
    }
    Ok(())
}

/// Maps, programs and links that the kernel has no more.
fn forget_gone(map: &MapFd) -> io::Result<()> {
    forget(map, |kind, id| match kind {
        GuardedKind::Map => sys::map_is_there(id),
        GuardedKind::Program => sys::program_is_there(id),
        GuardedKind::Link => sys::link_is_there(id),
        _ => Ok(true),
    })
}

/// Where an earlier node ran. Its pins stay guarded until this one has said where they are: their place is mostly the same.
fn forget_node(map: &MapFd) -> io::Result<()> {
    forget(map, |kind, _| Ok(!matches!(kind, GuardedKind::Process | GuardedKind::Cgroup | GuardedKind::Home)))
}

fn forget(map: &MapFd, stays: impl Fn(GuardedKind, u32) -> io::Result<bool>) -> io::Result<()> {
    for key in map.keys()? {
        let entry = Guarded::of_bytes(&key);
        let Some((entry, kind)) = entry.and_then(|entry| Some((entry, GuardedKind::of_code(entry.kind)?))) else {
            continue;
        };
        if !stays(kind, u32::try_from(entry.id).unwrap_or_default())? {
            map.delete(&key)?;
        }
    }
    Ok(())
}

/// The kernel looks itself who runs this. The program does not stay loaded: whoever ran it would be the node.
fn enter(object: &mut Ebpf, btf: &KernelTypes) -> Result<(), String> {
    objects::load_program(object, &objects::ENTER_GUARD, btf)?;
    let Some(Program::RawTracePoint(program)) = object.program_mut(objects::ENTER_GUARD.name) else {
        return Err("enter_guard is not in the object".to_owned());
    };
    let answer = program.test_run(RawTracePointRunOptions::new()).map_err(|error| objects::chain(&error))?;
    program.unload().map_err(|error| objects::chain(&error))?;
    match answer.return_value.cast_signed() {
        0 => Ok(()),
        error => Err(format!("this process is not taken for the node: {}", io::Error::from_raw_os_error(-error))),
    }
}

/// The pins' directory, those above it, and the mount namespaces in which they stay in sight; and nothing else that an earlier node said.
fn say_where(map: &MapFd, root: &Path) -> io::Result<()> {
    let root = fs::canonicalize(root)?;
    let device = fs::metadata(&root)?.dev();
    let mut said = Vec::new();
    let mut say = |key: Guarded, value: u64| {
        said.push(key);
        map.update(&key.bytes(), &value.to_ne_bytes())
    };
    for view in views() {
        let Ok(pins) = root.strip_prefix("/").map(|below| view.join(below)) else { continue };
        // In a container the host's view may be another one.
        if fs::metadata(&pins).map_or(true, |found| found.dev() != device) {
            continue;
        }
        for (depth, directory) in pins.ancestors().take(root.ancestors().count()).enumerate() {
            let found = fs::metadata(directory)?;
            let value = match depth {
                0 => GuardedPlace::Pins,
                _ if found.dev() == device => GuardedPlace::Above,
                _ => GuardedPlace::Under,
            };
            let place = Guarded::new(GuardedKind::Place, found.ino());
            say(Guarded { device: kernel_device(found.dev()), ..place }, value as u64)?;
        }
    }
    for process in ["self", "1"] {
        if let Ok(found) = fs::metadata(format!("/proc/{process}/ns/mnt")) {
            say(Guarded::new(GuardedKind::Mounts, found.ino()), 1)?;
        }
    }
    for key in map.keys()? {
        let kinds = [GuardedKind::Place as u32, GuardedKind::Mounts as u32];
        let earlier = Guarded::of_bytes(&key).filter(|entry| kinds.contains(&entry.kind));
        if earlier.is_some_and(|entry| !said.contains(&entry)) {
            map.delete(&key)?;
        }
    }
    Ok(())
}

/// The root directories of the mount namespaces from which pins are reached: this process's, and the machine's first one.
fn views() -> [PathBuf; 2] {
    ["/", "/proc/1/root"].map(PathBuf::from)
}

/// A device's number as the kernel keeps it: the major one above 20 bits of the minor one.
fn kernel_device(device: u64) -> u32 {
    libc::major(device) << 20 | libc::minor(device)
}

fn say_who_is_held_off(map: &MapFd) -> io::Result<()> {
    let unknown = Guarded::new(GuardedKind::Unknown, 0).bytes();
    if is_of_the_host() { map.update(&unknown, &1u64.to_ne_bytes()) } else { map.delete(&unknown).map(drop) }
}

/// Whether this process has the root directory of the machine's first one, and is in its PID namespace. What cannot be told is no.
fn is_of_the_host() -> bool {
    let place = |path: &str| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    let namespace = place("/proc/self/ns/pid").is_some_and(|(_, inode)| inode == FIRST_PID_NAMESPACE);
    namespace && place("/").is_some_and(|own| place("/proc/1/root") == Some(own))
}
