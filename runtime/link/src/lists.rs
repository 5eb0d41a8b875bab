//! Revocation lists: which of those that are there counts, and for whose certificates.
//!
//! Of several lists of one authority (and one part of its certificates, where it publishes by parts) the newest counts: by the number of the
//! list, and by when it was made where one has no number. TLS takes the first that it finds, which is whichever somebody wrote first.
//! Decision: the newest and not the union, because an authority's list is all that it takes back now (RFC 5280, section 5): what it let
//! go of, such as a hold that ended, a union would hold for ever, and no new list could mend it.
//! Lists of one authority for all and for a part (RFC 5280, section 5.2.5) both stay, the newest first, for TLS takes one of all for any
//! certificate: an authority that begins to publish by parts, or ends it, has an old one of the other kind.
//!
//! An authority is a name and a key: one that was made anew under its old name is another, with lists of its own, and both are believed while
//! both certificates are there. Whose a list is, its signature says; of an authority between, which is known by the chains of peers alone, the
//! identifier of the key in it. TLS goes by the name alone, so it is asked once for each key that a name has: see [`by_keys`].
//!
//! Invariant: a list is its authority's, as far as that authority is known here, or nothing is taken: a forged one with a high number would
//! else push the true one out. None is ever followed by an older one, or by none, while the node runs; one of a part may be by a newer one
//! of all. One of all is not by one of a part alone, of whose other parts nobody would say anything: the old one stays beside it. One that
//! names a key which no authority of its name has here is nobody's, counts for nothing, and is said.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BTreeSet},
};

use palisade_domain::UnixNanos;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::{
    certificate::X509Certificate,
    error::X509Error,
    extensions::ParsedExtension,
    oid_registry::OID_X509_EXT_ISSUER_DISTRIBUTION_POINT,
    prelude::{FromDer as _, X509Extension},
    revocation_list::CertificateRevocationList,
};

use crate::authority::unix;

/// Keys that authorities of one name have, multiplied over all such names, at most: for each such choice a certificate may be looked at once.
const MOST_CHOICES: usize = 16;

/// Whose a list is, and of which part of the certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Scope {
    name: Vec<u8>,
    key: Key,
    part: Vec<u8>,
}

/// The key of an authority, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    /// That of an authority that is believed here.
    own: Option<Vec<u8>>,
    /// What lists call it, where they do.
    id: Option<Vec<u8>>,
}

impl Key {
    fn is(&self, other: &Self) -> bool {
        let both = self.own.as_ref().zip(other.own.as_ref()).or_else(|| self.id.as_ref().zip(other.id.as_ref()));
        // Where nothing tells them apart they are by their name one.
        both.is_none_or(|(one, another)| one == another)
    }
}

impl Scope {
    fn is_of_all(&self) -> bool {
        self.part.is_empty()
    }

    fn is_of_authority_of(&self, other: &Self) -> bool {
        self.name == other.name && self.key.is(&other.key)
    }

    fn is(&self, other: &Self) -> bool {
        self.part == other.part && self.is_of_authority_of(other)
    }
}

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
    scope: Scope,
}

