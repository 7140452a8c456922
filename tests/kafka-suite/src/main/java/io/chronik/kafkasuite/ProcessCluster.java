package io.chronik.kafkasuite;

import kafka.server.ControllerServer;
import kafka.server.KafkaBroker;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.GroupProtocol;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.errors.InterruptException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.message.MetadataResponseData.MetadataResponsePartition;
import org.apache.kafka.common.message.MetadataResponseData.MetadataResponseTopic;
import org.apache.kafka.common.network.ListenerName;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.security.auth.SecurityProtocol;
import org.apache.kafka.common.test.ClusterInstance;
import org.apache.kafka.common.test.api.ClusterConfig;
import org.apache.kafka.common.test.api.Type;
import org.apache.kafka.server.authorizer.Authorizer;
import org.apache.kafka.server.fault.FaultHandlerException;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** A cluster of processes, as Kafka's tests see it: what the protocol can be asked is, anything else needs internals. */
final class ProcessCluster implements ClusterInstance {
    private static final long WAIT_MS = 60_000;
    /** Each try takes away a property, or ports that others have. */
    private static final int TRIES = 100;
    /** What a broker says of a partition that has been made and is not led yet. */
    private static final Set<Errors> MADE = Set.of(Errors.NONE, Errors.REPLICA_NOT_AVAILABLE, Errors.LEADER_NOT_AVAILABLE);

    private final ClusterConfig config;
    private final Type type;
    private final Path dir;
    private final Software software = Settings.KAFKA ? new ApacheKafka() : new Chronik();
    private final View view = new View(this);
    private final Standins standins = new Standins(this, view);
    private Observed observed = Observed.now();
    private List<Node> nodes = List.of();
    private boolean started;
    private boolean stopped;
    private volatile boolean starting;
    private volatile Thread tester;

    ProcessCluster(ClusterConfig config, Type type, Path dir) {
        this.config = config;
        this.type = type;
        this.dir = dir;
    }

    /** Just before a test's own preparations; its constructor has been given this cluster before. */
    void prepare() {
        observed = Observed.now();
        tester = Thread.currentThread();
        nodes = software.nodes(this);
    }

    Path dir() {
        return dir;
    }

    List<Node> nodes() {
        return nodes;
    }

    Stream<Node> brokerNodes() {
        return nodes.stream().filter(n -> n.broker);
    }

    Stream<Node> running() {
        return brokerNodes().filter(Node::alive);
    }

    private Node broker(int id) {
        return brokerNodes().filter(n -> n.id == id).findFirst()
            .orElseThrow(() -> new IllegalArgumentException("Unknown brokerId " + id));
    }

    /** The properties that the test sets on a server. */
    Map<String, String> asked(int id) {
        Map<String, String> all = new TreeMap<>(config.serverProperties());
        all.putAll(config.perServerOverrideProperties().getOrDefault(id, Map.of()));
        return all;
    }

    boolean plaintext() {
        return config.brokerSecurityProtocol() == SecurityProtocol.PLAINTEXT;
    }

    // Start and stop

    @Override
    public void start() {
        if (started) return;
        started = true;
        if (!Settings.KAFKA && !plaintext()) {
            throw new AssertionError("the broker has no " + config.brokerSecurityProtocol() + " listener");
        }
        starting = true;
        try {
            for (int tries = 1; !starts(); tries++) {
                if (tries == TRIES) throw new SuiteError("the cluster does not start");
                nodes.forEach(Node::kill);
                clear();
            }
        } finally {
            starting = false;
        }
    }

    /** Whether all of it runs; if not, another try may fare better. */
    private boolean starts() {
        for (Node node : nodes) software.prepare(this, node);
        nodes.forEach(this::launch);
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(software.patience());
        while (true) {
            for (Node node : nodes) {
                if (node.alive()) continue;
                if (software.amend(this, node)) return false;
                throw new SuiteError("node " + node.id + " ended while it started: " + node.lastWords());
            }
            if (view.complete() && nodes.stream().allMatch(Node::alive)) return true;
            if (System.nanoTime() > deadline) {
                throw new SuiteError("the cluster was not ready within " + software.patience() + " s: " + nodes.get(0).lastWords());
            }
            pause();
        }
    }

