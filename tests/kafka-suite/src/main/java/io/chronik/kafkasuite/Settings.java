package io.chronik.kafkasuite;

import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;

/** The system properties of this JVM. */
final class Settings {
    /** The brokers are Apache Kafka's and not Chronik's. */
    static final boolean KAFKA = Boolean.getBoolean("suite.kafka");
    /** The `chronik` binary. */
    static final String CHRONIK = System.getProperty("suite.chronik", "");
    /** `chronik-tests`, under which processes are started. */
    static final String LEASH = System.getProperty("suite.leash", "");
    /** Where clusters have their folders. */
    static final Path DATA = Path.of(System.getProperty("suite.data", "."));
    /** Seconds for one test. */
    static final long LIMIT_S = Long.getLong("suite.limit", 60);
    /** Folders of clusters whose test failed stay. */
    static final boolean KEEP = Boolean.getBoolean("suite.keep");
    /** Ports that belong to this JVM as long as it runs. */
    static final List<Integer> PORTS =
        Arrays.stream(System.getProperty("suite.ports", "").split(",")).filter(s -> !s.isEmpty()).map(Integer::valueOf).toList();

    private Settings() { }
}