impl Listed {
    fn of(list: &CertificateRevocationList<'_>, key: Key) -> Self {
        let part = list.extensions().iter().find(|one| one.oid == OID_X509_EXT_ISSUER_DISTRIBUTION_POINT);
        Self {
            issuer: list.issuer().to_string(),
            due: list.next_update().map(|due| unix(due.timestamp())),
            made: unix(list.last_update().timestamp()),
            number: list.crl_number().map(|number| number.to_bytes_be()),
            scope: Scope {
                name: list.issuer().as_raw().to_vec(),
                key,
                part: part.map_or_else(Vec::new, |part| part.value.to_vec()),
            },
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

    /// Whether it says, of later, whatever another one said: numbers are of one scope.
    fn covers(&self, other: &Self) -> bool {
        self.scope.is_of_authority_of(&other.scope) && self.scope.is_of_all() && self.made >= other.made
    }
}

/// The lists that are there.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    /// Those that count, each with what is to be known of it.
    pub(crate) newest: Vec<(CertificateRevocationListDer<'static>, Listed)>,
    /// Of whom others say to be, by a key that none of them has here.
    pub(crate) nobodys: BTreeSet<String>,
}

/// The lists that count, or what is wrong with one.
pub(crate) fn newest(
    lists: &[CertificateRevocationListDer<'static>],
    authorities: &[CertificateDer<'static>],
) -> Result<Lists, String> {
    let mut all = Lists::default();
    for der in lists {
        let (_, list) = CertificateRevocationList::from_der(der).map_err(|_| "it cannot be read".to_owned())?;
        let Some(key) = signer(&list, authorities)? else {
            all.nobodys.insert(list.issuer().to_string());
            continue;
        };
        let listed = Listed::of(&list, key);
        match all.newest.iter_mut().find(|(_, known)| known.scope.is(&listed.scope)) {
            None => all.newest.push((der.clone(), listed)),
            Some(known) if listed.age(&known.1).is_gt() => *known = (der.clone(), listed),
            Some(_) => {}
        }
    }
    // Of those that are as new, the ones of a part: one of all hides them.
    all.newest.sort_by_key(|(_, listed)| (Reverse(listed.made), listed.scope.is_of_all()));
    Ok(all)
}

/// The authorities of a name.
fn called<'a>(name: &'a [u8], authorities: &'a [CertificateDer<'static>]) -> impl Iterator<Item = X509Certificate<'a>> {
    let read = authorities.iter().filter_map(|authority| X509Certificate::from_der(authority).ok());
    read.map(|(_, authority)| authority).filter(move |authority| authority.subject().as_raw() == name)
}

/// What a list or a certificate calls the key that signed it.
pub(crate) fn signed_by(extensions: &[X509Extension<'_>]) -> Option<Vec<u8>> {
    extensions.iter().find_map(|one| match one.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(by) => by.key_identifier.as_ref().map(|id| id.0.to_vec()),
        _ => None,
    })
}

/// What lists and certificates call the key of an authority.
fn called_by(authority: &X509Certificate<'_>) -> Option<Vec<u8>> {
    authority.extensions().iter().find_map(|one| match one.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })
}

fn key_of(authority: &X509Certificate<'_>) -> Key {
    Key { own: Some(authority.public_key().raw.to_vec()), id: called_by(authority) }
}

