package courant.acceptance;

import com.google.gson.JsonPrimitive;
import java.util.List;
import java.util.Optional;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.TopicCollection;

/** Creates topics, and looks whether they are described as they were created. */
final class Topics {
    private Topics() {}

    static void create(Arguments arguments) throws Exception {
        int partitions = Integer.parseInt(arguments.third());
        NewTopic topic = new NewTopic(arguments.topic(), Optional.of(partitions), Optional.empty());
        try (Admin admin = Admin.create(arguments.settings())) {
            admin.createTopics(List.of(topic)).all().get();
            describe(admin, arguments.topic(), partitions);
        }
        Lines.emit("created", new JsonPrimitive(arguments.topic()));
    }

    /** By name and by id, which are different requests. */
    private static void describe(Admin admin, String topic, int partitions) throws Exception {
        TopicDescription named = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
        TopicCollection id = TopicCollection.ofTopicIds(List.of(named.topicId()));
        TopicDescription found = admin.describeTopics(id).allTopicIds().get().get(named.topicId());
        if (named.partitions().size() != partitions || !found.name().equals(topic)) {
            throw new IllegalStateException("described as " + named + " and as " + found);
        }
    }
}
