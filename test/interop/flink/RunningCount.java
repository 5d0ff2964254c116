import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.Optional;
import java.util.stream.Stream;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.sink.TransactionNamingStrategy;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.runtime.state.FunctionInitializationContext;
import org.apache.flink.runtime.state.FunctionSnapshotContext;
import org.apache.flink.streaming.api.checkpoint.CheckpointedFunction;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/**
 * Counts records by key with an exactly-once sink: each record of IN becomes one in OUT with the same key, its value the key's count so far
 * and the value that came in. Two subtasks each of source, count and sink; a checkpoint every 400 ms, the newest of which a new process goes on
 * from. Each transaction is open for far longer than a run: what a killed process leaves open, Flink itself has to abort.
 *
 * <p>Files in DIR ask for trouble: whoever finds "fail" deletes it and fails. While there is "hold", a checkpoint does not complete though
 * all that it covers is written to its transactions.
 */
public final class RunningCount {
    private static final TypeInformation<Tuple2<String, String>> PAIR = Types.TUPLE(Types.STRING, Types.STRING);

    private RunningCount() {}

    public static void main(String[] args) throws Exception {
        if (args.length != 5) {
            throw new IllegalArgumentException("usage: RunningCount BOOTSTRAP NAMING_STRATEGY DIR IN OUT");
        }
        String bootstrap = args[0];
        TransactionNamingStrategy naming = TransactionNamingStrategy.valueOf(args[1]);
        Path dir = Path.of(args[2]);
        String in = args[3];
        String out = args[4];
        Path checkpoints = dir.resolve("checkpoints");

        Configuration c = new Configuration();
        c.setString("execution.checkpointing.interval", "400 ms");
        c.setString("execution.checkpointing.mode", "EXACTLY_ONCE");
        c.setString("execution.checkpointing.storage", "filesystem");
        c.setString("execution.checkpointing.dir", checkpoints.toUri().toString());
        c.setString("execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION");
        c.setString("restart-strategy.type", "fixed-delay");
        c.setString("restart-strategy.fixed-delay.attempts", "20");
        c.setString("restart-strategy.fixed-delay.delay", "200 ms");
        newest(checkpoints).ifPresent(p -> c.setString("execution.state-recovery.path", p.toUri().toString()));

        StreamExecutionEnvironment env = StreamExecutionEnvironment.createLocalEnvironment(2, c);
        KafkaSource<Tuple2<String, String>> source = KafkaSource.<Tuple2<String, String>>builder()
            .setBootstrapServers(bootstrap)
            .setTopics(in)
            .setGroupId(out)
            .setStartingOffsets(OffsetsInitializer.earliest())
            .setProperty("isolation.level", "read_committed")
            .setDeserializer(new FromTopic())
            .build();
        KafkaSink<Tuple2<String, String>> sink = KafkaSink.<Tuple2<String, String>>builder()
            .setBootstrapServers(bootstrap)
            .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
            .setTransactionalIdPrefix(out)
            .setTransactionNamingStrategy(naming)
            .setProperty("transaction.timeout.ms", "600000")
            .setRecordSerializer(KafkaRecordSerializationSchema.<Tuple2<String, String>>builder()
                .setTopic(out)
                .setKeySerializationSchema(new Field(0))
                .setValueSerializationSchema(new Field(1))
                .build())
            .build();
        env.fromSource(source, WatermarkStrategy.noWatermarks(), "source")
            .uid("source")
            .keyBy(r -> r.f0, Types.STRING)
            .process(new Count(dir.toString()))
            .returns(PAIR)
            .uid("count")
            .sinkTo(sink)
            .uid("sink");
        env.execute();
    }

    /** The newest completed checkpoint of all processes that ran before: each goes on with the numbers of the one before. */
    private static Optional<Path> newest(Path checkpoints) throws IOException {
        if (!Files.exists(checkpoints)) {
            return Optional.empty();
        }
        try (Stream<Path> all = Files.find(checkpoints, 3, (p, a) -> p.endsWith("_metadata"))) {
            return all.map(Path::getParent).max(Comparator.comparingLong(p -> Long.parseLong(p.getFileName().toString().substring("chk-".length()))));
        }
    }

    private static final class FromTopic implements KafkaRecordDeserializationSchema<Tuple2<String, String>> {
        @Override
        public void deserialize(ConsumerRecord<byte[], byte[]> r, Collector<Tuple2<String, String>> out) {
            out.collect(Tuple2.of(new String(r.key(), StandardCharsets.UTF_8), new String(r.value(), StandardCharsets.UTF_8)));
        }

        @Override
        public TypeInformation<Tuple2<String, String>> getProducedType() {
            return PAIR;
        }
    }

    private static final class Field implements SerializationSchema<Tuple2<String, String>> {
        private final int index;

        Field(int index) {
            this.index = index;
        }

        @Override
        public byte[] serialize(Tuple2<String, String> r) {
            return r.<String>getField(index).getBytes(StandardCharsets.UTF_8);
        }
    }

    private static final class Count extends KeyedProcessFunction<String, Tuple2<String, String>, Tuple2<String, String>>
            implements CheckpointedFunction {
        private final String dir;
        private transient ValueState<Long> count;

        Count(String dir) {
            this.dir = dir;
        }

        @Override
        public void initializeState(FunctionInitializationContext context) {
            count = context.getKeyedStateStore().getState(new ValueStateDescriptor<>("count", Types.LONG));
            context.getRestoredCheckpointId().ifPresent(id -> System.out.println("restored from checkpoint " + id));
        }

        @Override
        public void snapshotState(FunctionSnapshotContext context) throws InterruptedException {
            System.out.println("snapshot " + context.getCheckpointId());
            for (boolean first = true; Files.exists(Path.of(dir, "hold")); first = false) {
                if (first) {
                    System.out.println("holding " + context.getCheckpointId());
                }
                Thread.sleep(10);
            }
        }

        @Override
        public void processElement(Tuple2<String, String> r, Context context, Collector<Tuple2<String, String>> out) throws Exception {
            if (Files.deleteIfExists(Path.of(dir, "fail"))) {
                throw new IllegalStateException("a failure was asked for");
            }
            long n = count.value() == null ? 1 : count.value() + 1;
            count.update(n);
            out.collect(Tuple2.of(r.f0, n + " " + r.f1));
        }
    }
}
