package io.chronik.kafkasuite;

import java.util.List;
import java.util.Map;

/** What the nodes of a cluster run. */
interface Software {
    /** The nodes that a test asks for, with their ports; none is started. */
    List<Node> nodes(ProcessCluster cluster);

    /** Writes what a node reads when it starts. */
    void prepare(ProcessCluster cluster, Node node);

    List<String> command(Node node);

    Map<String, String> environment();

    /** A node ended while the cluster started: whether something was changed, so that another try makes sense. */
    boolean amend(ProcessCluster cluster, Node node);

    /** Seconds that a cluster may take to start. */
    int patience();
}
