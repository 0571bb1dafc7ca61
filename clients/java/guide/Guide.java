import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Places three orders, then bills them: {@code Guide [SERVER]}. */
public class Guide {
    static final String TOPIC = "orders.placed";
    static final List<String> ORDERS = List.of("espresso", "flat white", "filter");

    public static void main(String[] arguments) throws Exception {
        String server = arguments.length > 0 ? arguments[0] : "127.0.0.1:9092";
        place(server);
        bill(server);
    }

    static void place(String server) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", server);
        StringSerializer text = new StringSerializer();
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(settings, text, text)) {
            List<Future<RecordMetadata>> sent =
                    ORDERS.stream()
                            .map(order -> new ProducerRecord<>(TOPIC, "customer-1", order))
                            .map(producer::send)
                            .toList();
            for (Future<RecordMetadata> one : sent) {
                // Acknowledged means that it is on disk.
                RecordMetadata where = one.get();
                System.out.printf("placed at %d/%d%n", where.partition(), where.offset());
            }
        }
    }

    static void bill(String server) {
        Map<String, Object> settings =
                Map.of(
                        "bootstrap.servers", server,
                        "group.id", "billing",
                        "auto.offset.reset", "earliest",
                        "enable.auto.commit", false);
        StringDeserializer text = new StringDeserializer();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(settings, text, text)) {
            consumer.subscribe(List.of(TOPIC));
            for (int billed = 0; billed < ORDERS.size(); ) {
                for (ConsumerRecord<String, String> order : consumer.poll(Duration.ofSeconds(1))) {
                    System.out.printf("billed %s: %s%n", order.key(), order.value());
                    billed++;
                }
                // Only what has been dealt with is committed: a crash repeats, and skips nothing.
                consumer.commitSync();
            }
        }
    }
}
