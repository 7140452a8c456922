package io.chronik.kafkasuite;

/** A test asked for an object inside of a broker, which a broker in another process cannot give it. */
final class NeedsInternals extends UnsupportedOperationException {
    private NeedsInternals(String what) {
        super("needs broker internals: " + what);
    }

    /** The exception, once it is noted: tests may catch it and fail of something else. */
    static NeedsInternals of(String what) {
        Observed.now().internals(what);
        return new NeedsInternals(what);
    }
}
