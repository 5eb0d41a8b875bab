//! The suite of the boot where SELinux is active and enforces: what the kernel does with a policy in which users are constrained, first
//! with constraints that a test writes ([`kernel`], [`containers`]), then as Palisade's adapter sees it ([`adapter`]) and with what policies are
//! lowered to ([`lowered`], [`generated`]), at last with the whole node ([`node`]).
//!
//! The guest's init loaded `tests/vm/selinux/base.cil`, which allows everything. So each denial is of what a test has put beside it. In another boot it
//! loaded a distribution's policy, and the node puts its own into the store that it was made of ([`store`]).
//!
//! Invariant: nothing is only denied in a context: the same call by a process in another one goes through.

mod adapter;
mod containers;
mod fixture;
mod generated;
mod kernel;
mod lowered;
mod node;
mod store;

use libtest_mimic::Trial;
use palisade_kernel::selinux::Base;

use crate::suite::{Checked, attacks, ensure};

/// Every test of this boot: which they are, the policy says that the guest's init has loaded.
#[must_use]
pub fn trials() -> Vec<Trial> {
    if fixture::has_distributions_policy() {
        return store::trials();
    }
    vec![
        Trial::test("vm_selinux_guest_enforces_its_base_policy", kernel::ground),
        crate::suite::ground::tiers(),
        Trial::test("vm_selinux_constraint_denies_the_tasks_of_a_user_and_no_others", kernel::denies_a_user),
        Trial::test("vm_selinux_policy_that_is_loaded_anew_holds_who_runs_already", kernel::holds_who_runs),
        Trial::test("vm_selinux_denial_is_told_by_the_audit_stream", kernel::tells),
        Trial::test("vm_selinux_task_of_a_user_that_is_gone_runs_on_unlabelled", kernel::runs_on_unlabelled),
        Trial::test(
            "vm_selinux_adapter_knows_classes_levels_and_contexts_of_the_policy_in_force",
            adapter::knows_the_policy_in_force,
        ),
        Trial::test(
            "vm_selinux_adapter_asks_the_policy_in_force_whether_a_constraint_holds",
            adapter::asks_the_policy_in_force,
        ),
        Trial::test(
            "vm_selinux_policy_that_is_refused_by_compiler_or_kernel_leaves_what_was_in_force",
            adapter::keeps_what_was_in_force,
        ),
        Trial::test(
            "vm_selinux_lowered_policy_denies_its_user_and_the_record_names_the_rule",
            lowered::holds_and_names_the_rule,
        ),
        Trial::test("vm_selinux_task_that_is_denied_anything_cannot_take_another_user", lowered::keeps_its_user),
        Trial::test("vm_selinux_module_without_rules_knows_every_user_of_the_pool", lowered::knows_every_user),
        Trial::test("vm_selinux_decides_generated_cases_as_the_naive_evaluator_does_whoever_acts", generated::agrees),
        Trial::test("vm_selinux_differs_from_the_walker_as_is_declared", generated::differs_as_declared),
        Trial::test("vm_selinux_container_is_started_executed_in_and_stopped_in_its_context", containers::live),
        Trial::test(
            "vm_selinux_container_does_not_start_in_a_context_that_the_policy_does_not_know",
            containers::refused,
        ),
        Trial::test("vm_selinux_attacks_come_to_what_the_table_says", || {
            attacks::beside_fanotify(Some(Base::Cil(fixture::BASE.into())), 40)
        }),
        Trial::test(
            "vm_selinux_node_holds_capabilities_of_its_containers_and_names_the_rule",
            node::holds_and_explains,
        ),
        Trial::test("vm_selinux_node_says_what_is_not_held", node::says_what_is_not_held),
        Trial::test("vm_selinux_node_loads_its_policy_again_after_anothers_load", node::follows_another_load),
        Trial::test("vm_selinux_node_policy_that_changes_is_in_force_for_who_runs", node::changes),
        Trial::test("vm_selinux_node_holds_nothing_while_selinux_is_permissive", node::says_when_selinux_is_permissive),
        Trial::test("vm_selinux_node_policy_stands_while_the_node_is_away", node::stands),
        Trial::test("vm_selinux_node_unload_takes_its_constraints_away", node::is_unloaded),
    ]
}
