import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.concurrent.Future;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * The clients of the workloads of histories, in Java: what queue_test.go and transactions_test.go do with franz-go.
 *
 * <p>Usage: java -cp LIBS Histories.java queue|transactions BOOTSTRAP SEED BEGAN UNACKNOWLEDGED: BEGAN are nanoseconds of Unix time, and
 * UNACKNOWLEDGED is how many records a sender of the queue may have sent and not heard of. Every operation is written to standard output
 * when it has ended, as a line of JSON in the form of history.Op. A line on standard input ends those who send, which is answered by the
 * line "stopped"; the end of standard input ends all. Errors that clients go on after are told on standard error.
 */
public class Histories {
    static final Duration PATIENCE = Duration.ofSeconds(8);
    static final int LIFE = 50; // how many polls a reader lives, in the middle

    final String bootstrap;
    final long seed;
    final int unacknowledged;
    final long clock; // to be added to nanoTime
    final PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    final AtomicLong values = new AtomicLong(1L << 40); // out of the way of those that the test sends itself
    final AtomicInteger processes = new AtomicInteger(1 << 20);
    final List<Thread> senders = new ArrayList<>(), readers = new ArrayList<>();
    volatile boolean stop, leave;

    Histories(String bootstrap, long seed, long began, int unacknowledged) {
        this.bootstrap = bootstrap;
        this.seed = seed;
        this.unacknowledged = unacknowledged;
        Instant now = Instant.now();
        clock = now.getEpochSecond() * 1_000_000_000L + now.getNano() - began - System.nanoTime();
    }

    public static void main(String[] args) throws Exception {
        Histories h = new Histories(args[1], Long.parseUnsignedLong(args[2]), Long.parseLong(args[3]), Integer.parseInt(args[4]));
        if (args[0].equals("queue")) h.queue();
        else h.transactions();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        boolean asked = in.readLine() != null;
        h.stop = true;
        for (Thread t : h.senders) t.join();
        if (asked) {
            h.tell("stopped");
            in.readLine();
        }
        h.leave = true;
        for (Thread t : h.readers) t.join();
    }

    synchronized void tell(String line) {
        out.println(line);
        out.flush();
    }

    interface Work {
        void run(Random random) throws Exception;
    }

    /** Starts a client's thread. What its work throws ends the program: it is no fault that a client has to live with. */
    void start(List<Thread> all, Work work) {
        Random random = new Random(seed * 1000 + senders.size() * 100L + readers.size());
        Thread t = new Thread(() -> {
            try {
                work.run(random);
            } catch (Throwable e) {
                e.printStackTrace();
                System.exit(1);
            }
        });
        all.add(t);
        t.start();
    }

    // What is told.

    long now() {
        return System.nanoTime() + clock;
    }

    record Rec(String partition, long offset, long value) {}

    record Step(String action, List<Rec> records) {}

    /** An operation, as history.Op has it. */
    class Op {
        final int process;
        final boolean transaction;
        final String group;
        final long start = now();
        final List<Step> steps = new ArrayList<>();
        String outcome = "info";
        long commitStart;
        boolean moved;

        Op(int process, boolean transaction, String group) {
            this.process = process;
            this.transaction = transaction;
            this.group = group;
        }

        void ended() {
            StringBuilder b = new StringBuilder();
            for (Step s : steps) {
                b.append(b.length() > 0 ? "," : "").append("{\"action\":\"").append(s.action).append("\",\"records\":[");
                for (int i = 0; i < s.records.size(); i++) {
                    Rec r = s.records.get(i);
                    b.append(i > 0 ? "," : "").append("{\"partition\":\"").append(r.partition).append("\",\"offset\":").append(r.offset);
                    b.append(",\"value\":").append(r.value).append('}');
                }
                b.append("]}");
            }
            synchronized (Histories.this) { // operations are told in the order in which they ended
                tell("{\"process\":" + process + ",\"outcome\":\"" + outcome + "\",\"start\":" + start + ",\"end\":" + now()
                    + ",\"transaction\":" + transaction + ",\"commitStart\":" + commitStart + ",\"group\":\"" + group + "\",\"moved\":" + moved
                    + ",\"steps\":[" + b + "]}");
            }
        }
    }

