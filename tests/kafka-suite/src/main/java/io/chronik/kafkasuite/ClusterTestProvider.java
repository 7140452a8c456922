package io.chronik.kafkasuite;

import org.apache.kafka.common.network.ListenerName;
import org.apache.kafka.common.test.ClusterInstance;
import org.apache.kafka.common.test.api.AutoStart;
import org.apache.kafka.common.test.api.ClusterConfig;
import org.apache.kafka.common.test.api.ClusterConfigProperty;
import org.apache.kafka.common.test.api.ClusterFeature;
import org.apache.kafka.common.test.api.ClusterTemplate;
import org.apache.kafka.common.test.api.ClusterTest;
import org.apache.kafka.common.test.api.ClusterTestDefaults;
import org.apache.kafka.common.test.api.ClusterTests;
import org.apache.kafka.common.test.api.Type;
import org.apache.kafka.server.common.Feature;
import org.junit.jupiter.api.extension.AfterEachCallback;
import org.junit.jupiter.api.extension.AfterTestExecutionCallback;
import org.junit.jupiter.api.extension.BeforeEachCallback;
import org.junit.jupiter.api.extension.Extension;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.extension.ParameterContext;
import org.junit.jupiter.api.extension.ParameterResolver;
import org.junit.jupiter.api.extension.TestTemplateInvocationContext;
import org.junit.jupiter.api.extension.TestTemplateInvocationContextProvider;

import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Stream;

/** Gives tests, by the annotations of Kafka's own extension and in its place, clusters of processes. */
public final class ClusterTestProvider implements TestTemplateInvocationContextProvider {
    private static final AtomicInteger CLUSTERS = new AtomicInteger();

    @ClusterTestDefaults
    private static final class Defaults { }

    @Override
    public boolean supportsTestTemplate(ExtensionContext context) {
        return Tests.isClusterTest(context.getRequiredTestMethod());
    }

    @Override
    public boolean mayReturnZeroTestTemplateInvocationContexts(ExtensionContext context) {
        return true;
    }

    @Override
    public Stream<TestTemplateInvocationContext> provideTestTemplateInvocationContexts(ExtensionContext context) {
        Method method = context.getRequiredTestMethod();
        List<ClusterConfig> configs = configs(context.getRequiredTestClass(), method);
        boolean several = configs.size() > 1;
        return configs.stream().map(config -> new Invocation(config, method.getName(), several));
    }

    private static List<ClusterConfig> configs(Class<?> testClass, Method method) {
        List<ClusterConfig> configs = new ArrayList<>();
        ClusterTemplate template = method.getAnnotation(ClusterTemplate.class);
        if (template != null) configs.addAll(generated(testClass, template.value()));
        ClusterTestDefaults defaults = testClass.getAnnotation(ClusterTestDefaults.class);
        if (defaults == null) defaults = Defaults.class.getAnnotation(ClusterTestDefaults.class);
        ClusterTest one = method.getAnnotation(ClusterTest.class);
        if (one != null) configs.add(config(one, defaults));
        // Java would unpack it were it declared as the container of the other; it is not.
        ClusterTests some = method.getAnnotation(ClusterTests.class);
        if (some != null) for (ClusterTest test : some.value()) configs.add(config(test, defaults));
        return configs;
    }

    @SuppressWarnings("unchecked")
    private static List<ClusterConfig> generated(Class<?> testClass, String generator) {
        for (Class<?> c = testClass; c != null; c = c.getSuperclass()) {
            try {
                Method method = c.getDeclaredMethod(generator);
                method.setAccessible(true);
                return (List<ClusterConfig>) method.invoke(null);
            } catch (NoSuchMethodException e) {
                // It may be inherited.
            } catch (ReflectiveOperationException e) {
                throw new SuiteError("cannot call " + generator + ": " + e.getCause(), e);
            }
        }
        throw new SuiteError("there is no " + generator);
    }

