//! How much memory there is to give out.
//!
//! An allocator gives what a machine does not have, and the process is killed when it is written. So
//! buffers together are kept to what is there: main memory and swap, or the least that a control group
//! above this process allows. Elsewhere than on Linux only the allocator refuses.

use std::fs;
use std::sync::LazyLock;

static MEMORY: LazyLock<usize> = LazyLock::new(|| {
    let read = |file: &str| fs::read_to_string(file).ok();
    let machine = read("/proc/meminfo").and_then(|text| installed(&text));
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let allowed = limits(&groups).filter_map(|file| read(&file)?.trim().parse::<usize>().ok());
    allowed.chain(machine).min().unwrap_or(usize::MAX)
});

/// The bytes that all buffers together may have.
pub(super) fn memory() -> usize {
    *MEMORY
}

/// Main memory and swap, as `/proc/meminfo` lists them in KiB.
fn installed(text: &str) -> Option<usize> {
    let of = |name: &str| -> Option<usize> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<usize>().ok()?.checked_mul(1024)
    };
    Some(of("MemTotal:")? + of("SwapTotal:").unwrap_or(0))
}

/// The files that may hold a limit for the groups of `/proc/self/cgroup`, whose lines are
/// `number:controllers:path`: of version 2 in the group and all above it, of version 1 in its own tree.
fn limits(groups: &str) -> impl Iterator<Item = String> {
    groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':')).flat_map(
        |(controllers, path)| {
            let (root, file) = match controllers {
                "" => ("/sys/fs/cgroup", "memory.max"),
                _ => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            };
            let concerns = controllers.is_empty() || controllers.split(',').any(|c| c == "memory");
            let above = std::path::Path::new(path).ancestors().filter(move |_| concerns);
            above.map(move |group| {
                format!("{root}/{}/{file}", group.display().to_string().trim_matches('/'))
            })
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_swap_are_read_in_kibibytes() {
        let text = "MemTotal:       24 kB\nMemFree: 1 kB\nSwapTotal:             8 kB\n";
        assert_eq!(installed(text), Some(32 * 1024));
        assert_eq!(installed("MemTotal: 24 kB\n"), Some(24 * 1024));
        assert_eq!(installed("SwapTotal: 24 kB\n"), None);
    }

    #[test]
    fn the_limits_of_a_group_and_of_all_above_it_are_looked_at() {
        let found: Vec<String> = limits("0::/a/b\n").collect();
        let of = |group| format!("/sys/fs/cgroup/{group}/memory.max");
        assert_eq!(found, [of("a/b"), of("a"), of("")]);
        let older: Vec<String> = limits("4:cpu,memory:/a\n3:pids:/a\n").collect();
        let of = |group| format!("/sys/fs/cgroup/memory/{group}/memory.limit_in_bytes");
        assert_eq!(older, [of("a"), of("")]);
    }

    #[test]
    fn this_machine_has_some_memory() {
        assert!(memory() > 1 << 20);
    }
}
