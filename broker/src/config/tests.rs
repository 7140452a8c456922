use super::*;

const MINIMAL: &str = "
broker_id: 0
data_dir: data
listen: {kafka: '127.0.0.1:9092', replication: '127.0.0.1:9192', controller: '127.0.0.1:9292', http: '127.0.0.1:9392'}
members:
  - {id: 0, host: localhost, kafka_port: 9092, replication_port: 9192, controller_port: 9292}
";

fn load(text: &str) -> Result<Config, String> {
    ServeFile::parse(text).and_then(|f| Config::check(f, || None).map_err(|e| e.to_string()))
}

#[test]
fn a_minimal_file_gets_the_defaults_of_a_single_broker() {
    let config = load(MINIMAL).unwrap();
    assert_eq!(config.voters, [BrokerId(0)]);
    assert_eq!(config.topics, TopicDefaults { partitions: 1, replication_factor: 1, min_insync_replicas: 1 });
}

#[test]
fn the_admin_port_is_above_the_controllers_or_where_the_file_says() {
    assert_eq!(load(MINIMAL).unwrap().listen.admin, "127.0.0.1:9492".parse().unwrap());
    let given = MINIMAL.replace("http:", "admin: '127.0.0.1:7777', http:");
    assert_eq!(load(&given).unwrap().listen.admin.port(), 7777);
    let error = load(&MINIMAL.replace("127.0.0.1:9292", "127.0.0.1:65400")).unwrap_err();
    assert!(error.contains("listen.admin: must be given"), "{error}");
}

#[test]
fn two_listeners_at_one_address_are_refused_by_name() {
    let error = load(&MINIMAL.replace("127.0.0.1:9392", "127.0.0.1:9092")).unwrap_err();
    assert!(error.contains("listen: kafka (127.0.0.1:9092) and http (127.0.0.1:9092) need"), "{error}");
    let error = load(&MINIMAL.replace("127.0.0.1:9392", "127.0.0.1:9492")).unwrap_err();
    assert!(error.contains("admin (127.0.0.1:9492) and http"), "{error}");
    let error = load(&format!("{MINIMAL}listeners: {{a: '0.0.0.0:9092'}}\n")).unwrap_err();
    assert!(error.contains("listeners.A (0.0.0.0:9092)"), "{error}");
}

#[test]
fn further_listeners_have_names_in_upper_case_each_once() {
    let with = |names: &str| load(&format!("{MINIMAL}listeners: {names}\n"));
    let config = with("{external: '[::]:9094'}").unwrap();
    assert_eq!(config.listeners.iter().next(), Some((&"EXTERNAL".into(), &"[::]:9094".parse().unwrap())));
    assert!(with("{'a b': '[::]:9094'}").unwrap_err().contains("'a b' is not a name"));
    assert!(with("{a: '[::]:1', A: '[::]:2'}").unwrap_err().contains("is there twice"));
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    let error = load(&MINIMAL.replace("data_dir", "data_dri")).unwrap_err();
    assert!(error.contains("unknown key 'data_dri'; did you mean 'data_dir'?"), "{error}");
    let error = load(&format!("{MINIMAL}kafka:\n  min.insync.replica: 1\n")).unwrap_err();
    assert!(error.contains("did you mean 'min.insync.replicas'?"), "{error}");
    assert!(error.contains("line 8"), "{error}");
}

#[test]
fn a_property_that_the_file_cannot_set_is_refused_with_how_it_is_set() {
    for (property, says) in [
        ("log.retention.ms", "chronik config set cluster default log.retention.ms=VALUE"),
        ("retention.ms", "chronik config set cluster default log.retention.ms=VALUE"),
        ("log.retention.hours", "chronik config set cluster default log.retention.ms=VALUE"),
        ("advertised.listeners", "chronik config set broker ID advertised.listeners=VALUE"),
        ("node.id", "`broker_id`"),
        ("num.io.threads", "the processors that it has"),
        ("group.consumer.assignment.interval.ms", "computed at once"),
        ("log.retention.mss", "did you mean 'log.retention.ms'?"),
    ] {
        let error = load(&format!("{MINIMAL}kafka: {{{property}: 1}}\n")).unwrap_err();
        assert!(error.contains(says) && !error.contains("log.segment.bytes"), "{error}");
    }
}

#[test]
fn durations_and_sizes_carry_units() {
    let config =
        load(&format!("{MINIMAL}kafka:\n  replica.lag.time.max.ms: 10s\n  message.max.bytes: 2MiB\n")).unwrap();
    assert_eq!(config.replica_lag_time_max, Duration::from_secs(10));
    assert_eq!(config.max_message_bytes, 2 << 20);
    let error = load(&format!("{MINIMAL}kafka:\n  replica.lag.time.max.ms: 10 parsecs\n")).unwrap_err();
    assert!(error.contains("'10 parsecs' is not a duration"), "{error}");
}

