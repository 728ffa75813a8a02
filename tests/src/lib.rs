//! What the tests of the whole product and the fuzzer share: the doors through which bytes from outside come in, each as one function
//! that fails where what is behind it breaks a promise.
//!
//! `tests/doors` drives them with bounded time on every run of the tests, `fuzz/` with a fuzzer for as long as anybody likes; both begin
//! with the same corpora, `fuzz/corpus/DOOR/`.
//!
//! The tests themselves are in `tests/`.

pub mod door;
pub mod memory_disk;
