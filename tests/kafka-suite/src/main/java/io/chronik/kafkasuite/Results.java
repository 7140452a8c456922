package io.chronik.kafkasuite;

import org.apache.kafka.common.utils.Exit;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.engine.support.descriptor.MethodSource;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;

import java.io.PrintStream;
import java.util.Set;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;

/**
 * Writes a line a test, with tabs between: `Class#method`, its outcome, milliseconds, the error, what its clients were
 * refused, what of its properties the broker did not take.
 */
final class Results implements TestExecutionListener {
    private static final int LONGEST = 400;

    private final PrintStream out;
    private long began;

    Results(PrintStream out) {
        this.out = out;
    }

    @Override
    public void executionStarted(TestIdentifier id) {
        if (!id.isTest()) return;
        began = System.nanoTime();
        Observed.begin();
        System.err.println("---- " + name(id));
        // A tool that gives up would end its JVM, which is this one.
        Exit.setExitProcedure((code, message) -> {
            throw new AssertionError("the tool exits with " + code + (message == null ? "" : ": " + message));
        });
    }

    @Override
    public void executionSkipped(TestIdentifier id, String reason) {
        line(id, "skipped", reason);
    }

    @Override
    public void executionFinished(TestIdentifier id, TestExecutionResult result) {
        Throwable error = result.getThrowable().orElse(null);
        if (error != null) error.printStackTrace();
        if (!id.isTest()) {
            // A class that cannot be set up.
            if (error != null) line(id, "error", text(error));
            return;
        }
        Observed seen = Observed.now();
        switch (result.getStatus()) {
            case SUCCESSFUL -> line(id, "passed", "");
            case ABORTED -> line(id, "skipped", error == null ? "" : text(error));
            default -> {
                if (seen.death() != null) line(id, "failed", "a broker died: " + seen.death());
                else if (seen.internals() != null) line(id, "internals", seen.internals());
                else line(id, isOfTheSuite(error) ? "error" : "failed", error == null ? "" : text(error));
            }
        }
    }

    /** It never came to a question to the broker. */
    private static boolean isOfTheSuite(Throwable error) {
        for (Throwable t = error; t != null; t = t.getCause()) {
            if (t instanceof SuiteError || t instanceof LinkageError || t instanceof ClassNotFoundException) return true;
        }
        return false;
    }

    private static String text(Throwable error) {
        Throwable shown = error;
        while (shown.getCause() != null && (shown instanceof ExecutionException || shown instanceof CompletionException
            || shown.getClass() == RuntimeException.class)) shown = shown.getCause();
        String text = shown.getClass().getSimpleName() + ": " + shown.getMessage();
        Throwable cause = shown.getCause();
        return cause == null ? text : text + " / " + cause.getClass().getSimpleName() + ": " + cause.getMessage();
    }

    private void line(TestIdentifier id, String outcome, String text) {
        long ms = (System.nanoTime() - began) / 1_000_000;
        String words = text.replaceAll("\\s+", " ").trim();
        Observed seen = Observed.now();
        out.println(String.join("\t", name(id), outcome, Long.toString(ms), words.substring(0, Math.min(LONGEST, words.length())),
            String.join(",", seen.refusals), String.join(",", seen.dropped)));
        if (!Set.of("passed", "skipped").contains(outcome)) System.err.println("---- " + outcome + ": " + words);
    }

    private static String name(TestIdentifier id) {
        return id.getSource().filter(MethodSource.class::isInstance)
            .map(source -> ((MethodSource) source).getClassName() + "#" + id.getDisplayName()).orElse(id.getLegacyReportingName());
    }
}
