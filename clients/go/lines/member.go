package lines

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
)

// Client is what a member asks of its library.
type Client interface {
	// Commit returns what the server has of these offsets when it returns.
	Commit(offsets map[int32]int64) map[int32]int64
	Pause(partitions []int32)
	Resume(partitions []int32)
	// Seek makes the offset the next one of its partition that is handed out.
	Seek(partition int32, offset int64)
}

// Member of a consumer group: it says what happens to it and does what it is told. It has no lock:
// whoever makes it of a library sees to it that nothing happens at the same time.
type Member struct {
	client Client
	held   map[int32]bool
	// handedOut is the offset behind the last record handed out, by partition.
	handedOut map[int32]int64
}

// NewMember holds nothing yet.
func NewMember(client Client) *Member {
	return &Member{client: client, held: map[int32]bool{}, handedOut: map[int32]int64{}}
}

// Assigned takes partitions in addition to those that are held.
func (member *Member) Assigned(partitions []int32) {
	for _, partition := range partitions {
		member.held[partition] = true
	}
	EmitOne("assigned", member.holds())
}

// Revoked commits what was handed out of these partitions before they are given up.
func (member *Member) Revoked(partitions []int32) {
	if len(partitions) > 0 {
		member.commit(partitions)
		member.giveUp(partitions)
	}
}

// Lost partitions are somebody else's by now: it is too late to commit.
func (member *Member) Lost(partitions []int32) {
	if len(partitions) > 0 {
		member.giveUp(partitions)
	}
}

// HandOut hands a record to the test.
func (member *Member) HandOut(record Read) {
	member.handedOut[record.Partition] = record.Offset + 1
	Emit(record)
}

// Obey does what the test says. It is true when that was to stop.
func (member *Member) Obey(words []string) bool {
	held := member.holds()
	switch {
	case len(words) == 3 && words[0] == "seek":
		member.seek(words[1], words[2])
	case words[0] == "commit":
		member.commit(held)
	case words[0] == "pause":
		member.client.Pause(held)
		EmitOne("paused", held)
	case words[0] == "resume":
		member.client.Resume(held)
		EmitOne("resumed", held)
	case words[0] == "die":
		os.Exit(0)
	case words[0] == "stop":
		member.commit(held)
		return true
	default:
		Fail(fmt.Errorf("no such command: %q", words))
	}
	return false
}

func (member *Member) seek(to, at string) {
	partition, err := strconv.ParseInt(to, 10, 32)
	if err != nil {
		Fail(err)
	}
	offset, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		Fail(err)
	}
	if !member.held[int32(partition)] {
		Fail(fmt.Errorf("seek %d %d: the partition is not held", partition, offset))
	}
	member.client.Seek(int32(partition), offset)
	delete(member.handedOut, int32(partition))
	EmitOne("sought", []int64{partition, offset})
}

func (member *Member) commit(partitions []int32) {
	offsets := map[int32]int64{}
	for _, partition := range partitions {
		if offset, ok := member.handedOut[partition]; ok {
			offsets[partition] = offset
		}
	}
	if len(offsets) > 0 {
		offsets = member.client.Commit(offsets)
	}
	EmitOne("committed", offsets)
}

func (member *Member) giveUp(partitions []int32) {
	for _, partition := range partitions {
		delete(member.held, partition)
		delete(member.handedOut, partition)
	}
	EmitOne("revoked", slices.Sorted(slices.Values(partitions)))
	if len(member.held) == 0 {
		EmitOne("assigned", member.holds())
	}
}

// holds is sorted, and never nil: that would be null in JSON.
func (member *Member) holds() []int32 {
	return append([]int32{}, slices.Sorted(maps.Keys(member.held))...)
}
