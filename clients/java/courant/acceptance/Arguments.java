package courant.acceptance;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** What the program was asked to do: a command, its words in order, and options with a value each. */
record Arguments(String command, List<String> words, Map<String, String> options) {
    static Arguments of(String[] arguments) {
        List<String> words = new ArrayList<>();
        Map<String, String> options = new HashMap<>();
        for (int at = 0; at < arguments.length; at++) {
            if (arguments[at].startsWith("--")) {
                options.put(arguments[at].substring(2), arguments[++at]);
            } else {
                words.add(arguments[at]);
            }
        }
        return new Arguments(words.remove(0), words, options);
    }

    String server() {
        return words.get(0);
    }

    String topic() {
        return words.get(1);
    }

    /** The word behind the topic: a number of partitions, or a group. */
    String third() {
        return words.get(2);
    }

    /** The value of an option, or null. */
    String option(String name) {
        return options.get(name);
    }

    /** The least that every client has to be told. */
    Map<String, Object> settings() {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", server());
        return settings;
    }
}
