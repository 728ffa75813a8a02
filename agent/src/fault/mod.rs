//! Faults of a camera, made on real pictures.
//!
//! A monitor that has never seen a fault cannot be trusted to find one, and a lens cannot be smeared in a test. So the demo, the tests
//! and the self-test take pictures of a working camera and change them the way the fault would: in linear light where light
//! mixes (blur, fog, glare), on the sensor's output where electronics err.
//!
//! Must hold: the result follows from kind, severity, seed, frame index and picture alone; severity 0 changes nothing; no
//! pixel is invented at a border (a camera that moves shows another part of the same picture).
//!
//! Deliberately absent: drawing of scenes, and faults of delivery (late, lost or damaged files).

mod codec;
mod injector;
mod kind;
mod light;
mod optics;
mod random;
mod sensor;
mod view;

pub use codec::{CodecError, MAX_SIDE, decode, encode_jpeg, shrink};
pub use injector::{FREEZE_CYCLE, Injector, repeats_last};
pub use kind::{Kind, Severity, SeverityError, UnknownKind};
pub use view::{View, Window};
