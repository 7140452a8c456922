package io.chronik.kafkasuite;

import org.apache.kafka.common.test.api.ClusterTemplate;
import org.apache.kafka.common.test.api.ClusterTest;
import org.apache.kafka.common.test.api.ClusterTests;

import java.io.IOException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;
import java.util.stream.Stream;

/** The tests on the class path that want a cluster; the classes hold unit tests too, which say nothing about a broker. */
final class Tests {
    /** In the constants of each class that uses one of the annotations. */
    private static final String ANNOTATIONS = "org/apache/kafka/common/test/api/ClusterTe";

    static boolean isClusterTest(Method method) {
        return method.isAnnotationPresent(ClusterTest.class) || method.isAnnotationPresent(ClusterTests.class)
            || method.isAnnotationPresent(ClusterTemplate.class);
    }

    /** The methods of a class that are, by name. */
    static Set<String> of(Class<?> testClass) {
        Set<String> methods = new TreeSet<>();
        for (Class<?> c = testClass; c != null; c = c.getSuperclass()) {
            Arrays.stream(c.getDeclaredMethods()).filter(Tests::isClusterTest).map(Method::getName).forEach(methods::add);
        }
        return methods;
    }

    /** All of them as `Class#method`. */
    static Set<String> all() throws IOException {
        Set<String> found = new TreeSet<>();
        for (String jar : System.getProperty("java.class.path").split(":")) {
            if (jar.endsWith("-test.jar")) found.addAll(in(jar));
        }
        return found;
    }

    private static Set<String> in(String path) throws IOException {
        Set<String> found = new TreeSet<>();
        try (JarFile jar = new JarFile(path)) {
            for (JarEntry entry : (Iterable<JarEntry>) jar.stream()::iterator) {
                if (!entry.getName().endsWith(".class") || entry.getName().contains("$")) continue;
                String bytes = new String(jar.getInputStream(entry).readAllBytes(), StandardCharsets.ISO_8859_1);
                if (bytes.contains(ANNOTATIONS)) methods(entry.getName()).forEach(found::add);
            }
        }
        return found;
    }

    private static Stream<String> methods(String entry) {
        String name = entry.replaceFirst("\\.class$", "").replace('/', '.');
        try {
            Class<?> testClass = load(name);
            if (Modifier.isAbstract(testClass.getModifiers())) return Stream.of();
            return of(testClass).stream().map(method -> name + "#" + method);
        } catch (ClassNotFoundException | LinkageError e) {
            throw new SuiteError("cannot load " + name, e);
        }
    }

    static Class<?> load(String name) throws ClassNotFoundException {
        return Class.forName(name, false, Tests.class.getClassLoader());
    }

    private Tests() { }
}
