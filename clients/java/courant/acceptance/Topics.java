package courant.acceptance;

import com.google.gson.JsonPrimitive;
import java.util.List;
import java.util.Optional;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;

/** Creates topics. */
final class Topics {
    private Topics() {}

    static void create(Arguments arguments) throws Exception {
        int partitions = Integer.parseInt(arguments.third());
        NewTopic topic = new NewTopic(arguments.topic(), Optional.of(partitions), Optional.empty());
        try (Admin admin = Admin.create(arguments.settings())) {
            admin.createTopics(List.of(topic)).all().get();
        }
        Lines.emit("created", new JsonPrimitive(arguments.topic()));
    }
}
