package funnelwatch.bench;

import java.io.IOException;
import java.net.URI;
import java.nio.file.Path;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * The `kafka-streams` contender: the same funnel on Kafka Streams, as somebody writes it who knows the library.
 *
 * <p>A processor keeps everybody's journey in a state store: in memory, with the cache and the changelog topic that Kafka
 * Streams gives every store, so that another instance could go on. Counts are summed in memory and sent to Redis every 100 ms.
 * At least once, as Kafka Streams has it: journeys, counts in Redis and offsets are written one after the other, so that after
 * a crash counts may be doubled. Nothing tells duplicates or late events.
 */
public final class Main {
  /** Every second, not every 30: a crash doubles what came since, and a short run should write its changelog too. */
  private static final int COMMIT_MS = 1000;

  private static final long CACHE_BYTES = 128L << 20; // all journeys of the bench
  private static final int FETCH_BYTES = 2 << 20; // of a partition, as the others
  private static final int POLL_RECORDS = 10_000;
  private static final int LINGER_MS = 50;
  private static final int BATCH_BYTES = 256 << 10;

  private Main() {}

  /** Address of Kafka, topic, name, progress file, URL of Redis, number of threads. */
  public static void main(String[] arguments) throws IOException {
    String name = arguments[2];
    Progress progress = new Progress(Path.of(arguments[3]));
    Topology topology = topology(arguments[1], URI.create(arguments[4]), name, progress);
    KafkaStreams streams = new KafkaStreams(topology, settings(arguments[0], name, Integer.parseInt(arguments[5])));
    streams.setStateListener(
        (state, before) -> {
          if (state == KafkaStreams.State.ERROR) {
            Runtime.getRuntime().halt(1); // an instance whose threads are dead counts nothing, and would stay
          }
        });
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
  }

  private static Topology topology(String topic, URI redis, String prefix, Progress progress) {
    Serde<Journey> packed =
        Serdes.serdeFrom((ignored, journey) -> journey.packed(), (ignored, bytes) -> Journey.unpacked(bytes));
    StoreBuilder<KeyValueStore<String, Journey>> journeys =
        Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore(Journeys.STORE), Serdes.String(), packed)
            .withCachingEnabled();
    return new Topology()
        .addSource("clicks", Serdes.String().deserializer(), new Click.Json(), topic)
        .addProcessor("funnel", () -> new Journeys(redis, prefix, progress), "clicks")
        .addStateStore(journeys, "funnel");
  }

  private static Properties settings(String address, String name, int threads) {
    Properties settings = new Properties();
    settings.putAll(
        Map.of(
            StreamsConfig.APPLICATION_ID_CONFIG, name,
            StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, address,
            StreamsConfig.STATE_DIR_CONFIG, "state",
            StreamsConfig.NUM_STREAM_THREADS_CONFIG, threads,
            StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.AT_LEAST_ONCE,
            StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, COMMIT_MS,
            StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, CACHE_BYTES,
            StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, POLL_RECORDS));
    settings.putAll(
        Map.of(
            StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest",
            StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), FETCH_BYTES,
            StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), POLL_RECORDS,
            StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), LINGER_MS,
            StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), BATCH_BYTES));
    return settings;
  }
}
