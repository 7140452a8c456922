package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func records() {
	for name, codec := range map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	} {
		check("compression "+name, func() error {
			return roundTrip("franz-compression-"+name, 200, kgo.ProducerBatchCompression(codec))
		})
	}
	check("acks=1 without idempotence", func() error {
		return roundTrip("franz-leader", 100, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	})
	check("acks=0", func() error {
		return roundTrip("franz-none", 100, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	})
	check("keys, headers, tombstones, timestamps", keysAndHeaders)
}

// roundTrip writes records with idempotence and acks=all, unless options say otherwise, and reads them back.
func roundTrip(topic string, count int, options ...kgo.Opt) error {
	if err := create(topic, 1); err != nil {
		return err
	}
	value := func(n int) []byte { return fmt.Appendf(nil, "%d %s", n, bytes.Repeat([]byte("x"), 100)) }
	wanted := make([]*kgo.Record, count)
	for n := range wanted {
		wanted[n] = &kgo.Record{Topic: topic, Value: value(n)}
	}
	found, err := writeAndRead(topic, wanted, options...)
	if err != nil {
		return err
	}
	for n, record := range found {
		if record.Offset != int64(n) || !bytes.Equal(record.Value, value(n)) {
			return fmt.Errorf("at offset %d is %.20q", record.Offset, record.Value)
		}
	}
	return nil
}

func writeAndRead(topic string, wanted []*kgo.Record, options ...kgo.Opt) ([]*kgo.Record, error) {
	producer, err := client(append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := producer.ProduceSync(ctx, wanted...).FirstErr(); err != nil {
		return nil, fmt.Errorf("produce: %w", err)
	}
	reader, err := client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	found, err := read(reader, len(wanted))
	if err != nil {
		return nil, err
	}
	ends, err := kadm.NewClient(reader).ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	last, _ := ends.Lookup(topic, 0)
	return found, same("the end offset", last.Offset, int64(len(wanted)))
}

// read polls until it has so many records.
func read(reader *kgo.Client, count int) ([]*kgo.Record, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var found []*kgo.Record
	for len(found) < count {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("%d of %d records read: %w", len(found), count, err)
		}
		found = append(found, fetches.Records()...)
	}
	return found, same("records", len(found), count)
}

func keysAndHeaders() error {
	topic := "franz-headers"
	if err := create(topic, 1); err != nil {
		return err
	}
	at := time.UnixMilli(1_700_000_000_000)
	headers := []kgo.RecordHeader{{Key: "first", Value: []byte("1")}, {Key: "first", Value: []byte("again")}}
	found, err := writeAndRead(topic, []*kgo.Record{
		{Topic: topic, Key: []byte("k"), Value: []byte("v"), Headers: headers, Timestamp: at},
		{Topic: topic, Key: []byte("gone"), Timestamp: at.Add(time.Second)},
	})
	if err != nil {
		return err
	}
	if err := same("headers", found[0].Headers, headers); err != nil {
		return err
	}
	if err := same("the tombstone's value", found[1].Value, []byte(nil)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	later, err := admin.ListOffsetsAfterMilli(ctx, at.UnixMilli()+1, topic)
	if err != nil {
		return err
	}
	first, _ := later.Lookup(topic, 0)
	return same("the offset by time", first.Offset, int64(1))
}
