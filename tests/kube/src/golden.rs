//! Texts that were looked at and found good.

use std::{env, fs, path::Path};

/// Compares a text with the file that has the good one. With `STARLING_GOLDEN=write`, it is written there instead.
///
/// # Panics
/// If they differ: with the first line that does.
pub fn assert_golden(path: &Path, text: &str) {
    if env::var_os("STARLING_GOLDEN").is_some_and(|value| value == "write") {
        fs::write(path, text).unwrap();
    }
    let golden = fs::read_to_string(path).unwrap_or_default();
    if golden != text {
        let line = golden.lines().zip(text.lines()).take_while(|(golden, text)| golden == text).count();
        let (before, now) = (golden.lines().nth(line), text.lines().nth(line));
        panic!(
            "{}, line {}: {before:?} is {now:?} now; STARLING_GOLDEN=write takes it as it is",
            path.display(),
            line + 1
        );
    }
}
