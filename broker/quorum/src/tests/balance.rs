use super::*;
use chronik_core::cluster::{Leaving, ResignReason, ResignedPartitions};

#[tokio::test(flavor = "multi_thread")]
async fn leaderships_that_were_given_up_go_back_to_the_preferred_replica() {
    let balance = LeaderBalanceConfig { interval: Duration::from_millis(100), percentage: 10 };
    let cluster = Cluster { leader_balance: Some(balance), ..Cluster::patient(3) };
    let brokers = cluster.start_all().await;
    for broker in &brokers {
        broker.sees_alive(&[0, 1, 2]).await;
    }
    let topic = brokers[0].create_topic("t", 3).await.unwrap();
    let partition = |image: &Image| image.partition(first_of(topic)).cloned();
    let before = partition(&brokers[0].handle().image()).unwrap();
    let preferred = &brokers[usize::try_from(before.replicas[0].0).unwrap()];
    // When the controller moves meanwhile, nobody may know what became of it: then it is given up twice.
    eventually("the leadership is given up", || async {
        let (leaving, reason) = (Leaving::Leadership, ResignReason::Asked);
        let resignation = Resignation { partitions: ResignedPartitions::All, leaving, reason };
        preferred.handle().resign(resignation, DEADLINE).await.ok()
    })
    .await;
    let again = |image: &Image| {
        partition(image).is_some_and(|p| p.leader == before.leader && p.leader_epoch.0 > before.leader_epoch.0 + 1)
    };
    brokers[1].sees("the preferred replica leads again", again).await;
    stop_all(brokers).await;
}
