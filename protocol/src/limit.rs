//! Every maximum, in one place, related to each other by checks the compiler runs.
//!
//! A peer that exceeds one of these is refused with the number; nothing here is a tuning knob.

/// Longest site, device, camera, model or version name, in bytes (a DNS label is 63).
pub const NAME_BYTES: usize = 63;
/// Bins of every histogram; a power of two, so that 256, 128 and 64 nest.
pub const BINS: usize = 256;
/// Most features in one summary.
pub const FEATURES: usize = 32;
/// Longest encoding of one histogram: how many bins (2 bytes), then a gap (1) and a count (5) for each.
pub const HISTOGRAM_BYTES: usize = BINS * (1 + 5) + 2;
/// Longest frame on disk and on the wire, header included.
pub const FRAME_BYTES: usize = 64 * 1024;
/// Bytes before the payload of a frame: length, version, kind, checksum.
pub const FRAME_HEADER_BYTES: usize = 4 + 1 + 1 + 4;
/// Room for all of a record that is not histograms.
pub const RECORD_OVERHEAD_BYTES: usize = 1024 + FEATURES * 16;
/// Records sent and not yet acknowledged, at most.
pub const IN_FLIGHT: usize = 64;
/// Longest certificate, or request for one, in a message.
pub const CERTIFICATE_BYTES: usize = 4096;
/// Authorities a device trusts at once: the one that issues, and the one before it.
pub const AUTHORITIES: usize = 2;
/// Longest free text in a message (agent version, reason).
pub const TEXT_BYTES: usize = 128;

const _: () = assert!(BINS.is_power_of_two() && BINS <= 256, "a bin number is one byte and resolutions nest");
const _: () = assert!(
    FRAME_HEADER_BYTES + RECORD_OVERHEAD_BYTES + FEATURES * HISTOGRAM_BYTES <= FRAME_BYTES,
    "the fullest summary fits one frame"
);
const _: () = assert!((1 + AUTHORITIES) * CERTIFICATE_BYTES + 64 <= FRAME_BYTES, "an issued identity fits one frame");
