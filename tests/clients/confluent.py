"""confluent-kafka (librdkafka) against a running cluster. Usage: confluent.py BOOTSTRAP."""

import sys

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec

import recreated
from checks import ACKS, COMPRESSIONS, HEADERS, LARGE, PATIENCE_S, check, end, same, until

BOOTSTRAP = {"bootstrap.servers": sys.argv[1]}


def create(topic, partitions=1):
    admin = AdminClient(BOOTSTRAP)
    futures = admin.create_topics([NewTopic(topic, num_partitions=partitions, replication_factor=3)])
    futures[topic].result(timeout=PATIENCE_S)
    return topic


def write(topic, records, **settings):
    producer = Producer({**BOOTSTRAP, **{key.replace("_", "."): value for key, value in settings.items()}})
    outcomes = []
    for record in records:
        producer.produce(topic, **{"partition": 0, **record}, on_delivery=lambda *outcome: outcomes.append(outcome))
        producer.poll(0)
    same(producer.flush(PATIENCE_S), 0)
    for error, _ in outcomes:
        if error is not None:
            raise KafkaException(error)
    return [message.offset() for _, message in outcomes]


def consumer(**settings):
    extra = {key.replace("_", "."): value for key, value in settings.items()}
    return Consumer({**BOOTSTRAP, "group.id": "none", "enable.auto.commit": False, **extra})


def read(topic, count, **settings):
    reader = consumer(**settings)
    reader.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    found = []

    def more():
        message = reader.poll(0.5)
        if message is not None and message.error() is None:
            found.append(message)
        return found if len(found) >= count else None

    until(f"{count} records in {topic}", more)
    # And none behind them: whoever stops reading at the last one sees no duplicate.
    same(reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=PATIENCE_S), (0, count))
    reader.close()
    return found


def compression(kind):
    topic = create(f"cf-compression-{kind}")
    values = [f"value {n} ".encode() * 20 for n in range(200)]
    write(topic, [{"value": value} for value in values], compression_type=kind, linger_ms=20)
    same([message.value() for message in read(topic, 200)], values)


def acks(level):
    topic = create(f"cf-acks-{level}")
    write(topic, [{"value": b"%d" % n} for n in range(100)], acks=level)
    same([message.value() for message in read(topic, 100)], [b"%d" % n for n in range(100)])


def keys_and_headers():
    topic = create("cf-headers")
    write(topic, [{"key": b"k", "value": b"v", "headers": HEADERS}, {"key": b"gone", "value": None}, {"value": b""}])
    first, tombstone, empty = read(topic, 3)
    same((first.key(), first.value(), first.headers()), (b"k", b"v", HEADERS))
    same((tombstone.key(), tombstone.value()), (b"gone", None))
    same((empty.key(), empty.value()), (None, b""))


def large():
    topic = create("cf-large")
    write(topic, [{"value": LARGE}] * 3)
    same([message.value() == LARGE for message in read(topic, 3)], [True] * 3)
    same(len(read(topic, 3, fetch_message_max_bytes=1000)), 3)


def too_large():
    topic = create("cf-too-large")
    try:
        write(topic, [{"value": b"x" * 1_100_000}], message_max_bytes=2_000_000)
        raise AssertionError("a record beyond message.max.bytes was taken")
    except KafkaException as error:
        same(error.args[0].code(), KafkaError.MSG_SIZE_TOO_LARGE)


def timestamps():
    topic = create("cf-timestamps")
    base = 1_700_000_000_000
    for n in range(5):
        write(topic, [{"value": b"%d" % n, "timestamp": base + n * 1000}])
    reader = consumer()
    at = lambda timestamp: reader.offsets_for_times([TopicPartition(topic, 0, timestamp)], timeout=PATIENCE_S)[0].offset
    same((at(base), at(base + 2500), at(base + 60_000)), (0, 3, OFFSET_END))
    same(reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=PATIENCE_S), (0, 5))


def idempotence():
    topic = create("cf-idempotent")
    records = [{"value": b"%d" % n} for n in range(10_000)]
    same(write(topic, records, enable_idempotence=True), list(range(10_000)))
    same([message.value() for message in read(topic, 10_000)], [record["value"] for record in records])


def empty():
    topic = create("cf-empty")
    reader = consumer(enable_partition_eof=True)
    reader.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    message = until("end of the partition", lambda: reader.poll(0.5))
    same(message.error().code(), KafkaError._PARTITION_EOF)
    same(reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=PATIENCE_S), (0, 0))


