package courant.spring;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Timer;
import java.util.TimerTask;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.kafka.annotation.EnableKafka;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.config.ConcurrentKafkaListenerContainerFactory;
import org.springframework.kafka.core.ConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.listener.DeadLetterPublishingRecoverer;
import org.springframework.kafka.listener.DefaultErrorHandler;
import org.springframework.util.backoff.FixedBackOff;

/**
 * A service with Spring Kafka that takes orders: what it cannot take goes where Spring puts dead letters.
 *
 * <p>Arguments: a server, and a file whose existence heals it. Prints a line for each order that it has
 * taken, and ends with its stdin, or at its deadline.
 */
public final class Orders {
    private static final String SERVER = "courant.server";
    private static final String HEALED = "courant.healed";
    private static final long DEADLINE_MS = 180_000;

    private Orders() {}

    public static void main(String[] words) throws Exception {
        // Before the library logs anything. It logs to stderr, for whoever looks into a failure.
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "warn");
        System.setProperty(SERVER, words[0]);
        System.setProperty(HEALED, words[1]);
        new Timer(true)
                .schedule(
                        new TimerTask() {
                            @Override
                            public void run() {
                                Runtime.getRuntime().halt(1);
                            }
                        },
                        DEADLINE_MS);
        try (var context = new AnnotationConfigApplicationContext(Wiring.class)) {
            while (System.in.read() >= 0) {
                // Whatever is said there, it goes on.
            }
        }
    }

    /** What Spring Boot would set up by itself. */
    @Configuration(proxyBeanMethods = false)
    @EnableKafka
    static class Wiring {
        @Bean
        ConsumerFactory<byte[], byte[]> consumers() {
            Map<String, Object> settings =
                    Map.of("bootstrap.servers", System.getProperty(SERVER), "auto.offset.reset", "earliest");
            return new DefaultKafkaConsumerFactory<>(
                    settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        }

        @Bean
        KafkaTemplate<byte[], byte[]> template() {
            Map<String, Object> settings = Map.of("bootstrap.servers", System.getProperty(SERVER));
            return new KafkaTemplate<>(
                    new DefaultKafkaProducerFactory<>(
                            settings, new ByteArraySerializer(), new ByteArraySerializer()));
        }

        @Bean
        ConcurrentKafkaListenerContainerFactory<byte[], byte[]> kafkaListenerContainerFactory(
                ConsumerFactory<byte[], byte[]> consumers, KafkaTemplate<byte[], byte[]> template) {
            var factory = new ConcurrentKafkaListenerContainerFactory<byte[], byte[]>();
            factory.setConsumerFactory(consumers);
            // Once more, and then into the topic whose name is that of the first with -dlt behind it.
            var letters = new DeadLetterPublishingRecoverer(template);
            factory.setCommonErrorHandler(new DefaultErrorHandler(letters, new FixedBackOff(10, 1)));
            return factory;
        }

        @Bean
        Desk desk() {
            return new Desk();
        }
    }

    /** Takes orders. */
    static class Desk {
        @KafkaListener(topics = "orders", groupId = "desk")
        void take(ConsumerRecord<byte[], byte[]> order) {
            String text = new String(order.value(), StandardCharsets.UTF_8);
            if (text.startsWith("poison") && !Files.exists(Path.of(System.getProperty(HEALED)))) {
                throw new IllegalStateException(
                        "the order cannot be priced", new IllegalArgumentException("no price for " + text));
            }
            StringBuilder headers = new StringBuilder();
            for (Header header : order.headers()) {
                headers.append(' ').append(header.key());
            }
            System.out.println(
                    "took " + order.partition() + " " + order.offset() + " " + text + headers);
            System.out.flush();
        }
    }
}
