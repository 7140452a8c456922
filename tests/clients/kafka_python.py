"""kafka-python against a running cluster. Usage: kafka_python.py BOOTSTRAP."""

import sys

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError

import recreated
from checks import ACKS, COMPRESSIONS, HEADERS, LARGE, PATIENCE_S, check, end, same, until

BOOTSTRAP = sys.argv[1].split(",")


def create(topic, partitions=1):
    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    admin.create_topics([NewTopic(topic, num_partitions=partitions, replication_factor=3)])
    admin.close()
    return topic


def write(topic, records, **settings):
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, **settings)
    futures = [producer.send(topic, **{"partition": 0, **record}) for record in records]
    producer.flush()
    metadata = [future.get(timeout=PATIENCE_S) for future in futures]
    producer.close()
    return metadata


def consumer(**settings):
    return KafkaConsumer(bootstrap_servers=BOOTSTRAP, **settings)


def read(topic, count, **settings):
    reader = consumer(**settings)
    partition = TopicPartition(topic, 0)
    reader.assign([partition])
    reader.seek_to_beginning(partition)
    found = []

    def more():
        for batch in reader.poll(timeout_ms=500).values():
            found.extend(batch)
        return found if len(found) >= count else None

    until(f"{count} records in {topic}", more)
    # And none behind them: whoever stops reading at the last one sees no duplicate.
    same(reader.end_offsets([partition])[partition], count)
    reader.close()
    return found


def compression(kind):
    topic = create(f"kp-compression-{kind}")
    values = [f"value {n} ".encode() * 20 for n in range(200)]
    settings = {} if kind == "none" else {"compression_type": kind}
    write(topic, [{"value": value} for value in values], linger_ms=20, **settings)
    same([record.value for record in read(topic, 200)], values)


def acks(level):
    topic = create(f"kp-acks-{level}")
    settings = {"acks": level} if level == "all" else {"acks": level, "enable_idempotence": False}
    write(topic, [{"value": b"%d" % n} for n in range(100)], **settings)
    same([record.value for record in read(topic, 100)], [b"%d" % n for n in range(100)])


def keys_and_headers():
    topic = create("kp-headers")
    write(topic, [{"key": b"k", "value": b"v", "headers": HEADERS}, {"key": b"gone", "value": None}, {"value": b""}])
    first, tombstone, empty = read(topic, 3)
    same((first.key, first.value, list(first.headers)), (b"k", b"v", HEADERS))
    same((tombstone.key, tombstone.value), (b"gone", None))
    same((empty.key, empty.value), (None, b""))


def large():
    topic = create("kp-large")
    write(topic, [{"value": LARGE}] * 3)
    same([record.value == LARGE for record in read(topic, 3)], [True] * 3)
    # A fetch must bring one record even when it is larger than the client asked for.
    same(len(read(topic, 3, max_partition_fetch_bytes=1000, fetch_max_bytes=1000)), 3)


def timestamps():
    topic = create("kp-timestamps")
    base = 1_700_000_000_000
    for n in range(5):
        write(topic, [{"value": b"%d" % n, "timestamp_ms": base + n * 1000}])
    reader, partition = consumer(), TopicPartition(topic, 0)
    at = lambda timestamp: reader.offsets_for_times({partition: timestamp})[partition]
    same((at(base).offset, at(base + 2500).offset, at(base + 2500).timestamp), (0, 3, base + 3000))
    same(at(base + 60_000), None)
    same(reader.beginning_offsets([partition])[partition], 0)
    same(reader.end_offsets([partition])[partition], 5)


def idempotence():
    topic = create("kp-idempotent")
    offsets = [m.offset for m in write(topic, [{"value": b"%d" % n} for n in range(1000)], enable_idempotence=True)]
    same(offsets, list(range(1000)))
    same([record.value for record in read(topic, 1000)], [b"%d" % n for n in range(1000)])


def empty():
    topic = create("kp-empty", partitions=3)
    reader = consumer()
    partitions = [TopicPartition(topic, n) for n in range(3)]
    reader.assign(partitions)
    reader.seek_to_beginning(*partitions)
    same(reader.poll(timeout_ms=500), {})
    same(set(reader.end_offsets(partitions).values()), {0})


def from_the_end():
    topic = create("kp-end")
    reader, partition = consumer(), TopicPartition(topic, 0)
    write(topic, [{"value": b"before"}])
    reader.assign([partition])
    reader.seek_to_end(partition)
    same(reader.position(partition), 1)
    write(topic, [{"value": b"after"}])
    batches = until("a record", lambda: reader.poll(timeout_ms=500) or None)
    same([record.value for record in batches[partition]], [b"after"])


def auto_created():
    write("kp-auto-created", [{"value": b"made by writing"}])
    same([record.value for record in read("kp-auto-created", 1)], [b"made by writing"])


def unknown_topic():
    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    described = admin.describe_topics(["kp-nobody-made-it"])
    same([topic["error_code"] for topic in described], [UnknownTopicOrPartitionError.errno])
    same("kp-nobody-made-it" in admin.list_topics(), False)
    try:
        admin.delete_topics(["kp-nobody-made-it"])
        raise AssertionError("an unknown topic was deleted")
    except UnknownTopicOrPartitionError:
        pass


def admin_calls():
    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    create("kp-admin", partitions=4)
    try:
        create("kp-admin")
        raise AssertionError("a topic was created twice")
    except TopicAlreadyExistsError:
        pass
    (described,) = admin.describe_topics(["kp-admin"])
    same([len(p["replica_nodes"]) for p in described["partitions"]], [3] * 4)
    same(len(admin.describe_cluster()["brokers"]), 3)
    topic = ConfigResource(ConfigResourceType.TOPIC, "kp-admin")
    configs = str(admin.describe_configs([topic], config_filter="all"))
    same("retention.ms" in configs, True)
    admin.delete_topics(["kp-admin"])
    until("end of kp-admin", lambda: True if "kp-admin" not in admin.list_topics() else None)
    create("kp-admin")
    write("kp-admin", [{"value": b"a new topic of the same name"}])
    same(len(read("kp-admin", 1)), 1)


def made_again():
    topic = create("kp-recreated")
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, enable_idempotence=True)

    def remake():
        admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
        admin.delete_topics([topic])
        admin.close()
        try:
            create(topic)
        except TopicAlreadyExistsError:
            pass  # The producer has asked for it, which creates it too.

    def log_end():
        producer.flush(timeout=PATIENCE_S)
        partition = TopicPartition(topic, 0)
        asker = consumer()
        offset = asker.end_offsets([partition])[partition]
        asker.close()
        return offset

    write_one = lambda value: producer.send(topic, value, partition=0).get(timeout=recreated.WRITE_S).offset
    recreated.goes_on(write_one, remake, log_end, lambda count: [record.value for record in read(topic, count)])
    producer.close()


for kind in COMPRESSIONS:
    check(f"compression {kind}", lambda: compression(kind))
for level in ACKS:
    check(f"acks={level}", lambda: acks(level))
check("keys, headers, tombstones", keys_and_headers)
check("900 KB records", large)
check("offsets by timestamp", timestamps)
check("idempotent producer", idempotence)
check("an empty topic", empty)
check("reading from the end", from_the_end)
check("a topic made by writing to it", auto_created)
check("an unknown topic", unknown_topic)
check("create, describe, delete, create again", admin_calls)
check("a topic is made again under an idempotent producer", made_again)
end()
