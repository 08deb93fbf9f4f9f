#![no_main]
#![allow(missing_docs, reason = "libFuzzer's entry point")]

libfuzzer_sys::fuzz_target!(|data: &[u8]| starling_fuzz::link::run(data));
