import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.Statement;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Searches of vectors, joined with a table of another bucket: each way to give the vector. */
final class Searches {
  private static final String TABLE =
      "CREATE TABLE \"profile:user\".points AS SELECT species, vector::FLOAT[3] AS vector FROM"
          + " (VALUES ('cat', [1, 0, 0]), ('bird', [0, 1, 0]), ('dog', [3, 1, 0])) t(species,"
          + " vector)";
  private static final String SEARCH =
      "SELECT v.species, a.legs FROM vector_search('points', ?, k => 2) v JOIN \"primary\".animals a"
          + " USING (species) ORDER BY v._distance";
  private static final String OF_TEXT = SEARCH.replace("?", "CAST(? AS VARCHAR)");
  private static final String FILTERED = SEARCH.replace("k => 2", "k => ?, filter => ?");

  static void run(Client client, Report report) throws Exception {
    try (Connection connection = client.connect("x-lakehouse-profile", "user");
        Statement statement = connection.createStatement()) {
      report.show("table", () -> statement.executeUpdate(TABLE));
      for (String literal : List.of("'[1, 0.1, 0]'", "[1, 0.1, 0]")) {
        report.show(literal, () -> statement.executeQuery(SEARCH.replace("?", literal)));
      }
      report.show("parameters", () -> Binds.parameters(connection, FILTERED));
      report.show("parameter as text", () -> Binds.parameters(connection, OF_TEXT));
      for (Map.Entry<String, Binds.Setter> way : ways(connection).entrySet()) {
        report.show(way.getKey(), () -> search(connection, SEARCH, way.getValue()));
      }
      report.show("text", () -> search(connection, OF_TEXT, s -> s.setString(1, "[1, 0.1, 0]")));
      report.show("filter", () -> search(connection, FILTERED, s -> filter(connection, s)));
      report.show("drop", () -> statement.executeUpdate("DROP TABLE \"profile:user\".points"));
    }
  }

  private static Map<String, Binds.Setter> ways(Connection connection) {
    Map<String, Binds.Setter> ways = new LinkedHashMap<>();
    Object[] vector = {1f, 0.1f, 0f};
    for (String type : List.of("FLOAT", "REAL")) {
      ways.put("array of " + type, s -> s.setArray(1, connection.createArrayOf(type, vector)));
    }
    ways.put(
        "array of DOUBLE",
        s -> s.setArray(1, connection.createArrayOf("DOUBLE", new Object[] {1d, 0.1d, 0d})));
    ways.put("list", s -> s.setObject(1, List.of(1f, 0.1f, 0f)));
    ways.put(
        "wrong dimension",
        s -> s.setArray(1, connection.createArrayOf("FLOAT", new Object[] {1f, 0.1f})));
    return ways;
  }

  private static void filter(Connection connection, PreparedStatement statement) throws Exception {
    statement.setArray(1, connection.createArrayOf("FLOAT", new Object[] {1f, 0.1f, 0f}));
    statement.setInt(2, 1);
    statement.setString(3, "species <> 'cat'");
  }

  private static Object search(Connection connection, String sql, Binds.Setter setter)
      throws Exception {
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      setter.set(statement);
      return Report.rows(statement.executeQuery());
    }
  }
}
