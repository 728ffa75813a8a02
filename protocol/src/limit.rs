//! Every maximum, in one place, related to each other by checks the compiler runs.
//!
//! A peer that exceeds one of these is refused with the number; nothing here is a tuning knob.

/// Longest site, device, camera, model or version name, in bytes (a DNS label is 63).
pub const NAME_BYTES: usize = 63;
/// Bins of every histogram; a power of two, so that 256, 128 and 64 nest.
pub const BINS: usize = 256;
/// Most features in one summary.
pub const FEATURES: usize = 34;
/// Longest encoding of one histogram: how many bins (2 bytes), then a gap (1) and a count (5) for each.
pub const HISTOGRAM_BYTES: usize = BINS * (1 + 5) + 2;
/// Longest label of a model, in bytes.
pub const LABEL_BYTES: usize = 63;
/// Labels counted one by one; with more, so many of the most frequent are still named.
pub const LABELS: usize = 64;
/// Rows of the count-min sketch that counts more labels than that: an estimate is too high by more than 1.1 % of all labels counted
/// (e/256) with a probability of at most e⁻⁴ = 1.8 %.
pub const COUNT_MIN_ROWS: usize = 4;
/// Longest encoding of the labels of a window: how they are counted (1 byte), those without a name (5), how many names (1), then each
/// with its length (1), bytes and count (5), and the rows, each with its length (2).
pub const LABELS_BYTES: usize = 1 + 5 + 1 + LABELS * (1 + LABEL_BYTES + 5) + COUNT_MIN_ROWS * (2 + HISTOGRAM_BYTES);
/// Most advisories of one window; further ones are only counted.
pub const ADVISORIES: usize = 16;
/// Longest encoding of one advisory: detector, stream and state (3 bytes) and a time (10).
pub const ADVISORY_BYTES: usize = 3 + 10;
/// Longest encoding of all that a summary says of predictions: whether it does (1 byte), four counts (5 each), the length of the
/// labels (3) and the number of advisories (1).
pub const PREDICTIONS_BYTES: usize = 1 + 4 * 5 + 3 + LABELS_BYTES + 1 + ADVISORIES * ADVISORY_BYTES;
/// Longest frame on disk and on the wire, header included.
pub const FRAME_BYTES: usize = 64 * 1024;
/// Bytes before the payload of a frame: length, version, kind, checksum.
pub const FRAME_HEADER_BYTES: usize = 4 + 1 + 1 + 4;
/// Room for all of a record that is not histograms.
pub const RECORD_OVERHEAD_BYTES: usize = 1024 + FEATURES * 16;
/// Records sent and not yet acknowledged, at most.
pub const IN_FLIGHT: usize = 64;
/// Longest packet over QUIC, where the path takes it: ten of them, as many as are handed to the kernel at once, fit a datagram of IPv4.
pub const PACKET_BYTES_MAX: u16 = 6_500;
/// Longest certificate, or request for one, in a message.
pub const CERTIFICATE_BYTES: usize = 4096;
/// Authorities a device trusts at once: the one that issues, and the one before it.
pub const AUTHORITIES: usize = 2;
/// Longest configuration that the centre gives to a device, in bytes.
pub const CONFIGURATION_BYTES: usize = 16 * 1024;
/// Longest free text in a message (agent version, reason).
pub const TEXT_BYTES: usize = 128;

const _: () = assert!(BINS.is_power_of_two() && BINS <= 256, "a bin number is one byte and resolutions nest");
const _: () = assert!(
    FRAME_HEADER_BYTES + RECORD_OVERHEAD_BYTES + FEATURES * HISTOGRAM_BYTES + PREDICTIONS_BYTES <= FRAME_BYTES,
    "the fullest summary fits one frame"
);
const _: () = assert!(BINS == 256, "a column of the count-min sketch is one byte and a row is a histogram");
const _: () =
    assert!(LABEL_BYTES < 128 && LABELS < 128 && ADVISORIES < 128, "their lengths and numbers are one byte each");
const _: () = assert!(CONFIGURATION_BYTES + 128 <= FRAME_BYTES, "a configuration fits one frame");
const _: () = assert!((1 + AUTHORITIES) * CERTIFICATE_BYTES + 64 <= FRAME_BYTES, "an issued identity fits one frame");
