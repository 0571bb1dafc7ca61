"""Drives a server with confluent-kafka, as a Python service would.

    client.py produce SERVER TOPIC [--set KEY=VALUE ...] < records.jsonl > reports.jsonl
    client.py consume SERVER TOPIC PARTITIONS [--at MILLISECONDS]        > records.jsonl

One JSON object per line. A record is {"k": key, "v": value, "h": [[name, value], ...], "t": ms};
keys and values are hexadecimal, null is null, and a record without "t" gets the client's own time.
A consumed record also carries "p" (partition) and "o" (offset); a report is {"p", "o", "e"}, where
"e" is the name of the client's error or null. Nothing is configured but what --set says: the tests
are about the defaults.
"""

import argparse
import json
import sys
import time

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    OFFSET_BEGINNING,
    Producer,
    TopicPartition,
)

DEADLINE_S = 120

# Assigned partitions have no use for a coordinator.
NO_COORDINATOR = (KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR)


def to_bytes(text):
    return None if text is None else bytes.fromhex(text)


def to_hex(data):
    if data is None:
        return None
    return (data.encode() if isinstance(data, str) else data).hex()


def produce(args):
    config = {"bootstrap.servers": args.server}
    for setting in args.set:
        name, _, value = setting.partition("=")
        config[name] = value
    producer = Producer(config)
    reports = {}

    def reporter(index):
        def report(error, message):
            if error is not None:
                reports[index] = {"p": -1, "o": -1, "e": error.name()}
            else:
                reports[index] = {"p": message.partition(), "o": message.offset(), "e": None}

        return report

    count = 0
    for line in sys.stdin:
        record = json.loads(line)
        fields = {
            "key": to_bytes(record["k"]),
            "value": to_bytes(record["v"]),
            "headers": [(name, to_bytes(value)) for name, value in record["h"]],
            "on_delivery": reporter(count),
        }
        if record.get("t") is not None:
            fields["timestamp"] = record["t"]
        while True:
            try:
                producer.produce(args.topic, **fields)
                break
            except BufferError:
                producer.poll(0.1)
            except KafkaException as refused:
                reports[count] = {"p": -1, "o": -1, "e": refused.args[0].name()}
                break
        producer.poll(0)
        count += 1
    left = producer.flush(DEADLINE_S)
    if left:
        sys.exit(f"{left} records were not delivered within {DEADLINE_S} s")
    for index in range(count):
        print(json.dumps(reports[index]))


def consume(args):
    consumer = Consumer(
        {
            "bootstrap.servers": args.server,
            # The library wants a group even where assign() makes none.
            "group.id": "assigned-by-hand",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    start = OFFSET_BEGINNING if args.at is None else args.at
    wanted = [TopicPartition(args.topic, p, start) for p in range(args.partitions)]
    if args.at is not None:
        wanted = consumer.offsets_for_times(wanted, timeout=DEADLINE_S)
    consumer.assign(wanted)
    open_partitions = set(range(args.partitions))
    deadline = time.monotonic() + DEADLINE_S
    while open_partitions:
        if time.monotonic() > deadline:
            sys.exit(f"no end of partitions {sorted(open_partitions)} within {DEADLINE_S} s")
        message = consumer.poll(1.0)
        if message is None:
            continue
        error = message.error()
        if error is None:
            show(message)
        elif error.code() == KafkaError._PARTITION_EOF:
            open_partitions.discard(message.partition())
        elif error.fatal() or not (error.code() < 0 or error.code() in NO_COORDINATOR):
            sys.exit(f"consuming failed: {error}")
    consumer.close()


def show(message):
    headers = [[name, to_hex(value)] for name, value in message.headers() or []]
    record = {
        "p": message.partition(),
        "o": message.offset(),
        "t": message.timestamp()[1],
        "k": to_hex(message.key()),
        "v": to_hex(message.value()),
        "h": headers,
    }
    print(json.dumps(record))


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("produce")
    command.add_argument("server")
    command.add_argument("topic")
    command.add_argument("--set", action="append", default=[])
    command = commands.add_parser("consume")
    command.add_argument("server")
    command.add_argument("topic")
    command.add_argument("partitions", type=int)
    command.add_argument("--at", type=int)
    args = parser.parse_args()
    produce(args) if args.command == "produce" else consume(args)


if __name__ == "__main__":
    main()
