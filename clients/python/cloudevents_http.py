"""CloudEvents by HTTP with the SDK of the CloudEvents project at both ends.

    cloudevents_http.py HTTP_URL BOOTSTRAP TOPIC

Publishes events that the SDK has made, in the binary, the structured and the batched mode, reads them
back as a Kafka consumer, and lets the SDK's Kafka binding take them apart. Fails unless each is what was
sent. Says how many there were.
"""

import datetime
import json
import sys
import urllib.request

from cloudevents.core.bindings import http, kafka
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

DEADLINE_S = 60
BATCH = "application/cloudevents-batch+json"
FORMAT = JSONFormat()

# No double-precision number is this one.
EXACT = 9007199254740993


def event(number, data, content_type="application/json"):
    attributes = {
        "id": f"event-{number}",
        "source": "/tests/größe",
        "specversion": "1.0",
        "type": "tests.event-made",
        "subject": 'Euro € 100% "quoted"',
        "time": datetime.datetime(2026, 1, 31, 8, 0, 0, 120000, tzinfo=datetime.timezone.utc),
        "datacontenttype": content_type,
        "partitionkey": f"key-{number % 2}",
        "correlationid": "c-1",
    }
    return CloudEvent(attributes, data)


def post(url, headers, body):
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
        return json.loads(answer.read())["events"]


def publish(url):
    sent = [event(0, {"n": EXACT}), event(1, {"n": EXACT}), event(2, [EXACT]), event(3, {"a": "ä"})]
    places = []
    binary = http.to_binary(sent[0], FORMAT)
    places += post(url, binary.headers, binary.body)
    structured = http.to_structured(sent[1], FORMAT)
    places += post(url, structured.headers, structured.body)
    batch = [http.to_structured(one, FORMAT).body for one in sent[2:]]
    places += post(url, {"Content-Type": BATCH}, b"[" + b",".join(batch) + b"]")
    text = event(4, "plain text", "text/plain")
    binary = http.to_binary(text, FORMAT)
    places += post(url, binary.headers, binary.body)
    return sent + [text], places


def consume(bootstrap, topic, places):
    config = {"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False}
    consumer = Consumer(config)
    partitions = {place["partition"] for place in places}
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
    found = {}
    while len(found) < len(places):
        message = consumer.poll(DEADLINE_S)
        if message is None or message.error():
            sys.exit(f"after {len(found)} records: {message and message.error()}")
        found[message.partition(), message.offset()] = message
    consumer.close()
    return found


def main(url, bootstrap, topic):
    sent, places = publish(f"{url}/api/v1/topics/{topic}/events")
    found = consume(bootstrap, topic, places)
    for expected, place in zip(sent, places, strict=True):
        message = found[place["partition"], place["offset"]]
        headers = dict(message.headers())
        read = kafka.from_binary(kafka.KafkaMessage(headers, message.key(), message.value()), FORMAT)
        assert place["id"] == expected.get_id(), (place, expected.get_id())
        assert read.get_attributes() == expected.get_attributes(), read.get_attributes()
        assert read.get_data() == expected.get_data(), read.get_data()
    print(json.dumps({"read": len(sent)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
