package courant.acceptance;

/** Drives a server with Kafka's own Java client; {@code clients/python/lines.py} says what is spoken. */
public final class Main {
    private Main() {}

    public static void main(String[] words) throws Exception {
        // Before the library logs anything. It logs to stderr, for whoever looks into a failure.
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "warn");
        Lines.endAtTheDeadline();
        Arguments arguments = Arguments.of(words);
        switch (arguments.command()) {
            case "create" -> Topics.create(arguments);
            case "produce" -> Writer.produce(arguments);
            case "consume" -> Reader.consume(arguments);
            case "member" -> new Member(arguments).run();
            default -> throw new IllegalArgumentException("no such command: " + arguments.command());
        }
    }
}
