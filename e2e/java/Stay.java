import java.time.Duration;
import java.util.Collections;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.LongDeserializer;
import org.apache.kafka.common.serialization.LongSerializer;

/**
 * One producer and one consumer that stay, whatever becomes of the brokers that they were told of. Writes 0, 1, 2 and so on to
 * a topic of one partition, and reads them in a group, until it reads a negative number there. Says as JSON how far both are
 * each second; fails where a write does, or where a number is left out.
 * Usage: Stay BOOTSTRAP TOPIC, or Stay BOOTSTRAP TOPIC end, which writes that number.
 */
public class Stay {
    /** In place of five minutes, after which it has names of brokers in place of the addresses of pods that just started. */
    static final String METADATA_MAX_AGE_MS = "10000";

    public static void main(String[] arguments) throws Exception {
        String bootstrap = arguments[0];
        String topic = arguments[1];
        try (KafkaProducer<Long, Long> producer = new KafkaProducer<>(producing(bootstrap))) {
            if (arguments.length > 2) {
                producer.send(new ProducerRecord<>(topic, 0, 0L, -1L)).get();
                say("ended", 0, 0);
                return;
            }
            AtomicLong acknowledged = new AtomicLong();
            AtomicReference<Exception> failure = new AtomicReference<>();
            Reader reader = new Reader(bootstrap, topic);
            Thread reading = new Thread(reader);
            reading.start();
            long sent = 0;
            for (long next = System.nanoTime(); reading.isAlive() && failure.get() == null; next += 10_000_000) {
                producer.send(new ProducerRecord<>(topic, 0, 0L, sent++), (written, error) -> {
                    if (error == null) {
                        acknowledged.incrementAndGet();
                    } else {
                        failure.compareAndSet(null, error);
                    }
                });
                if (sent % 100 == 0) {
                    say("going", acknowledged.get(), reader.read);
                }
                Thread.sleep(Math.max(0, (next - System.nanoTime()) / 1_000_000));
            }
            producer.flush();
            if (failure.get() != null) {
                throw failure.get();
            }
            if (reader.wrong != null) {
                throw new IllegalStateException(reader.wrong);
            }
            say("done", acknowledged.get(), reader.read);
        }
    }

    static void say(String event, long acknowledged, long read) {
        System.out.printf("{\"event\":\"%s\",\"acknowledged\":%d,\"read\":%d}%n", event, acknowledged, read);
    }

    static Properties producing(String bootstrap) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("metadata.max.age.ms", METADATA_MAX_AGE_MS);
        properties.put("key.serializer", LongSerializer.class.getName());
        properties.put("value.serializer", LongSerializer.class.getName());
        return properties;
    }

    static class Reader implements Runnable {
        private final Properties properties = new Properties();
        private final String topic;
        volatile long read;
        volatile String wrong;

        Reader(String bootstrap, String topic) {
            this.topic = topic;
            properties.put("bootstrap.servers", bootstrap);
            properties.put("group.id", topic);
            properties.put("auto.offset.reset", "earliest");
            properties.put("metadata.max.age.ms", METADATA_MAX_AGE_MS);
            properties.put("key.deserializer", LongDeserializer.class.getName());
            properties.put("value.deserializer", LongDeserializer.class.getName());
        }

        @Override
        public void run() {
            try (KafkaConsumer<Long, Long> consumer = new KafkaConsumer<>(properties)) {
                consumer.subscribe(Collections.singleton(topic));
                while (true) {
                    for (ConsumerRecord<Long, Long> record : consumer.poll(Duration.ofMillis(200))) {
                        if (record.value() < 0) {
                            return;
                        }
                        if (record.value() > read) {
                            wrong = "after " + read + " numbers comes " + record.value();
                            return;
                        }
                        // What a coordinator that went had not been told of is read again.
                        if (record.value() == read) {
                            read++;
                        }
                    }
                }
            } catch (RuntimeException error) {
                wrong = error.toString();
            }
        }
    }
}