def from_the_end():
    topic = create("cf-end")
    write(topic, [{"value": b"before"}])
    reader = consumer(enable_partition_eof=True)
    reader.assign([TopicPartition(topic, 0, OFFSET_END)])
    same(until("end of the partition", lambda: reader.poll(0.5)).error().code(), KafkaError._PARTITION_EOF)
    write(topic, [{"value": b"after"}])
    same(until("a record", lambda: reader.poll(0.5)).value(), b"after")


def beyond_the_end():
    topic = create("cf-beyond")
    write(topic, [{"value": b"only"}])
    reader = consumer(auto_offset_reset="earliest")
    reader.assign([TopicPartition(topic, 0, 100)])
    same(until("the reset to the beginning", lambda: reader.poll(0.5)).value(), b"only")


def auto_created():
    write("cf-auto-created", [{"value": b"made by writing"}])
    same([message.value() for message in read("cf-auto-created", 1)], [b"made by writing"])


def unknown_topic():
    admin = AdminClient(BOOTSTRAP)
    same("cf-nobody-made-it" in admin.list_topics(timeout=PATIENCE_S).topics, False)
    try:
        admin.delete_topics(["cf-nobody-made-it"])["cf-nobody-made-it"].result(timeout=PATIENCE_S)
        raise AssertionError("an unknown topic was deleted")
    except KafkaException as error:
        same(error.args[0].code(), KafkaError.UNKNOWN_TOPIC_OR_PART)


def admin_calls():
    admin = AdminClient(BOOTSTRAP)
    create("cf-admin", partitions=4)
    try:
        create("cf-admin")
        raise AssertionError("a topic was created twice")
    except KafkaException as error:
        same(error.args[0].code(), KafkaError.TOPIC_ALREADY_EXISTS)
    topic = admin.list_topics("cf-admin", timeout=PATIENCE_S).topics["cf-admin"]
    same([len(p.replicas) for p in topic.partitions.values()], [3] * 4)
    same(len(admin.describe_cluster().result(timeout=PATIENCE_S).nodes), 3)
    resource = ConfigResource(ConfigResource.Type.TOPIC, "cf-admin")
    configs = admin.describe_configs([resource])[resource].result(timeout=PATIENCE_S)
    same("retention.ms" in configs, True)
    partition = TopicPartition("cf-admin", 0)
    latest = admin.list_offsets({partition: OffsetSpec.latest()})[partition].result(timeout=PATIENCE_S)
    same(latest.offset, 0)
    admin.delete_topics(["cf-admin"])["cf-admin"].result(timeout=PATIENCE_S)
    gone = lambda: True if "cf-admin" not in admin.list_topics(timeout=PATIENCE_S).topics else None
    until("end of cf-admin", gone)
    create("cf-admin")
    write("cf-admin", [{"value": b"a new topic of the same name"}])
    same(len(read("cf-admin", 1)), 1)


def made_again():
    topic = create("cf-recreated")
    producer = Producer({**BOOTSTRAP, "enable.idempotence": True, "linger.ms": 0})

    def write_one(value):
        outcomes = []
        producer.produce(topic, value, partition=0, on_delivery=lambda *outcome: outcomes.append(outcome))
        producer.flush(recreated.WRITE_S)
        if not outcomes:
            raise TimeoutError(f"not acknowledged after {recreated.WRITE_S} s")
        ((error, message),) = outcomes
        if error is not None:
            raise KafkaException(error)
        return message.offset()

    def remake():
        admin = AdminClient(BOOTSTRAP)
        admin.delete_topics([topic])[topic].result(timeout=PATIENCE_S)
        try:
            create(topic)
        except KafkaException as error:
            # The producer has asked for it, which creates it too.
            same(error.args[0].code(), KafkaError.TOPIC_ALREADY_EXISTS)

    def log_end():
        producer.flush(PATIENCE_S)
        asker = consumer()
        offset = asker.get_watermark_offsets(TopicPartition(topic, 0), timeout=PATIENCE_S)[1]
        asker.close()
        return offset

    recreated.goes_on(write_one, remake, log_end, lambda count: [message.value() for message in read(topic, count)])


for kind in COMPRESSIONS:
    check(f"compression {kind}", lambda: compression(kind))
for level in ACKS:
    check(f"acks={level}", lambda: acks(level))
check("keys, headers, tombstones", keys_and_headers)
check("900 KB records", large)
check("a record beyond message.max.bytes", too_large)
check("offsets by timestamp", timestamps)
check("idempotent producer", idempotence)
check("an empty topic", empty)
check("reading from the end", from_the_end)
check("an offset beyond the end", beyond_the_end)
check("a topic made by writing to it", auto_created)
check("an unknown topic", unknown_topic)
check("create, describe, delete, create again", admin_calls)
check("a topic is made again under an idempotent producer", made_again)
end()
