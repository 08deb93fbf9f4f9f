//! What compares and then changes, in one step: scripts in Lua, each in its own file, with its keys, arguments and answers at
//! the top. All keys of a script are of one hash slot.

use std::sync::LazyLock;

/// A script, and the name by which Redis knows it once it has it.
#[derive(Debug)]
pub(super) struct Script {
    source: String,
    hash: String,
}

impl Script {
    fn new(source: &str) -> Self {
        let source = format!("{}\n{source}", include_str!("lua/prelude.lua"));
        let hash = redis::Script::new(&source).get_hash().to_owned();
        Self { source, hash }
    }

    pub(super) fn source(&self) -> &str {
        &self.source
    }

    pub(super) fn hash(&self) -> &str {
        &self.hash
    }
}

macro_rules! scripts {
    ($($name:ident = $file:literal,)*) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!($file)));)*

        /// All of them, for a new connection to load.
        pub(super) fn all() -> impl Iterator<Item = &'static Script> {
            [$(&$name,)*].into_iter().map(|script| &**script)
        }
    };
}

scripts! {
    ALIVE = "lua/alive.lua",
    ANNOUNCE = "lua/announce.lua",
    BIND = "lua/bind.lua",
    CLAIM = "lua/claim.lua",
    CLOSE = "lua/close.lua",
    FORGET = "lua/forget.lua",
    LEAVE = "lua/leave.lua",
    OPEN = "lua/open.lua",
    RELEASE = "lua/release.lua",
    RENEW = "lua/renew.lua",
    SAVE = "lua/save.lua",
    SETTLE = "lua/settle.lua",
    TAKE = "lua/take.lua",
    TIDY = "lua/tidy.lua",
    UPDATE = "lua/update.lua",
}
