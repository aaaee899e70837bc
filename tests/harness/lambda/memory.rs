//! How much memory a process needed, where the system tells it.

use std::fs;

/// Lets the peak of process `pid` start anew at what it holds now (proc(5), `clear_refs`).
pub(super) fn reset_peak(pid: u32) {
    // Where this is refused, the peak is that of the process's whole life: still an upper bound.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// The peak of the resident memory of process `pid`, in bytes (proc(5), `VmHWM`).
pub(super) fn peak_rss_bytes(pid: u32) -> Option<u64> {
    high_water_mark(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn high_water_mark(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_in_bytes() {
        assert_eq!(high_water_mark("Name:\tf\nVmHWM:\t   10240 kB\nVmRSS:\t 1 kB\n"), Some(10 << 20));
        assert_eq!(high_water_mark("Name:\tf\n"), None);
    }
}
