// Franz drives a server with franz-go; clients/python/lines.py says what is spoken.
package main

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"courant.dev/clients/go/lines"
)

func main() {
	lines.EndAtTheDeadline()
	asked := lines.Parse()
	ctx := context.Background()
	switch asked.Command {
	case "create":
		create(ctx, asked)
	case "produce":
		produce(ctx, asked)
	case "consume":
		consume(ctx, asked)
	case "member":
		join(ctx, asked)
	default:
		lines.Fail(fmt.Errorf("no such command: %s", asked.Command))
	}
}

// connect makes a client with the library's defaults and what the protocol needs.
func connect(asked lines.Arguments, options ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(asked.Server))...)
	if err != nil {
		lines.Fail(err)
	}
	return client
}

func create(ctx context.Context, asked lines.Arguments) {
	client := connect(asked)
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(ctx, asked.Partitions, -1, nil, asked.Topic); err != nil {
		lines.Fail(err)
	}
	lines.EmitOne("created", asked.Topic)
}
