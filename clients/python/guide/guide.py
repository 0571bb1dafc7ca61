"""Places three orders, then bills them: guide.py [SERVER]."""

import sys

from confluent_kafka import Consumer, Producer

TOPIC = "orders.placed"
ORDERS = ["espresso", "flat white", "filter"]


def place(server):
    producer = Producer({"bootstrap.servers": server})
    for order in ORDERS:
        producer.produce(TOPIC, order, key="customer-1", on_delivery=placed)
    producer.flush()


def placed(error, event):
    if error:
        sys.exit(f"not placed: {error}")
    # Acknowledged means that it is on disk.
    print(f"placed at {event.partition()}/{event.offset()}")


def bill(server):
    consumer = Consumer(
        {
            "bootstrap.servers": server,
            "group.id": "billing",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([TOPIC])
    billed = 0
    while billed < len(ORDERS):
        event = consumer.poll(1.0)
        if event is None:
            continue
        if event.error():
            sys.exit(f"not billed: {event.error()}")
        print(f"billed {event.key().decode()}: {event.value().decode()}")
        billed += 1
        # Only what has been dealt with is committed: a crash repeats, and skips nothing.
        consumer.commit(event, asynchronous=False)
    consumer.close()


if __name__ == "__main__":
    server = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092"
    place(server)
    bill(server)
