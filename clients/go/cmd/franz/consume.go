package main

import (
	"context"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"courant.dev/clients/go/lines"
)

// span is what there is to read of a partition: from next, and not end itself.
type span struct {
	next, end int64
}

func consume(ctx context.Context, asked lines.Arguments) {
	spans := spans(ctx, asked)
	starts := map[int32]kgo.Offset{}
	for partition, span := range spans {
		starts[partition] = kgo.NewOffset().At(span.next)
	}
	client := connect(asked,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{asked.Topic: starts}),
		// A partition may end with one of them, and then nothing else tells that the end was reached.
		kgo.KeepControlRecords(),
	)
	defer client.Close()
	for len(spans) > 0 {
		fetches := client.PollFetches(ctx)
		fetches.EachError(func(_ string, _ int32, err error) { lines.Complain(err) })
		fetches.EachRecord(func(record *kgo.Record) {
			span, open := spans[record.Partition]
			if !open || record.Offset >= span.end {
				return
			}
			if !record.Attrs.IsControl() {
				lines.Emit(read(record))
			}
			if record.Offset == span.end-1 {
				delete(spans, record.Partition)
			}
		})
	}
}

// spans are those of the partitions that have something to read.
func spans(ctx context.Context, asked lines.Arguments) map[int32]span {
	client := connect(asked)
	defer client.Close()
	admin := kadm.NewClient(client)
	ends := listed(admin.ListEndOffsets(ctx, asked.Topic))
	var starts kadm.ListedOffsets
	if asked.AtMs == nil {
		starts = listed(admin.ListStartOffsets(ctx, asked.Topic))
	} else {
		starts = listed(admin.ListOffsetsAfterMilli(ctx, *asked.AtMs, asked.Topic))
	}
	spans := map[int32]span{}
	for partition := range asked.Partitions {
		start, _ := starts.Lookup(asked.Topic, partition)
		end, _ := ends.Lookup(asked.Topic, partition)
		if start.Offset < end.Offset {
			spans[partition] = span{next: start.Offset, end: end.Offset}
		}
	}
	return spans
}

func listed(offsets kadm.ListedOffsets, err error) kadm.ListedOffsets {
	if err == nil {
		err = offsets.Error()
	}
	if err != nil {
		lines.Fail(err)
	}
	return offsets
}

func read(record *kgo.Record) lines.Read {
	headers := []lines.Header{}
	for _, header := range record.Headers {
		headers = append(headers, lines.Header{Name: header.Key, Value: header.Value})
	}
	return lines.Read{
		Partition: record.Partition,
		Offset:    record.Offset,
		AtMs:      record.Timestamp.UnixMilli(),
		Key:       record.Key,
		Value:     record.Value,
		Headers:   headers,
	}
}
