import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.Statement;

/** Properties of a connection, and what it is about: catalog, schema, transactions. */
final class Connections {
  static void run(Client client, Report report) throws Exception {
    String people = "SELECT name FROM people ORDER BY name";
    report.show("anonymous", () -> query(client.connect(), people));
    report.show(
        "bucket",
        () ->
            query(client.connect("x-lakehouse-bucket", "testing"), "SELECT species FROM animals"));
    report.show(
        "unknown bucket", () -> query(client.connect("x-lakehouse-bucket", "nowhere"), people));
    report.show("user", () -> query(client.connect("user", "ada", "password", "x"), people));
    report.show("token", () -> query(client.connect("token", client.token), people));
    Connection chosen = client.connect("catalog", "lakehouse");
    report.show("catalog property", () -> rows(chosen, people));
    report.show(
        "close with a catalog property",
        () -> {
          chosen.close();
          return null;
        });
    report.show(
        "unknown catalog property", () -> query(client.connect("catalog", "nothing"), people));
    try (Connection connection = client.connect()) {
      report.show("getCatalog", connection::getCatalog);
      report.show("getSchema", connection::getSchema);
      report.show(
          "setCatalog",
          () -> {
            connection.setCatalog("lakehouse");
            return connection.getCatalog();
          });
      report.show(
          "setSchema",
          () -> {
            connection.setSchema("testing");
            return connection.getSchema();
          });
      report.show("isValid", () -> connection.isValid(5));
      report.show("isReadOnly", connection::isReadOnly);
      report.show("getAutoCommit", connection::getAutoCommit);
      report.show("getTransactionIsolation", connection::getTransactionIsolation);
      report.show("getWarnings", connection::getWarnings);
      report.show("nativeSQL", () -> connection.nativeSQL("SELECT 1"));
      report.show(
          "USE",
          () -> {
            update(connection, "USE testing");
            return rows(connection, "SELECT species FROM animals");
          });
      report.show(
          "temp table",
          () -> {
            update(connection, "CREATE TEMP TABLE kept (i INTEGER)");
            update(connection, "INSERT INTO kept VALUES (1), (2)");
            return rows(connection, "SELECT sum(i)::BIGINT AS s FROM kept");
          });
      report.show("temp table of another connection", () -> query(client.connect(), "FROM kept"));
    }
    transactions(client, report);
  }

  private static void transactions(Client client, Report report) throws Exception {
    try (Connection connection = client.connect()) {
      report.show(
          "setAutoCommit",
          () -> {
            connection.setAutoCommit(false);
            return connection.getAutoCommit();
          });
      report.show(
          "commit",
          () -> {
            Object rows = rows(connection, "SELECT 1 AS one");
            connection.commit();
            return rows;
          });
      report.show(
          "rollback",
          () -> {
            Object rows = rows(connection, "SELECT 2 AS two");
            connection.rollback();
            return rows;
          });
      report.show(
          "back to autocommit",
          () -> {
            connection.setAutoCommit(true);
            return rows(connection, "SELECT 3 AS three");
          });
      report.show(
          "as SQL",
          () -> {
            update(connection, "BEGIN");
            Object rows = rows(connection, "SELECT 4 AS four");
            update(connection, "ROLLBACK");
            return rows;
          });
    }
  }

  private static Object query(Connection connection, String sql) throws Exception {
    try (connection) {
      return rows(connection, sql);
    }
  }

  private static Object rows(Connection connection, String sql) throws Exception {
    try (Statement statement = connection.createStatement();
        ResultSet result = statement.executeQuery(sql)) {
      return Report.rows(result);
    }
  }

  private static void update(Connection connection, String sql) throws Exception {
    try (Statement statement = connection.createStatement()) {
      statement.execute(sql);
    }
  }
}
