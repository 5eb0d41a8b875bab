//! The network family: which sockets may be made (`matchProtocols`), which names may be asked for (`matchDNSQueries`), and, in our own
//! kind, where sockets may connect (`destinations`).

use palisade_domain::PolicyKind;

use crate::{
    common::Common,
    destination, dns,
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
            let instead = "name the executables, or write `fromSource: []` for all of them";
            item.fields.require("fromSource", instead, draft.problems);
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
