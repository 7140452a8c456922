package io.chronik.kafkasuite;

import java.util.Set;
import java.util.concurrent.ConcurrentSkipListSet;

/** What is seen of a test beside its outcome. A JVM runs one test at a time. */
final class Observed {
    private static volatile Observed now = new Observed();

    /** `API:ERROR` that its clients were answered, or `API:UNSUPPORTED`. */
    final Set<String> refusals = new ConcurrentSkipListSet<>();
    /** Broker properties that it sets and the broker does not take. */
    final Set<String> dropped = new ConcurrentSkipListSet<>();
    private volatile String internals;
    private volatile String death;
    private volatile String overdue;

    private Observed() { }

    static Observed now() {
        return now;
    }

    static void begin() {
        now = new Observed();
    }

    /** The first broker internal that it asked for, or null. */
    String internals() {
        return internals;
    }

    void internals(String what) {
        if (internals == null) internals = what;
    }

    /** How a broker ended that nobody had stopped, or null. */
    String death() {
        return death;
    }

    void death(String how) {
        if (death == null) death = how;
    }

    /** Where the test was when its time was over, or null. */
    String overdue() {
        return overdue;
    }

    void overdue(String where) {
        if (overdue == null) overdue = where;
    }
}