    static void say(String who, Exception e) {
        System.err.println(who + ": " + e);
    }

    // Clients.

    Properties impatient() {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("reconnect.backoff.ms", "5");
        p.put("reconnect.backoff.max.ms", "50");
        p.put("retry.backoff.ms", "5");
        p.put("retry.backoff.max.ms", "50");
        p.put("request.timeout.ms", "5000");
        p.put("socket.connection.setup.timeout.ms", "1000");
        return p;
    }

    KafkaProducer<String, String> producer(String transactionalId) {
        Properties p = impatient();
        p.put("max.block.ms", transactionalId == null ? "60000" : Long.toString(PATIENCE.toMillis()));
        p.put("delivery.timeout.ms", "60000");
        p.put("linger.ms", "1");
        if (transactionalId != null) {
            p.put("transactional.id", transactionalId);
            p.put("transaction.timeout.ms", "10000");
            p.put("delivery.timeout.ms", Long.toString(PATIENCE.toMillis()));
            p.put("linger.ms", "0");
        }
        return new KafkaProducer<>(p, new StringSerializer(), new StringSerializer());
    }

    KafkaConsumer<String, String> consumer(String group, boolean autoCommit) {
        Properties p = impatient();
        p.put("isolation.level", "read_committed");
        p.put("auto.offset.reset", "earliest");
        p.put("fetch.max.wait.ms", "100");
        p.put("default.api.timeout.ms", "3000");
        p.put("enable.auto.commit", autoCommit);
        p.put("auto.commit.interval.ms", "100");
        if (group != null) {
            p.put("group.id", group);
            p.put("session.timeout.ms", "2000");
            p.put("heartbeat.interval.ms", "100");
        }
        return new KafkaConsumer<>(p, new StringDeserializer(), new StringDeserializer());
    }

    static String valued(long value, int padding) {
        return value + ":" + "x".repeat(padding);
    }

    static Rec seen(ConsumerRecord<String, String> r) {
        String value = r.value().substring(0, r.value().indexOf(':'));
        return new Rec(r.topic() + "-" + r.partition(), r.offset(), Long.parseLong(value));
    }

    static Step polled(ConsumerRecords<String, String> records) {
        Step step = new Step("poll", new ArrayList<>());
        for (ConsumerRecord<String, String> r : records) step.records.add(seen(r));
        return step;
    }

    static Map<TopicPartition, OffsetAndMetadata> after(ConsumerRecords<String, String> records) {
        Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
        for (ConsumerRecord<String, String> r : records) next.put(new TopicPartition(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1));
        return next;
    }

    static Step committed(Map<TopicPartition, OffsetAndMetadata> offsets) {
        Step step = new Step("commit", new ArrayList<>());
        offsets.forEach((tp, o) -> step.records.add(new Rec(tp.topic() + "-" + tp.partition(), o.offset(), 0)));
        return step;
    }

    /** Notes that partitions came or went. */
    static class Moves implements ConsumerRebalanceListener {
        boolean moved; // of the thread that polls

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            moved = true;
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            moved = true;
        }

