"""Drives a server with confluent-kafka, as a Python service would; `lines.py` says what is spoken.

Nothing is configured but what the protocol asks for and `--set KEY=VALUE` says: the tests are about
the defaults.
"""

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
from confluent_kafka.admin import AdminClient, NewTopic

import lines

# Assigned partitions have no use for a coordinator.
NO_COORDINATOR = (KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR)


def create(args):
    admin = AdminClient({"bootstrap.servers": args.server})
    for created in admin.create_topics([NewTopic(args.topic, args.partitions)]).values():
        created.result(lines.DEADLINE_S)
    lines.emit({"created": args.topic})


def settings(args):
    return dict(setting.split("=", 1) for setting in args.set)


def produce(args):
    config = {"bootstrap.servers": args.server}
    if args.codec:
        config["compression.type"] = args.codec
    if args.max_bytes:
        config["message.max.bytes"] = args.max_bytes
    config.update(settings(args))
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
    for record in lines.records():
        fields = {
            "key": lines.to_bytes(record["k"]),
            "value": lines.to_bytes(record["v"]),
            "headers": [(name, lines.to_bytes(value)) for name, value in record["h"]],
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
    left = producer.flush(lines.DEADLINE_S)
    if left:
        sys.exit(f"{left} records were not delivered within {lines.DEADLINE_S} s")
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
        | settings(args)
    )
    start = OFFSET_BEGINNING if args.at is None else args.at
    wanted = [TopicPartition(args.topic, p, start) for p in range(args.partitions)]
    if args.at is not None:
        wanted = consumer.offsets_for_times(wanted, timeout=lines.DEADLINE_S)
    consumer.assign(wanted)
    open_partitions = set(range(args.partitions))
    deadline = time.monotonic() + lines.DEADLINE_S
    while open_partitions:
        if time.monotonic() > deadline:
            sys.exit(f"no end of partitions {sorted(open_partitions)} within {lines.DEADLINE_S} s")
        message = consumer.poll(1.0)
        if message is None:
            continue
        error = message.error()
        if error is None:
            lines.emit_record(*fields(message))
        elif error.code() == KafkaError._PARTITION_EOF:
            open_partitions.discard(message.partition())
        elif error.fatal() or not (error.code() < 0 or error.code() in NO_COORDINATOR):
            sys.exit(f"consuming failed: {error}")
    consumer.close()


def fields(message):
    return (
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        message.headers(),
    )


class Client:
    """What a member asks of the library."""

    def __init__(self, args):
        config = {
            "bootstrap.servers": args.server,
            "group.id": args.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
        if args.instance:
            config["group.instance.id"] = args.instance
        if args.session_ms:
            config["session.timeout.ms"] = args.session_ms
        self.topic = args.topic
        self.consumer = Consumer(config)
        self.member = lines.Member(self)
        numbers = lambda partitions: [partition.partition for partition in partitions]
        self.consumer.subscribe(
            [args.topic],
            on_assign=lambda _, partitions: self.member.assigned(numbers(partitions)),
            on_revoke=lambda _, partitions: self.member.revoked(numbers(partitions)),
            on_lost=lambda _, partitions: lines.emit({"revoked": sorted(numbers(partitions))}),
        )

    def places(self, offsets):
        return [TopicPartition(self.topic, p, o) for p, o in offsets.items()]

    def commit(self, offsets):
        self.consumer.commit(offsets=self.places(offsets), asynchronous=False)

    def pause(self, partitions):
        self.consumer.pause([TopicPartition(self.topic, p) for p in partitions])

    def resume(self, partitions):
        self.consumer.resume([TopicPartition(self.topic, p) for p in partitions])

    def seek(self, partition, offset):
        self.consumer.seek(TopicPartition(self.topic, partition, offset))

    def poll(self):
        message = self.consumer.poll(0.1)
        if message is None:
            return
        if message.error() is None:
            self.member.record(*fields(message))
        elif message.error().fatal():
            sys.exit(f"consuming failed: {message.error()}")


def member(args):
    client = Client(args)
    client.member.run(client.poll, client.consumer.close)


def main():
    args = lines.arguments()
    {"create": create, "produce": produce, "consume": consume, "member": member}[args.command](args)


if __name__ == "__main__":
    main()
