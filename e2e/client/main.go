// The Kafka client of the e2e scenarios: franz-go as it is, behind a few subcommands. Each prints one JSON object a
// line on standard output, with the time at which it happened.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type options struct {
	bootstrap string
	topic     string
	count     int
	from      int
	size      int
	brokers   string
	timeout   time.Duration
	rate      int
	group     string
}

func main() {
	commands := map[string]func(context.Context, options) error{
		"idle":          idle,
		"produce-first": produceFirst,
		"produce":       produce,
		"consume":       consume,
		"in-sync":       inSync,
		"advertised":    advertised,
		"load":          load,
		"follow":        follow,
		"stop":          stop,
	}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: client idle|produce-first|produce|consume|in-sync|advertised|load|follow|stop [flags]")
		os.Exit(2)
	}
	var o options
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	flags.StringVar(&o.bootstrap, "bootstrap", "", "host:port, several by commas")
	flags.StringVar(&o.topic, "topic", "e2e", "the topic")
	flags.IntVar(&o.count, "count", 1000, "how many records")
	flags.IntVar(&o.from, "from", 0, "the first record's number")
	flags.IntVar(&o.size, "size", 100, "bytes of a record at least")
	flags.StringVar(&o.brokers, "brokers", "", "ids that must be in sync, by commas")
	flags.DurationVar(&o.timeout, "timeout", time.Minute, "when to give up")
	flags.IntVar(&o.rate, "rate", 100, "records a second")
	flags.StringVar(&o.group, "group", "e2e", "the consumer group")
	_ = flags.Parse(os.Args[2:])

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if os.Args[1] != "idle" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.timeout)
		defer cancel()
	}
	if err := commands[os.Args[1]](ctx, o); err != nil {
		say(map[string]any{"event": "failed", "error": err.Error()})
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const timeFormat = "2006-01-02T15:04:05.000000Z"

func say(line map[string]any) {
	line["at"] = time.Now().UTC().Format(timeFormat)
	_ = json.NewEncoder(os.Stdout).Encode(line)
}

// A client that looks and tries again often, as what is measured may be how soon the cluster answers.
func connect(o options, more ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(strings.Split(o.bootstrap, ",")...),
		kgo.AllowAutoTopicCreation(),
		kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
		kgo.DialTimeout(time.Second),
		kgo.UnknownTopicRetries(-1),
		kgo.RecordRetries(1 << 30),
		kgo.RequestRetries(1 << 30),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(0),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()),
	}, more...)...)
}

// idle keeps the pod, for commands to be run in it.
func idle(ctx context.Context, _ options) error {
	say(map[string]any{"event": "idle"})
	<-ctx.Done()
	return nil
}

// produceFirst tries until the first record is acknowledged by the whole in-sync set. Its hooks say what kept it.
func produceFirst(ctx context.Context, o options) error {
	// A Service without endpoints refuses connections, but no more than one a second once it has refused six: the
	// kernel limits these refusals, and what comes between goes unanswered.
	dialTimeout := kgo.DialTimeout(80 * time.Millisecond)
	client, err := connect(o, dialTimeout, kgo.WithHooks(&dials{last: map[string]string{}}))
	if err != nil {
		return err
	}
	defer client.Close()
	say(map[string]any{"event": "trying"})
	record, err := client.ProduceSync(ctx, &kgo.Record{Topic: o.topic, Value: []byte("first")}).First()
	if err != nil {
		return err
	}
	say(map[string]any{"event": "acknowledged", "partition": record.Partition, "offset": record.Offset})
	return nil
}

// dials tells of each broker's first failed dial of a kind, and of each that succeeds.
type dials struct {
	mutex sync.Mutex
	last  map[string]string
}

func (d *dials) OnBrokerConnect(meta kgo.BrokerMetadata, took time.Duration, _ net.Conn, err error) {
	where, how := net.JoinHostPort(meta.Host, strconv.Itoa(int(meta.Port))), "connected"
	if err != nil {
		how = err.Error()
	}
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.last[where] != how {
		d.last[where] = how
		say(map[string]any{"event": "dial", "broker": where, "result": how, "took_ms": took.Milliseconds()})
	}
}

func value(number, size int) []byte {
	text := strconv.Itoa(number)
	return []byte(text + strings.Repeat(".", max(0, size-len(text))))
}

