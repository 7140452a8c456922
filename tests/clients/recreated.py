"""A topic that is deleted and made again under an idempotent producer, which writes all the time."""

import itertools
import threading
import time

from checks import same, until

# So many records are acknowledged before: an offset below says that the second log has begun. So many are enough after.
BEFORE, AFTER = 200, 50
# A client may wait for its metadata; one that has stopped for good is what this is about.
GOES_ON_S = 15
# So long a record is waited for.
WRITE_S = 15
PAUSE_S = 0.01


class Writer:
    """Writes numbers, one at a time, until it is told to end, and notes the offsets at which they were acknowledged."""

    def __init__(self, write):
        self.write = write
        self.acknowledged = []
        self.error = None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        number = 0
        while not self.ended.is_set():
            try:
                self.acknowledged.append((b"%d" % number, self.write(b"%d" % number)))
            except Exception as error:  # noqa: BLE001: while there is no topic, each client fails in a way of its own
                self.error = error
                time.sleep(PAUSE_S)
            number += 1

    def end(self):
        self.ended.set()
        self.thread.join()

    def since(self, count):
        """What was acknowledged in the second topic, after so many acknowledgements: all from its first record on."""
        return list(itertools.dropwhile(lambda record: record[1] >= BEFORE, self.acknowledged[count:]))


def goes_on(write, remake, end, read):
    """`write` writes a record and returns its offset, `remake` deletes the topic and creates it again, `end` returns the
    log's end when nothing is on its way any more, and `read` returns so many values from its start and fails if there are
    more."""
    writer = Writer(write)

    def begun():
        time.sleep(PAUSE_S)  # The writer needs the interpreter.
        return True if len(writer.acknowledged) > BEFORE else None

    until("records in the first topic", begun)
    # One that was late is in the log, though it was not waited for.
    offsets = [offset for _, offset in writer.acknowledged[:BEFORE]]
    same(offsets, sorted(set(offsets)))
    before = len(writer.acknowledged)
    remake()
    begin = time.monotonic()

    def enough():
        taken = writer.since(before)
        if len(taken) >= AFTER:
            return True
        if time.monotonic() - begin > GOES_ON_S:
            raise TimeoutError(f"{len(taken)} records after {GOES_ON_S} s; the last error: {writer.error!r}")
        time.sleep(PAUSE_S)
        return None

    until("records in the second topic", enough)
    writer.end()
    taken = writer.since(before)
    # Behind the last acknowledged record there may be some that nobody waited for.
    found = read(max(end(), taken[-1][1] + 1))
    same([(found[offset], offset) for _, offset in taken], taken)
    same(len(set(found)), len(found))
