//! The decisions before the kernel's security functions: what the LSM objects compile to, loaded a second way.
//!
//! A program on an LSM hook and one that goes before `security_*` (`fmod_ret`, BPF_MODIFY_RETURN) get the same context, the
//! arguments and an earlier answer, so that the same functions decide where `bpf` is not an active LSM. What differs: they come
//! before the other LSMs, before the kernel's own check of capabilities among them (the program asks it itself), and where a
//! function takes other arguments than its hook there is a program of its own ([`place_of`]).
//!
//! Invariant: the kernel skips such a program for whoever comes by while it runs on the same CPU. It is a means only where no
//! task interrupts another in the kernel, which is tried (`matrix::try_modify_return`); a skip that happens all the same is
//! counted by the kernel and told ([`Modifying::skipped`]).
//!
//! Decision: by aya-obj, with maps that aya made, because aya 0.14 has no such programs. Links are pinned beside the others and
//! replaced as they are: who takes them over, or away, need not know.

use std::{
    collections::HashSet,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aya::{
    Btf, Ebpf,
    maps::{Map, MapData},
};
use aya_obj::btf::BtfKind;
use palisade_kernel_abi::record::Tier;
use palisade_world::Gap;

use crate::{
    KernelTypes,
    objects::{self, Constant, Hook, LoadedObject, ObjectError, ObjectSpec, PinRoot, ProgramSpec, Refusal, chain},
    sys,
};

const NEEDS: &str = "Linux 5.17, BTF, trampolines for functions, a kernel that does not preempt its own code";

/// How long it is told that acts were not judged, after the last one.
const RECENT: Duration = Duration::from_secs(60);

/// A program that is attached.
#[derive(Debug)]
pub(crate) struct Modifying {
    name: &'static str,
    program: OwnedFd,
    seen: Mutex<Seen>,
}

impl Modifying {
    pub fn new(name: &'static str, program: OwnedFd) -> Self {
        Self { name, program, seen: Mutex::default() }
    }

    /// Attaches it, its link pinned in that directory by its name.
    pub fn attach_pinned_in(&self, links: &Path) -> Result<(), String> {
        attach_pinned_in(&self.program, self.name, links)
    }

    /// Acts that were not judged lately because the program ran already on the CPU.
    pub fn skipped(&self) -> Option<Gap> {
        let skipped = sys::skips(&self.program).ok()?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.look(skipped, sys::boot_time()).then(|| Gap {
            what: "acts that were not judged".to_owned(),
            reason: format!(
                "{} was skipped {skipped} times since it was attached: it was interrupted, and others ran on its CPU meanwhile; does the \
                 kernel preempt its own code by now (/sys/kernel/debug/sched/preempt)?",
                self.name
            ),
        })
    }
}

/// What was known at the last look.
#[derive(Debug, Default)]
struct Seen {
    skipped: u64,
    risen: Option<Duration>,
}

impl Seen {
    /// Whether the count has risen lately; times are since boot.
    fn look(&mut self, skipped: u64, now: Duration) -> bool {
        if skipped > self.skipped {
            *self = Self { skipped, risen: Some(now) };
        }
        self.risen.is_some_and(|risen| now.saturating_sub(risen) < RECENT)
    }
}

/// An object whose programs stand on the maps that aya made for it.
#[derive(Debug)]
pub(crate) struct Relocated<'a> {
    object: aya_obj::Object,
    types: OwnedFd,
    kernel: &'a Btf,
}

