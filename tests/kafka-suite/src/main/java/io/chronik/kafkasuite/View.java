package io.chronik.kafkasuite;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.errors.InterruptException;
import org.apache.kafka.common.message.MetadataResponseData.MetadataResponsePartition;
import org.apache.kafka.common.message.MetadataResponseData.MetadataResponseTopic;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.requests.MetadataResponse;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.stream.Collectors;

/** What the brokers of a cluster say of it, each by itself; by a client where the listener wants to know who asks. */
final class View {
    private final ProcessCluster cluster;
    private volatile String clusterId;

    View(ProcessCluster cluster) {
        this.cluster = cluster;
    }

    String clusterId() {
        return clusterId;
    }

    /** Whether every broker that runs knows all that run. */
    boolean complete() {
        Set<Integer> running = cluster.running().map(n -> n.id).collect(Collectors.toSet());
        if (!cluster.plaintext()) return described().containsAll(running);
        return cluster.running().allMatch(n -> {
            try {
                MetadataResponse answer = Wire.metadata(n.port("kafka"), List.of());
                clusterId = answer.clusterId();
                return ids(answer.brokers()).containsAll(running);
            } catch (IOException | RuntimeException e) {
                return false;
            }
        });
    }

    private Set<Integer> described() {
        try (Admin admin = cluster.admin(Map.of("request.timeout.ms", 3000, "default.api.timeout.ms", 3000))) {
            clusterId = admin.describeCluster().clusterId().get();
            return ids(admin.describeCluster().nodes().get());
        } catch (ExecutionException e) {
            return Set.of();
        } catch (InterruptedException e) {
            throw new InterruptException(e);
        }
    }

    private static Set<Integer> ids(Collection<org.apache.kafka.common.Node> nodes) {
        return nodes.stream().map(org.apache.kafka.common.Node::id).collect(Collectors.toSet());
    }

    /** What a broker knows of a topic, if it does. */
    Optional<MetadataResponseTopic> topic(Node node, String name) {
        return topics(node, List.of(name)).stream().filter(t -> name.equals(t.name()) && t.errorCode() == 0).findFirst();
    }

    /** The same of several; `null` asks for all. A broker that does not answer knows none. */
    List<MetadataResponseTopic> topics(Node node, List<String> names) {
        try {
            return cluster.plaintext() ? List.copyOf(Wire.metadata(node.port("kafka"), names).data().topics()) : described(names);
        } catch (IOException | ExecutionException e) {
            return List.of();
        } catch (InterruptedException e) {
            throw new InterruptException(e);
        }
    }

    private List<MetadataResponseTopic> described(List<String> names) throws ExecutionException, InterruptedException {
        List<MetadataResponseTopic> topics = new ArrayList<>();
        try (Admin admin = cluster.admin()) {
            Collection<String> wanted = names == null ? admin.listTopics().names().get() : names;
            for (Map.Entry<String, KafkaFuture<TopicDescription>> entry : admin.describeTopics(wanted).topicNameValues().entrySet()) {
                MetadataResponseTopic topic = new MetadataResponseTopic().setName(entry.getKey());
                try {
                    TopicDescription description = entry.getValue().get();
                    topic.setTopicId(description.topicId());
                    description.partitions().forEach(p -> topic.partitions().add(partition(p)));
                } catch (ExecutionException e) {
                    topic.setErrorCode(Errors.UNKNOWN_TOPIC_OR_PARTITION.code());
                }
                topics.add(topic);
            }
        }
        return topics;
    }

    private static MetadataResponsePartition partition(TopicPartitionInfo info) {
        return new MetadataResponsePartition()
            .setPartitionIndex(info.partition())
            .setLeaderId(info.leader() == null ? -1 : info.leader().id())
            .setReplicaNodes(info.replicas().stream().map(org.apache.kafka.common.Node::id).toList())
            .setIsrNodes(info.isr().stream().map(org.apache.kafka.common.Node::id).toList());
    }
}
