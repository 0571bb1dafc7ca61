"""Drives a server with kafka-python; `lines.py` says what is spoken."""

import sys
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.structs import OffsetAndMetadata

import lines


def create(args):
    admin = KafkaAdminClient(bootstrap_servers=args.server)
    admin.create_topics([NewTopic(args.topic, args.partitions, 1)])
    admin.close()
    lines.emit({"created": args.topic})


def produce(args):
    config = {"bootstrap_servers": args.server}
    if args.codec and args.codec != "none":
        config["compression_type"] = args.codec
    if args.max_bytes:
        config["max_request_size"] = args.max_bytes
    producer = KafkaProducer(**config)
    sent = []
    for record in lines.records():
        headers = [(name, lines.to_bytes(value)) for name, value in record["h"]]
        key, value = lines.to_bytes(record["k"]), lines.to_bytes(record["v"])
        try:
            sent.append(producer.send(args.topic, value, key, headers, timestamp_ms=record.get("t")))
        except Exception as refused:
            sent.append(refused)
    producer.flush(lines.DEADLINE_S)
    for future in sent:
        try:
            if isinstance(future, Exception):
                raise future
            where = future.get(lines.DEADLINE_S)
            lines.emit({"p": where.partition, "o": where.offset, "e": None})
        except Exception as refused:
            lines.emit({"p": -1, "o": -1, "e": type(refused).__name__})
    producer.close()


def consume(args):
    consumer = KafkaConsumer(bootstrap_servers=args.server, enable_auto_commit=False)
    partitions = [TopicPartition(args.topic, p) for p in range(args.partitions)]
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    if args.at is None:
        consumer.seek_to_beginning(*partitions)
    else:
        found = consumer.offsets_for_times({p: args.at for p in partitions})
        for partition in partitions:
            at = found[partition]
            consumer.seek(partition, ends[partition] if at is None else at.offset)
    deadline = time.monotonic() + lines.DEADLINE_S
    while any(consumer.position(p) < ends[p] for p in partitions):
        if time.monotonic() > deadline:
            sys.exit(f"no end of {args.topic} within {lines.DEADLINE_S} s")
        for batch in consumer.poll(timeout_ms=500).values():
            for message in batch:
                lines.emit_record(*fields(message))
    consumer.close()


def fields(message):
    return (
        message.partition,
        message.offset,
        message.timestamp,
        message.key,
        message.value,
        message.headers,
    )


class Client(AsyncConsumerRebalanceListener):
    """What a member asks of the library."""

    def __init__(self, args):
        config = {"group_instance_id": args.instance} if args.instance else {}
        if args.session_ms:
            config["session_timeout_ms"] = args.session_ms
            config["heartbeat_interval_ms"] = args.session_ms // 3
        self.topic = args.topic
        self.member = lines.Member(self)
        self.consumer = KafkaConsumer(
            bootstrap_servers=args.server,
            group_id=args.group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            **config,
        )
        self.consumer.subscribe([args.topic], listener=self)
        # A member that joins before it knows the topic joins again when it does, and loses track of it
        # when a short poll ends meanwhile.
        self.consumer.partitions_for_topic(args.topic)

    async def on_partitions_revoked(self, revoked):
        revoked = [p.partition for p in revoked]
        offsets = {p: self.member.handed_out.pop(p) for p in revoked if p in self.member.handed_out}
        if offsets:
            await self.consumer.commit_async(self.places(offsets))
        if revoked:
            self.member.given_up(revoked, offsets)

    async def on_partitions_lost(self, lost):
        lines.emit({"revoked": sorted(p.partition for p in lost)})

    async def on_partitions_assigned(self, assigned):
        self.member.assigned(self.member.held | {p.partition for p in assigned})

    def partitions(self, partitions):
        return [TopicPartition(self.topic, p) for p in partitions]

    def places(self, offsets):
        return {TopicPartition(self.topic, p): OffsetAndMetadata(o, "", -1) for p, o in offsets.items()}

    def commit(self, offsets):
        self.consumer.commit(self.places(offsets))

    def pause(self, partitions):
        self.consumer.pause(*self.partitions(partitions))

    def resume(self, partitions):
        self.consumer.resume(*self.partitions(partitions))

    def seek(self, partition, offset):
        self.consumer.seek(TopicPartition(self.topic, partition), offset)

    def poll(self):
        for batch in self.consumer.poll(timeout_ms=100).values():
            for message in batch:
                self.member.record(*fields(message))

    def close(self):
        self.consumer.close(autocommit=False)


def member(args):
    client = Client(args)
    client.member.run(client.poll, client.close)


def main():
    args = lines.arguments()
    {"create": create, "produce": produce, "consume": consume, "member": member}[args.command](args)


if __name__ == "__main__":
    main()
