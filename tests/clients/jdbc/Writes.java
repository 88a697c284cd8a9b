import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Tables that are kept: definitions, counts, batches, transactions, keys in the metadata. */
final class Writes {
  private static final String COUNT = "SELECT count(*) AS n FROM written";

  static void run(Client client, Report report) throws Exception {
    try (Connection connection = client.connect("x-lakehouse-bucket", "testing");
        Connection other = client.connect("x-lakehouse-bucket", "testing")) {
      report.show(
          "executeUpdate",
          () ->
              updates(
                  connection,
                  "CREATE TABLE written (i INTEGER PRIMARY KEY, s VARCHAR NOT NULL, d DECIMAL(9,2))",
                  "INSERT INTO written VALUES (1, 'a', 1.5), (2, 'b', NULL), (3, 'c', 2)",
                  "UPDATE written SET d = d * 2 WHERE d IS NOT NULL",
                  "DELETE FROM written WHERE i = 3",
                  "ALTER TABLE written RENAME COLUMN d TO price"));
      report.show("written", () -> rows(other, "FROM written ORDER BY i"));
      report.show(
          "view",
          () -> updates(connection, "CREATE VIEW seen AS SELECT s FROM written WHERE price > 1"));
      report.show("read through a view", () -> rows(other, "FROM seen"));
      report.show("executeBatch", () -> batch(connection, 10, 20));
      report.show("after the batch", () -> rows(other, COUNT));
      report.show("a batch with a key that is there", () -> batch(connection, 9, 12));
      report.show("after that batch", () -> rows(other, COUNT));
      report.show(
          "RETURNING", () -> rows(connection, "DELETE FROM written WHERE i > 18 RETURNING i"));
      report.show("getPrimaryKeys", () -> primaryKeys(connection));
      report.show("rollback of the driver", () -> driversOwn(connection));
      for (String end : List.of("ROLLBACK", "COMMIT")) {
        report.show("before " + end, () -> change(connection, other));
        report.show(end, () -> updates(connection, end));
        report.show("after " + end, () -> rows(other, "SELECT i FROM written WHERE s = 'changed'"));
      }
      report.show(
          "drop",
          () -> updates(connection, "DROP VIEW seen", "DROP TABLE written", "DROP TABLE more"));
      report.show("table that was dropped", () -> rows(other, COUNT));
    }
  }

  private static Object updates(Connection connection, String... statements) throws Exception {
    List<Integer> counts = new ArrayList<>();
    try (Statement statement = connection.createStatement()) {
      for (String sql : statements) {
        counts.add(statement.executeUpdate(sql));
      }
    }
    return counts;
  }

  private static Object batch(Connection connection, int first, int end) throws Exception {
    try (PreparedStatement insert =
        connection.prepareStatement("INSERT INTO written VALUES (?, ?, ?)")) {
      for (int i = first; i < end; i++) {
        insert.setInt(1, i);
        insert.setString(2, "text " + i);
        insert.setBigDecimal(3, new BigDecimal("0.25"));
        insert.addBatch();
      }
      return Arrays.stream(insert.executeBatch()).sum();
    }
  }

  /** Rolls back as JDBC has it, which the drivers tell no server. */
  private static Object driversOwn(Connection connection) throws Exception {
    connection.setAutoCommit(false);
    updates(connection, "INSERT INTO written VALUES (50, 'kept', NULL)");
    connection.rollback();
    connection.setAutoCommit(true);
    return updates(connection, "DELETE FROM written WHERE i = 50");
  }

  /** Writes in a transaction, and tells what is seen in it and by another connection. */
  private static Object change(Connection connection, Connection other) throws Exception {
    Object counts =
        updates(
            connection,
            "BEGIN",
            "CREATE TABLE more AS SELECT i FROM written",
            "UPDATE written SET s = 'changed' WHERE i = 12");
    Object batch = batch(connection, 100, 105);
    return List.of(counts, batch, rows(connection, COUNT), rows(other, COUNT));
  }

  private static Object primaryKeys(Connection connection) throws Exception {
    try (ResultSet keys = connection.getMetaData().getPrimaryKeys(null, "testing", "written")) {
      List<String> columns = new ArrayList<>();
      while (keys.next()) {
        columns.add(keys.getString("COLUMN_NAME"));
      }
      return columns;
    }
  }

  private static Object rows(Connection connection, String sql) throws Exception {
    try (Statement statement = connection.createStatement();
        ResultSet result = statement.executeQuery(sql)) {
      return Report.rows(result);
    }
  }
}
