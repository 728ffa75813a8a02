//! The mistakes that naive implementations make, each as a mutant beside the rule in use.
//!
//! Every test runs the broken variant and ours on the same input and shows that the check catches the one and passes the other. A
//! check that no mutant fails would prove nothing. The numbers are those of the list in the statistics design.
//!
//! Elsewhere: 26 concerns seasons and lives with them (`baseline::slot`); 27 concerns the streaming detectors (the agent's vector
//! tests).
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test program: a surprise must end it")]

mod counting;
mod distances;
mod multiplicity;
mod random;
mod sampling;
