import java.time.Duration;
import java.util.Arrays;
import java.util.Properties;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * Counts words with exactly_once_v2: lines of IN become one record in OUT for each word, its key the word and its value the word's
 * count so far. Two threads, hence two members of the group; a repartition topic and a changelog between.
 *
 * <p>Prints what it restores from the changelog. Ends on SIGTERM, or with status 1 when Streams gives up.
 */
public final class WordCount {
    private WordCount() {}

    public static void main(String[] args) {
        if (args.length != 6) {
            throw new IllegalArgumentException("usage: WordCount BOOTSTRAP GROUP_PROTOCOL APPLICATION_ID STATE_DIR IN OUT");
        }
        Properties p = new Properties();
        p.put("bootstrap.servers", args[0]);
        p.put("group.protocol", args[1]);
        p.put("application.id", args[2]);
        p.put("state.dir", args[3]);
        p.put("processing.guarantee", "exactly_once_v2");
        p.put("num.stream.threads", 2);
        p.put("commit.interval.ms", 500);
        p.put("statestore.cache.max.bytes", 0); // every count is written, none is passed over
        p.put("producer.linger.ms", 0); // what a transaction holds is soon in the log
        p.put("transaction.timeout.ms", 5000);
        if (args[1].equals("classic")) {
            p.put("session.timeout.ms", 5000);
            p.put("heartbeat.interval.ms", 500);
        }
        p.put("auto.offset.reset", "earliest");
        p.put("default.key.serde", Serdes.StringSerde.class);
        p.put("default.value.serde", Serdes.StringSerde.class);

        StreamsBuilder b = new StreamsBuilder();
        b.<String, String>stream(args[4])
            .flatMapValues(line -> Arrays.asList(line.split(" ")))
            .groupBy((key, word) -> word)
            .count(Materialized.<String, Long, KeyValueStore<Bytes, byte[]>>as("counts"))
            .toStream()
            .mapValues(String::valueOf)
            .to(args[5], Produced.with(Serdes.String(), Serdes.String()));

        KafkaStreams streams = new KafkaStreams(b.build(), p);
        streams.setGlobalStateRestoreListener(new Restores());
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.ERROR) {
                Runtime.getRuntime().halt(1);
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(30))));
        streams.start();
    }

    private static final class Restores implements StateRestoreListener {
        @Override
        public void onRestoreStart(TopicPartition partition, String store, long first, long end) {}

        @Override
        public void onBatchRestored(TopicPartition partition, String store, long last, long records) {}

        @Override
        public void onRestoreEnd(TopicPartition partition, String store, long records) {
            System.out.println("restored " + records + " records of " + partition);
        }
    }
}
