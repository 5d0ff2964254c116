import java.util.*;
import java.util.stream.*;
import org.apache.kafka.coordinator.group.streams.assignor.*;

/**
 * Writes kafka-4.3.1-tasks.txt: what Apache Kafka's StickyTaskAssignor makes of streams groups that change at random. Run with Kafka's
 * jars on the class path: java -cp 'libs/*' GoldenTasks.java > kafka-4.3.1-tasks.txt
 *
 * A line is: standby replicas, subtopologies as id:tasks:stateful or not, members, "->", assignments. A member is id/process/active/standby,
 * an assignment active/standby; tasks are subtopology:partition.partition+subtopology:...
 *
 * Kafka breaks ties in the order of hash tables. Members are named 0 to ?, printed as a to p, and processes 0 upwards in their order anew
 * for every line: of such names Kafka's tables are in order.
 */
public class GoldenTasks {
    static final Random random = new Random(5);

    static class Member {
        int process;
        Map<String, Set<Integer>> active = Map.of(), standby = Map.of();
    }

    public static void main(String[] args) {
        for (int group = 0; group < 120; group++) evolve(1 + random.nextInt(4), 1 + random.nextInt(group % 3 == 0 ? 15 : 6), random.nextInt(3));
    }

    static void evolve(int subtopologies, int most, int replicas) {
        int[] tasks = new int[subtopologies];
        boolean[] stateful = new boolean[subtopologies];
        for (int i = 0; i < subtopologies; i++) {
            tasks[i] = 1 + random.nextInt(12);
            stateful[i] = random.nextInt(3) > 0;
        }
        TreeMap<Integer, Member> members = new TreeMap<>();
        for (int step = 0; step < 8; step++) {
            for (int i = random.nextInt(3); i > 0 && !members.isEmpty(); i--) {
                Integer gone = new ArrayList<>(members.keySet()).get(random.nextInt(members.size()));
                int process = members.get(gone).process;
                if (random.nextBoolean()) members.remove(gone);
                else members.values().removeIf(m -> m.process == process); // the whole process
            }
            while (members.size() < 1 + random.nextInt(most)) members.computeIfAbsent(random.nextInt(16), k -> {
                Member m = new Member();
                m.process = random.nextInt(6);
                return m;
            });
            if (random.nextInt(6) == 0) tasks[random.nextInt(subtopologies)] += random.nextInt(6) - 2;
            for (int i = 0; i < subtopologies; i++) tasks[i] = Math.max(1, tasks[i]);
            if (random.nextInt(6) == 0) { // what nobody should have had
                Member m = new ArrayList<>(members.values()).get(random.nextInt(members.size()));
                m.active = any(subtopologies);
                m.standby = any(subtopologies);
            }
            line(tasks, stateful, members, replicas);
        }
    }

    static Map<String, Set<Integer>> any(int subtopologies) {
        Map<String, Set<Integer>> out = new TreeMap<>();
        for (int i = random.nextInt(12); i > 0; i--) out.computeIfAbsent("" + random.nextInt(subtopologies + 1), k -> new TreeSet<>()).add(random.nextInt(14));
        return out;
    }

    static void line(int[] tasks, boolean[] stateful, TreeMap<Integer, Member> members, int replicas) {
        List<Integer> processes = members.values().stream().map(m -> m.process).sorted().distinct().toList();
        TreeMap<String, AssignmentMemberSpec> specs = new TreeMap<>();
        StringBuilder out = new StringBuilder();
        out.append(replicas).append(' ');
        out.append(IntStream.range(0, tasks.length).mapToObj(i -> i + ":" + tasks[i] + ":" + stateful[i]).collect(Collectors.joining(",")));
        members.forEach((id, m) -> {
            String process = "" + (char) ('0' + processes.indexOf(m.process));
            specs.put(name(id), new AssignmentMemberSpec(Optional.empty(), Optional.empty(), m.active, m.standby, Map.of(), process, Map.of(), Map.of(), Map.of()));
            out.append(' ').append((char) ('a' + id)).append('/').append(process).append('/').append(print(m.active)).append('/').append(print(m.standby));
        });
        GroupAssignment result = new StickyTaskAssignor().assign(new GroupSpecImpl(specs, Map.of("num.standby.replicas", "" + replicas)), new TopologyDescriber() {
            public List<String> subtopologies() { return IntStream.range(0, tasks.length).mapToObj(String::valueOf).toList(); }
            public int maxNumInputPartitions(String id) { return tasks[Integer.parseInt(id)]; }
            public boolean isStateful(String id) { return stateful[Integer.parseInt(id)]; }
        });
        out.append(" ->");
        members.forEach((id, m) -> {
            MemberAssignment a = result.members().get(name(id));
            m.active = a.activeTasks();
            m.standby = a.standbyTasks();
            out.append(' ').append(print(m.active)).append('/').append(print(m.standby));
        });
        System.out.println(out);
    }

    static String name(int id) { return "" + (char) ('0' + id); }

    static String print(Map<String, Set<Integer>> tasks) {
        return new TreeMap<>(tasks).entrySet().stream().map(e -> e.getKey() + ":" + e.getValue().stream().sorted().map(String::valueOf)
            .collect(Collectors.joining("."))).collect(Collectors.joining("+"));
    }
}