#[test]
fn assignors_go_by_their_names_or_by_those_of_kafkas_classes() {
    use chronik_core::groups::Assignor;
    for (given, expected) in [
        ("range", vec![Assignor::Range]),
        ("range, uniform", vec![Assignor::Range, Assignor::Uniform]),
        ("org.apache.kafka.coordinator.group.assignor.RangeAssignor", vec![Assignor::Range]),
    ] {
        let config = load(&format!("{MINIMAL}kafka: {{group.consumer.assignors: '{given}'}}\n")).unwrap();
        assert_eq!(config.groups.consumer_assignors, expected);
    }
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    for (extra, complaint) in [
        ("voters: [7]", "broker 7 is not a member"),
        ("kafka: {default.replication.factor: 3}", "default.replication.factor: 3 does not fit 1 members"),
        ("kafka: {message.max.bytes: 200MiB}", "socket.request.max.bytes: must be greater"),
        ("kafka: {socket.request.max.bytes: 1GiB}", "socket.request.max.bytes: at most 200MiB"),
        ("kafka: {offsets.topic.replication.factor: 2}", "offsets.topic.replication.factor: 2 does not fit 1"),
        ("kafka: {log.retention.check.interval.ms: 0}", "log.retention.check.interval.ms: at least 1 ms"),
        ("kafka: {log.cleaner.backoff.ms: 0}", "log.cleaner.backoff.ms: at least 1 ms"),
        ("kafka: {log.cleaner.dedupe.buffer.size: 3GiB}", "between 1 and 2147483647"),
        ("kafka: {group.max.size: 0}", "group.max.size: at least 1"),
        ("kafka: {fetch.max.bytes: 1000}", "fetch.max.bytes: at least 1024"),
        ("kafka: {max.request.partition.size.limit: 0}", "max.request.partition.size.limit: at least 1"),
        ("kafka: {max.connections.per.ip: 0}", "max.connections.per.ip: 0 is not between 1 and 2147483647"),
        ("kafka: {max.connections.per.ip.overrides: 'localhost:3'}", "is not made of ADDRESS:COUNT"),
        ("kafka: {group.min.session.timeout.ms: 1h}", "greater than group.max.session.timeout.ms"),
        ("kafka: {group.consumer.session.timeout.ms: 20s}", "which are 45000 and 60000 ms"),
        ("kafka: {group.consumer.heartbeat.interval.ms: 1s}", "which are 5000 and 15000 ms"),
        (
            "kafka: {group.consumer.assignors: 'range,sticky'}",
            "there is no assignor 'sticky' here; there are uniform, range",
        ),
        ("kafka: {group.consumer.assignors: 'range, range'}", "group.consumer.assignors: 'range' is there twice"),
        ("kafka: {group.consumer.migration.policy: sideways}", "none of disabled, upgrade, downgrade, bidirectional"),
        ("kafka: {group.coordinator.rebalance.protocols: consumer}", "classic cannot be left out"),
        ("kafka: {log.message.timestamp.type: Yesterday}", "neither CreateTime nor LogAppendTime"),
        ("kafka: {group.consumer.heartbeat.interval.ms: 1h}", "less than group.consumer.session.timeout.ms"),
        ("kafka: {replica.selector.class: org.example.Nearest}", "'org.example.Nearest' is not known"),
        ("kafka: {offset.metadata.max.bytes: 1MiB}", "offset.metadata.max.bytes: at most 32767"),
    ] {
        let error = load(&format!("{MINIMAL}{extra}\n")).unwrap_err();
        assert!(error.contains(complaint), "{error}");
    }
    let error = load(&MINIMAL.replace("broker_id: 0", "broker_id: 3")).unwrap_err();
    assert!(error.contains("broker 3 (this one) is not among them"), "{error}");
}

#[test]
fn a_broker_that_joins_names_itself_and_one_that_it_knocks_at() {
    let error = load(&format!("{MINIMAL}voters: []\n")).unwrap_err();
    assert!(error.contains("needs one of its brokers among the members"), "{error}");
    let other = "  - {id: 7, host: other, kafka_port: 9093, replication_port: 9193, controller_port: 9293}";
    let joins = load(&format!("{MINIMAL}{other}\nvoters: []\n")).unwrap();
    assert_eq!(joins.voters, []);
    assert_eq!((joins.topics.replication_factor, joins.topics.min_insync_replicas), (3, 2));
}

#[test]
fn an_advertised_host_is_for_clients_and_followers_of_this_broker_alone() {
    let second = "  - {id: 1, host: other, kafka_port: 9093, replication_port: 9193, controller_port: 9293}";
    let mut config = load(&format!("{MINIMAL}{second}\n")).unwrap();
    config.advertise("10.0.0.7");
    assert_eq!((&*config.me().kafka.host, config.me().kafka.port), ("10.0.0.7", 9092));
    assert_eq!((&*config.me().replication.host, &*config.me().controller.host), ("10.0.0.7", "localhost"));
    assert_eq!(&*config.members[1].kafka.host, "other");
}

#[test]
fn a_rack_is_the_files_or_the_command_lines_and_an_empty_one_is_none() {
    let mut config = load(&format!("{MINIMAL}kafka: {{broker.rack: eu-1a}}\n")).unwrap();
    assert_eq!(config.rack.as_deref(), Some("eu-1a"));
    config.set_rack("eu-1b").unwrap();
    assert_eq!(config.rack.as_deref(), Some("eu-1b"));
    config.set_rack("").unwrap();
    assert_eq!(config.rack, None);
    assert!(config.set_rack(&"x".repeat(256)).is_err());
    config.set_lasting_hosts("broker-{id}.shop").unwrap();
    assert_eq!(config.lasting_hosts.as_deref(), Some("broker-{id}.shop"));
    assert!(config.set_lasting_hosts("broker.shop").is_err(), "no two brokers have one host");
    config.set_lasting_hosts("").unwrap();
    assert_eq!(config.lasting_hosts, None);
}

#[test]
fn a_pod_takes_its_number_from_its_name() {
    let file = || ServeFile::parse(&MINIMAL.replace("broker_id: 0", "broker_id: hostname")).unwrap();
    assert_eq!(Config::check(file(), || Some("demo-0".into())).unwrap().id, BrokerId(0));
    let error = Config::check(file(), || Some("laptop".into())).unwrap_err().to_string();
    assert!(error.contains("ends in -N"), "{error}");
}
