//! What goes wrong when something has to be asked for.

/// Something that a stanza needs to be known of is not to be had now. A retry is sensible.
#[derive(Debug, thiserror::Error)]
pub enum BackendAway {
    /// Who is where.
    #[error(transparent)]
    Registry(#[from] starling_registry::Error),
    /// What lasts.
    #[error(transparent)]
    Store(#[from] starling_store::Error),
}
