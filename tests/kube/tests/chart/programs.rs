//! The project's own programs, which Cargo has built beside the tests.

use std::path::PathBuf;

/// `starlingd` or `starling-operator`. `STARLINGD` names another `starlingd`.
pub(crate) fn built(name: &str) -> PathBuf {
    let named = (name == "starlingd").then(|| std::env::var_os("STARLINGD")).flatten();
    named.map_or_else(|| folder().join(name), PathBuf::from)
}

/// The folder that has both.
pub(crate) fn folder() -> PathBuf {
    // A test's executable is in `deps` of it.
    let folder = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    for name in ["starlingd", "starling-operator"] {
        assert!(folder.join(name).exists(), "no {name} in {}: run `cargo build --workspace` first", folder.display());
    }
    folder
}
