import java.util.*;
import java.util.stream.*;
import org.apache.kafka.common.errors.StreamsInvalidTopologyException;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.coordinator.common.runtime.CoordinatorMetadataImage;
import org.apache.kafka.coordinator.group.generated.StreamsGroupTopologyValue.*;
import org.apache.kafka.coordinator.group.streams.StreamsTopology;
import org.apache.kafka.coordinator.group.streams.topics.*;

/**
 * Writes kafka-4.3.1.txt: what Apache Kafka's InternalTopicManager makes of random topologies. Run with Kafka's jars on the class path:
 * java -cp 'libs/*' Golden.java > kafka-4.3.1.txt
 *
 * A line is, separated by tabs: the topics that exist as name:partitions, the subtopologies, the result. A subtopology is
 * id/sources/sinks/repartition sources as name:partitions/changelogs/copartition groups as source.source-repartition.repartition+...
 * A result is INVALID, or status;message;subtopologies as id/tasks/repartition sources/changelogs;topics to create.
 *
 * Names are A to O and ids 0 to 5, of which Kafka's hash tables are in order.
 */
public class Golden {
    static final Random random = new Random(11);

    public static void main(String[] args) {
        Map<String, Integer> seen = new TreeMap<>();
        for (int n = 0; n < 20000; n++) {
            String line = line();
            String[] fields = line.split("\t");
            String status = fields[2].split(";")[0];
            if (status.equals("2")) status += fields[2].split(";")[1].split(" ")[0];
            if (seen.merge(status, 1, Integer::sum) <= 120) System.out.println(line);
        }
        System.err.println(seen);
    }

    static String line() {
        List<String> names = new ArrayList<>();
        for (char c = 'A'; c <= 'O'; c++) names.add("" + c);
        Collections.shuffle(names, random);
        List<String> external = names.subList(0, 5), repartition = names.subList(5, 11), changelogs = new ArrayList<>(names.subList(11, 15));
        boolean equal = random.nextBoolean();
        TreeMap<String, Integer> existing = new TreeMap<>();
        for (String t : external) if (random.nextInt(25) > 0) existing.put(t, equal ? 4 : 1 + random.nextInt(4));
        int fixed = random.nextInt(3) == 0 ? 1 + random.nextInt(4) : 0;

        int count = 1 + random.nextInt(5);
        TreeMap<String, Subtopology> subtopologies = new TreeMap<>();
        List<String> unused = new ArrayList<>(repartition.subList(0, random.nextInt(repartition.size() + 1)));
        List<List<String>> sinks = new ArrayList<>(), reads = new ArrayList<>();
        for (int i = 0; i < count; i++) { sinks.add(new ArrayList<>()); reads.add(new ArrayList<>()); }
        for (String t : unused) {
            if (random.nextInt(30) > 0) sinks.get(random.nextInt(count)).add(t);
            reads.get(random.nextInt(count)).add(t);
        }
        for (int i = 0; i < count; i++) {
            Subtopology s = new Subtopology().setSubtopologyId("" + i);
            List<String> sources = new ArrayList<>();
            for (String t : external) if (random.nextInt(4) == 0) sources.add(t);
            if (sources.isEmpty() && reads.get(i).isEmpty() && random.nextInt(20) > 0) sources.add(external.get(i));
            s.setSourceTopics(sources);
            s.setRepartitionSinkTopics(sinks.get(i));
            List<TopicInfo> infos = new ArrayList<>();
            for (String t : reads.get(i)) {
                int n = random.nextInt(3) > 0 ? 0 : fixed > 0 ? fixed : random.nextInt(6) == 0 ? 1 + random.nextInt(4) : 0;
                infos.add(new TopicInfo().setName(t).setPartitions(n));
            }
            s.setRepartitionSourceTopics(infos);
            List<TopicInfo> logs = new ArrayList<>();
            while (!changelogs.isEmpty() && random.nextInt(3) == 0) logs.add(new TopicInfo().setName(changelogs.remove(0)));
            s.setStateChangelogTopics(logs);
            List<CopartitionGroup> groups = new ArrayList<>();
            for (int g = random.nextInt(3); g > 0; g--) {
                groups.add(new CopartitionGroup().setSourceTopics(some(sources.size())).setRepartitionSourceTopics(some(infos.size())));
            }
            s.setCopartitionGroups(groups);
            subtopologies.put("" + i, s);
        }
        // Some of the internal topics exist, mostly as they should be.
        String result = configure(subtopologies, existing);
        int part = random.nextInt(3);
        if (result.startsWith("3;") && part > 0) {
            for (String t : result.split(";", -1)[3].split(",")) {
                String[] nameAndCount = t.split(":");
                if (part == 2 || random.nextBoolean()) existing.put(nameAndCount[0], Integer.parseInt(nameAndCount[1]) + (random.nextInt(12) == 0 ? 1 : 0));
            }
            result = configure(subtopologies, existing);
        }
        return pairs(existing) + "\t" + subtopologies.values().stream().map(Golden::print).collect(Collectors.joining(" ")) + "\t" + result;
    }

