//! Whether a broker could use a data directory, without leaving anything in it.

use crate::identity::Identity;
use anyhow::Context as _;
use chronik_core::ids::BrokerId;
use std::fs;
use std::path::{Path, PathBuf};

/// Makes the directory as a start would, writes a file, and takes away what it has made. Fails if that cannot be done, or the
/// directory is another broker's.
pub(super) fn check(dir: &Path, me: BrokerId) -> anyhow::Result<()> {
    let missing = missing(dir);
    let made = fs::create_dir_all(dir).with_context(|| format!("data_dir: cannot make {}", dir.display()));
    let used = made.and_then(|()| {
        let probe = dir.join(format!(".check-{}", std::process::id()));
        fs::write(&probe, b"").with_context(|| format!("data_dir: cannot write to {}", dir.display()))?;
        fs::remove_file(&probe).with_context(|| format!("data_dir: cannot remove {}", probe.display()))
    });
    for made in missing {
        // Not there if it could not be made; not empty if somebody else has come to use it.
        let _ = fs::remove_dir(made);
    }
    used?;
    if Identity::is_in(dir) {
        Identity::load(dir, me).context("data_dir")?;
    }
    Ok(())
}

/// The directories that are to be made, the innermost first.
fn missing(dir: &Path) -> Vec<PathBuf> {
    let missing = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists());
    missing.map(Path::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(dir: &Path, says: &str) {
        let error = check(dir, BrokerId(1)).unwrap_err();
        assert!(format!("{error:#}").contains(says), "{error:#}");
    }

    #[test]
    fn a_directory_that_can_be_used_is_left_as_it_was() {
        let parent = tempfile::tempdir().unwrap();
        let entries = || fs::read_dir(parent.path()).unwrap().count();
        check(&parent.path().join("a/b/c"), BrokerId(1)).unwrap();
        check(parent.path(), BrokerId(1)).unwrap();
        assert_eq!(entries(), 0);
        fs::create_dir(parent.path().join("a")).unwrap();
        check(&parent.path().join("a/b"), BrokerId(1)).unwrap();
        assert!(parent.path().join("a").is_dir() && entries() == 1);
    }

    #[test]
    fn a_directory_that_cannot_be_made_or_is_anothers_is_refused() {
        fails(Path::new("/proc/nope"), "data_dir: cannot make /proc/nope: ");
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        fails(&dir.path().join("file"), "data_dir: cannot make ");
        fails(&dir.path().join("file/below"), "data_dir: cannot make ");
        Identity::load(dir.path(), BrokerId(2)).unwrap();
        fails(dir.path(), "belongs to broker 2");
    }
}
