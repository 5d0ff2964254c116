package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Limits under which a disk is nearly full.
const (
	fewFreeBytes    = 1 << 30
	fewFreeFraction = 0.05
)

// The grades of a finding.
const (
	gradeOK      = "ok"
	gradeWarning = "warning" // works, but one may not want it
	gradeProblem = "problem" // something does not work
)

// finding is one thing that the doctor looked at.
type finding struct {
	Grade string `json:"grade"`
	About string `json:"about"`
	What  string `json:"what"`
	Next  string `json:"next,omitempty"`
}

// doctor is one examination.
type doctor struct {
	connection Connection
	findings   []finding
}

func (d *doctor) add(grade, about, next, format string, args ...any) {
	d.findings = append(d.findings, finding{Grade: grade, About: about, What: fmt.Sprintf(format, args...), Next: next})
}

// Doctor looks whether a cluster can be used from here, and how safe records are in it. It changes nothing. The error counts the problems.
func Doctor(ctx context.Context, c Connection, s Streams, format string) error {
	d := &doctor{connection: c}
	props, err := parseProperties(c.Properties)
	if err != nil {
		return err
	}
	seeds, err := parseServers(cmp.Or(c.Servers, props.servers, DefaultServers()))
	if err != nil {
		return err
	}
	if d.dialSeeds(ctx, seeds) {
		// What the library says meanwhile is found out more exactly below.
		quiet := s
		quiet.Err = io.Discard
		err := With(ctx, c, quiet, func(ctx context.Context, client *Client) error { return d.examine(ctx, client) })
		if errors.Is(err, ErrInterrupted) {
			return err
		}
		if err != nil {
			d.add(gradeProblem, "protocol", Next(err), "%v", err)
		}
	}
	problems := int64(0)
	for _, f := range d.findings {
		if f.Grade == gradeProblem {
			problems++
		}
	}
	if err := s.print(format, d.findings, func(w io.Writer) error { return writeFindings(w, d.findings) }); err != nil {
		return err
	}
	if problems > 0 {
		return &Error{Message: plural(problems, "problem") + " found"}
	}
	return nil
}

