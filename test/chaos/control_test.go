package chaos_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// kafkaSession is how long the controller of a control waits for a silent broker before it fences it: longer than any pause.
const kafkaSession = 3 * time.Second

// newBehind prepares the broker that clients reach through network. HISTORY_PEER names a program that is the broker instead, as a
// control: it is run as `PROGRAM serve DIR key=value...` and becomes Apache Kafka with these settings.
func newBehind(t *testing.T, network *proxy) *process {
	t.Helper()
	var broker *process
	if program := controlProgram(); program != "" {
		broker = newKafka(t, program, network.addr)
	} else {
		broker = newProcess(t, slices.Concat(smallBroker, groupSettings, []string{"advertised.listeners=PLAINTEXT://" + network.addr})...)
	}
	network.serve(broker.addr)
	return broker
}

// controlProgram is what HISTORY_PEER names.
func controlProgram() string { return os.Getenv("HISTORY_PEER") }

// maxUnacknowledged is how many records a sender may have sent and not heard of. Apache Kafka that was killed knows only the newest batch
// of each producer and partition, which is what its snapshots of producers hold. It refuses older ones that are sent again
// (OUT_OF_ORDER_SEQUENCE_NUMBER), and the client sends all of them under a new epoch: duplicates.
func maxUnacknowledged() int {
	if controlProgram() != "" {
		return 1
	}
	return 200
}

// keptAddr is an unused address of loopback with a port that no client gets: Kafka needs seconds until it listens, also when it is back.
func keptAddr(t *testing.T) string {
	t.Helper()
	for {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000)))
		if err == nil {
			defer ln.Close()
			return ln.Addr().String()
		}
	}
}

// newKafka starts a controller of Apache Kafka and prepares a broker of it, which clients reach at advertised. What Kafka says to itself
// does not go through there.
//
// The controller is a process of its own, which lives on when the broker is killed, and the broker rests until it is fenced: one that is
// back before leads its partitions by its old registration, is fenced by the timeout of that one, and the markers that its transaction
// coordinator has yet to write in that moment are left out.
func newKafka(t *testing.T, program, advertised string) *process {
	t.Helper()
	dir, controllerAddr, addr, internal := t.TempDir(), keptAddr(t), keptAddr(t), keptAddr(t)
	session := fmt.Sprintf("broker.session.timeout.ms=%d", kafkaSession.Milliseconds())
	voters := "controller.quorum.voters=1@" + controllerAddr
	controller := &process{binary: program, addr: controllerAddr, args: []string{
		"serve", filepath.Join(dir, "controller"), "process.roles=controller", voters, session,
		"listeners=CONTROLLER://" + controllerAddr, "advertised.listeners=CONTROLLER://" + controllerAddr,
	}}
	t.Cleanup(controller.kill)
	if err := controller.start(); err != nil {
		t.Fatal(err)
	}
	if err := controller.serving(t.Context()); err != nil {
		t.Fatal(err)
	}
	broker := &process{binary: program, addr: addr, rest: 2 * kafkaSession, args: append([]string{
		"serve", filepath.Join(dir, "broker"), "process.roles=broker", "node.id=2", voters, session, "broker.heartbeat.interval.ms=300",
		"listeners=PLAINTEXT://" + addr + ",INTERNAL://" + internal, "advertised.listeners=PLAINTEXT://" + advertised + ",INTERNAL://" + internal,
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT", "inter.broker.listener.name=INTERNAL",
		"offsets.topic.num.partitions=3", "transaction.state.log.num.partitions=3", "share.coordinator.state.topic.num.partitions=3",
	}, groupSettings...)}
	t.Cleanup(broker.kill)
	return broker
}
