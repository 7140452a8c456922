package io.chronik.kafkasuite;

import org.apache.kafka.common.protocol.Errors;
import org.apache.logging.log4j.Level;
import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.core.LogEvent;
import org.apache.logging.log4j.core.LoggerContext;
import org.apache.logging.log4j.core.appender.AbstractAppender;
import org.apache.logging.log4j.core.config.LoggerConfig;
import org.apache.logging.log4j.core.config.Property;

import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Reads in the log of a test's clients what they were refused, which tells more than how the test failed. */
final class ClientLog extends AbstractAppender {
    private static final String LOGGER = "org.apache.kafka.clients.NetworkClient";
    private static final Pattern RECEIVED = Pattern.compile("Received (\\w+) response from node");
    private static final Pattern CODE = Pattern.compile("(?:errorCode|[eE]rror)=(-?\\d+)");
    private static final Pattern MISMATCH = Pattern.compile("Version mismatch when attempting to send \\S*?(\\w+?)(?:Request)?(?:Data)?\\(");
    /** Too many to read, and of no interest. */
    private static final Set<String> NOT_READ = Set.of("FETCH", "API_VERSIONS");

    private ClientLog() {
        super("clients", null, null, true, Property.EMPTY_ARRAY);
    }

    static void watch() {
        ClientLog appender = new ClientLog();
        appender.start();
        LoggerContext context = (LoggerContext) LogManager.getContext(false);
        LoggerConfig logger = new LoggerConfig(LOGGER, Level.DEBUG, false);
        logger.addAppender(appender, Level.DEBUG, null);
        context.getConfiguration().addLogger(LOGGER, logger);
        context.updateLoggers();
    }

    @Override
    public void append(LogEvent event) {
        String text = event.getMessage().getFormattedMessage();
        Matcher mismatch = MISMATCH.matcher(text);
        if (text.contains("Version mismatch") && mismatch.find()) {
            Observed.now().refusals.add(mismatch.group(1) + ":UNSUPPORTED");
            return;
        }
        Matcher received = RECEIVED.matcher(text);
        if (!received.find() || NOT_READ.contains(received.group(1))) return;
        Matcher codes = CODE.matcher(text);
        while (codes.find()) {
            Errors error = Errors.forCode(Short.parseShort(codes.group(1)));
            if (error != Errors.NONE) Observed.now().refusals.add(received.group(1) + ":" + error);
        }
    }
}