func writeFindings(w io.Writer, findings []finding) error {
	width := 0
	for _, f := range findings {
		width = max(width, len(f.About))
	}
	for _, f := range findings {
		if _, err := fmt.Fprintf(w, "%-7s  %-*s  %s\n", f.Grade, width, f.About, f.What); err != nil {
			return err
		}
		if f.Next != "" {
			if _, err := fmt.Fprintf(w, "%-7s  %-*s  next: %s\n", "", width, "", f.Next); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *doctor) dial(ctx context.Context, address string) (time.Duration, error) {
	dial := d.connection.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	began := time.Now()
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return 0, err
	}
	return time.Since(began), conn.Close()
}

// dialSeeds connects to every bootstrap server and says whether one of them was there.
func (d *doctor) dialSeeds(ctx context.Context, seeds []string) bool {
	reached := false
	for _, seed := range seeds {
		took, err := d.dial(ctx, seed)
		if err != nil {
			d.add(gradeProblem, "listener", Next(unreachable([]string{seed}, err)), "%s cannot be reached: %v", seed, rootCause(err))
			continue
		}
		reached = true
		d.add(gradeOK, "listener", "", "%s accepts connections (%s)", seed, took.Round(10*time.Microsecond))
	}
	return reached
}

// examine looks at what the cluster says about itself. An error ends the examination.
func (d *doctor) examine(ctx context.Context, c *Client) error {
	ctx, done := c.bounded(ctx)
	defer done()
	versions, err := c.apiVersions(ctx)
	if err != nil {
		return err
	}
	metadata, err := c.admin.Metadata(ctx)
	if err != nil {
		return err
	}
	d.protocol(versions)
	d.controller(metadata)
	d.partitions(metadata)
	if d.addresses(ctx, c, metadata) {
		d.durability(ctx, c, metadata)
		d.disks(ctx, c)
	}
	return nil
}

// apiVersions asks the bootstrap servers, in turn, what they serve.
func (c *Client) apiVersions(ctx context.Context) (*kmsg.ApiVersionsResponse, error) {
	request := kmsg.NewPtrApiVersionsRequest()
	request.ClientSoftwareName, request.ClientSoftwareVersion = softwareName, softwareVersion
	var last error
	for _, seed := range c.base.SeedBrokers() {
		response, err := request.RequestWith(ctx, seed)
		if err == nil {
			return response, kerr.ErrorForCode(response.ErrorCode)
		}
		last = err
	}
	return nil, last
}

// protocol says what the listener speaks.
func (d *doctor) protocol(versions *kmsg.ApiVersionsResponse) {
	required := []kmsg.Key{kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata, kmsg.FindCoordinator, kmsg.JoinGroup, kmsg.InitProducerID}
	served := map[int16]bool{}
	for _, k := range versions.ApiKeys {
		served[k.ApiKey] = true
	}
	var missing []string
	for _, k := range required {
		if !served[k.Int16()] {
			missing = append(missing, k.Name())
		}
	}
	if len(missing) > 0 {
		d.add(gradeProblem, "protocol", "this is not a broker's listener for clients; use another address", "it speaks the Kafka protocol, without %s", strings.Join(missing, ", "))
		return
	}
	d.add(gradeOK, "protocol", "", "it speaks the Kafka protocol: %d kinds of requests, among them Produce up to v%d and Fetch up to v%d", len(versions.ApiKeys),
		maxVersion(versions, kmsg.Produce), maxVersion(versions, kmsg.Fetch))
}

func maxVersion(versions *kmsg.ApiVersionsResponse, key kmsg.Key) int16 {
	for _, k := range versions.ApiKeys {
		if k.ApiKey == key.Int16() {
			return k.MaxVersion
		}
	}
	return -1
}

// addresses checks that clients that are sent to the advertised addresses get there, and says whether they do from here.
func (d *doctor) addresses(ctx context.Context, c *Client, metadata kadm.Metadata) bool {
	about, reached := "advertised", true
	if len(metadata.Brokers) == 0 {
		d.add(gradeProblem, about, "look at the broker's log", "the cluster names no broker")
	}
	remote := slices.ContainsFunc(c.seeds, func(s string) bool { return !isLoopback(s) })
	for _, b := range metadata.Brokers {
		address := net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
		took, err := d.dial(ctx, address)
		switch {
		case err != nil:
			reached = false
			d.add(gradeProblem, about, fmt.Sprintf("on broker %d set advertised.listeners=PLAINTEXT://HOST:PORT to an address that works from here, and restart it", b.NodeID),
				"broker %d sends clients to %s, which cannot be reached from here: %v", b.NodeID, address, rootCause(err))
		case remote && isLoopback(address):
			d.add(gradeProblem, about, fmt.Sprintf("on broker %d set advertised.listeners to an address that other machines can use, and restart it", b.NodeID),
				"broker %d sends clients to %s, which is another machine for each of them", b.NodeID, address)
		default:
			d.add(gradeOK, about, "", "broker %d sends clients to %s, which can be reached (%s)", b.NodeID, address, took.Round(10*time.Microsecond))
		}
	}
	return reached
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (d *doctor) controller(metadata kadm.Metadata) {
	if metadata.Controller < 0 {
		d.add(gradeProblem, "cluster", "topics cannot be created now; look at the brokers' logs", "%s has no controller", metadata.Cluster)
		return
	}
	d.add(gradeOK, "cluster", "", "%s, %s, controller %d", metadata.Cluster, plural(int64(len(metadata.Brokers)), "broker"), metadata.Controller)
}

// durability says what an acknowledgement means, by the settings of each broker.
func (d *doctor) durability(ctx context.Context, c *Client, metadata kadm.Metadata) {
	for _, b := range metadata.Brokers {
		settings, err := c.describe(ctx, Resource{Kind: "broker", Name: strconv.Itoa(int(b.NodeID))}, false)
		if err != nil {
			d.add(gradeWarning, "durability", Next(explain(ctx, err)), "broker %d does not tell its settings: %v", b.NodeID, explain(ctx, err))
			continue
		}
		values := map[string]string{}
		for _, s := range settings {
			values[s.Key] = s.text()
		}
		d.findings = append(d.findings, durabilityOf(b.NodeID, values["ottla.ack.when"], values["log.flush.interval.messages"]))
	}
}

func durabilityOf(broker int32, ack, flushMessages string) finding {
	f := finding{Grade: gradeOK, About: "durability"} // only Ottla has ottla.ack.when
	switch ack {
	case "synced":
		f.What = fmt.Sprintf("broker %d acknowledges records when they are on stable storage (ottla.ack.when=synced)", broker)
	case "":
		if n, err := strconv.ParseInt(flushMessages, 10, 64); err == nil && n == 1 {
			f.What = fmt.Sprintf("broker %d syncs every batch (log.flush.interval.messages=1)", broker)
			break
		}
		f.Grade = gradeWarning
		f.What = fmt.Sprintf("broker %d acknowledges records before they are on stable storage: a power failure of all replicas loses some (log.flush.interval.messages=%s)",
			broker, flushText(flushMessages))
		f.Next = "that is how Apache Kafka works unless told otherwise; replicas on separate power, or log.flush.interval.messages=1, make it safe"
	default:
		f.Grade = gradeWarning
		f.What = fmt.Sprintf("broker %d acknowledges records before they are on stable storage (ottla.ack.when=%s)", broker, ack)
		f.Next = "set ottla.ack.when=synced if acknowledged records are to survive a crash"
	}
	return f
}

func flushText(messages string) string {
	if n, err := strconv.ParseInt(messages, 10, 64); err == nil && n == math.MaxInt64 {
		return "never"
	}
	return cmp.Or(messages, "unknown")
}

func (d *doctor) disks(ctx context.Context, c *Client) {
	about := "disk"
	brokers, err := c.admin.DescribeAllLogDirs(ctx, nil)
	if err != nil && len(brokers) == 0 {
		d.add(gradeWarning, about, Next(explain(ctx, err)), "the brokers do not tell their disks: %v", explain(ctx, err))
		return
	}
	for _, dir := range brokers.Sorted() {
		free := float64(dir.UsableBytes) / float64(max(1, dir.TotalBytes))
		switch {
		case dir.Err != nil:
			d.add(gradeProblem, about, "look at that broker's log and its disk", "broker %d, %s: %v", dir.Broker, dir.Dir, dir.Err)
		case dir.TotalBytes < 0:
			d.add(gradeOK, about, "", "broker %d, %s: %s of records", dir.Broker, dir.Dir, bytesText(dir.Size()))
		case dir.UsableBytes < fewFreeBytes || free < fewFreeFraction:
			d.add(gradeProblem, about, "make room, or lower retention.bytes or retention.ms of large topics (`ottla topic list` shows sizes)",
				"broker %d, %s: only %s of %s free", dir.Broker, dir.Dir, bytesText(dir.UsableBytes), bytesText(dir.TotalBytes))
		default:
			d.add(gradeOK, about, "", "broker %d, %s: %s of records, %s of %s free", dir.Broker, dir.Dir, bytesText(dir.Size()), bytesText(dir.UsableBytes), bytesText(dir.TotalBytes))
		}
	}
}

// partitions looks for partitions that cannot be used, or are short of replicas.
func (d *doctor) partitions(metadata kadm.Metadata) {
	var topics, partitions int64
	var leaderless, broken, behind []string
	for _, t := range metadata.Topics.Sorted() {
		topics++
		for _, p := range t.Partitions.Sorted() {
			partitions++
			name := fmt.Sprintf("%s:%d", t.Topic, p.Partition)
			switch {
			case p.Leader < 0:
				leaderless = append(leaderless, name)
			case damaged(p):
				broken = append(broken, name)
			case len(p.ISR) < len(p.Replicas):
				behind = append(behind, name)
			}
		}
	}
	if len(leaderless) > 0 {
		d.add(gradeProblem, "partitions", "start the brokers that hold them; `ottla topic describe` names the replicas", "%s without a leader, which nobody can read or write: %s",
			plural(int64(len(leaderless)), "partition"), few(leaderless))
	}
	if len(broken) > 0 {
		d.add(gradeProblem, "partitions", "`ottla consume TOPIC --partition N` reads up to the damage and says where it ends; the leader's log names the files (\"damaged data\")",
			"%s damaged in part, of which some records cannot be read: %s", plural(int64(len(broken)), "partition"), few(broken))
	}
	if len(behind) > 0 {
		d.add(gradeWarning, "partitions", "look at the brokers that are not in the ISR of `ottla topic describe`", "%s with replicas that are not in sync: %s",
			plural(int64(len(behind)), "partition"), few(behind))
	}
	if len(leaderless)+len(broken)+len(behind) == 0 {
		d.add(gradeOK, "partitions", "", "%s in %s, all with a leader and every replica in sync", plural(partitions, "partition"), plural(topics, "topic"))
	}
}

// few writes the first names of a list.
func few(names []string) string {
	const shown = 5
	if len(names) > shown {
		return strings.Join(names[:shown], ", ") + fmt.Sprintf(" and %d more", len(names)-shown)
	}
	return strings.Join(names, ", ")
}
