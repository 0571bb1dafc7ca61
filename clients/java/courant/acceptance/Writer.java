package courant.acceptance;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.BufferedReader;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Writes records and reports what became of each. */
final class Writer {
    private Writer() {}

    static void produce(Arguments arguments) throws IOException {
        Map<String, Object> settings = arguments.settings();
        if (arguments.option("codec") != null) {
            settings.put("compression.type", arguments.option("codec"));
        }
        if (arguments.option("max-bytes") != null) {
            settings.put("max.request.size", Integer.valueOf(arguments.option("max-bytes")));
        }
        ByteArraySerializer bytes = new ByteArraySerializer();
        List<CompletableFuture<JsonObject>> reports = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings, bytes, bytes)) {
            BufferedReader input = Lines.input();
            for (JsonObject line = Lines.next(input); line != null; line = Lines.next(input)) {
                reports.add(send(producer, record(arguments.topic(), line)));
            }
            producer.flush();
        }
        reports.forEach(report -> Lines.emit(report.join()));
    }

    /** Some errors are thrown, and others are told to the callback: here all are reports. */
    private static CompletableFuture<JsonObject> send(
            KafkaProducer<byte[], byte[]> producer, ProducerRecord<byte[], byte[]> record) {
        CompletableFuture<JsonObject> told = new CompletableFuture<>();
        try {
            producer.send(record, (where, refused) -> told.complete(report(where, refused)));
        } catch (KafkaException refused) {
            told.complete(report(null, refused));
        }
        return told;
    }

    private static JsonObject report(RecordMetadata where, Exception refused) {
        JsonObject line = new JsonObject();
        line.addProperty("p", refused == null ? where.partition() : -1);
        line.addProperty("o", refused == null ? where.offset() : -1);
        line.addProperty("e", refused == null ? null : refused.getClass().getSimpleName());
        return line;
    }

    private static ProducerRecord<byte[], byte[]> record(String topic, JsonObject line) {
        JsonElement at = line.get("t");
        Long timestamp = at == null || at.isJsonNull() ? null : at.getAsLong();
        byte[] key = Lines.bytes(line.get("k"));
        byte[] value = Lines.bytes(line.get("v"));
        ProducerRecord<byte[], byte[]> record =
                new ProducerRecord<>(topic, null, timestamp, key, value);
        for (JsonElement header : line.getAsJsonArray("h")) {
            JsonElement name = header.getAsJsonArray().get(0);
            record.headers().add(name.getAsString(), Lines.bytes(header.getAsJsonArray().get(1)));
        }
        return record;
    }
}
