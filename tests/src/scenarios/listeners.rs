//! Two listeners a broker: clients that come through the second one are told its addresses and no others, write, read in
//! a group, and go on when a leader is killed and when the addresses change.

use super::{Settings, carry_out};
use crate::harness::cluster::{Cluster, PATIENCE};
use crate::harness::metadata::Metadata;
use crate::harness::{ports, wait};
use crate::report::Report;
use anyhow::{Result, ensure};
use futures::executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use std::collections::BTreeSet;
use std::time::Duration;

const TOPIC: &str = "listeners";
const PARTITIONS: i32 = 3;
const RECORDS: usize = 100;

struct World {
    cluster: Cluster,
    /// The ports of the second listener.
    outside: Vec<u16>,
    reader: BaseConsumer,
    read: BTreeSet<String>,
    written: usize,
}

/// All of it.
pub fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let cluster = Cluster::new(&settings.software, 3, &[])?;
    let outside = (0..3).map(|_| ports::free()).collect::<Result<Vec<_>>>()?;
    for (id, port) in outside.iter().enumerate() {
        cluster.add_listener(id, "EXTERNAL", *port)?;
    }
    let reader = config(&bootstrap(&outside))
        .set("group.id", "listeners")
        .set("auto.offset.reset", "earliest")
        .set("topic.metadata.refresh.interval.ms", "500")
        .create()?;
    let mut world = World { cluster, outside, reader, read: BTreeSet::new(), written: 0 };
    world.cluster.start_all()?;
    world.cluster.wait_for_brokers(3)?;
    let metadata = Metadata::new(&world.cluster.bootstrap())?;
    metadata.create_topic(TOPIC, PARTITIONS, 3, &[])?;
    metadata.wait_for_isr(TOPIC, PARTITIONS as usize, 3)?;
    world.reader.subscribe(&[TOPIC])?;
    carry_out(
        &mut world,
        &[
            ("a broker is told only where it has said that it is", one_by_one),
            ("clients from outside write and read in a group", round),
            ("those from inside are told other addresses", inside),
            ("it goes on when a leader is killed", kill),
            ("addresses change while brokers run", move_away),
        ],
        report,
    );
    report.check_result("every broker lives", world.cluster.check_alive().map(|()| "yes".into()));
    if report.has_failures() {
        println!("{}\nkept: {}", world.cluster.tails(), world.cluster.keep().display());
    }
    Ok(())
}

fn bootstrap(ports: &[u16]) -> String {
    ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
}

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("log_level", "0");
    config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200");
    config
}

fn one_by_one(world: &mut World) -> Result<String> {
    for id in 0..3 {
        advertise(world, id, "127.0.0.1")?;
        let known = (0..=id).map(|id| format!("127.0.0.1:{}", world.outside[id])).collect::<BTreeSet<_>>();
        told(&world.outside, &known)?;
    }
    Ok("by all three".to_owned())
}

/// By AlterConfigs, which a client sends to the broker that it is for.
fn advertise(world: &World, id: usize, host: &str) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = config(&world.cluster.bootstrap()).create()?;
    let value = format!("EXTERNAL://{host}:{}", world.outside[id]);
    let changed = AlterConfig::new(ResourceSpecifier::Broker(id as i32)).set("advertised.listeners", &value);
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    for result in block_on(admin.alter_configs([&changed], &options))? {
        ensure!(result.is_ok(), "broker {id}: {result:?}");
    }
    Ok(())
}

/// Waits until every broker that answers names these, to a client that comes from outside.
fn told(outside: &[u16], expected: &BTreeSet<String>) -> Result<()> {
    for port in outside {
        let client: BaseConsumer = config(&bootstrap(&[*port])).create()?;
        wait::until("the addresses", PATIENCE, || {
            let metadata = client.fetch_metadata(Some(TOPIC), PATIENCE)?;
            let told = metadata.brokers().iter().map(|b| format!("{}:{}", b.host(), b.port())).collect::<BTreeSet<_>>();
            Ok((told == *expected).then_some(()))
        })?;
    }
    Ok(())
}

fn round(world: &mut World) -> Result<String> {
    let producer: BaseProducer =
        config(&bootstrap(&world.outside)).set("enable.idempotence", "true").set("acks", "all").create()?;
    for number in world.written..world.written + RECORDS {
        let value = number.to_string();
        let partition = (number % PARTITIONS as usize) as i32;
        producer.send(BaseRecord::<(), _>::to(TOPIC).partition(partition).payload(&value)).map_err(|(e, _)| e)?;
    }
    producer.flush(PATIENCE)?;
    world.written += RECORDS;
    let World { reader, read, written, .. } = world;
    wait::until("the records", PATIENCE, || {
        while let Some(message) = reader.poll(Duration::from_millis(50)) {
            // What a client says of a broker that was killed is no record.
            let Ok(message) = message else { continue };
            let value =
                rdkafka::Message::payload(&message).map(String::from_utf8_lossy).unwrap_or_default().into_owned();
            ensure!(read.insert(value.clone()), "{value} twice");
        }
        Ok((read.len() == *written).then(|| format!("{written} records")))
    })
}

fn inside(world: &mut World) -> Result<String> {
    let client: BaseConsumer = config(&world.cluster.bootstrap()).create()?;
    let metadata = client.fetch_metadata(Some(TOPIC), PATIENCE)?;
    let told = metadata.brokers().iter().map(|b| b.port() as u16).collect::<BTreeSet<_>>();
    let registered = (0..3).map(|id| world.cluster.ports(id).kafka).collect::<BTreeSet<_>>();
    ensure!(told == registered, "{told:?}, not {registered:?}");
    Ok(format!("{told:?}"))
}

fn kill(world: &mut World) -> Result<String> {
    let leader = Metadata::new(&world.cluster.bootstrap())?.leader(TOPIC, 0)?;
    world.cluster.kill(leader)?;
    let read = round(world)?;
    world.cluster.start(leader)?;
    Metadata::new(&world.cluster.bootstrap())?.wait_for_isr(TOPIC, PARTITIONS as usize, 3)?;
    Ok(read)
}

fn move_away(world: &mut World) -> Result<String> {
    for id in 0..3 {
        advertise(world, id, "localhost")?;
    }
    told(&world.outside, &world.outside.iter().map(|port| format!("localhost:{port}")).collect())?;
    round(world)
}
