//! Our verdict on a stream against that of `rxml`: the judge of the property test, on whatever the fuzzer finds.

#[path = "../../../server/xml/tests/judge/judge.rs"]
mod judge;

/// The judge has a limit on the length of a token, which these inputs stay below.
const LONGEST: usize = 4096;

/// The target.
pub fn run(data: &[u8]) {
    if data.len() <= LONGEST {
        judge::compare(data);
    }
}
