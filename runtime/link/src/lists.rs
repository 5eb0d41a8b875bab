//! Revocation lists: which of those that are there counts.
//!
//! Of several lists of one authority (and one part of its certificates, where it publishes by parts) the newest counts: by the number of the
//! list, and by when it was made where one has no number. TLS takes the first that it finds, which is whichever somebody wrote first.
//! Decision: the newest and not the union, because an authority's list is all that it takes back now (RFC 5280, section 5): what it let
//! go of, such as a hold that ended, a union would hold for ever, and no new list could mend it.
//! Lists of one authority for all and for a part (RFC 5280, section 5.2.5) both stay, the newest first, for TLS takes one of all for any
//! certificate: an authority that begins to publish by parts, or ends it, has an old one of the other kind.
//!
//! Invariant: a list is its authority's, as far as that authority is known here, or nothing is taken: a forged one with a high number would
//! else push the true one out. None is ever followed by an older one, or by none, while the node runs; one of a part may be by a newer one
//! of all. One of all is not by one of a part alone, of whose other parts nobody would say anything: the old one stays beside it.

use std::cmp::{Ordering, Reverse};

use palisade_domain::UnixNanos;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::{
    certificate::X509Certificate, error::X509Error, oid_registry::OID_X509_EXT_ISSUER_DISTRIBUTION_POINT,
    prelude::FromDer as _, revocation_list::CertificateRevocationList,
};

use crate::authority::unix;

/// A list that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Of whom.
    pub(crate) issuer: String,
    /// When there is to be a newer one, where it says so.
    pub(crate) due: Option<UnixNanos>,
    made: UnixNanos,
    /// Big-endian, without zeros before it.
    number: Option<Vec<u8>>,
    /// Another authority of its issuer's name has another key.
    pub(crate) is_ambiguous: bool,
    /// Its issuer, and of which part of the certificates it is.
    scope: [Vec<u8>; 2],
}

impl Listed {
    fn of(list: &CertificateRevocationList<'_>, is_ambiguous: bool) -> Self {
        let part = list.extensions().iter().find(|one| one.oid == OID_X509_EXT_ISSUER_DISTRIBUTION_POINT);
        Self {
            issuer: list.issuer().to_string(),
            due: list.next_update().map(|due| unix(due.timestamp())),
            made: unix(list.last_update().timestamp()),
            number: list.crl_number().map(|number| number.to_bytes_be()),
            is_ambiguous,
            scope: [list.issuer().as_raw().to_vec(), part.map_or_else(Vec::new, |part| part.value.to_vec())],
        }
    }

    fn age(&self, other: &Self) -> Ordering {
        match (&self.number, &other.number) {
            (Some(one), Some(another)) => {
                (one.len(), one).cmp(&(another.len(), another)).then(self.made.cmp(&other.made))
            }
            _ => self.made.cmp(&other.made),
        }
    }

    const fn is_of_all(&self) -> bool {
        self.scope[1].is_empty()
    }

    /// Whether it says, of later, whatever another one said: numbers are of one scope.
    fn covers(&self, other: &Self) -> bool {
        self.scope[0] == other.scope[0] && self.is_of_all() && self.made >= other.made
    }
}

/// The lists that count, and what is to be known of each; or what is wrong with one.
pub(crate) type Newest = (Vec<CertificateRevocationListDer<'static>>, Vec<Listed>);

pub(crate) fn newest(
    lists: &[CertificateRevocationListDer<'static>],
    authorities: &[CertificateDer<'static>],
) -> Result<Newest, String> {
    let mut all: Vec<(&CertificateRevocationListDer<'static>, Listed)> = Vec::new();
    for der in lists {
        let (_, list) = CertificateRevocationList::from_der(der).map_err(|_| "it cannot be read".to_owned())?;
        check_signature(&list, authorities)?;
        let listed = Listed::of(&list, has_many_keys(list.issuer().as_raw(), authorities));
        match all.iter_mut().find(|(_, known)| known.scope == listed.scope) {
            None => all.push((der, listed)),
            Some(known) if listed.age(&known.1).is_gt() => *known = (der, listed),
            Some(_) => {}
        }
    }
    // Of those that are as new, the ones of a part: one of all hides them.
    all.sort_by_key(|(_, listed)| (Reverse(listed.made), listed.is_of_all()));
    Ok(all.into_iter().map(|(der, listed)| (der.clone(), listed)).unzip())
}

/// The authorities of a name.
fn called<'a>(name: &'a [u8], authorities: &'a [CertificateDer<'static>]) -> impl Iterator<Item = X509Certificate<'a>> {
    let read = authorities.iter().filter_map(|authority| X509Certificate::from_der(authority).ok());
    read.map(|(_, authority)| authority).filter(move |authority| authority.subject().as_raw() == name)
}

/// Whether certificates of two keys are believed by one name: lists, and TLS that looks for one, tell authorities by their names.
fn has_many_keys(name: &[u8], authorities: &[CertificateDer<'static>]) -> bool {
    let mut keys = called(name, authorities).map(|one| one.public_key().raw.to_vec());
    keys.next().is_some_and(|first| keys.any(|key| key != first))
}

/// Of an authority between, which is known by the chains of peers alone, TLS looks at the signature when it sees one.
fn check_signature(
    list: &CertificateRevocationList<'_>,
    authorities: &[CertificateDer<'static>],
) -> Result<(), String> {
    let mut is_forged = false;
    for authority in called(list.issuer().as_raw(), authorities) {
        match list.verify_signature(authority.public_key()) {
            Err(X509Error::SignatureVerificationError) => is_forged = true,
            // Or one of which TLS knows more.
            _ => return Ok(()),
        }
    }
    if !is_forged {
        return Ok(());
    }
    Err(format!(
        "that of {} is not signed by it as it is believed here: it is forged, or of another key by the same name (an authority that is made \
         anew needs a new name)",
        list.issuer()
    ))
}

/// What must not follow those in force, in words: a list that is older, or none of an authority that is believed still.
pub(crate) fn going_back(
    in_force: &[Listed],
    now: &[Listed],
    authorities: &[CertificateDer<'static>],
) -> Option<String> {
    in_force.iter().find_map(|before| {
        let Listed { issuer, made, .. } = before;
        let made = made.rfc3339();
        match now.iter().find(|one| one.scope == before.scope) {
            Some(one) => one.age(before).is_lt().then(|| {
                format!(
                    "that of {issuer} was made {}, and the one in force {made}: an older one is not taken",
                    one.made.rfc3339()
                )
            }),
            None if now.iter().any(|one| one.covers(before)) => None,
            None => called(&before.scope[0], authorities).next().map(|_| {
                let parts = if now.iter().any(|one| one.scope[0] == before.scope[0] && !one.is_of_all()) {
                    ": what it said of other parts of the certificates than the new one would be forgotten; leave both in the file"
                } else {
                    ""
                };
                format!("that of {issuer}, made {made}, is no longer there, and {issuer} is believed still{parts}")
            }),
        }
    })
}
