import java.sql.Connection;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;

/** What each getter of a result gives, for a value of every type. */
final class Getters {
  private static final Map<String, String> VALUES = new LinkedHashMap<>();

  static {
    VALUES.put("BOOLEAN", "true");
    VALUES.put("TINYINT", "-7");
    VALUES.put("SMALLINT", "-700");
    VALUES.put("INTEGER", "-70000");
    VALUES.put("BIGINT", "-9223372036854775808");
    VALUES.put("UTINYINT", "100");
    VALUES.put("USMALLINT", "30000");
    VALUES.put("UINTEGER", "2000000000");
    VALUES.put("UBIGINT", "9000000000000000000");
    VALUES.put("HUGEINT", "12345678901234567890123456789012345678");
    VALUES.put("FLOAT", "1.5");
    VALUES.put("DOUBLE", "-2.25");
    VALUES.put("DECIMAL(4,1)", "123.4");
    VALUES.put("DECIMAL(18,3)", "-123456789012345.678");
    VALUES.put("DECIMAL(38,10)", "1234567890123456789012345678.0123456789");
    VALUES.put("VARCHAR", "'h\u00e9llo \ud83e\udd86'");
    VALUES.put("BLOB", "'\\x00\\xFF'");
    VALUES.put("DATE", "'2024-02-29'");
    VALUES.put("TIME", "'13:14:15.678'");
    VALUES.put("TIMESTAMP_S", "'2024-02-29 13:14:15'");
    VALUES.put("TIMESTAMP_MS", "'2024-02-29 13:14:15.678'");
    VALUES.put("TIMESTAMP", "'2024-02-29 13:14:15.678901'");
    VALUES.put("TIMESTAMP_NS", "'2024-02-29 13:14:15.678901234'");
    VALUES.put("TIMESTAMPTZ", "'2024-02-29 13:14:15.678901+02'");
    VALUES.put("TIMETZ", "'13:14:15+02'");
    VALUES.put("INTERVAL", "'1 year 2 months 3 days 04:05:06'");
    VALUES.put("UUID", "'00112233-4455-6677-8899-aabbccddeeff'");
    VALUES.put("BIT", "'10101'");
    VALUES.put("JSON", "'{\"a\": 1}'");
    VALUES.put("ENUM('red', 'green')", "'green'");
    VALUES.put("INTEGER[]", "[1, NULL, 3]");
    VALUES.put("INTEGER[2]", "[1, 2]");
    VALUES.put("STRUCT(a INTEGER, b VARCHAR)", "{'a': 1, 'b': 'x'}");
    VALUES.put("MAP(VARCHAR, INTEGER)", "MAP {'k': 1}");
    VALUES.put("VARCHAR[][]", "[['a'], []]");
  }

  /** A getter of a result's first column. */
  interface Getter {
    Object get(ResultSet result) throws SQLException;
  }

  private static final Map<String, Getter> GETTERS = new LinkedHashMap<>();

  static {
    GETTERS.put("getObject", r -> r.getObject(1));
    GETTERS.put("getString", r -> r.getString(1));
    GETTERS.put("getBoolean", r -> r.getBoolean(1));
    GETTERS.put("getByte", r -> r.getByte(1));
    GETTERS.put("getShort", r -> r.getShort(1));
    GETTERS.put("getInt", r -> r.getInt(1));
    GETTERS.put("getLong", r -> r.getLong(1));
    GETTERS.put("getFloat", r -> r.getFloat(1));
    GETTERS.put("getDouble", r -> r.getDouble(1));
    GETTERS.put("getBigDecimal", r -> r.getBigDecimal(1));
    GETTERS.put("getBytes", r -> r.getBytes(1));
    GETTERS.put("getDate", r -> r.getDate(1));
    GETTERS.put("getTime", r -> r.getTime(1));
    GETTERS.put("getTimestamp", r -> r.getTimestamp(1));
    GETTERS.put("getArray", r -> r.getArray(1));
  }

  static void run(Client client, Report report) throws Exception {
    try (Connection connection = client.connect();
        Statement statement = connection.createStatement()) {
      for (Map.Entry<String, String> value : VALUES.entrySet()) {
        String type = value.getKey();
        String sql =
            "SELECT CAST(" + value.getValue() + " AS " + type + ") AS v UNION ALL SELECT NULL";
        report.show(type + " column", () -> column(statement.executeQuery(sql)));
        for (Map.Entry<String, Getter> getter : GETTERS.entrySet()) {
          report.show(
              type + " " + getter.getKey(),
              () -> both(statement.executeQuery(sql), getter.getValue()));
        }
      }
    }
  }

  private static Object column(ResultSet result) throws SQLException {
    try (result) {
      ResultSetMetaData data = result.getMetaData();
      return Arrays.asList(
          data.getColumnTypeName(1), data.getColumnType(1), data.getPrecision(1), data.getScale(1));
    }
  }

  /**
   * The value, what the getter gives for NULL, and whether the result then says that it was NULL.
   */
  private static Object both(ResultSet result, Getter getter) throws SQLException {
    try (result) {
      result.next();
      Object value = Report.plain(getter.get(result));
      result.next();
      return new Object[] {value, Report.plain(getter.get(result)), result.wasNull()};
    }
  }
}
