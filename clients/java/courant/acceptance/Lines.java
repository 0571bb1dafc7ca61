package courant.acceptance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import java.io.BufferedOutputStream;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HexFormat;
import java.util.Timer;
import java.util.TimerTask;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.header.Header;

/** Lines of JSON, in and out. Keys and values are hexadecimal. */
final class Lines {
    static final Duration DEADLINE = Duration.ofSeconds(180);

    private static final PrintStream OUT =
            new PrintStream(
                    new BufferedOutputStream(new FileOutputStream(FileDescriptor.out)),
                    false,
                    StandardCharsets.UTF_8);

    private Lines() {}

    /** Ends the program with a failure when the deadline comes, wherever it hangs. */
    static void endAtTheDeadline() {
        TimerTask end =
                new TimerTask() {
                    @Override
                    public void run() {
                        System.err.println("not done within " + DEADLINE.toSeconds() + " s");
                        Runtime.getRuntime().halt(1);
                    }
                };
        new Timer(true).schedule(end, DEADLINE.toMillis());
    }

    static BufferedReader input() {
        return new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    }

    /** What the test says, filled by a thread: fetching goes on meanwhile. */
    static BlockingQueue<String[]> commands() {
        BlockingQueue<String[]> said = new LinkedBlockingQueue<>();
        Thread reader =
                new Thread(
                        () -> {
                            try {
                                input().lines().forEach(line -> said.add(line.strip().split(" ")));
                            } finally {
                                said.add(new String[] {"stop"});
                            }
                        });
        reader.setDaemon(true);
        reader.start();
        return said;
    }

    /** The next line as JSON; null at the end. */
    static JsonObject next(BufferedReader input) throws IOException {
        String line = input.readLine();
        return line == null ? null : JsonParser.parseString(line).getAsJsonObject();
    }

    static void emit(JsonObject line) {
        OUT.println(line);
        OUT.flush();
    }

    static void emit(String name, JsonElement value) {
        JsonObject line = new JsonObject();
        line.add(name, value);
        emit(line);
    }

    static void emit(ConsumerRecord<byte[], byte[]> record) {
        JsonObject line = new JsonObject();
        line.addProperty("p", record.partition());
        line.addProperty("o", record.offset());
        line.addProperty("t", record.timestamp());
        line.add("k", hex(record.key()));
        line.add("v", hex(record.value()));
        JsonArray headers = new JsonArray();
        for (Header header : record.headers()) {
            JsonArray pair = new JsonArray();
            pair.add(header.key());
            pair.add(hex(header.value()));
            headers.add(pair);
        }
        line.add("h", headers);
        emit(line);
    }

    static JsonArray numbers(Iterable<Integer> numbers) {
        JsonArray array = new JsonArray();
        numbers.forEach(array::add);
        return array;
    }

    static JsonElement hex(byte[] bytes) {
        return bytes == null ? JsonNull.INSTANCE : new JsonPrimitive(HexFormat.of().formatHex(bytes));
    }

    static byte[] bytes(JsonElement hex) {
        return hex.isJsonNull() ? null : HexFormat.of().parseHex(hex.getAsString());
    }
}
