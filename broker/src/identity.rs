//! Who this data directory belongs to. The directory's id is made once and registered with the controller: a
//! broker that comes back with another one has lost its disk, and is not believed to have what was on the old one.
//! If it has lost something of some partitions only, these are noted here until the controller knows.

use crate::incarnations::Incarnations;
use crate::whole_file::replace;
use chronik_core::ids::{BrokerId, ClusterId, DirectoryId, IncarnationId, TopicPartition};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const FILE: &str = "identity.json";
/// The version that is written, and the only one there has been.
const VERSION: u32 = 1;

/// The identity in a data directory.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    path: PathBuf,
    content: Content,
    /// It was made just now.
    fresh: bool,
    incarnations: Incarnations,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    broker_id: BrokerId,
    directory_id: DirectoryId,
    cluster_id: Option<ClusterId>,
    /// Partitions whose copies in this directory the controller must not count on.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    damaged: BTreeSet<TopicPartition>,
}

/// What all versions have: it is read first, as a newer one may have fields that are unknown here.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what was written there.
    #[error("{path} is damaged ({reason}); restore it, or start with an empty data directory")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        reason: String,
    },
    /// It was written by a newer version of this program.
    #[error(
        "{path} is in version {found}, and this broker knows version {known}: it was written by a newer broker, which must \
         go on with it. Nothing was changed",
        known = VERSION
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// It is another broker's.
    #[error("{path} belongs to broker {found}, but this is broker {me}: check data_dir and broker_id")]
    OtherBroker {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: BrokerId,
        /// Who asks.
        me: BrokerId,
    },
    /// It is another cluster's.
    #[error(
        "{path} belongs to cluster {found}, but the brokers that this one met form cluster {met}: check members and data_dir"
    )]
    OtherCluster {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: ClusterId,
        /// What the controller says.
        met: ClusterId,
    },
}

impl Identity {
    /// Whether the directory has one.
    pub(crate) fn is_in(directory: &Path) -> bool {
        directory.join(FILE).exists()
    }

    /// Reads the directory's identity, or gives an empty directory one.
    pub(crate) fn load(directory: &Path, me: BrokerId) -> Result<Self, IdentityError> {
        let path = directory.join(FILE);
        let mut fresh = false;
        let content = match fs::read(&path) {
            Ok(bytes) => parse(&path, &bytes)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let directory_id = DirectoryId(uuid::Uuid::new_v4());
                let damaged = BTreeSet::new();
                let content = Content { version: VERSION, broker_id: me, directory_id, cluster_id: None, damaged };
                write(&path, &content).map_err(|source| IdentityError::Io { path: path.clone(), source })?;
                fresh = true;
                content
            }
            Err(source) => return Err(IdentityError::Io { path, source }),
        };
        if content.broker_id != me {
            return Err(IdentityError::OtherBroker { path, found: content.broker_id, me });
        }
        Ok(Self { path, content, fresh, incarnations: Incarnations::unknown(directory) })
    }

    /// Begins a process that will register. Its directory's log is open, so that no other process has it.
    pub(crate) fn begin_process(&mut self, directory: &Path) -> Result<(), IdentityError> {
        let begun = Incarnations::begin(directory, self.fresh);
        self.incarnations = begun.map_err(|source| IdentityError::Io { path: directory.to_owned(), source })?;
        Ok(())
    }

    /// The data directory's id.
    pub(crate) fn directory_id(&self) -> DirectoryId {
        self.content.directory_id
    }

    /// This process.
    pub(crate) fn incarnation(&self) -> IncarnationId {
        self.incarnations.current()
    }

    /// The processes of which one was the last to register with this directory; none where that is not known.
    pub(crate) fn known_incarnations(&self) -> Vec<IncarnationId> {
        self.incarnations.known().to_vec()
    }

    /// The cluster that this directory belongs to, if it has ever been in one.
    pub(crate) fn cluster_id(&self) -> Option<ClusterId> {
        self.content.cluster_id
    }

    /// The partitions of which the directory has lost something, and the controller may not know yet.
    pub(crate) fn damaged(&self) -> Vec<TopicPartition> {
        self.content.damaged.iter().copied().collect()
    }

    /// The disk has lost something, nobody knows what: from now on it is another, newer one, and nobody counts on
    /// what was on it.
    pub(crate) fn renew_directory(&mut self) -> Result<(), IdentityError> {
        self.content.directory_id = DirectoryId(uuid::Uuid::new_v4());
        self.save()
    }

    /// The disk has lost something of these partitions: the controller is to know.
    pub(crate) fn add_damaged(&mut self, partitions: &[TopicPartition]) -> Result<(), IdentityError> {
        self.content.damaged.extend(partitions);
        self.save()
    }

    /// The controller has registered this process, and knows what was damaged.
    pub(crate) fn is_registered(&mut self) -> Result<(), IdentityError> {
        self.incarnations.confirm();
        if self.content.damaged.is_empty() {
            return Ok(());
        }
        self.content.damaged.clear();
        self.save()
    }

    /// The controller says which cluster this is: remembered the first time, and checked from then on.
    pub(crate) fn belongs_to(&mut self, met: ClusterId) -> Result<(), IdentityError> {
        match self.content.cluster_id {
            Some(found) if found == met => Ok(()),
            Some(found) => Err(IdentityError::OtherCluster { path: self.path.clone(), found, met }),
            None => {
                self.content.cluster_id = Some(met);
                self.save()
            }
        }
    }

    fn save(&self) -> Result<(), IdentityError> {
        write(&self.path, &self.content).map_err(|source| IdentityError::Io { path: self.path.clone(), source })
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Content, IdentityError> {
    let damaged = |reason: String| IdentityError::Damaged { path: path.to_owned(), reason };
    let Versioned { version: found } = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
    match found {
        VERSION => serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string())),
        0 => Err(damaged("there has been no version 0".to_owned())),
        _ => Err(IdentityError::NewerFormat { path: path.to_owned(), found }),
    }
}

