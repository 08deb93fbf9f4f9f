//! Where the project's own programs are.

use std::{
    env, fmt,
    path::{Path, PathBuf},
};

/// Finds a program of this project: of `starlingd`, what `STARLINGD` names, else what the same build has made.
///
/// # Errors
/// If it was not built.
pub fn program(name: &str) -> Result<PathBuf, NotBuilt> {
    if let Some(named) = env::var_os("STARLINGD").filter(|_| name == "starlingd") {
        return Ok(named.into());
    }
    let own = env::current_exe().unwrap_or_default();
    beside(&own, name).ok_or_else(|| NotBuilt { name: name.to_owned(), near: own })
}

/// A test's executable is in `deps`, an ordinary one beside the program.
fn beside(own: &Path, name: &str) -> Option<PathBuf> {
    own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.exists())
}

/// There is no such program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotBuilt {
    name: String,
    near: PathBuf,
}

impl fmt::Display for NotBuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no {} near {}: build it first, or name a starlingd by STARLINGD", self.name, self.near.display())
    }
}

impl std::error::Error for NotBuilt {}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_program_is_beside_an_ordinary_one_and_above_a_test() {
        let folder = tempfile::tempdir().unwrap();
        let built = folder.path().join("debug");
        fs::create_dir_all(built.join("deps/inner")).unwrap();
        assert_eq!(beside(&built.join("starling-load"), "starlingd"), None);
        let program = built.join("starlingd");
        fs::write(&program, "").unwrap();
        assert_eq!(beside(&built.join("starling-load"), "starlingd").as_ref(), Some(&program));
        assert_eq!(beside(&built.join("deps/protocol-1"), "starlingd").as_ref(), Some(&program));
        assert_eq!(beside(&built.join("deps/inner/other"), "starlingd"), None);
    }
}
