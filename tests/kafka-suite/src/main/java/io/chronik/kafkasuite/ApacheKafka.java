package io.chronik.kafkasuite;

import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.test.api.Type;
import org.apache.kafka.metadata.storage.Formatter;

import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;

/** Apache Kafka, a JVM a node: what fails here too is not Chronik's fault. */
final class ApacheKafka implements Software {
    private static final String JAAS = """
        KafkaServer {
          org.apache.kafka.common.security.plain.PlainLoginModule required
          username="plain-admin" password="plain-admin-secret"
          user_plain-admin="plain-admin-secret" user_plain-user1="plain-user1-secret";
        };
        """;

    private final String clusterId = Uuid.randomUuid().toString();

    @Override
    public List<Node> nodes(ProcessCluster cluster) {
        boolean combined = cluster.type() == Type.CO_KRAFT;
        int brokers = cluster.config().numBrokers();
        int controllers = cluster.config().numControllers();
        List<Node> nodes = new ArrayList<>();
        for (int i = 0; i < controllers; i++) {
            int id = combined ? i : ServerProperties.FIRST_CONTROLLER + i;
            nodes.add(new Node(id, combined && i < brokers, true, cluster.dir().resolve("node-" + id)));
        }
        for (int id = combined ? controllers : 0; id < brokers; id++) {
            nodes.add(new Node(id, true, false, cluster.dir().resolve("node-" + id)));
        }
        for (Node node : nodes) {
            if (node.broker) node.ports.put("kafka", Ports.take());
            if (node.controller) node.ports.put("controller", Ports.take());
        }
        return nodes;
    }

    @Override
    public void prepare(ProcessCluster cluster, Node node) {
        Properties properties = new Properties();
        properties.putAll(ServerProperties.of(cluster, node));
        try {
            Files.createDirectories(node.dir);
            try (OutputStream out = Files.newOutputStream(node.dir.resolve("server.properties"))) {
                properties.store(out, null);
            }
            Files.writeString(node.dir.resolve("jaas.conf"), JAAS);
            format(cluster, node);
        } catch (Exception e) {
            throw new SuiteError("cannot prepare node " + node.id + ": " + e.getMessage(), e);
        }
    }

    private void format(ProcessCluster cluster, Node node) throws Exception {
        List<Path> directories = ServerProperties.directories(cluster, node).toList();
        Formatter formatter = new Formatter()
            .setPrintStream(new PrintStream(OutputStream.nullOutputStream()))
            .setNodeId(node.id)
            .setClusterId(clusterId)
            .setControllerListenerName(cluster.config().controllerListenerName().value())
            .setMetadataLogDirectory(directories.get(0).toString())
            .setUnstableFeatureVersionsEnabled(true)
            .setReleaseVersion(cluster.config().metadataVersion());
        for (Path directory : directories) {
            Files.createDirectories(directory);
            formatter.addDirectory(directory.toString());
        }
        cluster.config().features().forEach((feature, level) -> formatter.setFeatureLevel(feature.featureName(), level));
        formatter.run();
    }

    @Override
    public List<String> command(Node node) {
        return List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            "-Djava.security.auth.login.config=" + node.dir.resolve("jaas.conf"),
            "-Dlog4j2.configurationFile=suite-log4j2.xml",
            "kafka.Kafka", node.dir.resolve("server.properties").toString());
    }

    @Override
    public Map<String, String> environment() {
        // That of the tests, as some of them bring plug-ins.
        return Map.of("CLASSPATH", System.getProperty("java.class.path"));
    }

    @Override
    public boolean amend(ProcessCluster cluster, Node node) {
        if (node.lastWords().stream().noneMatch(line -> line.contains("in use"))) return false;
        cluster.nodes().forEach(n -> n.ports.replaceAll((name, port) -> Ports.take()));
        return true;
    }

    @Override
    public int patience() {
        return 120;
    }
}
