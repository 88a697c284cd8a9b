import java.lang.reflect.Method;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.ResultSet;
import java.sql.Types;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;

/** Every method of DatabaseMetaData. */
final class Metadata {
  private static final String[] TABLE = {"lakehouse", "primary", "animals"};

  /**
   * Arguments of the methods that take any; a method that is not here gets numbers, false and null.
   */
  private static final Map<String, Object[]> ARGUMENTS =
      Map.ofEntries(
          Map.entry("getTables", new Object[] {null, null, "%", null}),
          Map.entry("getColumns", new Object[] {"lakehouse", "primary", "animals", "%"}),
          Map.entry("getPrimaryKeys", TABLE),
          Map.entry("getImportedKeys", TABLE),
          Map.entry("getExportedKeys", TABLE),
          Map.entry(
              "getCrossReference",
              new Object[] {"lakehouse", "primary", "animals", "lakehouse", "testing", "people"}),
          Map.entry("getIndexInfo", new Object[] {"lakehouse", "primary", "animals", false, false}),
          Map.entry(
              "getBestRowIdentifier", new Object[] {"lakehouse", "primary", "animals", 0, true}),
          Map.entry("getVersionColumns", TABLE),
          Map.entry("getTablePrivileges", TABLE),
          Map.entry("getColumnPrivileges", new Object[] {"lakehouse", "primary", "animals", "%"}),
          Map.entry("supportsConvert", new Object[] {Types.INTEGER, Types.VARCHAR}),
          Map.entry(
              "supportsResultSetConcurrency",
              new Object[] {ResultSet.TYPE_FORWARD_ONLY, ResultSet.CONCUR_READ_ONLY}),
          Map.entry(
              "supportsTransactionIsolationLevel",
              new Object[] {Connection.TRANSACTION_REPEATABLE_READ}),
          Map.entry(
              "supportsResultSetHoldability", new Object[] {ResultSet.CLOSE_CURSORS_AT_COMMIT}));

  private static final Map<Class<?>, Object> DEFAULTS =
      Map.of(int.class, ResultSet.TYPE_FORWARD_ONLY, boolean.class, false);

  static void run(Client client, Report report) throws Exception {
    try (Connection connection = client.connect()) {
      DatabaseMetaData data = connection.getMetaData();
      List<Method> methods = Arrays.asList(DatabaseMetaData.class.getDeclaredMethods());
      methods.sort(Comparator.comparing(Method::toString));
      for (Method method : methods) {
        report.show(name(method), () -> shown(method.invoke(data, arguments(method))));
      }
      filtered(data, report);
    }
  }

  private static Object shown(Object value) {
    return value instanceof Connection ? "the connection" : value;
  }

  private static void filtered(DatabaseMetaData data, Report report) {
    String[] tables = {"TABLE"};
    report.show("tables like peo%", () -> data.getTables("lakehouse", "testing", "peo%", tables));
    report.show(
        "tables of type BASE TABLE",
        () -> data.getTables(null, "testing", null, new String[] {"BASE TABLE"}));
    report.show("tables with an escaped name", () -> data.getTables(null, null, "a\\_b", tables));
    report.show("tables of no catalog", () -> data.getTables("", null, null, null));
    report.show("schemas like test%", () -> data.getSchemas("lakehouse", "test%"));
    report.show(
        "columns of all types", () -> data.getColumns(null, "primary", "every\\_type", null));
    report.show("one column", () -> data.getColumns(null, null, null, "born"));
  }

  private static String name(Method method) {
    int count = method.getParameterCount();
    return method.getName()
        + (count > 0 && method.getName().matches("getSchemas|supportsConvert") ? "/" + count : "");
  }

  private static Object[] arguments(Method method) {
    Object[] given = ARGUMENTS.get(method.getName());
    if (given != null && given.length == method.getParameterCount()) {
      return given;
    }
    return Arrays.stream(method.getParameterTypes()).map(DEFAULTS::get).toArray();
  }
}
