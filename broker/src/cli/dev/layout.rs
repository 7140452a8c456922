//! The folder of a development cluster: a configuration file and a data folder for each broker.

use crate::config::{ListenFile, MemberFile, ServeFile};
use anyhow::{Context, bail};
use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A development cluster's folder.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) dir: PathBuf,
    pub(super) brokers: Vec<Planned>,
}

/// One of its brokers.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) id: i32,
    pub(super) file: PathBuf,
    pub(super) listen: ListenFile,
}

impl Planned {
    pub(super) fn address(&self) -> String {
        self.listen.kafka.to_string()
    }
}

impl Layout {
    /// Reads the folder's cluster, or plans a new one of `count` brokers there.
    pub(super) fn open(dir: &Path, count: usize) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let dir = dir.canonicalize()?;
        let found = (0..usize::from(u8::MAX)).map(|id| file_of(&dir, id)).take_while(|f| f.exists()).count();
        if found == 0 {
            plan(&dir, count)?;
        } else if found != count {
            bail!(
                "{} holds a cluster of {found}: say --brokers {found} to bring it back, or another --data-dir",
                dir.display()
            );
        }
        let brokers = (0..count).map(|id| read(&dir, id)).collect::<anyhow::Result<Vec<_>>>()?;
        for broker in &brokers {
            for address in addresses(&broker.listen) {
                if let Err(error) = TcpListener::bind(address) {
                    bail!(
                        "broker {} cannot listen on {address} ({error}): stop what does, or change {}",
                        broker.id,
                        broker.file.display()
                    );
                }
            }
        }
        Ok(Self { dir, brokers })
    }
}

fn addresses(listen: &ListenFile) -> Vec<SocketAddr> {
    let four = [listen.kafka, listen.replication, listen.controller, listen.http];
    four.into_iter().chain(listen.admin).collect()
}

fn file_of(dir: &Path, id: usize) -> PathBuf {
    dir.join(format!("broker-{id}")).join("broker.yaml")
}

fn read(dir: &Path, id: usize) -> anyhow::Result<Planned> {
    let file = file_of(dir, id);
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let config = ServeFile::parse(&text).map_err(|e| anyhow::anyhow!("{}: {e}", file.display()))?;
    if !config.data_dir.starts_with(dir) {
        bail!(
            "{} keeps its data in {}, outside of {}: the folder was copied or moved; change data_dir in the file to where \
             the data is now",
            file.display(),
            config.data_dir.display(),
            dir.display()
        );
    }
    Ok(Planned { id: i32::try_from(id)?, file, listen: config.listen })
}

/// Writes the files of a new cluster, on ports that nobody uses.
fn plan(dir: &Path, count: usize) -> anyhow::Result<()> {
    let mut taken = BTreeSet::new();
    let mut ports = |first: u16| -> anyhow::Result<Vec<u16>> {
        let mut found = Vec::with_capacity(count);
        for port in first..first.saturating_add(1000) {
            if found.len() < count && !taken.contains(&port) && TcpListener::bind((HOST, port)).is_ok() {
                taken.insert(port);
                found.push(port);
            }
        }
        if found.len() < count {
            bail!("no {count} free ports from {first} on");
        }
        Ok(found)
    };
    let (kafka, replication) = (ports(9092)?, ports(9192)?);
    let (controller, http, admin) = (ports(9292)?, ports(9392)?, ports(9492)?);
    let members: Vec<MemberFile> = (0..count)
        .map(|i| MemberFile {
            id: i as i32,
            host: HOST.to_string(),
            alternative_hosts: Vec::new(),
            kafka_port: kafka[i],
            replication_port: replication[i],
            controller_port: controller[i],
        })
        .collect();
    for i in 0..count {
        let folder = dir.join(format!("broker-{i}"));
        let at = |port: u16| SocketAddr::from((HOST, port));
        let listen = ListenFile {
            kafka: at(kafka[i]),
            replication: at(replication[i]),
            controller: at(controller[i]),
            admin: Some(at(admin[i])),
            http: at(http[i]),
        };
        let file = ServeFile::new(i as i32, folder.join("data"), listen, members.clone());
        fs::create_dir_all(&folder)?;
        let yaml = file.to_yaml().map_err(anyhow::Error::msg)?;
        fs::write(file_of(dir, i), yaml)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test for both, and in one process at a time: two would take each other's ports.
    #[test]
    fn a_folder_keeps_its_cluster_and_its_ports_and_a_new_one_takes_free_ports() {
        let alone = fs::File::create(std::env::temp_dir().join("chronik-dev-test-ports")).unwrap();
        alone.lock().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let first = Layout::open(dir.path(), 3).unwrap();
        let again = Layout::open(dir.path(), 3).unwrap();
        let of = |l: &Layout| l.brokers.iter().flat_map(|b| addresses(&b.listen)).collect::<Vec<_>>();
        assert_eq!(of(&first), of(&again));
        assert_eq!(of(&first).iter().collect::<BTreeSet<_>>().len(), 15, "every port is used once");
        let error = Layout::open(dir.path(), 2).unwrap_err().to_string();
        assert!(error.contains("--brokers 3"), "{error}");

        let taken = TcpListener::bind(first.brokers[0].listen.kafka).unwrap();
        let error = Layout::open(dir.path(), 3).unwrap_err().to_string();
        assert!(error.contains(&taken.local_addr().unwrap().to_string()), "{error}");
        drop(taken);
        let moved = dir.path().with_extension("moved");
        fs::rename(dir.path(), &moved).unwrap();
        let error = Layout::open(&moved, 3).unwrap_err().to_string();
        fs::rename(&moved, dir.path()).unwrap();
        assert!(error.contains("change data_dir"), "{error}");

        let taken = TcpListener::bind(first.brokers[0].listen.kafka).unwrap();
        let other = tempfile::tempdir().unwrap();
        let layout = Layout::open(other.path(), 1).unwrap();
        assert_ne!(layout.brokers[0].listen.kafka, taken.local_addr().unwrap());
    }
}
