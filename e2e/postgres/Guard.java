import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.util.Base64;
import java.util.Properties;
import java.util.Scanner;

/**
 * Sends statements to PostgreSQL by JDBC, each in a session of its own.
 *
 * Arguments: the port, preferQueryMode, prepareThreshold, and how often each is executed. Standard input has one
 * statement a line in base64; standard output has what became of each: the SQLSTATE and the error in base64, or nothing.
 * "batch" inserts rows by a batch.
 */
final class Guard {
    public static void main(String[] args) throws Exception {
        Properties login = new Properties();
        login.put("user", "dbt");
        login.put("password", System.getenv("PASSWORD"));
        login.put("sslmode", "disable");
        login.put("preferQueryMode", args[1]);
        login.put("prepareThreshold", args[2]);
        login.put("reWriteBatchedInserts", "true");
        Scanner lines = new Scanner(System.in, StandardCharsets.UTF_8);
        while (lines.hasNextLine()) {
            String sql = new String(Base64.getDecoder().decode(lines.nextLine()), StandardCharsets.UTF_8);
            String end = "";
            try (Connection connection = DriverManager.getConnection("jdbc:postgresql://127.0.0.1:" + args[0] + "/postgres", login)) {
                send(connection, sql, Integer.parseInt(args[3]));
            } catch (SQLException e) {
                end = e.getSQLState() + " " + e.getMessage();
            }
            System.out.println(Base64.getEncoder().encodeToString(end.getBytes(StandardCharsets.UTF_8)));
        }
    }

    static void send(Connection connection, String sql, int times) throws SQLException {
        if (sql.equals("batch")) {
            batch(connection);
            return;
        }
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int i = 0; i < times; i++) {
                for (boolean rows = statement.execute(); rows || statement.getUpdateCount() != -1; rows = statement.getMoreResults()) {
                    // each result must be asked for, to see the errors of all statements
                }
            }
        }
    }

    /** Inserts a thousand rows in a transaction, by batches that the driver rewrites into longer statements. */
    static void batch(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        try (PreparedStatement insert = connection.prepareStatement("insert into facts values (?)")) {
            for (int i = 0; i < 1000; i++) {
                insert.setInt(1, i);
                insert.addBatch();
                if (i % 100 == 99) {
                    insert.executeBatch();
                }
            }
        }
        connection.commit();
    }
}
