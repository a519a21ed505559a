package funnelwatch.bench;

import java.net.URI;
import java.time.Duration;
import java.util.Map;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;

/** Takes everybody's events in order through the funnel; one of them for each partition. */
final class Journeys implements Processor<String, Click, Void, Void> {
  static final String STORE = "journeys";
  private static final Map<String, Integer> STAGE_OF =
      Map.of("product_view", 0, "add_to_cart", 1, "begin_checkout", 2, "purchase", 3);
  private static final long CONVERSION_MS = 600_000;
  private static final String NO_CHANNEL = "__none__";
  private static final double MILLIONTHS = 1e6;
  private static final Duration FLUSH_EVERY = Duration.ofMillis(100);
  private static final int FLUSH_EVENTS_MAX = 50_000;

  private final Counts counts;
  private final Progress progress;
  private KeyValueStore<String, Journey> store;
  private int waiting; // events that Redis does not have yet

  Journeys(URI redis, String prefix, Progress progress) {
    this.counts = new Counts(redis, prefix);
    this.progress = progress;
  }

  @Override
  public void init(ProcessorContext<Void, Void> context) {
    store = context.getStateStore(STORE);
    context.schedule(FLUSH_EVERY, PunctuationType.WALL_CLOCK_TIME, at -> flush());
  }

  @Override
  public void process(Record<String, Click> record) {
    take(record.value());
    waiting++;
    if (waiting >= FLUSH_EVENTS_MAX) {
      flush();
    }
  }

  @Override
  public void close() {
    flush();
    counts.close();
  }

  private void take(Click click) {
    Integer stage = STAGE_OF.get(click.event());
    if (stage == null) {
      return;
    }
    Journey journey = store.get(click.user());
    if (journey == null) {
      journey = new Journey();
    }
    String channel = click.properties().channel();
    Journey.Mark began =
        stage > 0 ? journey.chains[stage - 1] : new Journey.Mark(click.atMs(), channel == null ? NO_CHANNEL : channel);
    if (began == null || click.atMs() - began.atMs() > CONVERSION_MS) {
      return;
    }
    Journey.Mark before = journey.latest[stage];
    if (before != null) {
      counts.add(before, stage, -1, 0, 0);
    }
    Journey.Mark reach = new Journey.Mark(click.atMs(), began.channel());
    counts.add(reach, stage, 1, 1, Math.round(click.properties().amount() * MILLIONTHS));
    journey.chains[stage] = began;
    journey.latest[stage] = reach;
    store.put(click.user(), journey);
  }

  private void flush() {
    if (waiting > 0) {
      counts.send();
      progress.add(waiting);
      waiting = 0;
    }
  }
}