impl<'a> Relocated<'a> {
    /// `made`: the same object in aya's hands.
    ///
    /// # Errors
    /// In words, as refusals have them.
    pub fn new(bytes: &[u8], made: &Ebpf, kernel: &'a Btf) -> Result<Self, String> {
        let said = |error: &dyn std::error::Error| chain(error);
        let mut object = aya_obj::Object::parse(bytes).map_err(|error| said(&error))?;
        let features = aya::features().btf().ok_or("the kernel knows no types of programs")?;
        let types = object.fixup_and_sanitize_btf(features).map_err(|error| said(&error))?;
        let types = types.ok_or("the object has no types")?.to_bytes();
        let types = sys::load_types(&types).map_err(|error| format!("its types: {error}"))?;
        object.relocate_btf(kernel).map_err(|error| said(&error))?;
        let maps: Vec<_> = object.maps.drain().collect();
        let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let made = maps.iter().filter_map(|(name, map)| Some((name.as_str(), descriptor(made.map(name)?)?, map)));
        let made = made.map(|(name, fd, map)| (name, fd.as_raw_fd(), map));
        object.relocate_maps(made, &text).map_err(|error| said(&error))?;
        object.relocate_calls(&text).map_err(|error| said(&error))?;
        object.sanitize_functions(aya::features());
        Ok(Self { object, types, kernel })
    }

    /// Lets the verifier have a program, to go before the function.
    ///
    /// # Errors
    /// In words, with the verifier's last lines.
    pub fn load(&self, name: &str, function: &str) -> Result<OwnedFd, String> {
        let program = self.object.programs.get(name).ok_or("not in the object")?;
        let code = self.object.functions.get(&program.function_key()).ok_or("not in the object")?;
        let id = self.kernel.id_by_type_name_kind(function, BtfKind::Func);
        let functions = code.func_info.func_info_bytes();
        let lines = code.line_info.line_info_bytes();
        let program = sys::ModifyingProgram {
            name,
            license: &program.license,
            instructions: &code.instructions,
            types: self.types.as_fd(),
            function: id.map_err(|_| format!("this kernel has no function {function}"))?,
            functions: (&functions, code.func_info.func_info.len(), code.func_info_rec_size),
            lines: (&lines, code.line_info.line_info.len(), code.line_info_rec_size),
        };
        sys::load_modifying(&program).map_err(|(error, log)| objects::with_log(&error, &log))
    }
}

/// Attaches a program that was loaded; nothing is left of it when the link is dropped.
pub(crate) fn attach(program: &OwnedFd) -> Result<OwnedFd, String> {
    sys::attach_modifying(program.as_fd()).map_err(|error| format!("cannot be attached: {error}"))
}

/// The function that a hook's program goes before, and which program: one of its own where the function has other arguments.
fn place_of(spec: &ProgramSpec) -> Option<(String, String)> {
    let (Hook::Lsm(hook) | Hook::LaterLsm(hook)) = spec.hook else { return None };
    let program = spec.name.to_owned();
    Some(match hook {
        "bprm_check_security" => ("security_bprm_check".to_owned(), program),
        // The function works the protection out for its hooks.
        "mmap_file" => ("security_mmap_file".to_owned(), format!("{program}_asked")),
        _ => (format!("security_{hook}"), program),
    })
}

/// Whether the kernel has the function, where that is a question: another one is called in its place.
fn is_wanted(spec: &ProgramSpec, btf: &Btf) -> bool {
    let later = matches!(spec.hook, Hook::LaterLsm(_)).then(|| place_of(spec)).flatten();
    later.is_none_or(|(function, _)| btf.id_by_type_name_kind(&function, BtfKind::Func).is_ok())
}

pub(crate) fn load_program(object: &Relocated<'_>, spec: &ProgramSpec) -> Result<OwnedFd, String> {
    let (function, name) = place_of(spec).ok_or("it is of another kind than its hook")?;
    object.load(&name, &function)
}

/// Attaches a program, its link pinned in that directory by the program's name.
pub(crate) fn attach_pinned_in(program: &OwnedFd, name: &str, links: &Path) -> Result<(), String> {
    let link = attach(program)?;
    objects::replace_link(links, name, |path| sys::pin(link.as_fd(), path).map_err(|error| error.to_string()))
}

/// An object whose maps are there, and none of its programs yet.
#[derive(Debug)]
pub(crate) struct Made<'a> {
    object: Ebpf,
    relocated: Relocated<'a>,
    programs: &'static [ProgramSpec],
}