        boolean take() {
            boolean was = moved;
            moved = false;
            return was;
        }
    }

    // The queue.

    static final String QUEUE = "queue";
    static final int QUEUE_PARTITIONS = 3;

    void queue() {
        for (int i = 0; i < 3; i++) start(senders, this::send);
        for (int i = 0; i < 2; i++) start(readers, random -> assigned(random, QUEUE_PARTITIONS, QUEUE));
        for (int i = 0; i < 2; i++) start(readers, random -> subscribed(random, "committing", false));
        start(readers, random -> subscribed(random, "auto-committing", true));
    }

    /** Sends records until it is told to stop, by an idempotent producer with several requests in flight. Each record is an operation. */
    void send(Random random) throws Exception {
        int process = processes.incrementAndGet();
        Semaphore room = new Semaphore(unacknowledged);
        try (KafkaProducer<String, String> producer = producer(null)) {
            while (!stop) {
                Thread.sleep(random.nextInt(3));
                room.acquire();
                long value = values.incrementAndGet();
                int partition = random.nextInt(QUEUE_PARTITIONS);
                Op op = new Op(process, false, "");
                producer.send(new ProducerRecord<>(QUEUE, partition, null, valued(value, random.nextInt(4096))), (metadata, e) -> {
                    op.outcome = e == null ? "ok" : "info";
                    op.steps.add(new Step("send", List.of(new Rec(QUEUE + "-" + partition, e == null ? metadata.offset() : -1, value))));
                    op.ended();
                    room.release();
                    if (e != null) say("send", e);
                });
            }
            producer.flush();
        }
    }

    /** Polls all partitions from their start, and now and then is a new client that does so. */
    void assigned(Random random, int partitions, String... topics) {
        while (!leave) {
            int process = processes.incrementAndGet();
            List<TopicPartition> all = new ArrayList<>();
            for (String topic : topics) for (int p = 0; p < partitions; p++) all.add(new TopicPartition(topic, p));
            try (KafkaConsumer<String, String> consumer = consumer(null, false)) {
                consumer.assign(all);
                do {
                    Op op = new Op(process, false, "");
                    try {
                        read(consumer, op);
                    } catch (KafkaException e) {
                        say("assigned", e);
                        break;
                    }
                } while (!leave && random.nextInt(LIFE) > 0);
            }
        }
    }

    /** Polls, and tells of it if any records came. */
    static ConsumerRecords<String, String> read(KafkaConsumer<String, String> consumer, Op op) {
        ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
        if (!records.isEmpty()) {
            op.outcome = "ok";
            op.steps.add(polled(records));
            op.ended();
        }
        return records;
    }

    /** Polls as a member of a group, which commits after each poll or leaves it to its client, and now and then is a new client. */
    void subscribed(Random random, String group, boolean autoCommit) {
        while (!leave) {
            int process = processes.incrementAndGet();
            Moves moves = new Moves();
            try (KafkaConsumer<String, String> consumer = consumer(group, autoCommit)) {
                consumer.subscribe(List.of(QUEUE), moves);
                do {
                    Op op = new Op(process, false, group);
                    ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
                    if (records.isEmpty()) continue;
                    op.moved = moves.take();
                    op.outcome = "ok";
                    op.steps.add(polled(records));
                    op.ended();
                    if (!autoCommit) commit(consumer, process, group, records);
                } while (!leave && random.nextInt(LIFE) > 0);
            } catch (KafkaException e) {
                say(group, e);
            }
        }
    }

    void commit(KafkaConsumer<String, String> consumer, int process, String group, ConsumerRecords<String, String> records) {
        Op op = new Op(process, false, group);
        Map<TopicPartition, OffsetAndMetadata> next = after(records);
        op.steps.add(committed(next));
        try {
            consumer.commitSync(next);
            op.outcome = "ok";
        } catch (KafkaException e) {
            say(group, e);
        }
        op.ended();
    }

    // Transactions.

    static final String INPUT = "txn-input", OUTPUT = "txn-output";
    static final int TXN_PARTITIONS = 2;

    void transactions() {
        for (int i = 0; i < 2; i++) {
            String id = "sender-" + i;
            start(senders, random -> sendAll(random, id));
        }
        for (int i = 0; i < 2; i++) {
            String id = "processor-" + i;
            start(senders, random -> processAll(random, id));
        }
        for (int i = 0; i < 2; i++) start(readers, random -> assigned(random, TXN_PARTITIONS, INPUT, OUTPUT));
    }

    /** Makes a producer that has a transactional id for itself: whatever transaction it had open is over. */
    KafkaProducer<String, String> takeOver(String id) {
        long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        while (true) {
            KafkaProducer<String, String> producer = producer(id);
            try {
                producer.initTransactions();
                return producer;
            } catch (KafkaException e) {
                producer.close(Duration.ZERO);
                if (System.nanoTime() > until) throw e;
                say(id, e);
            }
        }
    }

    /** Sends transactions until it is told to stop. After an error a new client takes the transactional id over. */
    void sendAll(Random random, String id) throws Exception {
        while (!stop) {
            KafkaProducer<String, String> producer = takeOver(id);
            int process = processes.incrementAndGet();
            try {
                while (!stop) sendOne(random, producer, process);
            } catch (KafkaException e) {
                say(id, e);
            }
            producer.close(Duration.ZERO);
        }
        takeOver(id).close();
    }

    void sendOne(Random random, KafkaProducer<String, String> producer, int process) throws Exception {
        Op op = new Op(process, true, "");
        op.outcome = "fail";
        try {
            producer.beginTransaction();
            List<ProducerRecord<String, String>> records = new ArrayList<>();
            for (int n = 1 + random.nextInt(4); n > 0; n--) {
                String topic = random.nextBoolean() ? INPUT : OUTPUT;
                records.add(new ProducerRecord<>(topic, random.nextInt(TXN_PARTITIONS), null, valued(values.incrementAndGet(), random.nextInt(500))));
            }
            sent(producer, op, records);
            Thread.sleep(random.nextInt(20)); // the transaction is open for others to see
            end(producer, op, random.nextInt(4) > 0);
        } finally {
            op.ended();
        }
    }

    /** Sends records within a transaction. The operation has them, acknowledged or not. */
    static void sent(KafkaProducer<String, String> producer, Op op, List<ProducerRecord<String, String>> records) throws Exception {
        List<Future<RecordMetadata>> all = new ArrayList<>();
        Step step = new Step("send", new ArrayList<>());
        op.steps.add(step);
        KafkaException refused = null;
        for (ProducerRecord<String, String> r : records) {
            try {
                all.add(producer.send(r));
            } catch (KafkaException e) {
                all.add(null);
                refused = e;
            }
        }
        for (int i = 0; i < records.size(); i++) {
            ProducerRecord<String, String> r = records.get(i);
            long offset = -1, value = Long.parseLong(r.value().substring(0, r.value().indexOf(':')));
            try {
                if (all.get(i) != null) offset = all.get(i).get().offset();
            } catch (java.util.concurrent.ExecutionException e) {
                refused = new KafkaException(e.getCause());
            }
            step.records.add(new Rec(r.topic() + "-" + r.partition(), offset, value));
        }
        if (refused != null) throw refused;
    }

    void end(KafkaProducer<String, String> producer, Op op, boolean commit) {
        if (!commit) {
            producer.abortTransaction();
            return;
        }
        op.commitStart = now();
        op.outcome = "info";
        producer.commitTransaction();
        op.outcome = "ok";
    }

    /** Is a member of the group that makes output of input until it is told to stop. After an error new clients go on. */
    void processAll(Random random, String id) throws Exception {
        while (!stop) {
            KafkaProducer<String, String> producer = takeOver(id);
            int process = processes.incrementAndGet();
            Moves moves = new Moves();
            try (KafkaConsumer<String, String> consumer = consumer("processors", false)) {
                consumer.subscribe(List.of(INPUT), moves);
                do processOne(producer, consumer, process, moves);
                while (!stop && random.nextInt(LIFE) > 0);
            } catch (KafkaException e) {
                say(id, e);
            }
            producer.close(Duration.ZERO);
        }
        takeOver(id).close();
    }

    void processOne(KafkaProducer<String, String> producer, KafkaConsumer<String, String> consumer, int process, Moves moves) throws Exception {
        Op op = new Op(process, true, "processors");
        op.outcome = "fail";
        ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(100));
        if (records.isEmpty()) return;
        op.moved = moves.take();
        op.steps.add(polled(records));
        List<ProducerRecord<String, String>> output = new ArrayList<>();
        for (ConsumerRecord<String, String> r : records) output.add(new ProducerRecord<>(OUTPUT, r.partition(), null, valued(values.incrementAndGet(), 0)));
        try {
            producer.beginTransaction();
            sent(producer, op, output);
            Map<TopicPartition, OffsetAndMetadata> next = after(records);
            op.steps.add(committed(next));
            producer.sendOffsetsToTransaction(next, consumer.groupMetadata());
            end(producer, op, true);
        } finally {
            op.ended();
        }
    }
}
