#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| driftglass_tests::door::inference(bytes));
