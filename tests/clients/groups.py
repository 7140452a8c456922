"""Groups of kafka-python against a running cluster. Usage: groups.py BOOTSTRAP."""

import sys
import threading
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from checks import PATIENCE_S, check, end, same, until

BOOTSTRAP = sys.argv[1].split(",")
PARTITIONS = 6
RECORDS = 60


def create(topic):
    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    admin.create_topics([NewTopic(topic, num_partitions=PARTITIONS, replication_factor=3)])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP)
    for n in range(RECORDS):
        producer.send(topic, b"%d" % n, partition=n % PARTITIONS)
    producer.close()
    return topic


def member(topic, group, **settings):
    return KafkaConsumer(
        topic,
        bootstrap_servers=BOOTSTRAP,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        **settings,
    )


def read(consumer, count):
    found = []

    def more():
        for batch in consumer.poll(timeout_ms=200).values():
            found.extend(batch)
        return found if len(found) >= count else None

    until(f"{count} records", more)
    return found


def consumes_and_commits():
    topic = create("groups-commit")
    first = member(topic, "commit")
    same(len(read(first, RECORDS)), RECORDS)
    first.commit()
    first.close()
    second = member(topic, "commit")
    until("an assignment", lambda: second.assignment() if not second.poll(200) and second.assignment() else None)
    found = {p.partition: second.committed(p) for p in second.assignment()}
    same(found, {p: RECORDS // PARTITIONS for p in range(PARTITIONS)})
    same(second.poll(timeout_ms=500), {})
    second.close()


class Member(threading.Thread):
    """A member that polls all the time, as an application does."""

    def __init__(self, topic, group):
        super().__init__(daemon=True)
        self.consumer = member(topic, group)
        self.share, self.leaves, self.closing_took = [], threading.Event(), None
        self.start()

    def run(self):
        while not self.leaves.is_set():
            self.consumer.poll(timeout_ms=100)
            self.share = sorted(p.partition for p in self.consumer.assignment())
        started = time.monotonic()
        self.consumer.close()
        self.closing_took = time.monotonic() - started

    def leave(self):
        self.leaves.set()
        self.join(PATIENCE_S)


def shares_partitions():
    topic = create("groups-three")
    members = [Member(topic, "three") for _ in range(3)]

    def shared():
        time.sleep(0.05)
        shares = [member.share for member in members]
        return shares if sorted(sum(shares, [])) == list(range(PARTITIONS)) and all(shares) else None

    same([len(share) for share in until("a share each", shared)], [2, 2, 2])
    leaving = members.pop()
    leaving.leave()
    same([len(share) for share in until("the share of who has left", shared)], [3, 3])
    for remaining in members:
        remaining.leave()
    if leaving.closing_took is None or leaving.closing_took > 5:
        raise AssertionError(f"closing a consumer took {leaving.closing_took} s")


def a_static_member_comes_back():
    topic = create("groups-static")
    first = member(topic, "static", group_instance_id="one")
    same(len(read(first, RECORDS)), RECORDS)
    first.commit()
    first.close()
    second = member(topic, "static", group_instance_id="one")
    until("its assignment", lambda: (second.poll(timeout_ms=100), second.assignment())[1] or None)
    same(len(second.assignment()), PARTITIONS)
    second.close()


def tools():
    topic = create("groups-tools")
    consumer = member(topic, "tools")
    read(consumer, RECORDS)
    consumer.commit()
    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    listed = str(admin.list_groups() if hasattr(admin, "list_groups") else admin.list_consumer_groups())
    if "tools" not in listed:
        raise AssertionError(f"the group is not in {listed[:300]}")
    consumer.close()
    admin.close()


check("a group consumes, commits and goes on where it was", consumes_and_commits)
check("three members share a topic, and one that leaves does so at once", shares_partitions)
check("a static member comes back", a_static_member_comes_back)
check("the group is listed", tools)
end()
