//! What is wrong with a node's own certificate, key, authorities and lists, before or while it links: for `palisade doctor` and the
//! condition `links`.
//!
//! Decision: a revocation list past its date still counts, and is said; it neither parts a cluster nor lets anybody back in. RFC 5280
//! (section 6.3.3) has a status "undetermined" then and leaves the rest to who asks; here the list's maker being late is no reason to cut
//! all links at one moment, and what it took back stays taken back.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use palisade_domain::{Refusal, UnixNanos};
use rustls::{crypto::CryptoProvider, pki_types::UnixTime, sign::CertifiedKey};

use crate::{
    authority,
    credentials::Credentials,
    lists::Listed,
    verify::{PeerVerifier, Side},
    words,
};

/// A certificate that ends within this is said to.
pub(crate) const SOON: Duration = Duration::from_secs(7 * 24 * 3600);

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// No node links to this one because of it.
    pub grave: bool,
    /// In words.
    pub said: String,
    /// What to do.
    pub advice: String,
}

impl Fault {
    fn grave(said: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { grave: true, said: said.into(), advice: advice.into() }
    }

    fn light(said: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { grave: false, said: said.into(), advice: advice.into() }
    }
}

const ISSUE: &str = "`palisade certificate issue NAME --replace`, or the like at your authority; a node that runs takes it within a second";

/// All that is wrong with them now; empty where nothing is.
#[must_use]
pub fn faults(credentials: &Credentials, provider: &Arc<CryptoProvider>, now: UnixNanos) -> Vec<Fault> {
    let mut faults: Vec<Fault> = key_fault(credentials, provider).into_iter().collect();
    let verifier = match PeerVerifier::new(credentials, provider) {
        Ok(verifier) => verifier,
        Err(error) => {
            faults
                .push(Fault::grave(error.to_string(), "see that the files are of PEM, and are what they are given as"));
            return faults;
        }
    };
    let Some(name) = credentials.name() else {
        faults.push(Fault::grave("the certificate names no node", ISSUE));
        return faults;
    };
    let time = UnixTime::since_unix_epoch(Duration::from_nanos(now.0));
    if let Err((why, said)) = verifier.look(&credentials.chain, &name, Side::Dialled, time) {
        let advice = match why {
            Refusal::UnknownAuthority => {
                "issue it by the authority that --link-ca names, or name the authority that issued it; nodes that trust another may take it"
            }
            _ => ISSUE,
        };
        faults.push(Fault::grave(format!("its own certificate would be refused by this node ({why}): {said}"), advice));
    } else if let Some(ends) = ends_soon(credentials, now) {
        faults.push(Fault::light(format!("this node's certificate ends {}", ends.rfc3339()), ISSUE));
    }
    let late = late_lists(&verifier.lists, now);
    faults.extend(late.into_iter().map(|said| {
        Fault::light(
            said,
            "`palisade certificate renew-list`, or a new one of your authority; then give it to every node",
        )
    }));
    let nobodys = nobodys_lists(&verifier.nobodys);
    faults.extend(nobodys.into_iter().map(|said| {
        Fault::light(
            said,
            "give the authority's own list, and its certificate beside the old one while it is made anew",
        )
    }));
    faults
}

fn key_fault(credentials: &Credentials, provider: &Arc<CryptoProvider>) -> Option<Fault> {
    let key = match provider.key_provider.load_private_key(credentials.key.clone_key()) {
        Ok(key) => key,
        Err(error) => return Some(Fault::grave(format!("the key cannot be used: {}", words::of_tls(&error)), ISSUE)),
    };
    let pair = CertifiedKey::new(credentials.chain.clone(), key);
    let error = pair.keys_match().err()?;
    Some(Fault::grave(words::of_tls(&error), "name the key that was made with it by --link-key"))
}

/// When this node's certificate ends, where that is soon or past.
pub(crate) fn ends_soon(credentials: &Credentials, now: UnixNanos) -> Option<UnixNanos> {
    let ends = authority::ends(credentials.chain.first()?)?;
    (ends.0.saturating_sub(now.0) < u64::try_from(SOON.as_nanos()).unwrap_or(u64::MAX)).then_some(ends)
}

/// What is said of lists past their date, and of those that are nobody's.
pub(crate) fn doubtful_lists(verifier: &PeerVerifier, now: UnixNanos) -> Vec<String> {
    [late_lists(&verifier.lists, now), nobodys_lists(&verifier.nobodys)].concat()
}

