//! The extension containers, one file each, and the one list of them.

mod blocking;
mod caps;
mod carbons;
mod disco;
mod kept;
mod last_activity;
mod legacy_session;
mod ping;
mod privacy_lists;
mod private_storage;
mod pushes;
mod registration;
mod roster;
mod time;
mod vcard_temp;
mod version;

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use crate::extension::{Extension, Extensions};

/// What an operator decides about extensions, also while they are used: all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// 0: off.
    registration: Arc<AtomicU32>,
}

impl Options {
    /// See [`Options::set_registration`].
    #[must_use]
    pub fn new(registration: Option<u32>) -> Self {
        let options = Self::default();
        options.set_registration(registration);
        options
    }

    /// Rounds of PBKDF2 for passwords that clients set in-band (XEP-0077). `None`: they may not. Stream features say it
    /// from when they are made again: [`stream_features`].
    pub fn set_registration(&self, iterations: Option<u32>) {
        self.registration.store(iterations.unwrap_or(0), Ordering::Relaxed);
    }

    /// As it was set last.
    #[must_use]
    pub(crate) fn registration(&self) -> Option<u32> {
        Some(self.registration.load(Ordering::Relaxed)).filter(|iterations| *iterations > 0)
    }
}

/// Every container of this server. To add one: a file beside these, and a line here.
#[must_use]
pub fn all(options: Options) -> Vec<Box<dyn Extension>> {
    vec![
        Box::new(disco::Disco),
        Box::new(roster::Roster),
        Box::new(caps::Caps::default()),
        Box::new(ping::Ping),
        Box::new(version::Version),
        Box::new(time::Time),
        Box::new(last_activity::LastActivity::new()),
        Box::new(private_storage::PrivateStorage),
        Box::new(vcard_temp::VcardTemp),
        Box::new(blocking::Blocking),
        Box::new(privacy_lists::PrivacyLists),
        Box::new(carbons::Carbons),
        Box::new(legacy_session::LegacySession),
        Box::new(registration::Registration::new(options)),
    ]
}

/// What containers add to the stream features after log-in: whole elements.
#[must_use]
pub fn stream_features(extensions: &Extensions) -> String {
    let roster = "<ver xmlns='urn:xmpp:features:rosterver'/><sub xmlns='urn:xmpp:features:pre-approval'/>";
    caps::stream_feature(extensions) + roster
}
