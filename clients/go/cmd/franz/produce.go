package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"courant.dev/clients/go/lines"
)

func produce(ctx context.Context, asked lines.Arguments) {
	client := connect(asked, settings(asked)...)
	defer client.Close()
	var reports []*lines.Report
	lines.Records(func(record lines.Record) {
		report := new(lines.Report)
		reports = append(reports, report)
		client.Produce(ctx, outgoing(asked.Topic, record), func(sent *kgo.Record, err error) {
			if err != nil {
				*report = lines.Refused(name(err))
				return
			}
			*report = lines.Report{Partition: sent.Partition, Offset: sent.Offset}
		})
	})
	if err := client.Flush(ctx); err != nil {
		lines.Fail(err)
	}
	for _, report := range reports {
		lines.Emit(report)
	}
}

func settings(asked lines.Arguments) []kgo.Opt {
	var options []kgo.Opt
	if asked.Codec != "" {
		options = append(options, kgo.ProducerBatchCompression(codec(asked.Codec)))
	}
	if asked.MaxBytes != 0 {
		options = append(options, kgo.ProducerBatchMaxBytes(int32(asked.MaxBytes)))
	}
	return options
}

func codec(name string) kgo.CompressionCodec {
	switch name {
	case "none":
		return kgo.NoCompression()
	case "gzip":
		return kgo.GzipCompression()
	case "snappy":
		return kgo.SnappyCompression()
	case "lz4":
		return kgo.Lz4Compression()
	case "zstd":
		return kgo.ZstdCompression()
	}
	lines.Fail(fmt.Errorf("no such codec: %s", name))
	return kgo.NoCompression()
}

func outgoing(topic string, record lines.Record) *kgo.Record {
	sent := &kgo.Record{
		Topic:     topic,
		Key:       record.Key,
		Value:     record.Value,
		Timestamp: record.Time(),
	}
	for _, header := range record.Headers {
		sent.Headers = append(sent.Headers, kgo.RecordHeader{Key: header.Name, Value: header.Value})
	}
	return sent
}

// name is Kafka's for an error that has one.
func name(err error) string {
	var known *kerr.Error
	if errors.As(err, &known) {
		return known.Message
	}
	return err.Error()
}
