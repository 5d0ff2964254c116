"""confluent-kafka (librdkafka) from Python: idempotent producer, delivery reports, a group that resumes, offsets for times, admin."""
import os
import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

bootstrap = {"bootstrap.servers": os.environ["BOOTSTRAP"]}
topic, total = "python", 5000

admin = AdminClient(bootstrap)
admin.create_topics([NewTopic(topic, 3, 1, config={"max.message.bytes": "2000000"})])[topic].result(10)
resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
configs = admin.describe_configs([resource])[resource].result(10)
assert configs["max.message.bytes"].value == "2000000", configs["max.message.bytes"]

reported = []
producer = Producer({**bootstrap, "enable.idempotence": True, "compression.type": "zstd", "linger.ms": 5})
begin = int(time.time() * 1000)
for n in range(total):
    producer.produce(topic, key=f"k{n}", value=f"v{n}" * 10, on_delivery=lambda e, m: reported.append((e, m.partition(), m.offset())))
    producer.poll(0)
assert producer.flush(30) == 0
assert len(reported) == total and all(e is None for e, _, _ in reported)
assert len({(p, o) for _, p, o in reported}) == total, "two records at one offset"


def read(count):
    consumer = Consumer({**bootstrap, "group.id": "python-group", "auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe([topic])
    keys, deadline = set(), time.monotonic() + 60
    while len(keys) < count and time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        keys.add(message.key())
    consumer.commit(asynchronous=False)
    low = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10) for p in range(3)}
    times = consumer.offsets_for_times([TopicPartition(topic, p, begin - 60000) for p in range(3)], timeout=10)
    consumer.close()
    assert sum(high for _, high in low.values()) >= total, low
    assert all(t.offset == 0 for t in times), times
    return keys


first = read(total)
assert len(first) == total, f"only {len(first)} of {total} records came"
for n in range(total, total + 100):
    producer.produce(topic, key=f"k{n}", value="more")
assert producer.flush(30) == 0
second = read(100)
assert second == {f"k{n}".encode() for n in range(total, total + 100)}, "the group did not resume where it was"
admin.delete_topics([topic])[topic].result(10)
print(f"{total + 100} records, idempotent, the group resumed", file=sys.stdout)
