package main

import (
	"errors"

	"github.com/IBM/sarama"

	"courant.dev/clients/go/lines"
)

func produce(asked lines.Arguments) {
	config := sarama.NewConfig()
	config.Producer.Return.Successes = true
	if asked.Codec != "" {
		if err := config.Producer.Compression.UnmarshalText([]byte(asked.Codec)); err != nil {
			lines.Fail(err)
		}
	}
	if asked.MaxBytes != 0 {
		config.Producer.MaxMessageBytes = asked.MaxBytes
	}
	producer, err := sarama.NewAsyncProducer([]string{asked.Server}, config)
	if err != nil {
		lines.Fail(err)
	}
	told := make(chan map[int]lines.Report)
	go func() { told <- outcomes(producer) }()
	count := 0
	lines.Records(func(record lines.Record) {
		message := outgoing(asked.Topic, record)
		message.Metadata = count
		producer.Input() <- message
		count++
	})
	producer.AsyncClose()
	reports := <-told
	for index := range count {
		lines.Emit(reports[index])
	}
}

// outcomes are what became of the records, by the number of each, when the producer has closed.
func outcomes(producer sarama.AsyncProducer) map[int]lines.Report {
	reports := map[int]lines.Report{}
	successes, failures := producer.Successes(), producer.Errors()
	for successes != nil || failures != nil {
		select {
		case sent, open := <-successes:
			if !open {
				successes = nil
				continue
			}
			reports[sent.Metadata.(int)] = lines.Report{Partition: sent.Partition, Offset: sent.Offset}
		case failed, open := <-failures:
			if !open {
				failures = nil
				continue
			}
			reports[failed.Msg.Metadata.(int)] = lines.Refused(name(failed.Err))
		}
	}
	return reports
}

func outgoing(topic string, record lines.Record) *sarama.ProducerMessage {
	message := &sarama.ProducerMessage{Topic: topic, Timestamp: record.Time()}
	// An encoder of nil bytes would be an empty key, and no encoder is none.
	if record.Key != nil {
		message.Key = sarama.ByteEncoder(record.Key)
	}
	if record.Value != nil {
		message.Value = sarama.ByteEncoder(record.Value)
	}
	for _, header := range record.Headers {
		header := sarama.RecordHeader{Key: []byte(header.Name), Value: header.Value}
		message.Headers = append(message.Headers, header)
	}
	return message
}

// name is the library's for the errors that tests ask about; others have no name, but a sentence.
func name(err error) string {
	if errors.Is(err, sarama.ErrMessageSizeTooLarge) {
		return "ErrMessageSizeTooLarge"
	}
	return err.Error()
}
