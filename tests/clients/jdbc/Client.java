import java.sql.Connection;
import java.sql.DriverManager;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

/** Runs the parts of JDBC against a server: `Client HOST:PORT TOKEN`. Each part has a minute. */
public final class Client {
  /** A part of JDBC, which shows what its calls give. */
  interface Part {
    void run(Client client, Report report) throws Exception;
  }

  private static final Map<String, Part> PARTS = new LinkedHashMap<>();

  static {
    PARTS.put("connections", Connections::run);
    PARTS.put("metadata", Metadata::run);
    PARTS.put("statements", Statements::run);
    PARTS.put("binds", Binds::run);
    PARTS.put("batches", Batches::run);
    PARTS.put("writes", Writes::run);
    PARTS.put("getters", Getters::run);
    PARTS.put("searches", Searches::run);
    PARTS.put("cancel", Cancel::run);
  }

  private final String address;
  final String token;

  private Client(String address, String token) {
    this.address = address;
    this.token = token;
  }

  /** Connects; names and values alternate in `properties`. The caller closes it. */
  Connection connect(String... properties) throws Exception {
    Properties all = new Properties();
    all.setProperty("useEncryption", "false");
    for (int i = 0; i < properties.length; i += 2) {
      all.setProperty(properties[i], properties[i + 1]);
    }
    return DriverManager.getConnection("jdbc:arrow-flight-sql://" + address, all);
  }

  public static void main(String[] args) throws Exception {
    Client client = new Client(args[0], args[1]);
    for (Map.Entry<String, Part> part : PARTS.entrySet()) {
      Report report = new Report(System.out, part.getKey());
      ExecutorService thread = Executors.newSingleThreadExecutor();
      report.show(
          "all of it",
          () ->
              thread
                  .submit(
                      () -> {
                        part.getValue().run(client, report);
                        return "done";
                      })
                  .get(60, TimeUnit.SECONDS));
      thread.shutdownNow();
    }
    // Threads of a part that hangs must not keep the process.
    System.exit(0);
  }
}
