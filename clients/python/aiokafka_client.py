"""Drives a server with aiokafka; `lines.py` says what is spoken."""

import asyncio
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

import lines


async def create(args):
    admin = AIOKafkaAdminClient(bootstrap_servers=args.server)
    await admin.start()
    try:
        response = await admin.create_topics([NewTopic(args.topic, args.partitions, 1)])
        failed = [error for error in response.topic_errors if error[1] != 0]
        if failed:
            sys.exit(f"not created: {failed}")
    finally:
        await admin.close()
    lines.emit({"created": args.topic})


async def produce(args):
    config = {"bootstrap_servers": args.server}
    if args.codec and args.codec != "none":
        config["compression_type"] = args.codec
    if args.max_bytes:
        config["max_request_size"] = args.max_bytes
    producer = AIOKafkaProducer(**config)
    await producer.start()
    sent = []
    for record in lines.records():
        headers = [(name, lines.to_bytes(value)) for name, value in record["h"]]
        key, value = lines.to_bytes(record["k"]), lines.to_bytes(record["v"])
        try:
            at = record.get("t")
            sent.append(await producer.send(args.topic, value, key, timestamp_ms=at, headers=headers))
        except Exception as refused:
            sent.append(refused)
    await producer.flush()
    for future in sent:
        try:
            if isinstance(future, Exception):
                raise future
            where = await future
            lines.emit({"p": where.partition, "o": where.offset, "e": None})
        except Exception as refused:
            lines.emit({"p": -1, "o": -1, "e": type(refused).__name__})
    await producer.stop()


async def consume(args):
    consumer = AIOKafkaConsumer(bootstrap_servers=args.server, enable_auto_commit=False)
    await consumer.start()
    partitions = [TopicPartition(args.topic, p) for p in range(args.partitions)]
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)
    if args.at is None:
        # Not seek_to_beginning: what a new consumer has asked about the end may come after it.
        starts = await consumer.beginning_offsets(partitions)
    else:
        found = await consumer.offsets_for_times({p: args.at for p in partitions})
        starts = {p: ends[p] if found[p] is None else found[p].offset for p in partitions}
    for partition in partitions:
        consumer.seek(partition, starts[partition])
    deadline = time.monotonic() + lines.DEADLINE_S
    while any([await consumer.position(p) < ends[p] for p in partitions]):
        if time.monotonic() > deadline:
            sys.exit(f"no end of {args.topic} within {lines.DEADLINE_S} s")
        for batch in (await consumer.getmany(timeout_ms=500)).values():
            for message in batch:
                lines.emit_record(*fields(message))
    await consumer.stop()


def fields(message):
    return (
        message.partition,
        message.offset,
        message.timestamp,
        message.key,
        message.value,
        message.headers,
    )


class Client(ConsumerRebalanceListener):
    """What a member asks of the library. Its loop runs while the member polls, commits or stops."""

    def __init__(self, args, loop):
        config = {"group_instance_id": args.instance} if args.instance else {}
        if args.session_ms:
            config["session_timeout_ms"] = args.session_ms
            config["heartbeat_interval_ms"] = args.session_ms // 3
        self.loop = loop
        self.topic = args.topic
        self.member = lines.Member(self)
        self.consumer = AIOKafkaConsumer(
            bootstrap_servers=args.server,
            group_id=args.group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            **config,
        )
        self.consumer.subscribe([args.topic], listener=self)

    async def on_partitions_revoked(self, revoked):
        revoked = [p.partition for p in revoked]
        offsets = {p: self.member.handed_out.pop(p) for p in revoked if p in self.member.handed_out}
        if offsets:
            await self.consumer.commit(self.places(offsets))
        if revoked:
            self.member.given_up(revoked, offsets)

    async def on_partitions_assigned(self, assigned):
        self.member.assigned({p.partition for p in assigned})

    def places(self, offsets):
        return {TopicPartition(self.topic, p): o for p, o in offsets.items()}

    def commit(self, offsets):
        self.loop.run_until_complete(self.consumer.commit(self.places(offsets)))

    def within(self, call, *arguments):
        """Calls what is no coroutine and wants a running loop all the same."""

        async def run():
            call(*arguments)

        self.loop.run_until_complete(run())

    def pause(self, partitions):
        self.within(self.consumer.pause, *[TopicPartition(self.topic, p) for p in partitions])

    def resume(self, partitions):
        self.within(self.consumer.resume, *[TopicPartition(self.topic, p) for p in partitions])

    def seek(self, partition, offset):
        self.within(self.consumer.seek, TopicPartition(self.topic, partition), offset)

    def poll(self):
        for batch in self.loop.run_until_complete(self.consumer.getmany(timeout_ms=100)).values():
            for message in batch:
                self.member.record(*fields(message))

    def close(self):
        self.loop.run_until_complete(self.consumer.stop())


async def joined(args, loop):
    # The library wants to be made where a loop runs.
    client = Client(args, loop)
    await client.consumer.start()
    return client


def member(args):
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    client = loop.run_until_complete(joined(args, loop))
    client.member.run(client.poll, client.close)


def main():
    args = lines.arguments()
    if args.command == "member":
        member(args)
    else:
        asyncio.run({"create": create, "produce": produce, "consume": consume}[args.command](args))


if __name__ == "__main__":
    main()
