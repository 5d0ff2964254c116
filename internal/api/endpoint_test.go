package api

import (
	"net"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ottlaio/ottla/internal/wire"
)

// tcpClient connects through a listener of the given name on loopback.
func (b *testBroker) tcpClient(listener string) (*testClient, *net.TCPAddr) {
	b.tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.tb.Fatal(err)
	}
	b.serving.Go(func() {
		if err := b.wire.Serve(b.ctx, ln, wire.ListenerInfo{Name: listener}); err != nil {
			b.tb.Error(err)
		}
	})
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.tb.Fatal(err)
	}
	b.tb.Cleanup(func() { conn.Close() })
	return &testClient{tb: b.tb, conn: conn}, ln.Addr().(*net.TCPAddr)
}

// TestEveryAnswerNamesTheSameAddress asks for the broker's address in all the ways there are.
func TestEveryAnswerNamesTheSameAddress(t *testing.T) {
	t.Parallel()
	plain := newBroker(t)
	c, addr := plain.tcpClient("PLAINTEXT")
	checkAddresses(t, c, "127.0.0.1", int32(addr.Port))

	advertised := newBroker(t, "listeners=PLAINTEXT://:9092,OUTSIDE://:9093", "advertised.listeners=OUTSIDE://kafka.example.com:19093,PLAINTEXT://inside:9092",
		"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,OUTSIDE:PLAINTEXT")
	c, _ = advertised.tcpClient("OUTSIDE")
	checkAddresses(t, c, "kafka.example.com", 19093)
	c, _ = advertised.tcpClient("PLAINTEXT")
	checkAddresses(t, c, "inside", 9092)
}

func checkAddresses(t *testing.T, c *testClient, host string, port int32) {
	t.Helper()
	check := func(where, gotHost string, gotPort int32) {
		t.Helper()
		if gotHost != host || gotPort != port {
			t.Errorf("%s: %s:%d, want %s:%d", where, gotHost, gotPort, host, port)
		}
	}
	meta := ask[*kmsg.MetadataResponse](c, metadataRequest(9)).Brokers[0]
	check("Metadata", meta.Host, meta.Port)
	cluster := kmsg.NewPtrDescribeClusterRequest()
	node := ask[*kmsg.DescribeClusterResponse](c, cluster).Brokers[0]
	check("DescribeCluster", node.Host, node.Port)
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.Version, find.CoordinatorKey = 3, "g"
	old := ask[*kmsg.FindCoordinatorResponse](c, find)
	check("FindCoordinator v3", old.Host, old.Port)
	find.Version, find.CoordinatorKeys = 6, []string{"g"}
	found := ask[*kmsg.FindCoordinatorResponse](c, find).Coordinators[0]
	check("FindCoordinator v6", found.Host, found.Port)
}

func TestOtherCoordinatorsAreRefused(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	for kind := int8(2); kind <= 3; kind++ {
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.Version, find.CoordinatorKeys, find.CoordinatorType = 6, []string{"x"}, kind
		if got := ask[*kmsg.FindCoordinatorResponse](b.client(), find).Coordinators[0]; got.ErrorCode != 42 || got.NodeID != -1 {
			t.Errorf("type %d: %+v, want INVALID_REQUEST", kind, got)
		}
	}
}