// produce writes records from, from+1, … and waits for all to be acknowledged.
func produce(ctx context.Context, o options) error {
	client, err := connect(o)
	if err != nil {
		return err
	}
	defer client.Close()
	records := make([]*kgo.Record, o.count)
	for i := range records {
		records[i] = &kgo.Record{Topic: o.topic, Value: value(o.from+i, o.size)}
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return err
	}
	say(map[string]any{"event": "produced", "count": o.count})
	return nil
}

// load writes records 0, 1, … at a steady rate, as an idempotent producer, until it is told to stop. Then it says how many
// were acknowledged, how long the slowest took, and why the first that failed did. The library tells on standard error what
// it did meanwhile.
func load(ctx context.Context, o options) error {
	client, err := connect(o, kgo.WithLogger(kgo.BasicLogger(os.Stderr, kgo.LogLevelInfo, func() string {
		return time.Now().UTC().Format(timeFormat) + " "
	})))
	if err != nil {
		return err
	}
	defer client.Close()
	var mutex sync.Mutex
	var slowest time.Duration
	count, failed := 0, 0
	ticker := time.NewTicker(time.Second / time.Duration(o.rate))
	defer ticker.Stop()
	for ctx.Err() == nil {
		begun, number := time.Now(), count
		// The end of the load is not the end of what was sent.
		client.Produce(context.Background(), &kgo.Record{Topic: o.topic, Value: value(count, o.size)}, func(record *kgo.Record, err error) {
			mutex.Lock()
			defer mutex.Unlock()
			slowest = max(slowest, time.Since(begun))
			if err != nil {
				if failed == 0 {
					say(map[string]any{"event": "record failed", "number": number, "partition": record.Partition, "error": err.Error()})
				}
				failed++
			}
		})
		count++
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	rest, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := client.Flush(rest); err != nil {
		return err
	}
	mutex.Lock()
	defer mutex.Unlock()
	say(map[string]any{"event": "loaded", "count": count, "failed": failed, "slowest_ms": slowest.Milliseconds()})
	return nil
}

// follow reads the topic as a consumer group, and says each second how many different records it has seen.
func follow(ctx context.Context, o options) error {
	client, err := connect(o, kgo.ConsumerGroup(o.group), kgo.ConsumeTopics(o.topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer client.Close()
	seen, reported := map[string]bool{}, time.Now()
	for ctx.Err() == nil {
		poll, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		for _, record := range client.PollFetches(poll).Records() {
			seen[strings.TrimRight(string(record.Value), ".")] = true
		}
		cancel()
		if time.Since(reported) > time.Second {
			say(map[string]any{"event": "progress", "seen": len(seen)})
			reported = time.Now()
		}
	}
	return nil
}

// stop tells the pod's first process to end.
func stop(context.Context, options) error {
	say(map[string]any{"event": "stopping"})
	return syscall.Kill(1, syscall.SIGTERM)
}

// consume reads the topic from its start until it has seen records 0 … count-1, each once, and within a partition in
// the order in which they were produced; and on to where the partitions end by then, for what is there twice.
func consume(ctx context.Context, o options) error {
	client, err := connect(o, kgo.ConsumeTopics(o.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer client.Close()
	seen, last := map[int]bool{}, map[int32]int{}
	next := map[int32]int64{}
	var ends map[int32]int64
	for len(seen) < o.count || !reached(next, ends) {
		if len(seen) >= o.count && ends == nil {
			if ends, err = endOffsets(ctx, client, o.topic); err != nil {
				return err
			}
			continue
		}
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("only %d of %d records were seen: %w", len(seen), o.count, err)
		}
		for _, record := range fetches.Records() {
			number, err := strconv.Atoi(strings.TrimRight(string(record.Value), "."))
			if err != nil {
				return fmt.Errorf("offset %d of partition %d: %w", record.Offset, record.Partition, err)
			}
			if before, some := last[record.Partition]; seen[number] || (some && number <= before) {
				return fmt.Errorf("record %d came after %d, or twice", number, before)
			}
			seen[number], last[record.Partition] = true, number
			next[record.Partition] = record.Offset + 1
		}
	}
	say(map[string]any{"event": "consumed", "count": len(seen)})
	return nil
}

// reached says whether every partition has been read to its end, once the ends are known.
func reached(next, ends map[int32]int64) bool {
	for partition, end := range ends {
		if next[partition] < end {
			return false
		}
	}
	return ends != nil
}

// endOffsets asks each partition's leader where the partition ends, until all have answered.
func endOffsets(ctx context.Context, client *kgo.Client, topic string) (map[int32]int64, error) {
	for {
		ends, err := endOffsetsNow(ctx, client, topic)
		if err == nil {
			return ends, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the ends of the partitions are unknown: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func endOffsetsNow(ctx context.Context, client *kgo.Client, topic string) (map[int32]int64, error) {
	partitions, err := partitionsNow(ctx, client, topic)
	if err != nil {
		return nil, err
	}
	request := kmsg.NewPtrListOffsetsRequest()
	asked := kmsg.NewListOffsetsRequestTopic()
	asked.Topic = topic
	for _, partition := range partitions {
		end := kmsg.NewListOffsetsRequestTopicPartition()
		end.Partition, end.Timestamp = partition.Partition, -1
		asked.Partitions = append(asked.Partitions, end)
	}
	request.Topics = append(request.Topics, asked)
	response, err := request.RequestWith(ctx, client)
	if err != nil {
		return nil, err
	}
	ends := map[int32]int64{}
	for _, topic := range response.Topics {
		for _, partition := range topic.Partitions {
			if err := kerr.ErrorForCode(partition.ErrorCode); err != nil {
				return nil, err
			}
			ends[partition.Partition] = partition.Offset
		}
	}
	if len(ends) != len(partitions) {
		return nil, fmt.Errorf("%d of %d partitions answered", len(ends), len(partitions))
	}
	return ends, nil
}

// partitionsNow asks for the topic's partitions, of which there is one at least.
func partitionsNow(ctx context.Context, client *kgo.Client, topic string) ([]kmsg.MetadataResponseTopicPartition, error) {
	request := kmsg.NewPtrMetadataRequest()
	asked := kmsg.NewMetadataRequestTopic()
	asked.Topic = kmsg.StringPtr(topic)
	request.Topics = append(request.Topics, asked)
	response, err := request.RequestWith(ctx, client)
	if err != nil {
		return nil, err
	}
	if len(response.Topics) != 1 || len(response.Topics[0].Partitions) == 0 {
		return nil, fmt.Errorf("no partitions of %s", topic)
	}
	return response.Topics[0].Partitions, nil
}

// inSync waits until every partition of the topic has these brokers, and no others, in its in-sync set.
func inSync(ctx context.Context, o options) error {
	var want []int32
	for _, id := range strings.Split(o.brokers, ",") {
		number, err := strconv.Atoi(id)
		if err != nil {
			return err
		}
		want = append(want, int32(number))
	}
	slices.Sort(want)
	client, err := connect(o)
	if err != nil {
		return err
	}
	defer client.Close()
	var now string
	for {
		var ok bool
		if ok, now, err = inSyncNow(ctx, client, o.topic, want); ok {
			say(map[string]any{"event": "in-sync", "brokers": want})
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("in sync are %s (%v), and not %v", now, err, want)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// advertised says which addresses brokers advertise, as host:port by commas.
func advertised(ctx context.Context, o options) error {
	client, err := connect(o)
	if err != nil {
		return err
	}
	defer client.Close()
	request := kmsg.NewPtrMetadataRequest()
	request.Topics = []kmsg.MetadataRequestTopic{}
	response, err := request.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	addresses := []string{}
	for _, broker := range response.Brokers {
		addresses = append(addresses, net.JoinHostPort(broker.Host, strconv.Itoa(int(broker.Port))))
	}
	slices.Sort(addresses)
	say(map[string]any{"event": "advertised", "addresses": strings.Join(addresses, ",")})
	return nil
}

func inSyncNow(ctx context.Context, client *kgo.Client, topic string, want []int32) (bool, string, error) {
	partitions, err := partitionsNow(ctx, client, topic)
	if err != nil {
		return false, "unknown", err
	}
	all, now := true, []string{}
	for _, partition := range partitions {
		isr := slices.Sorted(slices.Values(partition.ISR))
		all = all && slices.Equal(isr, want)
		now = append(now, fmt.Sprint(isr))
	}
	return all, strings.Join(now, " "), nil
}
