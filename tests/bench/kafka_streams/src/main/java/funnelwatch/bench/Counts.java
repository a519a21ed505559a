package funnelwatch.bench;

import java.net.URI;
import java.util.HashMap;
import java.util.Map;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.Pipeline;

/**
 * What changed in users, reaches and value, by stage and channel, since Redis last heard of it.
 *
 * <p>Summed in the narrowest buckets by channel only; the wider ones and those of all channels are sums of these, made when
 * they are sent.
 */
final class Counts implements AutoCloseable {
  private static final long[] WIDTHS_SECONDS = {10, 60, 3600};
  private static final long NARROWEST_MS = 10_000;
  private static final String ALL = "";

  private final Jedis redis;
  private final String prefix;
  private final Map<Cell, Sums> sums = new HashMap<>();

  private record Cell(long bucket, int stage, String channel) {}

  private record Named(String key, String field) {}

  private static final class Sums {
    long users;
    long reaches;
    long value;
  }

  Counts(URI redis, String prefix) {
    this.redis = new Jedis(redis);
    this.prefix = prefix;
  }

  void add(Journey.Mark reach, int stage, long users, long reaches, long value) {
    Cell cell = new Cell(Math.floorDiv(reach.atMs(), NARROWEST_MS), stage, reach.channel());
    Sums found = sums.computeIfAbsent(cell, absent -> new Sums());
    found.users += users;
    found.reaches += reaches;
    found.value += value;
  }

  /** Return once Redis has it. */
  void send() {
    Map<Named, Long> changes = changes();
    try (Pipeline pipeline = redis.pipelined()) {
      changes.forEach((name, by) -> pipeline.hincrBy(name.key, name.field, by));
      pipeline.sync();
    }
    sums.clear();
  }

  private Map<Named, Long> changes() {
    Map<Named, Long> changes = new HashMap<>();
    sums.forEach(
        (cell, found) -> {
          for (long width : WIDTHS_SECONDS) {
            String key = prefix + ":" + width + ":" + Math.floorDiv(cell.bucket * NARROWEST_MS, width * 1000);
            for (String channel : new String[] {ALL, cell.channel}) {
              String place = ":" + cell.stage + ":" + channel;
              add(changes, key, "u" + place, found.users);
              add(changes, key, "n" + place, found.reaches);
              add(changes, key, "v" + place, found.value);
            }
          }
        });
    changes.values().removeIf(by -> by == 0);
    return changes;
  }

  private static void add(Map<Named, Long> changes, String key, String field, long by) {
    changes.merge(new Named(key, field), by, Long::sum);
  }

  @Override
  public void close() {
    redis.close();
  }
}
