import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.Statement;
import java.util.Properties;

/** Logs in, in every way that the driver has: `Login HOST:PORT USER PASSWORD TOKEN`. */
public final class Login {
  private static String address;

  public static void main(String[] args) throws Exception {
    address = args[0];
    Report report = new Report(System.out, "login");
    report.show("password", () -> session("user", args[1], "password", args[2]));
    report.show("token", () -> session("token", args[3]));
    report.show("wrong password", () -> session("user", args[1], "password", "wrong"));
    report.show("wrong token", () -> session("token", args[3] + "x"));
    report.show("nobody", () -> session());
    System.exit(0);
  }

  /** Returns what a second statement finds of the session of a first one. */
  private static Object session(String... properties) throws Exception {
    Properties all = new Properties();
    all.setProperty("useEncryption", "false");
    for (int i = 0; i < properties.length; i += 2) {
      all.setProperty(properties[i], properties[i + 1]);
    }
    try (Connection connection =
            DriverManager.getConnection("jdbc:arrow-flight-sql://" + address, all);
        Statement statement = connection.createStatement()) {
      statement.executeUpdate("CREATE TEMP TABLE kept AS SELECT 7 AS x");
      try (ResultSet rows = statement.executeQuery("SELECT x FROM kept")) {
        rows.next();
        return rows.getInt(1);
      }
    }
  }
}
