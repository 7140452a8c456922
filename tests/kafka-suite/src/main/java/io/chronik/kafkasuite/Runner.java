package io.chronik.kafkasuite;

import org.junit.platform.engine.FilterResult;
import org.junit.platform.engine.discovery.DiscoverySelectors;
import org.junit.platform.engine.support.descriptor.MethodSource;
import org.junit.platform.launcher.LauncherDiscoveryRequest;
import org.junit.platform.launcher.PostDiscoveryFilter;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;

import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Set;
import java.util.stream.Collectors;

/** `list FILE` writes the names of all tests; `run FILE CLASS METHOD…` runs some of a class and writes their results. */
public final class Runner {
    private Runner() { }

    public static void main(String[] arguments) throws Exception {
        Path out = Path.of(arguments[1]);
        if (arguments[0].equals("list")) {
            Files.write(out, Tests.all());
        } else {
            run(out, arguments[2], Arrays.stream(arguments).skip(3).collect(Collectors.toSet()));
        }
        // A client that a test left open must not keep this JVM.
        System.exit(0);
    }

    private static void run(Path out, String testClass, Set<String> methods) throws Exception {
        ClientLog.watch();
        PostDiscoveryFilter chosen = descriptor -> FilterResult.includedIf(descriptor.getSource()
            .filter(MethodSource.class::isInstance)
            .map(source -> methods.contains(((MethodSource) source).getMethodName())).orElse(true));
        LauncherDiscoveryRequest request = LauncherDiscoveryRequestBuilder.request()
            .selectors(DiscoverySelectors.selectClass(Tests.load(testClass)))
            .filters(chosen)
            .configurationParameter("junit.jupiter.extensions.autodetection.enabled", "true")
            .configurationParameter("junit.jupiter.extensions.autodetection.exclude", "org.apache.kafka.common.test.junit.*")
            // The annotations' limits are for brokers in the same JVM: `TimeLimit` is instead of them.
            .configurationParameter("junit.jupiter.execution.timeout.mode", "disabled")
            .build();
        try (PrintStream lines = new PrintStream(Files.newOutputStream(out), true)) {
            LauncherFactory.create().execute(request, new Results(lines));
        }
    }
}
