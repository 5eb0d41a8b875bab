//! The automaton of everything but files: sockets by domain and type, and tracing.
//!
//! Invariant: a class that nothing is blocked or told in is not mediated at all (its first move leads nowhere), so that the profile takes
//! nothing from a workload that its policy does not name.

use std::collections::BTreeMap;

use palisade_kernel_abi::blob::{AcceptId, Automaton, Effect, Family, Modifiers, State};

use crate::{
    decided::{Decided, Weakened},
    table::{Accept, NO_MATCH, START, Table},
};

const CLASS_TRACE: u8 = 9;
const CLASS_SOCKET: u8 = 14;
const CLASS_LABEL: u8 = 16;
/// Both halves of the permissions of a class.
const EVERYTHING: u32 = 0x7f | 0x7f << 14;
/// To trace; being traced, and reading of another's memory map, are others.
const TRACE: u32 = 0x02;
const CREATE: u32 = 0x10;
/// `SOCK_*` without flags end here.
const KINDS: u8 = 16;

/// Builds it.
pub(crate) fn policy_database(decided: &mut Decided<'_>, trace: Effect) -> Table {
    let mut table = Table::of_bytes();
    if let Some(accept) = accept_of(trace, TRACE, TRACE, decided.tells(Family::Ptrace)) {
        add_trace(&mut table, accept);
    }
    let told = decided.tells(Family::Socket);
    let sockets = Sockets { decided, told, known: BTreeMap::new() };
    sockets.add(&mut table);
    table
}

/// `None` where everything is allowed in silence.
fn accept_of(effect: Effect, denied: u32, audited: u32, told: bool) -> Option<Accept> {
    match effect {
        Effect::Block => Some(Accept { allow: EVERYTHING & !denied, audit: 0 }),
        Effect::Audit if told => Some(Accept { allow: EVERYTHING, audit: audited }),
        Effect::Audit | Effect::Permit => None,
    }
}

/// The kernel asks whether the class is mediated by one byte, and matches the other's label after two.
fn add_trace(table: &mut Table, accept: Accept) {
    let whoever = table.add(accept, table.states() as u32);
    let mediated = table.add(accept, whoever);
    let label = table.add(Accept::default(), NO_MATCH);
    table.set(START, CLASS_TRACE, mediated);
    table.set(START, CLASS_LABEL, label);
    table.set(label, CLASS_TRACE, whoever);
}

struct Sockets<'a, 'b> {
    decided: &'b mut Decided<'a>,
    told: bool,
    /// By where the blob's automaton stands after domain and type.
    known: BTreeMap<State, Effect>,
}

impl Sockets<'_, '_> {
    fn add(mut self, table: &mut Table) {
        if self.decided.blob.head().families >> Family::Socket as u32 & 1 == 0 {
            return;
        }
        let effects: Vec<Vec<Effect>> = (0..=u8::MAX).map(|domain| self.kinds_of(domain)).collect();
        if effects.iter().flatten().all(|effect| accept_of(*effect, EVERYTHING, CREATE, self.told).is_none()) {
            return;
        }
        // Two bytes of the domain, then two of the type, most significant first.
        let class = table.add(Accept::default(), NO_MATCH);
        let domain_low = table.add(Accept::default(), NO_MATCH);
        table.set(START, CLASS_SOCKET, class);
        table.set(class, 0, domain_low);
        let mut of_domain: BTreeMap<&[Effect], u32> = BTreeMap::new();
        for (domain, kinds) in (0..=u8::MAX).zip(&effects) {
            let told = self.told;
            let state = *of_domain.entry(kinds).or_insert_with(|| add_kinds(table, kinds, told));
            table.set(domain_low, domain, state);
        }
    }

    /// What becomes of a socket of the domain, by type.
    fn kinds_of(&mut self, domain: u8) -> Vec<Effect> {
        let start = self.decided.blob.start(Automaton::Network);
        let after_domain = self.after(start, domain);
        (0..KINDS).map(|kind| self.of_protocols(self.after(after_domain, kind))).collect()
    }

    /// Where a byte leads, which the blob reads as two symbols.
    fn after(&self, state: State, byte: u8) -> State {
        let symbols = palisade_kernel_abi::blob::symbols_of(byte);
        symbols.into_iter().fold(state, |state, symbol| self.decided.blob.step(Automaton::Network, state, symbol))
    }

    /// The mildest over all protocols, which AppArmor does not see.
    fn of_protocols(&mut self, state: State) -> Effect {
        if let Some(effect) = self.known.get(&state) {
            return *effect;
        }
        let mut effects = [Effect::Permit; 256];
        for (protocol, effect) in (0..=u8::MAX).zip(&mut effects) {
            let accept = AcceptId(self.decided.blob.accept_at(Automaton::Network, self.after(state, protocol)));
            *effect = self.decided.effect(Family::Socket, accept.into(), Modifiers::NONE);
        }
        if effects.iter().any(|effect| *effect != effects[0]) {
            self.decided.weakened.insert(Weakened::Protocol);
        }
        let mildest = effects.into_iter().min().unwrap_or(Effect::Permit);
        self.known.insert(state, mildest);
        mildest
    }
}

/// The states that read a type's two bytes.
fn add_kinds(table: &mut Table, kinds: &[Effect], told: bool) -> u32 {
    let high = table.add(Accept::default(), NO_MATCH);
    // Types that there are not are allowed, as all that a policy does not name.
    let other = table.add(Accept { allow: EVERYTHING, audit: 0 }, NO_MATCH);
    let low = table.add(Accept::default(), other);
    table.set(high, 0, low);
    let mut of_effect: BTreeMap<Effect, u32> = BTreeMap::from([(Effect::Permit, other)]);
    for (kind, effect) in (0u8..).zip(kinds) {
        let state = *of_effect.entry(*effect).or_insert_with(|| {
            let accept = accept_of(*effect, EVERYTHING, CREATE, told);
            accept.map_or(other, |accept| table.add(accept, NO_MATCH))
        });
        table.set(low, kind, state);
    }
    high
}