    private void launch(Node node) {
        node.start(software.command(node), software.environment(), () -> starting, how -> {
            observed.death(how);
            // Nothing that the test still waits for will come.
            Thread thread = tester;
            if (thread != null) thread.interrupt();
        });
    }

    @Override
    public boolean started() {
        return started;
    }

    @Override
    public void stop() {
        if (stopped) return;
        stopped = true;
        tester = null;
        nodes.forEach(Node::kill);
    }

    @Override
    public boolean stopped() {
        return stopped;
    }

    /** Removes the cluster's folder. */
    void clear() {
        try (Stream<Path> paths = Files.walk(dir)) {
            paths.sorted(Comparator.reverseOrder()).forEach(path -> path.toFile().delete());
        } catch (IOException e) {
            // Whoever started this JVM removes what stays.
        }
    }

    @Override
    public void shutdownBroker(int id) {
        broker(id).stop();
    }

    @Override
    public void startBroker(int id) {
        Node node = broker(id);
        if (!node.alive()) launch(node);
        waitFor(WAIT_MS, "broker " + id + " is not back", () -> {
            if (!node.alive()) throw new AssertionError("broker " + id + " did not start again: " + node.lastWords());
            return view.complete();
        });
    }

    @Override
    public void waitForReadyBrokers() {
        waitFor(WAIT_MS, "brokers are not ready", view::complete);
    }

    @Override
    public Optional<FaultHandlerException> firstFatalException() {
        return Optional.empty();
    }

    @Override
    public Optional<FaultHandlerException> firstNonFatalException() {
        return Optional.empty();
    }

    // Facts

    @Override
    public Type type() {
        return type;
    }

    @Override
    public ClusterConfig config() {
        return config;
    }

    @Override
    public Set<Integer> brokerIds() {
        return brokerNodes().map(n -> n.id).collect(Collectors.toCollection(TreeSet::new));
    }

    @Override
    public Set<Integer> controllerIds() {
        List<Integer> all = nodes.stream().filter(n -> n.controller).map(n -> n.id).toList();
        // As many as the test asks for: of Chronik's brokers more may vote.
        return new TreeSet<>(all.subList(Math.max(0, all.size() - config.numControllers()), all.size()));
    }

    @Override
    public ListenerName clientListener() {
        return config.brokerListenerName();
    }

    @Override
    public ListenerName controllerListenerName() {
        return config.controllerListenerName();
    }

    @Override
    public String bootstrapServers() {
        return brokerBoundPorts().stream().map(port -> "localhost:" + port).collect(Collectors.joining(","));
    }

    @Override
    public String bootstrapControllers() {
        return controllerBoundPorts().stream().map(port -> "localhost:" + port).collect(Collectors.joining(","));
    }

    @Override
    public List<Integer> brokerBoundPorts() {
        return brokerNodes().map(n -> n.port("kafka")).toList();
    }

    @Override
    public List<Integer> controllerBoundPorts() {
        if (!Settings.KAFKA) throw NeedsInternals.of("a controller listener that speaks Kafka's protocol");
        return nodes.stream().filter(n -> n.controller).map(n -> n.port("controller")).toList();
    }

    @Override
    public String clusterId() {
        waitForReadyBrokers();
        return view.clusterId();
    }

    @Override
    public Set<GroupProtocol> supportedGroupProtocols() {
        String protocols = config.serverProperties().getOrDefault("group.coordinator.rebalance.protocols", "classic,consumer");
        return protocols.contains("consumer") ? Set.of(GroupProtocol.CLASSIC, GroupProtocol.CONSUMER) : Set.of(GroupProtocol.CLASSIC);
    }

    @Override
    public Map<Integer, KafkaBroker> brokers() {
        Map<Integer, KafkaBroker> all = new LinkedHashMap<>();
        brokerNodes().forEach(n -> all.put(n.id, standins.broker(n)));
        return all;
    }

