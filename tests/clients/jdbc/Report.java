import java.io.PrintStream;
import java.lang.reflect.Array;
import java.lang.reflect.InvocationTargetException;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Prints what calls gave, one JSON object a line: `part: name`, and either value or error. */
final class Report {
  /** A call that is looked at. */
  interface Call {
    Object run() throws Throwable;
  }

  private final PrintStream out;
  private final String part;

  Report(PrintStream out, String part) {
    this.out = out;
    this.part = part;
  }

  /** Makes a call and prints its value, or the error it ended with. */
  void show(String name, Call call) {
    Map<String, Object> line = new LinkedHashMap<>();
    line.put("name", part + ": " + name);
    try {
      line.put("value", plain(call.run()));
    } catch (InvocationTargetException wrapped) {
      line.put("error", text(wrapped.getCause()));
    } catch (Throwable error) {
      line.put("error", text(error));
    }
    out.println(json(line));
    out.flush();
  }

  private static String text(Throwable error) {
    return error.getClass().getSimpleName() + ": " + error.getMessage();
  }

  /** Reads all rows, each as a map by column label, and closes the result. */
  static List<Object> rows(ResultSet result) throws SQLException {
    try (result) {
      ResultSetMetaData columns = result.getMetaData();
      List<Object> rows = new ArrayList<>();
      while (result.next()) {
        Map<String, Object> row = new LinkedHashMap<>();
        for (int i = 1; i <= columns.getColumnCount(); i++) {
          row.put(columns.getColumnLabel(i), plain(result.getObject(i)));
        }
        rows.add(row);
      }
      return rows;
    }
  }

  /** Copies what a result gave, which must be done before its next row. */
  static Object plain(Object value) throws SQLException {
    if (value instanceof ResultSet result) {
      return rows(result);
    }
    if (value instanceof java.sql.Array array) {
      return plain(array.getArray());
    }
    if (value instanceof byte[] bytes) {
      return java.util.HexFormat.of().formatHex(bytes);
    }
    if (value != null && value.getClass().isArray()) {
      List<Object> items = new ArrayList<>();
      for (int i = 0; i < Array.getLength(value); i++) {
        items.add(plain(Array.get(value, i)));
      }
      return items;
    }
    return value;
  }

  private static String json(Object value) {
    if (value == null
        || value instanceof Boolean
        || value instanceof Integer
        || value instanceof Long) {
      return String.valueOf(value);
    }
    if (value instanceof Map<?, ?> map) {
      List<String> items = new ArrayList<>();
      map.forEach((key, item) -> items.add(quoted(String.valueOf(key)) + ":" + json(item)));
      return "{" + String.join(",", items) + "}";
    }
    if (value instanceof Iterable<?> list) {
      List<String> items = new ArrayList<>();
      list.forEach(item -> items.add(json(item)));
      return "[" + String.join(",", items) + "]";
    }
    return quoted(value.toString());
  }

  private static String quoted(String text) {
    StringBuilder result = new StringBuilder("\"");
    for (char c : text.toCharArray()) {
      if (c == '"' || c == '\\' || c < ' ' || c > '~') {
        result.append(String.format("\\u%04x", (int) c));
      } else {
        result.append(c);
      }
    }
    return result.append('"').toString();
  }
}
