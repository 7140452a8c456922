package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	partitions = 6
	perTopic   = 60
)

func groups() {
	protocols := []struct {
		name    string
		options []kgo.Opt
	}{
		{"classic, eager", []kgo.Opt{kgo.Balancers(kgo.RangeBalancer())}},
		{"classic, cooperative", []kgo.Opt{kgo.Balancers(kgo.CooperativeStickyBalancer())}},
		{"group.protocol=consumer", []kgo.Opt{kgo.Balancers(kgo.RangeBalancer()), kgo.ServerSideBalancer()}},
	}
	for n, protocol := range protocols {
		group := fmt.Sprintf("franz-%d", n)
		check(protocol.name+": a group goes on where it was", func() error { return goesOn(group, protocol.options) })
		check(protocol.name+": three members share a topic", func() error { return share(group, protocol.options) })
	}
	check("a group is described, its lag is known, its offsets are set, and it is deleted", groupAdmin)
}

func filled(topic string) error {
	if err := create(topic, partitions); err != nil {
		return err
	}
	producer, err := client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer producer.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var all []*kgo.Record
	for n := range perTopic {
		all = append(all, &kgo.Record{Topic: topic, Partition: int32(n % partitions), Value: fmt.Appendf(nil, "%d", n)})
	}
	return producer.ProduceSync(ctx, all...).FirstErr()
}

func member(topic, group string, options []kgo.Opt, more ...kgo.Opt) (*kgo.Client, error) {
	base := []kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	}
	return client(append(append(base, options...), more...)...)
}

// goesOn: the second member reads what came after the first one's commit, and nothing else.
func goesOn(group string, options []kgo.Opt) error {
	topic := group + "-goes-on"
	if err := filled(topic); err != nil {
		return err
	}
	first, err := member(topic, topic, options)
	if err != nil {
		return err
	}
	if _, err := read(first, perTopic); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := first.CommitUncommittedOffsets(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	first.Close()
	last := &kgo.Record{Topic: topic, Value: []byte("after")}
	second, err := member(topic, topic, options)
	if err != nil {
		return err
	}
	defer second.Close()
	if err := second.ProduceSync(ctx, last).FirstErr(); err != nil {
		return err
	}
	found, err := read(second, 1)
	if err != nil {
		return err
	}
	return same("the record after the commit", string(found[0].Value), "after")
}

// holder polls all the time, as an application does, and knows what it is assigned.
type holder struct {
	client *kgo.Client
	lock   sync.Mutex
	owned  map[int32]bool
	ended  chan struct{}
}

func hold(topic, group string, options []kgo.Opt) (*holder, error) {
	h := &holder{owned: map[int32]bool{}, ended: make(chan struct{})}
	note := func(owned bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, moved map[string][]int32) {
			h.lock.Lock()
			defer h.lock.Unlock()
			for _, partition := range moved[topic] {
				if owned {
					h.owned[partition] = true
				} else {
					delete(h.owned, partition)
				}
			}
		}
	}
	var err error
	h.client, err = member(topic, group, options,
		kgo.OnPartitionsAssigned(note(true)), kgo.OnPartitionsRevoked(note(false)), kgo.OnPartitionsLost(note(false)))
	if err != nil {
		return nil, err
	}
	go func() {
		defer close(h.ended)
		for !h.client.PollFetches(context.Background()).IsClientClosed() {
		}
	}()
	return h, nil
}

func (h *holder) share() []int32 {
	h.lock.Lock()
	defer h.lock.Unlock()
	return slices.Sorted(maps.Keys(h.owned))
}

func (h *holder) leave() {
	h.client.Close()
	<-h.ended
}

func share(group string, options []kgo.Opt) error {
	topic := group + "-share"
	if err := filled(topic); err != nil {
		return err
	}
	var members []*holder
	for range 3 {
		h, err := hold(topic, topic, options)
		if err != nil {
			return err
		}
		members = append(members, h)
	}
	shares := func(wanted int) error {
		return until("fair share", func() error {
			var all []int32
			for _, h := range members {
				share := h.share()
				if len(share) != wanted {
					return fmt.Errorf("a member has %v", share)
				}
				all = append(all, share...)
			}
			slices.Sort(all)
			return same("all shares", all, []int32{0, 1, 2, 3, 4, 5})
		})
	}
	if err := shares(2); err != nil {
		return err
	}
	started := time.Now()
	members[2].leave()
	if took := time.Since(started); took > 5*time.Second {
		return fmt.Errorf("leaving took %s", took)
	}
	members = members[:2]
	if err := shares(3); err != nil {
		return err
	}
	for _, h := range members {
		h.leave()
	}
	return nil
}

func groupAdmin() error {
	const topic, group = "franz-group-admin", "franz-group-admin"
	if err := filled(topic); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	consumer, err := member(topic, group, nil)
	if err != nil {
		return err
	}
	if _, err := read(consumer, perTopic); err != nil {
		return err
	}
	if err := consumer.CommitUncommittedOffsets(ctx); err != nil {
		return err
	}
	listed, err := admin.ListGroups(ctx)
	if err != nil {
		return err
	}
	if _, ok := listed[group]; !ok {
		return fmt.Errorf("not among %v", listed.Groups())
	}
	described, err := admin.DescribeGroups(ctx, group)
	if err != nil {
		return err
	}
	state := fmt.Sprintf("%s %d", described[group].State, len(described[group].Members))
	if err := same("state and members", state, "Stable 1"); err != nil {
		return err
	}
	if deleted, err := admin.DeleteGroups(ctx, group); err != nil || !errors.Is(deleted[group].Err, kerr.NonEmptyGroup) {
		return fmt.Errorf("a group with a member was deleted: %v %v", deleted, err)
	}
	consumer.Close()
	back := kadm.Offsets{}
	back.AddOffset(topic, 0, 3, -1)
	if err := until("an empty group", func() error { return admin.CommitAllOffsets(ctx, group, back) }); err != nil {
		return err
	}
	lags, err := admin.Lag(ctx, group)
	if err != nil {
		return err
	}
	if err := same("the lag after the reset", lags[group].Lag.Total(), int64(perTopic/partitions-3)); err != nil {
		return err
	}
	one := kadm.TopicsSet{}
	one.Add(topic, 1)
	removed, err := admin.DeleteOffsets(ctx, group, one)
	if err == nil {
		err = removed.Error()
	}
	if err != nil {
		return fmt.Errorf("delete one offset: %w", err)
	}
	offsets, err := admin.FetchOffsets(ctx, group)
	if err != nil {
		return err
	}
	if err := same("offsets that are left", len(offsets[topic]), partitions-1); err != nil {
		return err
	}
	if deleted, err := admin.DeleteGroup(ctx, group); err != nil || deleted.Err != nil {
		return fmt.Errorf("delete: %w %w", err, deleted.Err)
	}
	return nil
}