/// Whether a key of this name is none of those that authorities of the name have here.
pub(crate) fn is_another_key(name: &[u8], id: Option<&Vec<u8>>, authorities: &[CertificateDer<'static>]) -> bool {
    let mut known = called(name, authorities).map(|one| called_by(&one)).peekable();
    known.peek().is_some() && id.is_some_and(|id| known.all(|known| known.is_some_and(|known| known != *id)))
}

/// Whose key signed a list; nobody's, where it is of a key that is not here. Of an authority between, which is known by the chains of peers
/// alone, TLS looks at the signature when it sees one.
fn signer(
    list: &CertificateRevocationList<'_>,
    authorities: &[CertificateDer<'static>],
) -> Result<Option<Key>, String> {
    let (name, id) = (list.issuer().as_raw(), signed_by(list.extensions()));
    let mut is_known = false;
    // Of a kind that TLS may know more of: it looks at the signature.
    let mut possible: Vec<Key> = Vec::new();
    for authority in called(name, authorities) {
        is_known = true;
        match list.verify_signature(authority.public_key()) {
            Ok(()) => return Ok(Some(key_of(&authority))),
            Err(X509Error::SignatureVerificationError) => {}
            Err(_) => possible.push(key_of(&authority)),
        }
    }
    if !is_known {
        return Ok(Some(Key { own: None, id }));
    }
    if let Some(named) = possible.iter().position(|key| id.is_some() && key.id == id) {
        return Ok(Some(possible.swap_remove(named)));
    }
    match possible.pop() {
        Some(only) if possible.is_empty() => Ok(Some(only)),
        Some(_) => Err(format!("which of the authorities called {} signed it cannot be told", list.issuer())),
        None if is_another_key(name, id.as_ref(), authorities) => Ok(None),
        None => Err(format!("that of {} is not signed by it as it is believed here: it is forged", list.issuer())),
    }
}

/// Authorities and lists among which each name has one key.
pub(crate) type OfOneKey = (Vec<CertificateDer<'static>>, Vec<CertificateRevocationListDer<'static>>);

/// All of them, as often as there are keys to choose of: TLS finds lists by names, and refuses whom it finds another key's list for.
///
/// A certificate is good that is by one choice, and by none revoked: a list's signature is looked at, so that no other key's takes it back.
pub(crate) fn by_keys(
    authorities: &[CertificateDer<'static>],
    lists: &[(CertificateRevocationListDer<'static>, Listed)],
) -> Result<Vec<OfOneKey>, String> {
    let own: Vec<Option<(Vec<u8>, Key)>> = authorities
        .iter()
        .map(|der| X509Certificate::from_der(der).ok())
        .map(|read| read.map(|(_, one)| (one.subject().as_raw().to_vec(), key_of(&one))))
        .collect();
    let mut keys: BTreeMap<&[u8], Vec<&Key>> = BTreeMap::new();
    let all = own.iter().flatten().map(|(name, key)| (name, key));
    for (name, key) in all.chain(lists.iter().map(|(_, list)| (&list.scope.name, &list.scope.key))) {
        let known = keys.entry(name).or_default();
        if !known.iter().any(|known| known.is(key)) {
            known.push(key);
        }
    }
    keys.retain(|name, keys| keys.len() > 1 && lists.iter().any(|(_, list)| list.scope.name == *name));
    let count = keys.values().try_fold(1, |count: usize, keys| count.checked_mul(keys.len()));
    let count = count.filter(|count| *count <= MOST_CHOICES).ok_or_else(|| {
        format!("authorities of one name have more keys than {MOST_CHOICES}: leave those in the file that still sign")
    })?;
    let choice = |number: usize| {
        let mut rest = number;
        let chosen: BTreeMap<&[u8], &Key> = keys
            .iter()
            .map(|(name, keys)| {
                let at = rest % keys.len();
                rest /= keys.len();
                (*name, keys[at])
            })
            .collect();
        let is_chosen = |name: &[u8], key: &Key| chosen.get(name).is_none_or(|chosen| chosen.is(key));
        let is_there = |one: &Option<(Vec<u8>, Key)>| one.as_ref().is_none_or(|(name, key)| is_chosen(name, key));
        let there = authorities.iter().zip(&own).filter(|(_, one)| is_there(one)).map(|(der, _)| der.clone());
        let listed = lists.iter().filter(|(_, list)| is_chosen(&list.scope.name, &list.scope.key));
        (there.collect(), listed.map(|(der, _)| der.clone()).collect())
    };
    Ok((0..count).map(choice).collect())
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
        match now.iter().find(|one| one.scope.is(&before.scope)) {
            Some(one) => one.age(before).is_lt().then(|| {
                format!(
                    "that of {issuer} was made {}, and the one in force {made}: an older one is not taken",
                    one.made.rfc3339()
                )
            }),
            None if now.iter().any(|one| one.covers(before)) => None,
            None => {
                let mut believed = called(&before.scope.name, authorities).map(|one| key_of(&one));
                believed.find(|key| key.is(&before.scope.key))?;
                let of_parts =
                    |one: &Listed| one.scope.is_of_authority_of(&before.scope) && !one.scope.is_of_all();
                let parts = if now.iter().any(of_parts) {
                    ": what it said of other parts of the certificates than the new one would be forgotten; leave both in the file"
                } else {
                    ""
                };
                Some(format!("that of {issuer}, made {made}, is no longer there, and {issuer} is believed still{parts}"))
            }
        }
    })
}
