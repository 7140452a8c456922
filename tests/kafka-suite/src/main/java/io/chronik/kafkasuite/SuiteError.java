package io.chronik.kafkasuite;

/** The suite could not do its part; this says nothing about the broker. */
final class SuiteError extends RuntimeException {
    SuiteError(String message) {
        super(message);
    }

    SuiteError(String message, Throwable cause) {
        super(message, cause);
    }
}
