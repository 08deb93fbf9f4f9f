//! Connectors: the other end of a stream, for programs that are a client or a component.
