"""Groups of confluent-kafka (librdkafka) against a running cluster. Usage: groups_confluent.py BOOTSTRAP."""

import sys
import time

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from checks import check, end, same, until

BOOTSTRAP = sys.argv[1]
PARTITIONS = 6
RECORDS = 60


def create(topic):
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    admin.create_topics([NewTopic(topic, PARTITIONS, 3)])[topic].result()
    producer = Producer({"bootstrap.servers": BOOTSTRAP})
    for n in range(RECORDS):
        producer.produce(topic, b"%d" % n, partition=n % PARTITIONS)
    producer.flush()
    return topic


def member(topic, group, **settings):
    named = {name.replace("_", "."): value for name, value in settings.items()}
    consumer = Consumer(
        {
            "bootstrap.servers": BOOTSTRAP,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            **named,
        }
    )
    consumer.subscribe([topic])
    return consumer


def read(consumer, count):
    found = []

    def more():
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            found.append(message)
        return found if len(found) >= count else None

    until(f"{count} records", more)
    return found


def consumes_and_commits():
    topic = create("groups-rd-commit")
    first = member(topic, "rd-commit")
    same(len(read(first, RECORDS)), RECORDS)
    first.commit(asynchronous=False)
    first.close()
    second = member(topic, "rd-commit")
    until("an assignment", lambda: (second.poll(0.1), second.assignment())[1] or None)
    found = {p.partition: p.offset for p in second.committed(second.assignment(), timeout=10)}
    same(found, {p: RECORDS // PARTITIONS for p in range(PARTITIONS)})
    second.close()


def shares_partitions(strategy):
    topic = create(f"groups-rd-{strategy}")
    members = [member(topic, f"rd-{strategy}", partition_assignment_strategy=strategy) for _ in range(3)]

    def owned(of):
        for consumer in of:
            consumer.poll(0.1)
        shares = [sorted(p.partition for p in consumer.assignment()) for consumer in of]
        return shares if sorted(sum(shares, [])) == list(range(PARTITIONS)) and all(shares) else None

    same([len(share) for share in until("a share each", lambda: owned(members))], [2, 2, 2])
    started = time.monotonic()
    members.pop().close()
    took = time.monotonic() - started
    same([len(share) for share in until("the share of who has left", lambda: owned(members))], [3, 3])
    for consumer in members:
        consumer.close()
    if took > 5:
        raise AssertionError(f"closing a consumer took {took:.1f} s")


def migrates():
    """A group of classic members takes in one of the consumer protocol, which leaves again."""
    topic = create("groups-rd-migrates")
    classic = [
        member(topic, "rd-migrates", partition_assignment_strategy="cooperative-sticky", session_timeout_ms=10000)
        for _ in range(2)
    ]

    def shared(of):
        for consumer in of:
            consumer.poll(0.1)
        shares = [{p.partition for p in consumer.assignment()} for consumer in of]
        if any(a & b for n, a in enumerate(shares) for b in shares[:n]):
            raise AssertionError(f"two own a partition: {shares}")
        return shares if set.union(*shares) == set(range(PARTITIONS)) and all(shares) else None

    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})

    def is_of(kind):
        listed = admin.list_consumer_groups(request_timeout=10).result().valid
        return next((g.type.name for g in listed if g.group_id == "rd-migrates"), None) == kind or None

    until("a share each", lambda: shared(classic))
    same(is_of("CLASSIC"), True)
    joins = member(topic, "rd-migrates", group_protocol="consumer")
    until("a share for all three", lambda: shared([*classic, joins]))
    same(is_of("CONSUMER"), True)
    joins.close()
    until("the share of who has left", lambda: shared(classic))
    until("a classic group", lambda: is_of("CLASSIC"))
    for consumer in classic:
        consumer.close()


def tools():
    topic = create("groups-rd-tools")
    consumer = member(topic, "rd-tools")
    read(consumer, RECORDS)
    consumer.commit(asynchronous=False)
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    listed = admin.list_consumer_groups(request_timeout=10).result()
    same("rd-tools" in [group.group_id for group in listed.valid], True)
    described = admin.describe_consumer_groups(["rd-tools"], request_timeout=10)["rd-tools"].result()
    same((described.state.name, len(described.members)), ("STABLE", 1))
    consumer.close()
    until("the group to be deleted", lambda: deleted(admin, "rd-tools"))


def deleted(admin, group):
    try:
        admin.delete_consumer_groups([group], request_timeout=10)[group].result()
    except Exception:  # noqa: BLE001: it is not empty yet
        return None
    return True


check("a group consumes, commits and goes on where it was", consumes_and_commits)
check("three members share a topic eagerly", lambda: shares_partitions("range"))
check("three members share a topic cooperatively", lambda: shares_partitions("cooperative-sticky"))
check("a classic group takes in a member of the consumer protocol and goes back when it leaves", migrates)
check("a group is listed, described and deleted", tools)
end()