/// Makes an object's maps, or finds them by their pins.
///
/// # Errors
/// Where the object as a whole is refused.
pub(crate) fn load<'a>(
    spec: &ObjectSpec,
    btf: &'a KernelTypes,
    pins: &PinRoot,
    constants: &[Constant],
) -> Result<Made<'a>, ObjectError> {
    let object = objects::load(spec.name, spec.bytes, btf, pins, &with_tier(constants))?;
    let relocated = Relocated::new(spec.bytes, &object, btf)
        .map_err(|reason| ObjectError::Refused { object: spec.name, reason })?;
    Ok(Made { object, relocated, programs: spec.programs })
}

impl Made<'_> {
    /// The maps, and programs that go nowhere.
    pub fn object(&mut self) -> &mut Ebpf {
        &mut self.object
    }

    /// Loads the programs and attaches them before the functions of their hooks, links pinned. What the kernel refuses is in the result.
    pub fn attach(self, btf: &KernelTypes, pins: &PinRoot) -> (LoadedObject, Vec<Modifying>) {
        self.attach_in(btf, &pins.links())
    }

    /// The same, links pinned in that directory.
    pub fn attach_in(self, btf: &KernelTypes, links: &Path) -> (LoadedObject, Vec<Modifying>) {
        let (mut attached, mut refused, mut modifying) = (Vec::new(), Vec::new(), Vec::new());
        for spec in self.programs.iter().filter(|spec| is_wanted(spec, btf)) {
            let pinned = load_program(&self.relocated, spec).and_then(|program| {
                attach_pinned_in(&program, spec.name, links)?;
                Ok(program)
            });
            match pinned {
                Ok(program) => {
                    attached.push(spec.name);
                    modifying.push(Modifying::new(spec.name, program));
                }
                Err(reason) => {
                    let refusal = Refusal { program: spec.name, needs: NEEDS, without: spec.without, reason };
                    tracing::warn!(%refusal, "this kernel refuses a program before a function");
                    refused.push(refusal);
                }
            }
        }
        (LoadedObject { object: self.object, attached, refused }, modifying)
    }
}

/// Records say by what means.
pub(crate) fn with_tier(constants: &[Constant]) -> Vec<Constant> {
    let tier = Constant::Word("pal_hook_tier", u32::from(Tier::FmodRet.code()));
    constants.iter().copied().chain([tier]).collect()
}

/// aya's maps have their descriptors inside each kind.
pub(crate) fn descriptor(map: &Map) -> Option<BorrowedFd<'_>> {
    let made: &MapData = match map {
        Map::Array(made)
        | Map::ArrayOfMaps(made)
        | Map::HashMap(made)
        | Map::HashOfMaps(made)
        | Map::LruHashMap(made)
        | Map::PerCpuArray(made)
        | Map::PerCpuHashMap(made)
        | Map::ProgramArray(made)
        | Map::RingBuf(made)
        | Map::SkStorage(made)
        | Map::Unsupported(made) => made,
        _ => return None,
    };
    Some(made.fd().as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_acts_that_were_not_judged_are_told_for_a_minute_after_the_last_one() {
        let mut seen = Seen::default();
        let at = Duration::from_secs;
        assert!(!seen.look(0, at(5)));
        assert!(seen.look(2, at(10)) && seen.look(2, at(69)));
        assert!(!seen.look(2, at(70)), "it is old news");
        assert!(seen.look(3, at(100)) && !seen.look(3, at(160)));
    }

    #[test]
    fn unit_each_decision_on_a_hook_has_a_function_to_go_before() {
        for object in objects::on_hooks() {
            let parsed = aya_obj::Object::parse(object.bytes).expect("an object");
            for spec in object.programs {
                let (function, program) = place_of(spec).expect("on an LSM hook");
                assert!(function.starts_with("security_"), "the kernel takes no other function: {function}");
                assert!(parsed.programs.contains_key(&program), "{program} is not in {}", object.name);
            }
        }
    }
}
