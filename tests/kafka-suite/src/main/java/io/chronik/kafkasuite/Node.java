package io.chronik.kafkasuite;

import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;

/** A broker or a controller: a process, and what it keeps from one start to the next. */
final class Node {
    /** The leash ends a process together with the thread that started it: this one lives as long as the JVM. */
    private static final ExecutorService STARTER = Executors.newSingleThreadExecutor(task -> {
        Thread thread = new Thread(task, "starter");
        thread.setDaemon(true);
        return thread;
    });

    final int id;
    final boolean broker;
    final boolean controller;
    final Path dir;
    /** By what they are for. */
    final Map<String, Integer> ports = new TreeMap<>();
    /** Not null from a start until somebody stops it: a process that ends meanwhile ended by itself. */
    private volatile Process process;

    Node(int id, boolean broker, boolean controller, Path dir) {
        this.id = id;
        this.broker = broker;
        this.controller = controller;
        this.dir = dir;
    }

    int port(String name) {
        return ports.get(name);
    }

    /** Starts it; `died` hears of an end that nobody asked for, unless it comes while it is `awaited`. */
    void start(List<String> command, Map<String, String> environment, BooleanSupplier awaited, Consumer<String> died) {
        List<String> leashed = new ArrayList<>(List.of(Settings.LEASH, "leash", Long.toString(ProcessHandle.current().pid())));
        leashed.addAll(command);
        ProcessBuilder builder = new ProcessBuilder(leashed);
        builder.environment().putAll(environment);
        builder.redirectInput(new File("/dev/null"));
        builder.redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.appendTo(log().toFile()));
        try {
            Process started = CompletableFuture.supplyAsync(() -> {
                try {
                    return builder.start();
                } catch (IOException e) {
                    throw new CompletionException(e);
                }
            }, STARTER).join();
            process = started;
            started.onExit().thenAccept(ended -> {
                // In this order: once it is awaited no longer, a process that was replaced meanwhile is no longer the node's.
                if (!awaited.getAsBoolean() && process == ended) died.accept("node " + id + " ended with " + ended.exitValue() + ": " + lastWords());
            });
        } catch (CompletionException e) {
            throw new SuiteError("cannot start node " + id + ": " + e.getCause(), e);
        }
    }

    boolean alive() {
        Process p = process;
        return p != null && p.isAlive();
    }

    /** SIGTERM, and SIGKILL if that does not help within half a minute. */
    void stop() {
        Process p = process;
        process = null;
        if (p == null) return;
        p.destroy();
        if (!ends(p, 30)) p.destroyForcibly();
        ends(p, 10);
    }

    void kill() {
        Process p = process;
        process = null;
        if (p == null) return;
        p.destroyForcibly();
        ends(p, 10);
    }

    /** Waits for the end, even in a thread that is interrupted meanwhile: what follows relies on it. */
    private static boolean ends(Process p, long seconds) {
        boolean interrupted = false;
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
        while (p.isAlive() && System.nanoTime() < deadline) {
            try {
                p.waitFor(deadline - System.nanoTime(), TimeUnit.NANOSECONDS);
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        if (interrupted) Thread.currentThread().interrupt();
        return !p.isAlive();
    }

    private Path log() {
        return dir.resolve("log.txt");
    }

    /** The last lines of its log. */
    List<String> lastWords() {
        try {
            List<String> lines = new String(Files.readAllBytes(log()), StandardCharsets.UTF_8).lines().toList();
            return lines.subList(Math.max(0, lines.size() - 3), lines.size());
        } catch (IOException e) {
            return List.of();
        }
    }
}