    private static ClusterConfig config(ClusterTest test, ClusterTestDefaults defaults) {
        Map<String, String> properties = new HashMap<>();
        Map<Integer, Map<String, String>> ofServers = new HashMap<>();
        for (ClusterConfigProperty[] some : List.of(defaults.serverProperties(), test.serverProperties())) {
            for (ClusterConfigProperty property : some) {
                boolean ofAll = property.id() == -1;
                (ofAll ? properties : ofServers.computeIfAbsent(property.id(), id -> new HashMap<>())).put(property.key(), property.value());
            }
        }
        Map<Feature, Short> features = new EnumMap<>(Feature.class);
        for (ClusterFeature feature : test.features()) features.put(feature.feature(), feature.version());
        return ClusterConfig.builder()
            .setTypes(Set.of(test.types().length == 0 ? defaults.types() : test.types()))
            .setBrokers(orElse(test.brokers(), defaults.brokers()))
            .setControllers(orElse(test.controllers(), defaults.controllers()))
            .setDisksPerBroker(orElse(test.disksPerBroker(), defaults.disksPerBroker()))
            .setAutoStart(test.autoStart() == AutoStart.DEFAULT ? defaults.autoStart() : test.autoStart() == AutoStart.YES)
            .setBrokerListenerName(ListenerName.normalised(test.brokerListener()))
            .setBrokerSecurityProtocol(test.brokerSecurityProtocol())
            .setControllerListenerName(ListenerName.normalised(test.controllerListener()))
            .setControllerSecurityProtocol(test.controllerSecurityProtocol())
            .setServerProperties(properties)
            .setPerServerProperties(ofServers)
            .setMetadataVersion(test.metadataVersion())
            .setTags(List.of(test.tags()))
            .setFeatures(features)
            .setStandalone(test.standalone())
            .build();
    }

    private static int orElse(int wanted, int otherwise) {
        return wanted == 0 ? otherwise : wanted;
    }

    /**
     * Kafka runs most tests with controllers in the brokers and again with controllers beside them. Chronik has them in
     * the brokers only. Kafka's are put beside them, so that any broker may be stopped, as with Chronik.
     */
    private static Type type(ClusterConfig config) {
        Type wanted = Settings.KAFKA ? Type.KRAFT : Type.CO_KRAFT;
        return config.clusterTypes().contains(wanted) ? wanted : config.clusterTypes().iterator().next();
    }

    private record Invocation(ClusterConfig config, String method, boolean several) implements TestTemplateInvocationContext {
        @Override
        public String getDisplayName(int index) {
            return several ? method + "[" + index + "]" : method;
        }

        @Override
        public List<Extension> getAdditionalExtensions() {
            String folder = ProcessHandle.current().pid() + "-" + CLUSTERS.incrementAndGet();
            ProcessCluster cluster = new ProcessCluster(config, type(config), Settings.DATA.resolve(folder));
            return List.of(
                new TimeLimit(),
                (BeforeEachCallback) context -> {
                    cluster.prepare();
                    if (config.isAutoStart()) cluster.start();
                },
                // Before the test's own clean-up, which asks the cluster nothing; and after a set-up that failed.
                (AfterTestExecutionCallback) context -> end(cluster, context),
                (AfterEachCallback) context -> end(cluster, context),
                new Resolver(cluster));
        }

        private static void end(ProcessCluster cluster, ExtensionContext context) {
            if (cluster.stopped()) return;
            cluster.stop();
            String death = Observed.now().death();
            boolean failed = context.getExecutionException().isPresent() || death != null;
            if (!failed || !Settings.KEEP) cluster.clear();
            if (death != null) throw new AssertionError(death);
        }
    }

    private record Resolver(ProcessCluster cluster) implements ParameterResolver {
        @Override
        public boolean supportsParameter(ParameterContext parameter, ExtensionContext context) {
            return parameter.getParameter().getType() == ClusterInstance.class;
        }

        @Override
        public Object resolveParameter(ParameterContext parameter, ExtensionContext context) {
            return cluster;
        }
    }
}
