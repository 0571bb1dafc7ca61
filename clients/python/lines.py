"""The line protocol that every acceptance client speaks.

One JSON object per line. A record is {"k": key, "v": value, "h": [[name, value], ...], "t": ms};
keys and values are hexadecimal, null is null, and a record without "t" gets the client's own time.
A consumed record also carries "p" (partition) and "o" (offset); a report is {"p", "o", "e"}, where
"e" is the name of the client's error or null.

    create  SERVER TOPIC PARTITIONS
    produce SERVER TOPIC [--codec NAME] [--max-bytes N]   < records > reports
    consume SERVER TOPIC PARTITIONS [--at MILLISECONDS]   > records
    member  SERVER TOPIC GROUP [--instance ID] [--session-ms N]

A member says what happens to it: {"assigned": [...]} with all partitions that it holds now,
{"revoked": [...]} with those that it gives up, after it has committed what it has handed out of them,
and records. It is told `commit`, `pause`, `resume`, `seek P O`, `stop` (commit, leave, end) or `die`
(end at once), one a line, and answers {"committed": {partition: offset}}, {"paused": [...]},
{"resumed": [...]}, {"sought": [P, O]}, {"stopped": true}. The end of its input is `stop`.
"""

import argparse
import json
import os
import queue
import sys
import threading
import time

DEADLINE_S = 180


def to_bytes(text):
    return None if text is None else bytes.fromhex(text)


def to_hex(data):
    if data is None:
        return None
    return (data.encode() if isinstance(data, str) else bytes(data)).hex()


def emit(line):
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def emit_record(partition, offset, timestamp, key, value, headers):
    headers = [[name, to_hex(value)] for name, value in headers or []]
    emit({"p": partition, "o": offset, "t": timestamp, "k": to_hex(key), "v": to_hex(value), "h": headers})


def unsupported(reason):
    print(f"UNSUPPORTED: {reason}", file=sys.stderr)
    sys.exit(3)


def records():
    for line in sys.stdin:
        yield json.loads(line)


def commands():
    """A queue of what the test says, filled by a thread: fetching goes on meanwhile."""
    said = queue.Queue()

    def read():
        for line in sys.stdin:
            said.put(line.split())
        said.put(["stop"])

    threading.Thread(target=read, daemon=True).start()
    return said


def arguments():
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="command", required=True)

    def verb(name, *positional):
        command = verbs.add_parser(name)
        command.add_argument("server")
        command.add_argument("topic")
        for argument, kind in positional:
            command.add_argument(argument, type=kind)
        return command

    verb("create", ("partitions", int))
    produce = verb("produce")
    produce.add_argument("--codec")
    produce.add_argument("--max-bytes", type=int)
    produce.add_argument("--set", action="append", default=[])
    consume = verb("consume", ("partitions", int))
    consume.add_argument("--at", type=int)
    consume.add_argument("--set", action="append", default=[])
    member = verb("member", ("group", str))
    member.add_argument("--instance")
    member.add_argument("--session-ms", type=int)
    return parser.parse_args()


class Member:
    """What a member knows of itself, whatever library it is made of.

    `client` commits {partition: offset}, pauses, resumes, seeks, and closes.
    """

    def __init__(self, client):
        self.client = client
        self.held = set()
        self.handed_out = {}

    def assigned(self, partitions):
        self.held = set(partitions)
        emit({"assigned": sorted(self.held)})

    def revoked(self, partitions):
        """Commits what was handed out, then says what is given up."""
        offsets = {p: self.handed_out.pop(p) for p in partitions if p in self.handed_out}
        if offsets:
            self.client.commit(offsets)
        self.given_up(partitions, offsets)

    def given_up(self, partitions, committed):
        """The library has committed what was handed out of these partitions."""
        emit({"committed": {str(p): o for p, o in sorted(committed.items())}})
        self.held -= set(partitions)
        emit({"revoked": sorted(partitions)})

    def record(self, partition, offset, timestamp, key, value, headers):
        self.handed_out[partition] = offset + 1
        emit_record(partition, offset, timestamp, key, value, headers)

    def commit(self):
        if self.handed_out:
            self.client.commit(dict(self.handed_out))
        emit({"committed": {str(p): o for p, o in sorted(self.handed_out.items())}})

    def obey(self, words):
        """Does what the test says; true when that was to stop."""
        match words:
            case ["commit"]:
                self.commit()
            case ["pause"]:
                self.client.pause(self.held)
                emit({"paused": sorted(self.held)})
            case ["resume"]:
                self.client.resume(self.held)
                emit({"resumed": sorted(self.held)})
            case ["seek", partition, offset]:
                self.client.seek(int(partition), int(offset))
                self.handed_out.pop(int(partition), None)
                emit({"sought": [int(partition), int(offset)]})
            case ["die"]:
                os._exit(0)
            case ["stop"]:
                self.commit()
                return True
            case other:
                sys.exit(f"no such command: {other}")
        return False

    def run(self, poll, close):
        said = commands()
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            try:
                if self.obey(said.get_nowait()):
                    self.handed_out.clear()
                    close()
                    emit({"stopped": True})
                    return
            except queue.Empty:
                poll()
        sys.exit(f"not stopped within {DEADLINE_S} s")
