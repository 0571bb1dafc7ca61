package courant.outbox;

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;

/**
 * A JDBC program that writes events with its own rows: the second door of the outbox.
 *
 * <p>Arguments: JDBC-URL USER WRITERS TRANSACTIONS SEED. USER is empty where the database knows none. Each writer
 * counts accounts up, waits a little before its commit, and gives one transaction in ten up. It prints "ready" when
 * the tables are there, and ends when every writer has tried so many transactions. It may be killed at any time.
 */
public final class Writer {
    private static final int ACCOUNTS = 7;

    private Writer() {}

    public static void main(String[] arguments) throws Exception {
        String url = arguments[0];
        String user = arguments[1];
        int writers = Integer.parseInt(arguments[2]);
        int transactions = Integer.parseInt(arguments[3]);
        long seed = Long.parseLong(arguments[4]);
        try (Connection connection = connect(url, user)) {
            makeTables(connection);
        }
        System.out.println("ready");
        List<Thread> threads = new ArrayList<>();
        for (int writer = 0; writer < writers; writer++) {
            Random dice = new Random(seed + writer);
            Thread thread = new Thread(() -> write(url, user, transactions, dice));
            thread.start();
            threads.add(thread);
        }
        for (Thread thread : threads) {
            thread.join();
        }
    }

    private static Connection connect(String url, String user) throws SQLException {
        return user.isEmpty() ? DriverManager.getConnection(url) : DriverManager.getConnection(url, user, "");
    }

    private static void makeTables(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute("CREATE TABLE IF NOT EXISTS accounts (id BIGINT PRIMARY KEY, number BIGINT NOT NULL)");
            statement.execute("CREATE TABLE IF NOT EXISTS changes (account BIGINT NOT NULL, number BIGINT NOT NULL)");
            for (int account = 0; account < ACCOUNTS; account++) {
                statement.execute(
                        "INSERT INTO accounts SELECT " + account + ", 0 FROM (SELECT 1) one WHERE NOT EXISTS "
                                + "(SELECT 1 FROM accounts WHERE id = " + account + ")");
            }
        }
    }

    private static void write(String url, String user, int transactions, Random dice) {
        try (Connection connection = connect(url, user)) {
            connection.setAutoCommit(false);
            for (int n = 0; n < transactions; n++) {
                change(connection, dice);
                Thread.sleep(dice.nextInt(10));
                if (dice.nextInt(10) == 0) {
                    connection.rollback();
                } else {
                    connection.commit();
                }
            }
        } catch (SQLException | InterruptedException error) {
            error.printStackTrace();
            System.exit(1);
        }
    }

    /** Counts one account up. The event is a row like every other one. */
    private static void change(Connection connection, Random dice) throws SQLException {
        long account = dice.nextInt(ACCOUNTS);
        long number;
        try (PreparedStatement update = connection.prepareStatement(
                "UPDATE accounts SET number = number + 1 WHERE id = ?")) {
            update.setLong(1, account);
            update.executeUpdate();
        }
        try (PreparedStatement select = connection.prepareStatement("SELECT number FROM accounts WHERE id = ?")) {
            select.setLong(1, account);
            try (ResultSet rows = select.executeQuery()) {
                rows.next();
                number = rows.getLong(1);
            }
        }
        try (PreparedStatement insert = connection.prepareStatement(
                "INSERT INTO changes (account, number) VALUES (?, ?)")) {
            insert.setLong(1, account);
            insert.setLong(2, number);
            insert.executeUpdate();
        }
        try (PreparedStatement submit = connection.prepareStatement(
                "INSERT INTO courant_outbox_submit (topic, event_key, event_type, event_value) VALUES (?, ?, ?, ?)")) {
            submit.setString(1, "shop.changes");
            submit.setString(2, "account-" + account);
            submit.setString(3, "shop.account-changed");
            submit.setString(4, "{\"account\":" + account + ",\"number\":" + number + "}");
            submit.executeUpdate();
        }
    }
}
