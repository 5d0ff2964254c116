import java.util.*;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.coordinator.group.api.assignor.*;
import org.apache.kafka.coordinator.group.assignor.*;
import org.apache.kafka.coordinator.group.modern.*;

/**
 * Writes kafka-4.3.1.txt: what Apache Kafka's own assignors make of groups that change at random. Run with Kafka's jars on the class
 * path: java -cp 'libs/*' Golden.java > kafka-4.3.1.txt
 *
 * A line is: assignor, homogeneous or heterogeneous, the topics as number:partitions, the members, "->", the assignment. A member is
 * id/instance/topics it subscribes to/assignment so far; an assignment is topic:partition.partition+topic:...
 */
public class Golden {
    static final Random random = new Random(7);

    public static void main(String[] args) {
        for (int group = 0; group < 60; group++) {
            for (ConsumerGroupPartitionAssignor a : List.of(new UniformAssignor(), new RangeAssignor())) {
                evolve(a, group % 2 == 0, 1 + random.nextInt(6), 1 + random.nextInt(group % 10 == 0 ? 40 : 8));
            }
        }
    }

    /** A group lives through eight assignments; in between members and partitions come and go. */
    static void evolve(ConsumerGroupPartitionAssignor assignor, boolean homogeneous, int topicCount, int most) {
        TreeMap<Uuid, Integer> topics = new TreeMap<>();
        for (int n = 1; n <= topicCount; n++) topics.put(new Uuid(0, n), 1 + random.nextInt(12));
        TreeMap<String, TreeSet<Uuid>> subscriptions = new TreeMap<>();
        Map<String, String> instances = new HashMap<>();
        Map<String, Assignment> current = new HashMap<>();
        TreeSet<Uuid> common = some(topics.keySet());
        for (int step = 0; step < 8; step++) {
            for (int i = random.nextInt(3); i >= 0 && !subscriptions.isEmpty(); i--) {
                if (random.nextInt(3) > 0) continue;
                String gone = new ArrayList<>(subscriptions.keySet()).get(random.nextInt(subscriptions.size()));
                subscriptions.remove(gone);
                instances.remove(gone);
                current.remove(gone);
            }
            while (subscriptions.size() < 1 + random.nextInt(most)) {
                String id = String.format("m%03d", random.nextInt(1000));
                subscriptions.put(id, homogeneous ? common : some(topics.keySet()));
                if (random.nextInt(4) == 0) instances.put(id, "i" + random.nextInt(1000));
            }
            if (random.nextInt(3) == 0) {
                Uuid t = new ArrayList<>(topics.keySet()).get(random.nextInt(topics.size()));
                topics.merge(t, 1 + random.nextInt(4), Integer::sum);
            }
            if (random.nextInt(4) == 0) {
                if (homogeneous) {
                    common = some(topics.keySet());
                    for (Map.Entry<String, TreeSet<Uuid>> e : subscriptions.entrySet()) e.setValue(common);
                } else {
                    String one = new ArrayList<>(subscriptions.keySet()).get(random.nextInt(subscriptions.size()));
                    subscriptions.put(one, some(topics.keySet()));
                }
            }
            TreeMap<String, MemberSubscriptionAndAssignmentImpl> members = new TreeMap<>();
            Map<Uuid, Map<Integer, String>> inverted = new HashMap<>();
            List<String> line = new ArrayList<>(List.of(assignor.name(), homogeneous ? "homogeneous" : "heterogeneous"));
            List<String> shown = new ArrayList<>();
            topics.forEach((id, n) -> shown.add(number(id) + ":" + n));
            line.add(String.join(",", shown));
            subscriptions.forEach((id, subscribed) -> {
                Assignment assigned = current.getOrDefault(id, Assignment.EMPTY);
                members.put(id, new MemberSubscriptionAndAssignmentImpl(Optional.empty(), Optional.ofNullable(instances.get(id)), subscribed, assigned));
                assigned.partitions().forEach((t, ps) -> ps.forEach(p -> inverted.computeIfAbsent(t, k -> new HashMap<>()).put(p, id)));
                List<String> names = new ArrayList<>();
                subscribed.forEach(t -> names.add(number(t)));
                line.add(id + "/" + instances.getOrDefault(id, "") + "/" + String.join("+", names) + "/" + show(assigned.partitions()));
            });
            SubscribedTopicDescriber describer = new SubscribedTopicDescriber() {
                public int numPartitions(Uuid id) { return topics.getOrDefault(id, -1); }
                public Set<String> racksForPartition(Uuid id, int partition) { return Set.of(); }
                public Set<Integer> assignablePartitions(Uuid id) { return Set.of(); }
            };
            SubscriptionType type = homogeneous ? SubscriptionType.HOMOGENEOUS : SubscriptionType.HETEROGENEOUS;
            GroupAssignment made = assignor.assign(new GroupSpecImpl(members, type, inverted, Optional.empty()), describer);
            line.add("->");
            for (String id : subscriptions.keySet()) {
                TreeMap<Uuid, Set<Integer>> sorted = new TreeMap<>();
                if (made.members().containsKey(id)) {
                    made.members().get(id).partitions().forEach((t, ps) -> sorted.put(t, new TreeSet<>(ps)));
                }
                sorted.values().removeIf(Set::isEmpty);
                current.put(id, new Assignment(sorted));
                line.add(id + "/" + show(sorted));
            }
            System.out.println(String.join(" ", line));
        }
    }

    static TreeSet<Uuid> some(Set<Uuid> topics) {
        TreeSet<Uuid> chosen = new TreeSet<>(topics);
        chosen.removeIf(t -> random.nextInt(3) == 0);
        return chosen;
    }

    static String number(Uuid id) { return Long.toString(id.getLeastSignificantBits()); }

    static String show(Map<Uuid, Set<Integer>> partitions) {
        List<String> topics = new ArrayList<>();
        new TreeMap<>(partitions).forEach((t, ps) -> {
            List<String> numbers = new ArrayList<>();
            new TreeSet<>(ps).forEach(p -> numbers.add(Integer.toString(p)));
            topics.add(number(t) + ":" + String.join(".", numbers));
        });
        return String.join("+", topics);
    }
}
