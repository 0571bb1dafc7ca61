// Sarama drives a server with IBM's sarama; clients/python/lines.py says what is spoken.
package main

import (
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"courant.dev/clients/go/lines"
)

func main() {
	lines.EndAtTheDeadline()
	asked := lines.Parse()
	switch asked.Command {
	case "create":
		create(asked)
	case "produce":
		produce(asked)
	case "consume":
		consume(asked)
	case "member":
		join(asked)
	default:
		lines.Fail(fmt.Errorf("no such command: %s", asked.Command))
	}
}

func create(asked lines.Arguments) {
	admin, err := sarama.NewClusterAdmin([]string{asked.Server}, sarama.NewConfig())
	if err != nil {
		lines.Fail(err)
	}
	defer admin.Close()
	detail := &sarama.TopicDetail{NumPartitions: asked.Partitions, ReplicationFactor: 1}
	if err := admin.CreateTopic(asked.Topic, detail, false); err != nil {
		lines.Fail(err)
	}
	lines.EmitOne("created", asked.Topic)
}

func connect(asked lines.Arguments, config *sarama.Config) sarama.Client {
	client, err := sarama.NewClient([]string{asked.Server}, config)
	if err != nil {
		lines.Fail(err)
	}
	return client
}

func read(message *sarama.ConsumerMessage) lines.Read {
	headers := []lines.Header{}
	for _, header := range message.Headers {
		headers = append(headers, lines.Header{Name: string(header.Key), Value: header.Value})
	}
	return lines.Read{
		Partition: message.Partition,
		Offset:    message.Offset,
		AtMs:      message.Timestamp.UnixMilli(),
		Key:       message.Key,
		Value:     message.Value,
		Headers:   headers,
	}
}

// retry calls until it is true, for a while.
func retry(done func() bool) bool {
	const attempts, pause = 20, 250 * time.Millisecond
	for range attempts {
		if done() {
			return true
		}
		time.Sleep(pause)
	}
	return false
}
