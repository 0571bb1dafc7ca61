package courant.acceptance;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.SortedMap;
import java.util.SortedSet;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * A member of a consumer group that says what happens to it and does what it is told.
 *
 * <p>The library calls the listener on the thread that polls, so nothing here needs a lock.
 */
final class Member implements ConsumerRebalanceListener {
    private static final Duration POLL = Duration.ofMillis(100);

    private final String topic;
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final SortedSet<Integer> held = new TreeSet<>();
    /** The offset behind the last record handed out, by partition. */
    private final SortedMap<Integer, Long> handedOut = new TreeMap<>();

    Member(Arguments arguments) {
        topic = arguments.topic();
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        consumer = new KafkaConsumer<>(settings(arguments), bytes, bytes);
        consumer.subscribe(List.of(topic), this);
    }

    private static Map<String, Object> settings(Arguments arguments) {
        Map<String, Object> settings = arguments.settings();
        settings.put("group.id", arguments.third());
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", false);
        if (arguments.option("instance") != null) {
            settings.put("group.instance.id", arguments.option("instance"));
        }
        if (arguments.option("session-ms") != null) {
            int session = Integer.parseInt(arguments.option("session-ms"));
            settings.put("session.timeout.ms", session);
            // The library wants it to be shorter than the session.
            settings.put("heartbeat.interval.ms", session / 3);
        }
        if (arguments.option("recovery") != null) {
            settings.put("metadata.recovery.strategy", arguments.option("recovery"));
        }
        return settings;
    }

    void run() {
        BlockingQueue<String[]> said = Lines.commands();
        while (true) {
            String[] words = said.poll();
            if (words == null) {
                consumer.poll(POLL).forEach(this::handOut);
            } else if (obey(words)) {
                consumer.close();
                Lines.emit("stopped", new JsonPrimitive(true));
                return;
            }
        }
    }

    /** Does what the test says; true when that was to stop. */
    private boolean obey(String[] words) {
        switch (words[0]) {
            case "commit" -> commit(held);
            case "pause" -> {
                consumer.pause(consumer.assignment());
                Lines.emit("paused", Lines.numbers(held));
            }
            case "resume" -> {
                consumer.resume(consumer.assignment());
                Lines.emit("resumed", Lines.numbers(held));
            }
            case "seek" -> seek(Integer.parseInt(words[1]), Long.parseLong(words[2]));
            case "die" -> Runtime.getRuntime().halt(0);
            case "stop" -> {
                commit(held);
                return true;
            }
            default -> throw new IllegalArgumentException("no such command: " + words[0]);
        }
        return false;
    }

    private void seek(int partition, long offset) {
        consumer.seek(new TopicPartition(topic, partition), offset);
        handedOut.remove(partition);
        JsonArray place = new JsonArray();
        place.add(partition);
        place.add(offset);
        Lines.emit("sought", place);
    }

    private void handOut(ConsumerRecord<byte[], byte[]> record) {
        handedOut.put(record.partition(), record.offset() + 1);
        Lines.emit(record);
    }

    /** Commits what was handed out of these partitions. */
    private void commit(Collection<Integer> partitions) {
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        JsonObject committed = new JsonObject();
        handedOut.forEach(
                (partition, offset) -> {
                    if (partitions.contains(partition)) {
                        offsets.put(new TopicPartition(topic, partition), new OffsetAndMetadata(offset));
                        committed.addProperty(partition.toString(), offset);
                    }
                });
        if (!offsets.isEmpty()) {
            consumer.commitSync(offsets);
        }
        Lines.emit("committed", committed);
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> assigned) {
        held.addAll(numbers(assigned));
        Lines.emit("assigned", Lines.numbers(held));
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> revoked) {
        commit(numbers(revoked));
        giveUp(numbers(revoked));
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> lost) {
        // They are somebody else's by now: it is too late to commit.
        giveUp(numbers(lost));
    }

    private void giveUp(SortedSet<Integer> partitions) {
        handedOut.keySet().removeAll(partitions);
        held.removeAll(partitions);
        Lines.emit("revoked", Lines.numbers(partitions));
        if (held.isEmpty()) {
            Lines.emit("assigned", Lines.numbers(held));
        }
    }

    private static SortedSet<Integer> numbers(Collection<TopicPartition> partitions) {
        SortedSet<Integer> numbers = new TreeSet<>();
        partitions.forEach(partition -> numbers.add(partition.partition()));
        return numbers;
    }
}
