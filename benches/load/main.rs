//! How much one aggregator carries: memory of connected devices, sessions through the writer, and what a summary costs over QUIC
//! beside the same frames over plain TCP with TLS, and beside Mosquitto where it is installed.
//!
//! `cargo bench -p driftglass-benches --bench load -- [devices|sessions|transport] [--devices N] [--sessions N]`. The aggregator whose
//! memory is measured is a process of its own: this program again, running the service.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark prints, takes time, and one that cannot run stops and says why"
)]

mod authority;
mod client;
mod devices;
mod mosquitto;
mod process;
mod sessions;
mod transport;

/// What can be measured, by name.
const PARTS: [&str; 3] = ["transport", "sessions", "devices"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let value = |key: &str| {
        let place = arguments.iter().position(|argument| argument == key)?;
        arguments.get(place + 1).cloned()
    };
    let number = |key: &str| value(key).map(|text| text.parse::<usize>().expect("a number"));
    // What this program starts itself as.
    if let Some(folder) = value("--serve") {
        return devices::serve(&folder);
    }
    if let Some(count) = number("--run-sessions") {
        return sessions::run(count);
    }
    let words: Vec<&String> = arguments
        .iter()
        .enumerate()
        .filter(|(place, word)| {
            let is_value =
                place.checked_sub(1).and_then(|before| arguments.get(before)).is_some_and(|key| key.starts_with("--"));
            !word.starts_with("--") && !is_value
        })
        .map(|(_, word)| word)
        .collect();
    // Words that are no part of this benchmark are for the others, unless they are its name.
    let wanted = |part: &str| words.is_empty() || words.iter().any(|&word| word == part || word == "load");
    for part in PARTS {
        match part {
            "transport" if wanted(part) => transport::measure(number("--records").unwrap_or(transport::RECORDS)),
            "sessions" if wanted(part) => sessions::measure(number("--sessions").unwrap_or(sessions::SESSIONS)),
            "devices" if wanted(part) => devices::measure(number("--devices").unwrap_or(devices::DEVICES)),
            _ => {}
        }
    }
}
