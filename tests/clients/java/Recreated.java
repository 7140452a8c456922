import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** A topic is deleted and made again under an idempotent producer that writes all the time. Usage: Recreated BOOTSTRAP. */
public class Recreated {
    /** So many are acknowledged before: an offset below says that the second log has begun. So many are enough after. */
    private static final int BEFORE = 200;
    private static final int AFTER = 50;
    /** A client may wait for its metadata; one that has stopped for good is what this is about. */
    private static final Duration GOES_ON = Duration.ofSeconds(15);
    private static final Duration PATIENCE = Duration.ofSeconds(30);
    private static final Duration PAUSE = Duration.ofMillis(10);
    private static final String TOPIC = "java-recreated";
    private static final String CHECK = "a topic is made again under an idempotent producer";

    private record Acknowledged(String value, long offset) {}

    private static final List<Acknowledged> acknowledged = new CopyOnWriteArrayList<>();
    private static volatile boolean ended = false;
    private static volatile Exception failure = null;

    public static void main(String[] arguments) {
        try {
            check(arguments[0]);
            System.out.println("pass " + CHECK);
            System.out.println("end");
            System.exit(0);
        } catch (Exception error) {
            error.printStackTrace();
            System.out.println(("FAIL " + CHECK + ": " + error).replace('\n', ' '));
            System.out.println("end");
            System.exit(1);
        }
    }

    private static void check(String bootstrap) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap);
        StringSerializer text = new StringSerializer();
        try (Admin admin = Admin.create(settings)) {
            KafkaProducer<String, String> producer = new KafkaProducer<>(settings, text, text);
            List<Acknowledged> taken;
            try {
                taken = remake(admin, producer);
            } finally {
                ended = true;
                // One that has stopped for good would keep the failure waiting until its records time out.
                producer.close(Duration.ofSeconds(1));
            }
            compare(taken, settings);
        }
    }

    /** Deletes the topic and makes it again while the producer writes. What was acknowledged in the second one. */
    private static List<Acknowledged> remake(Admin admin, KafkaProducer<String, String> producer) throws Exception {
        create(admin);
        Thread writer = new Thread(() -> write(producer));
        writer.setDaemon(true);
        writer.start();
        until("records in the first topic", PATIENCE, () -> acknowledged.size() > BEFORE);
        int before = acknowledged.size();
        admin.deleteTopics(List.of(TOPIC)).all().get(PATIENCE.toSeconds(), TimeUnit.SECONDS);
        try {
            create(admin);
        } catch (ExecutionException error) {
            // The producer has asked for it, which creates it too.
            if (!(error.getCause() instanceof TopicExistsException)) throw error;
        }
        until("records in the second topic", GOES_ON, () -> since(before).size() >= AFTER);
        ended = true;
        writer.join();
        return since(before);
    }

    private static void create(Admin admin) throws Exception {
        NewTopic topic = new NewTopic(TOPIC, 1, (short) 3);
        admin.createTopics(List.of(topic)).all().get(PATIENCE.toSeconds(), TimeUnit.SECONDS);
    }

    /** Numbers, one at a time. */
    private static void write(KafkaProducer<String, String> producer) {
        for (int number = 0; !ended; number++) {
            String value = Integer.toString(number);
            try {
                long offset = producer.send(new ProducerRecord<>(TOPIC, 0, null, value)).get().offset();
                acknowledged.add(new Acknowledged(value, offset));
            } catch (Exception error) {
                failure = error;
                LockSupport.parkNanos(PAUSE.toNanos());
            }
        }
    }

    /** What was acknowledged in the second topic, after so many acknowledgements: all from its first record on. */
    private static List<Acknowledged> since(int count) {
        List<Acknowledged> taken = new ArrayList<>(acknowledged);
        int begun = count;
        while (begun < taken.size() && taken.get(begun).offset() >= BEFORE) begun++;
        return taken.subList(begun, taken.size());
    }

    /** What was acknowledged is at the offset that was said, and nothing is there twice. */
    private static void compare(List<Acknowledged> taken, Map<String, Object> settings) {
        StringDeserializer text = new StringDeserializer();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(settings, text, text)) {
            TopicPartition partition = new TopicPartition(TOPIC, 0);
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            List<String> found = new ArrayList<>();
            long deadline = System.nanoTime() + PATIENCE.toNanos();
            while (found.size() < end) {
                for (ConsumerRecord<String, String> one : consumer.poll(Duration.ofMillis(500))) found.add(one.value());
                if (System.nanoTime() > deadline) throw new IllegalStateException(found.size() + " of " + end + " read");
            }
            for (Acknowledged one : taken) {
                String there = one.offset() >= 0 && one.offset() < end ? found.get((int) one.offset()) : "nothing";
                if (!there.equals(one.value())) throw new IllegalStateException(one + " was acknowledged, there is " + there);
            }
            if (new HashSet<>(found).size() < found.size()) throw new IllegalStateException("there twice: " + found);
        }
    }

    private interface Condition {
        boolean holds();
    }

    private static void until(String what, Duration patience, Condition condition) throws InterruptedException {
        long deadline = System.nanoTime() + patience.toNanos();
        while (!condition.holds()) {
            if (System.nanoTime() > deadline) {
                throw new IllegalStateException("no " + what + " within " + patience + "; the last error: " + failure);
            }
            Thread.sleep(PAUSE.toMillis());
        }
    }
}
