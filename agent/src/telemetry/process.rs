//! The figures every process shows, by their usual names, from `/proc/self`.

use std::fs;

use prometheus::{Counter, Gauge, IntGauge, Registry};

/// Metrics of this process.
#[derive(Debug)]
pub(super) struct Process {
    cpu: Counter,
    started: Gauge,
    virtual_memory: IntGauge,
    resident_memory: IntGauge,
    threads: IntGauge,
    open_fds: IntGauge,
}

/// What the kernel says in `/proc/PID/stat`, in its own units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    threads: i64,
    virtual_bytes: i64,
    resident_pages: i64,
}

impl Process {
    /// Registers them.
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let cpu = Counter::new("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.")?;
        let started =
            Gauge::new("process_start_time_seconds", "Start time of the process since unix epoch in seconds.")?;
        registry.register(Box::new(cpu.clone()))?;
        registry.register(Box::new(started.clone()))?;
        Ok(Self {
            cpu,
            started,
            virtual_memory: gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.")?,
            resident_memory: gauge("process_resident_memory_bytes", "Resident memory size in bytes.")?,
            threads: gauge("process_threads", "Number of OS threads in the process.")?,
            open_fds: gauge("process_open_fds", "Number of open file descriptors.")?,
        })
    }

    /// Reads them again. What the kernel does not say keeps its last value.
    #[expect(clippy::cast_precision_loss, reason = "seconds and ticks of a machine's life")]
    pub(super) fn update(&self) {
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        if let Some(stat) = read("/proc/self/stat").as_deref().and_then(parse) {
            let page = i64::try_from(rustix::param::page_size()).unwrap_or(4096);
            self.cpu.inc_by((stat.cpu_ticks as f64 / ticks - self.cpu.get()).max(0.0));
            self.virtual_memory.set(stat.virtual_bytes);
            self.resident_memory.set(stat.resident_pages.saturating_mul(page));
            self.threads.set(stat.threads);
            if self.started.get() == 0.0
                && let Some(boot) = read("/proc/stat").as_deref().and_then(boot_time)
            {
                self.started.set(boot as f64 + stat.start_ticks as f64 / ticks);
            }
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // Reading the folder is one of them.
            self.open_fds.set(i64::try_from(entries.count().saturating_sub(1)).unwrap_or(i64::MAX));
        }
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The name of the program, which may hold anything, stands in parentheses before the other fields.
fn parse(stat: &str) -> Option<Stat> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    // proc_pid_stat(5) counts from 1 and has two fields before these.
    let field = |number: usize| fields.get(number - 3).copied();
    let time = |number| field(number)?.parse::<u64>().ok();
    let size = |number| field(number)?.parse::<i64>().ok();
    Some(Stat {
        cpu_ticks: time(14)?.saturating_add(time(15)?),
        threads: size(20)?,
        start_ticks: time(22)?,
        virtual_bytes: size(23)?,
        resident_pages: size(24)?,
    })
}

/// When the machine was started, in seconds since 1970.
fn boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use prometheus::core::Collector;

    use super::*;

    #[test]
    fn the_kernels_line_is_read_whatever_the_program_is_called() {
        let line = "7 (a ) b (c) S 1 2 3 4 5 6 7 8 9 10 140 2 13 14 15 16 5 18 190 2000 21 22";
        let stat = Stat { cpu_ticks: 142, start_ticks: 190, threads: 5, virtual_bytes: 2000, resident_pages: 21 };
        assert_eq!(parse(line), Some(stat));
        assert_eq!(parse("7 (a) S 1 2"), None);
        assert_eq!(parse(""), None);
        assert_eq!(boot_time("cpu 1\nbtime 1700000000\n"), Some(1_700_000_000));
    }

    #[test]
    fn this_process_has_memory_threads_and_a_start() {
        let registry = Registry::new();
        let process = Process::new(&registry).expect("registered");
        process.update();
        process.update();
        assert!(
            process.resident_memory.get() > 1 << 20 && process.virtual_memory.get() > process.resident_memory.get()
        );
        assert!(process.threads.get() >= 1 && process.open_fds.get() >= 3);
        assert!(process.started.get() > 1.6e9 && process.cpu.get() >= 0.0);
        assert_eq!(process.cpu.collect().len(), 1);
    }
}
