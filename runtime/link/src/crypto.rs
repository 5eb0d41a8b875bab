//! Cryptography for TLS: ring's; under the feature `seeded` with the randomness port in place of the machine's.
//!
//! Only what draws random numbers is replaced: nonces, session ids, keys of the exchange. Signatures are those of Ed25519, which need none.

use std::sync::Arc;

pub use rustls::crypto::CryptoProvider;

/// How it is in production.
#[must_use]
pub fn machine() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(feature = "seeded")]
pub use seeded::seeded;

#[cfg(feature = "seeded")]
mod seeded {
    use std::{fmt, sync::Arc};

    use palisade_world::Rng;
    use rustls::{
        NamedGroup, PeerMisbehaved,
        crypto::{ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup},
    };
    use x25519_dalek::{PublicKey, StaticSecret};

    struct Seeded(Arc<dyn Rng>);

    impl fmt::Debug for Seeded {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Seeded")
        }
    }

    /// The same packets from the same numbers. Never in production: see the feature.
    ///
    /// rustls wants these for ever, so each call leaks two pointers: one for each start of a simulated node.
    #[must_use]
    pub fn seeded(rng: Arc<dyn Rng>) -> Arc<CryptoProvider> {
        let mut provider = rustls::crypto::ring::default_provider();
        let seeded: &'static Seeded = Box::leak(Box::new(Seeded(rng)));
        provider.secure_random = seeded;
        provider.kx_groups = vec![seeded];
        Arc::new(provider)
    }

    impl SecureRandom for Seeded {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
            self.0.fill(bytes);
            Ok(())
        }
    }

    impl SupportedKxGroup for Seeded {
        fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, rustls::Error> {
            let mut bytes = [0; 32];
            self.0.fill(&mut bytes);
            let secret = StaticSecret::from(bytes);
            let public = PublicKey::from(&secret).to_bytes();
            Ok(Box::new(Exchange { secret, public }))
        }

        fn name(&self) -> NamedGroup {
            NamedGroup::X25519
        }
    }

    struct Exchange {
        secret: StaticSecret,
        public: [u8; 32],
    }

    impl ActiveKeyExchange for Exchange {
        fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, rustls::Error> {
            let peer: [u8; 32] = peer.try_into().map_err(|_| PeerMisbehaved::InvalidKeyShare)?;
            let shared = self.secret.diffie_hellman(&PublicKey::from(peer));
            Ok(SharedSecret::from(&shared.to_bytes()[..]))
        }

        fn pub_key(&self) -> &[u8] {
            &self.public
        }

        fn group(&self) -> NamedGroup {
            NamedGroup::X25519
        }
    }
}
