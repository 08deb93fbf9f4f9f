//! Servers that stop, are killed, change their passwords or take no writes; and TLS.
