// Places three orders, then bills them: guide [SERVER].
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/twmb/franz-go/pkg/kgo"
)

const topic = "orders.placed"

var orders = []string{"espresso", "flat white", "filter"}

func main() {
	server := "127.0.0.1:9092"
	if len(os.Args) > 1 {
		server = os.Args[1]
	}
	ctx := context.Background()
	if err := place(ctx, server); err != nil {
		log.Fatal(err)
	}
	if err := bill(ctx, server); err != nil {
		log.Fatal(err)
	}
}

func place(ctx context.Context, server string) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(server),
		// This library creates topics by writing to them only when it is asked to.
		kgo.AllowAutoTopicCreation(),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	var records []*kgo.Record
	for _, order := range orders {
		records = append(records, &kgo.Record{Topic: topic, Key: []byte("customer-1"), Value: []byte(order)})
	}
	// Acknowledged means that they are on disk.
	sent := client.ProduceSync(ctx, records...)
	if err := sent.FirstErr(); err != nil {
		return err
	}
	for _, one := range sent {
		fmt.Printf("placed at %d/%d\n", one.Record.Partition, one.Record.Offset)
	}
	return nil
}

func bill(ctx context.Context, server string) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(server),
		kgo.ConsumerGroup("billing"),
		kgo.ConsumeTopics(topic),
		kgo.DisableAutoCommit(),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	for billed := 0; billed < len(orders); {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		fetches.EachRecord(func(order *kgo.Record) {
			fmt.Printf("billed %s: %s\n", order.Key, order.Value)
			billed++
		})
		// Only what has been dealt with is committed: a crash repeats, and skips nothing.
		if err := client.CommitUncommittedOffsets(ctx); err != nil {
			return err
		}
	}
	return nil
}
