package io.chronik.kafkasuite;

import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.extension.InvocationInterceptor;
import org.junit.jupiter.api.extension.ReflectiveInvocationContext;

import java.lang.reflect.Method;
import java.util.Arrays;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/** Ends a test that takes too long, and notes where it was. */
final class TimeLimit implements InvocationInterceptor {
    private static final ScheduledExecutorService ALARMS = Executors.newScheduledThreadPool(1, task -> {
        Thread thread = new Thread(task, "alarms");
        thread.setDaemon(true);
        return thread;
    });

    @Override
    public void interceptTestTemplateMethod(Invocation<Void> part, ReflectiveInvocationContext<Method> method, ExtensionContext context) throws Throwable {
        limit(part);
    }

    @Override
    public void interceptBeforeEachMethod(Invocation<Void> part, ReflectiveInvocationContext<Method> method, ExtensionContext context) throws Throwable {
        limit(part);
    }

    @Override
    public void interceptAfterEachMethod(Invocation<Void> part, ReflectiveInvocationContext<Method> method, ExtensionContext context) throws Throwable {
        limit(part);
    }

    private static void limit(Invocation<Void> part) throws Throwable {
        Thread thread = Thread.currentThread();
        Observed observed = Observed.now();
        // Again and again: a client that is being closed may swallow an interrupt.
        ScheduledFuture<?> alarm = ALARMS.scheduleAtFixedRate(() -> {
            observed.overdue(place(thread.getStackTrace()));
            thread.interrupt();
        }, Settings.LIMIT_S, 2, TimeUnit.SECONDS);
        try {
            part.proceed();
        } catch (Throwable e) {
            if (observed.overdue() == null || observed.internals() != null) throw e;
            throw new AssertionError("no end within " + Settings.LIMIT_S + " s, " + observed.overdue(), e);
        } finally {
            alarm.cancel(false);
            // What is left of it is not for the next part.
            if (observed.overdue() != null) Thread.interrupted();
        }
    }

    /** The lines of the test that led here, and what they wait in. */
    private static String place(StackTraceElement[] stack) {
        String lines = Arrays.stream(stack).filter(f -> f.getClassName().matches(".*(Test|TestBase|ClientsTestUtils)(\\$.*)?"))
            .limit(3).map(f -> simple(f) + ":" + f.getLineNumber()).collect(Collectors.joining(" < "));
        String in = Arrays.stream(stack).filter(f -> f.getClassName().startsWith("org.apache.kafka."))
            .findFirst().map(f -> simple(f) + "." + f.getMethodName()).orElse("?");
        return "in " + in + " at " + lines;
    }

    private static String simple(StackTraceElement frame) {
        return frame.getClassName().replaceAll(".*\\.", "");
    }
}