fn write(path: &Path, content: &Content) -> io::Result<()> {
    replace(path, &serde_json::to_vec_pretty(content)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::ids::{PartitionId, TopicId};

    #[test]
    fn a_directory_keeps_its_identity_and_refuses_another_broker_and_another_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Identity::load(dir.path(), BrokerId(1)).unwrap();
        let (ours, theirs) = (ClusterId(uuid::Uuid::new_v4()), ClusterId(uuid::Uuid::new_v4()));
        first.belongs_to(ours).unwrap();
        let mut again = Identity::load(dir.path(), BrokerId(1)).unwrap();
        assert_eq!(again.directory_id(), first.directory_id());
        again.belongs_to(ours).unwrap();
        assert!(matches!(again.belongs_to(theirs), Err(IdentityError::OtherCluster { .. })));
        assert!(matches!(Identity::load(dir.path(), BrokerId(2)), Err(IdentityError::OtherBroker { .. })));
    }

    #[test]
    fn damage_is_remembered_over_restarts_until_it_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let load = || Identity::load(dir.path(), BrokerId(1)).unwrap();
        let tp = |n| TopicPartition { topic: TopicId::default(), partition: PartitionId(n) };
        let mut identity = load();
        let directory = identity.directory_id();
        identity.add_damaged(&[tp(1)]).unwrap();
        load().add_damaged(&[tp(0), tp(1)]).unwrap();
        let mut identity = load();
        assert_eq!(identity.damaged(), [tp(0), tp(1)]);
        identity.is_registered().unwrap();
        assert_eq!(load().damaged(), []);
        assert_eq!(load().directory_id(), directory);
    }

    #[test]
    fn a_damaged_identity_is_refused_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "{\"version\": 1").unwrap();
        assert!(matches!(Identity::load(dir.path(), BrokerId(1)), Err(IdentityError::Damaged { .. })));
        assert_eq!(fs::read_to_string(dir.path().join(FILE)).unwrap(), "{\"version\": 1");
        // A bit of it that makes it no text.
        fs::write(dir.path().join(FILE), b"{\"version\": 1, \"broker_id\": 1, \"directory_id\": \"\xe1\"}").unwrap();
        assert!(matches!(Identity::load(dir.path(), BrokerId(1)), Err(IdentityError::Damaged { .. })));
    }

    #[test]
    fn an_identity_of_a_newer_broker_is_refused_before_anything_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        Identity::load(dir.path(), BrokerId(1)).unwrap();
        let path = dir.path().join(FILE);
        let written = fs::read_to_string(&path).unwrap();
        for (from, to) in [("\"version\": 1", "\"version\": 9"), ("\"version\": 1", "\"version\": 9, \"new\": []")] {
            let newer = written.replace(from, to);
            fs::write(&path, &newer).unwrap();
            let refused = Identity::load(dir.path(), BrokerId(1)).unwrap_err();
            assert!(refused.to_string().contains("version 9, and this broker knows version 1"), "{refused}");
            assert_eq!(fs::read_to_string(&path).unwrap(), newer);
        }
        fs::write(&path, written.replace("\"version\": 1", "\"version\": 0")).unwrap();
        assert!(matches!(Identity::load(dir.path(), BrokerId(1)), Err(IdentityError::Damaged { .. })));
    }
}
