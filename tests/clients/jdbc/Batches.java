import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;
import java.sql.Types;

/** Batches of parameters: each is one atomic unit. */
final class Batches {
  static void run(Client client, Report report) throws Exception {
    try (Connection connection = client.connect();
        Statement statement = connection.createStatement()) {
      report.show(
          "table", () -> statement.execute("CREATE TEMP TABLE batch (i INTEGER, s VARCHAR)"));
      report.show("executeBatch", () -> batch(connection, 1000));
      report.show(
          "rows",
          () ->
              rows(
                  statement,
                  "SELECT count(*) AS n, sum(i)::BIGINT AS s, count(s) AS texts FROM batch"));
      report.show("executeUpdate", () -> update(connection));
      report.show(
          "rows after it",
          () -> rows(statement, "SELECT count(*) AS n FROM batch WHERE s = 'changed'"));
      report.show("a batch that fails", () -> failing(connection));
      report.show(
          "rows after the failure", () -> rows(statement, "SELECT count(*) AS n FROM batch"));
    }
  }

  private static Object batch(Connection connection, int size) throws Exception {
    try (PreparedStatement insert =
        connection.prepareStatement("INSERT INTO batch VALUES (?, ?)")) {
      for (int i = 0; i < size; i++) {
        insert.setInt(1, i);
        if (i % 2 == 0) {
          insert.setString(2, "text " + i);
        } else {
          insert.setNull(2, Types.VARCHAR);
        }
        insert.addBatch();
      }
      long sum = 0;
      int[] counts = insert.executeBatch();
      for (int count : counts) {
        sum += count;
      }
      return sum;
    }
  }

  private static Object update(Connection connection) throws Exception {
    try (PreparedStatement update =
        connection.prepareStatement("UPDATE batch SET s = ? WHERE i < ?")) {
      update.setString(1, "changed");
      update.setInt(2, 10);
      return update.executeUpdate();
    }
  }

  private static Object failing(Connection connection) throws Exception {
    try (PreparedStatement insert =
        connection.prepareStatement(
            "INSERT INTO batch SELECT 10 // CAST(? AS INTEGER), error(?)")) {
      insert.setInt(1, 1);
      insert.setString(2, "on purpose");
      insert.addBatch();
      return insert.executeBatch();
    }
  }

  private static Object rows(Statement statement, String sql) throws Exception {
    try (ResultSet result = statement.executeQuery(sql)) {
      return Report.rows(result);
    }
  }
}
