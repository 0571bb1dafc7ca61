package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/IBM/sarama"

	"courant.dev/clients/go/lines"
)

// group is what the library does for a member. A session lasts from one rebalance to the next; each of
// its partitions has a goroutine that hands out records.
type group struct {
	topic string
	name  string
	group sarama.ConsumerGroup
	admin sarama.ClusterAdmin

	// mutex guards everything below, and the member: goroutines hand out, and the test says something.
	mutex  sync.Mutex
	member *lines.Member
	// session is nil between two of them.
	session sarama.ConsumerGroupSession
	// rejoin ends the session.
	rejoin context.CancelFunc
	// gate is there while the member is paused, and is closed when it goes on.
	gate chan struct{}
	// sought partitions hand out nothing more in this session.
	sought map[int32]bool
}

func join(asked lines.Arguments) {
	config := sarama.NewConfig()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.InstanceId = asked.Instance
	if asked.Session != 0 {
		config.Consumer.Group.Session.Timeout = asked.Session
		// The library wants it to be shorter than the session.
		config.Consumer.Group.Heartbeat.Interval = asked.Session / 3
	}
	client := connect(asked, config)
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		lines.Fail(err)
	}
	members, err := sarama.NewConsumerGroupFromClient(asked.Group, client)
	if err != nil {
		lines.Fail(err)
	}
	group := &group{topic: asked.Topic, name: asked.Group, group: members, admin: admin}
	group.member = lines.NewMember(group)
	group.run()
}

func (group *group) run() {
	left := make(chan struct{})
	go group.sessions(left)
	for words := range lines.Commands() {
		if group.obey(words) {
			break
		}
	}
	if err := group.group.Close(); err != nil {
		lines.Complain(err)
	}
	<-left
	lines.EmitOne("stopped", true)
}

func (group *group) obey(words []string) bool {
	group.mutex.Lock()
	defer group.mutex.Unlock()
	stop := group.member.Obey(words)
	if stop {
		// What has been committed is all that has been handed out.
		group.gate = make(chan struct{})
	}
	return stop
}

// sessions joins again and again, until the group is closed.
func (group *group) sessions(left chan<- struct{}) {
	defer close(left)
	for {
		ctx, cancel := context.WithCancel(context.Background())
		group.mutex.Lock()
		group.rejoin = cancel
		group.mutex.Unlock()
		err := group.group.Consume(ctx, []string{group.topic}, group)
		cancel()
		if errors.Is(err, sarama.ErrClosedConsumerGroup) {
			return
		}
		if err != nil {
			lines.Complain(err)
		}
	}
}

// Setup is part of sarama.ConsumerGroupHandler.
func (group *group) Setup(session sarama.ConsumerGroupSession) error {
	group.mutex.Lock()
	defer group.mutex.Unlock()
	group.session = session
	group.sought = map[int32]bool{}
	group.member.Assigned(session.Claims()[group.topic])
	return nil
}

// Cleanup is part of sarama.ConsumerGroupHandler. By now nothing is handed out any more.
func (group *group) Cleanup(session sarama.ConsumerGroupSession) error {
	group.mutex.Lock()
	defer group.mutex.Unlock()
	group.member.Revoked(session.Claims()[group.topic])
	group.session = nil
	return nil
}

// ConsumeClaim is part of sarama.ConsumerGroupHandler.
func (group *group) ConsumeClaim(
	session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim,
) error {
	for message := range claim.Messages() {
		if !group.handOut(session.Context(), message) {
			return nil
		}
	}
	return nil
}

// handOut is false when nothing may be handed out of the partition any more.
func (group *group) handOut(session context.Context, message *sarama.ConsumerMessage) bool {
	for {
		gate, done := group.tryToHandOut(session, message)
		if gate == nil {
			return done
		}
		select {
		case <-gate:
		case <-session.Done():
			return false
		}
	}
}

// tryToHandOut returns the gate that is in the way, if there is one. The library goes on with what it
// has fetched before a pause.
func (group *group) tryToHandOut(
	session context.Context, message *sarama.ConsumerMessage,
) (gate <-chan struct{}, done bool) {
	group.mutex.Lock()
	defer group.mutex.Unlock()
	if group.sought[message.Partition] || session.Err() != nil {
		return nil, false
	}
	if group.gate == nil {
		group.member.HandOut(read(message))
	}
	return group.gate, true
}

// Commit is part of lines.Client. The library does not say whether it has committed: the server does.
func (group *group) Commit(offsets map[int32]int64) map[int32]int64 {
	for partition, offset := range offsets {
		group.session.MarkOffset(group.topic, partition, offset, "")
	}
	var committed map[int32]int64
	all := retry(func() bool {
		group.session.Commit()
		committed = group.committed(offsets)
		return len(committed) == len(offsets)
	})
	if !all {
		lines.Complain(fmt.Errorf("committed %v of %v", committed, offsets))
	}
	return committed
}

// committed are those offsets that the server has.
func (group *group) committed(offsets map[int32]int64) map[int32]int64 {
	committed := map[int32]int64{}
	partitions := map[string][]int32{group.topic: slices.Collect(maps.Keys(offsets))}
	response, err := group.admin.ListConsumerGroupOffsets(group.name, partitions)
	if err != nil {
		lines.Complain(err)
		return committed
	}
	for partition, offset := range offsets {
		block := response.GetBlock(group.topic, partition)
		if block != nil && block.Err == sarama.ErrNoError && block.Offset == offset {
			committed[partition] = offset
		}
	}
	return committed
}

// Pause is part of lines.Client.
func (group *group) Pause(partitions []int32) {
	group.group.Pause(map[string][]int32{group.topic: partitions})
	if group.gate == nil {
		group.gate = make(chan struct{})
	}
}

// Resume is part of lines.Client.
func (group *group) Resume(partitions []int32) {
	group.group.Resume(map[string][]int32{group.topic: partitions})
	if group.gate != nil {
		close(group.gate)
		group.gate = nil
	}
}

// Seek is part of lines.Client. The library moves only what it will commit, so a new session has to
// begin there.
func (group *group) Seek(partition int32, offset int64) {
	group.session.ResetOffset(group.topic, partition, offset, "")
	group.Commit(map[int32]int64{partition: offset})
	group.sought[partition] = true
	group.rejoin()
}
