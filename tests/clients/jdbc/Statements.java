import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.Statement;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Statements that are not prepared: queries, updates, errors, several results at once. */
final class Statements {
  private static final List<String> QUERIES =
      List.of(
          "SELECT p.name, a.legs FROM testing.people p JOIN \"primary\".animals a ON p.pet ="
              + " a.species ORDER BY name",
          "DESCRIBE animals",
          "SUMMARIZE animals",
          "EXPLAIN SELECT 1",
          "SHOW TABLES",
          "PIVOT animals ON species USING sum(legs)",
          "SELECT table_name FROM information_schema.tables WHERE table_schema = 'testing' ORDER BY"
              + " 1",
          "SELECT nothing FROM animals",
          "SELECT * FROM nothing",
          "SELEC 1");

  static void run(Client client, Report report) throws Exception {
    try (Connection connection = client.connect();
        Statement statement = connection.createStatement()) {
      for (String sql : QUERIES) {
        report.show(sql, () -> statement.executeQuery(sql));
      }
      report.show(
          "columns",
          () -> columns(statement.executeQuery("SELECT legs, legs * 2.5 AS more FROM animals")));
      report.show(
          "execute of a query",
          () -> statement.execute("SELECT 1 AS x") + " " + statement.getUpdateCount());
      report.show(
          "execute of an update", () -> statement.execute("CREATE TEMP TABLE changed (i INTEGER)"));
      report.show(
          "executeUpdate",
          () -> statement.executeUpdate("INSERT INTO changed VALUES (1), (2), (3)"));
      report.show(
          "getUpdateCount",
          () -> {
            statement.execute("INSERT INTO changed VALUES (4)");
            return statement.getUpdateCount();
          });
      report.show(
          "after updates", () -> statement.executeQuery("SELECT count(*) AS n FROM changed"));
      report.show(
          "setMaxRows",
          () -> {
            statement.setMaxRows(2);
            Object rows = Report.rows(statement.executeQuery("FROM range(5)"));
            statement.setMaxRows(0);
            return rows;
          });
      report.show("many rows", () -> count(statement.executeQuery("FROM range(200000)")));
      report.show("two results at once", () -> twoAtOnce(connection));
      report.show("unread results", () -> unread(connection));
    }
  }

  private static Object columns(ResultSet result) throws Exception {
    ResultSetMetaData data = result.getMetaData();
    Map<String, Object> columns = new LinkedHashMap<>();
    for (int i = 1; i <= data.getColumnCount(); i++) {
      columns.put(
          data.getColumnLabel(i),
          Arrays.asList(data.getColumnTypeName(i), data.getPrecision(i), data.getScale(i)));
    }
    result.close();
    return columns;
  }

  private static int count(ResultSet result) throws Exception {
    int count = 0;
    while (result.next()) {
      count++;
    }
    result.close();
    return count;
  }

  private static Object twoAtOnce(Connection connection) throws Exception {
    try (Statement one = connection.createStatement();
        Statement two = connection.createStatement()) {
      ResultSet first = one.executeQuery("FROM range(100000)");
      first.next();
      ResultSet second = two.executeQuery("FROM range(100000)");
      second.next();
      return List.of(count(first), count(second));
    }
  }

  private static Object unread(Connection connection) throws Exception {
    for (int i = 0; i < 20; i++) {
      try (PreparedStatement statement = connection.prepareStatement("FROM range(1000000)")) {
        statement.executeQuery().next();
      }
    }
    return "done";
  }
}