    static List<Short> some(int size) {
        List<Short> out = new ArrayList<>();
        for (short i = 0; i < size; i++) if (random.nextBoolean()) out.add(i);
        return out;
    }

    static String configure(TreeMap<String, Subtopology> subtopologies, Map<String, Integer> existing) {
        CoordinatorMetadataImage image = (CoordinatorMetadataImage) java.lang.reflect.Proxy.newProxyInstance(Golden.class.getClassLoader(),
            new Class<?>[] {CoordinatorMetadataImage.class}, (proxy, method, a) -> {
                if (!method.getName().equals("topicMetadata") || !(a[0] instanceof String)) throw new UnsupportedOperationException(method.toString());
                Integer n = existing.get((String) a[0]);
                if (n == null) return Optional.empty();
                return Optional.of(java.lang.reflect.Proxy.newProxyInstance(Golden.class.getClassLoader(),
                    new Class<?>[] {CoordinatorMetadataImage.TopicMetadata.class}, (p, m, b) -> {
                        if (!m.getName().equals("partitionCount")) throw new UnsupportedOperationException(m.toString());
                        return n;
                    }));
            });
        ConfiguredTopology c;
        try {
            c = InternalTopicManager.configureTopics(org.slf4j.helpers.NOPLogger.NOP_LOGGER, "g", "m", 0, new StreamsTopology(0, subtopologies), image, Time.SYSTEM);
        } catch (StreamsInvalidTopologyException e) {
            return "INVALID;" + e.getMessage();
        }
        String subs = c.subtopologies().map(m -> m.entrySet().stream().map(e -> e.getKey() + "/" + e.getValue().numberOfTasks()
            + "/" + internal(e.getValue().repartitionSourceTopics()) + "/" + internal(e.getValue().stateChangelogTopics()))
            .collect(Collectors.joining(" "))).orElse("");
        TreeMap<String, Integer> create = new TreeMap<>();
        c.internalTopicsToBeCreated().values().forEach(t -> create.put(t.name(), t.numPartitions()));
        int status = c.topicConfigurationException().map(e -> (int) e.status().code()).orElse(-1);
        return status + ";" + c.topicConfigurationException().map(Throwable::getMessage).orElse("") + ";" + subs + ";" + pairs(create);
    }

    static String internal(Map<String, ConfiguredInternalTopic> topics) {
        TreeMap<String, Integer> out = new TreeMap<>();
        topics.values().forEach(t -> out.put(t.name(), t.numberOfPartitions()));
        return pairs(out);
    }

    static String pairs(Map<String, Integer> m) {
        return m.entrySet().stream().map(e -> e.getKey() + ":" + e.getValue()).collect(Collectors.joining(","));
    }

    static String print(Subtopology s) {
        return s.subtopologyId() + "/" + String.join(",", s.sourceTopics()) + "/" + String.join(",", s.repartitionSinkTopics()) + "/"
            + s.repartitionSourceTopics().stream().map(t -> t.name() + ":" + t.partitions()).collect(Collectors.joining(",")) + "/"
            + s.stateChangelogTopics().stream().map(TopicInfo::name).collect(Collectors.joining(",")) + "/"
            + s.copartitionGroups().stream().map(g -> indexes(g.sourceTopics()) + "-" + indexes(g.repartitionSourceTopics())).collect(Collectors.joining("+"));
    }

    static String indexes(List<Short> list) {
        return list.stream().map(String::valueOf).collect(Collectors.joining("."));
    }
}