fn nobodys_lists(issuers: &BTreeSet<String>) -> Vec<String> {
    let said = issuers.iter().map(|issuer| {
        format!(
            "a revocation list says to be of {issuer}, by a key that no authority of this name has in the file of authorities: it counts for nothing"
        )
    });
    said.collect()
}

fn late_lists(lists: &[Listed], now: UnixNanos) -> Vec<String> {
    let late = lists.iter().filter_map(|list| Some((&list.issuer, list.due.filter(|due| now >= *due)?)));
    late.map(|(issuer, due)| {
        let due = due.rfc3339();
        format!(
            "the revocation list of {issuer} was to be made anew by {due}: it still counts, and may lack newer ones"
        )
    })
    .collect()
}

/// What the node's own authorities and lists say against its certificate, but for its end, which is said beforehand.
pub(crate) fn own_fault(credentials: &Credentials, verifier: &PeerVerifier, now: UnixNanos) -> Option<String> {
    let time = UnixTime::since_unix_epoch(Duration::from_nanos(now.0));
    match verifier.look(&credentials.chain, &credentials.name()?, Side::Dialled, time) {
        Err((Refusal::UnknownAuthority, _)) => Some(
            "this node's certificate is of no authority that this node believes: others that believe the same refuse it"
                .into(),
        ),
        Err((why, said)) if now < authority::ends(credentials.chain.first()?)? => {
            Some(format!("this node's certificate would be refused by this node ({why}): {said}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crypto,
        tests::bed::{EPOCH, Office},
    };

    const DAY: u64 = 24 * 3600 * 1_000_000_000;

    fn found(credentials: &Credentials, days: u64) -> Vec<(bool, String)> {
        let faults = faults(credentials, &crypto::machine(), UnixNanos(EPOCH.0 + days * DAY));
        faults.into_iter().map(|fault| (fault.grave, fault.said)).collect()
    }

    #[test]
    fn unit_link_faults_name_what_is_wrong_with_a_nodes_own_certificates() {
        let (office, other) = (Office::new(7), Office::new(8));
        let (one, two) = (office.issue("a", 90), office.issue("a", 90));
        let of = |certificate: &str, key: &str, authority: &str, list: &str| {
            Credentials::of_pem(certificate, key, authority, list).expect("PEM")
        };
        let own = &office.own.certificate;
        let good = of(&one.certificate, &one.key, own, &office.list);
        assert_eq!(found(&good, 1), []);
        let soon = found(&good, 84);
        assert!(matches!(soon.as_slice(), [(false, said)] if said.contains("ends 2026-04-01")), "{soon:?}");
        let late = found(&good, 91);
        assert!(late[0].0 && late[0].1.contains("(expired)"), "{late:?}");
        assert!(!late[1].0 && late[1].1.contains("list of CN=links of the test"), "{late:?}");
        let key = found(&of(&one.certificate, &two.key, own, &office.list), 1);
        assert!(matches!(key.as_slice(), [(true, said)] if said.contains("not that of the certificate")), "{key:?}");
        let stranger = found(&of(&one.certificate, &one.key, &other.own.certificate, &other.list), 1);
        assert!(matches!(stranger.as_slice(), [(true, said)] if said.contains("unknown-authority")), "{stranger:?}");
        let list = authority::revoke(&office.own, &office.list, &one.certificate, EPOCH).expect("on the list");
        let revoked = found(&of(&one.certificate, &one.key, own, &list), 1);
        assert!(matches!(revoked.as_slice(), [(true, said)] if said.contains("(revoked)")), "{revoked:?}");
        // The list's date is made new without anybody's being taken back or let in.
        let now = UnixNanos(EPOCH.0 + 80 * DAY);
        let renewed = authority::renew_list(&office.own, &list, now).expect("signed");
        let still = found(&of(&one.certificate, &one.key, own, &renewed), 95);
        assert!(still.iter().any(|(_, said)| said.contains("revoked") || said.contains("expired")), "{still:?}");
        assert!(!still.iter().any(|(_, said)| said.contains("was to be made anew")), "{still:?}");
        let again = found(&of(&two.certificate, &two.key, own, &renewed), 81);
        assert_eq!(again.iter().filter(|(grave, _)| *grave).count(), 0, "{again:?}");
    }
}
