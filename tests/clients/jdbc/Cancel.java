import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;
import java.util.Timer;
import java.util.TimerTask;

/** Statement.cancel, and a time limit, end a query that runs long; the connection goes on. */
final class Cancel {
  private static final String LONG =
      "SELECT sum(sin(a.range) * b.range) AS s FROM range(10000000) a, range(100000) b";
  private static final String ENDLESS = "SELECT a.range FROM range(10000000) a, range(100000) b";

  /** Runs a query to its end. */
  interface Reading {
    void run(Statement statement) throws Exception;
  }

  static void run(Client client, Report report) throws Exception {
    try (Connection connection = client.connect()) {
      report.show(
          "cancel before the first row",
          () -> cancelled(connection.createStatement(), s -> read(s.executeQuery(LONG))));
      report.show(
          "cancel between rows",
          () -> cancelled(connection.createStatement(), s -> read(s.executeQuery(ENDLESS))));
      report.show(
          "cancel of a prepared statement",
          () -> {
            PreparedStatement prepared = connection.prepareStatement(LONG);
            return cancelled(prepared, s -> read(prepared.executeQuery()));
          });
      report.show("query timeout", () -> limited(connection.createStatement()));
      report.show("on the server", () -> states(connection));
      report.show("afterwards", () -> connection.createStatement().executeQuery("SELECT 1 AS one"));
    }
  }

  /** What became of the statements above, half a second after the last. */
  private static Object states(Connection connection) throws Exception {
    Thread.sleep(500);
    String sql = "SELECT DISTINCT state FROM sys.queries WHERE sql IN ('%s', '%s')";
    return connection.createStatement().executeQuery(String.format(sql, LONG, ENDLESS));
  }

  private static void read(ResultSet result) throws Exception {
    while (result.next()) {
      result.getObject(1);
    }
  }

  /** How the query ended, and how many milliseconds after the cancel. */
  private static Object cancelled(Statement statement, Reading reading) throws Exception {
    long[] at = new long[1];
    Timer timer = new Timer(true);
    timer.schedule(
        new TimerTask() {
          @Override
          public void run() {
            at[0] = System.nanoTime();
            try {
              statement.cancel();
            } catch (Exception error) {
              System.err.println(error);
            }
          }
        },
        500);
    return ended(statement, reading, at);
  }

  private static Object limited(Statement statement) throws Exception {
    statement.setQueryTimeout(1);
    long[] at = {System.nanoTime() + 1_000_000_000L};
    return ended(statement, s -> read(s.executeQuery(LONG)), at);
  }

  private static Object ended(Statement statement, Reading reading, long[] at) {
    String how = "by itself";
    try (statement) {
      reading.run(statement);
    } catch (Exception error) {
      how = error.getMessage();
    }
    return new Object[] {how, (System.nanoTime() - at[0]) / 1_000_000};
  }
}
