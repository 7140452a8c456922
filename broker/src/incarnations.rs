//! Which processes a data directory has registered as. One that does not know the process which registered last is a copy
//! from before it, such as a volume that was restored: the controller must not believe it to have what that process had.
//!
//! A file of its own, which a broker that knows nothing of it leaves alone.

use crate::whole_file::replace;
use chronik_core::ids::IncarnationId;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tracing::warn;

const FILE: &str = "incarnations.json";
/// Earlier processes whose registration may or may not have reached the controller: so many are remembered at most.
const MOST: usize = 64;

/// A data directory's processes.
#[derive(Clone, Debug)]
pub(crate) struct Incarnations {
    path: PathBuf,
    current: IncarnationId,
    /// Those of which one has registered last, with this one; `None` where that is not known.
    known: Option<Vec<IncarnationId>>,
    confirmed: bool,
}

#[derive(Serialize, Deserialize)]
struct Content {
    incarnations: Vec<IncarnationId>,
}

impl Incarnations {
    /// A process that does not register.
    pub(crate) fn unknown(directory: &Path) -> Self {
        let current = IncarnationId(uuid::Uuid::new_v4());
        Self { path: directory.join(FILE), current, known: None, confirmed: false }
    }

    /// Begins another process, which is on the disk before it registers. In a directory that is `fresh` none has
    /// registered; in one of a broker that did not keep this file, nobody knows which.
    pub(crate) fn begin(directory: &Path, fresh: bool) -> io::Result<Self> {
        let mut begun = Self::unknown(directory);
        let before = match fs::read(&begun.path) {
            Ok(bytes) => serde_json::from_slice::<Content>(&bytes).map(|content| content.incarnations).ok(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => fresh.then(Vec::new),
            // What cannot be read says nothing.
            Err(_) => None,
        };
        begun.known = before.filter(|before| before.len() < MOST).map(|mut all| {
            all.push(begun.current);
            all
        });
        if let Some(Err(error)) = begun.known.as_deref().map(|known| begun.write(known)) {
            // A full disk keeps no broker from starting. What it does not know of may not stay there.
            warn!(%error, "cannot write {FILE}: whether this directory is an old copy is not looked at");
            match fs::remove_file(&begun.path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => begun.known = None,
            }
        }
        Ok(begun)
    }

    /// This process.
    pub(crate) fn current(&self) -> IncarnationId {
        self.current
    }

    /// Those of which the last to register is one, unless this directory is an old copy; none where that is not known.
    pub(crate) fn known(&self) -> &[IncarnationId] {
        self.known.as_deref().unwrap_or_default()
    }

    /// This process has registered. As long as that cannot be written, the file says more than is so, which is no harm.
    pub(crate) fn confirm(&mut self) {
        if !self.confirmed {
            match self.write(&[self.current]) {
                Ok(()) => self.confirmed = true,
                Err(error) => warn!(%error, "cannot write {FILE}"),
            }
        }
    }

    fn write(&self, incarnations: &[IncarnationId]) -> io::Result<()> {
        let content = Content { incarnations: incarnations.to_vec() };
        replace(&self.path, &serde_json::to_vec_pretty(&content)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_have_registered_last_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let first = Incarnations::begin(dir.path(), true).unwrap();
        assert_eq!(first.known(), [first.current()]);
        // Whether the first one registered before it ended is not known.
        let mut second = Incarnations::begin(dir.path(), false).unwrap();
        assert_eq!(second.known(), [first.current(), second.current()]);
        second.confirm();
        second.confirm();
        let third = Incarnations::begin(dir.path(), false).unwrap();
        assert_eq!(third.known(), [second.current(), third.current()]);
    }

    /// As on a full disk, where a start goes on.
    #[test]
    fn where_a_process_cannot_be_noted_nothing_is_known_and_nothing_older_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let begin = |fresh| Incarnations::begin(dir.path(), fresh).expect("a full disk keeps nobody from starting");
        let blocked = dir.path().join(FILE).with_extension("new");
        // There is no file yet, whether the directory is new or of a broker that did not keep it.
        fs::create_dir(&blocked).expect("a directory");
        for fresh in [true, false] {
            let mut nowhere = begin(fresh);
            assert_eq!(nowhere.known(), []);
            nowhere.confirm();
            assert!(!dir.path().join(FILE).exists());
        }
        fs::remove_dir(&blocked).expect("a directory");
        let mut noted = begin(false);
        noted.confirm();
        assert_eq!(begin(false).known().len(), 2);
        // Who registers now is not in what is there: it would pass for an old copy.
        fs::create_dir(&blocked).expect("a directory");
        assert_eq!(begin(false).known(), []);
        assert!(!dir.path().join(FILE).exists());
        fs::remove_dir(&blocked).expect("a directory");
        assert_eq!(begin(false).known(), [], "nor is it known later who that was");
    }

    #[test]
    fn nothing_is_said_where_nothing_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let mut of_before = Incarnations::begin(dir.path(), false).unwrap();
        assert_eq!(of_before.known(), []);
        assert_eq!(Incarnations::begin(dir.path(), false).unwrap().known(), []);
        of_before.confirm();
        for tried in 1..MOST {
            assert_eq!(Incarnations::begin(dir.path(), false).unwrap().known().len(), 1 + tried);
        }
        assert_eq!(Incarnations::begin(dir.path(), false).unwrap().known(), []);
        fs::write(dir.path().join(FILE), "no JSON").unwrap();
        assert_eq!(Incarnations::begin(dir.path(), false).unwrap().known(), []);
    }
}
