package io.chronik.kafkasuite;

import java.io.IOException;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * `chronik serve`. It refuses by name each property that it does not know, or whose value it does not take; that one is
 * left out then, and noted. So no list of what Chronik knows is kept here.
 */
final class Chronik implements Software {
    private static final Pattern UNKNOWN_KEY = Pattern.compile("unknown key '([^']+)'");
    private static final Pattern REFUSED_KEY = Pattern.compile("(?m)^chronik: (?:\\S+\\.yaml: )?(?:line \\d+: )?([a-z][a-z0-9.]+): .*$");
    private static final Pattern REFUSED_LINE = Pattern.compile("(?m)^chronik: \\S+\\.yaml: line (\\d+): .*$");
    private static final Pattern JAVA_CLASS = Pattern.compile("(org\\.apache\\.kafka|kafka)\\.[a-z.]*\\.[A-Z]\\w*");
    /** Classes that name what Kafka has built in: another broker has it in its own way. */
    private static final Pattern BUILT_IN = Pattern.compile(".*\\.(StandardAuthorizer|DefaultStatePersister|NoOpStatePersister)");
    /** Kafka's defaults, which the tests rely on, where Chronik's are others. */
    private static final Map<String, String> DEFAULTS = Map.of("default.replication.factor", "1", "min.insync.replicas", "1");
    /** Keys that this build does not know, for all tests of this JVM. */
    private static final Set<String> UNKNOWN = new HashSet<>();

    /** Keys whose values this cluster refused. */
    private final Set<String> refused = new HashSet<>();

    @Override
    public List<Node> nodes(ProcessCluster cluster) {
        int brokers = cluster.config().numBrokers();
        // Tests like to stop the first broker, so that the last ones vote; of three voters any one may stop.
        int voters = brokers < 3 ? 1 : 3;
        List<Node> nodes = new ArrayList<>();
        for (int id = 0; id < brokers; id++) {
            Node node = new Node(id, true, id >= brokers - voters, cluster.dir().resolve("broker-" + id));
            for (String name : List.of("kafka", "replication", "controller", "http")) node.ports.put(name, Ports.take());
            nodes.add(node);
        }
        return nodes;
    }

    @Override
    public void prepare(ProcessCluster cluster, Node node) {
        List<String> lines = new ArrayList<>();
        lines.add("broker_id: " + node.id);
        lines.add("data_dir: " + node.dir.resolve("data"));
        lines.add("listen:");
        node.ports.forEach((name, port) -> lines.add("  " + name + ": 127.0.0.1:" + port));
        lines.add("members:");
        for (Node n : cluster.nodes()) {
            lines.add("  - {id: %d, host: localhost, kafka_port: %d, replication_port: %d, controller_port: %d}"
                .formatted(n.id, n.port("kafka"), n.port("replication"), n.port("controller")));
        }
        lines.add("voters: " + cluster.nodes().stream().filter(n -> n.controller).map(n -> n.id).toList());
        String kafka = properties(cluster, node).entrySet().stream().filter(p -> taken(p.getKey(), p.getValue()))
            .map(p -> "\n  " + p.getKey() + ": " + quoted(p.getValue())).collect(Collectors.joining());
        if (!kafka.isEmpty()) lines.add("kafka:" + kafka);
        try {
            Files.createDirectories(node.dir);
            Files.write(node.dir.resolve("broker.yaml"), lines);
        } catch (IOException e) {
            throw new SuiteError("cannot write the configuration", e);
        }
    }

    private static Map<String, String> properties(ProcessCluster cluster, Node node) {
        Map<String, String> all = new TreeMap<>(DEFAULTS);
        // What a test gives to Kafka's controllers; here they are in the brokers.
        cluster.config().perServerOverrideProperties().forEach((id, own) -> {
            if (id >= ServerProperties.FIRST_CONTROLLER) all.putAll(own);
        });
        all.putAll(cluster.asked(node.id));
        return all;
    }

    private boolean taken(String key, String value) {
        boolean unknown = UNKNOWN.contains(key);
        if (unknown && JAVA_CLASS.matcher(value).lookingAt() && !BUILT_IN.matcher(value).matches()) {
            Observed.now().internals("a Java plug-in: " + key);
        }
        // A test of Kafka's has a sentence for a key.
        if ((unknown || refused.contains(key)) && key.matches("[a-z.]+")) Observed.now().dropped.add(key);
        return !unknown && !refused.contains(key);
    }

    private static String quoted(String value) {
        boolean plain = value.matches("-?[0-9]+|true|false");
        return plain ? value : "\"" + value.replace("\\", "\\\\").replace("\"", "\\\"") + "\"";
    }

    @Override
    public List<String> command(Node node) {
        return List.of(Settings.CHRONIK, "serve", "--config", node.dir.resolve("broker.yaml").toString());
    }

    @Override
    public Map<String, String> environment() {
        return Map.of("NO_COLOR", "1");
    }

    @Override
    public boolean amend(ProcessCluster cluster, Node node) {
        String words = String.join("\n", node.lastWords());
        if (words.contains("in use")) {
            cluster.nodes().forEach(n -> n.ports.replaceAll((name, port) -> Ports.take()));
            return true;
        }
        Matcher unknown = UNKNOWN_KEY.matcher(words);
        if (unknown.find()) return UNKNOWN.add(unknown.group(1));
        Matcher key = REFUSED_KEY.matcher(words);
        if (key.find()) return refused.add(key.group(1));
        Matcher line = REFUSED_LINE.matcher(words);
        if (!line.find()) return false;
        try {
            String bad = Files.readAllLines(node.dir.resolve("broker.yaml")).get(Integer.parseInt(line.group(1)) - 1);
            return bad.matches("  [a-z0-9.]+: .*") && refused.add(bad.trim().split(": ")[0]);
        } catch (IOException | IndexOutOfBoundsException e) {
            return false;
        }
    }

    @Override
    public int patience() {
        return 60;
    }
}
