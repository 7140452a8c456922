package io.chronik.kafkasuite;

import org.apache.kafka.common.security.auth.SecurityProtocol;

import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/** A node's configuration in Kafka's terms: Apache Kafka reads it, and stand-ins for Chronik's brokers show it. */
final class ServerProperties {
    /** Kafka's test clusters number controllers that are no brokers from here on. */
    static final int FIRST_CONTROLLER = 3000;

    static Map<String, String> of(ProcessCluster cluster, Node node) {
        var config = cluster.config();
        String listener = config.brokerListenerName().value();
        String internal = config.controllerListenerName().value();
        // Chronik's voters are brokers; a Kafka broker of the same configuration has its controllers elsewhere.
        boolean controls = Settings.KAFKA && node.controller;
        Map<String, String> all = new TreeMap<>();
        all.put("process.roles", Stream.of(node.broker ? "broker" : "", controls ? "controller" : "")
            .filter(role -> !role.isEmpty()).collect(Collectors.joining(",")));
        all.put("node.id", Integer.toString(node.id));
        all.put("controller.quorum.voters", cluster.nodes().stream().filter(n -> n.controller)
            .map(n -> (Settings.KAFKA ? n.id : FIRST_CONTROLLER + n.id) + "@localhost:" + n.port("controller"))
            .collect(Collectors.joining(",")));
        all.put("listeners", Stream.of(
                node.broker ? listener + "://localhost:" + node.port("kafka") : "",
                controls ? internal + "://localhost:" + node.port("controller") : "")
            .filter(one -> !one.isEmpty()).collect(Collectors.joining(",")));
        all.put("listener.security.protocol.map",
            listener + ":" + config.brokerSecurityProtocol() + "," + internal + ":" + config.controllerSecurityProtocol());
        all.put("inter.broker.listener.name", listener);
        all.put("controller.listener.names", internal);
        all.put("log.dirs", directories(cluster, node).map(Path::toString).collect(Collectors.joining(",")));
        all.put("metadata.log.dir", directories(cluster, node).findFirst().orElseThrow().toString());
        all.put("log.cleaner.dedupe.buffer.size", "2097152");
        // A broker that is not Kafka's has none of the versions that Kafka itself calls unstable.
        all.put("unstable.api.versions.enable", Boolean.toString(Settings.KAFKA));
        all.put("unstable.feature.versions.enable", "true");
        // Chronik assigns at once, as Kafka does with 0: some tests ask which of the two they are to expect.
        if (!Settings.KAFKA) all.put("group.consumer.assignment.interval.ms", "0");
        boolean sasl = node.broker && config.brokerSecurityProtocol() == SecurityProtocol.SASL_PLAINTEXT
            || controls && config.controllerSecurityProtocol() == SecurityProtocol.SASL_PLAINTEXT;
        if (sasl) {
            all.put("sasl.enabled.mechanisms", "PLAIN");
            all.put("sasl.mechanism.inter.broker.protocol", "PLAIN");
            all.put("sasl.mechanism.controller.protocol", "PLAIN");
            all.put("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer");
            all.put("allow.everyone.if.no.acl.found", "false");
            all.put("super.users", "User:plain-admin");
        }
        all.putAll(cluster.asked(node.id));
        return all;
    }

    static Stream<Path> directories(ProcessCluster cluster, Node node) {
        return IntStream.range(0, Math.max(1, cluster.config().numDisksPerBroker())).mapToObj(i -> node.dir.resolve("data" + i));
    }

    private ServerProperties() { }
}
