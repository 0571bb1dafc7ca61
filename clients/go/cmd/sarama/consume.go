package main

import (
	"github.com/IBM/sarama"

	"courant.dev/clients/go/lines"
)

func consume(asked lines.Arguments) {
	client := connect(asked, sarama.NewConfig())
	defer client.Close()
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		lines.Fail(err)
	}
	defer consumer.Close()
	for partition := range asked.Partitions {
		end := offset(client, asked.Topic, partition, sarama.OffsetNewest)
		start := offset(client, asked.Topic, partition, sarama.OffsetOldest)
		if asked.AtMs != nil {
			start = offset(client, asked.Topic, partition, *asked.AtMs)
		}
		// Nothing that late is -1.
		if start >= 0 && start < end {
			readAll(consumer, asked.Topic, partition, start, end)
		}
	}
}

func offset(client sarama.Client, topic string, partition int32, time int64) int64 {
	offset, err := client.GetOffset(topic, partition, time)
	if err != nil {
		lines.Fail(err)
	}
	return offset
}

func readAll(consumer sarama.Consumer, topic string, partition int32, start, end int64) {
	messages, err := consumer.ConsumePartition(topic, partition, start)
	if err != nil {
		lines.Fail(err)
	}
	defer messages.Close()
	for message := range messages.Messages() {
		if message.Offset < end {
			lines.Emit(read(message))
		}
		if message.Offset >= end-1 {
			return
		}
	}
}
