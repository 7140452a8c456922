// franz-go against a running cluster. Usage: franz-go BOOTSTRAP.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	bootstrap []string
	admin     *kadm.Client
)

func main() {
	bootstrap = strings.Split(os.Args[1], ",")
	base, err := client()
	if err != nil {
		fmt.Println("FAIL a client:", err)
		os.Exit(1)
	}
	admin = kadm.NewClient(base)
	records()
	groups()
	check("topics are created, described, altered, grown and deleted", topics)
	check("records are deleted", deletesRecords)
	check("a topic is made again under an idempotent producer", madeAgain)
	check("log dirs and brokers are described", brokers)
	end()
}

func client(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(bootstrap...), kgo.FetchMaxWait(200 * time.Millisecond)}, options...)...)
}

func create(topic string, partitions int32) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	created, err := admin.CreateTopic(ctx, partitions, 3, nil, topic)
	if err != nil {
		return fmt.Errorf("create %s: %w %s", topic, err, created.ErrMessage)
	}
	return nil
}

func topics() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	const topic = "franz-admin"
	if err := create(topic, 2); err != nil {
		return err
	}
	if err := create(topic, 2); err == nil {
		return fmt.Errorf("a topic was created twice")
	}
	if grown, err := admin.UpdatePartitions(ctx, 4, topic); err != nil || grown.Error() != nil {
		return fmt.Errorf("create partitions: %w %w", err, grown.Error())
	}
	if err := until("four partitions", func() error {
		details, err := admin.ListTopics(ctx, topic)
		if err != nil {
			return err
		}
		return same("partitions", len(details[topic].Partitions), 4)
	}); err != nil {
		return err
	}
	week := "604800001"
	altered, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: &week}}, topic)
	if err != nil {
		return err
	}
	if err := altered[0].Err; err != nil {
		return fmt.Errorf("alter: %w %s", err, altered[0].ErrMessage)
	}
	if err := until("the altered config", func() error {
		configs, err := admin.DescribeTopicConfigs(ctx, topic)
		if err != nil {
			return err
		}
		for _, config := range configs[0].Configs {
			if config.Key == "retention.ms" {
				return same("retention.ms", config.MaybeValue(), week)
			}
		}
		return errNotYet
	}); err != nil {
		return err
	}
	if deleted, err := admin.DeleteTopic(ctx, topic); err != nil || deleted.Err != nil {
		return fmt.Errorf("delete: %w %w", err, deleted.Err)
	}
	return until("end of the topic", func() error {
		details, err := admin.ListTopics(ctx)
		if err != nil || details.Has(topic) {
			return fmt.Errorf("it is listed: %w", err)
		}
		return nil
	})
}

func deletesRecords() error {
	const topic = "franz-delete-records"
	if err := roundTrip(topic, 10); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	before := kadm.Offsets{}
	before.AddOffset(topic, 0, 4, -1)
	deleted, err := admin.DeleteRecords(ctx, before)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		return err
	}
	starts, err := admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return err
	}
	start, _ := starts.Lookup(topic, 0)
	return same("the start offset", start.Offset, int64(4))
}

func brokers() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	listed, err := admin.ListBrokers(ctx)
	if err != nil {
		return err
	}
	if err := same("brokers", len(listed), 3); err != nil {
		return err
	}
	dirs, err := admin.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		return err
	}
	size := int64(0)
	for _, of := range dirs {
		if err := of.Error(); err != nil {
			return err
		}
		size += of.Size()
	}
	if len(dirs) != 3 || size == 0 {
		return fmt.Errorf("log dirs of %d brokers hold %d bytes", len(dirs), size)
	}
	return nil
}
