package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// So many records are acknowledged before: an offset below says that the second log has begun. So many are enough after.
	recordsBefore, recordsAfter = 200, 50
	// A client may wait for its metadata; one that has stopped for good is what this is about.
	goesOnWithin = 15 * time.Second
)

// writer writes numbers, one at a time, and keeps what was acknowledged.
type writer struct {
	lock         sync.Mutex
	acknowledged []*kgo.Record
	err          error
	stop         atomic.Bool
	ended        chan struct{}
}

func (w *writer) run(producer *kgo.Client, topic string) {
	defer close(w.ended)
	for number := 0; !w.stop.Load(); number++ {
		record := &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, "%d", number)}
		err := producer.ProduceSync(context.Background(), record).FirstErr()
		w.lock.Lock()
		if err == nil {
			w.acknowledged = append(w.acknowledged, record)
		} else {
			w.err = err
		}
		w.lock.Unlock()
		if errors.Is(err, kerr.UnknownTopicID) {
			// This client never takes another id for a topic it knows, and says so: the application is to forget the topic.
			producer.PurgeTopicsFromProducing(topic)
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

func (w *writer) count() int {
	w.lock.Lock()
	defer w.lock.Unlock()
	return len(w.acknowledged)
}

// since is what was acknowledged in the second topic, after so many acknowledgements: all from its first record on. And the
// last error.
func (w *writer) since(count int) ([]*kgo.Record, error) {
	w.lock.Lock()
	defer w.lock.Unlock()
	taken := w.acknowledged[count:]
	begun := slices.IndexFunc(taken, func(record *kgo.Record) bool { return record.Offset < recordsBefore })
	if begun < 0 {
		return nil, w.err
	}
	return slices.Clone(taken[begun:]), w.err
}

// madeAgain deletes a topic and creates it again under a producer that writes all the time.
func madeAgain() error {
	const topic = "franz-recreated"
	if err := create(topic, 1); err != nil {
		return err
	}
	producer, err := client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	w := &writer{ended: make(chan struct{})}
	go w.run(producer, topic)
	before, err := remakeUnder(w, topic)
	w.stop.Store(true)
	if err != nil {
		// Ends what it waits for.
		producer.Close()
		<-w.ended
		return err
	}
	<-w.ended
	producer.Close()
	return allThere(w, topic, before)
}

// remakeUnder returns how many acknowledgements there were before.
func remakeUnder(w *writer, topic string) (int, error) {
	if err := until("records in the first topic", func() error {
		if w.count() <= recordsBefore {
			return errNotYet
		}
		return nil
	}); err != nil {
		return 0, err
	}
	before := w.count()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if deleted, err := admin.DeleteTopic(ctx, topic); err != nil || deleted.Err != nil {
		return 0, fmt.Errorf("delete: %w %w", err, deleted.Err)
	}
	if err := create(topic, 1); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return 0, err
	}
	deadline := time.Now().Add(goesOnWithin)
	for {
		taken, err := w.since(before)
		if len(taken) >= recordsAfter {
			return before, nil
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("%d records after %s; the last error: %w", len(taken), goesOnWithin, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// allThere: what was acknowledged in the second topic is at the offset that was said, and nothing is there twice.
func allThere(w *writer, topic string, before int) error {
	taken, _ := w.since(before)
	count := int(taken[len(taken)-1].Offset) + 1
	reader, err := client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer reader.Close()
	found, err := read(reader, count)
	if err != nil {
		return err
	}
	values := make([]string, 0, count)
	for _, record := range found {
		values = append(values, string(record.Value))
	}
	for _, record := range taken {
		if record.Offset < 0 || record.Offset >= int64(count) {
			return fmt.Errorf("acknowledged at offset %d of %d", record.Offset, count)
		}
		if err := same("a record's value", values[record.Offset], string(record.Value)); err != nil {
			return err
		}
	}
	slices.Sort(values)
	return same("different values", len(slices.Compact(values)), count)
}
