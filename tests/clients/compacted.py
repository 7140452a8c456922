"""Reads a compacted partition from its beginning to its end with kafka-python and with confluent-kafka, and prints the
last value of each key as JSON, once for each. Usage: compacted.py BOOTSTRAP TOPIC END."""

import json
import sys
import time

import confluent_kafka
from kafka import KafkaConsumer, TopicPartition

BOOTSTRAP, TOPIC, END = sys.argv[1], sys.argv[2], int(sys.argv[3])
PATIENCE_S = 60


def python():
    reader = KafkaConsumer(bootstrap_servers=BOOTSTRAP.split(","))
    partition = TopicPartition(TOPIC, 0)
    reader.assign([partition])
    reader.seek_to_beginning(partition)
    deadline = time.monotonic() + PATIENCE_S
    while reader.position(partition) < END and time.monotonic() < deadline:
        for records in reader.poll(timeout_ms=500).values():
            yield from ((record.key, record.value) for record in records)
    reader.close()


def confluent():
    reader = confluent_kafka.Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": "none"})
    reader.assign([confluent_kafka.TopicPartition(TOPIC, 0, 0)])
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        message = reader.poll(0.5)
        if message is None or message.error():
            continue
        yield message.key(), message.value()
        if message.offset() + 1 >= END:
            break
    reader.close()


for records in (python(), confluent()):
    last = {}
    for key, value in records:
        last[key.decode()] = None if value is None else value.decode()
    print(json.dumps(last, sort_keys=True))
