//! Redis: one server, servers that sentinels watch, or a cluster of them.
