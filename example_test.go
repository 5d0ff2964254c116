package ottla_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ottlaio/ottla"
)

// A broker on a free port, as a test of a program that speaks to Kafka would run it.
func Example() {
	ctx := context.Background()
	data, err := os.MkdirTemp("", "ottla")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(data)

	broker, err := ottla.Start(ctx, ottla.Config{Data: data, Listen: "127.0.0.1:0"})
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close(ctx)

	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr()), kgo.ConsumeTopics("hello"), kgo.AllowAutoTopicCreation())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(ctx, &kgo.Record{Topic: "hello", Value: []byte("hello, world")}).FirstErr(); err != nil {
		log.Fatal(err)
	}
	for record := range client.PollFetches(ctx).RecordsAll() {
		fmt.Printf("%s %d: %s\n", record.Topic, record.Offset, record.Value)
	}
	// Output: hello 0: hello, world
}

// A broker that opens no port: clients reach it through Dial.
func ExampleBroker_Dial() {
	ctx := context.Background()
	data, err := os.MkdirTemp("", "ottla")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(data)

	broker, err := ottla.Start(ctx, ottla.Config{Data: data, NoSockets: true, Settings: map[string]string{"num.partitions": "3"}})
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close(ctx)

	client, err := kgo.NewClient(
		kgo.SeedBrokers("in-process:9092"),
		kgo.Dialer(func(ctx context.Context, _, _ string) (net.Conn, error) { return broker.Dial(ctx) }),
		kgo.AllowAutoTopicCreation())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	record, err := client.ProduceSync(ctx, &kgo.Record{Topic: "hello", Value: []byte("hello, world")}).First()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("acknowledged at offset", record.Offset)
	// Output: acknowledged at offset 0
}
