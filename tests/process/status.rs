//! What the system says of this process.

/// A line of `/proc/self/status`, like `VmRSS:`, in bytes; none where there is no such file.
pub(crate) fn bytes(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes << 10)
}
