package io.chronik.kafkasuite;

import kafka.network.SocketServer;
import kafka.server.ControllerServer;
import kafka.server.KafkaBroker;
import kafka.server.KafkaConfig;

import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.message.MetadataResponseData.MetadataResponsePartition;
import org.apache.kafka.common.message.MetadataResponseData.MetadataResponseTopic;
import org.apache.kafka.controller.Controller;
import org.apache.kafka.coordinator.group.GroupCoordinator;
import org.apache.kafka.metadata.BrokerState;
import org.apache.kafka.metadata.LeaderAndIsr;
import org.apache.kafka.metadata.MetadataCache;
import org.mockito.Mockito;

import java.io.IOException;
import java.lang.reflect.Proxy;
import java.util.AbstractMap;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Collectors;

/**
 * Objects of the types that tests look for in their own JVM. They answer what a process can be asked: its ports, its
 * configuration as it was given, start and stop, topics by Metadata of that very broker.
 */
final class Standins {
    /** No answer: the test needs internals. */
    private static final Object NONE = new Object();

    private final ProcessCluster cluster;
    private final View view;
    private final Map<Integer, KafkaBroker> brokers = new HashMap<>();
    private final Map<Integer, KafkaConfig> configs = new HashMap<>();

    Standins(ProcessCluster cluster, View view) {
        this.cluster = cluster;
        this.view = view;
    }

    private interface Answers {
        Object to(String method, Object[] arguments) throws Exception;
    }

    private static Object answer(Class<?> type, Object self, String method, Object[] arguments, Answers answers) throws Exception {
        if (method.equals("toString")) return "stand-in for " + type.getSimpleName();
        if (method.equals("hashCode")) return System.identityHashCode(self);
        if (method.equals("equals")) return self == arguments[0];
        try {
            Object answer = answers.to(method, arguments);
            if (answer == NONE) throw NeedsInternals.of(type.getSimpleName() + "." + method);
            return answer;
        } catch (IOException e) {
            throw new AssertionError("the broker does not answer: " + e, e);
        }
    }

    private static <T> T ofInterface(Class<T> type, Answers answers) {
        return type.cast(Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type},
            (self, method, arguments) -> answer(type, self, method.getName(), arguments, answers)));
    }

    private static <T> T ofClass(Class<T> type, Answers answers) {
        return Mockito.mock(type, call -> answer(type, call.getMock(), call.getMethod().getName(), call.getArguments(), answers));
    }

    synchronized KafkaBroker broker(Node node) {
        return brokers.computeIfAbsent(node.id, id -> {
            MetadataCache cache = metadataCache(node);
            return ofInterface(KafkaBroker.class, (method, arguments) -> switch (method) {
                case "config" -> config(node);
                case "boundPort" -> node.port("kafka");
                case "clusterId" -> cluster.clusterId();
                case "brokerState" -> node.alive() ? BrokerState.RUNNING : BrokerState.NOT_RUNNING;
                case "isShutdown" -> !node.alive();
                case "metadataCache" -> cache;
                case "socketServer" -> ofClass(SocketServer.class, (m, a) -> m.equals("boundPort") ? (Object) node.port("kafka") : NONE);
                case "groupCoordinator" -> groupCoordinator(node);
                case "shutdown" -> {
                    cluster.shutdownBroker(node.id);
                    yield null;
                }
                // `shutdown` has waited for it.
                case "awaitShutdown" -> null;
                case "startup" -> {
                    cluster.startBroker(node.id);
                    yield null;
                }
                default -> NONE;
            });
        });
    }

    private synchronized KafkaConfig config(Node node) {
        return configs.computeIfAbsent(node.id, id -> {
            try {
                return new KafkaConfig(ServerProperties.of(cluster, node), false);
            } catch (RuntimeException e) {
                throw NeedsInternals.of("KafkaConfig (" + e.getMessage() + ")");
            }
        });
    }

    private MetadataCache metadataCache(Node node) {
        return ofInterface(MetadataCache.class, (method, arguments) -> switch (method) {
            case "contains" -> arguments[0] instanceof TopicPartition tp
                ? partition(node, tp.topic(), tp.partition()).isPresent()
                : view.topic(node, (String) arguments[0]).isPresent();
            case "numPartitions" -> view.topic(node, (String) arguments[0]).map(t -> t.partitions().size());
            case "getLeaderAndIsr" -> partition(node, (String) arguments[0], (Integer) arguments[1])
                .map(p -> new LeaderAndIsr(p.leaderId(), p.isrNodes()));
            case "getAllTopics" -> topicIds(node).keySet();
            case "getTopicId" -> view.topic(node, (String) arguments[0]).map(MetadataResponseTopic::topicId).orElse(Uuid.ZERO_UUID);
            case "topicNamesToIds" -> topicIds(node);
            case "getAliveBrokerNodes", "getBrokerNodes" -> List.copyOf(alive(node));
            case "getAliveBrokerNode" -> alive(node).stream().filter(b -> b.id() == (Integer) arguments[0]).findFirst();
            case "hasAliveBroker" -> alive(node).stream().anyMatch(b -> b.id() == (Integer) arguments[0]);
            default -> NONE;
        });
    }

    private static Collection<org.apache.kafka.common.Node> alive(Node node) throws IOException {
        return Wire.metadata(node.port("kafka"), List.of()).brokers();
    }

    private Map<String, Uuid> topicIds(Node node) {
        return view.topics(node, null).stream().collect(Collectors.toMap(MetadataResponseTopic::name, MetadataResponseTopic::topicId));
    }

    private Optional<MetadataResponsePartition> partition(Node node, String topic, int partition) {
        return view.topic(node, topic).flatMap(t -> t.partitions().stream().filter(p -> p.partitionIndex() == partition).findFirst());
    }

    private GroupCoordinator groupCoordinator(Node node) {
        return ofInterface(GroupCoordinator.class, (method, arguments) -> {
            if (!method.equals("groupMetadataTopicConfigs")) return NONE;
            // With these a test makes the offsets topic.
            Properties properties = new Properties();
            properties.put("cleanup.policy", "compact");
            return properties;
        });
    }

    /** Found by id, to be asked for topic ids, and by nothing else: who goes through them all looks into Kafka's metadata log. */
    Map<Integer, ControllerServer> controllers() {
        Set<Integer> ids = cluster.controllerIds();
        return new AbstractMap<>() {
            @Override
            public Set<Entry<Integer, ControllerServer>> entrySet() {
                return Set.of();
            }

            @Override
            public Collection<ControllerServer> values() {
                if (!passedOn()) Observed.now().internals("ControllerServer");
                return Set.of();
            }

            @Override
            public Set<Integer> keySet() {
                return ids;
            }

            @Override
            public ControllerServer get(Object id) {
                return controller();
            }
        };
    }

    /** Kafka's Scala tests pass all controllers on to helpers that only wait for metadata, which has been waited for. */
    private static boolean passedOn() {
        return StackWalker.getInstance().walk(frames -> frames.limit(8).anyMatch(f -> f.getClassName().startsWith("kafka.server.")));
    }

    private ControllerServer controller() {
        Controller controller = ofInterface(Controller.class, (method, arguments) -> method.equals("findAllTopicIds")
            ? CompletableFuture.completedFuture(topicIds(cluster.running().findFirst().orElseThrow())) : NONE);
        return ofClass(ControllerServer.class, (method, arguments) -> method.equals("controller") ? controller : NONE);
    }
}
