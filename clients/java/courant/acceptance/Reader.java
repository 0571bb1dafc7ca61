package courant.acceptance;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Reads partitions assigned by hand, up to where they ended when it began. */
final class Reader {
    private Reader() {}

    static void consume(Arguments arguments) {
        List<TopicPartition> partitions =
                IntStream.range(0, Integer.parseInt(arguments.third()))
                        .mapToObj(partition -> new TopicPartition(arguments.topic(), partition))
                        .toList();
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(arguments.settings(), bytes, bytes)) {
            consumer.assign(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            if (arguments.option("at") == null) {
                consumer.seekToBeginning(partitions);
            } else {
                seekToTime(consumer, Long.parseLong(arguments.option("at")), ends);
            }
            while (partitions.stream().anyMatch(one -> consumer.position(one) < ends.get(one))) {
                consumer.poll(Duration.ofMillis(500)).forEach(Lines::emit);
            }
        }
    }

    private static void seekToTime(
            KafkaConsumer<byte[], byte[]> consumer, long at, Map<TopicPartition, Long> ends) {
        Map<TopicPartition, Long> times =
                ends.keySet().stream().collect(Collectors.toMap(one -> one, one -> at));
        Map<TopicPartition, OffsetAndTimestamp> found = consumer.offsetsForTimes(times);
        ends.forEach(
                (partition, end) -> {
                    OffsetAndTimestamp first = found.get(partition);
                    consumer.seek(partition, first == null ? end : first.offset());
                });
    }
}
