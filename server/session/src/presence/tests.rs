//! Presence and subscriptions with contacts of other domains.
