import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.Date;
import java.sql.ParameterMetaData;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Time;
import java.sql.Timestamp;
import java.sql.Types;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Every way to set a parameter, for every type that takes it. */
final class Binds {
  /** Sets the first parameter. */
  interface Setter {
    void set(PreparedStatement statement) throws Exception;
  }

  private static final Map<String, Setter> SETTERS = new LinkedHashMap<>();

  static {
    SETTERS.put("BOOLEAN", s -> s.setBoolean(1, true));
    SETTERS.put("TINYINT", s -> s.setByte(1, (byte) -7));
    SETTERS.put("UTINYINT", s -> s.setShort(1, (short) 255));
    SETTERS.put("SMALLINT", s -> s.setShort(1, (short) -700));
    SETTERS.put("USMALLINT", s -> s.setInt(1, 65535));
    SETTERS.put("INTEGER", s -> s.setInt(1, -70000));
    SETTERS.put("UINTEGER", s -> s.setLong(1, 4294967295L));
    SETTERS.put("BIGINT", s -> s.setLong(1, Long.MIN_VALUE));
    SETTERS.put("UBIGINT", s -> s.setLong(1, Long.MAX_VALUE));
    SETTERS.put("HUGEINT", s -> s.setLong(1, Long.MAX_VALUE));
    SETTERS.put("FLOAT", s -> s.setFloat(1, 1.5f));
    SETTERS.put("DOUBLE", s -> s.setDouble(1, -2.25));
    SETTERS.put("DECIMAL(9,2)", s -> s.setBigDecimal(1, new BigDecimal("1234567.89")));
    SETTERS.put(
        "DECIMAL(38,10)",
        s -> s.setBigDecimal(1, new BigDecimal("-1234567890123456789012345678.0123456789")));
    SETTERS.put("VARCHAR", s -> s.setString(1, "h\u00e9llo \ud83e\udd86 'quoted'"));
    SETTERS.put("BLOB", s -> s.setBytes(1, new byte[] {0, 1, (byte) 0xff}));
    SETTERS.put("DATE", s -> s.setDate(1, Date.valueOf("2024-02-29")));
    SETTERS.put("TIME", s -> s.setTime(1, Time.valueOf("13:14:15")));
    SETTERS.put("TIMESTAMP", s -> s.setTimestamp(1, Timestamp.valueOf("2024-02-29 13:14:15.678")));
    SETTERS.put("TIMESTAMP_S", s -> s.setTimestamp(1, Timestamp.valueOf("2024-02-29 13:14:15")));
    SETTERS.put(
        "TIMESTAMP_MS", s -> s.setTimestamp(1, Timestamp.valueOf("2024-02-29 13:14:15.678")));
    SETTERS.put(
        "TIMESTAMP_NS", s -> s.setTimestamp(1, Timestamp.valueOf("2024-02-29 13:14:15.678")));
    SETTERS.put(
        "TIMESTAMPTZ", s -> s.setTimestamp(1, Timestamp.valueOf("2024-02-29 13:14:15.678")));
    SETTERS.put("UUID", s -> s.setString(1, "00112233-4455-6677-8899-aabbccddeeff"));
    SETTERS.put("INTERVAL", s -> s.setString(1, "3 days"));
  }

  static void run(Client client, Report report) throws Exception {
    Connection connection = client.connect();
    SETTERS.forEach(
        (type, setter) -> {
          report.show(
              type, () -> once(connection, "SELECT CAST(? AS " + type + ")::VARCHAR AS v", setter));
          report.show(
              type + " null",
              () ->
                  once(
                      connection,
                      "SELECT CAST(? AS " + type + ") AS v",
                      s -> s.setNull(1, Types.NULL)));
          report.show(
              type + " parameter", () -> parameters(connection, "SELECT CAST(? AS " + type + ")"));
        });
    report.show(
        "untyped string", () -> once(connection, "SELECT ? AS v", s -> s.setString(1, "text")));
    report.show(
        "setObject int",
        () -> once(connection, "SELECT CAST(? AS INTEGER) AS v", s -> s.setObject(1, 5)));
    report.show(
        "setObject string",
        () -> once(connection, "SELECT CAST(? AS VARCHAR) AS v", s -> s.setObject(1, "x")));
    report.show("several times", () -> severalTimes(connection));
    report.show("several parameters", () -> several(connection));
    report.show(
        "their types",
        () -> parameters(connection, "SELECT * FROM animals WHERE legs > ? AND species = ?"));
    report.show("not bound", () -> once(connection, "SELECT CAST(? AS INTEGER) AS v", s -> {}));
    report.show("columns before it runs", () -> columns(connection));
    report.show(
        "close",
        () -> {
          connection.close();
          return null;
        });
  }

  private static Object once(Connection connection, String sql, Setter setter) throws Exception {
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      setter.set(statement);
      try (ResultSet result = statement.executeQuery()) {
        result.next();
        return result.getString(1);
      }
    }
  }

  /** Returns the JDBC types of a statement's parameters. */
  static Object parameters(Connection connection, String sql) throws Exception {
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      ParameterMetaData data = statement.getParameterMetaData();
      List<Object> all = new ArrayList<>();
      for (int i = 1; i <= data.getParameterCount(); i++) {
        all.add(data.getParameterType(i));
      }
      return all;
    }
  }

  private static Object severalTimes(Connection connection) throws Exception {
    List<Object> seen = new ArrayList<>();
    try (PreparedStatement statement =
        connection.prepareStatement("SELECT species FROM animals WHERE legs = ?")) {
      for (int legs : new int[] {2, 4, 2}) {
        statement.setInt(1, legs);
        seen.add(Report.rows(statement.executeQuery()));
      }
    }
    return seen;
  }

  private static Object several(Connection connection) throws Exception {
    try (PreparedStatement statement =
        connection.prepareStatement("SELECT legs FROM animals WHERE legs > ? AND species = ?")) {
      statement.setInt(1, 3);
      statement.setString(2, "cat");
      return Report.rows(statement.executeQuery());
    }
  }

  private static Object columns(Connection connection) throws Exception {
    try (PreparedStatement statement =
        connection.prepareStatement("SELECT legs, species FROM animals WHERE legs > ?")) {
      return statement.getMetaData().getColumnCount()
          + " "
          + statement.getMetaData().getColumnTypeName(1);
    }
  }
}
