//! The network family: which sockets may be made (`matchProtocols`), which names may be asked for (`matchDNSQueries`), and, in our own
//! kind, where sockets may connect (`destinations`).

use palisade_domain::PolicyKind;

use crate::{
    common::Common,
    destination,
    diagnostic::quoted,
    dns,
    draft::Draft,
    fields::Fields,
    ir::{Matcher, SocketMatch},
    path_family::pts,
    protocol,
};

/// Lowers `spec.network`.
pub(crate) fn read(spec: &mut Fields<'_>, outer: &Common, draft: &mut Draft<'_>) {
    draft.family(spec, "network", outer, |family, common, draft| {
        protocols(family, common, draft);
        dns::read(family, common, draft);
        if draft.kind() == PolicyKind::PalisadePolicy {
            destination::read(family, common, draft);
        } else {
            let why = "only a PalisadePolicy names destinations";
            let instead = match draft.kind() {
                // A PalisadePolicy selects no hosts.
                PolicyKind::KubeArmorHostPolicy => "remove it; this version holds `matchProtocols` for hosts",
                _ => "write `kind: PalisadePolicy` with `apiVersion: palisade.dev/v1alpha1`",
            };
            family.refuse_misplaced("destinations", why, instead, draft.problems);
        }
    });
}

fn protocols(family: &mut Fields<'_>, outer: &Common, draft: &mut Draft<'_>) {
    draft.items(family, "matchProtocols", outer, |item, draft| {
        if draft.kind() == PolicyKind::KubeArmorHostPolicy && !item.fields.has("fromSource") {
            let what = format!("{} has no `fromSource`", quoted(&item.fields.place));
            let why = "it is about every executable, and KubeArmor's schema wants the field for hosts";
            draft.problems.warning(item.fields.at, what, why, "write `fromSource: []` if that is meant");
        }
        let sources = draft.sources(item);
        let pts = pts(item, draft);
        let node = item.fields.require("protocol", "write `- protocol: tcp`", draft.problems);
        let Some(node) = node else { return };
        for socket in protocol::sockets(node, &item.fields.place_of("protocol"), draft.problems) {
            draft.push(item, Matcher::Socket(SocketMatch { pts, ..socket }), sources.clone());
        }
    });
}
