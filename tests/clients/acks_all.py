"""Writes one record with acks=all as soon as the cluster takes it, with kafka-python's default settings.

Usage: acks_all.py BOOTSTRAP TOPIC. Says `ready` once it is loaded, begins when it is given a line, and says
`acknowledged OFFSET` at the first acknowledgement and `error …` for whatever made it try again.
"""

import sys

from kafka import KafkaProducer
from kafka.errors import KafkaError


def say(*words):
    print(*words, flush=True)


def patiently(attempt):
    """What an application does around a call that may fail while a cluster comes up: the same again."""
    while True:
        try:
            return attempt()
        except KafkaError as error:
            say("error", repr(error))


def main():
    bootstrap, topic = sys.argv[1].split(","), sys.argv[2]
    say("ready")
    sys.stdin.readline()
    producer = patiently(lambda: KafkaProducer(bootstrap_servers=bootstrap, acks="all"))
    written = patiently(lambda: producer.send(topic, b"the first write").get(timeout=60))
    say("acknowledged", written.offset)
    sys.stdin.readline()


main()
