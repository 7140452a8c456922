//! Quorums over a network with a long way: each connection goes through a relay that keeps what it carries for a while.

use super::*;
use chronik_core::cluster::{Answer, Election, MetadataCommand};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// One way. A round trip takes twice as long.
const DELAY: Duration = Duration::from_millis(30);

/// What goes to the relay arrives at the controller port `DELAY` later, and answers take as long.
async fn relay(to: SocketAddr) -> SocketAddr {
    relay_at(None, to).await
}

/// The same over a way that takes so many bytes a second, and no others meanwhile.
async fn relay_at(rate: Option<u32>, to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((from, _)) = listener.accept().await {
            tokio::spawn(async move {
                tokio::time::sleep(2 * DELAY).await;
                let Ok(to) = TcpStream::connect(to).await else { return };
                let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
                tokio::spawn(delayed(rate, from_read, to_write));
                tokio::spawn(delayed(rate, to_read, from_write));
            });
        }
    });
    address
}

async fn delayed(rate: Option<u32>, mut from: tokio::net::tcp::OwnedReadHalf, mut to: tokio::net::tcp::OwnedWriteHalf) {
    let (sender, mut on_its_way) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((at, bytes)) = on_its_way.recv().await {
            tokio::time::sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if let Some(rate) = rate {
            tokio::time::sleep(Duration::from_secs(read as u64) / rate).await;
        }
        if sender.send((Instant::now() + DELAY, buffer[..read].to_vec())).is_err() {
            return;
        }
    }
}

async fn far_apart(brokers: usize, session: Duration) -> Cluster {
    let mut cluster = Cluster::of(brokers);
    cluster.timings = Timings::with_session(session);
    cluster.reached_at = futures::future::join_all(cluster.controllers.iter().map(|address| relay(*address))).await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_far_away_catches_up_with_more_than_one_window() {
    let cluster = far_apart(3, Duration::from_secs(6)).await;
    let mut brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2]).await;
    let leader = brokers[0].leader().await;
    let at = brokers.iter().position(|b| b.id != leader).unwrap();
    let away = brokers.remove(at);
    let id = away.id.0 as usize;
    away.stop().await;
    // Fewer entries than are kept for a voter that comes back, and more bytes than go into a few messages.
    let name = |n: usize| format!("{n:0>200}");
    let handle = brokers[0].handle();
    let create = |n: usize| handle.create_topic(topic(&name(n), 2), DEADLINE);
    let created = futures::future::join_all((0..900).map(create)).await;
    assert_eq!(created.iter().filter(|c| c.is_ok()).count(), 900);

    let back = cluster.start(id).await;
    back.sees("all topics", |image| (0..900).all(|n| image.topic_by_name(&name(n)).is_some())).await;
    back.is_serving().await;
    brokers.push(back);
    stop_all(brokers).await;
}

/// A fifth of a second, in which two heartbeats are due.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_takes_many_heartbeats_on_its_way_arrives() {
    let mut cluster = Cluster::of(3);
    cluster.timings = Timings::with_session(Duration::from_secs(2));
    let relays = cluster.controllers.iter().map(|address| relay_at(Some(4 << 20), *address));
    cluster.reached_at = futures::future::join_all(relays).await;
    let mut brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2]).await;
    // Of partitions that there are not: it is in the log all the same.
    let named = (0..20_000).map(|n| TopicPartition { topic: TopicId(Uuid::max()), partition: PartitionId(n) });
    let command = MetadataCommand::ElectLeaders { partitions: Some(named.collect()), election: Election::Preferred };
    let decided = brokers[0].handle().decide(command, DEADLINE * 4).await;
    assert!(matches!(decided, Ok(Answer::Elected(_))), "{decided:?}");
    brokers[0].handle().create_topic(topic("after", 1), DEADLINE).await.unwrap();
    stop_all(std::mem::take(&mut brokers)).await;
}

/// A few entries after which a snapshot is made: what the others keep does not reach back to what it has.
#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_was_away_for_many_entries_gets_a_snapshot() {
    let cluster = Cluster { snapshot_entries: 10, ..Cluster::patient(3) };
    let mut brokers = cluster.start_all().await;
    brokers[0].sees_alive(&[0, 1, 2]).await;
    let away = brokers.pop().expect("three of them");
    let id = away.id.0 as usize;
    away.stop().await;
    let name = |n: usize| format!("while-away-{n}");
    for n in 0..40 {
        brokers[0].create_topic(&name(n), 2).await.unwrap();
    }
    let before = cluster.cuts.snapshots();
    let back = cluster.start(id).await;
    back.sees("all topics", |image| (0..40).all(|n| image.topic_by_name(&name(n)).is_some())).await;
    assert!(cluster.cuts.snapshots() > before, "it got entries alone");
    back.is_serving().await;
    brokers.push(back);
    stop_all(brokers).await;
}
