//! Compiled kernels, kept on disk between runs.
//!
//! A file holds the whole key (text, options, versions), a checksum and the code, so that neither a
//! hash collision nor a broken file can hand out wrong code. It is written under a name of its own
//! and then renamed, which is atomic: of several processes the last one wins, with the same code.
//! A cache that cannot be read or written costs time and is no error.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// The environment variable: a folder, or `off`. By default the user's cache folder.
pub const FOLDER: &str = "ALCYON_CUDA_CACHE";

/// What a file begins with; the number counts changes of the format.
const MAGIC: &[u8] = b"alcyon kernel 1\n";

/// A folder of compiled kernels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    /// A cache in a folder; `None` keeps nothing.
    #[must_use]
    pub const fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// The folder that [`FOLDER`] names, or else that of the user.
    #[must_use]
    pub fn of_user() -> Self {
        let folder = match std::env::var_os(FOLDER) {
            Some(off) if off == "off" => None,
            Some(folder) => Some(PathBuf::from(folder)),
            None => {
                let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
                let user = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
                user.map(|user| user.join("alcyon").join("cuda"))
            }
        };
        Self { folder }
    }

    /// The code that was kept under a key. A file that is broken is removed.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        let file = self.file(key)?;
        let bytes = fs::read(&file).ok()?;
        let code = decode(&bytes, key).map(<[u8]>::to_vec);
        if code.is_none() {
            self.remove(key);
        }
        code
    }

    /// Keeps code under a key.
    pub fn put(&self, key: &str, code: &[u8]) {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let (Some(folder), Some(file)) = (&self.folder, self.file(key)) else { return };
        // Unlike any other process's or thread's.
        let unique =
            format!("{}-{}.new", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let new = folder.join(unique);
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(&new, encode(key, code)));
        if written.and_then(|()| fs::rename(&new, &file)).is_err() {
            let _ = fs::remove_file(&new); // It may never have come to be.
        }
    }

    /// Forgets a key: the driver has refused its code.
    pub fn remove(&self, key: &str) {
        if let Some(file) = self.file(key) {
            let _ = fs::remove_file(file); // Another process may have been first.
        }
    }

    fn file(&self, key: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{:016x}.kernel", hash(key.as_bytes()))))
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// Magic, the key's length, the key, the code's hash, the code.
fn encode(key: &str, code: &[u8]) -> Vec<u8> {
    let length = (key.len() as u64).to_le_bytes();
    [MAGIC, &length, key.as_bytes(), &hash(code).to_le_bytes(), code].concat()
}

/// The code of a file, if the file is whole and of this key.
fn decode<'a>(bytes: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    if u64::from_le_bytes(*length) != key.len() as u64 {
        return None;
    }
    let rest = rest.strip_prefix(key.as_bytes())?;
    let (sum, code) = rest.split_first_chunk::<8>()?;
    (u64::from_le_bytes(*sum) == hash(code)).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(name: &str) -> (Cache, PathBuf) {
        let folder =
            std::env::temp_dir().join(format!("alcyon-cache-{name}-{}", std::process::id()));
        (Cache::new(Some(folder.clone())), folder)
    }

    #[test]
    fn what_was_put_is_what_is_got_and_other_keys_get_nothing() {
        let (cache, folder) = cache("round");
        assert_eq!(cache.get("a"), None);
        cache.put("a", b"code of a");
        assert_eq!(cache.get("a").as_deref(), Some(&b"code of a"[..]));
        assert_eq!(cache.get("b"), None);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_broken_file_gives_nothing_and_is_gone_wherever_it_is_broken() {
        let (cache, folder) = cache("broken");
        cache.put("key", b"some code");
        let file = cache.file("key").unwrap();
        let whole = fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 1;
            fs::write(&file, &broken).unwrap();
            assert_eq!(cache.get("key"), None, "byte {at}");
            assert!(!file.exists());
            fs::write(&file, &whole[..at]).unwrap();
            assert_eq!(cache.get("key"), None, "cut at {at}");
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn many_writers_and_readers_of_one_key_never_see_a_half() {
        let (cache, folder) = cache("race");
        let code = vec![7_u8; 1 << 16];
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        cache.put("key", &code);
                        assert_eq!(cache.get("key").as_ref(), Some(&code));
                    }
                });
            }
        });
        let left = fs::read_dir(&folder).unwrap().count();
        assert_eq!(left, 1, "no unfinished file stays");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_cache_that_is_off_keeps_nothing() {
        let off = Cache::new(None);
        off.put("key", b"code");
        assert_eq!(off.get("key"), None);
    }
}