    @Override
    public Map<Integer, ControllerServer> controllers() {
        return standins.controllers();
    }

    @Override
    public List<Authorizer> authorizers() {
        throw NeedsInternals.of("Authorizer");
    }

    // Topics and ACLs, and waiting for them

    @Override
    public void createTopic(String topic, int partitions, short replicationFactor, Map<String, String> configs) {
        create(new NewTopic(topic, partitions, replicationFactor).configs(configs));
        waitTopicCreation(topic, partitions);
    }

    @Override
    public void createTopicWithAssignment(String topic, Map<Integer, List<Integer>> replicas) {
        create(new NewTopic(topic, replicas));
        waitTopicCreation(topic, replicas.size());
    }

    /** Fails at once when it is refused; Kafka's own cluster would wait for the topic until the time is over. */
    private void create(NewTopic topic) {
        try (Admin admin = admin()) {
            admin.createTopics(List.of(topic)).all().get();
        } catch (ExecutionException e) {
            if (e.getCause() instanceof TopicExistsException) return;
            throw new AssertionError("cannot create " + topic + ": " + e.getCause().getMessage(), e.getCause());
        } catch (InterruptedException e) {
            throw new InterruptException(e);
        }
    }

    @Override
    public void waitTopicCreation(String topic, int partitions) {
        if (partitions <= 0) throw new IllegalArgumentException("Partition count must be > 0, but was " + partitions);
        waitFor(WAIT_MS, topic + " metadata not propagated after " + WAIT_MS + " ms", () -> running().allMatch(n ->
            view.topic(n, topic).filter(t -> t.partitions().size() == partitions
                && t.partitions().stream().allMatch(p -> MADE.contains(Errors.forCode(p.errorCode())))).isPresent()));
    }

    @Override
    public void waitTopicDeletion(String topic) {
        waitFor(WAIT_MS, topic + " metadata not propagated after " + WAIT_MS + " ms", () -> running().allMatch(n ->
            view.topics(n, List.of(topic)).stream().anyMatch(t -> t.errorCode() == Errors.UNKNOWN_TOPIC_OR_PARTITION.code())));
    }

    @Override
    public void ensureConsistentMetadata() {
        waitFor(WAIT_MS, "brokers do not agree on metadata",
            () -> running().map(n -> placements(view.topics(n, null))).distinct().count() <= 1);
    }

    private static Map<String, Map<Integer, List<?>>> placements(List<MetadataResponseTopic> topics) {
        return topics.stream().collect(Collectors.toMap(t -> t.name() + "/" + t.topicId(), t -> t.partitions().stream()
            .collect(Collectors.toMap(MetadataResponsePartition::partitionIndex, p -> List.of(p.leaderId(), p.replicaNodes())))));
    }

    @Override
    public void ensureConsistentMetadata(Collection<KafkaBroker> brokers, Collection<ControllerServer> controllers) {
        ensureConsistentMetadata();
    }

    @Override
    public void waitAcls(AclBindingFilter filter, Collection<AccessControlEntry> entries) {
        Set<AccessControlEntry> wanted = new HashSet<>(entries);
        waitFor(15_000, "expected acls: " + wanted, () -> {
            try (Admin admin = admin()) {
                return admin.describeAcls(filter).values().get().stream().map(AclBinding::entry).collect(Collectors.toSet()).equals(wanted);
            } catch (ExecutionException e) {
                if (e.getCause() instanceof RetriableException) return false;
                throw new AssertionError("cannot describe acls: " + e.getCause(), e);
            } catch (InterruptedException e) {
                throw new InterruptException(e);
            }
        });
    }

    private static void waitFor(long ms, String failure, BooleanSupplier condition) {
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(ms);
        while (!condition.getAsBoolean()) {
            if (System.nanoTime() > deadline) throw new AssertionError(failure);
            pause();
        }
    }

    private static void pause() {
        try {
            Thread.sleep(20);
        } catch (InterruptedException e) {
            throw new InterruptException(e);
        }
    }
}
