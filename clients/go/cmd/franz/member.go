package main

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"courant.dev/clients/go/lines"
)

const poll = 100 * time.Millisecond

// group is what the library does for a member. The library calls back only between AllowRebalance and
// the next poll, so that nothing is handed out of a partition that is being given up.
type group struct {
	ctx    context.Context
	topic  string
	client *kgo.Client
	member *lines.Member
}

func join(ctx context.Context, asked lines.Arguments) {
	group := &group{ctx: ctx, topic: asked.Topic}
	group.member = lines.NewMember(group)
	options := []kgo.Opt{
		kgo.ConsumerGroup(asked.Group),
		kgo.ConsumeTopics(asked.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(group.calls(group.member.Assigned)),
		kgo.OnPartitionsRevoked(group.calls(group.member.Revoked)),
		kgo.OnPartitionsLost(group.calls(group.member.Lost)),
	}
	if asked.Instance != "" {
		options = append(options, kgo.InstanceID(asked.Instance))
	}
	if asked.Session != 0 {
		// The library wants the heartbeat to be shorter than the session.
		options = append(options, kgo.SessionTimeout(asked.Session), kgo.HeartbeatInterval(asked.Session/3))
	}
	// It joins at once, but needs no commit before something has been handed out.
	group.client = connect(asked, options...)
	group.run()
}

func (group *group) calls(tell func([]int32)) func(context.Context, *kgo.Client, map[string][]int32) {
	return func(_ context.Context, client *kgo.Client, partitions map[string][]int32) {
		tell(partitions[group.topic])
	}
}

func (group *group) run() {
	said := lines.Commands()
	for {
		group.handOut()
		select {
		case words := <-said:
			if group.member.Obey(words) {
				group.client.CloseAllowingRebalance()
				lines.EmitOne("stopped", true)
				return
			}
		default:
		}
		group.client.AllowRebalance()
	}
}

func (group *group) handOut() {
	ctx, cancel := context.WithTimeout(group.ctx, poll)
	defer cancel()
	fetches := group.client.PollFetches(ctx)
	fetches.EachError(func(_ string, _ int32, err error) {
		if !errors.Is(err, context.DeadlineExceeded) {
			lines.Complain(err)
		}
	})
	fetches.EachRecord(func(record *kgo.Record) { group.member.HandOut(read(record)) })
}

// Commit is part of lines.Client.
func (group *group) Commit(offsets map[int32]int64) map[int32]int64 {
	group.client.CommitOffsetsSync(group.ctx, group.places(offsets),
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
			if err == nil {
				err = refused(response)
			}
			if err != nil {
				lines.Fail(err)
			}
		})
	return offsets
}

// refused is the first error of a partition.
func refused(response *kmsg.OffsetCommitResponse) error {
	for _, topic := range response.Topics {
		for _, partition := range topic.Partitions {
			if err := kerr.ErrorForCode(partition.ErrorCode); err != nil {
				return err
			}
		}
	}
	return nil
}

// Pause is part of lines.Client.
func (group *group) Pause(partitions []int32) {
	group.client.PauseFetchPartitions(map[string][]int32{group.topic: partitions})
}

// Resume is part of lines.Client.
func (group *group) Resume(partitions []int32) {
	group.client.ResumeFetchPartitions(map[string][]int32{group.topic: partitions})
}

// Seek is part of lines.Client.
func (group *group) Seek(partition int32, offset int64) {
	group.client.SetOffsets(group.places(map[int32]int64{partition: offset}))
}

func (group *group) places(offsets map[int32]int64) map[string]map[int32]kgo.EpochOffset {
	places := map[int32]kgo.EpochOffset{}
	for partition, offset := range offsets {
		places[partition] = kgo.EpochOffset{Epoch: -1, Offset: offset}
	}
	return map[string]map[int32]kgo.EpochOffset{group.topic: places}
}
